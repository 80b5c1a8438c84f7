/* Kernels for the test of the checker, driven as a checked module drives it: each has one defect unless `fixed`. */
#ifndef TESTS_CHECKER_KERNELS_H
#define TESTS_CHECKER_KERNELS_H

#include "softmetal.h"

static test_kernel kernel;
static bool fixed; /* the kernel without its defect */

#define BUFFER(type, i) ((type *)self->group->arguments[i])
#define ARRAY(type, i) ((type *)(self->group->static_memory + kernel.arrays[i].offset))

/* An access with its callback, as -fsanitize=thread makes it. The "code address" is a static variable's. */
#define TOUCH(pointer, flags)                                                                                          \
    do {                                                                                                               \
        static const char site_;                                                                                       \
        HOST->access(pointer, sizeof *(pointer), flags, &site_);                                                       \
    } while (0)
#define LOAD(pointer)                                                                                                  \
    ({                                                                                                                 \
        TOUCH(pointer, SM_ACCESS_READ);                                                                                \
        *(volatile __typeof__(*(pointer)) *)(pointer);                                                                 \
    })
#define STORE(pointer, value)                                                                                          \
    do {                                                                                                               \
        TOUCH(pointer, SM_ACCESS_WRITE);                                                                               \
        *(volatile __typeof__(*(pointer)) *)(pointer) = (value);                                                       \
    } while (0)
#define ATOMIC_ADD(pointer, value)                                                                                     \
    do {                                                                                                               \
        TOUCH(pointer, SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC);                                           \
        __atomic_fetch_add(pointer, value, __ATOMIC_RELAXED);                                                          \
    } while (0)
#define ATOMIC_STORE(pointer, value)                                                                                   \
    do {                                                                                                               \
        TOUCH(pointer, SM_ACCESS_WRITE | SM_ACCESS_ATOMIC);                                                            \
        __atomic_store_n(pointer, value, __ATOMIC_RELAXED);                                                            \
    } while (0)
#define BARRIER_UNLESS_BROKEN(flags)                                                                                   \
    do {                                                                                                               \
        if (fixed)                                                                                                     \
            THREADGROUP_BARRIER(flags);                                                                                \
    } while (0)

enum { N = 256 };

/* ---- races in threadgroup memory ---- */

static void tile_exchange(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    STORE(&tile[i], LOAD(&BUFFER(int, 0)[i]));
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[n - 1 - i]));
}

static void wrong_flags(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    STORE(&tile[i], 1);
    THREADGROUP_BARRIER(fixed ? SM_MEM_THREADGROUP : SM_MEM_DEVICE);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[n - 1 - i]));
}

static void no_flags(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    STORE(&tile[i], 1);
    THREADGROUP_BARRIER(fixed ? SM_MEM_THREADGROUP : SM_MEM_NONE);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[n - 1 - i]));
}

/* The second barrier of a loop: the tile is overwritten while others still read it. */
static void tile_reuse(sm_thread *self) {
    int *tile = ARRAY(int, 0), sum = 0;
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    for (int turn = 0; turn < 4; turn++) {
        STORE(&tile[i], turn);
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
        for (uint32_t k = 0; k < n; k++)
            sum += LOAD(&tile[k]);
        BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    }
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], sum);
}

/* Lanes of one simdgroup exchange through memory; a simdgroup barrier is enough. */
static void simd_exchange(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[i], 1);
    if (fixed)
        SIMDGROUP_BARRIER(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[i ^ 1]));
}

/* ... but not between simdgroups. */
static void simd_barrier_too_weak(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[i], 1);
    if (fixed)
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    else
        SIMDGROUP_BARRIER(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[i ^ 32]));
}

/* As many barriers as there are numbers for the epochs of a simdgroup: they begin anew. */
static void many_simd_barriers(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[i], 1);
    loop_enter(self, __LINE__);
    for (int k = 0; k < 256; k++) {
        loop_turn(self);
        SIMDGROUP_BARRIER(fixed ? SM_MEM_THREADGROUP : SM_MEM_NONE);
    }
    loop_leave(self);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[i ^ 1]));
}

/* They order one simdgroup; another one's access is a race however many there were. */
static void far_apart(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    if (self->index_in_threadgroup == 0)
        STORE(&tile[0], 1);
    loop_enter(self, __LINE__);
    for (int k = 0; k < 300; k++) {
        loop_turn(self);
        SIMDGROUP_BARRIER(SM_MEM_THREADGROUP);
    }
    loop_leave(self);
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[0]));
}

static void same_value(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    if (!fixed || self->index_in_threadgroup == 0)
        STORE(&tile[0], 7);
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[0]));
}

static void different_values(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    if (!fixed || self->index_in_threadgroup == 0)
        STORE(&tile[0], (int)self->index_in_threadgroup);
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[0]));
}

static void atomics(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    if (self->index_in_threadgroup == 0)
        ATOMIC_STORE(&tile[0], 0);
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    ATOMIC_ADD(&tile[0], 1);
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    if (self->index_in_threadgroup == 5)
        STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[0]));
}

static void atomic_start(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    if (self->index_in_threadgroup == 0)
        ATOMIC_STORE(&tile[0], 0);
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    ATOMIC_ADD(&tile[0], 1);
}

static void half_words(sm_thread *self) { /* neighbours in one word are no race */
    short *tile = ARRAY(short, 0);
    uint32_t i = self->index_in_threadgroup, n = self->group->threads_per_threadgroup[0];
    STORE(&tile[i], (short)i);
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    STORE((short *)&BUFFER(int, 1)[0] + self->position_in_grid[0], LOAD(&tile[n - 1 - i]));
}

static void bytes_after_words(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[i], (int)i);
    BARRIER_UNLESS_BROKEN(SM_MEM_THREADGROUP);
    if (i > 0)
        STORE(&((char *)tile)[4 * i - 1], (char)1);
}

/* ---- races in device memory ---- */

static void device_exchange(sm_thread *self) {
    int *out = BUFFER(int, 1);
    uint32_t i = self->position_in_grid[0];
    STORE(&out[i], (int)i);
    BARRIER_UNLESS_BROKEN(SM_MEM_DEVICE);
    STORE(&BUFFER(int, 2)[i], LOAD(&out[i ^ 1]));
}

static void between_groups_ww(sm_thread *self) {
    uint32_t i = fixed ? self->position_in_grid[0] : self->index_in_threadgroup;
    STORE(&BUFFER(int, 1)[i], (int)self->position_in_grid[0]);
}

static void between_groups_same(sm_thread *self) {
    uint32_t i = fixed ? self->position_in_grid[0] : self->index_in_threadgroup;
    STORE(&BUFFER(int, 1)[i], (int)self->index_in_threadgroup);
}

static void between_groups_rw(sm_thread *self) { /* a barrier does not order threadgroups */
    uint32_t i = self->position_in_grid[0], n = self->group->threads_per_grid[0];
    STORE(&BUFFER(int, 1)[i], 1);
    THREADGROUP_BARRIER(SM_MEM_DEVICE);
    STORE(&BUFFER(int, 2)[i], LOAD(&BUFFER(int, 1)[fixed ? i : n - 1 - i]));
}

static void between_groups_war(sm_thread *self) {
    uint32_t i = self->position_in_grid[0], n = self->group->threads_per_grid[0];
    int value = LOAD(&BUFFER(int, 1)[fixed ? i : (i + 64) % n]);
    THREADGROUP_BARRIER(SM_MEM_DEVICE);
    STORE(&BUFFER(int, 1)[i], value + 1);
}

static void device_atomics(sm_thread *self) {
    if (fixed)
        ATOMIC_ADD(&BUFFER(int, 1)[0], 1);
    else
        STORE(&BUFFER(int, 1)[0], LOAD(&BUFFER(int, 1)[0]) + 1);
}

/* ---- bounds ---- */

static void over_end(sm_thread *self) {
    uint32_t i = self->position_in_grid[0];
    int value = LOAD(&BUFFER(int, 0)[i]);
    STORE(&BUFFER(int, 1)[fixed ? i : i + N - 127], value);
}

static void read_over_end(sm_thread *self) {
    uint32_t i = self->position_in_grid[0];
    STORE(&BUFFER(int, 1)[i], LOAD(&BUFFER(int, 0)[fixed ? i : i + N - 127]));
}

static void far_away(sm_thread *self) {
    uint32_t i = self->position_in_grid[0];
    STORE(&BUFFER(int, 1)[fixed ? i : i + (UINT64_C(1) << 36)], 1);
}

static void before_start(sm_thread *self) {
    int64_t i = self->position_in_grid[0];
    STORE(&BUFFER(int, 1)[i], LOAD(&BUFFER(int, 0)[fixed ? i : i - 1]));
}

static void before_offset(sm_thread *self) {
    int64_t i = self->position_in_grid[0];
    STORE(&BUFFER(int, 2)[i], LOAD(&BUFFER(int, 1)[fixed ? i : i - 1]));
}

static void tile_over_end(sm_thread *self) {
    int *tile = ARRAY(int, 1);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[fixed || i < 63 ? i : 64], (int)i);
}

static void tile_before(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[fixed ? (int64_t)i : (int64_t)i - 1], (int)i);
}

static void tile_far(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[fixed ? i : i + 16000], (int)i);
}

static void dynamic_over_end(sm_thread *self) {
    int *tile = self->group->arguments[3];
    uint32_t i = self->index_in_threadgroup;
    STORE(&tile[fixed ? i : i + 1], (int)i);
}

static void index_callback(sm_thread *self) {
    static const char site;
    volatile float local[20];
    uint32_t i = self->index_in_threadgroup % 17;
    if (!fixed && i >= 16)
        HOST->out_of_bounds("kernel.metal", 77, 5, (int64_t)i, "float [16]", &site);
    local[i] = 1;
    (void)local[i];
}

static void tile_index_callback(sm_thread *self) { /* one finding, with the index and the name */
    static const char site;
    int *tile = ARRAY(int, 0);
    if (!fixed && self->index_in_threadgroup == 3) {
        HOST->out_of_bounds("kernel.metal", 78, 5, 1024 / 4, "int [256]", &site);
        STORE(&tile[1024 / 4], 1);
    }
}

static void tile_index_then_load(sm_thread *self) { /* tile[256] = a[0] */
    static const char site;
    int *tile = ARRAY(int, 0);
    if (!fixed && self->index_in_threadgroup == 3) {
        HOST->out_of_bounds("kernel.metal", 78, 5, 1024 / 4, "int [256]", &site);
        int value = LOAD(&BUFFER(int, 0)[0]);
        STORE(&tile[1024 / 4], value);
    }
}

static void tile_into_next(sm_thread *self) { /* nearer to the other array, but this code is about the tile */
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    for (uint32_t k = 0; k < 2; k++)
        STORE(&tile[k && !fixed && i == 0 ? 1924 / 4 : i], (int)i);
}

/* ---- the rest ---- */

static void uninitialised(sm_thread *self) {
    int *tile = ARRAY(int, 0);
    uint32_t i = self->index_in_threadgroup;
    if (fixed || i != 9)
        STORE(&tile[i], 1);
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    STORE(&BUFFER(int, 1)[self->position_in_grid[0]], LOAD(&tile[i ^ 1]));
}

static void early_return(sm_thread *self) {
    if (!fixed && self->index_in_threadgroup >= 60)
        return;
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
}

static void two_barriers(sm_thread *self) {
    if (!fixed && self->index_in_threadgroup < 32)
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    else
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    if (fixed)
        return;
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
}

static void loop_barrier(sm_thread *self) {
    uint32_t turns = fixed ? 3 : 2 + self->index_in_threadgroup % 2;
    loop_enter(self, 5);
    for (uint32_t i = 0; i < turns; i++) {
        loop_turn(self);
        THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
    }
    loop_leave(self);
    THREADGROUP_BARRIER(SM_MEM_THREADGROUP);
}

static void simd_barrier_in_branch(sm_thread *self) {
    if (fixed || self->index_in_simdgroup < 16)
        SIMDGROUP_BARRIER(SM_MEM_THREADGROUP);
    (void)SIMD_SUM(1);
}

static void misaligned(sm_thread *self) {
    static const char site;
    uint32_t i = self->position_in_grid[0];
    char *p = (char *)&BUFFER(int, 1)[0] + (fixed ? 8 * (i / 2) : 4 + 8 * (i / 4));
    if ((uintptr_t)p % 8)
        HOST->misaligned("kernel.metal", 90, 3, p, 8, "float2", &site);
    (void)LOAD((int *)p);
}

static void unbound_read(sm_thread *self) {
    if (!fixed)
        STORE(&BUFFER(int, 2)[self->position_in_grid[0]], LOAD(&BUFFER(int, 1)[3]));
}

static void unbound_write(sm_thread *self) {
    if (!fixed)
        STORE(&BUFFER(int, 1)[self->position_in_grid[0]], 1);
}

static void writes_first(sm_thread *self) {
    if (!fixed)
        STORE(&BUFFER(int, 1)[self->position_in_grid[0]], 1);
}

/* The last threadgroup reads what the others wrote: fences of device scope order it. */
static void last_group(sm_thread *self) {
    uint32_t i = self->position_in_grid[0], n = self->group->threads_per_grid[0];
    STORE(&BUFFER(int, 1)[i], (int)i);
    if (fixed)
        HOST->fence(PLACE("atomic_thread_fence"), SM_SCOPE_DEVICE, SM_MEM_DEVICE, __ATOMIC_RELEASE);
    THREADGROUP_BARRIER(SM_MEM_DEVICE);
    if (self->index_in_threadgroup != 0)
        return;
    TOUCH(&BUFFER(int, 2)[0], SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC);
    if (__atomic_fetch_add(&BUFFER(int, 2)[0], 1, __ATOMIC_RELAXED) != 1)
        return;
    HOST->fence(PLACE("atomic_thread_fence"), SM_SCOPE_DEVICE, SM_MEM_DEVICE, __ATOMIC_ACQUIRE);
    for (uint32_t k = 0; k < n; k++)
        (void)LOAD(&BUFFER(int, 1)[k]);
}

/* An acquire fence orders what an atomic before it has seen, not what one after it will see. */
static void acquires_too_early(sm_thread *self) {
    uint32_t i = self->position_in_grid[0], n = self->group->threads_per_grid[0];
    STORE(&BUFFER(int, 1)[i], (int)i);
    HOST->fence(PLACE("atomic_thread_fence"), SM_SCOPE_DEVICE, SM_MEM_DEVICE, __ATOMIC_SEQ_CST);
    THREADGROUP_BARRIER(SM_MEM_DEVICE);
    if (self->index_in_threadgroup != 0)
        return;
    TOUCH(&BUFFER(int, 2)[0], SM_ACCESS_READ | SM_ACCESS_WRITE | SM_ACCESS_ATOMIC);
    if (__atomic_fetch_add(&BUFFER(int, 2)[0], 1, __ATOMIC_RELAXED) != 1)
        return;
    if (fixed)
        HOST->fence(PLACE("atomic_thread_fence"), SM_SCOPE_DEVICE, SM_MEM_DEVICE, __ATOMIC_SEQ_CST);
    for (uint32_t k = 0; k < n; k++)
        (void)LOAD(&BUFFER(int, 1)[k]);
}

#endif
