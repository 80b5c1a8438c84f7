/* From raw findings (code addresses, thread numbers) to findings (lines, positions, a sentence). */
#include "softmetal/checker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel's own code for a fault whose address the processor does not tell. */
#if defined(SI_KERNEL)
#define NO_ADDRESS SI_KERNEL
#else
#define NO_ADDRESS (-1)
#endif

/* ---- the raw list ---- */

static uint32_t hash(sm_finding_kind kind, const void *pc, const void *other_pc, uint32_t line, uint32_t other_line) {
    uint64_t h = (uint64_t)(uintptr_t)pc * 31 + (uint64_t)(uintptr_t)other_pc;
    h = (h * 31 + line) * 31 + other_line + (uint64_t)kind;
    return (uint32_t)(h * UINT64_C(0x9e3779b97f4a7c15) >> 54);
}

/* Findings of barriers have lines and no addresses; all others are told apart by their addresses. */
static uint32_t raw_hash(const sm_raw *raw) {
    return raw->pc ? hash(raw->kind, raw->pc, raw->other_pc, 0, 0)
                   : hash(raw->kind, NULL, raw->other_pc, raw->line, raw->other_line);
}

static bool raw_same(const sm_raw *a, const sm_raw *b) {
    return a->kind == b->kind && a->pc == b->pc && a->other_pc == b->other_pc &&
           (a->pc || (a->line == b->line && a->other_line == b->other_line && a->severity == b->severity));
}

bool sm_raw_again(sm_raws *raws, sm_finding_kind kind, const void *pc, const void *other_pc) {
    uint32_t at = raws->recent[hash(kind, pc, other_pc, 0, 0)];
    if (!at)
        return false;
    sm_raw *raw = &raws->items[at - 1];
    if (raw->kind != kind || raw->pc != pc || raw->other_pc != other_pc)
        return false;
    raw->count++;
    return true;
}

uint32_t sm_raw_add(sm_raws *raws, const sm_raw *raw) {
    uint32_t h = raw_hash(raw);
    for (uint32_t i = 0; i < raws->n; i++)
        if (raw_same(&raws->items[i], raw)) {
            raws->items[i].count++;
            raws->recent[h] = (uint16_t)(i + 1);
            return i;
        }
    if (raws->n == SM_RAW_LIMIT)
        return SM_NOBODY;
    if (raws->n == raws->capacity) {
        uint32_t capacity = raws->capacity ? 2 * raws->capacity : 32;
        sm_raw *items = realloc(raws->items, capacity * sizeof *items);
        if (!items)
            return SM_NOBODY;
        raws->items = items;
        raws->capacity = capacity;
    }
    raws->items[raws->n] = *raw;
    raws->recent[h] = (uint16_t)(raws->n + 1);
    return raws->n++;
}

void sm_raw_who(sm_raw *raw, const sm_engine *e, uint32_t thread) {
    memcpy(raw->group, e->group.threadgroup_position_in_grid, sizeof raw->group);
    memcpy(raw->other_group, raw->group, sizeof raw->group);
    raw->thread = thread;
    raw->other = SM_NOBODY;
    raw->buffer = -1;
}

/* ---- faults ---- */

static void nearest_buffer(const sm_engine *e, uintptr_t address, sm_raw *raw) {
    const sm_job *job = e->job;
    const sm_checker *c = job->checker;
    uint64_t best = UINT64_C(1) << 30;
    for (uint32_t i = 0; i < job->function->n_arguments; i++) {
        const sm_argument *a = &job->function->arguments[i];
        if (a->kind != SM_ARGUMENT_BUFFER || a->index < 0 || a->index >= SM_MAX_BUFFERS)
            continue;
        const sm_binding *b = &job->dispatch->buffers[a->index];
        uintptr_t low = (uintptr_t)b->address;
        for (uint32_t k = 0; c && k < c->n_bound; k++)
            if (c->bound[k].index == a->index)
                low = c->bound[k].low;
        uint64_t distance = address < low ? low - address : address < low + b->length ? 0 : address - low - b->length;
        if (!b->address || distance >= best)
            continue;
        best = distance;
        raw->buffer = a->index;
        raw->variable = b->label ? b->label : a->name;
        raw->offset = (int64_t)(address - low);
        raw->length = b->length;
        if (b->read_only && distance == 0)
            raw->note = "the buffer is bound as read-only";
    }
}

void sm_raw_from_fault(const sm_engine *e, sm_raw *raw) {
    const sm_job *job = e->job;
    const sm_fault *f = &e->fault;
    memset(raw, 0, sizeof *raw);
    raw->severity = SM_ERROR;
    raw->buffer = -1;
    raw->thread = f->signal ? f->thread : sm_engine_thread_index(e, e->running);
    raw->other = SM_NOBODY;
    raw->count = 1;
    memcpy(raw->group, f->signal ? f->group : e->group.threadgroup_position_in_grid, sizeof raw->group);
    if (!f->signal) {
        raw->kind = SM_FINDING_UNSUPPORTED;
        raw->note = e->unsupported;
        if (e->unsupported) {
            raw->file = e->unsupported_place.file;
            raw->line = e->unsupported_place.line;
            raw->operation = e->unsupported_place.operation;
        }
        return;
    }
    raw->pc = (const void *)(f->pc + 1); /* as if it were a return address */
    raw->kind = SM_FINDING_WILD_ACCESS;
    uintptr_t in_stacks = f->address - ((uintptr_t)e + SM_HEADER_BYTES);
    int zero = sm_zero_index(f->address);
    if (f->signal == SIGFPE) {
        raw->kind = SM_FINDING_ARITHMETIC;
        raw->note = "integer division by zero";
    } else if (f->signal == SIGILL) {
        raw->note = "the kernel reached a point that its compiler took for unreachable";
    } else if (f->code == NO_ADDRESS) {
        raw->note = "the address is misaligned for the access, or far outside of any memory";
    } else if (f->address - (uintptr_t)e < SM_ENGINE_BYTES) {
        if (in_stacks % SM_STACK_BYTES < (uintptr_t)sysconf(_SC_PAGESIZE))
            raw->kind = SM_FINDING_STACK_OVERFLOW;
        else
            raw->note = "the address is in the memory of the threads' stacks";
    } else if (f->address - (uintptr_t)e->memory_map < e->memory_map_bytes) {
        raw->kind = SM_FINDING_OUT_OF_BOUNDS;
        raw->variable = "threadgroup memory";
        raw->offset = (int64_t)(f->address - (uintptr_t)e->memory);
        raw->length = e->memory_bytes;
    } else if (zero >= 0) {
        raw->kind = SM_FINDING_UNBOUND_BUFFER;
        raw->buffer = zero;
        for (uint32_t i = 0; i < job->function->n_arguments; i++)
            if (job->function->arguments[i].kind == SM_ARGUMENT_BUFFER && job->function->arguments[i].index == zero)
                raw->variable = job->function->arguments[i].name;
    } else {
        nearest_buffer(e, f->address, raw);
        if (raw->buffer >= 0 && !raw->note)
            raw->kind = SM_FINDING_OUT_OF_BOUNDS;
        else if (raw->buffer >= 0)
            raw->kind = SM_FINDING_READ_ONLY_WRITTEN;
        else if (f->address < 4096)
            raw->note = "null pointer";
        else
            raw->note = "no bound buffer is near";
    }
}

/* ---- sentences ---- */

typedef struct sentence {
    char text[1024];
    size_t n;
} sentence;

static __attribute__((format(printf, 2, 3))) void say(sentence *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(s->text + s->n, sizeof s->text - s->n, format, args);
    va_end(args);
    if (n > 0)
        s->n = s->n + (size_t)n < sizeof s->text ? s->n + (size_t)n : sizeof s->text - 1;
}

static void say_thread(sentence *s, const sm_finding_thread *t, bool with_group) {
    if (!t->known) {
        say(s, "another thread of the simdgroup");
        return;
    }
    const uint32_t *p = t->position_in_threadgroup, *g = t->threadgroup;
    say(s, "thread (%u, %u, %u)", p[0], p[1], p[2]);
    if (with_group)
        say(s, " of threadgroup (%u, %u, %u)", g[0], g[1], g[2]);
}

static void say_place(sentence *s, const char *file, uint32_t line) {
    if (file && line)
        say(s, "%s:%u", file, line);
    else if (file)
        say(s, "%s", file);
    else
        say(s, "an unknown line");
}

static void say_variable(sentence *s, const sm_finding *f) {
    if (f->buffer >= 0)
        say(s, "buffer %d", f->buffer);
    else if (f->variable && strcmp(f->variable, "threadgroup memory") != 0)
        say(s, "threadgroup array");
    if (f->variable)
        say(s, f->buffer >= 0 || strcmp(f->variable, "threadgroup memory") != 0 ? " '%s'" : "%s", f->variable);
}

static void say_memory(sentence *s, const sm_finding *f) {
    if (f->size)
        say(s, "%" PRIu64 " %s at ", f->size, f->size == 1 ? "byte" : "bytes");
    if (f->buffer < 0 && !f->variable) {
        say(s, "an address outside of all memory of the dispatch");
        return;
    }
    say(s, "byte %" PRId64 " of ", f->offset);
    say_variable(s, f);
    say(s, " (%" PRIu64 " bytes)", f->length);
}

static const char *verb(bool write, bool atomic) {
    return write ? atomic ? "atomically modifies" : "writes" : atomic ? "atomically reads" : "reads";
}

static void compose(sentence *s, const sm_raw *raw, const sm_finding *f) {
    s->n = 0;
    say(s, "kernel '%s': ", f->kernel);
    say_thread(s, &f->thread, true);
    say(s, " ");
    switch (f->kind) {
    case SM_FINDING_OUT_OF_BOUNDS:
        if (raw->type) {
            say(s, "uses index %" PRId64 " of an array %s", raw->index, raw->type);
            if (f->variable)
                say(s, " (threadgroup array '%s')", f->variable);
        } else {
            say(s, "%s ", raw->size ? verb(raw->write, raw->atomic) : "accesses");
            say_memory(s, f);
        }
        break;
    case SM_FINDING_READ_ONLY_WRITTEN:
        say(s, "writes ");
        say_memory(s, f);
        break;
    case SM_FINDING_UNBOUND_BUFFER:
        say(s, "%s ", raw->size ? verb(raw->write, raw->atomic) : "accesses");
        say_variable(s, f);
        say(s, ", which is not bound");
        break;
    case SM_FINDING_RACE:
    case SM_FINDING_RACE_SAME_VALUE:
    case SM_FINDING_RACE_ATOMIC: {
        bool far = memcmp(raw->group, raw->other_group, sizeof raw->group) != 0;
        say(s, "%s ", verb(raw->write, raw->atomic));
        say_memory(s, f);
        say(s, ", which ");
        say_thread(s, &f->other, far);
        say(s, " %s at ", verb(raw->other_write, raw->other_atomic));
        say_place(s, f->other_file, f->other_line);
        say(s, far ? "; nothing orders the threadgroups of a dispatch" : " with no barrier in between");
        if (f->kind == SM_FINDING_RACE_SAME_VALUE)
            say(s, " (both write the same value)");
        break;
    }
    case SM_FINDING_UNINITIALISED:
        say(s, "reads ");
        say_memory(s, f);
        say(s, ", which nobody has written");
        break;
    case SM_FINDING_DIVERGENT_BARRIER:
        say(s, "waits at %s while ", raw->operation ? raw->operation : "a barrier");
        say_thread(s, &f->other, false);
        say(s, raw->other_ended ? " has ended (last seen at " : " is at ");
        say_place(s, f->other_file, f->other_line);
        if (raw->other_ended)
            say(s, ")");
        break;
    case SM_FINDING_MISALIGNED:
        if (raw->index)
            say(s, "accesses a %s at an address that is not a multiple of %" PRId64, raw->type ? raw->type : "value",
                raw->index);
        else
            say(s, "accesses a %s through a null pointer", raw->type ? raw->type : "value");
        if (f->buffer >= 0 || f->variable) {
            say(s, ": ");
            say_memory(s, f);
        }
        break;
    case SM_FINDING_WILD_ACCESS:
        say(s, "makes an invalid access");
        break;
    case SM_FINDING_STACK_OVERFLOW:
        say(s, "needs more than its %u KiB of stack", (unsigned)(SM_STACK_BYTES / 1024));
        break;
    case SM_FINDING_ARITHMETIC:
        say(s, "divides by zero");
        break;
    case SM_FINDING_UNSUPPORTED:
        say(s, "calls %s, which is not modelled", raw->operation ? raw->operation : "something");
        break;
    default:
        break;
    }
    if (raw->note && f->kind != SM_FINDING_ARITHMETIC)
        say(s, ": %s", raw->note);
}

/* ---- findings ---- */

static void locate_thread(const sm_job *job, const uint32_t group[3], uint32_t thread, sm_finding_thread *out) {
    memset(out, 0, sizeof *out);
    if (thread == SM_NOBODY)
        return;
    uint32_t shape[3];
    for (int i = 0; i < 3; i++) {
        uint32_t left = job->threads[i] - group[i] * job->size[i];
        shape[i] = left < job->size[i] ? left : job->size[i];
        out->threadgroup[i] = group[i];
    }
    out->known = true;
    out->position_in_threadgroup[0] = thread % shape[0];
    out->position_in_threadgroup[1] = thread / shape[0] % shape[1];
    out->position_in_threadgroup[2] = thread / shape[0] / shape[1];
    for (int i = 0; i < 3; i++)
        out->position_in_grid[i] = group[i] * job->size[i] + out->position_in_threadgroup[i];
}

static bool users_file(const char *file) {
    return file && *file && !sm_shim_file(file);
}

static ml_status report_one(const sm_job *job, const sm_raw *raw, const sm_line lines[2], sm_findings *findings) {
    sm_finding f = {.severity = raw->severity,
                    .kind = raw->kind,
                    .kernel = (char *)job->function->name,
                    .buffer = raw->buffer,
                    .variable = (char *)raw->variable,
                    .offset = raw->offset,
                    .size = raw->size,
                    .length = raw->length,
                    .count = raw->count};
    bool own = users_file(raw->file), other_own = users_file(raw->other_file);
    f.file = own ? (char *)raw->file : lines[0].file;
    f.line = own ? raw->line : lines[0].line;
    f.other_file = other_own ? (char *)raw->other_file : lines[1].file;
    f.other_line = other_own ? raw->other_line : lines[1].line;
    if (!f.file) { /* the kernel, for want of better */
        f.file = (char *)job->function->file;
        f.line = job->function->line;
    }
    if (raw->other_ended && !f.other_file) {
        f.other_file = (char *)job->function->file;
        f.other_line = job->function->line;
    }
    locate_thread(job, raw->group, raw->thread, &f.thread);
    locate_thread(job, raw->other_group, raw->other, &f.other);
    sentence s;
    compose(&s, raw, &f);
    f.message = s.text;
    return sm_findings_add(findings, &f);
}

enum { LINES = 3 }; /* of a raw finding: pc, other_pc, near_pc */

/* The index callback knows neither the array's name nor whether it is threadgroup memory; the access that follows does,
 * if it is on the same line. What that access itself led to is not reported again. */
static void merge_index(sm_raws *raws, const sm_line *lines, uint32_t i) {
    sm_raw *raw = &raws->items[i];
    uint32_t line = users_file(raw->file) ? raw->line : lines[LINES * i].line, near = lines[LINES * i + 2].line;
    if (raw->near_pc && near && near != line) {
        raw->near_pc = NULL;
        raw->variable = NULL;
    }
    for (uint32_t k = 0; k < raws->n; k++) {
        sm_raw *r = &raws->items[k];
        if (r->kind != SM_FINDING_OUT_OF_BOUNDS || r->type || r->buffer >= 0 || !r->variable)
            continue;
        if (lines[LINES * k].line ? lines[LINES * k].line != line : r->pc != raw->near_pc)
            continue;
        raw->variable = r->variable;
        raw->offset = r->offset;
        raw->size = r->size;
        raw->length = r->length;
        r->count = 0;
    }
}

/* A same-value race says nothing where the same two lines also wrote different values. */
static bool covered(const sm_raws *raws, const sm_line *lines, uint32_t i) {
    const sm_raw *raw = &raws->items[i];
    if (raw->kind != SM_FINDING_RACE_SAME_VALUE)
        return false;
    for (uint32_t k = 0; k < raws->n; k++) {
        const sm_raw *r = &raws->items[k];
        if (r->kind != SM_FINDING_RACE || r->variable != raw->variable || !r->write || !r->other_write)
            continue;
        uint32_t a = lines[LINES * i].line, b = lines[LINES * i + 1].line;
        uint32_t x = lines[LINES * k].line, y = lines[LINES * k + 1].line;
        if ((r->pc == raw->pc && r->other_pc == raw->other_pc) || (a && a == x && b == y) || (a && a == y && b == x))
            return true;
    }
    return false;
}

ml_status sm_report(const sm_job *job, sm_raws *raws, sm_findings *findings) {
    if (!raws->n || !findings)
        return ML_OK;
    size_t n = LINES * (size_t)raws->n;
    uintptr_t *pcs = calloc(n, sizeof *pcs);
    sm_line *lines = calloc(n, sizeof *lines);
    ml_status status = pcs && lines ? ML_OK : ml_fail(ML_ERR_MEMORY, "check: out of memory");
    if (status == ML_OK) {
        for (uint32_t i = 0; i < raws->n; i++) {
            const sm_raw *raw = &raws->items[i];
            pcs[LINES * i] = users_file(raw->file) || !raw->pc ? 0 : (uintptr_t)raw->pc - 1;
            pcs[LINES * i + 1] = users_file(raw->other_file) || !raw->other_pc ? 0 : (uintptr_t)raw->other_pc - 1;
            pcs[LINES * i + 2] = raw->near_pc ? (uintptr_t)raw->near_pc - 1 : 0;
        }
        sm_lines_find(job->dispatch->kernel, pcs, n, lines);
        for (uint32_t i = 0; i < raws->n; i++)
            if (raws->items[i].type && raws->items[i].kind == SM_FINDING_OUT_OF_BOUNDS)
                merge_index(raws, lines, i);
        for (uint32_t i = 0; i < raws->n && status == ML_OK; i++)
            if (raws->items[i].count && !covered(raws, lines, i))
                status = report_one(job, &raws->items[i], &lines[LINES * i], findings);
    }
    for (size_t i = 0; lines && i < n; i++)
        free(lines[i].file);
    free(lines);
    free(pcs);
    return status;
}
