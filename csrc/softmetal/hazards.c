#include "softmetal/hazards.h"

#include "softmetal/checker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct touched {
    uintptr_t low, high;
    uintptr_t reach; /* largest high of this one and all before it; the list is sorted by low */
    sm_touch touch;
    int buffer;
    uint32_t label; /* index in labels + 1; 0: none */
    const void *pc;
} touched;

typedef struct command {
    char *name;
    sm_kernel *kernel; /* NULL: none */
    touched *items;
    size_t n, capacity;
    char **labels;
    uint32_t n_labels;
} command;

struct sm_hazards {
    command *commands;
    size_t n, capacity;
    bool open; /* the last command is between begin and end */
};

static void command_free(command *c) {
    for (uint32_t i = 0; i < c->n_labels; i++)
        free(c->labels[i]);
    free(c->labels);
    free(c->items);
    free(c->name);
    if (c->kernel)
        sm_kernel_release(c->kernel);
}

sm_hazards *sm_hazards_create(void) {
    return calloc(1, sizeof(sm_hazards));
}

static void forget_all(sm_hazards *h) {
    for (size_t i = 0; i < h->n; i++)
        command_free(&h->commands[i]);
    h->n = 0;
    h->open = false;
}

void sm_hazards_free(sm_hazards *h) {
    if (!h)
        return;
    forget_all(h);
    free(h->commands);
    free(h);
}

static ml_status no_memory(void) {
    return ml_fail(ML_ERR_MEMORY, "hazards: out of memory");
}

static ml_status add_touched(command *c, const touched *item) {
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        touched *items = realloc(c->items, capacity * sizeof *items);
        if (!items)
            return no_memory();
        c->items = items;
        c->capacity = capacity;
    }
    c->items[c->n++] = *item;
    return ML_OK;
}

static int by_low(const void *a, const void *b) {
    const touched *x = a, *y = b;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    return x->high < y->high ? -1 : x->high > y->high;
}

static void sort(command *c) {
    if (c->n)
        qsort(c->items, c->n, sizeof *c->items, by_low);
    uintptr_t reach = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->items[i].high > reach)
            reach = c->items[i].high;
        c->items[i].reach = reach;
    }
}

/* Takes a range out of what a command touched. When memory for a second piece is short, the access is kept whole. */
static void cut(command *c, uintptr_t low, uintptr_t high) {
    size_t n = c->n, kept = 0;
    for (size_t i = 0; i < n; i++) {
        touched t = c->items[i];
        if (t.low < low && t.high > high) {
            touched rest = t;
            rest.low = high;
            if (add_touched(c, &rest) == ML_OK)
                t.high = low;
        } else if (t.low < high && t.high > low) {
            if (t.low < low)
                t.high = low;
            else
                t.low = high;
        }
        if (t.low < t.high)
            c->items[kept++] = t;
    }
    memmove(c->items + kept, c->items + n, (c->n - n) * sizeof *c->items);
    c->n = kept + (c->n - n);
    sort(c);
}

void sm_hazards_barrier(sm_hazards *h, const sm_range *ranges, int n) {
    if (n <= 0) {
        forget_all(h);
        return;
    }
    for (size_t i = 0; i < h->n; i++)
        for (int k = 0; k < n; k++)
            if (h->commands[i].n)
                cut(&h->commands[i], (uintptr_t)ranges[k].address, (uintptr_t)ranges[k].address + ranges[k].length);
}

ml_status sm_hazards_begin(sm_hazards *h, const char *name, sm_kernel *kernel) {
    if (h->open)
        return ml_fail(ML_ERR_VALUE, "hazards: a command begins inside another");
    if (h->n == h->capacity) {
        size_t capacity = h->capacity ? 2 * h->capacity : 8;
        command *commands = realloc(h->commands, capacity * sizeof *commands);
        if (!commands)
            return no_memory();
        h->commands = commands;
        h->capacity = capacity;
    }
    command c = {.name = strdup(name), .kernel = kernel};
    if (!c.name)
        return no_memory();
    if (kernel)
        sm_kernel_retain(kernel);
    h->commands[h->n++] = c;
    h->open = true;
    return ML_OK;
}

static ml_status label_of(command *c, const char *label, uint32_t *out) {
    *out = 0;
    if (!label)
        return ML_OK;
    for (uint32_t i = c->n_labels; i-- > 0;)
        if (strcmp(c->labels[i], label) == 0) {
            *out = i + 1;
            return ML_OK;
        }
    char **labels = realloc(c->labels, (c->n_labels + 1) * sizeof *labels);
    if (!labels)
        return no_memory();
    c->labels = labels;
    if (!(labels[c->n_labels] = strdup(label)))
        return no_memory();
    *out = ++c->n_labels;
    return ML_OK;
}

ml_status sm_hazards_touch(sm_hazards *h, const sm_access_range *r) {
    if (!h->open)
        return ml_fail(ML_ERR_VALUE, "hazards: an access outside of a command");
    if (!r->length)
        return ML_OK;
    command *c = &h->commands[h->n - 1];
    touched t = {.low = (uintptr_t)r->address,
                 .high = (uintptr_t)r->address + r->length,
                 .touch = r->touch,
                 .buffer = r->buffer,
                 .pc = r->pc};
    ML_TRY(label_of(c, r->label, &t.label));
    return add_touched(c, &t);
}

/* ---- conflicts ---- */

static const char *touch_verb(sm_touch touch) {
    return touch == SM_TOUCH_READ ? "reads" : touch == SM_TOUCH_WRITE ? "writes" : "atomically modifies";
}

static sm_line line_of(const command *c, const touched *t) {
    sm_line line = {0};
    if (c->kernel && t->pc) {
        uintptr_t pc = (uintptr_t)t->pc - 1;
        sm_lines_find(c->kernel, &pc, 1, &line);
    }
    if (!line.file && c->kernel && c->kernel->function->file) {
        line.file = strdup(c->kernel->function->file);
        line.line = c->kernel->function->line;
    }
    return line;
}

static ml_status conflict(const command *now, const touched *a, const command *before, const touched *b,
                          sm_findings *findings) {
    sm_line here = line_of(now, a), there = line_of(before, b);
    uintptr_t low = a->low > b->low ? a->low : b->low, high = a->high < b->high ? a->high : b->high;
    char message[1024], where[300] = "", buffer[300] = "";
    const char *label = a->label ? now->labels[a->label - 1] : NULL;
    if (there.file)
        snprintf(where, sizeof where, " at %s:%u", there.file, (unsigned)there.line);
    if (a->buffer >= 0)
        snprintf(buffer, sizeof buffer, "buffer %d%s%s%s", a->buffer, label ? " '" : "", label ? label : "",
                 label ? "'" : "");
    else
        snprintf(buffer, sizeof buffer, "%s%s%s", label ? "'" : "memory", label ? label : "", label ? "'" : "");
    snprintf(message, sizeof message,
             "'%s' %s %" PRIuPTR " bytes of %s, which the earlier '%s' %s%s; there is no barrier between the two",
             now->name, touch_verb(a->touch), high - low, buffer, before->name, touch_verb(b->touch), where);
    sm_finding f = {.severity = SM_ERROR,
                    .kind = SM_FINDING_HAZARD,
                    .kernel = now->name,
                    .file = here.file,
                    .line = here.line,
                    .other_kernel = before->name,
                    .other_file = there.file,
                    .other_line = there.line,
                    .buffer = a->buffer,
                    .variable = (char *)label,
                    .offset = (int64_t)(low - a->low),
                    .size = high - low,
                    .length = a->high - a->low,
                    .count = 1,
                    .message = message};
    ml_status status = sm_findings_add(findings, &f);
    free(here.file);
    free(there.file);
    return status;
}

/* The first access of a sorted list that conflicts with t; NULL: none. */
static const touched *find_conflict(const command *c, const touched *t) {
    size_t low = 0, high = c->n; /* items[low ...) begin at or after the end of t */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->items[middle].low < t->high)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i > 0 && c->items[i - 1].reach > t->low; i--) {
        const touched *b = &c->items[i - 1];
        if (b->high > t->low && (b->touch != t->touch || b->touch == SM_TOUCH_WRITE))
            return b;
    }
    return NULL;
}

ml_status sm_hazards_end(sm_hazards *h, sm_findings *findings) {
    if (!h->open)
        return ml_fail(ML_ERR_VALUE, "hazards: no command to end");
    h->open = false;
    command *now = &h->commands[h->n - 1];
    sort(now);
    for (size_t k = 0; k + 1 < h->n; k++) {
        const command *before = &h->commands[k];
        uint64_t reported = 0; /* one finding for each of the command's buffers */
        for (size_t i = 0; i < now->n; i++) {
            uint64_t bit = UINT64_C(1) << ((unsigned)(now->items[i].buffer + 1) % 64);
            const touched *b = reported & bit ? NULL : find_conflict(before, &now->items[i]);
            if (!b)
                continue;
            reported |= bit;
            ML_TRY(conflict(now, &now->items[i], before, b, findings));
        }
    }
    return ML_OK;
}
