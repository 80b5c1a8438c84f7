/* The checker, driven as a checked module drives it: what must be found, and what must not. */
#include "checker_kernels.h"

#include "metallic.h"

#include <stdlib.h>

int failures;

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
    {.name = "256 simdgroup barriers",
     .entry = many_simd_barriers,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .buffer = -1},
    {.name = "300 barriers of one simdgroup",
     .entry = far_apart,
     .kind = SM_FINDING_RACE,
     .severity = SM_ERROR,
     .text = "which thread (0, 0, 0) writes",
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
