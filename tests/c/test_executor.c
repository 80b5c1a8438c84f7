/* The executor: positions, barriers, simd operations under diverging control flow, orders, abandoned threadgroups. */
#include "softmetal.h"

#include "metallic.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int failures;

#define BUFFER(type, i) ((type *)self->group->arguments[i])

/* The one of the running test: kernels find the offsets of their arrays here. */
static test_kernel kernel;
#define ARRAY(type, i) ((type *)(self->group->static_memory + kernel.arrays[i].offset))

static const sm_order orders[] = {SM_ORDER_FORWARD, SM_ORDER_REVERSE, SM_ORDER_SHUFFLE};

/* ---- positions ---- */

typedef struct seen {
    uint32_t times, group, threads_x, simd, lane, quad, index;
} seen;

static void entry_positions(sm_thread *self) {
    const uint32_t *p = self->position_in_grid, *n = self->group->threads_per_grid;
    seen *s = &BUFFER(seen, 0)[(p[2] * n[1] + p[1]) * n[0] + p[0]];
    s->times++;
    s->group = (self->group->threadgroup_position_in_grid[2] * self->group->threadgroups_per_grid[1] +
                self->group->threadgroup_position_in_grid[1]) *
                   self->group->threadgroups_per_grid[0] +
               self->group->threadgroup_position_in_grid[0];
    s->threads_x = self->group->threads_per_threadgroup[0];
    s->simd = self->simdgroup_index_in_threadgroup;
    s->lane = self->index_in_simdgroup;
    s->quad = self->index_in_quadgroup;
    s->index = self->index_in_threadgroup;
}

static void test_positions(void) {
    static const uint32_t cases[][6] = {{1, 1, 1, 1, 1, 1},       {100, 1, 1, 32, 1, 1}, {37, 11, 3, 8, 4, 2},
                                        {1000, 2, 1, 1024, 1, 1}, {5, 5, 5, 7, 3, 1},    {33, 33, 1, 32, 32, 1}};
    make_kernel(&kernel, entry_positions, 1, 1);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int o = 0; o < 3; o++) {
            const uint32_t *g = cases[c], *t = cases[c] + 3;
            uint32_t n = g[0] * g[1] * g[2];
            seen *s = calloc(n, sizeof *s);
            sm_dispatch d = {.kernel = &kernel.kernel, .grid_in_threads = true, .order = orders[o], .seed = c};
            memcpy(d.grid, g, sizeof d.grid);
            memcpy(d.threads_per_threadgroup, t, sizeof d.grid);
            bind_memory(&d, 0, s, n * sizeof *s);
            EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t x = i % g[0], y = i / g[0] % g[1], z = i / g[0] / g[1];
                uint32_t left = g[0] - x / t[0] * t[0], left_y = g[1] - y / t[1] * t[1];
                uint32_t nx = left < t[0] ? left : t[0], ny = left_y < t[1] ? left_y : t[1];
                uint32_t index = (z % t[2] * ny + y % t[1]) * nx + x % t[0];
                uint32_t groups_x = (g[0] + t[0] - 1) / t[0], groups_y = (g[1] + t[1] - 1) / t[1];
                EXPECT(s[i].times, 1);
                EXPECT(s[i].group, (z / t[2] * groups_y + y / t[1]) * groups_x + x / t[0]);
                EXPECT(s[i].threads_x, nx);
                EXPECT(s[i].index, index);
                EXPECT(s[i].simd, index / 32);
                EXPECT(s[i].lane, index % 32);
                EXPECT(s[i].quad, index % 4);
            }
            free(s);
        }
    end_kernel(&kernel);
}

/* ---- barriers ---- */

static void entry_reduce(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    tile[i] = BUFFER(int, 0)[self->position_in_grid[0]];
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    for (uint32_t stride = 512; stride > 0; stride /= 2) {
        if (i < stride && i + stride < n)
            tile[i] += tile[i + stride];
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    }
    if (i == 0)
        BUFFER(int, 1)[self->group->threadgroup_position_in_grid[0]] = tile[0];
}

static void test_barrier(void) {
    enum { N = 50000 };
    make_kernel(&kernel, entry_reduce, 2, 2);
    add_array(&kernel, 0, "tile", 4096);
    int *in = malloc(N * sizeof *in), out[N];
    for (int i = 0; i < N; i++)
        in[i] = i % 1000 - 300;
    static const uint32_t sizes[] = {1, 2, 31, 32, 33, 100, 256, 1000, 1024};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
        for (int o = 0; o < 3; o++) {
            uint32_t t = sizes[c], groups = (N / 4 + t - 1) / t;
            sm_dispatch d = make_dispatch(&kernel, N / 4, t);
            d.grid_in_threads = true;
            d.order = orders[o];
            bind_memory(&d, 0, in, N * sizeof *in);
            bind_memory(&d, 1, out, sizeof out);
            EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
            for (uint32_t g = 0; g < groups; g++) {
                int want = 0;
                for (uint32_t i = g * t; i < (g + 1) * t && i < N / 4; i++)
                    want += in[i];
                EXPECT(out[g], want);
            }
        }
    free(in);
    end_kernel(&kernel);
}

/* ---- simd operations ---- */

static void entry_simd(sm_thread *self) {
    uint32_t lane = self->index_in_simdgroup, i = self->position_in_grid[0];
    int *out = BUFFER(int, 0) + (size_t)i * 8;
    out[0] = SIMD_SUM((int)lane);
    if (lane < 10)
        out[1] = SIMD_SUM(1); /* ten lanes */
    else
        out[1] = SIMD_SUM(100); /* twenty-two */
    out[2] = QUAD_SUM((int)lane);
    if (lane % 4 != 3)
        out[3] = QUAD_SUM(1);
    /* Lane l makes l % 2 + 3 turns and leaves some early: the other lanes' next turn must not meet it in this one. */
    int sum = 0;
    loop_enter(self, 1);
    for (uint32_t turn = 0; turn < lane % 2 + 3; turn++) {
        loop_turn(self);
        if ((lane + turn) % 3 == 1)
            continue;
        sum += SIMD_SUM(1) << (8 * turn);
    }
    loop_leave(self);
    out[4] = sum;
    out[5] = SIMD_SUM(1);
    if (lane >= 20)
        return;
    out[6] = SIMD_SUM(1);
    out[7] = (int)HOST->live_lanes();
}

static void test_simd(void) {
    enum { THREADS = 96 + 7 };
    make_kernel(&kernel, entry_simd, 1, 1);
    for (int o = 0; o < 3; o++) {
        static int out[3 * THREADS][8];
        memset(out, 0, sizeof out);
        sm_dispatch d = make_dispatch(&kernel, 3, THREADS);
        d.order = orders[o];
        bind_memory(&d, 0, out, sizeof out);
        EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
        for (int i = 0; i < 3 * THREADS; i++) {
            int index = i % THREADS, lane = index % 32, lanes = index < 96 ? 32 : 7;
            int low = lanes < 10 ? lanes : 10;
            EXPECT(out[i][0], lanes * (lanes - 1) / 2);
            EXPECT(out[i][1], lane < 10 ? low : 100 * (lanes - low));
            int first = lane / 4 * 4, sum = 0, three = 0;
            for (int l = first; l < first + 4 && l < lanes; l++) {
                sum += l;
                three += l % 4 != 3;
            }
            EXPECT(out[i][2], sum);
            EXPECT(out[i][3], lane % 4 != 3 ? three : 0);
            sum = 0;
            for (int turn = 0; turn < lane % 2 + 3; turn++)
                for (int l = 0; l < lanes && (lane + turn) % 3 != 1; l++)
                    sum += (turn < l % 2 + 3 && (l + turn) % 3 != 1) << (8 * turn);
            EXPECT(out[i][4], sum);
            EXPECT(out[i][5], lanes);
            if (lane < 20)
                EXPECT(out[i][6], lanes < 20 ? lanes : 20);
        }
    }
    end_kernel(&kernel);
}

/* A simd operation in a branch, a barrier in the other: the barrier waits for all. */
static void entry_mixed(sm_thread *self) {
    int *tile = ARRAY(int, 0), *out = BUFFER(int, 0);
    uint32_t i = self->index_in_threadgroup;
    if (i < 16)
        tile[i] = SIMD_SUM(1);
    SIMDGROUP_BARRIER(SM_MEM_THREADGROUP);
    if (i >= 16 && i < 32)
        tile[i] = tile[i - 16] + 1;
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    out[self->position_in_grid[0]] = tile[31 - i % 32];
}

static void test_mixed(void) {
    make_kernel(&kernel, entry_mixed, 1, 1);
    add_array(&kernel, 0, "tile", 256);
    for (int o = 0; o < 3; o++) {
        int out[4 * 64] = {0};
        sm_dispatch d = make_dispatch(&kernel, 4, 64);
        d.order = orders[o];
        bind_memory(&d, 0, out, sizeof out);
        EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
        for (int i = 0; i < 4 * 64; i++)
            EXPECT(out[i], i % 32 < 16 ? 17 : 16);
    }
    end_kernel(&kernel);
}

/* ---- orders ---- */

static int sequence;

static void entry_order(sm_thread *self) {
    BUFFER(int, 0)[self->position_in_grid[0]] = sequence++;
    THREADGROUP_BARRIER(SM_MEM_NONE);
    BUFFER(int, 1)[self->position_in_grid[0]] = sequence++;
}

static void test_orders(void) {
    enum { THREADS = 80, GROUPS = 5, N = THREADS * GROUPS };
    make_kernel(&kernel, entry_order, 2, 3);
    int before = ml_get_num_threads();
    ml_set_num_threads(1);
    int first[N], second[N], again[N];
    for (int o = 0; o < 3; o++) {
        sequence = 0;
        sm_dispatch d = make_dispatch(&kernel, GROUPS, THREADS);
        d.order = orders[o];
        d.seed = 7;
        bind_memory(&d, 0, first, sizeof first);
        bind_memory(&d, 1, second, sizeof second);
        EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
        int in_place = 0;
        for (int i = 0; i < N; i++) {
            int t = i % THREADS, g = i / THREADS;
            if (o == 0) {
                EXPECT(first[i], g * 2 * THREADS + t);
                EXPECT(second[i], g * 2 * THREADS + THREADS + t);
            } else if (o == 1) {
                EXPECT(first[i], (GROUPS - 1 - g) * 2 * THREADS + THREADS - 1 - t);
                EXPECT(second[i], (GROUPS - 1 - g) * 2 * THREADS + 2 * THREADS - 1 - t);
            } else {
                in_place += first[i] % (2 * THREADS) == t;
            }
        }
        if (o == 2) {
            EXPECT(in_place < N / 4, 1);
            memcpy(again, first, sizeof again);
            sequence = 0;
            EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
            EXPECT(memcmp(again, first, sizeof again), 0); /* the seed decides */
            sequence = 0;
            d.seed = 8;
            EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
            EXPECT(memcmp(again, first, sizeof again) != 0, 1);
        }
    }
    ml_set_num_threads(before);
    end_kernel(&kernel);
}

/* ---- memory ---- */

static void entry_fill(sm_thread *self) {
    const uint32_t *tile = ARRAY(uint32_t, 0), *dynamic = self->group->arguments[1];
    uint32_t same = 1;
    for (int i = 0; i < 64; i++)
        same &= tile[i] == UINT32_MAX && dynamic[i] == UINT32_MAX;
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    ARRAY(uint32_t, 0)[self->index_in_threadgroup] = 1;
    ((uint32_t *)self->group->arguments[1])[self->index_in_threadgroup] = 2;
    BUFFER(uint32_t, 0)[self->position_in_grid[0]] = same;
}

static int is_enabled(const unsigned char *constants) {
    return constants[0];
}

static void entry_constants(sm_thread *self) {
    BUFFER(int, 0)
    [self->position_in_grid[0]] = *(const int *)self->constants + (BUFFER(int, 1) ? BUFFER(int, 1)[5] : -1);
}

static void test_memory(void) {
    make_kernel(&kernel, entry_fill, 2, 3);
    add_array(&kernel, 0, "tile", 256);
    kernel.arguments[1].kind = SM_ARGUMENT_THREADGROUP;
    kernel.arguments[1].index = 0;
    uint32_t out[3 * 64];
    sm_dispatch d = make_dispatch(&kernel, 3, 64);
    bind_memory(&d, 0, out, sizeof out);
    d.threadgroup_memory[0] = 256;
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
    for (int i = 0; i < 3 * 64; i++)
        EXPECT(out[i], 1);
    EXPECT(sm_kernel_threadgroup_memory(&kernel.kernel), 256);
    sm_findings found = {0};
    d.threadgroup_memory[0] = 32768 - 256;
    EXPECT(sm_dispatch_run(&d, &found), ML_OK);
    d.threadgroup_memory[0] = 32768 - 256 + 16;
    EXPECT(sm_dispatch_run(&d, &found), ML_ERR_VALUE);
    EXPECT(found.n, 1);
    EXPECT(found.items[0].kind, SM_FINDING_THREADGROUP_MEMORY);
    sm_findings_clear(&found);
    end_kernel(&kernel);

    make_kernel(&kernel, entry_constants, 2, 1);
    kernel.module.constants_bytes = 32;
    kernel.arguments[1].enabled = is_enabled;
    int result[4], more[8] = {0, 0, 0, 0, 0, 1000};
    unsigned char off[32] = {0}, on[32] = {7};
    d = make_dispatch(&kernel, 1, 4);
    bind_memory(&d, 0, result, sizeof result);
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
    EXPECT(result[3], -1);
    d.constants = off;
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
    EXPECT(result[3], -1);
    d.constants = on;
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK); /* not bound: zeros */
    EXPECT(result[3], 7);
    bind_memory(&d, 1, more, sizeof more);
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
    EXPECT(result[3], 1007);
    end_kernel(&kernel);
}

static void test_refusals(void) {
    make_kernel(&kernel, entry_positions, 1, 1);
    int out[4];
    sm_dispatch d = make_dispatch(&kernel, 1, 1025);
    bind_memory(&d, 0, out, sizeof out);
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    d.threads_per_threadgroup[0] = UINT32_MAX;
    d.threads_per_threadgroup[1] = UINT32_MAX;
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    d = make_dispatch(&kernel, 1, 65);
    kernel.function.max_total_threads = 64;
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    d = make_dispatch(&kernel, 1, 1);
    bind_memory(&d, 0, out, sizeof out);
    d.buffers[0].offset = sizeof out + 1;
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    d = make_dispatch(&kernel, UINT32_MAX, 1);
    d.grid[1] = d.grid[2] = UINT32_MAX;
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    kernel.arguments[0].kind = SM_ARGUMENT_TEXTURE;
    d = make_dispatch(&kernel, 1, 1);
    EXPECT(sm_dispatch_run(&d, NULL), ML_ERR_VALUE);
    end_kernel(&kernel);
}

/* ---- threadgroups that are abandoned ---- */

static volatile int zero;
static int *volatile low_address = (int *)(uintptr_t)8;

static __attribute__((noinline)) int deep(int n) {
    volatile char frame[512];
    frame[n % 512] = (char)n;
    return n <= 0 ? frame[0] : deep(n - 1) + frame[n % 512];
}

/* The faults are meant, also where a sanitizer would see them first. */
__attribute__((no_sanitize("undefined"))) static void entry_fault(sm_thread *self) {
    uint32_t i = self->position_in_grid[0];
    int what = BUFFER(int, 0)[0];
    if (i == 37)
        switch (what) {
        case 1:
            BUFFER(volatile int, 1)[(int64_t)1 << 34] = 1;
            break;
        case 2:
            BUFFER(volatile int, 2)[i] = 1; /* not bound */
            break;
        case 3:
            BUFFER(int, 1)[i] = deep(100000);
            break;
        case 4:
            BUFFER(volatile int, 1)[i] = (int)i / zero;
            break;
        case 5:
            HOST->unsupported(PLACE("texture_sample"), "textures are not modelled");
            break;
        case 6:
            *low_address = 1;
            break;
        case 7:
            *(volatile int *)UINT64_C(0x1234567812345678) = 1;
            break;
        default:
            break;
        }
    THREADGROUP_BARRIER(SM_MEM_NONE);
    BUFFER(int, 1)[i] = BUFFER(int, 2)[0] + 5;
}

static void test_faults(void) {
    static const sm_finding_kind kinds[] = {
        SM_FINDING_API,        SM_FINDING_WILD_ACCESS, SM_FINDING_UNBOUND_BUFFER, SM_FINDING_STACK_OVERFLOW,
        SM_FINDING_ARITHMETIC, SM_FINDING_UNSUPPORTED, SM_FINDING_WILD_ACCESS,    SM_FINDING_WILD_ACCESS};
    make_kernel(&kernel, entry_fault, 3, 7);
    int what, out[128];
    for (int round = 0; round < 3; round++)
        for (what = 0; what <= 7; what++) {
            sm_findings found = {0};
            sm_dispatch d = make_dispatch(&kernel, 2, 64);
            d.order = orders[round];
            bind_memory(&d, 0, &what, sizeof what);
            bind_memory(&d, 1, out, sizeof out);
            memset(out, 0, sizeof out);
            EXPECT(sm_dispatch_run(&d, &found), what ? ML_ERR_DEVICE : ML_OK);
            EXPECT(found.n, what ? 1 : 0);
            if (!what) {
                for (int i = 0; i < 128; i++)
                    EXPECT(out[i], 5);
                continue;
            }
            EXPECT(found.items[0].kind, kinds[what]);
            EXPECT(found.items[0].thread.known, 1);
            EXPECT(found.items[0].thread.position_in_grid[0], 37);
            EXPECT_TEXT(found.items[0].message, "thread (37, 0, 0) of threadgroup (0, 0, 0)");
            if (what == 2)
                EXPECT(found.items[0].buffer, 2);
            if (what == 5)
                EXPECT_TEXT(found.items[0].message, "texture_sample");
            sm_findings_clear(&found);
        }
    end_kernel(&kernel);
}

/* Faults that are not the kernel's still end the process, or reach the handler that was there first. */
static volatile sig_atomic_t own_handler_ran;

static void own_handler(int sig) {
    (void)sig;
    own_handler_ran = 1;
    _exit(own_handler_ran ? 42 : 1);
}

static int child_status(void (*fn)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        fn();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
}

static void run_some_kernel(void) {
    make_kernel(&kernel, entry_order, 2, 3);
    int a[64], b[64];
    sm_dispatch d = make_dispatch(&kernel, 1, 64);
    bind_memory(&d, 0, a, sizeof a);
    bind_memory(&d, 1, b, sizeof b);
    EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
    end_kernel(&kernel);
}

static void crash_default(void) {
    run_some_kernel();
    if (failures)
        _exit(3);
    *low_address = 1;
}

static void crash_handled(void) {
    signal(SIGSEGV, own_handler);
    run_some_kernel();
    *low_address = 1;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifndef SANITIZED
static void test_chain(void) {
    int status = child_status(crash_default);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, 1);
    status = child_status(crash_handled);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 42, 1);
}
#else /* the sanitizer reports the crash in its own way */
static void test_chain(void) {
    (void)child_status;
    (void)crash_default;
    (void)crash_handled;
}
#endif

/* ---- several dispatches at once ---- */

static void *run_many(void *arg) {
    test_kernel *k = arg;
    int *out = calloc(20 * 256, sizeof *out);
    long bad = 0;
    for (int round = 0; round < 30; round++) {
        unsigned char constants[32] = {0};
        constants[0] = (unsigned char)(round + 1);
        sm_dispatch d = make_dispatch(k, 20, 256);
        d.constants = constants;
        d.threadgroup_memory[0] = 64;
        d.order = orders[round % 3];
        bind_memory(&d, 0, out, 20 * 256 * sizeof *out);
        bad += sm_dispatch_run(&d, NULL) != ML_OK;
        for (int i = 0; i < 20 * 256; i++)
            bad += out[i] != (round + 1) * 256;
    }
    free(out);
    return (void *)bad;
}

static void entry_concurrent(sm_thread *self) {
    int sum = SIMD_SUM(self->constants[0]);
    int *tile = self->group->arguments[1];
    if (self->index_in_simdgroup == 0)
        tile[self->simdgroup_index_in_threadgroup] = sum;
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    sum = 0;
    for (uint32_t i = 0; i < self->group->simdgroups_per_threadgroup; i++)
        sum += tile[i];
    BUFFER(int, 0)[self->position_in_grid[0]] = sum;
}

static void test_concurrent(void) {
    make_kernel(&kernel, entry_concurrent, 2, 3);
    kernel.module.constants_bytes = 32;
    kernel.arguments[1].kind = SM_ARGUMENT_THREADGROUP;
    kernel.arguments[1].index = 0;
    kernel.arguments[1].element_size = 4;
    add_array(&kernel, 0, "unused", 64);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, run_many, &kernel);
    for (int i = 0; i < 3; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        EXPECT((long)bad, 0);
    }
    end_kernel(&kernel);
}

int main(void) {
    test_positions();
    test_barrier();
    test_simd();
    test_mixed();
    test_orders();
    test_memory();
    test_refusals();
    test_faults();
    test_chain();
    test_concurrent();
    sm_executor_trim();
    printf("executor: %d failures\n", failures);
    return failures != 0;
}
