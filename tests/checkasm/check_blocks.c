/* Kernels of GELU, SiLU, SwiGLU and of rotary positions: every f16 and bf16 value, a grid over the floats, lengths. */
#include "checkasm.h"

#include "device/cpu/activate.h"
#include "device/cpu/rope.h"
#include "device/cpu/vmath_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const ml_dtype dtypes[] = {ML_F32, ML_F16, ML_BF16};

/* ---- activations ------------------------------------------------------------------------------------------------- */

static const struct {
    ml_activation act;
    const char *name;
    double ulp, tail; /* ML_ACTIVATE_ULP_..., and what each unit of x^2 adds where x is negative */
} functions[] = {{ML_ACT_GELU, "gelu", ML_ACTIVATE_ULP_GELU, ML_ACTIVATE_TAIL_GELU},
                 {ML_ACT_GELU_TANH, "gelu_tanh", ML_ACTIVATE_ULP_GELU_TANH, ML_ACTIVATE_TAIL_GELU_TANH},
                 {ML_ACT_SILU, "silu", ML_ACTIVATE_ULP_SILU, 0.0}};
enum { FUNCTIONS = sizeof functions / sizeof functions[0], CHUNK = 1024, GRID_STEP = 4001 };

static double want_of(ml_activation act, double x) {
    if (x == -(double)INFINITY)
        return 0.0;
    switch (act) {
    case ML_ACT_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752440);
    case ML_ACT_GELU_TANH:
        return x / (1.0 + exp(-1.5957691216057307117 * (x + 0.044715 * x * x * x)));
    default:
        return x / (1.0 + exp(-x));
    }
}

static double bound_of(int f, ml_dtype dtype, double x, double want) {
    const double units = functions[f].ulp + (x < 0.0 ? functions[f].tail * x * x : 0.0);
    const double lost = isfinite(x) ? fabs(x) * 0x1p-149 : 0.0, size = fmax(fabs(want), 0x1p-126);
    return units * size * 0x1p-23 + lost + (dtype == ML_F32 ? 0.0 : size * ML_ACTIVATE_SHORT);
}

static void compare(int f, ml_dtype dtype, const void *x, const void *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * ml_dtype_size_of(dtype);
        const double from = ml_load_element(dtype, (const char *)x + at);
        const double got = ml_load_element(dtype, (const char *)y + at), want = want_of(functions[f].act, from);
        const double error = bound_of(f, dtype, from, want);
        if (!check_close(got, want, error + check_rounding(dtype, fabs(want) + error)))
            check_fail("%s(%a) = %a, not %a", functions[f].name, from, got, want);
    }
}

/* Every value of a 16-bit dtype, or every GRID_STEP-th float. */
static void check_values_of(const ml_activate_impl *impl, int f, ml_dtype dtype) {
    float x[CHUNK], y[CHUNK];
    check_begin("%s of all %s", functions[f].name, ml_dtype_name(dtype));
    const uint64_t step = dtype == ML_F32 ? GRID_STEP : 1, end = dtype == ML_F32 ? UINT64_C(1) << 32 : 1 << 16;
    int64_t n = 0;
    for (uint64_t bits = dtype == ML_F32 ? check_rand() % GRID_STEP : 0; bits < end; bits += step) {
        if (dtype == ML_F32) {
            const uint32_t pattern = (uint32_t)bits;
            memcpy(&x[n++], &pattern, 4);
        } else {
            const uint16_t pattern = (uint16_t)bits;
            memcpy((uint16_t *)(void *)x + n++, &pattern, 2);
        }
        if (n < CHUNK && bits + step < end)
            continue;
        impl->rows[functions[f].act][dtype](&(ml_activate_row){y, x, NULL, n});
        compare(f, dtype, x, y, n);
        n = 0;
    }
}

static void check_lengths(const ml_activate_impl *impl, int f, ml_dtype dtype) {
    const size_t size = ml_dtype_size_of(dtype);
    for (int64_t n = 0; n <= 70; n++) {
        for (int gated = 0; gated < 2; gated++) {
            check_begin("%s of %lld %s%s", functions[f].name, (long long)n, ml_dtype_name(dtype),
                        gated ? ", gated" : "");
            check_buffer x, up, y;
            check_alloc(&x, (size_t)n * size, size);
            check_alloc(&up, (size_t)n * size, size);
            check_alloc(&y, (size_t)n * size, size);
            check_fill(dtype, x.data, n, 1, CHECK_RANDOM);
            check_fill(dtype, up.data, n, 1, CHECK_RANDOM);
            impl->rows[functions[f].act][dtype](&(ml_activate_row){y.data, x.data, gated ? up.data : NULL, n});
            for (int64_t i = 0; i < n; i++) {
                const double from = ml_load_element(dtype, x.data + (size_t)i * size);
                const double by = gated ? ml_load_element(dtype, up.data + (size_t)i * size) : 1.0;
                const double want = want_of(functions[f].act, from) * by;
                const double error = bound_of(f, dtype, from, want) + fabs(want) * 0x1p-24;
                const double got = ml_load_element(dtype, y.data + (size_t)i * size);
                if (!check_close(got, want, error + check_rounding(dtype, fabs(want) + error)))
                    check_fail("element %lld: %a, not %a", (long long)i, got, want);
            }
            memcpy(up.data, y.data, (size_t)n * size); /* in place */
            if (!gated) {
                impl->rows[functions[f].act][dtype](&(ml_activate_row){x.data, x.data, NULL, n});
                if (memcmp(x.data, up.data, (size_t)n * size) != 0)
                    check_fail("in place it differs");
            }
            check_guards(&x, "x");
            check_guards(&up, "up");
            check_guards(&y, "y");
            check_free(&x);
            check_free(&up);
            check_free(&y);
        }
    }
}

void check_activate(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    if (check_shares_table(row, ML_OP_GELU))
        return;
    for (int f = 0; f < FUNCTIONS; f++) {
        for (size_t d = 0; d < 3; d++) {
            check_values_of(row->impl, f, dtypes[d]);
            check_lengths(row->impl, f, dtypes[d]);
        }
    }
}

typedef struct activate_bench {
    ml_activate_fn fn;
    ml_activate_row row;
} activate_bench;

static void bench_row(void *arg) {
    activate_bench *b = arg;
    b->fn(&b->row);
}

void bench_activate(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    const ml_activate_impl *impl = row->impl;
    static float x[CHUNK], y[CHUNK];
    for (int f = 0; f < FUNCTIONS; f++) {
        for (size_t d = 0; d < 3; d++) {
            char text[64];
            check_fill(dtypes[d], x, CHUNK, 1, CHECK_RANDOM);
            activate_bench b = {impl->rows[functions[f].act][dtypes[d]], {y, x, NULL, CHUNK}};
            snprintf(text, sizeof text, "%s %s", functions[f].name, ml_dtype_name(dtypes[d]));
            check_bench(text, bench_row, &b, CHUNK, "elements/ns");
        }
    }
}

/* ---- rotary positions -------------------------------------------------------------------------------------------- */

enum { PAIRS = 70 };

static void check_factors(const ml_rope_impl *impl, bool interleaved, int64_t n, double position) {
    check_begin("factors%s, %lld pairs at %g", interleaved ? " interleaved" : "", (long long)n, position);
    double turns[PAIRS];
    for (int64_t i = 0; i < n; i++)
        turns[i] = exp(-(double)i / 8.0) / 6.28318530717958647693;
    const int64_t each = interleaved ? 2 : 1;
    check_buffer own, other;
    check_alloc(&own, (size_t)(n * each) * sizeof(float), sizeof(float));
    check_alloc(&other, (size_t)(n * each) * sizeof(float), sizeof(float));
    const ml_rope_factors f = {(float *)(void *)own.data, (float *)(void *)other.data};
    impl->factors[interleaved](&f, turns, position, n);
    for (int64_t i = 0; i < n * each; i++) {
        const double angle = remainder(position * turns[i / each], 1.0) * 6.28318530717958647693;
        const double c = cos(angle), s = interleaved && i % 2 == 0 ? -sin(angle) : sin(angle);
        /* The angle is rounded once, as a part of a turn. */
        const double turned = (fabs(angle) * 0x1p-24) + 0x1p-60;
        if (!check_close((double)f.own[i], c, 2 * check_rounding(ML_F32, c) * ML_VMATH_ULP_COS + turned) ||
            !check_close((double)f.other[i], s, 2 * check_rounding(ML_F32, s) * ML_VMATH_ULP_SIN + turned))
            check_fail("%lld: %.9g %.9g, not %.9g %.9g", (long long)i, (double)f.own[i], (double)f.other[i], c, s);
    }
    check_guards(&own, "cosines");
    check_guards(&other, "sines");
    check_free(&own);
    check_free(&other);
}

static void check_rotation(const ml_rope_impl *impl, bool interleaved, ml_dtype dtype, int64_t n) {
    check_begin("rotation%s of %lld pairs of %s", interleaved ? " interleaved" : "", (long long)n,
                ml_dtype_name(dtype));
    const size_t size = ml_dtype_size_of(dtype);
    float own[2 * PAIRS], other[2 * PAIRS];
    double turns[PAIRS], before[2 * PAIRS];
    for (int64_t i = 0; i < n; i++)
        turns[i] = 0.003 * (double)(i + 1);
    const ml_rope_factors f = {own, other};
    impl->factors[interleaved](&f, turns, 7.0, n);
    check_buffer x;
    check_alloc(&x, (size_t)(2 * n) * size, size);
    check_fill(dtype, x.data, 2 * n, 1, CHECK_RANDOM);
    for (int64_t i = 0; i < 2 * n; i++)
        before[i] = ml_load_element(dtype, x.data + (size_t)i * size);
    impl->rotate[interleaved][dtype](x.data, x.data, &f, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = interleaved ? 2 * i : i, q = interleaved ? 2 * i + 1 : n + i;
        const double c = (double)own[interleaved ? p : i], s = (double)other[interleaved ? q : i];
        const double want[2] = {before[p] * c - before[q] * s, before[p] * s + before[q] * c};
        const double error = (fabs(before[p]) + fabs(before[q])) * 0x1p-22;
        for (int k = 0; k < 2; k++) {
            const double got = ml_load_element(dtype, x.data + (size_t)(k ? q : p) * size);
            if (!check_close(got, want[k], error + check_rounding(dtype, fabs(want[k]) + error)))
                check_fail("element %d of pair %lld: %.9g, not %.9g", k, (long long)i, got, want[k]);
        }
    }
    check_guards(&x, "array");
    check_free(&x);
}

void check_rope(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        for (int64_t n = 0; n <= PAIRS; n++) {
            static const double positions[] = {0.0, 1.0, -3.0, 511.5, 1e6};
            for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++)
                check_factors(row->impl, interleaved, n, positions[i]);
            for (size_t d = 0; d < 3; d++)
                check_rotation(row->impl, interleaved, dtypes[d], n);
        }
    }
}

typedef struct rope_bench {
    const ml_rope_impl *impl;
    bool interleaved;
    ml_dtype dtype;
    double turns[32];
    float own[64], other[64], x[64];
} rope_bench;

static void bench_factors(void *arg) {
    rope_bench *b = arg;
    b->impl->factors[b->interleaved](&(ml_rope_factors){b->own, b->other}, b->turns, 77.0, 32);
}
static void bench_rotate(void *arg) {
    rope_bench *b = arg;
    b->impl->rotate[b->interleaved][b->dtype](b->x, b->x, &(ml_rope_factors){b->own, b->other}, 32);
}

void bench_rope(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    rope_bench b = {.impl = row->impl};
    for (int i = 0; i < 2; i++) {
        b.interleaved = i;
        check_bench(i ? "factors, interleaved" : "factors", bench_factors, &b, 32, "pairs/ns");
        for (size_t d = 0; d < 3; d++) {
            b.dtype = dtypes[d];
            check_bench(ml_dtype_name(b.dtype), bench_rotate, &b, 64, "elements/ns");
        }
    }
}
