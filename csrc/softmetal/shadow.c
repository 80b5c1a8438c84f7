/* The checker's memory: shadow cells, and the copies of bound buffers that the kernel works on.
 *
 * Buffers are copied into an arena with wide gaps for the time of a dispatch. In the process's own memory one buffer
 * often begins where another ends, so that an overrun would look like a good access to the neighbour.
 */
#include "softmetal/checker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define COPY_LIMIT (UINT64_C(256) << 20) /* buffers beyond this total are checked in place */
#define MARGIN_BYTES ((size_t)64 << 10)  /* of each gap: can be accessed, so that small overruns do no harm */
#define GAP_WIDE ((size_t)1 << 30)
#define GAP_NARROW ((size_t)1 << 20)
#define BLOCK_ALIGN ((size_t)64 << 10) /* a multiple of every page size */

/* ---- cells ---- */

static bool cells_allocate(sm_cells *cells, uint8_t shift) {
    uint64_t n = ((cells->length + (UINT64_C(1) << shift) - 1) >> shift) + 1;
    uint64_t *write = calloc(n, sizeof *write), *read = calloc(n, sizeof *read), *other = calloc(n, sizeof *other);
    if (!write || !read || !other) {
        free(write);
        free(read);
        free(other);
        return false;
    }
    cells->write = write;
    cells->read = read;
    cells->other_read = other;
    cells->n = n;
    cells->shift = shift;
    return true;
}

static void cells_free(sm_cells *cells) {
    free(cells->write);
    free(cells->read);
    free(cells->other_read);
    memset(cells, 0, sizeof *cells);
}

bool sm_cells_refine(sm_cells *cells, uint8_t shift) {
    sm_cells old = *cells;
    if (!cells_allocate(cells, shift))
        return false;
    uint8_t by = (uint8_t)(old.shift - shift);
    for (uint64_t i = 0; old.used && i < old.n; i++) {
        if (!old.write[i] && !old.read[i])
            continue;
        for (uint64_t k = i << by; k < (i + 1) << by && k < cells->n; k++) {
            cells->write[k] = old.write[i];
            cells->read[k] = old.read[i];
            cells->other_read[k] = old.other_read[i];
        }
    }
    free(old.write);
    free(old.read);
    free(old.other_read);
    return true;
}

void sm_checker_forget(sm_checker *c) {
    for (uint32_t i = 0; i < c->n_arrays + c->n_device; i++) {
        sm_cells *cells = i < c->n_arrays ? &c->arrays[i] : &c->device[i - c->n_arrays];
        if (!cells->write)
            continue;
        /* What was written stays known, as if by the first threadgroup: it has to be copied back. */
        for (uint64_t k = 0; k < cells->n; k++)
            if (cells->write[k])
                cells->write[k] = cells->space == SM_SPACE_DEVICE
                                      ? (cells->write[k] & ((UINT64_C(1) << 28) - 1)) | UINT64_C(1) << 28
                                      : 0;
        memset(cells->read, 0, cells->n * sizeof *cells->read);
        memset(cells->other_read, 0, cells->n * sizeof *cells->other_read);
    }
    c->interval[0] = c->interval[1] = 1;
    c->n_groups = 0;
}

/* log2 of the cell to begin with. */
static uint8_t cell_shift(uint64_t align) {
    return align >= 4 ? 2 : align >= 2 ? 1 : 0;
}

/* ---- buffers ---- */

static int by_address(const void *a, const void *b) {
    const sm_bound *x = a, *y = b;
    return x->low < y->low ? -1 : x->low > y->low;
}

static const sm_argument *argument_of(const sm_job *job, int index) {
    for (uint32_t i = 0; i < job->function->n_arguments; i++) {
        const sm_argument *a = &job->function->arguments[i];
        if (a->kind == SM_ARGUMENT_BUFFER && a->index == index && (!a->enabled || a->enabled(job->constants)))
            return a;
    }
    return NULL;
}

/* Lists the bound buffers the kernel has arguments for, and joins those that overlap. */
static ml_status collect(sm_checker *c) {
    const sm_dispatch *d = c->job->dispatch;
    for (int i = 0; i < SM_MAX_BUFFERS; i++) {
        const sm_binding *b = &d->buffers[i];
        const sm_argument *a = argument_of(c->job, i);
        if (!a || !b->address || !b->length)
            continue;
        sm_bound *bound = &c->bound[c->n_bound++];
        bound->low = (uintptr_t)b->address;
        bound->length = b->length;
        bound->offset = b->offset;
        bound->index = i;
        bound->name = b->label ? b->label : a->name;
        bound->read_only = b->read_only;
        bound->writes = a->access == SM_MODE_READ_WRITE && !a->is_constant;
    }
    qsort(c->bound, c->n_bound, sizeof c->bound[0], by_address);
    uint64_t shift_align[SM_MAX_BUFFERS];
    for (uint32_t i = 0; i < c->n_bound; i++) {
        sm_bound *b = &c->bound[i];
        const sm_argument *a = argument_of(c->job, b->index);
        uint64_t align = a->element_align ? a->element_align : 4;
        sm_cells *last = c->n_device ? &c->device[c->n_device - 1] : NULL;
        if (last && b->low < last->low + last->length) {
            if (b->low + b->length > last->low + last->length)
                last->length = b->low + b->length - last->low;
            last->read_only &= b->read_only;
            last->constant &= !b->writes;
            if (b->low + b->offset < last->bound)
                last->bound = b->low + b->offset;
            if (align < shift_align[c->n_device - 1])
                shift_align[c->n_device - 1] = align;
        } else {
            last = &c->device[c->n_device];
            shift_align[c->n_device++] = align;
            last->low = b->low;
            last->length = b->length;
            last->space = SM_SPACE_DEVICE;
            last->read_only = b->read_only;
            last->constant = !b->writes;
            last->bound = b->low + b->offset;
            last->original = (char *)b->low;
        }
        b->cells = last;
    }
    for (uint32_t i = 0; i < c->n_device; i++) {
        sm_cells *cells = &c->device[i];
        if ((!cells->constant || d->hazards) && !cells_allocate(cells, cell_shift(shift_align[i])))
            return ml_fail(ML_ERR_MEMORY, "check: no memory to watch a buffer of %llu bytes",
                           (unsigned long long)cells->length);
    }
    return ML_OK;
}

/* Moves the blocks into the arena. Where there is no address space for it they stay where they are. */
static void relocate(sm_checker *c) {
    uint64_t total = 0;
    uint32_t n = 0;
    bool copy[SM_MAX_BUFFERS];
    for (uint32_t i = 0; i < c->n_device; i++) {
        copy[i] = total + c->device[i].length <= COPY_LIMIT;
        if (copy[i]) {
            total += c->device[i].length;
            n++;
        }
    }
    if (!n)
        return;
    size_t gap = GAP_WIDE;
    for (; gap >= GAP_NARROW; gap = gap == GAP_WIDE ? GAP_NARROW : 0) {
        c->arena_bytes = (size_t)total + n * BLOCK_ALIGN * 2 + (n + 1) * gap;
        c->arena = mmap(NULL, c->arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (c->arena != MAP_FAILED)
            break;
    }
    if (gap < GAP_NARROW) {
        c->arena = NULL;
        c->arena_bytes = 0;
        return;
    }
    uintptr_t at = (uintptr_t)c->arena + gap;
    for (uint32_t i = 0; i < c->n_device; i++) {
        sm_cells *cells = &c->device[i];
        if (!copy[i])
            continue;
        at = (at + BLOCK_ALIGN - 1) & ~(BLOCK_ALIGN - 1);
        uintptr_t low = at + (cells->low & (BLOCK_ALIGN - 1)); /* as aligned as it was */
        uintptr_t end = (low + cells->length + MARGIN_BYTES + BLOCK_ALIGN - 1) & ~(BLOCK_ALIGN - 1);
        if (mprotect((void *)(at - MARGIN_BYTES), end - (at - MARGIN_BYTES), PROT_READ | PROT_WRITE) != 0)
            continue;
        memcpy((void *)low, cells->original, cells->length);
        cells->bound = cells->bound - cells->low + low;
        for (uint32_t k = 0; k < c->n_bound; k++)
            if (c->bound[k].cells == cells)
                c->bound[k].low = c->bound[k].low - cells->low + low;
        cells->low = low;
        at = low + cells->length + gap;
    }
}

ml_status sm_checker_create(sm_job *job, sm_checker **out) {
    sm_checker *c = calloc(1, sizeof *c);
    if (!c)
        return ml_fail(ML_ERR_MEMORY, "check: out of memory");
    *out = c;
    c->job = job;
    c->group_first = malloc(job->n_groups * sizeof *c->group_first);
    c->group_position = malloc(job->n_groups * sizeof *c->group_position);
    c->group_released = calloc(job->n_groups, sizeof *c->group_released);
    if (!c->group_first || !c->group_position || !c->group_released)
        return ml_fail(ML_ERR_MEMORY, "check: no memory for %llu threadgroups", (unsigned long long)job->n_groups);
    ML_TRY(collect(c));
    relocate(c);
    for (uint32_t i = 0; i < job->function->n_arguments; i++) {
        const sm_argument *a = &job->function->arguments[i];
        for (uint32_t k = 0; k < c->n_bound && a->kind == SM_ARGUMENT_BUFFER && job->arguments[i]; k++)
            if (c->bound[k].index == a->index)
                job->arguments[i] = (void *)(c->bound[k].low + c->bound[k].offset);
    }
    return ML_OK;
}

static ml_status add_array(sm_checker *c, const char *name, const sm_threadgroup_array *array, uintptr_t low,
                           uint64_t length) {
    sm_cells *cells = &c->arrays[c->n_arrays++];
    cells->low = low;
    cells->length = length;
    cells->space = SM_SPACE_THREADGROUP;
    cells->array = array;
    cells->name = name;
    for (uint64_t i = (low - c->memory) / 16; i < (low + length - c->memory + 15) / 16; i++)
        c->array_at[i] = (uint16_t)c->n_arrays;
    if (!cells_allocate(cells, 2))
        return ml_fail(ML_ERR_MEMORY, "check: out of memory");
    return ML_OK;
}

ml_status sm_checker_attach(sm_checker *c, sm_engine *e) {
    const sm_job *job = c->job;
    uint32_t n = job->function->n_arguments;
    for (const sm_threadgroup_array *a = job->module->arrays; a; a = a->next)
        n++;
    c->memory = (uintptr_t)e->memory;
    c->memory_end = c->memory + e->memory_bytes;
    c->guard = (uintptr_t)e->memory_map;
    c->guard_end = c->guard + e->memory_map_bytes;
    c->image = (uintptr_t)job->dispatch->kernel->image_begin;
    c->image_end = (uintptr_t)job->dispatch->kernel->image_end;
    c->constants = (uintptr_t)job->constants;
    c->constants_end = c->constants + job->module->constants_bytes;
    c->host = (uintptr_t)sm_executor_host();
    c->host_end = c->host + sizeof(sm_host);
    c->arrays = calloc(n + 1, sizeof *c->arrays);
    c->array_at = calloc(e->memory_bytes / 16 + 1, sizeof *c->array_at);
    if (!c->arrays || !c->array_at)
        return ml_fail(ML_ERR_MEMORY, "check: out of memory");
    for (const sm_threadgroup_array *a = job->module->arrays; a; a = a->next)
        ML_TRY(add_array(c, a->name, a, c->memory + a->offset, a->size));
    for (uint32_t i = 0; i < job->function->n_arguments; i++) {
        const sm_argument *a = &job->function->arguments[i];
        if (job->in_threadgroup[i] && job->dispatch->threadgroup_memory[a->index])
            ML_TRY(
                add_array(c, a->name, NULL, (uintptr_t)e->arguments[i], job->dispatch->threadgroup_memory[a->index]));
    }
    return ML_OK;
}

/* ---- after the run ---- */

static void copy_back(const sm_cells *cells) {
    uintptr_t low = cells->low, end = cells->low + cells->length;
    if (!cells->used || cells->read_only || cells->constant || (char *)low == cells->original)
        return;
    for (uint64_t i = 0; i < cells->n;) {
        if (!cells->write[i]) {
            i++;
            continue;
        }
        uint64_t first = i;
        while (i < cells->n && cells->write[i])
            i++;
        uintptr_t from = low + (first << cells->shift), to = low + (i << cells->shift);
        memcpy(cells->original + (from - low), (void *)from, (to < end ? to : end) - from);
    }
}

enum { TOUCH_NOTHING = -1 };

/* How a cell was touched, and where in the code. */
static int cell_touch(const sm_checker *c, const sm_cells *cells, uint64_t i, const void **pc) {
    uint64_t w = cells->write ? cells->write[i] : 0, r = cells->read ? cells->read[i] : 0;
    if (!w && !r)
        return TOUCH_NOTHING;
    *pc = c->sites[(w ? w : r) & 0xffff].pc;
    bool atomic = (!w || (w >> 16 & 3)) && (!r || (r >> 16 & 1));
    return atomic ? SM_TOUCH_ATOMIC : w ? SM_TOUCH_WRITE : SM_TOUCH_READ;
}

static const sm_bound *bound_of(const sm_checker *c, const sm_cells *cells, bool writes) {
    const sm_bound *first = NULL;
    for (uint32_t i = 0; i < c->n_bound; i++)
        if (c->bound[i].cells == cells && (!first || (writes && !first->writes)))
            first = &c->bound[i];
    return first;
}

static ml_status tell_range(const sm_checker *c, const sm_cells *cells, uint64_t from, uint64_t to, int touch,
                            const void *pc) {
    const sm_bound *b = bound_of(c, cells, touch != SM_TOUCH_READ);
    sm_access_range range = {.address = cells->original + from,
                             .length = (to < cells->length ? to : cells->length) - from,
                             .touch = (sm_touch)touch,
                             .buffer = b ? b->index : -1,
                             .label = b ? b->name : NULL,
                             .pc = pc};
    return sm_hazards_touch(c->job->dispatch->hazards, &range);
}

static ml_status tell_hazards(const sm_checker *c, const sm_cells *cells) {
    if (!cells->used)
        return ML_OK;
    for (uint64_t i = 0; i < cells->n;) {
        const void *pc = NULL, *other;
        int touch = cell_touch(c, cells, i, &pc);
        uint64_t first = i++;
        if (touch == TOUCH_NOTHING)
            continue;
        while (i < cells->n && cell_touch(c, cells, i, &other) == touch)
            i++;
        ML_TRY(tell_range(c, cells, first << cells->shift, i << cells->shift, touch, pc));
    }
    return ML_OK;
}

ml_status sm_checker_finish(sm_checker *c) {
    for (uint32_t i = 0; i < c->n_device; i++)
        copy_back(&c->device[i]);
    for (uint32_t i = 0; i < c->n_device && c->job->dispatch->hazards; i++)
        ML_TRY(tell_hazards(c, &c->device[i]));
    return ML_OK;
}

void sm_checker_free(sm_checker *c) {
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n_arrays; i++)
        cells_free(&c->arrays[i]);
    for (uint32_t i = 0; i < c->n_device; i++)
        cells_free(&c->device[i]);
    if (c->arena)
        munmap(c->arena, c->arena_bytes);
    free(c->arrays);
    free(c->array_at);
    free(c->group_first);
    free(c->group_position);
    free(c->group_released);
    free(c->raws.items);
    free(c);
}
