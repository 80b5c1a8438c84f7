/* "outer" on the AVX-512 tiers, f32 weights: a row of X is one vector, multiplied by an element of each of eight rows
 * of W. Nothing is packed and nothing added across a vector, so all that is left are the multiply-adds: eight sums are
 * twice what hides their latency, and with eight rows the lines of W at hand fit the ways of the nearest cache even
 * where rows lie a multiple of 4 KiB apart (twelve do not: 77 % of the speed). The lanes that n columns leave empty are
 * lost, which pays from outer_cols columns on. */
#ifndef ML_GEMV_OUTER_AVX512_H
#define ML_GEMV_OUTER_AVX512_H

#include "device/cpu/gemv_parts.h"

#include <immintrin.h>

enum { OUTER_ROWS = 8, OUTER_TURN = 8 };

/* Row r from a step of k on, as an address that one instruction forms: the compiler is kept from knowing that `upper`
 * and `thrice` follow from the rest, or it computes every row's address anew. */
typedef struct outer_rows {
    const char *lower, *upper; /* rows 0 and 4 */
    int64_t once, thrice;      /* bytes from row to row */
} outer_rows;

ML_INLINE const char *outer_row(outer_rows w, const int r) {
    const char *four = r < 4 ? w.lower : w.upper;
    return r % 4 == 3 ? four + w.thrice : four + (r % 4) * w.once;
}

/* The products of the u-th step from there on. */
ML_INLINE void outer_step(__m512 acc[OUTER_ROWS], const int rows, outer_rows w, const int u, __m512 x) {
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r] =
        _mm512_fmadd_ps(_mm512_set1_ps(((const float *)(const void *)outer_row(w, r))[u]), x, acc[r]);
}

ML_INLINE void outer_tile(const ml_gemv_block *b, const int rows, int64_t row) {
    const __mmask16 columns = (__mmask16)((1u << b->n) - 1u);
    const int64_t x_rs = b->x_rs, bytes = b->ldw * (int64_t)sizeof(float);
    const float *x = b->x;
    outer_rows w = {(const char *)b->w + row * bytes, NULL, bytes, 3 * bytes};
    w.upper = w.lower + 4 * bytes;
    __asm__("" : "+r"(w.upper), "+r"(w.thrice));
    float *y = b->y + row * b->n;
    __m512 acc[OUTER_ROWS];
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r] =
        b->accumulate ? _mm512_maskz_loadu_ps(columns, y + r * b->n) : _mm512_setzero_ps();
    int64_t p = 0;
    for (; p + OUTER_TURN <= b->k; p += OUTER_TURN) {
        ML_UNROLL for (int u = 0; u < OUTER_TURN; u++, x += x_rs)
            outer_step(acc, rows, w, u, _mm512_maskz_loadu_ps(columns, x));
        w.lower += OUTER_TURN * sizeof(float);
        w.upper += OUTER_TURN * sizeof(float);
    }
    for (; p < b->k; p++, x += x_rs) {
        outer_step(acc, rows, w, 0, _mm512_maskz_loadu_ps(columns, x));
        w.lower += sizeof(float);
        w.upper += sizeof(float);
    }
    ML_UNROLL for (int r = 0; r < rows; r++) _mm512_mask_storeu_ps(y + r * b->n, columns, acc[r]);
}

static void outer_f32(const ml_gemv_block *b) {
    int64_t row = 0;
    for (; row + OUTER_ROWS <= b->rows; row += OUTER_ROWS)
        outer_tile(b, OUTER_ROWS, row);
    for (; row + OUTER_ROWS / 2 <= b->rows; row += OUTER_ROWS / 2)
        outer_tile(b, OUTER_ROWS / 2, row);
    for (; row < b->rows; row++)
        outer_tile(b, 1, row);
}

#endif
