/* What the executor of the software Metal costs: launch of a thread, barrier, simd operation. Prints nanoseconds, the
 * best of several rounds; one core unless stated. */
#include "softmetal.h"

#include "metallic.h"

#include <stdlib.h>
#include <time.h>

int failures;

enum { ROUNDS = 15, TURNS = 100 };

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void entry_empty(sm_thread *self) {
    ((int *)self->group->arguments[0])[self->index_in_threadgroup] = 1;
}

static void entry_barrier(sm_thread *self) {
    for (int i = 0; i < TURNS; i++)
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    ((int *)self->group->arguments[0])[self->index_in_threadgroup] = 1;
}

static void combine_float_sum(const sm_lanes *l) {
    float sum = 0;
    if (l->active == UINT32_MAX) {
        for (int i = 0; i < 32; i++)
            sum += *(const float *)l->in[i];
        for (int i = 0; i < 32; i++)
            *(float *)l->out[i] = sum;
        return;
    }
    for (uint32_t rest = l->active; rest; rest &= rest - 1)
        sum += *(const float *)l->in[__builtin_ctz(rest)];
    for (uint32_t rest = l->active; rest; rest &= rest - 1)
        *(float *)l->out[__builtin_ctz(rest)] = sum;
}

static void entry_simd(sm_thread *self) {
    static const sm_place place = {"simd_sum", "bench.metal", 1};
    float x = (float)self->index_in_simdgroup;
    for (int i = 0; i < TURNS; i++) {
        float sum;
        HOST->meet(&place, SM_SCOPE_SIMDGROUP, combine_float_sum, &x, &sum);
        x = sum * 0.03125f;
    }
    ((float *)self->group->arguments[0])[self->index_in_threadgroup] = x;
}

static void combine_nothing(const sm_lanes *l) {
    (void)l;
}

static void entry_meet(sm_thread *self) {
    static const sm_place place = {"simd_meet", "bench.metal", 1};
    for (int i = 0; i < TURNS; i++)
        HOST->meet(&place, SM_SCOPE_SIMDGROUP, combine_nothing, NULL, NULL);
    ((float *)self->group->arguments[0])[self->index_in_threadgroup] = 1;
}

/* Nanoseconds of a dispatch. */
static double run(void (*entry)(sm_thread *), uint32_t groups, uint32_t threads, sm_order order) {
    static float out[1024];
    test_kernel k;
    make_kernel(&k, entry, 1, 1);
    sm_dispatch d = make_dispatch(&k, groups, threads);
    d.order = order;
    bind_memory(&d, 0, out, sizeof out);
    double best = 1e30;
    for (int i = 0; i < ROUNDS; i++) {
        double t = now_ns();
        EXPECT(sm_dispatch_run(&d, NULL), ML_OK);
        t = now_ns() - t;
        if (t < best)
            best = t;
    }
    end_kernel(&k);
    return best;
}

int main(void) {
    int cores = ml_get_num_threads();
    ml_set_num_threads(1);
    static const uint32_t sizes[] = {32, 64, 128, 256, 1024};
    printf("empty dispatch                          %8.0f ns\n", run(entry_empty, 1, 1, SM_ORDER_FORWARD));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t n = sizes[i], groups = 65536 / n;
        double threads = (double)groups * n;
        double launch = run(entry_empty, groups, n, SM_ORDER_FORWARD);
        double barrier = run(entry_barrier, groups / 16, n, SM_ORDER_FORWARD);
        double meet = run(entry_meet, groups / 16, n, SM_ORDER_FORWARD);
        double simd = run(entry_simd, groups / 16, n, SM_ORDER_FORWARD);
        double shuffled = run(entry_simd, groups / 16, n, SM_ORDER_SHUFFLE);
        double per = threads / 16 * TURNS;
        printf("%4u threads: launch %5.1f ns per thread, barrier %5.1f ns per thread, meeting %6.0f, simd_sum %6.0f "
               "(shuffled %6.0f) ns per simdgroup\n",
               n, launch / threads, barrier / per, meet / (per / 32), simd / (per / 32), shuffled / (per / 32));
    }
    ml_set_num_threads(cores);
    double threads = 1024.0 * 256;
    printf("all %d cores: launch %5.1f ns per thread, barrier %5.1f ns per thread\n", cores,
           run(entry_empty, 1024, 256, SM_ORDER_FORWARD) / threads,
           run(entry_barrier, 64, 256, SM_ORDER_FORWARD) / (64.0 * 256 * TURNS));
    return failures != 0;
}
