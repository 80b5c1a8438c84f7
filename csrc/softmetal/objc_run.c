/* What a command buffer does when it runs. */
#include "softmetal/objc_classes.h"

#include <stdlib.h>
#include <string.h>

typedef struct running {
    sm_command_buffer *buffer;
    sm_hazards *hazards; /* NULL: not tracked */
    sm_findings findings;
    uint64_t dispatches;
} running;

/* In a command buffer with unretained references the program sees to it that what is used lives until it has run. */
static bool is_alive(running *r, const sm_command *c) {
    for (int i = 0; r->buffer->unretained && i < c->n_used; i++) {
        const sm_labelled *used = c->used[i];
        if (!sm_is_released(c->used[i]))
            continue;
        sm_violation(&(const sm_call){.buffer = r->buffer},
                     "a %s%s%s%s is released before the command buffer, which has unretained references, is complete",
                     atomic_load(&used->object.isa)->name, used->label ? " '" : "", used->label ? used->label : "",
                     used->label ? "'" : "");
        return false;
    }
    return true;
}

static void run_dispatch(running *r, sm_command *c) {
    sm_command_buffer *b = r->buffer;
    unsigned char *constants;
    ml_status status = sm_pipeline_kernel(c->pipeline, b->mode.check, &c->dispatch.kernel, &constants);
    uint32_t *grid = c->dispatch.grid;
    if (c->indirect)
        memcpy(grid, c->indirect->bytes + c->indirect_offset, sizeof c->dispatch.grid);
    if (status == ML_OK && grid[0] && grid[1] && grid[2]) { /* an indirect grid may be empty */
        c->dispatch.constants = constants;
        c->dispatch.hazards = r->hazards;
        c->dispatch.order = b->mode.order;
        c->dispatch.seed = b->mode.seed + r->dispatches++;
        c->dispatch.fault_unbound = true;
        status = sm_dispatch_run(&c->dispatch, &r->findings);
    }
    if (status != ML_OK)
        sm_command_buffer_fail(b, status, ml_last_error());
}

static void run_one(running *r, sm_command *c) {
    if (r->buffer->failure != ML_OK || !is_alive(r, c))
        return;
    switch (c->kind) {
    case SM_COMMAND_DISPATCH:
        run_dispatch(r, c);
        break;
    case SM_COMMAND_COPY:
        memmove(c->blit.to->bytes + c->blit.to_offset, c->blit.from->bytes + c->blit.from_offset, c->blit.size);
        break;
    case SM_COMMAND_FILL:
        memset(c->blit.to->bytes + c->blit.to_offset, c->blit.value, c->blit.size);
        break;
    case SM_COMMAND_GEMM:
        if (sm_gemm_run(&c->gemm) != ML_OK)
            sm_command_buffer_fail(r->buffer, ML_ERR_MEMORY, ml_last_error());
        break;
    case SM_COMMAND_ENCODER:
    case SM_COMMAND_BARRIER:
        break;
    }
}

/* What may run in any order: the dispatches of a concurrent encoder up to the next barrier of all memory. */
static bool is_fence(const sm_command *c, bool concurrent) {
    return !concurrent || c->kind == SM_COMMAND_ENCODER || c->kind == SM_COMMAND_BARRIER;
}

/* Runs those from first up to end in the order of the mode; returns end. */
static sm_command *run_span(running *r, sm_command *first) {
    size_t n = 0;
    sm_command *end = first;
    for (; end && !is_fence(end, true); end = end->next)
        n++;
    sm_command **list = malloc(n * sizeof *list);
    if (!list) {
        sm_command_buffer_fail(r->buffer, ML_ERR_MEMORY, "out of memory for commands");
        return end;
    }
    n = 0;
    for (sm_command *c = first; c != end; c = c->next)
        list[n++] = c;
    uint64_t state = r->buffer->mode.seed;
    for (size_t i = 0; i < n; i++) {
        size_t pick = i;
        if (r->buffer->mode.order == SM_ORDER_REVERSE) {
            pick = n - 1 - i;
        } else if (r->buffer->mode.order == SM_ORDER_SHUFFLE) { /* Fisher and Yates, with a linear generator */
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            const size_t other = i + (size_t)(state >> 33) % (n - i);
            sm_command *swap = list[i];
            list[i] = list[other];
            list[other] = swap;
        }
        run_one(r, list[pick]);
    }
    free(list);
    return end;
}

void sm_command_buffer_run(sm_command_buffer *b) {
    running r = {.buffer = b};
    bool concurrent = false;
    sm_hazards *tracker = NULL;
    for (sm_command *c = b->first; c && b->failure == ML_OK;) {
        if (c->kind == SM_COMMAND_ENCODER) { /* what lies in different encoders is ordered */
            concurrent = c->concurrent;
            if (concurrent && b->mode.check && !tracker)
                tracker = sm_hazards_create();
            r.hazards = concurrent ? tracker : NULL;
        }
        if (r.hazards && (c->kind == SM_COMMAND_ENCODER || c->kind == SM_COMMAND_BARRIER))
            sm_hazards_barrier(r.hazards, c->ranges, c->n_ranges);
        if (is_fence(c, concurrent)) {
            run_one(&r, c);
            c = c->next;
        } else {
            c = run_span(&r, c);
        }
    }
    sm_hazards_free(tracker);
    for (size_t i = 0; i < r.findings.n; i++) {
        sm_found(&r.findings.items[i]);
        sm_command_buffer_found(b, &r.findings.items[i]);
    }
    sm_findings_clear(&r.findings);
}
