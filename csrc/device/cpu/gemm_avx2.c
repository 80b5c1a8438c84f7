/* AVX2 + FMA + F16C GEMM tier: 6 x 16 tiles, 12 of the 16 registers sums, two B, one or two broadcasts of A; twelve
 * chains of multiply-adds cover two units of four or five cycles latency. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_avx2.h"

#define MR 6
#define NV 2

#include "device/cpu/transpose_avx2.h"
#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack.h"

const ml_gemm_impl ml_gemm_avx2 = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = 1};
