/* A block of 8 vectors of 8 floats, rows to columns, in registers. */
#ifndef ML_CPU_TRANSPOSE_H
#define ML_CPU_TRANSPOSE_H

#include "device/cpu/cpu.h"

#include <immintrin.h>

/* Pairs, then quads within 128-bit lanes, then the lanes: 24 shuffles. */
static inline __attribute__((always_inline)) void v_transpose(__m256 r[8]) {
    __m256 t[8];
    ML_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    ML_UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    /* Now 128-bit lane q of r[4g + c] holds rows 4g..4g+3 of column 4q + c. */
    ML_UNROLL
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    }
    ML_UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

#endif
