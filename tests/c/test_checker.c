/* The checker, driven as a checked module drives it: what must be found, and what must not. */
#include "softmetal.h"

#include "metallic.h"

#include <stdlib.h>

int failures;

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

typedef struct test_case {
    const char *name;
    void (*entry)(sm_thread *);
    sm_finding_kind kind;
    sm_severity severity;
    const char *text; /* part of the message; NULL: any */
    int buffer;
    uint32_t writes; /* mask of buffers the kernel declares writable; 0: all */
    uint64_t offset; /* of buffer 1 */
    bool read_only;  /* buffer 1 */
    bool unbound;    /* buffer 1 */
    bool may_abandon;
    size_t most; /* findings; 0: 2 */
} test_case;

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

static const test_case cases[] = {
    {.name = "missing barrier",
     .entry = tile_exchange,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "threadgroup array 'tile'",
     .buffer = -1},
    {.name = "wrong flags",
     .entry = wrong_flags,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "with no barrier in between",
     .buffer = -1},
    {.name = "mem_none", .entry = no_flags, .kind = SM_FINDING_RACE, .severity = SM_ERROR, .buffer = -1},
    {.name = "tile reuse", .entry = tile_reuse, .kind = SM_FINDING_RACE, .severity = SM_ERROR, .buffer = -1},
    {.name = "simdgroup exchange", .entry = simd_exchange, .kind = SM_FINDING_RACE, .severity = SM_ERROR, .buffer = -1},
    {.name = "simdgroup barrier too weak",
     .entry = simd_barrier_too_weak,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "same value",
     .entry = same_value,
     .kind = SM_FINDING_RACE_SAME_VALUE,
     .severity = SM_NOTE,
     .text = "same value",
     .buffer = -1},
    {.name = "different values",
     .entry = different_values,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "atomics",
     .entry = atomics,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "atomically modifies",
     .buffer = -1},
    {.name = "atomic start",
     .entry = atomic_start,
     .kind = SM_FINDING_RACE_ATOMIC,
     .severity = SM_WARNING,
     .buffer = -1},
    {.name = "half words",
     .entry = half_words,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "2 bytes",
     .buffer = -1},
    {.name = "bytes after words",
     .entry = bytes_after_words,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "device exchange",
     .entry = device_exchange,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "buffer 1 'b'",
     .buffer = 1},
    {.name = "write between groups",
     .entry = between_groups_ww,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "threadgroup (0, 0, 0)",
     .buffer = 1},
    {.name = "same write between groups",
     .entry = between_groups_same,
     .kind = SM_FINDING_RACE_SAME_VALUE,
     .severity = SM_NOTE,
     .buffer = 1},
    {.name = "read between groups",
     .entry = between_groups_rw,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "nothing orders the threadgroups",
     .buffer = 1},
    {.name = "write after read between groups",
     .entry = between_groups_war,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "nothing orders",
     .buffer = 1},
    {.name = "device atomics", .entry = device_atomics, .kind = SM_FINDING_RACE, .severity = SM_ERROR, .buffer = 1},
    {.name = "over the end",
     .entry = over_end,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte 1024 of buffer 1 'b' (1024 bytes)",
     .buffer = 1},
    {.name = "read over the end",
     .entry = read_over_end,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "reads 4 bytes at byte 1024",
     .buffer = 0},
    {.name = "far away",
     .entry = far_away,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "writes",
     .buffer = -1,
     .may_abandon = true},
    {.name = "before the start",
     .entry = before_start,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte -4 of buffer 0",
     .buffer = 0},
    {.name = "before the offset",
     .entry = before_offset,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_WARNING,
     .text = "byte 60 of",
     .buffer = 1,
     .offset = 64},
    {.name = "over the tile",
     .entry = tile_over_end,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte 256 of threadgroup array 'small'",
     .buffer = -1},
    {.name = "before the tile",
     .entry = tile_before,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte -4 of threadgroup array 'tile'",
     .buffer = -1},
    {.name = "far over the tile",
     .entry = tile_far,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .buffer = -1,
     .may_abandon = true},
    {.name = "over dynamic memory",
     .entry = dynamic_over_end,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte 256 of threadgroup array 'd'",
     .buffer = -1},
    {.name = "thread array",
     .entry = index_callback,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "index 16 of an array float [16]",
     .buffer = -1},
    {.name = "index of the tile",
     .entry = tile_index_callback,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "'tile'",
     .buffer = -1},
    {.name = "uninitialised",
     .entry = uninitialised,
     .kind = SM_FINDING_UNINITIALISED,
     .severity = SM_ERROR,
     .text = "byte 36 of threadgroup array 'tile'",
     .buffer = -1},
    {.name = "early return",
     .entry = early_return,
     .kind = SM_FINDING_DIVERGENT_BARRIER,
     .severity = SM_ERROR,
     .text = "thread (60, 0, 0) has ended",
     .buffer = -1},
    {.name = "two barriers",
     .entry = two_barriers,
     .kind = SM_FINDING_DIVERGENT_BARRIER,
     .severity = SM_ERROR,
     .text = "is at kernel.metal",
     .buffer = -1},
    {.name = "barrier in a loop",
     .entry = loop_barrier,
     .kind = SM_FINDING_DIVERGENT_BARRIER,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "simdgroup barrier in a branch",
     .entry = simd_barrier_in_branch,
     .kind = SM_FINDING_DIVERGENT_BARRIER,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "misaligned",
     .entry = misaligned,
     .kind = SM_FINDING_MISALIGNED,
     .severity = SM_ERROR,
     .text = "float2",
     .buffer = 1},
    {.name = "unbound read",
     .entry = unbound_read,
     .kind = SM_FINDING_UNBOUND_BUFFER,
     .severity = SM_ERROR,
     .text = "buffer 1 'b', which is not bound",
     .buffer = 1,
     .unbound = true},
    {.name = "unbound write",
     .entry = unbound_write,
     .kind = SM_FINDING_UNBOUND_BUFFER,
     .severity = SM_ERROR,
     .text = "writes",
     .buffer = 1,
     .unbound = true,
     .may_abandon = true},
    {.name = "read-only",
     .entry = writes_first,
     .kind = SM_FINDING_READ_ONLY_WRITTEN,
     .severity = SM_ERROR,
     .text = "bound as read-only",
     .buffer = 1,
     .read_only = true},
    {.name = "const",
     .entry = writes_first,
     .kind = SM_FINDING_READ_ONLY_WRITTEN,
     .severity = SM_ERROR,
     .text = "declares it const",
     .buffer = 1,
     .writes = 4},
    {.name = "fence of the last group",
     .entry = last_group,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "nothing orders",
     .buffer = 1},
    {.name = "acquires too early",
     .entry = acquires_too_early,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "nothing orders",
     .buffer = 1},
    {.name = "index of the tile, with a load in between",
     .entry = tile_index_then_load,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "index 256 of an array int [256] (threadgroup array 'tile')",
     .buffer = -1,
     .most = 1},
    {.name = "past the end, and into the next array",
     .entry = tile_into_next,
     .kind = SM_FINDING_OUT_OF_BOUNDS,
     .severity = SM_ERROR,
     .text = "byte 1924 of threadgroup array 'tile'",
     .buffer = -1,
     .most = 1},
};

static const sm_order orders[] = {SM_ORDER_FORWARD, SM_ORDER_REVERSE, SM_ORDER_SHUFFLE};

static void run_case(const test_case *c, sm_order order) {
    make_kernel(&kernel, c->entry, 4, c->writes ? c->writes : 7);
    kernel.module.checked = 1;
    kernel.arguments[3].kind = SM_ARGUMENT_THREADGROUP;
    kernel.arguments[3].index = 0;
    add_array(&kernel, 0, "tile", 1024);
    add_array(&kernel, 1, "small", 256);
    int *memory = calloc(3 * N, sizeof *memory); /* neighbours without a gap */
    sm_dispatch d = make_dispatch(&kernel, 2, 64);
    d.order = order;
    d.seed = 3;
    d.threadgroup_memory[0] = 256;
    for (int i = 0; i < 3; i++)
        bind_memory(&d, i, memory + i * N, N * sizeof *memory);
    d.buffers[1].offset = c->offset;
    d.buffers[1].read_only = c->read_only;
    if (c->unbound)
        d.buffers[1].address = NULL;
    sm_findings found = {0};
    ml_status status = sm_dispatch_run(&d, &found);
    bool ok;
    if (fixed) {
        ok = status == ML_OK && found.n == 0;
    } else {
        const sm_finding *f = NULL;
        for (size_t i = 0; i < found.n; i++)
            if (found.items[i].kind == c->kind && found.items[i].severity == c->severity && !f)
                f = &found.items[i];
        ok =
            f && (status == ML_OK || (c->may_abandon && status == ML_ERR_DEVICE)) && found.n <= (c->most ? c->most : 2);
        ok = ok && f->buffer == c->buffer;
        if (ok && c->text && order == SM_ORDER_FORWARD)
            ok = strstr(f->message, c->text) != NULL;
        ok = ok && f->thread.known && f->line > 0;
    }
    if (!ok) {
        char *text = sm_findings_text(&found);
        fprintf(stderr, "FAILED: %s (%s, order %d): status %d\n%s", c->name, fixed ? "clean" : "defect", (int)order,
                (int)status, text);
        free(text);
        failures++;
    }
    char *json = sm_findings_json(&found);
    EXPECT(json && json[0] == '[', 1);
    free(json);
    sm_findings_clear(&found);
    free(memory);
    end_kernel(&kernel);
}

/* ---- results are those of an unchecked run, and only what was written comes back ---- */

static void scatter(sm_thread *self) {
    uint32_t i = self->position_in_grid[0];
    if (i % 3 == 0)
        STORE(&BUFFER(int, 1)[i], LOAD(&BUFFER(int, 0)[i]) + LOAD(&BUFFER(int, 1)[i]));
}

static void test_results(void) {
    make_kernel(&kernel, scatter, 2, 2);
    kernel.module.checked = 1;
    int a[N], b[N];
    for (int i = 0; i < N; i++) {
        a[i] = 10 * i;
        b[i] = i;
    }
    sm_dispatch d = make_dispatch(&kernel, N / 64, 64);
    bind_memory(&d, 0, a, sizeof a);
    bind_memory(&d, 1, b, sizeof b);
    sm_findings found = {0};
    EXPECT(sm_dispatch_run(&d, &found), ML_OK);
    EXPECT(found.n, 0);
    for (int i = 0; i < N; i++)
        EXPECT(b[i], i % 3 ? i : 11 * i);
    /* Both bindings over one memory, partly: they move together. */
    int c[N + 8] = {0};
    for (int i = 0; i < N + 8; i++)
        c[i] = i;
    bind_memory(&d, 0, c, N * sizeof *c);
    bind_memory(&d, 1, c + 1, N * sizeof *c);
    d.grid[0] = 1;
    d.threads_per_threadgroup[0] = 1;
    EXPECT(sm_dispatch_run(&d, &found), ML_OK);
    EXPECT(found.n, 0);
    EXPECT(c[1], 1);
    EXPECT(c[0], 0);
    end_kernel(&kernel);
}

int main(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int o = 0; o < 3; o++) {
            fixed = false;
            run_case(&cases[i], orders[o]);
            fixed = true;
            run_case(&cases[i], orders[o]);
        }
    test_results();
    sm_executor_trim();
    printf("checker: %d failures\n", failures);
    return failures != 0;
}
