/* AVX2 + FMA + F16C GEMM tier: 6 x 16 tiles, 12 of the 16 registers sums, two B, one or two broadcasts of A; twelve
 * chains of multiply-adds cover two units of four or five cycles latency. */
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
/* There are no masked moves of 16-bit elements: a few of them go by way of a register pair. */
FN __m128i load_halves(const void *p, int n) {
    uint16_t lanes[8] = {0};
    for (int i = 0; i < n; i++)
        lanes[i] = ((const uint16_t *)p)[i];
    return _mm_loadu_si128((const __m128i *)(const void *)lanes);
}
FN void store_halves(void *p, __m128i v, int n) {
    uint16_t lanes[8];
    _mm_storeu_si128((__m128i *)(void *)lanes, v);
    for (int i = 0; i < n; i++)
        ((uint16_t *)p)[i] = lanes[i];
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

/* Pairs, then quads within 128-bit lanes, then the lanes: 24 shuffles. */
FN void v_transpose(vf r[8]) {
    vf t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    /* Now 128-bit lane q of r[4g + c] holds rows 4g..4g+3 of column 4q + c. */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

#include "device/cpu/cpu.h"

static vf v_activate(ml_activation act, vf v) {
    float lanes[VW];
    v_store(lanes, v);
    for (int i = 0; i < VW; i++)
        lanes[i] = ml_activate(act, lanes[i]);
    return v_load(lanes);
}

#include "device/cpu/gemm_vector.h"

const ml_gemm_impl ml_gemm_avx2 = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR};
