/* Prepacked weights below Python: how views relate to the matrices of their buffer, panels that threads add at once,
 * and ml_prepack's errors. */
#include "test_runtime.h"

#include "core/prepacked.h"
#include "core/tensor.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

static ml_prepacked_form form_of(const ml_tensor *t) {
    return ml_view_prepacked_form(&t->view);
}

/* The form of t after a view function made *view of it, which is released. */
static ml_prepacked_form form_then_release(ml_status status, ml_tensor **view) {
    if (!check(status == ML_OK))
        return ML_PREPACKED_NOT;
    const ml_prepacked_form form = form_of(*view);
    ml_tensor_release(*view);
    return form;
}

static void test_forms(ml_context *ctx) {
    ml_tensor *w = random_tensor(ctx, ML_F16, (ml_shape){3, {3, 5, 5}}), *p = NULL, *t = NULL, *v = NULL;
    check(form_of(w) == ML_PREPACKED_NOT);
    check(ml_prepack(ctx, w, false, &p) == ML_OK && form_of(p) == ML_PREPACKED_AS_IS);
    check(ml_prepack(ctx, w, true, &t) == ML_OK && form_of(t) == ML_PREPACKED_TRANSPOSED);
    check(t->view.shape[1] == 5 && ml_tensor_buffer(t) != ml_tensor_buffer(p));
    check(form_then_release(ml_tensor_transpose(p, (int[]){0, 2, 1}, &v), &v) == ML_PREPACKED_TRANSPOSED);
    check(form_then_release(ml_tensor_transpose(t, (int[]){0, 2, 1}, &v), &v) == ML_PREPACKED_AS_IS);
    check(form_then_release(ml_tensor_slice(p, 0, 2, -2, 2, &v), &v) == ML_PREPACKED_AS_IS);
    check(form_then_release(ml_tensor_slice(p, 1, 0, 1, 4, &v), &v) == ML_PREPACKED_NOT);
    check(form_then_release(ml_tensor_slice(p, 2, 1, 1, 4, &v), &v) == ML_PREPACKED_NOT);
    check(form_then_release(ml_tensor_slice(p, 2, 4, -1, 5, &v), &v) == ML_PREPACKED_NOT);
    /* Five rows of five that start within a matrix: the right shape at the wrong place. */
    ml_layout shifted = {.dtype = ML_F16, .shape = {2, {5, 5}}, .byte_offset = 5 * 2};
    check(form_then_release(ml_tensor_from_existing_buffer(ml_tensor_buffer(p), &shifted, &v), &v) == ML_PREPACKED_NOT);
    shifted.byte_offset = 25 * 2;
    check(form_then_release(ml_tensor_from_existing_buffer(ml_tensor_buffer(p), &shifted, &v), &v) ==
          ML_PREPACKED_AS_IS);
    shifted.dtype = ML_BF16;
    check(form_then_release(ml_tensor_from_existing_buffer(ml_tensor_buffer(p), &shifted, &v), &v) == ML_PREPACKED_NOT);
    /* Matrices whose distance is no multiple of a matrix. */
    ml_layout stepped = {.dtype = ML_F16, .shape = {3, {2, 5, 5}}, .strides = (int64_t[]){5, 5, 1}};
    check(form_then_release(ml_tensor_from_existing_buffer(ml_tensor_buffer(p), &stepped, &v), &v) == ML_PREPACKED_NOT);
    ml_tensor_release(w);
    ml_tensor_release(p);
    ml_tensor_release(t);
}

static void test_errors(ml_context *ctx) {
    ml_tensor *vector = empty(ctx, ML_F32, (ml_shape){1, {4}}), *integers = empty(ctx, ML_I32, (ml_shape){2, {2, 2}});
    ml_tensor *w = random_tensor(ctx, ML_F32, (ml_shape){2, {4, 6}}), *out = NULL, *p = NULL;
    check(failed_with(ml_prepack(ctx, NULL, false, &out), ML_ERR_VALUE, "NULL") && !out);
    check(failed_with(ml_prepack(ctx, w, false, NULL), ML_ERR_VALUE, "NULL"));
    check(failed_with(ml_prepack(NULL, w, false, &out), ML_ERR_VALUE, "context is NULL") && !out);
    check(failed_with(ml_prepack(ctx, vector, false, &out), ML_ERR_SHAPE, "weight [4]") && !out);
    check(failed_with(ml_prepack(ctx, integers, false, &out), ML_ERR_DTYPE, "int32") && !out);
    check(ml_prepack(ctx, w, false, &p) == ML_OK);
    check(failed_with(ml_fill(ctx, p, 1.0), ML_ERR_VALUE, "prepacked"));
    check(failed_with(ml_copy(ctx, w, p), ML_ERR_VALUE, "prepacked"));
    ml_tensor *all[] = {vector, integers, w, p};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ml_tensor_release(all[i]);
}

enum { THREADS = 4, FORMATS = 300 };

typedef struct racer {
    pthread_t thread;
    ml_prepacked *prepacked;
    ml_buffer *memory;
    atomic_int *missing; /* threads that are yet to come; macOS has no pthread_barrier_t */
    const ml_panels *seen[FORMATS];
} racer;

static const char formats[FORMATS];

static void *race(void *arg) {
    racer *r = arg;
    atomic_fetch_sub(r->missing, 1);
    while (atomic_load(r->missing) > 0)
        sched_yield();
    for (int i = 0; i < FORMATS; i++) {
        const ml_panels made = {.format = &formats[i], .transposed = i % 2 == 0, .memory = r->memory};
        r->seen[i] = ml_panels_add(r->prepacked, &made);
    }
    return NULL;
}

/* Of the panels that threads add at once one each is kept, and all threads learn of that one. */
static void test_race(ml_context *ctx) {
    ml_tensor *w = random_tensor(ctx, ML_F32, (ml_shape){2, {4, 6}}), *p = NULL, *memory[THREADS];
    check(ml_prepack(ctx, w, false, &p) == ML_OK);
    ml_prepacked *prepacked = ml_tensor_buffer(p)->prepacked;
    atomic_int missing = THREADS;
    racer *racers = calloc(THREADS, sizeof *racers);
    for (int i = 0; i < THREADS; i++) {
        memory[i] = empty(ctx, ML_F32, (ml_shape){1, {8}});
        racers[i].prepacked = prepacked;
        racers[i].memory = ml_tensor_buffer(memory[i]);
        racers[i].missing = &missing;
        check(pthread_create(&racers[i].thread, NULL, race, &racers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(racers[i].thread, NULL);
    bool same = true;
    for (int f = 0; f < FORMATS; f++) {
        const ml_panels *kept = ml_panels_find(prepacked, &formats[f], f % 2 == 0);
        same = same && kept != NULL && !ml_panels_find(prepacked, &formats[f], f % 2 != 0);
        for (int i = 0; i < THREADS; i++)
            same = same && racers[i].seen[f] == kept;
    }
    check(same);
    int entries = 0;
    for (const ml_panels *at = atomic_load(&prepacked->panels); at; at = at->next)
        entries++;
    check(entries == FORMATS);
    free(racers);
    for (int i = 0; i < THREADS; i++)
        ml_tensor_release(memory[i]);
    ml_tensor_release(w);
    ml_tensor_release(p);
}

void test_prepacked(void) {
    ml_context *ctx = new_context(NULL, 0, false);
    test_forms(ctx);
    test_errors(ctx);
    for (int i = 0; i < 20; i++)
        test_race(ctx);
    ml_memory_stats s;
    ml_context_memory_stats(ctx, &s);
    check(s.bytes_in_use == 0);
    ml_context_release(ctx);
}
