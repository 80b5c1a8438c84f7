/* What a GEMM micro-kernel does with its sums: scale, add C and bias, activate, round and store, for any dtype and
 * strides. Included after vector_<isa>.h by a tier that defines MR, NR (a multiple of VW) and v_transpose(r), which
 * turns a VW x VW block in place. */
#ifndef ML_CPU_GEMM_EPILOGUE_H
#define ML_CPU_GEMM_EPILOGUE_H

#include "device/cpu/activation_vector.h"
#include "device/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

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

/* ---- where sums go ---- */

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

/* Sums of the panels. */
typedef void (*kernel_fn)(const kernel_in *in, const kernel_out *out);

/* The tile by `run`. straight: run may write into out, or add to it, which has t->m rows and t->n columns only. */
ALWAYS_INLINE void run_tile(kernel_fn run, const kernel_in *in, bool straight, const ml_ukr_tile *t) {
    const char *ahead = t->ahead ? t->ahead : (const char *)in->a; /* a line that is there already costs nothing */
    const int64_t step = t->ahead ? t->ahead_step : 0;
    if (t->acc_io && (t->acc_load || t->acc_store)) {
        const kernel_out out = {t->acc_io, NR, VW, t->acc_load, ahead, step};
        run(in, &out);
        if (!t->acc_store)
            epilogue(t, t->acc_io, NR);
        return;
    }
    /* The sums are the result, or are added to what out holds: no detour over memory. */
    bool onto_out = t->c_in.data == t->out.data && t->c_in.dtype == ML_F32 && t->c_in.rs == t->out.rs &&
                    t->c_in.cs == 1 && t->beta == 1.0f;
    if (straight && t->out.dtype == ML_F32 && t->out.cs == 1 && t->alpha == 1.0f && !t->bias.data &&
        t->activation == ML_ACT_NONE && (!t->c_in.data || onto_out)) {
        const kernel_out out = {t->out.data, t->out.rs, (int)((t->n - 1) % VW) + 1, t->c_in.data != NULL, ahead, step};
        run(in, &out);
        return;
    }
    float acc[MR][NR] __attribute__((aligned(64)));
    const kernel_out out = {acc[0], NR, VW, false, ahead, step};
    run(in, &out);
    epilogue(t, acc[0], NR);
}

#endif
