/* Transposes with 256-bit and 128-bit registers, for the x86 tiers. */
#ifndef ML_CPU_ELEMENTWISE_X86_H
#define ML_CPU_ELEMENTWISE_X86_H

#include "device/cpu/elementwise_blocks.h"

#include <immintrin.h>

/* 8 x 8 elements of 4 bytes: pairs, then quads, then the halves of the registers. */
static inline void transpose4_8x8(uint32_t *dst, int64_t dst_ld, const uint32_t *src, int64_t src_ld) {
    __m256 r[8], t[8];
    for (int j = 0; j < 8; j++)
        r[j] = _mm256_loadu_ps((const float *)(src + j * src_ld));
    for (int j = 0; j < 8; j += 2) {
        t[j] = _mm256_unpacklo_ps(r[j], r[j + 1]);
        t[j + 1] = _mm256_unpackhi_ps(r[j], r[j + 1]);
    }
    for (int j = 0; j < 8; j += 4) {
        r[j] = _mm256_shuffle_ps(t[j], t[j + 2], 0x44);
        r[j + 1] = _mm256_shuffle_ps(t[j], t[j + 2], 0xee);
        r[j + 2] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0x44);
        r[j + 3] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps((float *)(dst + i * dst_ld), _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps((float *)(dst + (i + 4) * dst_ld), _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* 8 x 8 elements of 2 bytes. */
static inline void transpose2_8x8(uint16_t *dst, int64_t dst_ld, const uint16_t *src, int64_t src_ld) {
    __m128i r[8], t[8];
    for (int j = 0; j < 8; j++)
        r[j] = _mm_loadu_si128((const __m128i *)(src + j * src_ld));
    for (int j = 0; j < 4; j++) {
        t[2 * j] = _mm_unpacklo_epi16(r[j], r[j + 4]);
        t[2 * j + 1] = _mm_unpackhi_epi16(r[j], r[j + 4]);
    }
    for (int j = 0; j < 4; j++) {
        r[2 * j] = _mm_unpacklo_epi16(t[j], t[j + 4]);
        r[2 * j + 1] = _mm_unpackhi_epi16(t[j], t[j + 4]);
    }
    for (int j = 0; j < 4; j++) {
        _mm_storeu_si128((__m128i *)(dst + 2 * j * dst_ld), _mm_unpacklo_epi16(r[j], r[j + 4]));
        _mm_storeu_si128((__m128i *)(dst + (2 * j + 1) * dst_ld), _mm_unpackhi_epi16(r[j], r[j + 4]));
    }
}

DEFINE_TRANSPOSE_BLOCKS(transpose4_x86, uint32_t, transpose4_8x8)
DEFINE_TRANSPOSE_BLOCKS(transpose2_x86, uint16_t, transpose2_8x8)

#endif
