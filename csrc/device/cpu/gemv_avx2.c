/* Vector and small-N kernels for AVX2 + FMA + F16C. 16 registers: up to 12 accumulators in a tile. */
#include "device/cpu/gemv_parts.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define W 8
typedef __m256 vf;
typedef __m128i vh;
typedef __m256i vw;
typedef __m256i v_tail;

#define V_FN static inline __attribute__((always_inline))
V_FN vf v_zero(void) {
    return _mm256_setzero_ps();
}
V_FN vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
V_FN vf v_load(const void *p) {
    return _mm256_loadu_ps(p);
}
V_FN void v_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
V_FN vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
V_FN v_tail v_tail_of(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_FN vf v_load_tail(const void *p, v_tail tail) {
    return _mm256_maskload_ps(p, tail);
}
V_FN void v_store_tail(float *p, v_tail tail, vf v) {
    _mm256_maskstore_ps(p, tail, v);
}
V_FN vh v_load16(const void *p) {
    return _mm_loadu_si128(p);
}
V_FN vh v_load16_tail(const void *p, int64_t n) {
    uint16_t copy[W] = {0};
    memcpy(copy, p, (size_t)n * sizeof(uint16_t));
    return v_load16(copy);
}
V_FN vf v_from_f16(vh h) {
    return _mm256_cvtph_ps(h);
}
V_FN vf v_from_bf16(vh h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
/* 16 bf16 are 8 words of two: the upper half of each is the odd element as it stands, the lower one is a shift away. */
V_FN vf v_even_of(vw words) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}
V_FN vf v_odd_of(vw words) {
    return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32((int)0xffff0000u)));
}
V_FN vw v_load_words(const void *p) {
    return _mm256_loadu_si256(p);
}
V_FN vw v_load_words_tail(const void *p, int64_t n) {
    uint16_t copy[2 * W] = {0};
    memcpy(copy, p, (size_t)n * sizeof(uint16_t));
    return v_load_words(copy);
}
V_FN vf v_lanes_in_order(vf v) { /* 128-bit halves interleaved by pairs of floats -> in order */
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
}
V_FN void v_unzip(vf a, vf b, vf *even, vf *odd) {
    *even = v_lanes_in_order(_mm256_shuffle_ps(a, b, 0x88));
    *odd = v_lanes_in_order(_mm256_shuffle_ps(a, b, 0xdd));
}
V_FN void v_narrow_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Round to nearest even on the bits; a NaN keeps its upper half and becomes quiet. */
V_FN void v_narrow_bf16(uint16_t *p, vf v) {
    const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(r));
}
V_FN void v_zip(vf even, vf odd, vf *a, vf *b) {
    const vf low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    *a = _mm256_permute2f128_ps(low, high, 0x20);
    *b = _mm256_permute2f128_ps(low, high, 0x31);
}
/* Transposed additions: within each 128-bit lane first, then across the lanes. */
V_FN void v_sum4(vf a, vf b, vf c, vf d, float *out) {
    const vf ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const vf cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const vf s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

#define DOT_COLS 4
#define dot_rows(dt, n) ((n) <= 3 ? 4 : 3)
#define dot_chains(n) ((n) == 1 ? 2 : 1)
#define dot_keeps(sums) ((sums) <= 8)
#define AXPY_COLS 4
#define axpy_vectors(n) ((n) == 1 ? 8 : (n) == 2 ? 6 : (n) == 3 ? 4 : 3)
#define ML_GEMV_IMPL ml_gemv_avx2
#include "device/cpu/gemv_simd.h"
