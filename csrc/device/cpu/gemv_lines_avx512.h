/* One column on the AVX-512 tiers: sums of rows of W read in whole cache lines.
 *
 * Memory from malloc begins 16 bytes into a line, and a vector that spans two lines takes two loads. So W is loaded
 * line by line wherever a row begins, and X is read as many bytes before its start instead. That turns the lanes of the
 * sums, and lanes that went round belong to the other accumulator; both is put right once for each row. The sums are
 * those of a row that begins with a line, bit for bit: where the weights lie must not show in the result.
 *
 * Rows are taken one after the other while X stays in the nearest cache beside them: then a thread reads one stream,
 * which the hardware prefetches at the full rate of memory and of the last-level cache. Eight rows are eight short
 * streams, but need X an eighth as often. */
#ifndef ML_GEMV_LINES_AVX512_H
#define ML_GEMV_LINES_AVX512_H

#include "device/cpu/gemv_parts.h"
#include "device/cpu/gemv_sum_avx512.h"

#include <string.h>

enum {
    LINE = 64,
    LINE_HALVES = LINE / 2, /* units of 16 bits */
    LINE_ROWS = 8,
    LINE_X_BYTES = 12 << 10 /* X up to this size: one row after the other */
};

/* acc + the products of 16 words, floats or pairs of bf16; defined by the including file. Words of which no half is in
 * the mask leave their lane as it is. */
static inline __m512 line_madd(__m512i w, __m512i x, __m512 acc);
static inline __m512 line_madd_part(__m512i w, __m512i x, __m512 acc, __mmask16 words);

typedef struct line_block {
    const char *w; /* the first row */
    int64_t ldw;   /* bytes */
    const char *x;
    int64_t halves; /* of a row; whole words of 32 bits but perhaps the last */
} line_block;

/* A line of each row, and X beside it. */
typedef struct line_at {
    const char *w, *x;
    int64_t ldw;
} line_at;

ML_INLINE line_at line_no(line_at first, int64_t v) {
    return (line_at){first.w + v * LINE, first.x + v * LINE, first.ldw};
}

ML_INLINE void line_step(__m512 acc[LINE_ROWS][2], const int chain, const int rows, line_at at) {
    const __m512i xv = _mm512_loadu_si512(at.x);
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r][chain] =
        line_madd(_mm512_loadu_si512(at.w + r * at.ldw), xv, acc[r][chain]);
}

/* The halves in the mask only; nothing else is read. */
ML_INLINE void line_part(__m512 acc[LINE_ROWS][2], const int chain, const int rows, line_at at, __mmask32 halves) {
    const __m512i xv = _mm512_maskz_loadu_epi16(halves, at.x);
    const __mmask16 words = _mm512_test_epi32_mask(_mm512_movm_epi16(halves), _mm512_set1_epi32(-1));
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r][chain] =
        line_madd_part(_mm512_maskz_loadu_epi16(halves, at.w + r * at.ldw), xv, acc[r][chain], words);
}

/* sums[0 .. rows): rows from b->w on, which begin at the same place of a line or are one. */
ML_INLINE void line_tile(const line_block *b, const int rows, float *sums) {
    const int64_t ldw = b->ldw;
    const uintptr_t place = (uintptr_t)b->w % LINE;
    const int skip = place % 4 != 0 || (rows > 1 && ldw % LINE != 0) ? 0 : (int)place;
    const line_at line = {b->w - skip, b->x - skip, ldw};
    const int64_t end = b->halves + skip / 2, vectors = (end + LINE_HALVES - 1) / LINE_HALVES;
    const __mmask32 head = 0xffffffffu << (skip / 2), tail = 0xffffffffu >> (vectors * LINE_HALVES - end);
    __m512 acc[LINE_ROWS][2];
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    line_part(acc, 0, rows, line, vectors > 1 ? head : head & tail);
    int64_t v = 1;
    for (; v + 2 < vectors; v += 2) {
        line_step(acc, 1, rows, line_no(line, v));
        line_step(acc, 0, rows, line_no(line, v + 1));
    }
    if (v + 1 < vectors) {
        line_step(acc, 1, rows, line_no(line, v));
        line_part(acc, 0, rows, line_no(line, v + 1), tail);
    } else if (v < vectors) {
        line_part(acc, 1, rows, line_no(line, v), tail);
    }
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i from = _mm512_add_epi32(lanes, _mm512_set1_epi32(skip / 4));
    __m512 s[LINE_ROWS];
    ML_UNROLL for (int r = 0; r < rows; r++) s[r] = _mm512_add_ps(_mm512_permutex2var_ps(acc[r][0], from, acc[r][1]),
                                                                  _mm512_permutex2var_ps(acc[r][1], from, acc[r][0]));
    float four[LINE_ROWS + 3];
    ML_UNROLL for (int r = 0; r < rows; r += 4)
        v_sum4(s[r], s[(r + 1) % rows], s[(r + 2) % rows], s[(r + 3) % rows], four + r);
    ML_UNROLL for (int r = 0; r < rows; r++) sums[r] = four[r];
}

/* Rows [row, end) of a block of one column; `size` bytes of an element of W and of X. */
ML_INLINE void line_rows(const ml_gemv_block *b, const int size, int64_t row, int64_t end) {
    line_block l = {(const char *)b->w + row * b->ldw * size, b->ldw * size, (const char *)b->x, b->k * size / 2};
    const bool one_stream = b->k * size <= LINE_X_BYTES;
    float sums[LINE_ROWS];
    char copy[LINE_X_BYTES + LINE] __attribute__((aligned(LINE)));
    /* X too begins at that place of a line, if need be as a copy. */
    if (one_stream && l.ldw % LINE == 0 && ((uintptr_t)l.x - (uintptr_t)l.w) % LINE != 0 && end - row >= LINE_ROWS) {
        char *to = copy + (uintptr_t)l.w % LINE;
        memcpy(to, l.x, (size_t)(b->k * size));
        l.x = to;
    }
    while (row < end) {
        const int rows = !one_stream && row + LINE_ROWS <= end ? LINE_ROWS : 1;
        if (rows == LINE_ROWS)
            line_tile(&l, LINE_ROWS, sums);
        else
            line_tile(&l, 1, sums);
        for (int r = 0; r < rows; r++)
            b->y[row + r] = b->accumulate ? b->y[row + r] + sums[r] : sums[r];
        row += rows;
        l.w += rows * l.ldw;
    }
}

#endif
