/* Kernels of the norms: rows of every length around a vector, all dtypes, large means, in place. */
#include "checkasm.h"

#include "device/cpu/norm.h"

#include <math.h>
#include <stdio.h>

static const ml_dtype dtypes[] = {ML_F32, ML_F16, ML_BF16};
enum { LONGEST = 1100 };

static int64_t next_length(int64_t n) {
    return n < 70 ? n + 1 : n < 260 ? n + 61 : n * 2 + 1;
}

typedef struct array {
    check_buffer memory;
    ml_dtype dtype;
    int64_t n;
} array;

static void array_alloc(array *a, ml_dtype dtype, int64_t n, double centre) {
    const size_t size = ml_dtype_size_of(dtype);
    a->dtype = dtype;
    a->n = n;
    check_alloc(&a->memory, (size_t)n * size, size);
    for (int64_t i = 0; i < n; i++)
        ml_store_element(dtype, a->memory.data + (size_t)i * size, centre + check_uniform());
}
static double array_get(const array *a, int64_t i) {
    return ml_load_element(a->dtype, a->memory.data + (size_t)i * ml_dtype_size_of(a->dtype));
}
static void array_free(array *a) {
    check_guards(&a->memory, "array");
    check_free(&a->memory);
}

static void expect(const char *what, double got, double want, double bound) {
    if (!check_close(got, want, bound))
        check_fail("%s: %.9g, not %.9g (bound %.3g)", what, got, want, bound);
}

static void check_sums(const ml_norm_impl *impl, ml_dtype dtype, int64_t n, double centre) {
    array x, r, s;
    check_begin("sums of %lld %s around %g", (long long)n, ml_dtype_name(dtype), centre);
    array_alloc(&x, dtype, n, centre);
    array_alloc(&r, dtype, n, 0.0);
    array_alloc(&s, dtype, n, 0.0);
    const double u = 0x1p-24 * (double)(n + 4);
    const float pivot = (float)centre;
    double sum = 0, magnitude = 0, squares = 0, d1 = 0, d2 = 0, dm = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = array_get(&x, i), d = v - (double)pivot;
        sum += v;
        magnitude += fabs(v);
        squares += v * v;
        d1 += d;
        dm += fabs(d);
        d2 += d * d;
    }
    float m[2];
    expect("sum", (double)impl->sum[dtype](x.memory.data, n), sum, u * magnitude);
    expect("squares", (double)impl->squares[dtype](x.memory.data, n), squares, u * squares);
    impl->moments[dtype](m, x.memory.data, n, pivot);
    expect("first moment", (double)m[0], d1, u * dm);
    expect("second moment", (double)m[1], d2, u * d2);

    const float got = impl->add_squares[dtype](s.memory.data, x.memory.data, r.memory.data, n);
    squares = 0;
    for (int64_t i = 0; i < n; i++) {
        float want;
        ml_store_element(dtype, &want, (double)((float)array_get(&x, i) + (float)array_get(&r, i)));
        const double v = ml_load_element(dtype, &want);
        squares += v * v;
        if (array_get(&s, i) != v)
            check_fail("sum with the residual at %lld: %g, not %g", (long long)i, array_get(&s, i), v);
    }
    expect("squares of the sum", (double)got, squares, u * squares);
    array_free(&x);
    array_free(&r);
    array_free(&s);
}

typedef struct form {
    bool centred, weighted, shifted, in_place;
} form;

static void check_map(const ml_norm_impl *impl, ml_dtype dtype, int64_t n, form f) {
    array x, y, w, b;
    check_begin("%s of %lld %s%s%s%s", f.centred ? "normalise" : "scale", (long long)n, ml_dtype_name(dtype),
                f.weighted ? " with weight" : "", f.shifted ? " with offset" : "", f.in_place ? " in place" : "");
    array_alloc(&x, dtype, n, 3.0);
    array_alloc(&y, dtype, n, 0.0);
    array_alloc(&w, ML_F32, n, 0.0);
    array_alloc(&b, ML_F32, n, 0.0);
    if (n > 2) /* what a row holds beside it must not become a number */
        ((float *)(void *)w.memory.data)[n / 2] = NAN;
    double before[LONGEST];
    for (int64_t i = 0; i < n; i++)
        before[i] = array_get(&x, i);
    array *to = f.in_place ? &x : &y;
    const ml_norm_map map = {.pivot = 3.0f,
                             .rest = 0.01f,
                             .scale = 0.7f,
                             .weight = f.weighted ? (const float *)(void *)w.memory.data : NULL,
                             .offset = f.shifted ? (const float *)(void *)b.memory.data : NULL};
    (f.centred ? impl->normalise : impl->scale)[dtype](to->memory.data, x.memory.data, n, &map);
    for (int64_t i = 0; i < n; i++) {
        double want = f.centred ? before[i] - 3.0 - (double)map.rest : before[i];
        double error = f.centred ? fabs(before[i] - 3.0) + fabs(want) : 0.0;
        want *= (double)map.scale;
        error += fabs(want);
        if (f.weighted) {
            const double weight = array_get(&w, i);
            want *= weight;
            error = error * fabs(weight) + fabs(want);
        }
        if (f.shifted)
            want += array_get(&b, i);
        const double bound = (2 * error + fabs(want)) * 0x1p-24;
        expect("element", array_get(to, i), want, bound + check_rounding(dtype, fabs(want) + bound));
    }
    array_free(&x);
    array_free(&y);
    array_free(&w);
    array_free(&b);
}

void check_norm(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    const ml_norm_impl *impl = row->impl;
    if (check_shares_table(row, ML_OP_LAYER_NORM))
        return;
    for (size_t d = 0; d < 3; d++) {
        for (int64_t n = 0; n <= LONGEST; n = next_length(n)) {
            check_sums(impl, dtypes[d], n, 0.0);
            check_sums(impl, dtypes[d], n, 512.0);
            for (int f = 0; f < 16; f++)
                check_map(impl, dtypes[d], n, (form){f & 1, f >> 1 & 1, f >> 2 & 1, f >> 3});
        }
    }
}

/* ---- benchmark --------------------------------------------------------------------------------------------------- */

enum { ROW = 896 };
typedef struct bench_case {
    const ml_norm_impl *impl;
    ml_dtype dtype;
    float x[ROW], y[ROW], w[ROW];
} bench_case;

static volatile float sink;

static void bench_sum(void *arg) {
    bench_case *b = arg;
    sink = b->impl->sum[b->dtype](b->x, ROW);
}
static void bench_squares(void *arg) {
    bench_case *b = arg;
    sink = b->impl->squares[b->dtype](b->x, ROW);
}
static void bench_moments(void *arg) {
    bench_case *b = arg;
    float m[2];
    b->impl->moments[b->dtype](m, b->x, ROW, 0.1f);
    sink = m[0];
}
static void bench_normalise(void *arg) {
    bench_case *b = arg;
    b->impl->normalise[b->dtype](b->y, b->x, ROW, &(ml_norm_map){0.1f, 0.01f, 0.7f, b->w, b->w});
}
static void bench_scale(void *arg) {
    bench_case *b = arg;
    b->impl->scale[b->dtype](b->y, b->x, ROW, &(ml_norm_map){0.0f, 0.0f, 0.7f, b->w, NULL});
}

void bench_norm(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    static const struct {
        const char *name;
        void (*fn)(void *);
    } kernels[] = {{"sum", bench_sum},
                   {"squares", bench_squares},
                   {"moments", bench_moments},
                   {"normalise", bench_normalise},
                   {"scale", bench_scale}};
    bench_case b = {.impl = row->impl};
    for (size_t d = 0; d < 3; d++) {
        b.dtype = dtypes[d];
        check_fill(b.dtype, b.x, ROW, 1, CHECK_RANDOM);
        check_fill(ML_F32, b.w, ROW, 1, CHECK_RANDOM);
        for (size_t k = 0; k < sizeof kernels / sizeof kernels[0]; k++) {
            char text[64];
            snprintf(text, sizeof text, "%s %s", kernels[k].name, ml_dtype_name(b.dtype));
            check_bench(text, kernels[k].fn, &b, ROW, "elements/ns");
        }
    }
}
