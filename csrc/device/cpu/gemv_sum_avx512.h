/* Sums of four vectors at once, for the vector and small-N kernels of the AVX-512 tiers. */
#ifndef ML_GEMV_SUM_AVX512_H
#define ML_GEMV_SUM_AVX512_H

#include <immintrin.h>

/* Transposed additions: within each 128-bit lane first, then across the lanes. */
static inline __attribute__((always_inline)) void v_sum4(__m512 a, __m512 b, __m512 c, __m512 d, float *out) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 s = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

#endif
