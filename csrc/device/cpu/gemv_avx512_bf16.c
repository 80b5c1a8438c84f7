/* Vector and small-N kernels for AVX-512 BF16: both operands bf16, multiplied in pairs along k by VDPBF16PS (what that
 * does to denormals: docs/gemm.md). Half the multiply-adds of the f32 arithmetic and no conversion; X takes half the
 * room. What these kernels do not do is done by those of the AVX-512 tier. */
#include "device/cpu/gemv_lines_avx512.h"
#include "device/cpu/transpose_avx512.h"

#include <string.h>

enum {
    W = 16,                      /* words of a vector */
    BLOCK = ML_GEMV_X_BLOCK / 2, /* words of a block of X, for each column */
    COLS = 8,                    /* most columns of a tile */
    DOT_GROUP = 48,              /* rows, at least, that several parts of the columns pass over in turn */
    AXPY_AHEAD = 4               /* tiles along a row that are fetched ahead */
};

ML_INLINE __m512 madd(__m512i w, __m512i x, __m512 acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x);
}
ML_INLINE __mmask32 first(int64_t n) {
    return (__mmask32)((UINT64_C(1) << n) - 1u);
}

/* ---- dot ---- */

/* Six accumulators or more keep one unit of six cycles' latency busy; up to 24 leave room for the operands. */
#define dot_rows(n) ((n) == 2 ? 8 : (n) <= 4 ? 6 : (n) == 5 ? 4 : 3)

/* Adds the products of 32 steps of k: the shorter side of the tile stays in registers. */
ML_INLINE void dot_step(__m512 acc[8][COLS], const int rows, const int n, const __m512i *wv, const float *x) {
    ML_UNROLL for (int j = 0; j < n; j++) {
        const __m512i xv = _mm512_loadu_si512(x + j * BLOCK);
        ML_UNROLL for (int r = 0; r < rows; r++) acc[r][j] = madd(wv[r], xv, acc[r][j]);
    }
}

ML_INLINE void dot_tile(const ml_gemv_block *b, const int rows, const int n, int64_t row, int col) {
    const int64_t k = b->k, ldw = b->ldw, x_step = (int64_t)BLOCK * b->n;
    const uint16_t *w = (const uint16_t *)b->w + row * ldw;
    const float *x = b->x + col * BLOCK;
    __m512 acc[8][COLS];
    __m512i wv[8];
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) acc[r][j] = _mm512_setzero_ps();
    }
    int64_t p = 0;
    for (; p + 2 * W <= k; p += 2 * W, x += x_step) {
        if (b->stream) { /* row by row: of more columns a block of k at a time is taken, not whole rows */
            ML_UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(w + p + (rows + r) * ldw, 0, 2);
        }
        ML_UNROLL for (int r = 0; r < rows; r++) wv[r] = _mm512_loadu_si512(w + p + r * ldw);
        dot_step(acc, rows, n, wv, x);
    }
    if (p < k) {
        const __mmask32 rest = first(k - p);
        ML_UNROLL for (int r = 0; r < rows; r++) wv[r] = _mm512_maskz_loadu_epi16(rest, w + p + r * ldw);
        dot_step(acc, rows, n, wv, x);
    }
    float sums[8 * COLS];
    ML_UNROLL for (int i = 0; i < rows * n; i += 4) {
        __m512 s[4];
        ML_UNROLL for (int t = 0; t < 4; t++) s[t] =
            i + t < rows * n ? acc[(i + t) / n][(i + t) % n] : _mm512_setzero_ps();
        v_sum4(s[0], s[1], s[2], s[3], sums + i);
    }
    float *y = b->y + row * b->n + col;
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) {
            float *at = y + r * b->n + j;
            *at = b->accumulate ? *at + sums[r * n + j] : sums[r * n + j];
        }
    }
}

ML_INLINE void dot_part(const ml_gemv_block *b, const int n, int64_t row, int64_t end, int col) {
    for (; row + dot_rows(n) <= end; row += dot_rows(n))
        dot_tile(b, dot_rows(n), n, row, col);
    for (; row < end; row++)
        dot_tile(b, 1, n, row, col);
}

/* One column: X is pairs in order, packed or where they are. */
static inline __m512 line_madd(__m512i w, __m512i x, __m512 acc) {
    return madd(w, x, acc);
}
static inline __m512 line_madd_part(__m512i w, __m512i x, __m512 acc, __mmask16 words) {
    /* Not _mm512_mask_dpbf16_ps, which gcc 12 gets wrong at -O1. */
    return _mm512_mask_blend_ps(words, acc, madd(w, x, acc));
}

static void dot_1(const ml_gemv_block *b, int64_t row, int64_t end, int col) {
    (void)col;
    line_rows(b, 2, row, end);
}

/* ---- axpy ---- */

/* Vectors of a tile, in pairs: two steps of k of 32 rows woven into words are two vectors. */
#define axpy_vectors(n) ((n) <= 2 ? 8 : (n) == 3 ? 6 : (n) <= 6 ? 4 : 2)

/* The weaving leaves rows 8 q .. 8 q + 3 of 32 in quarter q of the first vector, 8 q + 4 .. 8 q + 7 in that of the
 * second; sums are put in order when they are stored. */
ML_INLINE void in_order(__m512 *a, __m512 *b) {
    const __m512i from = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512 low = _mm512_permutex2var_ps(*a, from, *b);
    *b = _mm512_permutex2var_ps(*a, _mm512_add_epi32(from, _mm512_set1_epi32(8)), *b);
    *a = low;
}
ML_INLINE void as_woven(__m512 *a, __m512 *b) {
    const __m512i from = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const __m512 low = _mm512_permutex2var_ps(*a, from, *b);
    *b = _mm512_permutex2var_ps(*a, _mm512_add_epi32(from, _mm512_set1_epi32(4)), *b);
    *a = low;
}

/* Adds the products of steps w0 and w1, one pair of X for each column. */
ML_INLINE void axpy_step(__m512 acc[COLS][8], const int vectors, const int n, const __m512i *w0, const __m512i *w1,
                         const float *const x[COLS]) {
    __m512i wv[8];
    ML_UNROLL for (int v = 0; v < vectors; v += 2) {
        wv[v] = _mm512_unpacklo_epi16(w0[v / 2], w1[v / 2]);
        wv[v + 1] = _mm512_unpackhi_epi16(w0[v / 2], w1[v / 2]);
    }
    ML_UNROLL for (int j = 0; j < n; j++) {
        const __m512i xv = _mm512_castps_si512(_mm512_set1_ps(*x[j]));
        ML_UNROLL for (int v = 0; v < vectors; v++) acc[j][v] = madd(wv[v], xv, acc[j][v]);
    }
}

/* `count` rows: 16 * vectors, or fewer with two vectors, through masks and a copy of the sums. */
ML_INLINE void axpy_tile(const ml_gemv_block *b, const int vectors, const int n, int64_t row, int64_t count, int col) {
    const bool part = vectors == 2 && count < 2 * W;
    const __mmask32 rows = part ? first(count) : 0xffffffffu;
    const uint16_t *w = (const uint16_t *)b->w + row;
    float *y = b->y + col * b->ldy + row;
    float copy[COLS][2 * W];
    int64_t ldy = b->ldy;
    if (part) {
        for (int j = 0; j < n && b->accumulate; j++)
            memcpy(copy[j], y + j * ldy, (size_t)count * sizeof(float));
        y = copy[0];
        ldy = 2 * W;
    }
    __m512 acc[COLS][8];
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v += 2) {
            acc[j][v] = acc[j][v + 1] = _mm512_setzero_ps();
            if (b->accumulate) {
                acc[j][v] = _mm512_maskz_loadu_ps((__mmask16)rows, y + j * ldy + v * W);
                acc[j][v + 1] = _mm512_maskz_loadu_ps((__mmask16)(rows >> 16), y + j * ldy + (v + 1) * W);
                as_woven(&acc[j][v], &acc[j][v + 1]);
            }
        }
    }
    const float *x[COLS];
    ML_UNROLL for (int j = 0; j < n; j++) x[j] = b->x + (col + j) * b->x_cs;
    for (int64_t p = 0; p < b->k; p += 2, w += 2 * b->ldw) {
        __m512i w0[4], w1[4];
        const bool two = p + 1 < b->k;
        const uint16_t *next = two ? w + b->ldw : w;
        if (b->stream) {
            ML_UNROLL for (int line = 0; line < vectors / 2; line++) {
                __builtin_prefetch(w + AXPY_AHEAD * vectors * W + line * 32, 0, 2);
                __builtin_prefetch(next + AXPY_AHEAD * vectors * W + line * 32, 0, 2);
            }
        }
        ML_UNROLL for (int v = 0; v < vectors / 2; v++) {
            if (part) {
                w0[v] = _mm512_maskz_loadu_epi16(rows, w);
                w1[v] = _mm512_maskz_loadu_epi16(rows, next);
            } else {
                w0[v] = _mm512_loadu_si512(w + v * 2 * W);
                w1[v] = _mm512_loadu_si512(next + v * 2 * W);
            }
            if (!two)
                w1[v] = _mm512_setzero_si512();
        }
        axpy_step(acc, vectors, n, w0, w1, x);
        ML_UNROLL for (int j = 0; j < n; j++) x[j] += b->x_rs;
    }
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v += 2) {
            in_order(&acc[j][v], &acc[j][v + 1]);
            _mm512_storeu_ps(y + j * ldy + v * W, acc[j][v]);
            _mm512_storeu_ps(y + j * ldy + (v + 1) * W, acc[j][v + 1]);
        }
    }
    for (int j = 0; j < n && part; j++)
        memcpy(b->y + (col + j) * b->ldy + row, copy[j], (size_t)count * sizeof(float));
}

ML_INLINE void axpy_part(const ml_gemv_block *b, const int n, int64_t row, int64_t end, int col) {
    for (; row + axpy_vectors(n) * W <= end; row += axpy_vectors(n) * W)
        axpy_tile(b, axpy_vectors(n), n, row, axpy_vectors(n) * W, col);
    for (; row + 2 * W <= end; row += 2 * W)
        axpy_tile(b, 2, n, row, 2 * W, col);
    if (row < end)
        axpy_tile(b, 2, n, row, end - row, col);
}

/* ---- the kernels ---- */

#define DOT(n)                                                                                                         \
    static __attribute__((noinline)) void dot_##n(const ml_gemv_block *b, int64_t row, int64_t end, int col) {         \
        dot_part(b, n, row, end, col);                                                                                 \
    }
#define AXPY(n)                                                                                                        \
    static __attribute__((noinline)) void axpy_##n(const ml_gemv_block *b, int64_t row, int64_t end, int col) {        \
        axpy_part(b, n, row, end, col);                                                                                \
    }
DOT(2)
DOT(3)
DOT(4)
DOT(5)
DOT(6)
DOT(7)
DOT(8)
AXPY(1)
AXPY(2)
AXPY(3)
AXPY(4)
AXPY(5)
AXPY(6)
AXPY(7)
AXPY(8)
#define LIST_N(f) {0, f##_1, f##_2, f##_3, f##_4, f##_5, f##_6, f##_7, f##_8}
#define ROWS_N(rows) {0, rows(1), rows(2), rows(3), rows(4), rows(5), rows(6), rows(7), rows(8)}
#define axpy_rows(n) (axpy_vectors(n) * W)

static void dot(const ml_gemv_block *b) {
    static const part_fn by_n[] = LIST_N(dot);
    static const uint8_t tile_rows[] = ROWS_N(dot_rows);
    all_columns(b, by_n, tile_rows, COLS, DOT_GROUP);
}

static void axpy(const ml_gemv_block *b) {
    static const part_fn by_n[] = LIST_N(axpy);
    static const uint8_t tile_rows[] = ROWS_N(axpy_rows);
    all_columns(b, by_n, tile_rows, COLS, 1);
}

/* ---- packing ---- */

/* Up to 16 words of up to 16 columns from step p on, row by row of src; words[w] has a lane for each column. */
ML_INLINE void weave(__m512 words[W], const ml_mat *src, int64_t p, int64_t k, int n) {
    const __mmask16 columns = (__mmask16)first(n);
    const uint16_t *at = (const uint16_t *)src->data + p * src->rs;
    ML_UNROLL for (int i = 0; i < W; i++) {
        const int64_t step = p + 2 * i;
        const __mmask16 even = step < k ? columns : 0, odd = step + 1 < k ? columns : 0;
        const __m256i low = _mm256_maskz_loadu_epi16(even, even ? at + 2 * i * src->rs : at);
        const __m256i high = _mm256_maskz_loadu_epi16(odd, odd ? at + (2 * i + 1) * src->rs : at);
        words[i] = _mm512_castsi512_ps(
            _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
    }
}

static void pack_pairs(float *dst, const ml_mat *src, int64_t k, const ml_gemv_pairs *to) {
    const int n = to->n;
    for (int64_t p = 0; p < k; p += ML_GEMV_X_BLOCK, dst += to->block) {
        const int64_t left = k - p < ML_GEMV_X_BLOCK ? k - p : ML_GEMV_X_BLOCK;
        const int used = to->whole_blocks ? BLOCK : (int)(left + 1) / 2;
        if (src->cs == 1 && n > 1) { /* n <= 16 */
            __m512 words[W];
            weave(words, src, p, k, n);
            if (to->word == 1)
                v_transpose(words);
            ML_UNROLL for (int i = 0; i < W; i++) {
                if (to->word == 1 && i < n)
                    _mm512_mask_storeu_ps(dst + i * to->column, (__mmask16)first(used), words[i]);
                else if (to->word != 1 && i < used)
                    _mm512_mask_storeu_ps(dst + i * to->word, (__mmask16)first(n), words[i]);
            }
            continue;
        }
        for (int j = 0; j < n; j++) {
            const ml_mat column = {(uint16_t *)src->data + p * src->rs + j * src->cs, 0, src->rs, ML_BF16};
            uint16_t words[ML_GEMV_X_BLOCK];
            if (src->rs != 1)
                ml_collect_16(words, 0, &column, 1, left);
            const __m512i pairs = _mm512_maskz_loadu_epi16(first(left), src->rs == 1 ? column.data : words);
            if (to->word == 1) {
                _mm512_mask_storeu_epi32(dst + j * to->column, (__mmask16)first(used), pairs);
                continue;
            }
            _mm512_storeu_si512(words, pairs);
            for (int i = 0; i < used; i++)
                memcpy(dst + i * to->word + j * to->column, words + 2 * i, 4);
        }
    }
}

extern const ml_gemv_impl ml_gemv_avx512;
const ml_gemv_impl ml_gemv_avx512_bf16 = {.dot = {[ML_BF16] = dot},
                                          .axpy = {[ML_BF16] = axpy},
                                          .pack_pairs = pack_pairs,
                                          .pairs_direct = true,
                                          .base = &ml_gemv_avx512};
