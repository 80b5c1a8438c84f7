/* The scheduler: which thread of a threadgroup runs, and when a barrier opens. */
#include "softmetal/engine.h"

#include "softmetal/checker.h"
#include "softmetal/fiber.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SM_ASAN 1
#endif
#endif
#ifdef SM_ASAN
#include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13: a guard page without a mapping of its own */
#endif

enum {
    FIBER_BATCH = 32,
    KEPT_ENGINES = 64,
    COLOURS = 32,     /* stacks begin at different offsets in their page: all at one offset, the lanes of a */
    COLOUR_BYTES = 64 /* simdgroup would fight for the same few sets of the first-level cache */
};

/* Engines between dispatches. Slots are taken and filled by exchange, so there is no lock to inherit across fork. */
static _Atomic(sm_engine *) kept[KEPT_ENGINES];

static void fiber_main(void);

/* ---- memory ---- */

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void fiber_reset(sm_engine *e, uint32_t fiber) {
    char *top = (char *)sm_engine_fiber_thread(e, fiber) - (fiber % COLOURS) * COLOUR_BYTES;
#ifdef SM_ASAN
    char *low = (char *)e + SM_HEADER_BYTES + (uintptr_t)fiber * SM_STACK_BYTES + page_bytes();
    __asan_unpoison_memory_region(low, (size_t)(top - low));
#endif
    e->fiber_sp[fiber] = sm_fiber_prepare(top, fiber_main);
}

/* More fibers; false: out of memory (or of mappings). */
static bool fibers_grow(sm_engine *e) {
    uint32_t n = SM_MAX_THREADS - e->n_fibers < FIBER_BATCH ? SM_MAX_THREADS - e->n_fibers : FIBER_BATCH;
    char *low = (char *)e + SM_HEADER_BYTES + (uintptr_t)e->n_fibers * SM_STACK_BYTES;
    size_t page = page_bytes();
    if (mprotect(low, (size_t)n * SM_STACK_BYTES, PROT_READ | PROT_WRITE) != 0)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        char *guard = low + (size_t)i * SM_STACK_BYTES;
        if (madvise(guard, page, MADV_GUARD_INSTALL) != 0 && mprotect(guard, page, PROT_NONE) != 0)
            return false;
    }
    for (uint32_t i = n; i-- > 0;) {
        uint32_t fiber = e->n_fibers + i;
        fiber_reset(e, fiber);
        e->idle[e->n_idle++] = (uint16_t)fiber;
    }
    e->n_fibers += n;
    return true;
}

static void engine_free(sm_engine *e) {
    if (e->memory_map)
        munmap(e->memory_map, e->memory_map_bytes);
    munmap(e->signal_stack, SM_SIGNAL_STACK_BYTES);
    munmap(e, SM_ENGINE_BYTES);
}

static sm_engine *engine_new(void) {
    size_t used = SM_ENGINE_BYTES;
    size_t reserved = used + SM_REGION_BYTES;
    char *map = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    char *base = (char *)(((uintptr_t)map + SM_REGION_BYTES - 1) & ~(SM_REGION_BYTES - 1));
    if (base > map)
        munmap(map, (size_t)(base - map));
    if (base + used < map + reserved)
        munmap(base + used, (size_t)(map + reserved - (base + used)));
    size_t header = (sizeof(sm_engine) + page_bytes() - 1) & ~(page_bytes() - 1);
    void *stack = mmap(NULL, SM_SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED || mprotect(base, header, PROT_READ | PROT_WRITE) != 0) {
        if (stack != MAP_FAILED)
            munmap(stack, SM_SIGNAL_STACK_BYTES);
        munmap(base, used);
        return NULL;
    }
    sm_engine *e = (sm_engine *)base;
    e->signal_stack = stack;
    return e;
}

/* Threadgroup memory ends right before a guard page, so a far overrun cannot go unseen. */
static bool memory_fit(sm_engine *e, uint64_t bytes) {
    size_t page = page_bytes(), guard = 16 * page;
    if (!e->memory_map || e->memory_map_bytes < bytes + 2 * guard) {
        if (e->memory_map)
            munmap(e->memory_map, e->memory_map_bytes);
        size_t data = (size_t)((bytes + page - 1) / page * page);
        e->memory_map_bytes = data + 2 * guard;
        e->memory_map = mmap(NULL, e->memory_map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (e->memory_map == MAP_FAILED || mprotect(e->memory_map + guard, data, PROT_READ | PROT_WRITE) != 0) {
            if (e->memory_map != MAP_FAILED)
                munmap(e->memory_map, e->memory_map_bytes);
            e->memory_map = NULL;
            return false;
        }
    }
    e->memory_bytes = bytes;
    e->memory = e->memory_map + e->memory_map_bytes - guard - bytes;
    return true;
}

sm_engine *sm_engine_take(sm_job *job) {
    sm_engine *e = NULL;
    for (int i = 0; i < KEPT_ENGINES && !e; i++)
        if (atomic_load_explicit(&kept[i], memory_order_relaxed))
            e = atomic_exchange(&kept[i], NULL);
    if (!e)
        e = engine_new();
    if (!e)
        return NULL;
    if (!memory_fit(e, job->threadgroup_bytes)) {
        engine_free(e);
        return NULL;
    }
    e->job = job;
    e->checker = job->checker;
    e->order = job->dispatch->order;
    memset(e->shape, 0, sizeof e->shape);
    memset(&e->fault, 0, sizeof e->fault);
    e->unsupported = NULL;
    sm_group *g = &e->group;
    memset(g, 0, sizeof *g);
    g->arguments = e->arguments;
    g->static_memory = e->memory;
    for (int i = 0; i < 3; i++) {
        g->dispatch_threads_per_threadgroup[i] = job->size[i];
        g->threads_per_grid[i] = g->grid_size[i] = job->threads[i];
        g->threadgroups_per_grid[i] = job->groups[i];
    }
    uint32_t n = job->size[0] * job->size[1] * job->size[2];
    g->dispatch_simdgroups_per_threadgroup = (n + SM_SIMD_WIDTH - 1) / SM_SIMD_WIDTH;
    g->dispatch_quadgroups_per_threadgroup = (n + SM_QUAD_WIDTH - 1) / SM_QUAD_WIDTH;
    for (uint32_t i = 0; i < job->function->n_arguments; i++)
        e->arguments[i] = job->in_threadgroup[i] ? e->memory + ((uintptr_t)job->arguments[i] - 1) : job->arguments[i];
    return e;
}

void sm_engine_give(sm_engine *e) {
    e->job = NULL;
    e->checker = NULL;
    for (int i = 0; i < KEPT_ENGINES; i++) {
        sm_engine *none = NULL;
        if (atomic_compare_exchange_strong(&kept[i], &none, e))
            return;
    }
    engine_free(e);
}

void sm_executor_trim(void) {
    for (int i = 0; i < KEPT_ENGINES; i++) {
        sm_engine *e = atomic_exchange(&kept[i], NULL);
        if (e)
            engine_free(e);
    }
}

/* ---- the schedule ---- */

static void barrier_open(sm_engine *e) {
    if (e->checker)
        sm_check_barrier(e);
    for (uint32_t i = 0; i < e->n_simdgroups; i++) {
        sm_simdgroup *s = &e->simdgroups[i];
        s->ready = s->barrier;
        s->barrier = 0;
    }
    e->current = 0;
}

/* The slot to run next; SM_NOBODY when every thread has ended. */
static uint32_t pick(sm_engine *e) {
    for (;;) {
        uint32_t g = e->current;
        if (e->order == SM_ORDER_SHUFFLE)
            g = (uint32_t)(((sm_random(&e->random) >> 32) * e->n_simdgroups) >> 32);
        for (uint32_t k = 0; k < e->n_simdgroups; k++) {
            sm_simdgroup *s = &e->simdgroups[g];
            uint32_t runnable = s->fresh | s->ready;
            if (!runnable && (s->meeting | s->quad))
                runnable = sm_meet_resolve(e, s);
            if (runnable) {
                e->current = g;
                return g * SM_SIMD_WIDTH + (uint32_t)__builtin_ctz(runnable);
            }
            if (++g == e->n_simdgroups)
                g = 0;
        }
        if (!e->live)
            return SM_NOBODY;
        barrier_open(e);
    }
}

/* Switches to a slot that can run. */
static inline void switch_to(sm_engine *e, void **save, uint32_t next) {
    sm_simdgroup *s = &e->simdgroups[next / SM_SIMD_WIDTH];
    uint32_t bit = 1u << next % SM_SIMD_WIDTH;
    e->running = next;
    if (s->ready & bit) {
        s->ready ^= bit;
        sm_switch(save, e->sp[next]);
        return;
    }
    if (!e->n_idle && !fibers_grow(e)) {
        atomic_store(&e->job->out_of_memory, true);
        sm_engine_abort(e);
        return;
    }
    s->fresh ^= bit;
    uint32_t fiber = e->idle[--e->n_idle];
    e->fiber_of[next] = (uint16_t)fiber;
    sm_switch(save, e->fiber_sp[fiber]);
}

/* The running thread waits (its slot is in a mask by now): somebody else runs. */
static inline void wait_here(sm_engine *e, uint32_t slot, uint32_t next) {
    if (next == slot) {
        e->simdgroups[slot / SM_SIMD_WIDTH].ready &= ~(1u << slot % SM_SIMD_WIDTH);
        return;
    }
    switch_to(e, &e->sp[slot], next);
}

void sm_engine_barrier(const sm_place *place, sm_scope scope, uint32_t mem_flags) {
    sm_engine *e = sm_engine_here();
    uint32_t slot = e->running, at = slot % SM_SIMD_WIDTH;
    sm_simdgroup *s = &e->simdgroups[slot / SM_SIMD_WIDTH];
    s->flags[at] = (uint8_t)mem_flags;
    if (scope == SM_SCOPE_SIMDGROUP) {
        sm_engine_meet(place, scope, NULL, NULL, NULL);
        return;
    }
    s->place[at] = place;
    s->barrier |= 1u << at;
    uint32_t runnable = s->fresh | s->ready;
    wait_here(e, slot, runnable ? (slot - at) + (uint32_t)__builtin_ctz(runnable) : pick(e));
}

void sm_engine_meet(const sm_place *place, sm_scope scope, sm_combine combine, const void *in, void *out) {
    sm_engine *e = sm_engine_here();
    uint32_t slot = e->running, at = slot % SM_SIMD_WIDTH, bit = 1u << at;
    sm_simdgroup *s = &e->simdgroups[slot / SM_SIMD_WIDTH];
    uint32_t lane = s->lane_of[at];
    s->place[at] = place;
    s->combine[at] = combine;
    s->lanes.in[lane] = in;
    s->lanes.out[lane] = out;
    if (scope == SM_SCOPE_QUAD) {
        s->quad |= bit;
        if (sm_meet_quad(e, s, at)) {
            s->ready &= ~bit;
            return;
        }
    } else {
        const sm_thread *t = sm_thread_of(__builtin_frame_address(0));
        if (!s->meeting) {
            s->key_place = place;
            s->key_mark = t->mark;
            s->key_path = t->path;
            s->uniform = true;
        } else if (s->uniform) {
            s->uniform = s->key_mark == t->mark && s->key_path == t->path && sm_meet_same_place(s->key_place, place);
        }
        s->meeting |= bit;
        if (s->meeting == s->live && s->uniform) {
            sm_meet_serve(e, s, s->meeting);
            if (e->order != SM_ORDER_SHUFFLE) { /* the last to come goes on without a switch */
                s->ready &= ~bit;
                return;
            }
        }
    }
    uint32_t runnable = s->fresh | s->ready;
    wait_here(e, slot,
              runnable && e->order != SM_ORDER_SHUFFLE ? (slot - at) + (uint32_t)__builtin_ctz(runnable) : pick(e));
}

uint32_t sm_engine_live_lanes(void) {
    sm_engine *e = sm_engine_here();
    const sm_simdgroup *s = &e->simdgroups[e->running / SM_SIMD_WIDTH];
    return sm_meet_lanes(s, s->live);
}

void sm_engine_abort(sm_engine *e) {
    e->aborted = true;
    sm_switch(&e->dead_sp, e->main_sp);
}

/* ---- threads ---- */

static inline void thread_begin(const sm_engine *e, uint32_t slot, sm_thread *t) {
    const sm_simdgroup *s = &e->simdgroups[slot / SM_SIMD_WIDTH];
    uint32_t lane = s->lane_of[slot % SM_SIMD_WIDTH], index = s->index * SM_SIMD_WIDTH + lane;
    const uint16_t *p = e->positions[index];
    t->group = &e->group;
    t->constants = e->job->constants;
    for (int i = 0; i < 3; i++) {
        t->position_in_threadgroup[i] = p[i];
        t->position_in_grid[i] = e->first_thread[i] + p[i];
    }
    t->index_in_threadgroup = index;
    t->index_in_simdgroup = lane;
    t->simdgroup_index_in_threadgroup = s->index;
    t->index_in_quadgroup = lane % SM_QUAD_WIDTH;
    t->quadgroup_index_in_threadgroup = index / SM_QUAD_WIDTH;
    t->mark = 0;
    t->path = 0;
    t->loop_depth = 0;
}

/* What every fiber runs: threads, one after another. Threads that never wait all run on one fiber. */
static void fiber_main(void) {
    sm_engine *e = sm_engine_here();
    sm_thread *t = sm_thread_of(__builtin_frame_address(0));
    uint32_t fiber = (uint32_t)(((uintptr_t)t - (uintptr_t)e - SM_HEADER_BYTES) / SM_STACK_BYTES);
    for (;;) {
        uint32_t slot = e->running;
        sm_simdgroup *s = &e->simdgroups[slot / SM_SIMD_WIDTH];
        thread_begin(e, slot, t);
        e->job->function->entry(t);

        s->live &= ~(1u << slot % SM_SIMD_WIDTH);
        e->live--;
        uint32_t runnable = s->fresh | s->ready;
        uint32_t next = runnable ? (slot & ~(SM_SIMD_WIDTH - 1)) + (uint32_t)__builtin_ctz(runnable) : pick(e);
        if (next == SM_NOBODY) {
            e->idle[e->n_idle++] = (uint16_t)fiber;
            sm_switch(&e->fiber_sp[fiber], e->main_sp);
            continue;
        }
        sm_simdgroup *n = &e->simdgroups[next / SM_SIMD_WIDTH];
        uint32_t bit = 1u << next % SM_SIMD_WIDTH;
        e->running = next;
        if (n->fresh & bit) {
            n->fresh ^= bit;
            e->fiber_of[next] = (uint16_t)fiber;
            continue;
        }
        n->ready ^= bit;
        e->idle[e->n_idle++] = (uint16_t)fiber;
        sm_switch(&e->fiber_sp[fiber], e->sp[next]);
    }
}

/* ---- threadgroups ---- */

static void shuffle(uint64_t *random, uint32_t *items, uint32_t n) {
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)(((sm_random(random) >> 32) * i) >> 32), t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

/* Who is where in the running order. */
static void lay_out(sm_engine *e) {
    uint32_t order[SM_MAX_SIMDGROUPS], n = e->n_simdgroups;
    for (uint32_t i = 0; i < n; i++)
        order[i] = e->order == SM_ORDER_REVERSE ? n - 1 - i : i;
    if (e->order == SM_ORDER_SHUFFLE)
        shuffle(&e->random, order, n);
    for (uint32_t i = 0; i < n; i++) {
        sm_simdgroup *s = &e->simdgroups[i];
        s->index = order[i];
        uint32_t lanes = e->n_threads - order[i] * SM_SIMD_WIDTH, lane[SM_SIMD_WIDTH];
        if (lanes > SM_SIMD_WIDTH)
            lanes = SM_SIMD_WIDTH;
        s->all = lanes == SM_SIMD_WIDTH ? UINT32_MAX : (1u << lanes) - 1;
        for (uint32_t k = 0; k < lanes; k++)
            lane[k] = e->order == SM_ORDER_REVERSE ? lanes - 1 - k : k;
        if (e->order == SM_ORDER_SHUFFLE)
            shuffle(&e->random, lane, lanes);
        for (uint32_t k = 0; k < lanes; k++)
            s->lane_of[k] = (uint8_t)lane[k];
        s->lanes.width = SM_SIMD_WIDTH;
    }
}

static void set_shape(sm_engine *e, const uint32_t shape[3]) {
    memcpy(e->shape, shape, sizeof e->shape);
    e->n_threads = shape[0] * shape[1] * shape[2];
    e->n_simdgroups = (e->n_threads + SM_SIMD_WIDTH - 1) / SM_SIMD_WIDTH;
    uint32_t i = 0;
    for (uint32_t z = 0; z < shape[2]; z++)
        for (uint32_t y = 0; y < shape[1]; y++)
            for (uint32_t x = 0; x < shape[0]; x++, i++) {
                e->positions[i][0] = (uint16_t)x;
                e->positions[i][1] = (uint16_t)y;
                e->positions[i][2] = (uint16_t)z;
            }
    memcpy(e->group.threads_per_threadgroup, shape, sizeof e->shape);
    e->group.simdgroups_per_threadgroup = e->n_simdgroups;
    e->group.quadgroups_per_threadgroup = (e->n_threads + SM_QUAD_WIDTH - 1) / SM_QUAD_WIDTH;
    lay_out(e);
}

bool sm_engine_run(sm_engine *e, const uint32_t position[3]) {
    const sm_job *job = e->job;
    uint32_t shape[3];
    for (int i = 0; i < 3; i++) {
        e->group.threadgroup_position_in_grid[i] = position[i];
        e->first_thread[i] = position[i] * job->size[i];
        uint32_t left = job->threads[i] - e->first_thread[i];
        shape[i] = left < job->size[i] ? left : job->size[i];
    }
    if (e->order == SM_ORDER_SHUFFLE) {
        e->random = job->shuffle ^ ((uint64_t)position[2] << 42) ^ ((uint64_t)position[1] << 21) ^ position[0];
        memset(e->shape, 0, sizeof e->shape);
    }
    if (memcmp(shape, e->shape, sizeof shape) != 0)
        set_shape(e, shape);
    for (uint32_t i = 0; i < e->n_simdgroups; i++) {
        sm_simdgroup *s = &e->simdgroups[i];
        s->fresh = s->live = s->all;
        s->ready = s->meeting = s->quad = s->barrier = 0;
    }
    if (e->memory_bytes)
        memset(e->memory, 0xff, e->memory_bytes); /* NaN in every float type */
    e->live = e->n_threads;
    e->current = 0;
    e->aborted = false;
    if (!e->n_idle && !fibers_grow(e)) {
        atomic_store(&e->job->out_of_memory, true);
        return false;
    }
    if (e->checker)
        sm_check_group(e);
    uint32_t first = pick(e);
    e->in_kernel = true;
    switch_to(e, &e->main_sp, first);
    e->in_kernel = false;
    if (e->checker)
        sm_check_flush(e->checker);
    if (!e->aborted)
        return true;
    e->n_idle = 0; /* the fibers stand somewhere in the kernel: begin them anew */
    for (uint32_t i = e->n_fibers; i-- > 0;) {
        fiber_reset(e, i);
        e->idle[e->n_idle++] = (uint16_t)i;
    }
    return false;
}
