/* The vector primitives of the AVX2 + FMA + F16C tier, on which vmath.h and the kernels of softmax are written. Each
 * tier's header offers the same names:
 *
 *   VW                       floats per vector `vf`; `vm` is one truth value for each
 *   v_fma(a, b, c)           a * b + c
 *   v_max(a, b) v_min(a, b)  b where either is NaN
 *   v_round(a)               to the nearest integer, ties to even; |a| < 2^22
 *   v_scale(a, n)            a * 2^n for an integral n in [-160, 160], rounded once; overflows to infinity
 *   v_fraction(t, &n)        t - v_round(t), at most 1/2 in magnitude, and n = v_round(t)
 *   V_LOOKUP16               there is a look-up in tables of 16 floats (activation_avx512.h)
 *   V_ANY_POWER              v_fraction and v_scale after it take every t, infinities included
 *   v_frexp(x, &n)           m in [1, 2) with x = m * 2^n, for finite x > 0, subnormal ones included
 *   v_select(m, yes, no)
 *   v_load v_store           f32, any alignment
 *   v_from_f16 v_from_bf16   VW elements from 16-bit memory, exactly
 *   v_to_f16 v_to_bf16       to nearest even, NaN stays NaN
 *   v_to_bf16_pair(p, a, b)  2 VW elements, none of them NaN
 *   ..._n(p, n)              the first n < VW elements; memory beyond them is not touched
 *   v_load_n(p, n, rest)     with `rest` in the other lanes
 *   v_from_bool(p)           VW bytes, true where not zero
 *   v_swap_pairs(a)          lanes 1 0 3 2 ...; not in the scalar tier
 *   v_any_nan(a, b)          whether a lane of either is NaN
 *   v_sum(v) v_largest(v)    of the lanes, always in the same order; v_largest: no lane is NaN
 */
#ifndef ML_CPU_VECTOR_H
#define ML_CPU_VECTOR_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VW 8
typedef __m256 vf;
typedef __m256 vm;

#define V_FN static inline __attribute__((always_inline))

V_FN vf v_zero(void) {
    return _mm256_setzero_ps();
}
V_FN vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
V_FN vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
V_FN vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
V_FN vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
V_FN vf v_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
V_FN vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
V_FN vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
V_FN vf v_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
V_FN vf v_copysign(vf magnitude, vf sign) {
    return _mm256_or_ps(v_abs(magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
V_FN vf v_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#define V_LOOKUP16 0
#define V_ANY_POWER 0
V_FN vf v_fraction(vf t, vf *n) {
    *n = v_round(t);
    return _mm256_sub_ps(t, *n);
}
V_FN vf v_pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* In two factors, because 2^n itself may be out of range. The first product is exact. */
V_FN vf v_scale(vf a, vf n) {
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, v_pow2(half)), v_pow2(_mm256_sub_epi32(whole, half)));
}
V_FN vm v_less(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
V_FN vm v_equal(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
V_FN vf v_select(vm m, vf yes, vf no) {
    return _mm256_blendv_ps(no, yes, m);
}
V_FN vf v_frexp(vf x, vf *n) {
    const vm tiny = v_less(x, v_set1(0x1p-126f));
    const __m256i bits = _mm256_castps_si256(v_select(tiny, v_mul(x, v_set1(0x1p24f)), x));
    const vf exponent = _mm256_cvtepi32_ps(_mm256_srli_epi32(bits, 23));
    *n = v_sub(exponent, v_select(tiny, v_set1(127.0f + 24.0f), v_set1(127.0f)));
    const __m256i mantissa = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(mantissa, _mm256_set1_epi32(0x3f800000)));
}
V_FN vf v_load(const void *p) {
    return _mm256_loadu_ps(p);
}
V_FN void v_store(void *p, vf v) {
    _mm256_storeu_ps(p, v);
}
V_FN __m256i v_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_FN vf v_load_n(const void *p, int64_t n, float rest) {
    const __m256i first = v_first(n);
    return v_select(_mm256_castsi256_ps(first), _mm256_maskload_ps(p, first), v_set1(rest));
}
V_FN void v_store_n(void *p, vf v, int64_t n) {
    _mm256_maskstore_ps(p, v_first(n), v);
}
V_FN vf v_from_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
V_FN vf v_widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
V_FN vf v_from_bf16(const void *p) {
    return v_widen_bf16(_mm_loadu_si128(p));
}
V_FN __m128i v_narrow_f16(vf v) {
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
V_FN void v_to_f16(void *p, vf v) {
    _mm_storeu_si128(p, v_narrow_f16(v));
}
/* To nearest even: add 0x7fff plus the last bit that stays. NaNs, which that could turn into infinity, become quiet. */
V_FN __m256i v_round_bf16(__m256i x) {
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
V_FN __m128i v_narrow_bf16(vf v) {
    const __m256i x = _mm256_castps_si256(v), top = _mm256_srli_epi32(x, 16);
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(v_round_bf16(x), quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
}
V_FN void v_to_bf16(void *p, vf v) {
    _mm_storeu_si128(p, v_narrow_bf16(v));
}
V_FN void v_to_bf16_pair(void *p, vf a, vf b) {
    const __m256i low = v_round_bf16(_mm256_castps_si256(a)), high = v_round_bf16(_mm256_castps_si256(b));
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8));
}
/* There are no masked moves of 16-bit elements: the first n < 8 go as a quad, a pair and a single one. */
V_FN uint64_t v_load_quad(const char *p, int64_t n) {
    uint64_t quad = 0, last = 0;
    if (n == 4) {
        memcpy(&quad, p, 8);
        return quad;
    }
    if (n & 1)
        memcpy(&last, p + 2 * (n - 1), 2);
    if (n & 2)
        memcpy(&quad, p, 4);
    return quad | last << (16 * (n & 2));
}
V_FN __m128i v_load_halves(const void *p, int64_t n) {
    const uint64_t low = v_load_quad(p, n < 4 ? n : 4), high = n > 4 ? v_load_quad((const char *)p + 8, n - 4) : 0;
    return _mm_set_epi64x((long long)high, (long long)low);
}
V_FN void v_store_quad(char *p, uint64_t quad, int64_t n) {
    const uint64_t last = quad >> (16 * (n & 2));
    if (n == 4) {
        memcpy(p, &quad, 8);
        return;
    }
    if (n & 2)
        memcpy(p, &quad, 4);
    if (n & 1)
        memcpy(p + 2 * (n - 1), &last, 2);
}
V_FN void v_store_halves(void *p, __m128i v, int64_t n) {
    v_store_quad(p, (uint64_t)_mm_cvtsi128_si64(v), n < 4 ? n : 4);
    if (n > 4)
        v_store_quad((char *)p + 8, (uint64_t)_mm_extract_epi64(v, 1), n - 4);
}
V_FN vf v_from_f16_n(const void *p, int64_t n) {
    return _mm256_cvtph_ps(v_load_halves(p, n));
}
V_FN vf v_from_bf16_n(const void *p, int64_t n) {
    return v_widen_bf16(v_load_halves(p, n));
}
V_FN void v_to_f16_n(void *p, vf v, int64_t n) {
    v_store_halves(p, v_narrow_f16(v), n);
}
V_FN void v_to_bf16_n(void *p, vf v, int64_t n) {
    v_store_halves(p, v_narrow_bf16(v), n);
}
V_FN vm v_from_bool(const void *p) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()));
}
V_FN vf v_swap_pairs(vf a) {
    return _mm256_permute_ps(a, 0xb1);
}
V_FN int v_any_nan(vf a, vf b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
V_FN float v_sum(vf v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
V_FN float v_largest(vf v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#endif
