/* Vector and small-N kernels for AVX-512 (F, BW, DQ, VL). 32 registers: up to 24 accumulators in a tile. */
#include <immintrin.h>
#include <stdint.h>

#define W 16
typedef __m512 vf;
typedef __m256i vh;
typedef __mmask16 v_tail;

#define V_FN static inline __attribute__((always_inline))
V_FN vf v_zero(void) {
    return _mm512_setzero_ps();
}
V_FN vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
V_FN vf v_load(const void *p) {
    return _mm512_loadu_ps(p);
}
V_FN void v_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
V_FN vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
V_FN v_tail v_tail_of(int64_t n) {
    return (__mmask16)((1u << n) - 1u);
}
V_FN vf v_load_tail(const void *p, v_tail tail) {
    return _mm512_maskz_loadu_ps(tail, p);
}
V_FN void v_store_tail(float *p, v_tail tail, vf v) {
    _mm512_mask_storeu_ps(p, tail, v);
}
V_FN vh v_load16(const void *p) {
    return _mm256_loadu_si256(p);
}
V_FN vh v_load16_tail(const void *p, int64_t n) {
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p);
}
V_FN vf v_from_f16(vh h) {
    return _mm512_cvtph_ps(h);
}
V_FN vf v_from_bf16(vh h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* 32 bf16 are 16 words of two: the upper half of each is the odd element as it stands, the lower one is a shift away.
 */
V_FN vf v_even_of(__m512i words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}
V_FN vf v_odd_of(__m512i words) {
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000u)));
}
V_FN vf v_even_bf16(const void *p) {
    return v_even_of(_mm512_loadu_si512(p));
}
V_FN vf v_odd_bf16(const void *p) {
    return v_odd_of(_mm512_loadu_si512(p));
}
V_FN void v_pair_bf16_tail(const void *p, int64_t n, vf *even, vf *odd) {
    const __m512i words = _mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << n) - 1u), p);
    *even = v_even_of(words);
    *odd = v_odd_of(words);
}
V_FN void v_narrow_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Round to nearest even on the bits; a NaN keeps its upper half and becomes quiet. */
V_FN void v_narrow_bf16(uint16_t *p, vf v) {
    const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(r));
}
/* Transposed additions: within each 128-bit lane first, then across the lanes. */
V_FN void v_sum4(vf a, vf b, vf c, vf d, float *out) {
    const vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vf cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const vf s = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

#define DOT_COLS 8
#define dot_rows(dt, n) ((n) <= 6 ? 4 : 3)
#define dot_chains(n) ((n) == 1 ? 4 : (n) == 2 ? 2 : 1)
#define dot_keeps(sums) 1
#define AXPY_COLS 8
#define axpy_vectors(n) ((n) <= 2 ? 8 : (n) <= 3 ? 6 : (n) <= 6 ? 4 : 3)
#define ML_GEMV_IMPL ml_gemv_avx512
#include "device/cpu/gemv_simd.h"
