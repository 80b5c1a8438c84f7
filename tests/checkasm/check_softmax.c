/* Kernels of softmax: rows of every length around a vector, masks, columns. */
#include "checkasm.h"

#include "device/cpu/softmax.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void check_vmath(const ml_vmath_impl *impl);
void bench_vmath(const ml_vmath_impl *impl);

static const ml_dtype dtypes[] = {ML_F32, ML_F16, ML_BF16};

static int64_t next_length(int64_t n) {
    return n < 70 ? n + 1 : n < 260 ? n + 61 : n * 2 + 1;
}
enum { LONGEST = 2200 };

typedef struct arrays {
    check_buffer a, b, c;
    float *x, *y;
} arrays;

static void arrays_alloc(arrays *s, int64_t n, check_values values) {
    check_alloc(&s->a, (size_t)n * sizeof(float), sizeof(float));
    check_alloc(&s->b, (size_t)n * sizeof(float), sizeof(float));
    check_alloc(&s->c, (size_t)n * sizeof(float), sizeof(float));
    s->x = (float *)(void *)s->a.data;
    s->y = (float *)(void *)s->b.data;
    check_fill(ML_F32, s->x, n, 1, values);
    memcpy(s->y, s->x, (size_t)n * sizeof(float));
}

static void arrays_free(arrays *s) {
    check_guards(&s->a, "first array");
    check_guards(&s->b, "second array");
    check_guards(&s->c, "third array");
    check_free(&s->a);
    check_free(&s->b);
    check_free(&s->c);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void check_leading(const ml_softmax_impl *impl, int64_t n, check_values values) {
    arrays s;
    check_begin("largest, %lld %s", (long long)n, check_values_name(values));
    arrays_alloc(&s, n, values);
    float high = -INFINITY, low = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        high = s.x[i] > high ? s.x[i] : high;
        low = s.x[i] < low ? s.x[i] : low;
    }
    const float got_high = impl->largest[ML_F32](s.x, n), got_low = impl->smallest[ML_F32](s.x, n);
    if (got_high != high)
        check_fail("largest %g, not %g", (double)got_high, (double)high);
    if (got_low != low)
        check_fail("smallest %g, not %g", (double)got_low, (double)low);
    arrays_free(&s);
}

/* The weight's own error is 2 ulp; its argument has two roundings, each of up to 2^-24 of it; by look-up it may vanish
 * early. */
static double weight_error(const ml_softmax_impl *impl, double argument, double weight) {
    return weight * 0x1p-23 * (ML_VMATH_ULP_EXP2_LOW + fabs(argument)) + (impl->shifts ? 0x1p-126 : 0x1p-149);
}

/* Scores s.x of a dtype, some far below the others, one of them hidden; the leading one. */
static float make_scores(arrays *s, void *typed, ml_dtype dtype, int64_t n, float hidden) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype);
    float lead = hidden;
    for (int64_t i = 0; i < n; i++) {
        char *at = (char *)typed + i * size;
        const double value = (double)s->x[i] * (check_rand() % 8 ? 10.0 : 300.0);
        ml_store_element(dtype, at, n > 2 && i == n / 2 ? (double)hidden : value);
        s->x[i] = (float)ml_load_element(dtype, at);
        lead = hidden < 0.0f ? fmaxf(lead, s->x[i]) : fminf(lead, s->x[i]);
    }
    return lead;
}

/* Weights relative to the leading score, or to one `above` powers of two below it. */
static void check_exp(const ml_softmax_impl *impl, int64_t n, ml_dtype dtype, float factor, bool far, float above) {
    arrays s;
    check_begin("exp, %lld %s, factor %g%s, %g", (long long)n, ml_dtype_name(dtype), (double)factor, far ? ", far" : "",
                (double)above);
    arrays_alloc(&s, n, CHECK_RANDOM);
    check_buffer typed;
    check_alloc(&typed, (size_t)n * ml_dtype_size_of(dtype), ml_dtype_size_of(dtype));
    const float hidden = factor < 0 ? INFINITY : -INFINITY, lead = make_scores(&s, typed.data, dtype, n, hidden);
    if ((factor < 0 ? impl->smallest : impl->largest)[dtype](typed.data, n) != lead)
        check_fail("the leading score is %g", (double)lead);
    const float base = lead == hidden ? 0.0f : lead;
    ml_softmax_weight w = {base - above / factor, 0.0f, factor, hidden};
    if (impl->shifts && !far)
        w = (ml_softmax_weight){0.0f, rintf(base * factor) - above, factor, hidden};
    double total = 0.0, error = 0.0;
    const float sum = impl->exp[dtype](s.y, typed.data, n, &w), only = impl->sum_exp(s.x, n, &w);
    for (int64_t i = 0; i < n && above <= ML_SOFTMAX_HIGHEST; i++) {
        const double argument = ((double)s.x[i] - (double)w.base) * (double)factor - (double)w.shift;
        const double want = exp2(argument), bound = isinf(argument) ? 0.0 : weight_error(impl, argument, want);
        if (!check_close((double)s.y[i], want, bound))
            check_fail("element %lld: %g, not %g", (long long)i, (double)s.y[i], want);
        total += want;
        error += bound;
    }
    if (above > ML_SOFTMAX_HIGHEST) {
        if (lead != hidden &&
            ((sum >= 0.0f && sum <= ML_SOFTMAX_SUM_LIMIT) || (only >= 0.0f && only <= ML_SOFTMAX_SUM_LIMIT)))
            check_fail("sums %g and %g", (double)sum, (double)only);
    } else if (!check_close((double)sum, total, error + (double)n * 0x1p-24 * total) || sum != only) {
        check_fail("sums %.9g and %.9g, not %.9g", (double)sum, (double)only, total);
    }
    const float last = n > 0 ? s.x[n - 1] : 0.0f;
    for (int sign = 0; n > 0 && sign < 2; sign++) { /* a NaN stays one, wherever it is */
        s.x[n - 1] = sign ? -NAN : NAN;
        const float spoilt = impl->sum_exp(s.x, n, &w);
        if (above <= ML_SOFTMAX_HIGHEST && !isnan(spoilt))
            check_fail("a NaN was lost");
        s.x[n - 1] = last;
    }
    impl->exp[ML_F32](s.x, s.x, n, &w);
    if (above <= ML_SOFTMAX_HIGHEST && memcmp(s.x, s.y, (size_t)n * sizeof(float)) != 0)
        check_fail("in place differs");
    check_guards(&typed, "scores");
    check_free(&typed);
    arrays_free(&s);
}

static void check_results(const ml_softmax_impl *impl, const ml_softmax_impl *reference, int64_t n, ml_dtype dtype) {
    arrays s;
    check_begin("scale and log, %lld, %s", (long long)n, ml_dtype_name(dtype));
    arrays_alloc(&s, n, CHECK_RANDOM);
    const size_t bytes = (size_t)n * ml_dtype_size_of(dtype);
    check_buffer got;
    check_alloc(&got, bytes, ml_dtype_size_of(dtype));
    for (int kind = 0; kind < 2; kind++) {
        const float constants[3] = {0.25f, 1.5f, 3.0f};
        for (int64_t i = 0; i < n; i++)
            s.x[i] = fabsf(s.x[i]);
        if (kind == 0) {
            impl->scale[dtype](got.data, s.x, n, 0.37f);
            reference->scale[dtype](s.c.data, s.x, n, 0.37f);
        } else {
            impl->log[dtype](got.data, s.x, n, constants);
            reference->log[dtype](s.c.data, s.x, n, constants);
        }
        if (memcmp(got.data, s.c.data, bytes) != 0)
            check_fail("%s differs from the reference", kind == 0 ? "scale" : "log");
        check_guards(&got, "result");
    }
    check_free(&got);
    arrays_free(&s);
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

static void check_hide(const ml_softmax_impl *impl, int64_t n) {
    arrays s;
    check_begin("hide, %lld", (long long)n);
    arrays_alloc(&s, n, CHECK_EXTREME);
    check_buffer seen;
    check_alloc(&seen, (size_t)n, 1);
    for (int64_t i = 0; i < n; i++)
        seen.data[i] = (unsigned char)(check_rand() & 1);
    impl->hide(s.x, seen.data, n, -INFINITY);
    for (int64_t i = 0; i < n; i++)
        if (!check_same((double)s.x[i], seen.data[i] ? (double)s.y[i] : -(double)INFINITY))
            check_fail("element %lld: %g", (long long)i, (double)s.x[i]);
    check_guards(&seen, "mask");
    check_free(&seen);
    arrays_free(&s);
}

static void check_add(const ml_softmax_impl *impl, int64_t n, ml_dtype dtype, check_values values) {
    arrays s;
    check_begin("add, %lld %s, %s", (long long)n, ml_dtype_name(dtype), check_values_name(values));
    arrays_alloc(&s, n, values);
    check_buffer mask;
    check_alloc(&mask, (size_t)n * ml_dtype_size_of(dtype), ml_dtype_size_of(dtype));
    check_fill(dtype, mask.data, n, 1, CHECK_EXTREME);
    impl->add[dtype](s.x, mask.data, n, 0.7f);
    for (int64_t i = 0; i < n; i++) {
        const double m = ml_load_element(dtype, mask.data + (size_t)i * ml_dtype_size_of(dtype));
        const double product = (double)s.y[i] * (double)0.7f, want = m == -(double)INFINITY ? m : product + m;
        const double bound = isfinite(want) ? (fabs(product) + fabs(want)) * 0x1p-24 + 0x1p-149 : 0.0;
        if (!check_close((double)s.x[i], want, bound))
            check_fail("element %lld: %g, not %g", (long long)i, (double)s.x[i], want);
    }
    check_guards(&mask, "mask");
    check_free(&mask);
    arrays_free(&s);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

static void check_columns(const ml_softmax_impl *impl, const ml_softmax_impl *reference, int64_t rows, int64_t cols) {
    const int64_t ld = cols + 5, n = rows * ld;
    arrays s;
    check_begin("columns, %lld x %lld", (long long)rows, (long long)cols);
    arrays_alloc(&s, n, CHECK_RANDOM);
    float best[ML_SOFTMAX_COLS], low[ML_SOFTMAX_COLS], sum[ML_SOFTMAX_COLS] = {0}, again[ML_SOFTMAX_COLS] = {0};
    for (int c = 0; c < ML_SOFTMAX_COLS; c++) {
        best[c] = -INFINITY;
        low[c] = INFINITY;
    }
    const ml_softmax_tile t = {s.x, ld, rows, cols};
    impl->columns_largest(best, &t);
    impl->columns_smallest(low, &t);
    impl->columns_exp(sum, s.y, ld, &t, best, 1.25f);
    impl->columns_exp(again, NULL, 0, &t, best, 1.25f);
    for (int64_t c = 0; c < cols; c++) {
        float high = -INFINITY, least = INFINITY;
        double total = 0.0;
        for (int64_t r = 0; r < rows; r++) {
            const float v = s.x[r * ld + c];
            high = v > high ? v : high;
            least = v < least ? v : least;
            const double argument = ((double)v - (double)best[c]) * 1.25, want = exp2(argument);
            total += want;
            if (!check_close((double)s.y[r * ld + c], want, weight_error(impl, argument, want)))
                check_fail("weight (%lld, %lld): %g, not %g", (long long)r, (long long)c, (double)s.y[r * ld + c],
                           want);
        }
        if (best[c] != high || low[c] != least || sum[c] != again[c] ||
            !check_close((double)sum[c], total, (double)(rows + 8) * 0x1p-22 * total))
            check_fail("column %lld: largest %g, smallest %g, sum %g, not %g", (long long)c, (double)best[c],
                       (double)low[c], (double)sum[c], total);
    }
    for (size_t d = 0; rows > 0 && d < 3; d++) {
        for (int64_t used = 1; used <= cols; used += 3) {
            check_buffer got;
            const size_t bytes = (size_t)used * ml_dtype_size_of(dtypes[d]);
            float want[ML_SOFTMAX_COLS];
            check_alloc(&got, bytes, ml_dtype_size_of(dtypes[d]));
            impl->columns_scale[dtypes[d]](got.data, s.y, sum, used);
            reference->columns_scale[dtypes[d]](want, s.y, sum, used);
            if (memcmp(got.data, want, bytes) != 0)
                check_fail("scale of %lld %s differs from the reference", (long long)used, ml_dtype_name(dtypes[d]));
            check_guards(&got, "result");
            check_free(&got);
        }
    }
    arrays_free(&s);
}

void check_softmax(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    const ml_softmax_impl *impl = row->impl, *ref = reference->impl;
    for (int64_t n = 0; n <= LONGEST; n = next_length(n)) {
        for (int v = 0; v < CHECK_VALUES_COUNT; v++)
            check_leading(impl, n, (check_values)v);
        for (size_t d = 0; d < 3; d++) {
            for (int far = 0; far < 2; far++) {
                check_exp(impl, n, dtypes[d], 1.4426950f, far, 0.0f);
                check_exp(impl, n, dtypes[d], -0.5f, far, 0.0f);
            }
            check_exp(impl, n, dtypes[d], 1.4426950f, false, 50.0f);
            check_exp(impl, n, dtypes[d], 1.4426950f, false, 80.0f);
            check_exp(impl, n, dtypes[d], -1.4426950f, false, 135.0f);
            check_exp(impl, n, dtypes[d], 1.4426950f, false, 60000.0f);
        }
        check_hide(impl, n);
        for (size_t d = 0; d < 3; d++) {
            check_results(impl, ref, n, dtypes[d]);
            check_add(impl, n, dtypes[d], CHECK_RANDOM);
            check_add(impl, n, dtypes[d], CHECK_EXTREME);
        }
    }
    for (int64_t rows = 0; rows < 40; rows += 1 + rows / 3)
        for (int64_t cols = ML_SOFTMAX_GROUP; cols <= ML_SOFTMAX_COLS; cols += ML_SOFTMAX_GROUP)
            check_columns(impl, ref, rows, cols);
    if (row->family == ML_SOFTMAX_VEC) /* the table is the same in both rows of a tier */
        check_vmath(impl->math);
}

/* ---- benchmark --------------------------------------------------------------------------------------------------- */

typedef struct bench_case {
    const ml_softmax_impl *impl;
    ml_dtype dtype;
    float in[512], out[512];
} bench_case;

static volatile float sink;

static void bench_largest(void *arg) {
    bench_case *b = arg;
    sink = b->impl->largest[ML_F32](b->in, 512);
}
static void bench_exp(void *arg) {
    bench_case *b = arg;
    const ml_softmax_weight w = {0.0f, 1.0f, 1.44f, -INFINITY};
    sink = b->impl->exp[b->dtype](b->out, b->in, 512, &w);
}
static void bench_scale(void *arg) {
    bench_case *b = arg;
    b->impl->scale[b->dtype](b->out, b->in, 512, 0.5f);
}

void bench_softmax(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    bench_case b = {.impl = row->impl};
    check_fill(ML_F32, b.in, 512, 1, CHECK_RANDOM);
    check_bench("largest", bench_largest, &b, 512, "elements/ns");
    for (size_t d = 0; d < 3; d++) {
        b.dtype = dtypes[d];
        char name[32];
        snprintf(name, sizeof name, "exp of %s", ml_dtype_name(b.dtype));
        check_fill(b.dtype, b.in, 512, 1, CHECK_RANDOM);
        check_bench(name, bench_exp, &b, 512, "elements/ns");
        check_fill(ML_F32, b.in, 512, 1, CHECK_RANDOM);
        snprintf(name, sizeof name, "scale to %s", ml_dtype_name(b.dtype));
        check_bench(name, bench_scale, &b, 512, "elements/ns");
    }
    if (row->family == ML_SOFTMAX_VEC)
        bench_vmath(b.impl->math);
}
