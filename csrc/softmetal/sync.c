/* The checker at barriers and fences: new intervals and epochs, and threads that are not where the others are. */
#include "softmetal/checker.h"

#include <string.h>

#define MAX_INTERVAL ((UINT32_C(1) << 28) - (UINT32_C(1) << 24)) /* leaves room for the barriers of one threadgroup */

void sm_check_fence(const sm_place *place, sm_scope scope, uint32_t mem_flags, int order) {
    sm_engine *e = sm_engine_here();
    sm_checker *c = e->checker;
    (void)place;
    if (!c || scope != SM_SCOPE_DEVICE || !(mem_flags & SM_MEM_DEVICE))
        return;
    if (order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST)
        c->group_released[c->n_groups - 1] = true;
    /* A fence acquires through what an atomic before it has read. */
    if (c->observed && (order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
                        order == __ATOMIC_SEQ_CST))
        c->acquired = true;
}

void sm_check_group(sm_engine *e) {
    sm_checker *c = e->checker;
    if (c->interval[0] > MAX_INTERVAL || c->interval[1] > MAX_INTERVAL)
        sm_checker_forget(c);
    for (int space = 0; space < 2; space++)
        c->first[space] = ++c->interval[space];
    memset(c->epoch, 0, sizeof c->epoch);
    memset(e->last_pc, 0, sizeof(void *) * e->n_threads);
    c->observed = c->acquired = false;
    c->bounds_raw = 0;
    c->misaligned = 0;
    c->fault_expected = false;
    c->group_first[c->n_groups] = c->first[SM_SPACE_DEVICE];
    c->group_released[c->n_groups] = false;
    memcpy(c->group_position[c->n_groups++], e->group.threadgroup_position_in_grid, sizeof c->group_position[0]);
}

static const sm_thread *thread_at(const sm_engine *e, uint32_t group, uint32_t at) {
    return sm_engine_fiber_thread(e, e->fiber_of[group * SM_SIMD_WIDTH + at]);
}

static void raw_barrier(sm_raw *raw, const sm_engine *e, const sm_place *place, uint32_t thread) {
    memset(raw, 0, sizeof *raw);
    raw->severity = SM_ERROR;
    raw->kind = SM_FINDING_DIVERGENT_BARRIER;
    raw->file = place->file;
    raw->line = place->line;
    raw->operation = place->operation;
    raw->count = 1;
    sm_raw_who(raw, e, thread);
}

/* A thread of the slots `ended` is not there any more. */
static void report_ended(sm_engine *e, sm_raw *raw, uint32_t thread) {
    raw->other = thread;
    raw->other_ended = true;
    raw->other_pc = e->last_pc[thread];
    if (!raw->other_pc) {
        raw->other_file = e->job->function->file;
        raw->other_line = e->job->function->line;
    }
    sm_raw_add(&e->checker->raws, raw);
}

void sm_check_barrier(sm_engine *e) {
    sm_checker *c = e->checker;
    if (c->n_pending)
        sm_check_flush(c);
    const sm_place *place = NULL;
    const sm_thread *leader = NULL;
    uint32_t flags = 0, ended = SM_NOBODY;
    for (uint32_t g = 0; g < e->n_simdgroups; g++) {
        const sm_simdgroup *s = &e->simdgroups[g];
        if (s->all & ~s->live && ended == SM_NOBODY)
            ended = s->index * SM_SIMD_WIDTH + s->lane_of[__builtin_ctz(s->all & ~s->live)];
        for (uint32_t rest = s->barrier; rest; rest &= rest - 1) {
            uint32_t at = (uint32_t)__builtin_ctz(rest);
            const sm_thread *t = thread_at(e, g, at);
            flags |= s->flags[at];
            if (!leader) {
                leader = t;
                place = s->place[at];
            } else if (t->path != leader->path || t->mark != leader->mark || !sm_meet_same_place(place, s->place[at])) {
                sm_raw raw;
                raw_barrier(&raw, e, place, leader->index_in_threadgroup);
                raw.other = t->index_in_threadgroup;
                raw.other_file = s->place[at]->file;
                raw.other_line = s->place[at]->line;
                if (sm_meet_same_place(place, s->place[at]))
                    raw.note = "they are in different turns of a loop";
                sm_raw_add(&c->raws, &raw);
            }
        }
    }
    if (ended != SM_NOBODY) {
        sm_raw raw;
        raw_barrier(&raw, e, place, leader->index_in_threadgroup);
        report_ended(e, &raw, ended);
    }
    if (flags & SM_MEM_DEVICE)
        c->interval[SM_SPACE_DEVICE]++;
    if (flags & SM_MEM_THREADGROUP)
        c->interval[SM_SPACE_THREADGROUP]++;
}

/* Where the numbers run out they begin anew at 1, and what they stood for becomes 0: before, for this simdgroup. */
static void next_epoch(sm_checker *c, uint32_t simdgroup, int space) {
    if (c->epoch[simdgroup][space] == UINT8_MAX) {
        sm_check_age(c, simdgroup, space);
        c->epoch[simdgroup][space] = 0;
    }
    c->epoch[simdgroup][space]++;
}

void sm_check_simd_barrier(sm_engine *e, sm_simdgroup *s, uint32_t slots) {
    sm_checker *c = e->checker;
    if (c->n_pending)
        sm_check_flush(c);
    uint32_t at = (uint32_t)__builtin_ctz(slots), thread = s->index * SM_SIMD_WIDTH + s->lane_of[at];
    if (s->live & ~slots) {
        uint32_t other = (uint32_t)__builtin_ctz(s->live & ~slots);
        sm_raw raw;
        raw_barrier(&raw, e, s->place[at], thread);
        raw.other = s->index * SM_SIMD_WIDTH + s->lane_of[other];
        raw.other_file = s->place[other]->file;
        raw.other_line = s->place[other]->line;
        sm_raw_add(&c->raws, &raw);
    }
    if (s->all & ~s->live) {
        sm_raw raw;
        raw_barrier(&raw, e, s->place[at], thread);
        raw.severity = SM_WARNING;
        report_ended(e, &raw, s->index * SM_SIMD_WIDTH + s->lane_of[__builtin_ctz(s->all & ~s->live)]);
    }
    if (s->flags[at] & SM_MEM_DEVICE)
        next_epoch(c, s->index, SM_SPACE_DEVICE);
    if (s->flags[at] & SM_MEM_THREADGROUP)
        next_epoch(c, s->index, SM_SPACE_THREADGROUP);
}
