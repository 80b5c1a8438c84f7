/* NEON GEMM tier: 12 x 8 tiles, 24 of the 32 registers sums, two of B and three of A, whose lanes the multiply-adds
 * take one by one; twenty-four chains cover four units of four or five cycles latency. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_neon.h"

#define MR 12
#define NV 2

#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack.h"

const ml_gemm_impl ml_gemm_neon = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = 1};
