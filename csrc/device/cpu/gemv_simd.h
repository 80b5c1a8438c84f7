/* The vector and small-N kernels of one ISA tier, from its vector primitives. A tier's file defines, before it includes
 * this one:
 *   W                       floats of a vector `vf`
 *   v_zero, v_set1, v_load, v_store, v_fma(a, b, c) = a * b + c
 *   v_tail                  a mask of the first n < W floats; v_tail_of(n), v_load_tail, v_store_tail
 *   vh, v_load16(p), v_load16_tail(p, n)  W (n < W and zeros) 16-bit elements; v_from_f16, v_from_bf16 of them
 *   v_pair_bf16(p, &even, &odd), v_pair_bf16_tail(p, n, ...)  2 W (n < 2 W and zeros) bf16 as even and odd ones
 *   v_narrow_f16, v_narrow_bf16 (W elements)
 *   v_sum4(a, b, c, d, out) out[0..3] = the sums of four vectors; which sums are formed depends on nothing else
 *   DOT_COLS, dot_rows(n), dot_chains(n)  most columns of a tile; its rows; accumulators along k for each sum
 *   AXPY_COLS, axpy_vectors(n)            most columns of a tile; its vectors along the rows
 *   ML_GEMV_IMPL            the name of the table
 * Tile functions are inlined into one function for each (dtype, n) with all of these constant, so that the accumulators
 * live in registers. */
#ifndef ML_GEMV_SIMD_H
#define ML_GEMV_SIMD_H

#include "device/cpu/cpu.h"

#include <string.h>

#define ML_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define ML_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ML_UNROLL _Pragma("GCC unroll 32")
#endif

ML_INLINE const void *at(const void *p, int dt, int64_t index) {
    return (const char *)p + index * (int64_t)(dt == ML_F32 ? sizeof(float) : sizeof(uint16_t));
}

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

/* ---- dot ------------------------------------------------------------------------------------------------------------
 */

/* Adds the products of one unit of k (W elements; 2 W in pairs for bf16) to acc[row][col][chain]. */
#define DOT_STEP(LOAD_W, LOAD_X)                                                                                       \
    do {                                                                                                               \
        vf xv[2][DOT_COLS];                                                                                            \
        ML_UNROLL for (int l = 0; l < unit; l++) {                                                                     \
            ML_UNROLL for (int j = 0; j < n; j++) xv[l][j] = LOAD_X;                                                   \
        }                                                                                                              \
        ML_UNROLL for (int r = 0; r < rows; r++) {                                                                     \
            vf wv[2];                                                                                                  \
            LOAD_W;                                                                                                    \
            ML_UNROLL for (int l = 0; l < unit; l++) {                                                                 \
                ML_UNROLL for (int j = 0; j < n; j++) {                                                                \
                    const int chain = (u + l) % chains;                                                                \
                    acc[r][j][chain] = v_fma(wv[l], xv[l][j], acc[r][j][chain]);                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

ML_INLINE void dot_tile(const ml_gemv_block *b, int dt, int rows, int n, int chains, int64_t row, int col) {
    const int unit = dt == ML_BF16 ? 2 : 1;
    const int steps = chains > unit ? chains : unit; /* vectors of k in one turn of the main loop */
    const int64_t k = b->k, ldx = b->ldx;
    const float *x = b->x + col * ldx;
    const void *w = at(b->w, dt, row * b->ldw);
    vf acc[8][DOT_COLS][4];
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) {
            ML_UNROLL for (int c = 0; c < chains; c++) acc[r][j][c] = v_zero();
        }
    }
    int64_t p = 0;
#define W_AT(q) at(w, dt, r * b->ldw + (q))
    for (; p + steps * W <= k; p += steps * W) {
        ML_UNROLL for (int u = 0; u < steps; u += unit) {
            DOT_STEP(if (unit == 2) v_pair_bf16(W_AT(p + u * W), &wv[0], &wv[1]);
                     else wv[0] = load_w(W_AT(p + u * W), dt), v_load(x + j * ldx + p + (u + l) * W));
        }
    }
    const int u = 0;
    if (steps > unit) {
        for (; p + unit * W <= k; p += unit * W)
            DOT_STEP(if (unit == 2) v_pair_bf16(W_AT(p), &wv[0], &wv[1]);
                     else wv[0] = load_w(W_AT(p), dt), v_load(x + j * ldx + p + l * W));
    }
    if (p < k) {
        const int64_t count = k - p;
        if (unit == 2) {
            DOT_STEP(v_pair_bf16_tail(W_AT(p), count, &wv[0], &wv[1]), v_load(x + j * ldx + p + l * W));
        } else {
            const v_tail tail = v_tail_of(count);
            DOT_STEP(wv[0] = load_w_tail(W_AT(p), dt, count, tail), v_load_tail(x + j * ldx + p, tail));
        }
    }
#undef W_AT
    float sums[8 * DOT_COLS + 4];
    vf flat[8 * DOT_COLS + 4];
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) {
            vf s = acc[r][j][0];
            if (chains == 2)
                s = v_add(s, acc[r][j][1]);
            if (chains == 4)
                s = v_add(v_add(s, acc[r][j][1]), v_add(acc[r][j][2], acc[r][j][3]));
            flat[r * n + j] = s;
        }
    }
    ML_UNROLL for (int i = rows * n; i % 4; i++) flat[i] = v_zero();
    ML_UNROLL for (int i = 0; i < rows * n; i += 4) v_sum4(flat[i], flat[i + 1], flat[i + 2], flat[i + 3], &sums[i]);
    float *y = b->y + row * b->n + col;
    ML_UNROLL for (int r = 0; r < rows; r++) {
        ML_UNROLL for (int j = 0; j < n; j++) {
            float s = sums[r * n + j];
            y[r * b->n + j] = b->accumulate ? y[r * b->n + j] + s : s;
        }
    }
}

ML_INLINE void dot_rows_of(const ml_gemv_block *b, int dt, int n, int64_t row, int64_t end, int col) {
    for (; row + dot_rows(n) <= end; row += dot_rows(n))
        dot_tile(b, dt, dot_rows(n), n, dot_chains(n), row, col);
    for (; row < end; row++)
        dot_tile(b, dt, 1, n, dot_chains(n), row, col);
}

typedef void (*dot_n_fn)(const ml_gemv_block *b, int64_t row, int64_t end, int col);

#define DOT_N(suffix, dt, n)                                                                                           \
    static __attribute__((noinline)) void dot_##suffix##_##n(const ml_gemv_block *b, int64_t row, int64_t end,         \
                                                             int col) {                                                \
        dot_rows_of(b, dt, n, row, end, col);                                                                          \
    }
#define DOT_ROW_GROUP 12 /* rows that stay in the nearest cache while further columns pass over them */

ML_INLINE void dot_any(const ml_gemv_block *b, const dot_n_fn *by_n) {
    if (b->n <= DOT_COLS) {
        by_n[b->n](b, 0, b->rows, 0);
        return;
    }
    for (int64_t row = 0; row < b->rows; row += DOT_ROW_GROUP) {
        int64_t end = row + DOT_ROW_GROUP < b->rows ? row + DOT_ROW_GROUP : b->rows;
        for (int col = 0; col < b->n; col += DOT_COLS) {
            int n = b->n - col < DOT_COLS ? b->n - col : DOT_COLS;
            by_n[n](b, row, end, col);
        }
    }
}

/* ---- axpy -----------------------------------------------------------------------------------------------------------
 */

ML_INLINE void axpy_tile(const ml_gemv_block *b, int dt, int vectors, int n, int64_t row, int col) {
    const int64_t ldx = b->ldx, ldy = b->ldy;
    float *y = b->y + col * ldy + row;
    const float *x = b->x + col * ldx;
    const void *w = at(b->w, dt, row);
    vf acc[8][AXPY_COLS];
    ML_UNROLL for (int v = 0; v < vectors; v++) {
        ML_UNROLL for (int j = 0; j < n; j++) acc[v][j] = b->accumulate ? v_load(y + j * ldy + v * W) : v_zero();
    }
    for (int64_t p = 0; p < b->k; p++) {
        vf wv[8];
        ML_UNROLL for (int v = 0; v < vectors; v++) wv[v] = load_w(at(w, dt, v * W), dt);
        ML_UNROLL for (int j = 0; j < n; j++) {
            const vf xv = v_set1(x[j * ldx + p]);
            ML_UNROLL for (int v = 0; v < vectors; v++) acc[v][j] = v_fma(wv[v], xv, acc[v][j]);
        }
        w = at(w, dt, b->ldw);
    }
    ML_UNROLL for (int v = 0; v < vectors; v++) {
        ML_UNROLL for (int j = 0; j < n; j++) v_store(y + j * ldy + v * W, acc[v][j]);
    }
}

/* The last count < W rows. */
ML_INLINE void axpy_tail(const ml_gemv_block *b, int dt, int n, int64_t row, int col) {
    const int64_t ldx = b->ldx, ldy = b->ldy, count = b->rows - row;
    const v_tail tail = v_tail_of(count);
    float *y = b->y + col * ldy + row;
    const float *x = b->x + col * ldx;
    const void *w = at(b->w, dt, row);
    vf acc[AXPY_COLS];
    ML_UNROLL for (int j = 0; j < n; j++) acc[j] = b->accumulate ? v_load_tail(y + j * ldy, tail) : v_zero();
    for (int64_t p = 0; p < b->k; p++) {
        const vf wv = load_w_tail(w, dt, count, tail);
        ML_UNROLL for (int j = 0; j < n; j++) acc[j] = v_fma(wv, v_set1(x[j * ldx + p]), acc[j]);
        w = at(w, dt, b->ldw);
    }
    ML_UNROLL for (int j = 0; j < n; j++) v_store_tail(y + j * ldy, tail, acc[j]);
}

ML_INLINE void axpy_rows_of(const ml_gemv_block *b, int dt, int n, int64_t row, int64_t end, int col) {
    for (; row + axpy_vectors(n) * W <= end; row += axpy_vectors(n) * W)
        axpy_tile(b, dt, axpy_vectors(n), n, row, col);
    for (; row + W <= end; row += W)
        axpy_tile(b, dt, 1, n, row, col);
    if (row < end)
        axpy_tail(b, dt, n, row, col);
}

#define AXPY_N(suffix, dt, n)                                                                                          \
    static __attribute__((noinline)) void axpy_##suffix##_##n(const ml_gemv_block *b, int64_t row, int64_t end,        \
                                                              int col) {                                               \
        axpy_rows_of(b, dt, n, row, end, col);                                                                         \
    }

ML_INLINE void axpy_any(const ml_gemv_block *b, const dot_n_fn *by_n) {
    const int64_t group = axpy_vectors(AXPY_COLS) * W;
    if (b->n <= AXPY_COLS) {
        by_n[b->n](b, 0, b->rows, 0);
        return;
    }
    for (int64_t row = 0; row < b->rows; row += group) {
        int64_t end = row + group < b->rows ? row + group : b->rows;
        for (int col = 0; col < b->n; col += AXPY_COLS) {
            int n = b->n - col < AXPY_COLS ? b->n - col : AXPY_COLS;
            by_n[n](b, row, end, col);
        }
    }
}

#if DOT_COLS == 8
#define EACH_N(M, suffix, dt)                                                                                          \
    M(suffix, dt, 1)                                                                                                   \
    M(suffix, dt, 2)                                                                                                   \
    M(suffix, dt, 3) M(suffix, dt, 4) M(suffix, dt, 5) M(suffix, dt, 6) M(suffix, dt, 7) M(suffix, dt, 8)
#define LIST_N(f) {0, f##_1, f##_2, f##_3, f##_4, f##_5, f##_6, f##_7, f##_8}
#else
#define EACH_N(M, suffix, dt) M(suffix, dt, 1) M(suffix, dt, 2) M(suffix, dt, 3) M(suffix, dt, 4)
#define LIST_N(f) {0, f##_1, f##_2, f##_3, f##_4}
#endif
#define KERNELS(suffix, dt)                                                                                            \
    EACH_N(DOT_N, suffix, dt)                                                                                          \
    EACH_N(AXPY_N, suffix, dt)                                                                                         \
    static void dot_##suffix(const ml_gemv_block *b) {                                                                 \
        static const dot_n_fn by_n[] = LIST_N(dot_##suffix);                                                           \
        dot_any(b, by_n);                                                                                              \
    }                                                                                                                  \
    static void axpy_##suffix(const ml_gemv_block *b) {                                                                \
        static const dot_n_fn by_n[] = LIST_N(axpy_##suffix);                                                          \
        axpy_any(b, by_n);                                                                                             \
    }
KERNELS(f32, ML_F32)
KERNELS(f16, ML_F16)
KERNELS(bf16, ML_BF16)

/* ---- runs: n elements of any dtype and stride, as f32
 * ---------------------------------------------------------------- */

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
    const float *f = src;
    const uint16_t *h = src;
    if (dt == ML_F32) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = f[i * stride];
    } else if (dt == ML_F16) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = ml_half_to_float(h[i * stride]);
    } else {
        for (int64_t i = 0; i < n; i++)
            dst[i] = ml_bfloat_to_float(h[i * stride]);
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

/* ---- packing
 * --------------------------------------------------------------------------------------------------------- */

static void pack_x(float *dst, const ml_mat *src, int64_t k, int64_t padded_k, bool pairs) {
    load_run(dst, src->data, src->dtype, src->rs, k);
    memset(dst + k, 0, (size_t)(padded_k - k) * sizeof(float));
    for (int64_t p = 0; pairs && p < padded_k; p += 2 * W) {
        float even[W], odd[W];
        ML_UNROLL for (int i = 0; i < W; i++) {
            even[i] = dst[p + 2 * i];
            odd[i] = dst[p + 2 * i + 1];
        }
        memcpy(dst + p, even, sizeof even);
        memcpy(dst + p + W, odd, sizeof odd);
    }
}

static void pack_w(float *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    for (int64_t i = 0; i < rows; i++)
        load_run(dst + i * ld, at(src->data, src->dtype, i * src->rs), src->dtype, src->cs, k);
}

const ml_gemv_impl ML_GEMV_IMPL = {
    .dot = {dot_f32, dot_f16, dot_bf16},
    .axpy = {axpy_f32, axpy_f16, axpy_bf16},
    .pack_x = pack_x,
    .pack_w = pack_w,
    .store = store_block,
};

#endif
