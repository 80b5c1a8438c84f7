/* The vector GEMM tiers, written once over a handful of vector primitives: micro-kernel and epilogue. Included by
 * gemm_<isa>.c only, which defines
 *
 *   MR and NV   up to 16 rows of the micro-tile, NV vectors per row (NR = NV * VW)
 *   v_transpose(r)   a VW x VW block in place
 *
 * after vector_<isa>.h, then includes this and gemm_pack.h or gemm_pack_pairs.h. A tier whose panels hold pairs along k
 * (ml_gemm_impl.k_pack 2) also defines
 *
 *   K_PACK      2
 *   v_madd(x, b, acc)   acc with the products of two words' contents added; without it, words are f32
 *
 * and, where vector_<isa>.h has V_LANES, v_madd_lane(a, i, b, acc): the same with lane i of a, for packed rows. */
#include "device/cpu/activation_vector.h"
#include "device/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#define NR (NV * VW)
#ifndef K_PACK
#define K_PACK 1
#define v_madd v_fma
#define v_madd_lane v_fma_lane
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* ---- micro-kernel ---- */

/* What happens to the sums of a tile: written, or added to what is there. */
typedef struct kernel_out {
    float *c;
    int64_t ldc;
    int tail; /* lanes used of the last vector */
    bool add;
    const char *ahead; /* of the tile */
    int64_t ahead_step;
} kernel_out;

/* k words along each row of A and each column of B. a_rows: as in the tile. */
typedef struct kernel_in {
    int64_t k;
    const float *a;
    int64_t a_rows;
    const float *b;
    int64_t bs;
} kernel_in;

/* A word at any address. */
ALWAYS_INLINE vf broadcast_at(const char *p) {
    float word;
    memcpy(&word, p, sizeof word);
    return v_set1(word);
}

/* Rows that one pointer serves: the addressing modes of x86-64 reach two more than its own. */
enum { ROWS_PER_POINTER = 3 };

/* c[i][j] (+)= sum over the k words of A(i, p) * b[p*bs + j] for m rows and nv vectors of columns, where A(i, p) is
 * a[p*MR + i] or, in_place, word p of row i; the first three are constants where this is expanded, and all sums live in
 * registers. */
ALWAYS_INLINE void kernel(const int m, const int nv, const bool in_place, const kernel_in *in, const kernel_out *out) {
    const float *a = in->a, *b = in->b;
    const int64_t k = in->k, bs = in->bs, a_rows = in->a_rows;
    const char *rows[(MR + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER];
    ML_UNROLL for (int i = 0; i < m; i += ROWS_PER_POINTER) rows[i / ROWS_PER_POINTER] = (const char *)a + i * a_rows;
    vf acc[MR][NV];
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_zero();
    }
    ML_UNROLL for (int i = 0; i < m; i++) {
        __builtin_prefetch(out->c + i * out->ldc, 1);
        __builtin_prefetch(out->c + i * out->ldc + nv * VW - 1, 1);
    }
    const char *ahead = out->ahead;
    const int64_t ahead_step = out->ahead_step;
    for (int64_t p = 0; p < k; p++) {
        vf bv[NV];
        __builtin_prefetch(ahead, 0, 2);
        ahead += ahead_step;
        ML_UNROLL for (int j = 0; j < nv; j++) bv[j] = v_load(b + j * VW);
        b += bs;
        if (in_place) {
            ML_UNROLL for (int i = 0; i < m; i++) {
                vf x = broadcast_at(rows[i / ROWS_PER_POINTER] + i % ROWS_PER_POINTER * a_rows);
                ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd(x, bv[j], acc[i][j]);
            }
            ML_UNROLL for (int i = 0; i < m; i += ROWS_PER_POINTER) rows[i / ROWS_PER_POINTER] += sizeof(float);
            continue;
        }
#ifdef V_LANES
        vf av[(MR + VW - 1) / VW];
        ML_UNROLL for (int i = 0; i < m; i += VW) av[i / VW] = v_load(a + i);
        ML_UNROLL for (int i = 0; i < m; i++) {
            ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd_lane(av[i / VW], i % VW, bv[j], acc[i][j]);
        }
#else
        ML_UNROLL for (int i = 0; i < m; i++) {
            vf x = v_set1(a[i]);
            ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd(x, bv[j], acc[i][j]);
        }
#endif
        a += MR;
    }
    float *c = out->c;
    int64_t ldc = out->ldc;
    if (out->tail == VW) {
        if (out->add) {
            ML_UNROLL for (int i = 0; i < m; i++) {
                ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_add(acc[i][j], v_load(c + i * ldc + j * VW));
            }
        }
        ML_UNROLL for (int i = 0; i < m; i++) {
            ML_UNROLL for (int j = 0; j < nv; j++) v_store(c + i * ldc + j * VW, acc[i][j]);
        }
        return;
    }
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) {
            float *at = c + i * ldc + j * VW;
            if (j < nv - 1) {
                v_store(at, out->add ? v_add(acc[i][j], v_load(at)) : acc[i][j]);
            } else {
                v_store_n(at, out->add ? v_add(acc[i][j], v_load_n(at, out->tail, 0.0f)) : acc[i][j], out->tail);
            }
        }
    }
}

typedef void (*kernel_fn)(const kernel_in *in, const kernel_out *out);

#define KERNEL(m, nv)                                                                                                  \
    static void kernel_##m##_##nv(const kernel_in *in, const kernel_out *out) {                                        \
        kernel(m, nv, false, in, out);                                                                                 \
    }                                                                                                                  \
    static void kernel_##m##_##nv##_in_place(const kernel_in *in, const kernel_out *out) {                             \
        kernel(m, nv, true, in, out);                                                                                  \
    }
#define KERNELS(m) KERNEL(m, 1) KERNEL(m, 2)
#define KERNEL_ROW(m) {{kernel_##m##_1, kernel_##m##_1_in_place}, {kernel_##m##_2, kernel_##m##_2_in_place}},
/* X(1) ... X(MR) */
#define FOR_ROWS_1(X) X(1)
#define FOR_ROWS_2(X) FOR_ROWS_1(X) X(2)
#define FOR_ROWS_3(X) FOR_ROWS_2(X) X(3)
#define FOR_ROWS_4(X) FOR_ROWS_3(X) X(4)
#define FOR_ROWS_5(X) FOR_ROWS_4(X) X(5)
#define FOR_ROWS_6(X) FOR_ROWS_5(X) X(6)
#define FOR_ROWS_7(X) FOR_ROWS_6(X) X(7)
#define FOR_ROWS_8(X) FOR_ROWS_7(X) X(8)
#define FOR_ROWS_9(X) FOR_ROWS_8(X) X(9)
#define FOR_ROWS_10(X) FOR_ROWS_9(X) X(10)
#define FOR_ROWS_11(X) FOR_ROWS_10(X) X(11)
#define FOR_ROWS_12(X) FOR_ROWS_11(X) X(12)
#define FOR_ROWS_13(X) FOR_ROWS_12(X) X(13)
#define FOR_ROWS_14(X) FOR_ROWS_13(X) X(14)
#define FOR_ROWS_15(X) FOR_ROWS_14(X) X(15)
#define FOR_ROWS_16(X) FOR_ROWS_15(X) X(16)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FOR_ROWS(X) JOIN(FOR_ROWS_, MR)(X)
FOR_ROWS(KERNELS)
static const kernel_fn kernels[MR][NV][2] = {FOR_ROWS(KERNEL_ROW)};

/* ---- epilogue ---- */

ALWAYS_INLINE vf load_lanes(ml_dtype dtype, const void *p, int n) {
    switch (dtype) {
    case ML_F16:
        return n == VW ? v_from_f16(p) : v_from_f16_n(p, n);
    case ML_BF16:
        return n == VW ? v_from_bf16(p) : v_from_bf16_n(p, n);
    default:
        return n == VW ? v_load(p) : v_load_n(p, n, 0.0f);
    }
}

ALWAYS_INLINE void store_lanes(ml_dtype dtype, void *p, vf v, int n) {
    switch (dtype) {
    case ML_F16:
        if (n == VW)
            v_to_f16(p, v);
        else
            v_to_f16_n(p, v, n);
        break;
    case ML_BF16:
        if (n == VW)
            v_to_bf16(p, v);
        else
            v_to_bf16_n(p, v, n);
        break;
    default:
        if (n == VW)
            v_store(p, v);
        else
            v_store_n(p, v, n);
        break;
    }
}

/* n lanes of a row from element (i, j) on, at any stride. */
static vf load_row(const ml_mat *x, int64_t i, int64_t j, int n) {
    size_t size = ml_dtype_size_of(x->dtype);
    const char *p = (const char *)x->data + (i * x->rs + j * x->cs) * (int64_t)size;
    if (x->cs == 1)
        return load_lanes(x->dtype, p, n);
    float lanes[VW] = {0}; /* raw elements, gathered */
    for (int t = 0; t < n; t++)
        memcpy((char *)lanes + t * size, p + t * x->cs * (int64_t)size, size);
    return load_lanes(x->dtype, lanes, n);
}

static void store_row(const ml_mat *x, int64_t i, int64_t j, vf v, int n) {
    size_t size = ml_dtype_size_of(x->dtype);
    char *p = (char *)x->data + (i * x->rs + j * x->cs) * (int64_t)size;
    if (x->cs == 1) {
        store_lanes(x->dtype, p, v, n);
        return;
    }
    float lanes[VW];
    store_lanes(x->dtype, lanes, v, n);
    for (int t = 0; t < n; t++)
        memcpy(p + t * x->cs * (int64_t)size, (char *)lanes + t * size, size);
}

static ml_mat transposed(const ml_mat *x) {
    ml_mat y = *x;
    y.rs = x->cs;
    y.cs = x->rs;
    return y;
}

/* out = act(alpha * acc + beta * c_in + bias), row by row. */
static void epilogue_rows(const ml_ukr_tile *t, const float *acc, int64_t ld) {
    vf alpha = v_set1(t->alpha), beta = v_set1(t->c_in.data ? t->beta : 0.0f);
    for (int64_t i = 0; i < t->m; i++) {
        for (int64_t j = 0; j < t->n; j += VW) {
            int n = t->n - j < VW ? (int)(t->n - j) : VW;
            vf v = v_mul(alpha, v_load(acc + i * ld + j));
            if (t->c_in.data)
                v = v_fma(beta, load_row(&t->c_in, i, j, n), v);
            if (t->bias.data)
                v = v_add(v, load_row(&t->bias, i, j, n));
            if (t->activation != ML_ACT_NONE)
                v = v_activate(t->activation, v);
            store_row(&t->out, i, j, v, n);
        }
    }
}

/* Columns of out with unit stride are made rows first: the tile is transposed in registers. */
static __attribute__((noinline)) void epilogue(const ml_ukr_tile *t, const float *acc, int64_t ld) {
    if (t->out.cs == 1 || t->out.rs != 1) {
        epilogue_rows(t, acc, ld);
        return;
    }
    enum { LD = (MR + VW - 1) / VW * VW };
    float acc_t[NR][LD] __attribute__((aligned(64)));
    for (int j = 0; j < t->n; j += VW) {
        for (int row = 0; row < t->m; row += VW) {
            vf r[VW];
            ML_UNROLL for (int i = 0; i < VW; i++) r[i] = row + i < MR ? v_load(acc + (row + i) * ld + j) : v_zero();
            v_transpose(r);
            ML_UNROLL for (int i = 0; i < VW; i++) v_store(acc_t[j + i] + row, r[i]);
        }
    }
    ml_ukr_tile turned = *t;
    turned.m = t->n;
    turned.n = t->m;
    turned.c_in = transposed(&t->c_in);
    turned.bias = transposed(&t->bias);
    turned.out = transposed(&t->out);
    epilogue_rows(&turned, acc_t[0], LD);
}

static void ukr(int64_t k, const float *a, const float *b, const ml_ukr_tile *t) {
    const kernel_in in = {(k + K_PACK - 1) / K_PACK, a, t->a_rows, b, t->b_stride};
    kernel_fn run = kernels[t->m - 1][(t->n - 1) / VW][t->a_rows != 0];
    const char *ahead = t->ahead ? t->ahead : (const char *)a; /* a line that is there already costs nothing */
    const int64_t step = t->ahead ? t->ahead_step : 0;
    if (t->acc_io && (t->acc_load || t->acc_store)) {
        const kernel_out out = {t->acc_io, NR, VW, t->acc_load, ahead, step};
        run(&in, &out);
        if (!t->acc_store)
            epilogue(t, t->acc_io, NR);
        return;
    }
    /* The sums are the result, or are added to what out holds: no detour over memory. */
    bool onto_out = t->c_in.data == t->out.data && t->c_in.dtype == ML_F32 && t->c_in.rs == t->out.rs &&
                    t->c_in.cs == 1 && t->beta == 1.0f;
    if (t->out.dtype == ML_F32 && t->out.cs == 1 && t->alpha == 1.0f && !t->bias.data && t->activation == ML_ACT_NONE &&
        (!t->c_in.data || onto_out)) {
        const kernel_out out = {t->out.data, t->out.rs, (int)((t->n - 1) % VW) + 1, t->c_in.data != NULL, ahead, step};
        run(&in, &out);
        return;
    }
    float acc[MR][NR] __attribute__((aligned(64)));
    const kernel_out out = {acc[0], NR, VW, false, ahead, step};
    run(&in, &out);
    epilogue(t, acc[0], NR);
}
