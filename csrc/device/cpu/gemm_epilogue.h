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
static void epilogue_any(const ml_ukr_tile *t, const float *acc, int64_t ld) {
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

/* The same where everything is of one dtype and its rows lie side by side; no activation. */
ALWAYS_INLINE void epilogue_of(const ml_ukr_tile *t, const float *acc, int64_t ld, const ml_dtype dtype) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype);
    const vf alpha = v_set1(t->alpha), beta = v_set1(t->c_in.data ? t->beta : 0.0f);
    const char *c = t->c_in.data, *bias = t->bias.data;
    char *out = t->out.data;
    for (int64_t i = 0; i < t->m; i++, acc += ld, out += t->out.rs * size) {
        for (int64_t j = 0; j < t->n; j += VW) {
            const int n = t->n - j < VW ? (int)(t->n - j) : VW;
            vf v = v_mul(alpha, v_load(acc + j));
            if (c)
                v = v_fma(beta, load_lanes(dtype, c + j * size, n), v);
            if (bias)
                v = v_add(v, load_lanes(dtype, bias + j * size, n));
            store_lanes(dtype, out + j * size, v, n);
        }
        c = c ? c + t->c_in.rs * size : NULL;
        bias = bias ? bias + t->bias.rs * size : NULL;
    }
}

static bool lies_like(const ml_mat *x, const ml_mat *out) {
    return !x->data || (x->cs == 1 && x->dtype == out->dtype);
}

static void epilogue_rows(const ml_ukr_tile *t, const float *acc, int64_t ld) {
    const bool plain = t->out.cs == 1 && t->activation == ML_ACT_NONE;
    if (!plain || !lies_like(&t->c_in, &t->out) || !lies_like(&t->bias, &t->out))
        epilogue_any(t, acc, ld);
    else if (t->out.dtype == ML_F16)
        epilogue_of(t, acc, ld, ML_F16);
    else if (t->out.dtype == ML_BF16)
        epilogue_of(t, acc, ld, ML_BF16);
    else
        epilogue_of(t, acc, ld, ML_F32);
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

/* What becomes of the sums of a tile: rounded to dtype and written, ldc bytes from row to row. */
typedef struct kernel_out {
    char *c;
    int64_t ldc;
    ml_dtype dtype;
    int tail;         /* lanes used of the last vector */
    const float *add; /* what is added to them first, add_ld floats from row to row; may be c; NULL: nothing */
    int64_t add_ld;
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

/* The lines of the first and the last elements of a tile's rows, or of its columns where those follow memory. */
ALWAYS_INLINE void fetch_tile(const ml_mat *x, int64_t m, int64_t n) {
    const int64_t size = (int64_t)ml_dtype_size_of(x->dtype);
    const bool turned = x->cs != 1 && x->rs == 1;
    const int64_t rows = turned ? n : m, step = (turned ? x->cs : x->rs) * size, last = ((turned ? m : n) - 1) * size;
    if (x->cs != 1 && !turned)
        return;
    for (int64_t i = 0; i < rows; i++) {
        __builtin_prefetch((const char *)x->data + i * step);
        __builtin_prefetch((const char *)x->data + i * step + last);
    }
}

/* What the epilogue will touch is on its way while the sums are made. */
ALWAYS_INLINE void fetch_operands(const ml_ukr_tile *t) {
    fetch_tile(&t->out, t->m, t->n);
    if (t->c_in.data && t->c_in.data != t->out.data)
        fetch_tile(&t->c_in, t->m, t->n);
}

/* The tile by `run`. straight: run may write into out, or add to it, which has t->m rows and t->n columns only. */
ALWAYS_INLINE void run_tile(kernel_fn run, const kernel_in *in, bool straight, const ml_ukr_tile *t) {
    float acc[MR][NR] __attribute__((aligned(64)));
    kernel_out out = {.c = t->acc_io ? (char *)t->acc_io : (char *)acc,
                      .ldc = NR * (int64_t)sizeof(float),
                      .dtype = ML_F32,
                      .tail = VW,
                      .add = t->acc_io && t->acc_load ? t->acc_io : NULL,
                      .add_ld = NR,
                      .ahead = t->ahead ? t->ahead : (const char *)in->a, /* what is there already costs nothing */
                      .ahead_step = t->ahead ? t->ahead_step : 0};
    if (t->acc_io && t->acc_store) {
        run(in, &out);
        return;
    }
    /* The sums are the result, or are added to what out holds: no detour over memory. */
    const bool onto_out = !out.add && t->c_in.data == t->out.data && t->out.dtype == ML_F32 &&
                          t->c_in.dtype == ML_F32 && t->c_in.rs == t->out.rs && t->c_in.cs == 1 && t->beta == 1.0f;
    if (straight && t->out.cs == 1 && t->alpha == 1.0f && !t->bias.data && t->activation == ML_ACT_NONE &&
        (!t->c_in.data || onto_out)) {
        out.c = t->out.data;
        out.ldc = t->out.rs * (int64_t)ml_dtype_size_of(t->out.dtype);
        out.dtype = t->out.dtype;
        out.tail = (int)((t->n - 1) % VW) + 1;
        if (onto_out) {
            out.add = t->c_in.data;
            out.add_ld = t->c_in.rs;
        }
        run(in, &out);
        return;
    }
    fetch_operands(t);
    run(in, &out);
    epilogue(t, (const float *)(const void *)out.c, NR);
}

#endif
