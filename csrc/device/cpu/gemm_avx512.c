/* AVX-512 GEMM tier: 14 x 32 tiles hold 28 of the 32 registers as sums, two as B and one or two as broadcasts of A, so
 * a step along k costs 28 multiply-adds and 16 loads: bound by the multiply-adds on cores with one or two of these
 * units. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_avx512.h"

#define MR 14
#define NV 2

#include "device/cpu/transpose_avx512.h"
#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack.h"

const ml_gemm_impl ml_gemm_avx512 = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = 1};
