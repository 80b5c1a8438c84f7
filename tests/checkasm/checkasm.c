/* The walk over the kernel table, and what the checkers share. See checkasm.h. */
#include "model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* One line per kernel kind. The softmax of attention scores, which knows sinks, is the attention's. */
static const struct {
    ml_op_kind op;
    int family;
    check_fn check, bench;
    uint32_t sinks;
} checkers[] = {
    {ML_OP_MATMUL, ML_BACKEND_MLX, check_gemm, bench_gemm, 0},
    {ML_OP_MATMUL, ML_BACKEND_GEMV, check_gemv, bench_gemv, 0},
    {ML_OP_SOFTMAX, ML_SOFTMAX_VEC, check_softmax, bench_softmax, 0},
    {ML_OP_SOFTMAX, ML_SOFTMAX_BLOCK, check_softmax, bench_softmax, 0},
    {ML_OP_SOFTMAX, ML_SOFTMAX_VEC, check_sdpa, bench_sdpa, ML_SUP_SINKS},
    {ML_OP_SOFTMAX, ML_SOFTMAX_BLOCK, check_sdpa, bench_sdpa, ML_SUP_SINKS},
    {ML_OP_SDPA, ML_SDPA_VECTOR, check_sdpa, bench_sdpa, ML_SUP_SINKS},
    {ML_OP_SDPA, ML_SDPA_TILED, check_sdpa, bench_sdpa, ML_SUP_SINKS},
    {ML_OP_LAYER_NORM, 0, check_norm, bench_norm, 0},
    {ML_OP_RMS_NORM, 0, check_norm, bench_norm, 0},
    {ML_OP_GELU, 0, check_activate, bench_activate, 0},
    {ML_OP_SILU, 0, check_activate, bench_activate, 0},
    {ML_OP_SWIGLU, 0, check_activate, bench_activate, 0},
    {ML_OP_ROPE, 0, check_rope, bench_rope, 0},
    {ML_OP_BINARY, 0, check_elementwise, bench_elementwise, 0},
    {ML_OP_COPY, 0, check_elementwise, bench_elementwise, 0},
};

static struct {
    char kernel[64], name[256]; /* the row and case at work */
    int64_t passed, failed, messages;
    bool in_case, case_failed;
    uint64_t random[2];
    int (*entered)(void); /* of the model at work */
    sigjmp_buf on_signal;
    volatile sig_atomic_t signal;
} state;

/* Failure messages printed per row; the count goes on. */
#define MAX_MESSAGES 20

/* ---- cases ---- */

static void end_case(void) {
    if (!state.in_case)
        return;
    const int entered = state.entered ? state.entered() : 0;
    if (entered != 0)
        check_fail("%d threads have left registers set up", entered);
    if (state.case_failed)
        state.failed++;
    else
        state.passed++;
    state.in_case = state.case_failed = false;
}

void check_begin(const char *format, ...) {
    end_case();
    va_list args;
    va_start(args, format);
    vsnprintf(state.name, sizeof state.name, format, args);
    va_end(args);
    state.in_case = true;
}

void check_fail(const char *format, ...) {
    state.case_failed = true;
    if (++state.messages > MAX_MESSAGES)
        return;
    printf("FAILED %s: %s: ", state.kernel, state.name);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void on_signal(int number) {
    state.signal = number;
    siglongjmp(state.on_signal, 1);
}

/* Runs fn for a row; a signal ends it as one failed case. */
static void guarded(check_fn fn, const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    snprintf(state.kernel, sizeof state.kernel, "%s", row->name);
    state.messages = 0;
    if (sigsetjmp(state.on_signal, 1) == 0) {
        fn(row, reference);
    } else {
        const char *what = state.signal == SIGILL   ? "illegal instruction"
                           : state.signal == SIGFPE ? "arithmetic signal"
                                                    : "access outside its memory";
        if (!state.in_case)
            check_begin("between cases");
        check_fail("%s", what);
    }
    end_case();
}

/* ---- random numbers: xoroshiro128+ (Blackman and Vigna, 2018) ---- */

static uint64_t rotate(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

static void seed_random(uint64_t seed) {
    for (int i = 0; i < 2; i++) { /* splitmix64 spreads a small seed */
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = (seed ^ (seed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        state.random[i] = z ^ (z >> 31);
    }
}

uint64_t check_rand(void) {
    uint64_t a = state.random[0], b = state.random[1], result = a + b;
    b ^= a;
    state.random[0] = rotate(a, 24) ^ b ^ (b << 16);
    state.random[1] = rotate(b, 37);
    return result;
}

int64_t check_range(int64_t low, int64_t high) {
    return low + (int64_t)((check_rand() >> 16) % (uint64_t)(high - low + 1));
}

double check_uniform(void) {
    return (double)(int64_t)(check_rand() >> 11) * 0x1p-52 - 1.0;
}

/* ---- guarded memory ---- */

void check_alloc(check_buffer *b, size_t bytes, size_t align) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (bytes + align - 1) / align * align;
    size_t body = (room + 64 + page - 1) / page * page;
    b->map_bytes = body + page;
    b->map = mmap(NULL, b->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED || mprotect((char *)b->map + body, page, PROT_NONE) != 0) {
        fprintf(stderr, "checkasm: out of memory\n");
        exit(2);
    }
    memset(b->map, CHECK_PATTERN, body);
    b->data = (unsigned char *)b->map + body - room;
    b->bytes = bytes;
}

void check_guards(const check_buffer *b, const char *what) {
    const unsigned char *start = b->map, *end = start + b->map_bytes - (size_t)sysconf(_SC_PAGESIZE);
    for (const unsigned char *p = start; p < end; p++) {
        if (p == b->data)
            p += b->bytes;
        if (p < end && *p != CHECK_PATTERN) {
            check_fail("%s: byte %td outside it was written", what, p - b->data);
            return;
        }
    }
}

void check_free(check_buffer *b) {
    munmap(b->map, b->map_bytes);
}

/* ---- values ---- */

const char *check_values_name(check_values values) {
    static const char *const names[CHECK_VALUES_COUNT] = {"random", "integers", "extreme"};
    return names[values];
}

/* Large values stop where a hundred products of two of them still fit f32, so that the order of summation cannot decide
 * whether a sum overflows. */
static double extreme_value(ml_dtype dtype) {
    double sign = check_rand() & 1 ? -1.0 : 1.0;
    switch (check_range(0, 30)) {
    case 0:
        return (double)INFINITY * sign;
    case 1:
        return (double)NAN;
    case 2:
        return 0.0 * sign;
    case 3:
        return sign *
               (dtype == ML_F16    ? 0x1p-24
                : dtype == ML_BF16 ? 0x1p-133
                                   : 0x1p-149) *
               (double)check_range(1, 100);
    case 4:
        return sign * (dtype == ML_F16 ? 65504.0 : 0x1p59);
    case 5:
        return sign * (dtype == ML_F16 ? 0x1p-14 : 0x1p-126);
    default:
        return check_uniform();
    }
}

void check_fill(ml_dtype dtype, void *data, int64_t n, int64_t stride, check_values values) {
    char *p = data;
    for (int64_t i = 0; i < n; i++, p += stride * (int64_t)ml_dtype_size_of(dtype)) {
        double value = values == CHECK_INTEGERS  ? (double)check_range(-4, 4)
                       : values == CHECK_EXTREME ? extreme_value(dtype)
                                                 : check_uniform();
        ml_store_element(dtype, p, value);
    }
}

bool check_same(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

bool check_close(double got, double want, double bound) {
    if (check_same(got, want))
        return true;
    if (isnan(got) || isnan(want) || isinf(want))
        return false;
    if (isinf(got)) /* right when a value within the bound rounds to that infinity in f16 */
        return (got > 0.0 ? want : -want) + bound >= 65519.0;
    return fabs(got - want) <= bound;
}

double check_rounding(ml_dtype dtype, double value) {
    switch (dtype) {
    case ML_F16:
        return fmax(fabs(value) * 0x1p-11, 0x1p-25);
    case ML_BF16:
        return fmax(fabs(value) * 0x1p-8, 0x1p-134);
    default:
        return fmax(fabs(value) * 0x1p-24, 0x1p-150);
    }
}

bool check_shares_table(const ml_kernel_desc *row, ml_op_kind op) {
    for (int i = 0; row->op != op && i < ml_cpu_n_kernels; i++) {
        const ml_kernel_desc *r = &ml_cpu_kernels[i];
        if (r->op == op && r->isa == row->isa && r->impl == row->impl) {
            check_begin("the table of %s", r->name);
            return true;
        }
    }
    return false;
}

/* ---- benchmark ---- */

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void check_bench(const char *what, void (*fn)(void *), void *arg, double work, const char *unit) {
    double best = INFINITY;
    int repeat = 1;
    for (double begin = now_ns(); now_ns() - begin < 20e6;) {
        double start = now_ns();
        for (int i = 0; i < repeat; i++)
            fn(arg);
        double took = now_ns() - start;
        best = fmin(best, took / repeat);
        if (took < 20e3)
            repeat *= 2;
    }
    printf("  %-44s %10.1f ns %8.2f %s\n", what, best, work / best, unit);
}

/* ---- main ---- */

static const ml_kernel_desc *reference_of(const ml_kernel_desc *row) {
    for (int i = 0; i < ml_cpu_n_kernels; i++) {
        const ml_kernel_desc *r = &ml_cpu_kernels[i];
        if (r->op == row->op && r->family == row->family && r->isa == 0 &&
            (r->supports & ML_SUP_SINKS) == (row->supports & ML_SUP_SINKS))
            return r;
    }
    return row;
}

static int usage(const char *problem) {
    fprintf(stderr,
            "checkasm: %s\n"
            "usage: checkasm [--seed N] [--isa NAME] [--kernel SUBSTRING] [--bench] [--list]\n"
            "  --isa     only kernels that METALLIC_ISA=NAME would leave (scalar, avx2, avx512, ...)\n"
            "  --bench   measure instead of check\n",
            problem);
    return 2;
}

static const model_kernel *const models[] = {
    &model_amx_scalar,
#if defined(__x86_64__)
    &model_amx_avx512,
#endif
};

typedef struct walk_options {
    uint64_t seed;
    uint32_t isa; /* that kernels may use */
    const char *filter;
    bool bench, list;
} walk_options;

/* needs: of the ISA, for this row to run. */
static void walk(const ml_kernel_desc *row, uint32_t needs, const walk_options *options) {
    char text[128];
    if (!strstr(row->name, options->filter))
        return;
    bool known = row->op == ML_OP_FILL || !row->impl; /* a fill has no kernel of its own, nor has the vendor's row */
    for (size_t c = 0; c < sizeof checkers / sizeof checkers[0]; c++) {
        if (checkers[c].op != row->op || checkers[c].family != row->family ||
            checkers[c].sinks != (row->supports & ML_SUP_SINKS))
            continue;
        known = true;
        if ((needs & options->isa) != needs) {
            printf("%-32s skipped: needs %s\n", row->name, ml_isa_format(needs, text, sizeof text));
            continue;
        }
        if (options->list || options->bench)
            printf("%s\n", row->name);
        if (options->list)
            continue;
        int64_t passed = state.passed, failed = state.failed;
        seed_random(options->seed); /* per row, so that --kernel repeats what a full run did */
        guarded(options->bench ? checkers[c].bench : checkers[c].check, row, reference_of(row));
        if (!options->bench)
            printf("%-32s %lld passed, %lld failed\n", row->name, (long long)(state.passed - passed),
                   (long long)(state.failed - failed));
    }
    if (!known) {
        printf("%-32s has no checker\n", row->name);
        state.failed++;
    }
}

int main(int argc, char **argv) {
    walk_options options = {.seed = (uint64_t)now_ns() % 1000000, .filter = ""};
    uint32_t mask = ~0u;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(option, "--bench")) {
            options.bench = true;
            continue;
        }
        if (!strcmp(option, "--list")) {
            options.list = true;
            continue;
        }
        if (!value)
            return usage("unknown option or missing value");
        i++;
        if (!strcmp(option, "--seed"))
            options.seed = strtoull(value, NULL, 10);
        else if (!strcmp(option, "--kernel"))
            options.filter = value;
        else if (strcmp(option, "--isa") != 0)
            return usage("unknown option");
        else if (!ml_isa_mask_from_name(value, &mask))
            return usage("unknown ISA name");
    }

    options.isa = ml_cpu_info_get()->isa & mask;
    char text[128];
    printf("checkasm: seed %llu, isa %s\n", (unsigned long long)options.seed,
           ml_isa_format(options.isa, text, sizeof text));
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);

    for (int i = 0; i < ml_cpu_n_kernels; i++)
        walk(&ml_cpu_kernels[i], ml_cpu_kernels[i].isa, &options);
    for (size_t i = 0; i < sizeof models / sizeof models[0] && !options.bench; i++) {
        state.entered = models[i]->entered;
        walk(&models[i]->row, models[i]->needs, &options);
    }
    if (options.list || (options.bench && state.failed == 0))
        return 0;
    printf("%lld passed, %lld failed\n", (long long)state.passed, (long long)state.failed);
    return state.failed > 0;
}
