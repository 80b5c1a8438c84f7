/* The runtime and the operations, through the public API: contexts, memory pool, resource cache, batches, metrics,
 * threads, fork; argument errors, aliasing, and matmul against a double loop over random layouts.
 *
 *     test_runtime [seed]
 */
#include "test_runtime.h"

#include "core/tensor.h"
#include "runtime/command.h"
#include "runtime/context.h"
#include "runtime/fork.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int passed, failed;

bool check_at(bool ok, const char *what, const char *file, int line) {
    if (ok) {
        __atomic_add_fetch(&passed, 1, __ATOMIC_RELAXED);
        return true;
    }
    __atomic_add_fetch(&failed, 1, __ATOMIC_RELAXED);
    printf("%s:%d: %s (last error: %s)\n", file, line, what, ml_last_error());
    return false;
}

static uint64_t rng_state = 1;

uint64_t rng(void) { /* splitmix64, Steele, Lea and Flood 2014 */
    uint64_t z = rng_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t rng_in(int64_t low, int64_t high) {
    return low + (int64_t)(rng() % (uint64_t)(high - low + 1));
}

ml_context *new_context(const ml_pref *prefs, int n, bool strict) {
    ml_context *ctx = NULL;
    check(ml_context_create(&(ml_context_options){.device = "cpu", .strict = strict, .prefs = prefs, .n_prefs = n},
                            &ctx) == ML_OK);
    return ctx;
}

ml_tensor *empty(ml_context *ctx, ml_dtype dtype, ml_shape shape) {
    ml_tensor *t = NULL;
    check(ml_tensor_empty(ctx, dtype, &shape, &t) == ML_OK);
    return t;
}

ml_tensor *random_tensor(ml_context *ctx, ml_dtype dtype, ml_shape shape) {
    ml_tensor *t = empty(ctx, dtype, shape);
    const int64_t n = ml_tensor_size(t);
    for (int64_t i = 0; i < n; i++)
        ml_store_element(dtype, (char *)ml_view_data(&t->view) + i * (int64_t)ml_dtype_size(dtype),
                         (double)rng_in(-64, 64) / 64);
    return t;
}

double element(const ml_view *v, const int64_t *index) {
    int64_t at = 0;
    for (int i = 0; i < v->ndim; i++)
        at += index[i] * (v->shape[i] > 1 ? v->strides[i] : 0);
    return ml_load_element(v->dtype, (char *)ml_view_data(v) + at * (int64_t)ml_dtype_size(v->dtype));
}

bool failed_with(ml_status status, ml_status expected, const char *text) {
    return status == expected && strstr(ml_last_error(), text) != NULL;
}

/* ---- contexts and devices ---- */

static void test_contexts(void) {
    ml_context *ctx = NULL, *other = NULL;
    check(failed_with(ml_context_create(&(ml_context_options){.device = "tpu"}, &ctx), ML_ERR_DEVICE, "tpu"));
    check(ctx == NULL);
    ml_pref unknown = {"matmul_colour", "red"};
    check(ml_context_create(&(ml_context_options){.prefs = &unknown, .n_prefs = 1}, &ctx) == ML_ERR_VALUE);
    check(ml_context_default("cpu", &ctx) == ML_OK && ml_context_default("cpu", &other) == ML_OK && ctx == other);
    check(!strcmp(ml_context_device(ctx), "cpu"));
    ml_context_release(ctx);
    ml_context_release(other);
    check(failed_with(ml_context_default("abacus", &ctx), ML_ERR_DEVICE, "abacus"));

    char *json = NULL;
    check(ml_devices_json(&json) == ML_OK && strstr(json, "\"cpu\"") && strstr(json, "\"cuda\""));
    ml_free(json);
    check(ml_kernels_json("matmul", NULL, &json) == ML_OK && strstr(json, "\"mlx\""));
    ml_free(json);
    check(failed_with(ml_kernels_json("matmult", NULL, &json), ML_ERR_VALUE, "matmult"));
}

static void count_release(void *counter) {
    ++*(int *)counter;
}

static void test_host_memory(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    static float data[12];
    int released = 0;
    ml_host_memory memory = {.data = data, .size = sizeof data, .release = count_release, .user = &released};
    ml_tensor *t = NULL;
    ml_layout outside = {.dtype = ML_F32, .shape = {2, {3, 5}}};
    check(failed_with(ml_tensor_from_host(ctx, &memory, &outside, &t), ML_ERR_SHAPE, "[3, 5]") && !t && released == 0);
    ml_layout inside = {.dtype = ML_F32, .shape = {2, {3, 4}}};
    check(failed_with(ml_tensor_empty(ctx, ML_F32, NULL, &t), ML_ERR_VALUE, "shape is NULL"));
    check(failed_with(ml_tensor_empty(NULL, ML_F32, &inside.shape, &t), ML_ERR_VALUE, "ctx is NULL"));
    check(failed_with(ml_tensor_from_host(ctx, NULL, &inside, &t), ML_ERR_VALUE, "memory is NULL"));
    check(failed_with(ml_tensor_from_host(ctx, &memory, NULL, &t), ML_ERR_VALUE, "layout is NULL"));
    check(ml_tensor_from_host(ctx, &memory, &inside, &t) == ML_OK);
    void *p = NULL;
    check(ml_tensor_data(t, &p) == ML_OK && p == data);
    ml_tensor_release(t);
    check(released == 1);
    memory.read_only = true;
    check(ml_tensor_from_host(ctx, &memory, &inside, &t) == ML_OK);
    check(failed_with(ml_fill(ctx, t, 1), ML_ERR_VALUE, "read-only"));
    ml_tensor_release(t);
    ml_context_release(ctx);
}

/* ---- memory pool ---- */

static void *release_elsewhere(void *t) {
    ml_tensor_release(t);
    return NULL;
}

static void test_pool(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    ml_memory_stats s;
    static const int64_t sizes[] = {0, 1, 16, 100, 2048, 2049, 5000, 70000, 262144, 262145, 3000000};
    enum { N = sizeof sizes / sizeof sizes[0] };
    ml_tensor *t[N];
    int64_t bytes = 0;
    for (int i = 0; i < N; i++) {
        t[i] = empty(ctx, ML_F32, (ml_shape){1, {sizes[i]}});
        void *p;
        check(ml_tensor_data(t[i], &p) == ML_OK && (uintptr_t)p % 16384 == 0);
        memset(p, i, (size_t)sizes[i] * 4);
        bytes += sizes[i] ? sizes[i] * 4 : 1;
    }
    bool intact = true; /* nobody wrote into another's memory */
    for (int i = 0; i < N; i++)
        for (int64_t j = 0; j < sizes[i] * 4; j++)
            intact &= ((unsigned char *)ml_view_data(&t[i]->view))[j] == i;
    check(intact);
    ml_context_memory_stats(ctx, &s);
    check(s.bytes_in_use == bytes && s.peak_in_use == bytes && s.allocations == N && s.bytes_reserved >= bytes);
    for (int i = 0; i < N; i++) {
        pthread_t thread;
        if (i % 2) {
            ml_tensor_release(t[i]);
        } else {
            check(pthread_create(&thread, NULL, release_elsewhere, t[i]) == 0);
            pthread_join(thread, NULL);
        }
    }
    ml_context_memory_stats(ctx, &s);
    const int64_t hits = s.pool_hits;
    check(s.bytes_in_use == 0 && s.peak_in_use == bytes && s.bytes_reserved > 0);
    for (int i = 0; i < N; i++)
        t[i] = empty(ctx, ML_F32, (ml_shape){1, {sizes[i]}});
    ml_context_memory_stats(ctx, &s);
    check(s.pool_hits == hits + N && s.allocations == 2 * N);
    ml_context_trim(ctx); /* all in use: nothing may go */
    for (int i = 0; i < N; i++) {
        memset(ml_view_data(&t[i]->view), 1, (size_t)sizes[i] * 4);
        ml_tensor_release(t[i]);
    }
    ml_context_trim(ctx);
    ml_context_memory_stats(ctx, &s);
    check(s.bytes_in_use == 0 && s.bytes_reserved == 0 && s.blocks == 0);

    ml_tensor *survivor = empty(ctx, ML_F32, (ml_shape){1, {1000}}),
              *large = empty(ctx, ML_F32, (ml_shape){1, {1 << 20}});
    ml_context_release(ctx);
    memset(ml_view_data(&survivor->view), 1, 4000);
    memset(ml_view_data(&large->view), 1, 4 << 20);
    ml_tensor_release(survivor);
    ml_tensor_release(large);

    ctx = new_context(&(ml_pref){"check", "1"}, 1, false);
    ml_tensor *poisoned = empty(ctx, ML_F32, (ml_shape){1, {64}});
    check(isnan(element(&poisoned->view, (int64_t[]){63})));
    ml_tensor_release(poisoned);
    ml_shape impossible = {3, {1 << 30, 1 << 30, 4}};
    ml_tensor *none = NULL;
    check(ml_tensor_empty(ctx, ML_F32, &impossible, &none) != ML_OK && !none);
    ml_context_release(ctx);
}

/* ---- cache, explain, metrics ---- */

static ml_status multiply(ml_context *ctx, const ml_tensor *a, const ml_tensor *b, ml_tensor **out) {
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = a;
    args.b = b;
    return ml_matmul(ctx, &args, out);
}

static void test_cache(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    ml_resource_cache *cache = NULL;
    ml_cache_stats s;
    check(ml_resource_cache_create(true, &cache) == ML_OK);
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {4, 4}}), *out = NULL;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = args.b = a;
    args.cache = cache;
    for (int i = 0; i < 2; i++)
        check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_NOT_CACHED, "matmul") && !out);
    ml_resource_cache_set_cached_only(cache, false);
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    ml_resource_cache_set_cached_only(cache, true);
    ml_tensor_release(out);
    out = NULL;
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    ml_resource_cache_stats(cache, &s);
    check(s.entries == 1 && s.hits == 1 && s.misses == 3);
    args.activation = ML_ACT_RELU; /* another resource */
    args.cache = cache;
    ml_tensor *other = NULL;
    check(ml_matmul(ctx, &args, &other) == ML_ERR_NOT_CACHED && !other);
    ml_context_cache_stats(ctx, &s);
    check(s.entries == 0 && s.hits == 0);
    ml_tensor_release(a);
    ml_tensor_release(out);
    ml_resource_cache_release(cache);
    ml_context_release(ctx);
}

static void test_explain(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {100, 70}}),
              *b = random_tensor(ctx, ML_F32, (ml_shape){2, {70, 90}});
    ml_tensor *out = NULL;
    char *json = NULL;
    check(ml_explain_end(&json) == ML_ERR_VALUE);
    ml_explain_begin();
    check(failed_with(ml_explain_end(&json), ML_ERR_VALUE, "no operation"));
    ml_explain_begin();
    check(multiply(ctx, a, b, &out) == ML_OK && out && out->view.shape[1] == 90);
    check(ml_explain_end(&json) == ML_OK && strstr(json, "\"backend\":\"mlx\"") && strstr(json, "\"why\":[\""));
    ml_free(json);
    ml_tensor_release(out);
    out = NULL;
    check(ml_prefs_push(&(ml_pref){"matmul_backend", "gemv"}, 1) == ML_OK);
    ml_explain_begin();
    check(multiply(ctx, a, b, &out) == ML_OK);
    check(ml_explain_end(&json) == ML_OK && strstr(json, "\"backend\":\"gemv\""));
    ml_prefs_pop();
    ml_free(json);
    ml_tensor_release(out);
    out = NULL;
    ml_tensor *groups = random_tensor(ctx, ML_F32, (ml_shape){3, {3, 70, 5}});
    ml_explain_begin();
    check(ml_matmul_ragged(ctx, &(ml_matmul_ragged_args){a, groups, (int64_t[]){30, 30, 40}, 3}, &out) == ML_OK);
    check(ml_explain_end(&json) == ML_OK && strstr(json, "\"steps\":[{\"op\":\"matmul\""));
    ml_free(json);
    ml_tensor_release(out);
    ml_tensor_release(groups);
    ml_tensor_release(a);
    ml_tensor_release(b);
    ml_context_release(ctx);
}

static void test_metrics(void) {
    char path[] = "/tmp/test_runtime_XXXXXX";
    int fd = mkstemp(path);
    check(fd >= 0);
    ml_context *ctx = new_context(&(ml_pref){"metrics_jsonl_path", path}, 1, false);
    ml_tensor *a = random_tensor(ctx, ML_F16, (ml_shape){2, {9, 20}}),
              *b = random_tensor(ctx, ML_F16, (ml_shape){2, {20, 30}});
    ml_tensor *out = NULL;
    ml_profile *p = NULL;
    check(ml_profile_begin(&p) == ML_OK);
    ml_scope_push("layer \"0\"");
    ml_scope_push("mlp");
    check(multiply(ctx, a, b, &out) == ML_OK);
    ml_scope_pop();
    check(ml_fill(ctx, out, 0.5) == ML_OK);
    ml_scope_pop();
    ml_profile_end(p);
    check(ml_fill(ctx, out, 1.5) == ML_OK); /* the file sees it, the profile does not */
    check(ml_profile_count(p) == 2);
    char *json = NULL;
    check(ml_profile_record_json(p, 0, &json) == ML_OK);
    static const char *const members[] = {"\"label\":\"layer \\\"0\\\"/mlp\"",
                                          "\"op\":\"matmul\"",
                                          "\"backend\":\"",
                                          "\"variant\":\"",
                                          "\"impl\":\"cpu/",
                                          "\"dtype\":\"float16\"",
                                          "\"a\":[9,20]",
                                          "\"out\":[30,1]",
                                          "\"copied_bytes\":0",
                                          "\"dispatches\":1",
                                          "\"cache_hit\":false",
                                          "\"host_us\":",
                                          "\"device_us\":",
                                          "\"scratch_bytes\":",
                                          "\"alpha\":1"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (!check(strstr(json, members[i]) != NULL))
            printf("  no %s in %s\n", members[i], json);
    ml_free(json);
    check(ml_profile_record_json(p, 1, &json) == ML_OK && strstr(json, "\"label\":\"layer \\\"0\\\"\""));
    ml_free(json);
    check(failed_with(ml_profile_record_json(p, 2, &json), ML_ERR_VALUE, "2"));
    ml_profile_release(p);
    ml_tensor_release(a);
    ml_tensor_release(b);
    ml_tensor_release(out);
    ml_context_release(ctx);
    FILE *f = fdopen(fd, "r");
    int lines = 0;
    char line[4096];
    while (f && fgets(line, sizeof line, f)) {
        lines++;
        check(line[0] == '{' && strlen(line) > 2 && !strcmp(line + strlen(line) - 2, "}\n"));
    }
    check(lines == 3);
    if (f)
        fclose(f);
    unlink(path);
}

static void test_batch(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {8, 8}}), *b = NULL, *c = NULL;
    check(failed_with(ml_batch_end(ctx), ML_ERR_VALUE, "ml_batch_begin"));
    check(ml_batch_begin(ctx) == ML_OK && ml_batch_begin(ctx) == ML_OK);
    check(multiply(ctx, a, a, &b) == ML_OK);
    check(ml_batch_end(ctx) == ML_OK);
    check(multiply(ctx, b, a, &c) == ML_OK && ml_context_synchronize(ctx) == ML_OK);
    check(ml_batch_end(ctx) == ML_OK && ml_batch_end(ctx) == ML_ERR_VALUE);
    ml_tensor_release(a);
    ml_tensor_release(b);
    ml_tensor_release(c);
    ml_context_release(ctx);
}

/* ---- threads and fork ---- */

typedef struct job {
    ml_context *ctx;
    const ml_tensor *a, *b, *expected;
    int rounds, wrong;
} job;

static void *multiply_often(void *arg) {
    job *j = arg;
    for (int i = 0; i < j->rounds; i++) {
        ml_tensor *out = NULL;
        if (multiply(j->ctx, j->a, j->b, &out) != ML_OK) {
            j->wrong++;
            continue;
        }
        if (j->expected &&
            memcmp(ml_view_data(&out->view), ml_view_data(&j->expected->view), (size_t)ml_tensor_size(out) * 4) != 0)
            j->wrong++;
        ml_tensor_release(out);
    }
    return NULL;
}

static void test_threads(void) {
    enum { THREADS = 6, ROUNDS = 100 };
    ml_context *ctx = new_context(NULL, 0, false);
    ml_profile *p = NULL;
    job jobs[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        const int64_t m = i + 1, k = 10 + 7 * i;
        jobs[i] = (job){.ctx = ctx,
                        .a = random_tensor(ctx, ML_F32, (ml_shape){2, {m, k}}),
                        .b = random_tensor(ctx, ML_F32, (ml_shape){2, {k, 33}}),
                        .rounds = ROUNDS};
        ml_tensor *expected = NULL;
        check(multiply(ctx, jobs[i].a, jobs[i].b, &expected) == ML_OK);
        jobs[i].expected = expected;
    }
    check(ml_profile_begin(&p) == ML_OK);
    for (int i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, multiply_often, &jobs[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        check(jobs[i].wrong == 0);
    }
    ml_profile_end(p);
    check(ml_profile_count(p) == THREADS * ROUNDS);
    ml_profile_release(p);
    for (int i = 0; i < THREADS; i++) {
        ml_tensor_release((ml_tensor *)jobs[i].a);
        ml_tensor_release((ml_tensor *)jobs[i].b);
        ml_tensor_release((ml_tensor *)jobs[i].expected);
    }
    ml_memory_stats s;
    ml_context_memory_stats(ctx, &s);
    check(s.bytes_in_use == 0);
    ml_context_release(ctx);
}

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

/* Children of a process whose other threads are in the middle of calls. */
static void test_fork(void) {
#ifdef THREAD_SANITIZER
    printf("skipped: fork (ThreadSanitizer does not let children of a threaded process start threads)\n");
    return;
#endif
    if (getenv("TEST_IN_EMULATOR")) {
        printf("skipped: fork (an emulator's own threads do not survive it)\n");
        return;
    }
    ml_context *ctx = new_context(NULL, 0, false);
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {150, 90}}),
              *b = random_tensor(ctx, ML_F32, (ml_shape){2, {90, 120}});
    ml_tensor *expected = NULL;
    check(multiply(ctx, a, b, &expected) == ML_OK);
    job busy[2] = {{.ctx = ctx, .a = a, .b = b, .rounds = 400}, {.ctx = ctx, .a = a, .b = b, .rounds = 400}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        check(pthread_create(&threads[i], NULL, multiply_often, &busy[i]) == 0);
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            job child = {.ctx = ctx, .a = a, .b = b, .expected = expected, .rounds = 3};
            multiply_often(&child);
            ml_context *fresh = NULL;
            bool ok = child.wrong == 0 && ml_context_create(NULL, &fresh) == ML_OK;
            _exit(ok ? 0 : 1);
        }
        int status = 0;
        check(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    check(busy[0].wrong == 0 && busy[1].wrong == 0);
    ml_tensor_release(a);
    ml_tensor_release(b);
    ml_tensor_release(expected);
    ml_context_release(ctx);
}

/* ---- devices with command buffers ---- */

/* A device that notes what it is asked to do: b(egin), e(ncode), c(ommit), w(ait), r(elease). */
static char noted[64];

static void note(char what) {
    const size_t n = strlen(noted);
    if (n + 1 < sizeof noted)
        noted[n] = what;
}

static ml_status fake_begin(ml_device *dev, void **buffer) {
    note('b');
    *buffer = dev;
    return ML_OK;
}

static ml_status fake_encode(ml_device *dev, void *buffer, ml_encode_args *args) {
    note('e');
    return args->op->fill.value == 13 ? ml_fail(ML_ERR_DEVICE, "unlucky") : ML_OK;
}

static ml_status fake_commit(ml_device *dev, void *buffer) {
    note('c');
    return ML_OK;
}

static bool unlucky;

static ml_status fake_wait(ml_device *dev, void *buffer, double *us) {
    note('w');
    *us = 7;
    return unlucky ? ml_fail(ML_ERR_DEVICE, "unlucky later") : ML_OK;
}

static bool fake_done(ml_device *dev, void *buffer) {
    return false;
}

static void fake_release(ml_device *dev, void *buffer) {
    note('r');
}

static bool fake_did(const char *what) {
    const bool same = !strcmp(noted, what);
    if (!same)
        printf("  did %s, not %s\n", noted, what);
    memset(noted, 0, sizeof noted);
    return same;
}

static void *wait_for_buffer(void *b) {
    const bool ok = ml_buffer_wait(b) == ML_OK;
    ml_buffer_release(b);
    return ok ? NULL : b;
}

static void test_command_buffers(void) {
    static const ml_device_vtbl vtbl = {.begin = fake_begin,
                                        .encode = fake_encode,
                                        .commit = fake_commit,
                                        .done = fake_done,
                                        .wait = fake_wait,
                                        .release = fake_release};
    ml_device dev = {.vtbl = &vtbl, .kind = ML_DEVICE_METAL, .name = "fake"};
    ml_context ctx = {.device = &dev, .fork_generation = ml_fork_generation()};
    atomic_init(&ctx.refs, 1);
    ml_thread *t = ml_thread_get();
    ml_buffer *b = NULL;
    int released = 0;
    float memory[4];
    check(ml_buffer_wrap(&dev, &(ml_host_memory){memory, sizeof memory, false, count_release, &released}, &b) == ML_OK);
    b->handle = memory; /* the device's own memory, not lent by anybody */
    atomic_store(&b->flags, 0);
    ml_op op = {.kind = ML_OP_FILL, .n_out = 1, .out = {{.buf = b, .ndim = 1, .shape = {4}, .strides = {1}}}};
    ml_encode_args args = {.op = &op, .label = ""};
    double us = 0;
    check(ml_command_record(&ctx, t, &args, &us) == ML_OK && us == 7 && fake_did("becwr"));
    op.fill.value = 13;
    check(failed_with(ml_command_record(&ctx, t, &args, &us), ML_ERR_DEVICE, "unlucky") && fake_did("ber"));
    op.fill.value = 0;
    check(!atomic_load(&b->pending) && atomic_load(&b->refs) == 1);
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("bec")); /* nobody asked for the result yet */
    check(atomic_load(&b->pending) && ml_buffer_wait(b) == ML_OK && fake_did("wr") && !atomic_load(&b->pending));
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && ml_context_synchronize(&ctx) == ML_OK &&
          fake_did("becwr"));
    for (int i = 0; i < ML_COMMANDS_IN_FLIGHT + 2; i++)
        check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && ctx.n_commands <= ML_COMMANDS_IN_FLIGHT + 1);
    check(ml_context_synchronize(&ctx) == ML_OK && ctx.n_commands == 0 && atomic_load(&b->refs) == 1);
    memset(noted, 0, sizeof noted);
    atomic_fetch_or(&b->flags, ML_BUF_EXPORTED); /* others may look at any time: complete when the call returns */
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("becwr"));

    /* What a failed command should have written is not there, for whoever asks and as often as they ask; until
     * something else writes it. */
    atomic_store(&b->flags, 0);
    unlucky = true;
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("bec"));
    for (int i = 0; i < 3; i++)
        check(failed_with(ml_buffer_wait(b), ML_ERR_DEVICE, "unlucky later") && fake_did(i ? "" : "w"));
    ml_op reading = op;
    reading.n_in = 1;
    reading.in[0] = op.out[0];
    ml_encode_args again = {.op = &reading, .label = ""};
    check(failed_with(ml_command_record(&ctx, t, &again, NULL), ML_ERR_DEVICE, "unlucky later") && fake_did(""));
    unlucky = false;
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("berc"));
    check(ml_buffer_wait(b) == ML_OK && fake_did("wr") && atomic_load(&b->refs) == 1);
    ml_buffer *gone = NULL;
    check(ml_buffer_wrap(&dev, &(ml_host_memory){memory, sizeof memory, false, NULL, NULL}, &gone) == ML_OK);
    gone->handle = memory;
    atomic_store(&gone->flags, 0);
    op.out[0].buf = gone;
    unlucky = true;
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("bec"));
    check(ml_context_synchronize(&ctx) == ML_ERR_DEVICE && fake_did("w") && ctx.n_commands == 0);
    ml_buffer_release(gone); /* takes the failed command with it */
    check(fake_did("r"));
    check(ml_buffer_wrap(&dev, &(ml_host_memory){memory, sizeof memory, false, NULL, NULL}, &gone) == ML_OK);
    gone->handle = memory;
    atomic_store(&gone->flags, 0);
    op.out[0].buf = gone;
    check(ml_command_record(&ctx, t, &args, NULL) == ML_OK && fake_did("bec"));
    ml_buffer_release(gone); /* never asked for: the command has the last reference */
    check(ml_context_synchronize(&ctx) == ML_ERR_DEVICE && fake_did("wr"));
    unlucky = false;
    op.out[0].buf = b;
    atomic_fetch_or(&b->flags, ML_BUF_EXPORTED);

    check(ml_batch_begin(&ctx) == ML_OK);
    check(failed_with(ml_command_record(&ctx, t, &args, NULL), ML_ERR_VALUE, "batch"));
    atomic_store(&b->flags, 0);
    check(ml_command_record(&ctx, t, &args, &us) == ML_OK && ml_command_record(&ctx, t, &args, &us) == ML_OK);
    check(fake_did("bee") && atomic_load(&b->pending) && atomic_load(&b->refs) == 3);
    check(ml_buffer_wait(b) == ML_OK && fake_did("cwr") && !atomic_load(&b->pending)); /* read by its own thread */
    check(ml_command_record(&ctx, t, &args, &us) == ML_OK && ml_context_synchronize(&ctx) == ML_OK &&
          fake_did("becwr"));
    check(ml_command_record(&ctx, t, &args, &us) == ML_OK && fake_did("be"));
    pthread_t reader;
    ml_buffer_retain(b);
    check(pthread_create(&reader, NULL, wait_for_buffer, b) == 0);
    ml_buffer_release(b); /* the batch still needs it */
    check(released == 0);
    check(ml_batch_end(&ctx) == ML_OK); /* commits; the reader waits */
    void *unfinished = b;
    check(pthread_join(reader, &unfinished) == 0 && unfinished == NULL && fake_did("cwr"));
    check(released == 1 && !t->batches && atomic_load(&ctx.refs) == 1);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    rng_state = seed;
    test_contexts();
    test_host_memory();
    test_pool();
    test_cache();
    test_explain();
    test_metrics();
    test_batch();
    test_command_buffers();
    test_ops();
    test_prepacked();
    test_threads();
    test_fork();
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
