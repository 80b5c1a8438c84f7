/* Elementary functions of a tier against double precision: every f16 value and a grid over all floats. */
#include "checkasm.h"

#include "device/cpu/softmax.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    CHUNK = 4096,
    GRID_STEP = 4099 /* bit patterns between the points of the grid: about a million of them */
};

typedef struct function {
    const char *name;
    ml_vmath_fn fn;
    double (*reference)(double);
    double bound; /* in units in the last place */
    double limit; /* defined below this magnitude; 0: for every float */
} function;

typedef struct worst {
    double ulp;
    float at;
} worst;

/* The distance of floats around a value. */
static double ulp_of(double value) {
    int exponent;
    frexp(value, &exponent);
    return fabs(value) < 0x1p-126 ? 0x1p-149 : ldexp(1.0, exponent - 24);
}

/* Of 2 pi x, reduced exactly. */
static double sin_turns(double x) {
    const double part = remainder(x, 1.0); /* zeros at every half turn */
    return sin(6.28318530717958647693 * (fabs(part) > 0.25 ? copysign(0.5 - fabs(part), part) : part));
}
static double cos_turns(double x) { /* near a zero through the sine, which keeps the digits */
    const double part = fabs(remainder(x, 1.0));
    return fabs(part - 0.25) < 0.1 ? sin(6.28318530717958647693 * (0.25 - part)) : cos(6.28318530717958647693 * part);
}

static void compare(const function *f, float x, float got, worst *w) {
    if (f->limit > 0.0 && !((double)fabsf(x) < f->limit))
        return;
    const double want = f->reference((double)x);
    if (isnan(want) || isinf((float)want) || isinf(got)) {
        /* Next to the overflow threshold either is right. */
        const bool near = fabs(want) > (double)0x1.fffffcp127f && fabs(want) < (double)0x1.fffffep127f * (1 + 1e-6);
        if (!near && !check_same((double)got, (double)(float)want))
            check_fail("%s(%a) = %a, not %a", f->name, (double)x, (double)got, want);
        return;
    }
    const double error = fabs((double)got - want) / ulp_of(want);
    if (!(error <= w->ulp))
        *w = (worst){error, x};
}

static void run(const function *f, const float *in, int64_t n, worst *w) {
    float out[CHUNK];
    f->fn(out, in, n);
    for (int64_t i = 0; i < n; i++)
        compare(f, in[i], out[i], w);
}

static void check_function(const function *f) {
    float in[CHUNK];
    worst w = {0.0, 0.0f};
    int64_t n = 0;
    check_begin("%s, every f16 value", f->name);
    for (uint32_t h = 0; h < 65536; h++) {
        in[n++] = ml_half_to_float((uint16_t)h);
        if (n == CHUNK) {
            run(f, in, n, &w);
            n = 0;
        }
    }
    check_begin("%s, a grid over the floats", f->name);
    const uint64_t first = check_rand() % GRID_STEP;
    for (uint64_t bits = first; bits < (UINT64_C(1) << 32); bits += GRID_STEP) {
        in[n++] = ml_float_from_bits((uint32_t)bits);
        if (n == CHUNK || bits + GRID_STEP >= (UINT64_C(1) << 32)) {
            run(f, in, n, &w);
            n = 0;
        }
    }
    if (!(w.ulp <= f->bound))
        check_fail("%.3f ulp at %a; the bound is %.2f", w.ulp, (double)w.at, f->bound);
    printf("  %-6s at most %.3f ulp, at %a (bound %.2f)\n", f->name, w.ulp, (double)w.at, f->bound);
}

/* Lengths that are no multiple of a vector, in place, guards. */
static void check_lengths(const function *f) {
    for (int64_t n = 0; n <= 67; n++) {
        check_begin("%s, %lld elements", f->name, (long long)n);
        check_buffer buffer;
        check_alloc(&buffer, (size_t)n * sizeof(float), sizeof(float));
        float *x = (float *)(void *)buffer.data, before[67];
        for (int64_t i = 0; i < n; i++)
            before[i] = x[i] = (float)(fabs(check_uniform()) + 0.1);
        f->fn(x, x, n);
        worst w = {0.0, 0.0f};
        for (int64_t i = 0; i < n; i++)
            compare(f, before[i], x[i], &w);
        if (!(w.ulp <= f->bound))
            check_fail("%.3f ulp at %a", w.ulp, (double)w.at);
        check_guards(&buffer, "array");
        check_free(&buffer);
    }
}

void check_vmath(const ml_vmath_impl *impl) {
    const function functions[] = {{"exp2", impl->exp2, exp2, ML_VMATH_ULP_EXP2, 0.0},
                                  {"exp2_low", impl->exp2_low, exp2, ML_VMATH_ULP_EXP2_LOW, ML_VMATH_EXP2_LOW_LIMIT},
                                  {"exp", impl->exp, exp, ML_VMATH_ULP_EXP, 0.0},
                                  {"log", impl->log, log, ML_VMATH_ULP_LOG, 0.0},
                                  {"tanh", impl->tanh, tanh, ML_VMATH_ULP_TANH, 0.0},
                                  {"erf", impl->erf, erf, ML_VMATH_ULP_ERF, 0.0},
                                  {"sin_turns", impl->sin_turns, sin_turns, ML_VMATH_ULP_SIN, 0x1p20},
                                  {"cos_turns", impl->cos_turns, cos_turns, ML_VMATH_ULP_COS, 0x1p20}};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        check_function(&functions[i]);
        check_lengths(&functions[i]);
    }
}

typedef struct bench_case {
    ml_vmath_fn fn;
    float in[512], out[512];
} bench_case;

static void bench_one(void *arg) {
    bench_case *b = arg;
    b->fn(b->out, b->in, 512);
}

void bench_vmath(const ml_vmath_impl *impl) {
    static const char *const names[] = {"exp2", "exp2_low", "exp", "log", "tanh", "erf", "sin_turns", "cos_turns"};
    const ml_vmath_fn fns[] = {impl->exp2, impl->exp2_low, impl->exp,       impl->log,
                               impl->tanh, impl->erf,      impl->sin_turns, impl->cos_turns};
    bench_case b;
    for (int i = 0; i < 512; i++)
        b.in[i] = (float)(fabs(check_uniform()) * 4 + 0.1);
    for (size_t i = 0; i < sizeof fns / sizeof fns[0]; i++) {
        b.fn = fns[i];
        check_bench(names[i], bench_one, &b, 512, "elements/ns");
    }
}
