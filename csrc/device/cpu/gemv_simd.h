/* The vector and small-N kernels of one ISA tier, from its vector primitives. A tier's file defines, before it includes
 * this one:
 *   W                       floats of a vector `vf`; 2 W divides ML_GEMV_X_BLOCK
 *   v_zero, v_set1, v_load, v_store, v_add, v_fma(a, b, c) = a * b + c
 *   v_tail                  a mask of the first n < W floats; v_tail_of(n), v_load_tail, v_store_tail
 *   vh, v_load16(p), v_load16_tail(p, n)  W (n < W and zeros) 16-bit elements; v_from_f16, v_from_bf16 of them
 *   vw, v_load_words(p), v_load_words_tail(p, n)  2 W (n < 2 W and zeros) bf16
 *   v_even_of, v_odd_of     every other one of them
 *   v_unzip(a, b, &even, &odd) the same of two vectors; v_zip(even, odd, &a, &b) back
 *   v_narrow_f16, v_narrow_bf16 (W elements)
 *   v_transpose4(to, to_ld, from, from_ld) to[i * to_ld + j] = from[j * from_ld + i] for i, j < 4 (x86: below)
 *   v_sum4(a, b, c, d, out) out[0..3] = the sums of four vectors; how each is formed depends on nothing else
 *   DOT_COLS, dot_rows(dt, n), dot_chains(n)  most columns of a tile; its rows; accumulators along k for each sum
 *   dot_keeps(sums)  whether a tile with so many sums has a register to spare for an operand that several products use
 *   AXPY_COLS, axpy_vectors(n)                most columns of a tile; its vectors along the rows
 *   ML_GEMV_IMPL            the name of the table
 * and may define kernels of its own for one column: dot_f16_1 and axpy_f16_1 with ML_GEMV_OWN_F16_1, dot_f32_1 with
 * ML_GEMV_OWN_F32_1; ML_GEMV_OUTER is what else the table shall have.
 *
 * Tile functions are inlined into one function for each (dtype, n) with all of these constant, so that the accumulators
 * live in registers. */
#ifndef ML_GEMV_SIMD_H
#define ML_GEMV_SIMD_H

#include "device/cpu/gemv_parts.h"

#include <string.h>

ML_INLINE const void *at(const void *p, int dt, int64_t index) {
    return (const char *)p + index * (int64_t)(dt == ML_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* A variable of inline assembly in a vector register. */
#if defined(__aarch64__)
#define IN_VECTOR "+w"
#else
#define IN_VECTOR "+v"
#endif

/* W elements as f32, and count < W of them followed by zeros. */
ML_INLINE vf load_w(const void *p, int dt) {
    return dt == ML_F32 ? v_load(p) : dt == ML_F16 ? v_from_f16(v_load16(p)) : v_from_bf16(v_load16(p));
}
ML_INLINE vf load_w_tail(const void *p, int dt, int64_t count, v_tail tail) {
    if (dt == ML_F32)
        return v_load_tail(p, tail);
    const vh h = v_load16_tail(p, count);
    return dt == ML_F16 ? v_from_f16(h) : v_from_bf16(h);
}

/* ---- dot ------------------------------------------------------------------------------------------------------- */

/* Elements of k in a turn of the main loop: a block of X, or more where one sum has more accumulators than that. */
#define dot_turn(n, chains) ((n) == 1 && (chains) * W > ML_GEMV_X_BLOCK ? (chains) * W : ML_GEMV_X_BLOCK)

/* Vector l of a unit of a row: W elements as they stand, or the even (0) and odd (1) ones of 2 W bf16. */
ML_INLINE vf dot_w(const void *p, int dt, int l) {
    return dt != ML_BF16 ? load_w(p, dt) : l == 0 ? v_even_of(v_load_words(p)) : v_odd_of(v_load_words(p));
}

typedef struct dot_sums {
    vf acc[8][DOT_COLS][4]; /* [row][column][chain] */
} dot_sums;

typedef struct dot_shape { /* constants of an instance */
    int dt, rows, n, chains;
} dot_shape;

/* A loaded vector that several products use: without this a compiler may fold the load into each of them, and loads,
 * not products, become the limit. */
ML_INLINE vf keep(vf v, dot_shape t) {
    if (dot_keeps(t.rows * t.n))
        __asm__("" : IN_VECTOR(v));
    return v;
}

/* Adds the products of one unit of k. The shorter side of the tile stays in registers. */
ML_INLINE void dot_unit(dot_sums *s, dot_shape t, int chain, const void *w, int64_t ldw, const float *x) {
    const int unit = t.dt == ML_BF16 ? 2 : 1;
    if (unit == 2 && t.rows > t.n) {
        vf xv[2][DOT_COLS];
        ML_UNROLL for (int j = 0; j < t.n; j++) {
            xv[0][j] = v_load(x + j * ML_GEMV_X_BLOCK);
            xv[1][j] = v_load(x + j * ML_GEMV_X_BLOCK + W);
        }
        ML_UNROLL for (int r = 0; r < t.rows; r++) {
            vw words = v_load_words(at(w, t.dt, r * ldw));
            __asm__("" : IN_VECTOR(words)); /* one load for both halves; see keep() */
            const vf even = v_even_of(words), odd = v_odd_of(words);
            ML_UNROLL for (int j = 0; j < t.n; j++) {
                vf *acc = s->acc[r][j];
                acc[chain] = v_fma(even, xv[0][j], acc[chain]);
                acc[(chain + 1) % t.chains] = v_fma(odd, xv[1][j], acc[(chain + 1) % t.chains]);
            }
        }
        return;
    }
    ML_UNROLL for (int l = 0; l < unit; l++) {
        const int c = (chain + l) % t.chains;
        if (t.rows <= t.n) {
            vf wv[8];
            ML_UNROLL for (int r = 0; r < t.rows; r++) wv[r] = dot_w(at(w, t.dt, r * ldw), t.dt, l);
            ML_UNROLL for (int j = 0; j < t.n; j++) {
                const vf xv = keep(v_load(x + j * ML_GEMV_X_BLOCK + l * W), t);
                ML_UNROLL for (int r = 0; r < t.rows; r++) s->acc[r][j][c] = v_fma(wv[r], xv, s->acc[r][j][c]);
            }
        } else {
            vf xv[DOT_COLS];
            ML_UNROLL for (int j = 0; j < t.n; j++) xv[j] = v_load(x + j * ML_GEMV_X_BLOCK + l * W);
            ML_UNROLL for (int r = 0; r < t.rows; r++) {
                const vf wv = keep(dot_w(at(w, t.dt, r * ldw), t.dt, l), t);
                ML_UNROLL for (int j = 0; j < t.n; j++) s->acc[r][j][c] = v_fma(wv, xv[j], s->acc[r][j][c]);
            }
        }
    }
}

/* The last count elements of k, fewer than a unit. */
ML_INLINE void dot_tail(dot_sums *s, dot_shape t, const void *w, int64_t ldw, const float *x, int64_t count) {
    ML_UNROLL for (int r = 0; r < t.rows; r++) {
        const void *wr = at(w, t.dt, r * ldw);
        if (t.dt == ML_BF16) {
            const vw words = v_load_words_tail(wr, count);
            const vf even = v_even_of(words), odd = v_odd_of(words);
            ML_UNROLL for (int j = 0; j < t.n; j++) {
                vf *acc = s->acc[r][j];
                acc[0] = v_fma(even, v_load(x + j * ML_GEMV_X_BLOCK), acc[0]);
                acc[1 % t.chains] = v_fma(odd, v_load(x + j * ML_GEMV_X_BLOCK + W), acc[1 % t.chains]);
            }
        } else {
            const v_tail tail = v_tail_of(count);
            const vf wv = load_w_tail(wr, t.dt, count, tail);
            ML_UNROLL for (int j = 0; j < t.n; j++) s->acc[r][j][0] =
                v_fma(wv, v_load_tail(x + j * ML_GEMV_X_BLOCK, tail), s->acc[r][j][0]);
        }
    }
}

ML_INLINE void dot_store(const dot_sums *s, dot_shape t, float *y, int64_t ldy, bool accumulate) {
    float sums[8 * DOT_COLS + 4];
    vf flat[8 * DOT_COLS + 4];
    ML_UNROLL for (int r = 0; r < t.rows; r++) {
        ML_UNROLL for (int j = 0; j < t.n; j++) {
            const vf *acc = s->acc[r][j];
            flat[r * t.n + j] = t.chains == 1   ? acc[0]
                                : t.chains == 2 ? v_add(acc[0], acc[1])
                                                : v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3]));
        }
    }
    ML_UNROLL for (int i = t.rows * t.n; i % 4; i++) flat[i] = v_zero();
    ML_UNROLL for (int i = 0; i < t.rows * t.n; i += 4)
        v_sum4(flat[i], flat[i + 1], flat[i + 2], flat[i + 3], &sums[i]);
    ML_UNROLL for (int r = 0; r < t.rows; r++) {
        ML_UNROLL for (int j = 0; j < t.n; j++) {
            float sum = sums[r * t.n + j];
            y[r * ldy + j] = accumulate ? y[r * ldy + j] + sum : sum;
        }
    }
}

ML_INLINE void dot_tile(const ml_gemv_block *b, dot_shape t, int64_t row, int col) {
    const int unit = t.dt == ML_BF16 ? 2 : 1, turn = dot_turn(t.n, t.chains);
    const int64_t k = b->k, ldw = b->ldw;
    const int64_t x_step = (int64_t)ML_GEMV_X_BLOCK * b->n; /* from one block of X to the next */
    const float *x = b->x + col * ML_GEMV_X_BLOCK;
    const void *w = at(b->w, t.dt, row * ldw);
    dot_sums s;
    ML_UNROLL for (int r = 0; r < t.rows; r++) {
        ML_UNROLL for (int j = 0; j < t.n; j++) {
            ML_UNROLL for (int c = 0; c < t.chains; c++) s.acc[r][j][c] = v_zero();
        }
    }
    int64_t p = 0;
    const char *ahead = at(w, t.dt, t.rows * ldw);
    for (; p + turn <= k; p += turn) {
        ML_UNROLL for (int u = 0; u < turn / W; u += unit)
            dot_unit(&s, t, u % t.chains, at(w, t.dt, u * W), ldw,
                     x + u * W / ML_GEMV_X_BLOCK * x_step + u * W % ML_GEMV_X_BLOCK);
        if (b->stream && t.n == 1) {
            /* The next tile, in the order of memory: the rows of a tile are too many short streams for the hardware. */
            const int bytes = turn * t.rows * (t.dt == ML_F32 ? 4 : 2);
            ML_UNROLL for (int line = 0; line < bytes / 64; line++) __builtin_prefetch(ahead + line * 64, 0, 2);
            ahead += bytes;
        } else if (b->stream) { /* row by row: of more columns a block of k at a time is taken, not whole rows */
            ML_UNROLL for (int r = 0; r < t.rows; r++) {
                const char *next = at(w, t.dt, (t.rows + r) * ldw); /* a turn is two lines of f32, or one */
                __builtin_prefetch(next, 0, 2);
                if (t.dt == ML_F32)
                    __builtin_prefetch(next + 64, 0, 2);
            }
        }
        w = at(w, t.dt, turn);
        x += turn / ML_GEMV_X_BLOCK * x_step;
    }
    for (int64_t in_block = 0; p < k; p += unit * W) {
        if (k - p >= unit * W)
            dot_unit(&s, t, 0, w, ldw, x + in_block);
        else
            dot_tail(&s, t, w, ldw, x + in_block, k - p);
        w = at(w, t.dt, unit * W);
        in_block += unit * W;
        if (in_block == ML_GEMV_X_BLOCK) {
            x += x_step;
            in_block = 0;
        }
    }
    dot_store(&s, t, b->y + row * b->n + col, b->n, b->accumulate);
}

ML_INLINE void dot_part(const ml_gemv_block *b, int dt, int n, int64_t row, int64_t end, int col) {
    for (; row + dot_rows(dt, n) <= end; row += dot_rows(dt, n))
        dot_tile(b, (dot_shape){dt, dot_rows(dt, n), n, dot_chains(n)}, row, col);
    for (; row < end; row++)
        dot_tile(b, (dot_shape){dt, 1, n, dot_chains(n)}, row, col);
}

enum { AXPY_AHEAD = 4 }; /* tiles along a row that are fetched ahead: 0.5 to 2 KiB */

/* ---- axpy ------------------------------------------------------------------------------------------------------ */

/* Vectors v and v + 1 of the sums. While bf16 weights are added they hold the even and the odd elements. */
ML_INLINE void axpy_load(vf *acc, const float *y, bool pairs) {
    acc[0] = v_load(y);
    if (pairs)
        v_unzip(acc[0], v_load(y + W), &acc[0], &acc[1]);
}

ML_INLINE void axpy_tile(const ml_gemv_block *b, int dt, int vectors, int n, int64_t row, int col) {
    const int64_t ldy = b->ldy, x_cs = b->x_cs;
    const bool pairs = dt == ML_BF16 && vectors % 2 == 0;
    const int unit = pairs ? 2 : 1;
    float *y = b->y + col * ldy + row;
    const float *x = b->x + col * x_cs;
    const void *w = at(b->w, dt, row);
    vf acc[AXPY_COLS][8];
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v += unit) {
            if (b->accumulate) {
                axpy_load(&acc[j][v], y + j * ldy + v * W, pairs);
            } else {
                acc[j][v] = v_zero();
                acc[j][v + unit - 1] = v_zero();
            }
        }
    }
    for (int64_t p = 0; p < b->k; p++) {
        vf wv[8];
        if (b->stream) {
            const int bytes = vectors * W * (dt == ML_F32 ? 4 : 2);
            ML_UNROLL for (int line = 0; line < (bytes + 63) / 64; line++)
                __builtin_prefetch((const char *)w + AXPY_AHEAD * bytes + line * 64, 0, 2);
        }
        ML_UNROLL for (int v = 0; v < vectors; v += unit) {
            if (pairs) {
                vw words = v_load_words(at(w, dt, v * W));
                __asm__("" : IN_VECTOR(words));
                wv[v] = v_even_of(words);
                wv[v + 1] = v_odd_of(words);
            } else {
                wv[v] = load_w(at(w, dt, v * W), dt);
            }
        }
        ML_UNROLL for (int j = 0; j < n; j++) {
            const vf xv = v_set1(x[j * x_cs]);
            ML_UNROLL for (int v = 0; v < vectors; v++) acc[j][v] = v_fma(wv[v], xv, acc[j][v]);
        }
        w = at(w, dt, b->ldw);
        x += b->x_rs;
    }
    ML_UNROLL for (int j = 0; j < n; j++) {
        ML_UNROLL for (int v = 0; v < vectors; v += unit) {
            if (pairs)
                v_zip(acc[j][v], acc[j][v + 1], &acc[j][v], &acc[j][v + 1]);
            v_store(y + j * ldy + v * W, acc[j][v]);
            if (pairs)
                v_store(y + j * ldy + (v + 1) * W, acc[j][v + 1]);
        }
    }
}

/* The last count < W rows. */
ML_INLINE void axpy_tail(const ml_gemv_block *b, int dt, int n, int64_t row, int64_t count, int col) {
    const int64_t ldy = b->ldy, x_cs = b->x_cs;
    const v_tail tail = v_tail_of(count);
    float *y = b->y + col * ldy + row;
    const float *x = b->x + col * x_cs;
    const void *w = at(b->w, dt, row);
    vf acc[AXPY_COLS];
    ML_UNROLL for (int j = 0; j < n; j++) acc[j] = b->accumulate ? v_load_tail(y + j * ldy, tail) : v_zero();
    for (int64_t p = 0; p < b->k; p++) {
        const vf wv = load_w_tail(w, dt, count, tail);
        ML_UNROLL for (int j = 0; j < n; j++) acc[j] = v_fma(wv, v_set1(x[j * x_cs]), acc[j]);
        w = at(w, dt, b->ldw);
        x += b->x_rs;
    }
    ML_UNROLL for (int j = 0; j < n; j++) v_store_tail(y + j * ldy, tail, acc[j]);
}

ML_INLINE void axpy_part(const ml_gemv_block *b, int dt, int n, int64_t row, int64_t end, int col) {
    for (; row + axpy_vectors(n) * W <= end; row += axpy_vectors(n) * W)
        axpy_tile(b, dt, axpy_vectors(n), n, row, col);
    for (; row + W <= end; row += W)
        axpy_tile(b, dt, 1, n, row, col);
    if (row < end)
        axpy_tail(b, dt, n, row, end - row, col);
}

/* ---- the kernels ------------------------------------------------------------------------------------------------- */

#define DOT_N(suffix, dt, n)                                                                                           \
    static __attribute__((noinline)) void dot_##suffix##_##n(const ml_gemv_block *b, int64_t row, int64_t end,         \
                                                             int col) {                                                \
        dot_part(b, dt, n, row, end, col);                                                                             \
    }
#define AXPY_N(suffix, dt, n)                                                                                          \
    static __attribute__((noinline)) void axpy_##suffix##_##n(const ml_gemv_block *b, int64_t row, int64_t end,        \
                                                              int col) {                                               \
        axpy_part(b, dt, n, row, end, col);                                                                            \
    }
#if DOT_COLS == 8
#define FROM_2(M, suffix, dt)                                                                                          \
    M(suffix, dt, 2)                                                                                                   \
    M(suffix, dt, 3) M(suffix, dt, 4) M(suffix, dt, 5) M(suffix, dt, 6) M(suffix, dt, 7) M(suffix, dt, 8)
#define LIST_N(f) {0, f##_1, f##_2, f##_3, f##_4, f##_5, f##_6, f##_7, f##_8}
#define ROWS_N(rows) {0, rows(1), rows(2), rows(3), rows(4), rows(5), rows(6), rows(7), rows(8)}
#else
#define FROM_2(M, suffix, dt) M(suffix, dt, 2) M(suffix, dt, 3) M(suffix, dt, 4)
#define LIST_N(f) {0, f##_1, f##_2, f##_3, f##_4}
#define ROWS_N(rows) {0, rows(1), rows(2), rows(3), rows(4)}
#endif
#define KERNELS(suffix, dt)                                                                                            \
    FROM_2(DOT_N, suffix, dt)                                                                                          \
    FROM_2(AXPY_N, suffix, dt)                                                                                         \
    static void dot_##suffix(const ml_gemv_block *b) {                                                                 \
        static const part_fn by_n[] = LIST_N(dot_##suffix);                                                            \
        static const uint8_t tile_rows[] = ROWS_N(rows_##suffix);                                                      \
        all_columns(b, by_n, tile_rows, DOT_COLS, DOT_GROUP);                                                          \
    }                                                                                                                  \
    static void axpy_##suffix(const ml_gemv_block *b) {                                                                \
        static const part_fn by_n[] = LIST_N(axpy_##suffix);                                                           \
        static const uint8_t tile_rows[] = ROWS_N(axpy_rows);                                                          \
        all_columns(b, by_n, tile_rows, AXPY_COLS, 1);                                                                 \
    }
enum { DOT_GROUP = 48 };
#define rows_f32(n) dot_rows(ML_F32, n)
#define rows_f16(n) dot_rows(ML_F16, n)
#define rows_bf16(n) dot_rows(ML_BF16, n)
#define axpy_rows(n) (axpy_vectors(n) * W)
#ifndef ML_GEMV_OWN_F32_1
DOT_N(f32, ML_F32, 1)
#endif
DOT_N(bf16, ML_BF16, 1)
AXPY_N(f32, ML_F32, 1)
AXPY_N(bf16, ML_BF16, 1)
#ifndef ML_GEMV_OWN_F16_1
DOT_N(f16, ML_F16, 1)
AXPY_N(f16, ML_F16, 1)
#endif
KERNELS(f32, ML_F32)
KERNELS(f16, ML_F16)
KERNELS(bf16, ML_BF16)

/* ---- runs: n elements of any dtype and stride, as f32 ------------------------------------------------------------ */

ML_INLINE void load_unit(float *dst, const void *src, int dt, int64_t n) {
    int64_t i = 0;
    for (; i + W <= n; i += W)
        v_store(dst + i, load_w(at(src, dt, i), dt));
    if (i < n)
        v_store_tail(dst + i, v_tail_of(n - i), load_w_tail(at(src, dt, i), dt, n - i, v_tail_of(n - i)));
}

static void load_run(float *dst, const void *src, ml_dtype dt, int64_t stride, int64_t n) {
    if (stride == 1 || n == 1) {
        if (dt == ML_F32)
            load_unit(dst, src, ML_F32, n);
        else if (dt == ML_F16)
            load_unit(dst, src, ML_F16, n);
        else
            load_unit(dst, src, ML_BF16, n);
        return;
    }
    if (dt == ML_F32) {
        ml_collect_32(dst, 0, &(const ml_mat){(void *)(uintptr_t)src, 0, stride, dt}, 1, n);
        return;
    }
    enum { CHUNK = 64 };
    for (int64_t i = 0; i < n; i += CHUNK) {
        uint16_t raw[CHUNK];
        const int64_t count = n - i < CHUNK ? n - i : CHUNK;
        const void *from = at(src, (int)dt, i * stride);
        ml_collect_16(raw, 0, &(const ml_mat){(void *)(uintptr_t)from, 0, stride, dt}, 1, count);
        load_unit(dst + i, raw, dt == ML_F16 ? ML_F16 : ML_BF16, count);
    }
}

static void store_run(void *dst, const float *src, ml_dtype dt, int64_t stride, int64_t n) {
    float *f = dst;
    uint16_t *h = dst;
    int64_t i = 0;
    if (dt == ML_F32) {
        if (stride == 1) {
            for (; i + W <= n; i += W)
                v_store(f + i, v_load(src + i));
        }
        for (; i < n; i++)
            f[i * stride] = src[i];
    } else if (dt == ML_F16) {
        if (stride == 1) {
            for (; i + W <= n; i += W)
                v_narrow_f16(h + i, v_load(src + i));
        }
        for (; i < n; i++)
            h[i * stride] = ml_float_to_half(src[i]);
    } else {
        if (stride == 1) {
            for (; i + W <= n; i += W)
                v_narrow_bf16(h + i, v_load(src + i));
        }
        for (; i < n; i++)
            h[i * stride] = ml_float_to_bfloat(src[i]);
    }
}

#include "device/cpu/gemv_store.h"

/* ---- packing ----------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
ML_INLINE void v_transpose4(float *to, int64_t to_ld, const float *from, int64_t from_ld) {
    __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_ld);
    __m128 c = _mm_loadu_ps(from + 2 * from_ld), d = _mm_loadu_ps(from + 3 * from_ld);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + to_ld, b);
    _mm_storeu_ps(to + 2 * to_ld, c);
    _mm_storeu_ps(to + 3 * to_ld, d);
}
#endif

/* d[j * 32 + i] = rows[i * n + j]: 4 x 4 at a time. */
static void transpose_block(float *d, const float *rows, int n) {
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        for (int i = 0; i < ML_GEMV_X_BLOCK; i += 4)
            v_transpose4(d + j * ML_GEMV_X_BLOCK + i, ML_GEMV_X_BLOCK, rows + i * n + j, n);
    }
    for (; j < n; j++) {
        for (int i = 0; i < ML_GEMV_X_BLOCK; i++)
            d[j * ML_GEMV_X_BLOCK + i] = rows[i * n + j];
    }
}

static void pack_x(float *dst, const ml_mat *src, int64_t k, ml_gemv_x_layout to) {
    float rows[ML_GEMV_X_BLOCK * 16];
    const bool by_rows = src->cs == 1 && to.n > 1;
    for (int64_t p = 0; p < k; p += ML_GEMV_X_BLOCK, dst += ML_GEMV_X_BLOCK * to.total) {
        const int count = k - p < ML_GEMV_X_BLOCK ? (int)(k - p) : ML_GEMV_X_BLOCK;
        const ml_mat m = {(char *)src->data + p * src->rs * (int64_t)ml_dtype_size_of(src->dtype), src->rs, src->cs,
                          src->dtype};
        if (by_rows) {
            load_2d(rows, &m, to.n, 0, count * to.n);
            if (count < ML_GEMV_X_BLOCK)
                memset(rows + count * to.n, 0, (size_t)((ML_GEMV_X_BLOCK - count) * to.n) * sizeof(float));
            transpose_block(dst, rows, to.n);
        } else {
            for (int j = 0; j < to.n; j++) {
                float *d = dst + j * ML_GEMV_X_BLOCK;
                load_run(d, at(m.data, (int)m.dtype, j * m.cs), m.dtype, m.rs, count);
                if (count < ML_GEMV_X_BLOCK)
                    memset(d + count, 0, (size_t)(ML_GEMV_X_BLOCK - count) * sizeof(float));
            }
        }
        if (to.pairs) {
            for (float *d = dst; d < dst + ML_GEMV_X_BLOCK * to.n; d += 2 * W) {
                vf even, odd;
                v_unzip(v_load(d), v_load(d + W), &even, &odd);
                v_store(d, even);
                v_store(d + W, odd);
            }
        }
    }
}

static void pack_w(float *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    for (int64_t i = 0; i < rows; i++)
        load_run(dst + i * ld, at(src->data, (int)src->dtype, i * src->rs), src->dtype, src->cs, k);
}

static void collect(void *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    ml_collect(dst, ld, src, rows, k);
}

const ml_gemv_impl ML_GEMV_IMPL = {
    .dot = {dot_f32, dot_f16, dot_bf16},
    .axpy = {axpy_f32, axpy_f16, axpy_bf16},
#ifdef ML_GEMV_OUTER
    ML_GEMV_OUTER,
#endif
    .pack_x = pack_x,
    .pack_w = pack_w,
    .collect = collect,
    .store = store_block,
};

#endif
