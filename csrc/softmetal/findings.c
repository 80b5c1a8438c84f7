#include "softmetal/findings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[SM_FINDING_KINDS] = {
    [SM_FINDING_OUT_OF_BOUNDS] = "out-of-bounds",     [SM_FINDING_READ_ONLY_WRITTEN] = "read-only-written",
    [SM_FINDING_UNBOUND_BUFFER] = "unbound-buffer",   [SM_FINDING_RACE] = "race",
    [SM_FINDING_RACE_SAME_VALUE] = "race-same-value", [SM_FINDING_RACE_ATOMIC] = "race-atomic",
    [SM_FINDING_UNINITIALISED] = "uninitialised",     [SM_FINDING_DIVERGENT_BARRIER] = "divergent-barrier",
    [SM_FINDING_MISALIGNED] = "misaligned",           [SM_FINDING_HAZARD] = "hazard",
    [SM_FINDING_WILD_ACCESS] = "wild-access",         [SM_FINDING_STACK_OVERFLOW] = "stack-overflow",
    [SM_FINDING_ARITHMETIC] = "arithmetic",           [SM_FINDING_THREADGROUP_MEMORY] = "threadgroup-memory",
    [SM_FINDING_UNSUPPORTED] = "unsupported",         [SM_FINDING_API] = "api",
};

const char *sm_finding_kind_name(sm_finding_kind kind) {
    return (unsigned)kind < SM_FINDING_KINDS ? kind_names[kind] : "unknown";
}

const char *sm_severity_name(sm_severity severity) {
    return severity == SM_ERROR ? "error" : severity == SM_WARNING ? "warning" : "note";
}

/* ---- the list ---- */

static void finding_free(sm_finding *f) {
    free(f->kernel);
    free(f->file);
    free(f->other_kernel);
    free(f->other_file);
    free(f->variable);
    free(f->message);
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_race(sm_finding_kind kind) {
    return kind == SM_FINDING_RACE || kind == SM_FINDING_RACE_SAME_VALUE || kind == SM_FINDING_RACE_ATOMIC;
}

static bool same_finding(const sm_finding *a, const sm_finding *b) {
    if (a->kind != b->kind || a->severity != b->severity || a->buffer != b->buffer ||
        !same_text(a->kernel, b->kernel) || !same_text(a->variable, b->variable) ||
        !same_text(a->other_kernel, b->other_kernel))
        return false;
    if (a->kind == SM_FINDING_API && !same_text(a->message, b->message))
        return false;
    if (a->line == b->line && a->other_line == b->other_line && same_text(a->file, b->file) &&
        same_text(a->other_file, b->other_file))
        return true;
    /* Which of two racing accesses came second depends on the order. */
    return is_race(a->kind) && a->line == b->other_line && a->other_line == b->line &&
           same_text(a->file, b->other_file) && same_text(a->other_file, b->file);
}

ml_status sm_findings_add(sm_findings *list, const sm_finding *finding) {
    if (!list)
        return ML_OK;
    uint64_t count = finding->count ? finding->count : 1;
    for (size_t i = 0; i < list->n; i++)
        if (same_finding(&list->items[i], finding)) {
            list->items[i].count += count;
            return ML_OK;
        }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        sm_finding *items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return ml_fail(ML_ERR_MEMORY, "check: no memory for %zu findings", capacity);
        list->items = items;
        list->capacity = capacity;
    }
    sm_finding copy = *finding;
    copy.count = count;
    char **strings[] = {&copy.kernel, &copy.file, &copy.other_kernel, &copy.other_file, &copy.variable, &copy.message};
    bool complete = true;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        if (*strings[i] && !(*strings[i] = strdup(*strings[i])))
            complete = false;
    if (!complete) {
        finding_free(&copy);
        return ml_fail(ML_ERR_MEMORY, "check: out of memory");
    }
    list->items[list->n++] = copy;
    return ML_OK;
}

void sm_findings_clear(sm_findings *list) {
    for (size_t i = 0; i < list->n; i++)
        finding_free(&list->items[i]);
    free(list->items);
    memset(list, 0, sizeof *list);
}

size_t sm_findings_count(const sm_findings *list, sm_severity at_least) {
    size_t n = 0;
    for (size_t i = 0; list && i < list->n; i++)
        n += list->items[i].severity >= at_least;
    return n;
}

/* ---- text ---- */

typedef struct text {
    char *data;
    size_t n, capacity;
    bool failed;
} text;

static void put_bytes(text *t, const char *s, size_t n) {
    if (t->failed)
        return;
    if (t->n + n + 1 > t->capacity) {
        size_t capacity = 2 * (t->n + n + 1) + 256;
        char *data = realloc(t->data, capacity);
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->capacity = capacity;
    }
    memcpy(t->data + t->n, s, n);
    t->n += n;
    t->data[t->n] = 0;
}

static void put(text *t, const char *s) {
    put_bytes(t, s, strlen(s));
}

static __attribute__((format(printf, 2, 3))) void put_format(text *t, const char *format, ...) {
    char buffer[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    if (n > 0)
        put_bytes(t, buffer, (size_t)n < sizeof buffer ? (size_t)n : sizeof buffer - 1);
}

static char *finish(text *t) {
    if (!t->failed)
        return t->data;
    free(t->data);
    return NULL;
}

char *sm_findings_text(const sm_findings *list) {
    text t = {0};
    put(&t, "");
    for (size_t i = 0; i < list->n; i++) {
        const sm_finding *f = &list->items[i];
        if (f->file) {
            put(&t, f->file);
            if (f->line)
                put_format(&t, ":%" PRIu32, f->line);
            put(&t, ": ");
        }
        put(&t, sm_severity_name(f->severity));
        put(&t, ": ");
        put(&t, sm_finding_kind_name(f->kind));
        put(&t, ": ");
        put(&t, f->message ? f->message : "");
        if (f->count > 1)
            put_format(&t, " (%" PRIu64 " times)", f->count);
        put(&t, "\n");
    }
    return finish(&t);
}

/* ---- JSON ---- */

static void put_string(text *t, const char *s) {
    if (!s) {
        put(t, "null");
        return;
    }
    put(t, "\"");
    for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
        if (*p == '"' || *p == '\\')
            put_format(t, "\\%c", *p);
        else if (*p < 0x20)
            put_format(t, "\\u%04x", *p);
        else
            put_bytes(t, (const char *)p, 1);
    }
    put(t, "\"");
}

static void put_key_string(text *t, const char *key, const char *value) {
    put_format(t, ", \"%s\": ", key);
    put_string(t, value);
}

static void put_key_line(text *t, const char *key, uint32_t line) {
    put_format(t, ", \"%s\": ", key);
    if (line)
        put_format(t, "%" PRIu32, line);
    else
        put(t, "null");
}

static void put_thread(text *t, const char *key, const sm_finding_thread *thread) {
    put_format(t, ", \"%s\": ", key);
    if (!thread->known) {
        put(t, "null");
        return;
    }
    const uint32_t *g = thread->position_in_grid, *p = thread->position_in_threadgroup, *q = thread->threadgroup;
    put_format(t, "{\"position_in_grid\": [%u, %u, %u], \"position_in_threadgroup\": [%u, %u, %u], ", g[0], g[1], g[2],
               p[0], p[1], p[2]);
    put_format(t, "\"threadgroup\": [%u, %u, %u]}", q[0], q[1], q[2]);
}

char *sm_findings_json(const sm_findings *list) {
    text t = {0};
    put(&t, "[");
    for (size_t i = 0; i < list->n; i++) {
        const sm_finding *f = &list->items[i];
        put(&t, i ? ",\n {" : "\n {");
        put_format(&t, "\"severity\": \"%s\", \"kind\": \"%s\"", sm_severity_name(f->severity),
                   sm_finding_kind_name(f->kind));
        put_key_string(&t, "kernel", f->kernel);
        put_key_string(&t, "file", f->file);
        put_key_line(&t, "line", f->line);
        put_key_string(&t, "other_kernel", f->other_kernel);
        put_key_string(&t, "other_file", f->other_file);
        put_key_line(&t, "other_line", f->other_line);
        if (f->buffer >= 0)
            put_format(&t, ", \"buffer\": %d", f->buffer);
        else
            put(&t, ", \"buffer\": null");
        put_key_string(&t, "variable", f->variable);
        put_format(&t, ", \"offset\": %" PRId64 ", \"size\": %" PRIu64 ", \"length\": %" PRIu64, f->offset, f->size,
                   f->length);
        put_thread(&t, "thread", &f->thread);
        put_thread(&t, "other", &f->other);
        put_format(&t, ", \"count\": %" PRIu64, f->count);
        put_key_string(&t, "message", f->message);
        put(&t, "}");
    }
    put(&t, list->n ? "\n]" : "]");
    return finish(&t);
}
