/* One engine runs one threadgroup at a time: its fibers, its threadgroup memory and the schedule of its simdgroups.
 *
 * An engine is one aligned region of address space, the struct first and the fiber stacks behind it, so host services
 * find it from the stack pointer:
 *
 *     +0                 sm_engine
 *     +SM_HEADER_BYTES   stack of fiber 0: guard page, stack, sm_thread (SM_THREAD_BYTES)
 *     ...                stack of fiber SM_MAX_THREADS - 1
 *
 * Terms: a *lane* is a thread's position in its simdgroup, as the kernel sees it. A *slot* is its place in the running
 * order: the masks below have one bit per slot, and the lowest bit that can run runs first. In forward order both are
 * the same.
 */
#ifndef SM_ENGINE_H
#define SM_ENGINE_H

#include "softmetal/executor.h"

#include <signal.h>
#include <stdatomic.h>

#define SM_REGION_BYTES ((uintptr_t)512 << 20)
#define SM_HEADER_BYTES ((uintptr_t)1 << 20)
#define SM_ENGINE_BYTES (SM_HEADER_BYTES + (uintptr_t)SM_MAX_THREADS * SM_STACK_BYTES) /* the rest is not its own */
#define SM_MAX_SIMDGROUPS (SM_MAX_THREADS / SM_SIMD_WIDTH)
#define SM_NOBODY UINT32_MAX
#define SM_MAX_ARGUMENTS 128

struct sm_checker;

typedef struct sm_simdgroup {
    /* Every live slot but the running one is in exactly one of the first five. */
    uint32_t fresh;   /* not begun */
    uint32_t ready;   /* can go on */
    uint32_t meeting; /* at a simd operation or a simdgroup barrier */
    uint32_t quad;    /* at a quad operation */
    uint32_t barrier; /* at a threadgroup barrier */
    uint32_t live;    /* not ended */
    uint32_t all;     /* the slots that exist */
    uint32_t index;   /* simdgroup_index_in_threadgroup */

    /* Where the first of `meeting` stands, and whether all of them stand there. */
    const sm_place *key_place;
    uint64_t key_path;
    uint32_t key_mark;
    bool uniform;

    uint8_t lane_of[SM_SIMD_WIDTH];       /* by slot */
    uint8_t flags[SM_SIMD_WIDTH];         /* by slot: mem_flags of the barrier it waits at */
    const sm_place *place[SM_SIMD_WIDTH]; /* by slot: what it waits at, or waited at last */
    sm_combine combine[SM_SIMD_WIDTH];    /* by slot; NULL: simdgroup barrier */
    sm_lanes lanes;                       /* in and out by lane */
} sm_simdgroup;

/* Why a threadgroup was abandoned; written by the fault handler, so plain data only. */
typedef struct sm_fault {
    int signal; /* 0: none */
    int code;
    uintptr_t address, pc;
    uint32_t thread; /* index in threadgroup */
    uint32_t group[3];
} sm_fault;

/* How a kernel's threadgroup arrays lie in memory; made once per kernel, kept in sm_kernel.executor. */
typedef struct sm_layout {
    uint64_t declared; /* sum of sizes */
    uint64_t bytes;    /* with gaps, a multiple of SM_GAP_BYTES */
    /* Source lines that were looked up. */
    atomic_flag lines_busy;
    struct sm_known_line *lines;
    size_t n_lines, lines_capacity;
} sm_layout;
#define SM_GAP_BYTES 128u
#define SM_CHECKED_GAP_BYTES 1024u /* checked kernels: an overrun should not end in the next array */

/* What all workers of one dispatch share. */
typedef struct sm_job {
    const sm_dispatch *dispatch;
    const sm_module *module;
    const sm_function *function;
    const unsigned char *constants;
    struct sm_checker *checker;            /* NULL: unchecked */
    void *arguments[SM_MAX_ARGUMENTS];     /* threadgroup arguments: offset in threadgroup memory, plus 1 */
    bool in_threadgroup[SM_MAX_ARGUMENTS]; /* which ones those are */
    uint64_t threadgroup_bytes;            /* with gaps */
    uint32_t size[3];                      /* threads_per_threadgroup */
    uint32_t threads[3];                   /* threads_per_grid */
    uint32_t groups[3];
    uint64_t n_groups, groups_per_task;
    uint64_t shuffle; /* mixed seed */
    int max_workers;
    struct sm_engine **engines; /* by worker, filled when a worker first comes */
    atomic_bool stop;
    atomic_bool out_of_memory;
} sm_job;

typedef struct sm_engine {
    /* ---- the schedule ---- */
    uint32_t running;      /* slot in the threadgroup: simdgroup in running order * 32 + slot */
    uint32_t current;      /* simdgroup in running order that is looked at first */
    uint32_t n_simdgroups; /* of this threadgroup */
    uint32_t live;         /* threads of this threadgroup that have not ended */
    uint32_t n_threads;
    uint32_t n_idle, n_fibers;
    sm_order order;
    uint64_t random;
    struct sm_checker *checker;
    void *main_sp;
    void *dead_sp; /* where abandoned and finished fibers leave their stack pointer */
    sm_job *job;
    bool aborted;
    bool in_kernel; /* read by the fault handler of this OS thread */

    /* ---- the threadgroup ---- */
    sm_group group;
    uint32_t first_thread[3]; /* position in grid of its first thread */
    uint32_t shape[3];        /* what positions and simdgroups are laid out for */
    sm_order laid_out;
    void *arguments[SM_MAX_ARGUMENTS];
    unsigned char *memory; /* threadgroup memory of this dispatch */
    uint64_t memory_bytes;
    unsigned char *memory_map; /* the mapping: guard, data, guard */
    uint64_t memory_map_bytes;

    sm_fault fault;
    const char *unsupported; /* message of the host service of that name */
    sm_place unsupported_place;
    void *signal_stack;

    uint16_t idle[SM_MAX_THREADS];     /* fibers that run no thread, last one first */
    uint16_t fiber_of[SM_MAX_THREADS]; /* by slot, once begun */
    uint16_t positions[SM_MAX_THREADS][3];
    void *sp[SM_MAX_THREADS];            /* by slot: where a waiting thread goes on */
    void *fiber_sp[SM_MAX_THREADS];      /* by fiber: where an idle fiber goes on */
    const void *last_pc[SM_MAX_THREADS]; /* by index in threadgroup; checked modules */
    sm_simdgroup simdgroups[SM_MAX_SIMDGROUPS];
} sm_engine;

_Static_assert(sizeof(sm_engine) <= SM_HEADER_BYTES, "the engine fits before its stacks");
_Static_assert(sizeof(sm_thread) <= SM_THREAD_BYTES, "a thread fits its place on the stack");

/* The engine whose fiber is running. */
static inline sm_engine *sm_engine_here(void) {
    return (sm_engine *)((uintptr_t)__builtin_frame_address(0) & ~(SM_REGION_BYTES - 1));
}

static inline sm_thread *sm_engine_fiber_thread(const sm_engine *e, uint32_t fiber) {
    return (sm_thread *)((uintptr_t)e + SM_HEADER_BYTES + ((uintptr_t)fiber + 1) * SM_STACK_BYTES - SM_THREAD_BYTES);
}

/* index_in_threadgroup of a slot. */
static inline uint32_t sm_engine_thread_index(const sm_engine *e, uint32_t slot) {
    const sm_simdgroup *s = &e->simdgroups[slot / SM_SIMD_WIDTH];
    return s->index * SM_SIMD_WIDTH + s->lane_of[slot % SM_SIMD_WIDTH];
}

static inline uint64_t sm_random(uint64_t *state) { /* splitmix64: Steele, Lea, Flood 2014 */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- engine.c ---- */

/* An engine with room for the job's threadgroup memory, kept from earlier dispatches or new; NULL: out of memory. */
sm_engine *sm_engine_take(sm_job *job);
void sm_engine_give(sm_engine *e);
/* Runs one threadgroup on the calling OS thread, between sm_fault_enter and sm_fault_leave. False: abandoned. */
bool sm_engine_run(sm_engine *e, const uint32_t position[3]);
/* Abandons the threadgroup; called on one of its fibers, does not return. (Not declared so: AddressSanitizer would look
 * for the bounds of a stack that it does not know.) */
void sm_engine_abort(sm_engine *e);
/* Host services. */
void sm_engine_barrier(const sm_place *place, sm_scope scope, uint32_t mem_flags);
void sm_engine_meet(const sm_place *place, sm_scope scope, sm_combine combine, const void *in, void *out);
uint32_t sm_engine_live_lanes(void);

/* ---- meet.c ---- */

/* Lanes of a mask of slots. */
uint32_t sm_meet_lanes(const sm_simdgroup *s, uint32_t slots);
/* Nothing in s can run, but someone waits at a simd or quad operation: serves the earliest place. Returns s->ready. */
uint32_t sm_meet_resolve(sm_engine *e, sm_simdgroup *s);
/* A lane has come to a quad operation: serves its quad if that is complete. True: served, the lane is in s->ready. */
bool sm_meet_quad(sm_engine *e, sm_simdgroup *s, uint32_t slot);
/* Runs the operation for the slots, which all wait at the same place. */
void sm_meet_serve(sm_engine *e, sm_simdgroup *s, uint32_t slots);
bool sm_meet_same_place(const sm_place *a, const sm_place *b);

/* ---- executor.c ---- */

/* What an unbound buffer reads: zeros, then a guard. One place per index, so that a fault tells which. */
#define SM_ZERO_BYTES (64u << 10)
#define SM_ZERO_SPACING ((uintptr_t)1 << 20)
/* The index that an address near a zero page stands for; -1: none. */
int sm_zero_index(uintptr_t address);

/* ---- fault.c ---- */

/* Makes faults of this OS thread abandon e's threadgroup until sm_fault_leave. */
typedef struct sm_fault_state {
    stack_t old_stack;
    bool stack_set;
    sigset_t old_mask;
    uint64_t fp_mode;
    struct sm_engine *outer;
} sm_fault_state;
void sm_fault_enter(sm_engine *e, sm_fault_state *state);
void sm_fault_leave(const sm_fault_state *state);
/* Installs the handlers unless they are there. Called at the start of every dispatch: others may have replaced them. */
void sm_fault_install(void);
#define SM_SIGNAL_STACK_BYTES (64u << 10)

#endif
