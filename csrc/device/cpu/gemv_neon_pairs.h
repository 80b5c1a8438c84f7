/* The vector and small-N kernels of the NEON tiers whose multiply-adds take 16-bit elements: both operands have the
 * tier's dtype and nothing is converted, X takes half the room. Written once; included by gemv_neon_<tier>.c, which
 * defines
 *
 *   v_dot(acc, chains, u, w, x)  adds the products of eight steps of k to the accumulators acc[0 .. chains - 1] of one
 *                                sum, 1 or 2; u: the how manieth eight they are
 *   v_rows(acc, w0, w1, x)       adds to the sums of eight rows, acc[0] and acc[1], the products of two steps of k:
 *                                their weights, and a word of X in every lane
 *
 * and makes the table from dot, axpy and pack_pairs. What is left out there is done by the kernels of ml_gemv_neon. */
#ifndef ML_GEMV_NEON_PAIRS_H
#define ML_GEMV_NEON_PAIRS_H

#include "device/cpu/gemv_parts.h"
#include "device/cpu/vector_neon.h"

enum {
    W = VW,                      /* words of a vector */
    H = 2 * VW,                  /* elements of a vector */
    BLOCK = ML_GEMV_X_BLOCK / 2, /* words of a block of X, for each column */
    COLS = 8,                    /* most columns of a tile */
    DOT_GROUP = 48,              /* rows, at least, that several parts of the columns pass over in turn */
    AXPY_AHEAD = 4               /* tiles along a row that are fetched ahead */
};

V_FN vh v_load_h(const void *p) {
    vh h;
    memcpy(&h, p, sizeof h);
    return h;
}
/* The first n < 8, and zeros. */
V_FN vh v_load_h_n(const uint16_t *p, int64_t n) {
    if (n < VW)
        return vcombine_u16(v_load_halves_n(p, n), vdup_n_u16(0));
    return vcombine_u16(v_load_halves(p), v_load_halves_n(p + VW, n - VW));
}

/* ---- dot ---- */

/* Up to 21 accumulators leave room for the operands; sixteen keep four units of four cycles' latency busy. */
#define dot_rows(n) ((n) == 1 ? 8 : (n) == 2 ? 4 : (n) == 3 ? 6 : (n) == 4 ? 5 : (n) == 5 ? 4 : (n) <= 7 ? 3 : 2)
#define dot_chains(n) ((n) <= 2 ? 2 : 1)

/* Adds the products of eight steps of k. */
ML_INLINE void dot_step(vf acc[8][COLS][2], const int rows, const int n, const int u, const vh *wv, const float *x) {
    ML_UNROLL for (int j = 0; j < n; j++) {
        const vh xv = v_load_h(x + j * BLOCK);
        ML_UNROLL for (int r = 0; r < rows; r++) v_dot(acc[r][j], dot_chains(n), u, wv[r], xv);
    }
}

ML_INLINE void dot_tile(const ml_gemv_block *b, const int rows, const int n, int64_t row, int col) {
    const int64_t k = b->k, ldw = b->ldw, x_step = (int64_t)BLOCK * b->n;
    const uint16_t *w = (const uint16_t *)b->w + row * ldw;
    const char *ahead = (const char *)(w + rows * ldw);
    const float *x = b->x + col * BLOCK;
    vf acc[8][COLS][2];
    vh wv[8];
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) acc[r][j][0] = acc[r][j][1] = v_zero();
    }
    int64_t p = 0;
    for (; p + ML_GEMV_X_BLOCK <= k; p += ML_GEMV_X_BLOCK, x += x_step) {
        if (b->stream && n == 1) { /* the next tile, in the order of memory: its rows are too many short streams */
            ML_UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(ahead + r * 64, 0, 2);
            ahead += rows * 64;
        } else if (b->stream) { /* row by row: of more columns a block of k at a time is taken, not whole rows */
            ML_UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(w + p + (rows + r) * ldw, 0, 2);
        }
        ML_UNROLL for (int u = 0; u < ML_GEMV_X_BLOCK / H; u++) {
            ML_UNROLL for (int r = 0; r < rows; r++) wv[r] = v_load_h(w + p + u * H + r * ldw);
            dot_step(acc, rows, n, u, wv, x + u * W);
        }
    }
    for (; p < k; p += H, x += W) {
        ML_UNROLL for (int r = 0; r < rows; r++) {
            const uint16_t *at = w + p + r * ldw;
            wv[r] = k - p >= H ? v_load_h(at) : v_load_h_n(at, k - p);
        }
        dot_step(acc, rows, n, 0, wv, x);
    }
    float sums[8 * COLS];
    ML_UNROLL for (int i = 0; i < rows * n; i += 4) {
        vf s[4];
        ML_UNROLL for (int t = 0; t < 4; t++) {
            s[t] = v_zero();
            if (i + t < rows * n) {
                const vf *a = acc[(i + t) / n][(i + t) % n];
                s[t] = dot_chains(n) == 2 ? v_add(a[0], a[1]) : a[0];
            }
        }
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

/* ---- axpy ---- */

/* Vectors of sums of a tile, two for each vector of weights. */
#define axpy_vectors(n) ((n) <= 2 ? 8 : (n) == 3 ? 6 : (n) <= 5 ? 4 : 2)

/* `count` rows: W * vectors, or fewer with two vectors, through a copy of the sums. */
ML_INLINE void axpy_tile(const ml_gemv_block *b, const int vectors, const int n, int64_t row, int64_t count, int col) {
    const bool part = vectors == 2 && count < H;
    const uint16_t *w = (const uint16_t *)b->w + row;
    float *y = b->y + col * b->ldy + row;
    float copy[COLS][H];
    int64_t ldy = b->ldy;
    if (part) {
        memset(copy, 0, sizeof copy);
        for (int j = 0; j < n && b->accumulate; j++)
            memcpy(copy[j], y + j * ldy, (size_t)count * sizeof(float));
        y = copy[0];
        ldy = H;
    }
    vf acc[COLS][8];
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v++) acc[j][v] = b->accumulate ? v_load(y + j * ldy + v * W) : v_zero();
    }
    const float *x = b->x + col * b->x_cs;
    for (int64_t p = 0; p < b->k; p += 2, w += 2 * b->ldw, x += b->x_rs) {
        const bool two = p + 1 < b->k;
        const uint16_t *next = two ? w + b->ldw : w;
        vh w0[4], w1[4];
        if (b->stream) {
            ML_UNROLL for (int line = 0; line < (vectors * 8 + 63) / 64; line++) {
                __builtin_prefetch((const char *)w + AXPY_AHEAD * vectors * 8 + line * 64, 0, 2);
                __builtin_prefetch((const char *)next + AXPY_AHEAD * vectors * 8 + line * 64, 0, 2);
            }
        }
        ML_UNROLL for (int v = 0; v < vectors / 2; v++) {
            w0[v] = part ? v_load_h_n(w, count) : v_load_h(w + v * H);
            w1[v] = part ? v_load_h_n(next, count) : v_load_h(next + v * H);
            if (!two)
                w1[v] = vdupq_n_u16(0);
        }
        ML_UNROLL for (int j = 0; j < n; j++) {
            const vh xv = vreinterpretq_u16_f32(v_set1(v_load_one(x + j * b->x_cs)));
            ML_UNROLL for (int v = 0; v < vectors / 2; v++) v_rows(&acc[j][2 * v], w0[v], w1[v], xv);
        }
    }
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v++) v_store(y + j * ldy + v * W, acc[j][v]);
    }
    for (int j = 0; j < n && part; j++)
        memcpy(b->y + (col + j) * b->ldy + row, copy[j], (size_t)count * sizeof(float));
}

ML_INLINE void axpy_part(const ml_gemv_block *b, const int n, int64_t row, int64_t end, int col) {
    for (; row + axpy_vectors(n) * W <= end; row += axpy_vectors(n) * W)
        axpy_tile(b, axpy_vectors(n), n, row, axpy_vectors(n) * W, col);
    for (; row + H <= end; row += H)
        axpy_tile(b, 2, n, row, H, col);
    if (row < end)
        axpy_tile(b, 2, n, row, end - row, col);
}

/* ---- the kernels ---- */

#define KERNELS(n)                                                                                                     \
    static __attribute__((noinline)) void dot_##n(const ml_gemv_block *b, int64_t row, int64_t end, int col) {         \
        dot_part(b, n, row, end, col);                                                                                 \
    }                                                                                                                  \
    static __attribute__((noinline)) void axpy_##n(const ml_gemv_block *b, int64_t row, int64_t end, int col) {        \
        axpy_part(b, n, row, end, col);                                                                                \
    }
KERNELS(1)
KERNELS(2)
KERNELS(3)
KERNELS(4)
KERNELS(5)
KERNELS(6)
KERNELS(7)
KERNELS(8)
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

/* Four words of four columns: eight steps of k, row by row of src, which lie rs elements apart. */
ML_INLINE void weave(float *dst, const uint16_t *at, int64_t rs, const ml_gemv_pairs *to) {
    vf words[4];
    ML_UNROLL for (int i = 0; i < 4; i++) {
        const uint16x4_t even = v_load_halves(at + 2 * i * rs), odd = v_load_halves(at + (2 * i + 1) * rs);
        words[i] = vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(even, odd), vzip2_u16(even, odd)));
    }
    if (to->word == 1)
        v_transpose(words);
    const int64_t apart = to->word == 1 ? to->column : to->word;
    ML_UNROLL for (int i = 0; i < 4; i++) v_store(dst + i * apart, words[i]);
}

/* Column j from step p on: `used` words of the `left` steps that are left, zeros past them. */
static void pack_column(float *dst, const ml_mat *src, int64_t left, int used, const ml_gemv_pairs *to) {
    uint16_t halves[ML_GEMV_X_BLOCK] = {0};
    const uint16_t *from = src->data;
    if (src->rs == 1) {
        memcpy(halves, from, (size_t)left * sizeof *halves);
    } else {
        for (int64_t i = 0; i < left; i++)
            halves[i] = from[i * src->rs];
    }
    for (int i = 0; i < used; i++)
        memcpy(dst + i * to->word, halves + 2 * i, sizeof(float));
}

static void pack_pairs(float *dst, const ml_mat *src, int64_t k, const ml_gemv_pairs *to) {
    const uint16_t *from = src->data;
    for (int64_t p = 0; p < k; p += ML_GEMV_X_BLOCK, dst += to->block) {
        const int64_t left = k - p < ML_GEMV_X_BLOCK ? k - p : ML_GEMV_X_BLOCK;
        const int used = to->whole_blocks ? BLOCK : (int)(left + 1) / 2;
        int j = 0;
        if (src->cs == 1 && left == ML_GEMV_X_BLOCK && (to->word == 1 || to->column == 1)) {
            for (; j + 4 <= to->n; j += 4) {
                for (int i = 0; i < BLOCK; i += 4)
                    weave(dst + i * to->word + j * to->column, from + (p + 2 * i) * src->rs + j, src->rs, to);
            }
        }
        for (; j < to->n; j++) {
            ml_mat column = *src;
            column.data = (char *)src->data + (p * src->rs + j * src->cs) * (int64_t)sizeof *from;
            pack_column(dst + j * to->column, &column, left, used, to);
        }
    }
}

#endif
