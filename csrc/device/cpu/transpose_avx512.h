/* A block of 16 vectors of 16 floats, rows to columns, in registers. */
#ifndef ML_CPU_TRANSPOSE_H
#define ML_CPU_TRANSPOSE_H

#include "device/cpu/cpu.h"

#include <immintrin.h>

/* Pairs, then quads within 128-bit lanes, then the lanes themselves in two steps: 64 shuffles. */
static inline __attribute__((always_inline)) void v_transpose(__m512 r[16]) {
    __m512 t[16];
    ML_UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    ML_UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    /* Now 128-bit lane q of r[4g + c] holds rows 4g..4g+3 of column 4q + c. */
    ML_UNROLL
    for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    }
    ML_UNROLL
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0x88);
        r[4 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0xdd);
        r[12 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0xdd);
    }
}

/* The same of up to 16 rows of floats in memory, `step` bytes apart; rows that are not there are zeros. Row i + 8 is
 * loaded into the upper half of row i's register, which saves one of the four levels: 48 shuffles. */
#define V_TRANSPOSE_ROWS
static inline __attribute__((always_inline)) void v_transpose_rows(__m512 r[16], const char *at, int64_t step,
                                                                   const int64_t rows) {
    ML_UNROLL
    for (int half = 0; half < 2; half++) {
        __m512 x[8], t[8];
        ML_UNROLL
        for (int i = 0; i < 8; i++) {
            const char *low = at + 32 * half + i * step, *high = low + 8 * step;
            __m256 a = i < rows ? _mm256_loadu_ps((const float *)(const void *)low) : _mm256_setzero_ps();
            x[i] = _mm512_castps256_ps512(a);
            x[i] = _mm512_insertf32x8(
                x[i], i + 8 < rows ? _mm256_loadu_ps((const float *)(const void *)high) : _mm256_setzero_ps(), 1);
        }
        ML_UNROLL
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
            t[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
        }
        ML_UNROLL
        for (int i = 0; i < 8; i += 4) {
            x[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
            x[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
            x[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
            x[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        }
        /* x[4g + c]: lanes are rows 4g of column c, rows 4g of 4 + c, rows 8 + 4g of c, rows 8 + 4g of 4 + c */
        const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13),
                      odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
        ML_UNROLL
        for (int c = 0; c < 4; c++) {
            r[8 * half + c] =
                _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(x[c]), even, _mm512_castps_pd(x[4 + c])));
            r[8 * half + 4 + c] =
                _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(x[c]), odd, _mm512_castps_pd(x[4 + c])));
        }
    }
}

#endif
