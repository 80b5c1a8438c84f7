#include "runtime/metrics.h"

#include "dispatch/dispatch.h"
#include "runtime/describe.h"
#include "runtime/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

atomic_int ml_metrics_profiles;

/* Guards the lists of files and profiles. Held across fork. */
static ml_fork_mutex mutex = ML_FORK_MUTEX;

static void lock(void) {
    ml_fork_mutex_lock(&mutex);
}

static void unlock(void) {
    ml_fork_mutex_unlock(&mutex);
}

static double clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

double ml_metrics_now_us(void) {
    return clock_us(CLOCK_MONOTONIC);
}

/* ---- sinks ---- */

typedef struct jsonl_file {
    struct jsonl_file *next;
    int refs, fd;
    char path[];
} jsonl_file;
static jsonl_file *files;

struct ml_metrics_sink {
    bool console;
    jsonl_file *file;
};

/* Appending whole lines, each with one write(), keeps lines of several processes apart: POSIX makes O_APPEND writes to
 * a regular file atomic with respect to each other. */
static jsonl_file *open_file(const char *path) {
    lock();
    jsonl_file *f = files;
    while (f && strcmp(f->path, path) != 0)
        f = f->next;
    if (f) {
        f->refs++;
        unlock();
        return f;
    }
    size_t length = strlen(path);
    f = malloc(sizeof *f + length + 1);
    int fd = f ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0) {
        int error = f ? errno : ENOMEM;
        unlock();
        free(f);
        ml_warn_once("METALLIC_METRICS_JSONL_PATH: cannot open %s: %s", path, strerror(error));
        return NULL;
    }
    f->refs = 1;
    f->fd = fd;
    memcpy(f->path, path, length + 1);
    f->next = files;
    files = f;
    unlock();
    return f;
}

static void close_file(jsonl_file *f) {
    lock();
    bool last = --f->refs == 0;
    if (last) {
        jsonl_file **link = &files;
        while (*link != f)
            link = &(*link)->next;
        *link = f->next;
    }
    unlock();
    if (last) {
        close(f->fd);
        free(f);
    }
}

ml_metrics_sink *ml_metrics_sink_open(const ml_pref_values *prefs) {
    jsonl_file *file = prefs->metrics_jsonl_path[0] ? open_file(prefs->metrics_jsonl_path) : NULL;
    if (!file && !prefs->metrics_console)
        return NULL;
    ml_metrics_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        if (file)
            close_file(file);
        return NULL;
    }
    sink->console = prefs->metrics_console;
    sink->file = file;
    return sink;
}

void ml_metrics_sink_close(ml_metrics_sink *sink) {
    if (!sink)
        return;
    if (sink->file)
        close_file(sink->file);
    free(sink);
}

/* A line that the file takes only in part cannot be kept whole; one that is interrupted before it starts can. */
static void write_line(int fd, const char *line, size_t size) {
    ssize_t n;
    do
        n = write(fd, line, size);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)size)
        ml_warn_once("metrics: cannot write a record: %s", n < 0 ? strerror(errno) : "no space");
}

/* ---- profiles ---- */

struct ml_profile {
    bool open; /* in the list */
    ml_profile *next;
    char **records;
    int64_t n, capacity;
};
static ml_profile *profiles;

ml_status ml_profile_begin(ml_profile **out) {
    ml_profile *p = calloc(1, sizeof *p);
    if (!p)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a profile");
    p->open = true;
    lock();
    p->next = profiles;
    profiles = p;
    atomic_fetch_add(&ml_metrics_profiles, 1);
    unlock();
    *out = p;
    return ML_OK;
}

void ml_profile_end(ml_profile *profile) {
    lock();
    if (profile->open) {
        profile->open = false;
        ml_profile **link = &profiles;
        while (*link != profile)
            link = &(*link)->next;
        *link = profile->next;
        atomic_fetch_sub(&ml_metrics_profiles, 1);
    }
    unlock();
}

int64_t ml_profile_count(const ml_profile *profile) {
    lock();
    int64_t n = profile->n;
    unlock();
    return n;
}

ml_status ml_profile_record_json(const ml_profile *profile, int64_t index, char **json) {
    lock();
    const bool present = index >= 0 && index < profile->n;
    const int64_t n = profile->n;
    char *copy = present ? strdup(profile->records[index]) : NULL;
    unlock();
    if (!present)
        return ml_fail(ML_ERR_VALUE, "record %lld of a profile with %lld", (long long)index, (long long)n);
    if (!copy)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a profile record");
    *json = copy;
    return ML_OK;
}

void ml_profile_release(ml_profile *profile) {
    if (!profile)
        return;
    ml_profile_end(profile);
    for (int64_t i = 0; i < profile->n; i++)
        free(profile->records[i]);
    free(profile->records);
    free(profile);
}

/* A record that finds no memory is lost; the operation it describes is not. */
static void append(ml_profile *p, const char *json) {
    if (p->n == p->capacity) {
        int64_t capacity = p->capacity ? 2 * p->capacity : 64;
        char **records = realloc(p->records, (size_t)capacity * sizeof *records);
        if (!records)
            return;
        p->records = records;
        p->capacity = capacity;
    }
    char *copy = strdup(json);
    if (copy)
        p->records[p->n++] = copy;
}

/* ---- records ---- */

static ml_status format_record(const ml_context *ctx, const ml_thread *t, const ml_metrics_record *r, char **out) {
    ml_json j = ML_JSON_INIT;
    ml_json_object_begin(&j, NULL);
    ml_json_number(&j, "time", clock_us(CLOCK_REALTIME) * 1e-6);
    ml_json_int(&j, "pid", getpid());
    ml_json_int(&j, "thread", t->index);
    ml_json_int(&j, "context", ctx->id);
    ml_json_string(&j, "label", t->label);
    ml_describe_plan(&j, ctx->device, r->plan);
    ml_describe_op(&j, r->op);
    ml_json_int(&j, "copied_bytes", r->copied_bytes);
    ml_json_int(&j, "dispatches", r->dispatches);
    if (r->command_buffer) {
        ml_json_int(&j, "barriers", r->barriers);
        ml_json_int(&j, "command_buffer", r->command_buffer);
    }
    ml_json_bool(&j, "cache_hit", r->cache_hit);
    ml_json_number(&j, "host_us", r->host_us);
    if (r->device_us >= 0)
        ml_json_number(&j, "device_us", r->device_us);
    else
        ml_json_string(&j, "device_us", NULL);
    ml_json_object_end(&j);
    return ml_json_finish(&j, out);
}

/* "a/b matmul gemv small_n(1) cpu/gemv_avx512 out [1, 9728] float16 41.2 us" */
static void write_console(const ml_context *ctx, const ml_thread *t, const ml_metrics_record *r) {
    char line[ML_LABEL_MAX + 512], variant[64], impl[ML_IMPL_MAX], out[ML_FORMAT_MAX];
    const char *family = ml_describe_family(r->plan);
    int n = snprintf(line, sizeof line, "metallic: %s%s%s%s%s %s %s out %s %.1f us\n", t->label, *t->label ? " " : "",
                     ml_op_name(r->plan->op), *family ? " " : "", family,
                     ml_plan_variant_format(r->plan, variant, sizeof variant),
                     ml_describe_impl(ctx->device, r->plan, impl, sizeof impl),
                     ml_view_format(&r->op->out[0], out, sizeof out), r->host_us);
    if (n > 0)
        write_line(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void ml_metrics_emit(const ml_context *ctx, const ml_thread *t, const ml_metrics_record *r) {
    const ml_metrics_sink *sink = ctx->sink;
    if (sink && sink->console)
        write_console(ctx, t, r);
    if (!(sink && sink->file) && atomic_load(&ml_metrics_profiles) == 0)
        return;
    char *json;
    if (format_record(ctx, t, r, &json) != ML_OK)
        return;
    if (atomic_load(&ml_metrics_profiles) > 0) {
        lock();
        for (ml_profile *p = profiles; p; p = p->next)
            append(p, json);
        unlock();
    }
    if (sink && sink->file) {
        size_t size = strlen(json);
        json[size] = '\n'; /* in place of the terminator: the line goes out with one write */
        write_line(sink->file->fd, json, size + 1);
    }
    ml_free(json);
}

void ml_metrics_add_copied(int64_t bytes) {
    ml_thread *t = ml_thread_get();
    if (t)
        t->copied_bytes += bytes;
}
