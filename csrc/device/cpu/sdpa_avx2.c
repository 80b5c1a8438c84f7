/* Attention kernels in AVX2: strips of 6 rows, panels of 16 keys, as in the GEMM of this tier. */
#include "device/cpu/transpose_avx2.h"
#include "device/cpu/vector_avx2.h"

#define MR 6
#define NV 2
#define DIRECT_ROWS 6
#define TABLE ml_sdpa_avx2
#define GEMM ml_gemm_avx2

V_FN vm v_mask(uint64_t bits) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)(bits & 0xff)), lane), lane));
}
V_FN uint64_t v_bits(vm m) {
    return (uint64_t)(unsigned)_mm256_movemask_ps(m);
}

#include "device/cpu/sdpa_simd.h"
