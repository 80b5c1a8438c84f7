/* For tests of the executor: kernels written in C against the module contract, without a compiler in between. */
#ifndef TESTS_SOFTMETAL_H
#define TESTS_SOFTMETAL_H

#include "softmetal/executor.h"

#include <stdio.h>
#include <string.h>

extern int failures;

static inline void expect_at(int line, const char *what, long long got, long long want) {
    if (got != want) {
        fprintf(stderr, "FAILED: line %d: %s: got %lld, want %lld\n", line, what, got, want);
        failures++;
    }
}
#define EXPECT(got, want) expect_at(__LINE__, #got, (long long)(got), (long long)(want))

static inline void expect_text_at(int line, const char *what, const char *got, const char *part) {
    if (!got || !strstr(got, part)) {
        fprintf(stderr, "FAILED: line %d: %s: \"%s\" does not contain \"%s\"\n", line, what, got ? got : "(null)",
                part);
        failures++;
    }
}
#define EXPECT_TEXT(got, part) expect_text_at(__LINE__, #got, got, part)

/* ---- what MSL code calls ---- */

#define HOST sm_executor_host()
#define PLACE(name) (&(const sm_place){name, "kernel.metal", __LINE__})
#define THREADGROUP_BARRIER(flags)                                                                                     \
    do {                                                                                                               \
        static const sm_place place_ = {"threadgroup_barrier", "kernel.metal", __LINE__};                              \
        HOST->barrier(&place_, SM_SCOPE_THREADGROUP, flags);                                                           \
    } while (0)
#define SIMDGROUP_BARRIER(flags)                                                                                       \
    do {                                                                                                               \
        static const sm_place place_ = {"simdgroup_barrier", "kernel.metal", __LINE__};                                \
        HOST->barrier(&place_, SM_SCOPE_SIMDGROUP, flags);                                                             \
    } while (0)

static inline void combine_sum(const sm_lanes *l) {
    int sum = 0;
    for (uint32_t rest = l->active; rest; rest &= rest - 1)
        sum += *(const int *)l->in[__builtin_ctz(rest)];
    for (uint32_t rest = l->active; rest; rest &= rest - 1)
        *(int *)l->out[__builtin_ctz(rest)] = sum;
}

#define SUM_OVER(scope, value)                                                                                         \
    ({                                                                                                                 \
        static const sm_place place_ = {"simd_sum", "kernel.metal", __LINE__};                                         \
        int in_ = (value), out_ = 0;                                                                                   \
        HOST->meet(&place_, scope, combine_sum, &in_, &out_);                                                          \
        out_;                                                                                                          \
    })
#define SIMD_SUM(value) SUM_OVER(SM_SCOPE_SIMDGROUP, value)
#define QUAD_SUM(value) SUM_OVER(SM_SCOPE_QUAD, value)

/* What the translator puts around a loop with a simd operation or a barrier in it. */
static inline void loop_enter(sm_thread *t, uint32_t line) {
    t->loops[t->loop_depth++] = (sm_loop_level){line, 0};
}

static inline void loop_hash(sm_thread *t) {
    t->path = 0;
    for (uint32_t i = 0; i < t->loop_depth; i++)
        t->path = (t->path ^ ((uint64_t)t->loops[i].line << 32 | t->loops[i].turn)) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline void loop_turn(sm_thread *t) {
    t->loops[t->loop_depth - 1].turn++;
    loop_hash(t);
}

static inline void loop_leave(sm_thread *t) {
    t->loop_depth--;
    loop_hash(t);
}

/* ---- a module of one kernel ---- */

typedef struct test_kernel {
    sm_kernel kernel;
    sm_module module;
    sm_function function;
    sm_argument arguments[8];
    sm_threadgroup_array arrays[4];
} test_kernel;

/* Buffers 0 ... n - 1 of 4-byte elements; the kernel writes those in the mask writes. */
static inline void make_kernel(test_kernel *k, void (*entry)(sm_thread *), uint32_t buffers, uint32_t writes) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    memset(k, 0, sizeof *k);
    for (uint32_t i = 0; i < buffers; i++) {
        bool write = writes >> i & 1;
        k->arguments[i] = (sm_argument){.kind = SM_ARGUMENT_BUFFER,
                                        .index = (int32_t)i,
                                        .name = names[i],
                                        .type = "int",
                                        .element_size = 4,
                                        .element_align = 4,
                                        .access = write ? SM_MODE_READ_WRITE : SM_MODE_READ,
                                        .is_pointer = 1};
    }
    k->function = (sm_function){.name = "test",
                                .entry = entry,
                                .arguments = k->arguments,
                                .n_arguments = buffers,
                                .file = "kernel.metal",
                                .line = 1};
    k->module = (sm_module){.abi = SM_ABI_VERSION, .functions = &k->function, .n_functions = 1};
    k->kernel = (sm_kernel){.module = &k->module, .function = &k->function};
}

/* Declares the next threadgroup array; the kernel finds it with group_array. */
static inline void add_array(test_kernel *k, int i, const char *name, uint64_t size) {
    k->arrays[i] = (sm_threadgroup_array){
        .next = k->module.arrays, .name = name, .file = "kernel.metal", .line = 2, .align = 16, .size = size};
    k->module.arrays = &k->arrays[i];
}

static inline void end_kernel(test_kernel *k) {
    if (k->kernel.executor)
        k->kernel.executor_free(k->kernel.executor);
    k->kernel.executor = NULL;
}

static inline sm_dispatch make_dispatch(test_kernel *k, uint32_t groups, uint32_t threads) {
    sm_dispatch d = {.kernel = &k->kernel, .grid = {groups, 1, 1}, .threads_per_threadgroup = {threads, 1, 1}};
    return d;
}

static inline void bind_memory(sm_dispatch *d, int index, void *address, uint64_t length) {
    d->buffers[index] = (sm_binding){.address = address, .length = length};
}

#endif
