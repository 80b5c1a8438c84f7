/* "outer" on the AVX-512 tiers, f32 or f16 weights: a row of X is one vector, multiplied by an element of each of eight
 * rows of W. Nothing is packed and nothing added across a vector, so all that is left are the multiply-adds: eight sums
 * are twice what hides their latency, and with eight rows the lines of W at hand fit the ways of the nearest cache even
 * where rows lie a multiple of 4 KiB apart (twelve do not: 77 % of the speed). The lanes that n columns leave empty are
 * lost, which pays from outer_cols columns on.
 *
 * Eight rows of f16 weights are converted for a stretch of k that stays in the nearest cache. That costs more than the
 * sums across of "dot", but X need not be packed for both threads first, so it pays for few rows. */
#ifndef ML_GEMV_OUTER_AVX512_H
#define ML_GEMV_OUTER_AVX512_H

#include "device/cpu/gemv_parts.h"

#include <immintrin.h>

enum {
    OUTER_ROWS = 8,
    OUTER_TURN = 8,
    OUTER_STRIP = 256 /* steps of k converted at a time: 8 KiB */
};

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

/* Rows of X from a step of k on. */
typedef struct outer_x {
    const float *at;
    int64_t rs;
    __mmask16 columns;
} outer_x;

ML_INLINE outer_rows outer_rows_at(const void *w, int64_t bytes) {
    outer_rows rows = {w, (const char *)w + 4 * bytes, bytes, 3 * bytes};
    __asm__("" : "+r"(rows.upper), "+r"(rows.thrice));
    return rows;
}

/* Adds the products of k steps. */
ML_INLINE void outer_run(__m512 acc[OUTER_ROWS], const int rows, outer_rows w, outer_x x, int64_t k) {
    int64_t p = 0;
    for (; p + OUTER_TURN <= k; p += OUTER_TURN) {
        ML_UNROLL for (int u = 0; u < OUTER_TURN; u++, x.at += x.rs)
            outer_step(acc, rows, w, u, _mm512_maskz_loadu_ps(x.columns, x.at));
        w.lower += OUTER_TURN * sizeof(float);
        w.upper += OUTER_TURN * sizeof(float);
    }
    for (; p < k; p++, x.at += x.rs) {
        outer_step(acc, rows, w, 0, _mm512_maskz_loadu_ps(x.columns, x.at));
        w.lower += sizeof(float);
        w.upper += sizeof(float);
    }
}

/* strip[r * OUTER_STRIP + p] = w[r * ldw + p] for p < k <= OUTER_STRIP. */
ML_INLINE void outer_convert(float *strip, const int rows, const uint16_t *w, int64_t ldw, int64_t k) {
    for (int r = 0; r < rows; r++) {
        float *to = strip + r * OUTER_STRIP;
        const uint16_t *from = w + r * ldw;
        int64_t p = 0;
        for (; p + 16 <= k; p += 16)
            _mm512_store_ps(to + p, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(from + p))));
        if (p < k)
            _mm512_store_ps(to + p,
                            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << (k - p)) - 1u), from + p)));
    }
}

ML_INLINE void outer_tile(const ml_gemv_block *b, const int dt, const int rows, int64_t row) {
    outer_x x = {b->x, b->x_rs, (__mmask16)((1u << b->n) - 1u)};
    float *y = b->y + row * b->n;
    __m512 acc[OUTER_ROWS];
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r] =
        b->accumulate ? _mm512_maskz_loadu_ps(x.columns, y + r * b->n) : _mm512_setzero_ps();
    if (dt == ML_F32) {
        const float *w = (const float *)b->w + row * b->ldw;
        outer_run(acc, rows, outer_rows_at(w, b->ldw * (int64_t)sizeof(float)), x, b->k);
    } else {
        float strip[OUTER_ROWS * OUTER_STRIP] __attribute__((aligned(64)));
        const uint16_t *w = (const uint16_t *)b->w + row * b->ldw;
        for (int64_t p = 0; p < b->k; p += OUTER_STRIP, x.at += OUTER_STRIP * x.rs) {
            const int64_t k = b->k - p < OUTER_STRIP ? b->k - p : OUTER_STRIP;
            outer_convert(strip, rows, w + p, b->ldw, k);
            outer_run(acc, rows, outer_rows_at(strip, OUTER_STRIP * (int64_t)sizeof(float)), x, k);
        }
    }
    ML_UNROLL for (int r = 0; r < rows; r++) _mm512_mask_storeu_ps(y + r * b->n, x.columns, acc[r]);
}

ML_INLINE void outer_block(const ml_gemv_block *b, const int dt) {
    int64_t row = 0;
    for (; row + OUTER_ROWS <= b->rows; row += OUTER_ROWS)
        outer_tile(b, dt, OUTER_ROWS, row);
    for (; row + OUTER_ROWS / 2 <= b->rows; row += OUTER_ROWS / 2)
        outer_tile(b, dt, OUTER_ROWS / 2, row);
    for (; row < b->rows; row++)
        outer_tile(b, dt, 1, row);
}

static void outer_f32(const ml_gemv_block *b) {
    outer_block(b, ML_F32);
}

static void outer_f16(const ml_gemv_block *b) {
    outer_block(b, ML_F16);
}

#endif
