/* Simd and quad operations: who meets whom, and in which order when control flow has diverged. */
#include "softmetal/engine.h"

#include "softmetal/checker.h"

#include <string.h>

bool sm_meet_same_place(const sm_place *a, const sm_place *b) {
    return a == b || (a->line == b->line && (a->file == b->file || strcmp(a->file, b->file) == 0));
}

uint32_t sm_meet_lanes(const sm_simdgroup *s, uint32_t slots) {
    uint32_t lanes = 0;
    for (uint32_t rest = slots; rest; rest &= rest - 1)
        lanes |= 1u << s->lane_of[__builtin_ctz(rest)];
    return lanes;
}

static const sm_thread *thread_at(const sm_engine *e, const sm_simdgroup *s, uint32_t at) {
    return sm_engine_fiber_thread(e, e->fiber_of[(uint32_t)(s - e->simdgroups) * SM_SIMD_WIDTH + at]);
}

static bool same_key(const sm_engine *e, const sm_simdgroup *s, uint32_t a, uint32_t b) {
    const sm_thread *ta = thread_at(e, s, a), *tb = thread_at(e, s, b);
    return ta->mark == tb->mark && ta->path == tb->path && sm_meet_same_place(s->place[a], s->place[b]);
}

/* Rank in the order of execution: from the module's table, else the line. */
static uint32_t rank_of(const sm_module *m, const sm_place *p) {
    uint32_t low = 0, high = m->n_ranks;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const sm_rank *r = &m->ranks[middle];
        int order = r->file == p->file ? 0 : strcmp(r->file, p->file);
        if (!order)
            order = r->line < p->line ? -1 : r->line > p->line;
        if (!order)
            return r->rank;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return p->line;
}

/* Whether slot a stands earlier than b. In one loop the lower turn is earlier; out of step otherwise, the place is. */
static bool earlier(const sm_engine *e, const sm_simdgroup *s, uint32_t a, uint32_t b) {
    const sm_thread *ta = thread_at(e, s, a), *tb = thread_at(e, s, b);
    uint32_t depth = ta->loop_depth < tb->loop_depth ? ta->loop_depth : tb->loop_depth;
    if (depth > SM_LOOP_LEVELS)
        depth = SM_LOOP_LEVELS;
    for (uint32_t i = 0; i < depth && ta->loops[i].line == tb->loops[i].line; i++)
        if (ta->loops[i].turn != tb->loops[i].turn)
            return ta->loops[i].turn < tb->loops[i].turn;
    uint32_t ra = rank_of(e->job->module, s->place[a]), rb = rank_of(e->job->module, s->place[b]);
    return ra != rb ? ra < rb : ta->mark < tb->mark;
}

void sm_meet_serve(sm_engine *e, sm_simdgroup *s, uint32_t slots) {
    uint32_t at = (uint32_t)__builtin_ctz(slots);
    if (s->combine[at]) {
        s->lanes.active = e->order == SM_ORDER_FORWARD ? slots : sm_meet_lanes(s, slots);
        s->combine[at](&s->lanes);
    } else if (e->checker) {
        sm_check_simd_barrier(e, s, slots);
    }
    s->meeting &= ~slots;
    s->ready |= slots;
}

/* The slots, all of one quad, that wait at a quad operation. */
static void serve_quad(sm_simdgroup *s, uint32_t slots) {
    uint32_t at = (uint32_t)__builtin_ctz(slots), first = s->lane_of[at] & ~(SM_QUAD_WIDTH - 1u);
    sm_lanes lanes = {.width = SM_QUAD_WIDTH};
    for (uint32_t rest = slots; rest; rest &= rest - 1) {
        uint32_t lane = s->lane_of[__builtin_ctz(rest)];
        lanes.active |= 1u << (lane - first);
        lanes.in[lane - first] = s->lanes.in[lane];
        lanes.out[lane - first] = s->lanes.out[lane];
    }
    s->combine[at](&lanes);
    s->quad &= ~slots;
    s->ready |= slots;
}

static uint32_t of_quad(const sm_simdgroup *s, uint32_t slots, uint32_t at) {
    uint32_t quad = 0;
    for (uint32_t rest = slots; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);
        if (s->lane_of[k] / SM_QUAD_WIDTH == s->lane_of[at] / SM_QUAD_WIDTH)
            quad |= 1u << k;
    }
    return quad;
}

bool sm_meet_quad(sm_engine *e, sm_simdgroup *s, uint32_t at) {
    uint32_t quad = of_quad(s, s->live, at);
    if (quad & ~s->quad)
        return false;
    for (uint32_t rest = quad; rest; rest &= rest - 1)
        if (!same_key(e, s, at, (uint32_t)__builtin_ctz(rest)))
            return false;
    serve_quad(s, quad);
    return true;
}

uint32_t sm_meet_resolve(sm_engine *e, sm_simdgroup *s) {
    uint32_t waiting = s->meeting | s->quad, best = (uint32_t)__builtin_ctz(waiting);
    for (uint32_t rest = waiting & (waiting - 1); rest; rest &= rest - 1) {
        uint32_t at = (uint32_t)__builtin_ctz(rest);
        if (earlier(e, s, at, best))
            best = at;
    }
    bool is_quad = s->quad >> best & 1;
    uint32_t slots = 0;
    for (uint32_t rest = is_quad ? of_quad(s, s->quad, best) : s->meeting; rest; rest &= rest - 1) {
        uint32_t at = (uint32_t)__builtin_ctz(rest);
        if (same_key(e, s, best, at))
            slots |= 1u << at;
    }
    if (is_quad) {
        serve_quad(s, slots);
    } else {
        sm_meet_serve(e, s, slots);
        s->uniform = false; /* those that still wait are looked at one by one */
    }
    return s->ready;
}
