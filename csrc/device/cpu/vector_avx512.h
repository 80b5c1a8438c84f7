/* The vector primitives of the AVX-512 tier (F, BW, DQ, VL); vector_avx2.h says what each does. */
#ifndef ML_CPU_VECTOR_H
#define ML_CPU_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

#define VW 16
typedef __m512 vf;
typedef __mmask16 vm;

#define V_FN static inline __attribute__((always_inline))

V_FN vf v_zero(void) {
    return _mm512_setzero_ps();
}
V_FN vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
V_FN vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
V_FN vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
V_FN vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
V_FN vf v_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
V_FN vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
V_FN vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
V_FN vf v_abs(vf a) {
    return _mm512_abs_ps(a);
}
V_FN vf v_copysign(vf magnitude, vf sign) {
    return _mm512_or_ps(v_abs(magnitude), _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
}
V_FN vf v_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#define V_LOOKUP16 1
#define V_ANY_POWER 1
V_FN vf v_fraction(vf t, vf *n) { /* of an infinity 0, so that n is that infinity, which VSCALEFPS takes */
    const vf r = _mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    *n = _mm512_sub_ps(t, r);
    return r;
}
V_FN vf v_scale(vf a, vf n) {
    return _mm512_scalef_ps(a, n);
}
V_FN vf v_frexp(vf x, vf *n) {
    *n = _mm512_getexp_ps(x);
    return _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
}
V_FN vm v_less(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
V_FN vm v_equal(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
V_FN vf v_select(vm m, vf yes, vf no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
V_FN vf v_load(const void *p) {
    return _mm512_loadu_ps(p);
}
V_FN void v_store(void *p, vf v) {
    _mm512_storeu_ps(p, v);
}
V_FN __mmask16 v_first(int64_t n) {
    return (__mmask16)((1u << n) - 1u);
}
V_FN vf v_load_n(const void *p, int64_t n, float rest) {
    return _mm512_mask_loadu_ps(v_set1(rest), v_first(n), p);
}
V_FN void v_store_n(void *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, v_first(n), v);
}
V_FN vf v_widen_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
V_FN __m256i v_narrow_f16(vf v) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* As in the AVX2 tier. VCVTNEPS2BF16 does the same but for denormals, which it flushes to zero. */
V_FN __m256i v_narrow_bf16(vf v) {
#if defined(__AVX512BF16__)
    if (__builtin_expect(_mm512_fpclass_ps_mask(v, 0x20) == 0, 1)) /* none is denormal */
        return (__m256i)_mm512_cvtneps_pbh(v);
#endif
    const __m512i x = _mm512_castps_si512(v), top = _mm512_srli_epi32(x, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, top, _mm512_set1_epi32(0x40)));
}
V_FN vf v_from_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
V_FN vf v_from_f16_n(const void *p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
}
V_FN vf v_from_bf16(const void *p) {
    return v_widen_bf16(_mm256_loadu_si256(p));
}
V_FN vf v_from_bf16_n(const void *p, int64_t n) {
    return v_widen_bf16(_mm256_maskz_loadu_epi16(v_first(n), p));
}
V_FN void v_to_f16(void *p, vf v) {
    _mm256_storeu_si256(p, v_narrow_f16(v));
}
V_FN void v_to_f16_n(void *p, vf v, int64_t n) {
    _mm256_mask_storeu_epi16(p, v_first(n), v_narrow_f16(v));
}
V_FN void v_to_bf16(void *p, vf v) {
    _mm256_storeu_si256(p, v_narrow_bf16(v));
}
V_FN void v_to_bf16_n(void *p, vf v, int64_t n) {
    _mm256_mask_storeu_epi16(p, v_first(n), v_narrow_bf16(v));
}
/* The upper halves of 32 rounded elements. */
V_FN void v_to_bf16_pair(void *p, vf a, vf b) {
    const __m512i half = _mm512_set1_epi32(0x7fff), one = _mm512_set1_epi32(1);
    __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    x = _mm512_add_epi32(_mm512_add_epi32(x, half), _mm512_and_si512(_mm512_srli_epi32(x, 16), one));
    y = _mm512_add_epi32(_mm512_add_epi32(y, half), _mm512_and_si512(_mm512_srli_epi32(y, 16), one));
    static const uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const __m512i places = _mm512_loadu_si512(odd);
    _mm512_storeu_si512(p, _mm512_permutex2var_epi16(x, places, y));
}
V_FN vm v_from_bool(const void *p) {
    const __m128i bytes = _mm_loadu_si128(p);
    return _mm_test_epi8_mask(bytes, bytes);
}
V_FN vf v_swap_pairs(vf a) {
    return _mm512_permute_ps(a, 0xb1);
}
V_FN int v_any_nan(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
V_FN float v_sum(vf v) {
    return _mm512_reduce_add_ps(v);
}
V_FN float v_largest(vf v) {
    return _mm512_reduce_max_ps(v);
}

#endif
