/* AVX2 + FMA + F16C GEMM tier: 6 x 16 tiles, 12 of the 16 registers sums, two B, one or two broadcasts of A; twelve
 * chains of multiply-adds cover two units of four or five cycles latency. */
#include "device/cpu/cpu.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VW 8
#define MR 6
#define NV 2

typedef __m256 vf;

#define FN static inline __attribute__((always_inline))

FN vf v_zero(void) {
    return _mm256_setzero_ps();
}
FN vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
FN vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
FN vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
FN vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
FN vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
FN vf v_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
FN vf v_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
FN vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
FN vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
FN vf v_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
FN vf pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* In two factors, because 2^n itself may be out of range. */
FN vf v_scale(vf a, vf n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, pow2(half)), pow2(_mm256_sub_epi32(whole, half)));
}
FN __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FN vf v_load(const void *p) {
    return _mm256_loadu_ps(p);
}
FN vf v_load_n(const void *p, int n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}
FN void v_store(void *p, vf v) {
    _mm256_storeu_ps(p, v);
}
FN void v_store_n(void *p, vf v, int n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}
/* There are no masked moves of 16-bit elements: the first n < 8 go as a quad, a pair and a single one. */
FN uint64_t load_quad(const char *p, int n) {
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
FN __m128i load_halves(const void *p, int n) {
    uint64_t low = load_quad(p, n < 4 ? n : 4), high = n > 4 ? load_quad((const char *)p + 8, n - 4) : 0;
    return _mm_set_epi64x((long long)high, (long long)low);
}
FN void store_quad(char *p, uint64_t quad, int n) {
    uint64_t last = quad >> (16 * (n & 2));
    if (n == 4) {
        memcpy(p, &quad, 8);
        return;
    }
    if (n & 2)
        memcpy(p, &quad, 4);
    if (n & 1)
        memcpy(p + 2 * (n - 1), &last, 2);
}
FN void store_halves(void *p, __m128i v, int n) {
    store_quad(p, (uint64_t)_mm_cvtsi128_si64(v), n < 4 ? n : 4);
    if (n > 4)
        store_quad((char *)p + 8, (uint64_t)_mm_extract_epi64(v, 1), n - 4);
}
FN vf v_from_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
FN vf v_from_f16_n(const void *p, int n) {
    return _mm256_cvtph_ps(load_halves(p, n));
}
FN vf widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
FN vf v_from_bf16(const void *p) {
    return widen_bf16(_mm_loadu_si128(p));
}
FN vf v_from_bf16_n(const void *p, int n) {
    return widen_bf16(load_halves(p, n));
}
FN __m128i narrow_f16(vf v) {
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* To nearest even by adding half of the last place kept, less one for even results; a NaN keeps its upper bits, quiet.
 */
FN __m128i narrow_bf16(vf v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
FN void v_to_f16(void *p, vf v) {
    _mm_storeu_si128(p, narrow_f16(v));
}
FN void v_to_f16_n(void *p, vf v, int n) {
    store_halves(p, narrow_f16(v), n);
}
FN void v_to_bf16(void *p, vf v) {
    _mm_storeu_si128(p, narrow_bf16(v));
}
FN void v_to_bf16_n(void *p, vf v, int n) {
    store_halves(p, narrow_bf16(v), n);
}

#include "device/cpu/transpose_avx2.h"
#include "device/cpu/activation_vector.h"
#include "device/cpu/gemm_vector.h"

const ml_gemm_impl ml_gemm_avx2 = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR};
