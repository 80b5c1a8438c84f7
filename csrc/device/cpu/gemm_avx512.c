/* AVX-512 GEMM tier: 14 x 32 tiles hold 28 of the 32 registers as sums, two as B and one or two as broadcasts of A, so
 * a step along k costs 28 multiply-adds and 16 loads: bound by the multiply-adds on cores with one or two of these
 * units. */
#include "device/cpu/cpu.h"

#include <immintrin.h>

#define VW 16
#define MR 14
#define NV 2

typedef __m512 vf;

#define FN static inline __attribute__((always_inline))

FN vf v_zero(void) {
    return _mm512_setzero_ps();
}
FN vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
FN vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
FN vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
FN vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
FN vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
FN vf v_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
FN vf v_abs(vf a) {
    return _mm512_abs_ps(a);
}
FN vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
FN vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
FN vf v_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
FN vf v_scale(vf a, vf n) {
    return _mm512_scalef_ps(a, n);
}
FN __mmask16 first_lanes(int n) {
    return (__mmask16)((1u << n) - 1u);
}
FN vf v_load(const void *p) {
    return _mm512_loadu_ps(p);
}
FN vf v_load_n(const void *p, int n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
FN void v_store(void *p, vf v) {
    _mm512_storeu_ps(p, v);
}
FN void v_store_n(void *p, vf v, int n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
FN vf v_from_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
FN vf v_from_f16_n(const void *p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
FN vf widen_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
FN vf v_from_bf16(const void *p) {
    return widen_bf16(_mm256_loadu_si256(p));
}
FN vf v_from_bf16_n(const void *p, int n) {
    return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
FN __m256i narrow_f16(vf v) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* To nearest even by adding half of the last place kept, less one for even results; a NaN keeps its upper bits, quiet.
 */
FN __m256i narrow_bf16(vf v) {
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
FN void v_to_f16(void *p, vf v) {
    _mm256_storeu_si256(p, narrow_f16(v));
}
FN void v_to_f16_n(void *p, vf v, int n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_f16(v));
}
FN void v_to_bf16(void *p, vf v) {
    _mm256_storeu_si256(p, narrow_bf16(v));
}
FN void v_to_bf16_n(void *p, vf v, int n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(v));
}

#include "device/cpu/transpose_avx512.h"
#include "device/cpu/activation_vector.h"
#include "device/cpu/gemm_vector.h"

const ml_gemm_impl ml_gemm_avx512 = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR};
