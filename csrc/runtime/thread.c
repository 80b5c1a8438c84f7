#include "runtime/thread.h"

#include "runtime/command.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Scratch from this size on is a multiple of it, so that the kernel can back it with huge pages. */
#define HUGE_PAGE ((size_t)2 << 20)

static _Thread_local ml_thread *current;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static bool key_ready;
static atomic_int thread_count;

static void destroy_thread(void *arg) {
    ml_thread *t = arg;
    current = t; /* the C library may have cleared it already */
    ml_command_forget_thread(t);
    current = NULL;
    ml_thread_release_scratch(t);
    free(t->explained);
    free(t->plans);
    free(t);
}

static void make_key(void) {
    key_ready = pthread_key_create(&key, destroy_thread) == 0;
}

static __attribute__((noinline)) ml_thread *make_thread(void) {
    pthread_once(&key_once, make_key);
    ml_thread *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->index = atomic_fetch_add_explicit(&thread_count, 1, memory_order_relaxed);
    if (!key_ready || pthread_setspecific(key, t) != 0) {
        free(t);
        return NULL;
    }
    current = t;
    return t;
}

ml_thread *ml_thread_get(void) {
    ml_thread *t = current;
    return __builtin_expect(t != NULL, 1) ? t : make_thread();
}

void ml_thread_release_scratch(ml_thread *t) {
    free(t->scratch);
    t->scratch = NULL;
    t->scratch_size = 0;
}

void *ml_thread_scratch(ml_thread *t, size_t size) {
    if (__builtin_expect(size <= t->scratch_size, 1))
        return t->scratch;
    ml_thread_release_scratch(t);
    size_t unit = size >= HUGE_PAGE ? HUGE_PAGE : (size_t)16 << 10;
    size_t rounded = (size + unit - 1) / unit * unit;
    if (rounded < size)
        return NULL;
    void *p;
    if (posix_memalign(&p, unit, rounded) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (unit == HUGE_PAGE)
        madvise(p, rounded, MADV_HUGEPAGE); /* advice: no harm when refused */
#endif
    t->scratch = p;
    t->scratch_size = rounded;
    return p;
}
