#include "core/prepacked.h"

#include <stdlib.h>

typedef struct wrapped_buffer {
    ml_buffer base;
    ml_release_fn release;
    void *user;
} wrapped_buffer;

void ml_buffer_destroy_wrapped(ml_buffer *self) {
    wrapped_buffer *w = (wrapped_buffer *)self;
    if (w->release)
        w->release(w->user);
    free(w);
}

void ml_buffer_set_release(ml_buffer *b, ml_release_fn release, void *user) {
    wrapped_buffer *w = (wrapped_buffer *)b;
    w->release = release;
    w->user = user;
}

ml_status ml_buffer_wrap(struct ml_device *device, const ml_host_memory *memory, ml_buffer **out) {
    if (!memory->data && memory->size > 0)
        return ml_fail(ML_ERR_VALUE, "host memory of %zu bytes has no address", memory->size);
    wrapped_buffer *w = calloc(1, sizeof *w);
    if (!w)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a buffer handle");
    atomic_init(&w->base.refs, 1);
    atomic_init(&w->base.flags, (unsigned)ML_BUF_BORROWED | (memory->read_only ? (unsigned)ML_BUF_READ_ONLY : 0u));
    atomic_init(&w->base.pending, NULL);
    w->base.host = memory->data;
    w->base.size = memory->size;
    w->base.device = device;
    w->base.destroy = ml_buffer_destroy_wrapped;
    w->release = memory->release;
    w->user = memory->user;
    *out = &w->base;
    return ML_OK;
}

void ml_buffer_retain(ml_buffer *b) {
    if (b)
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void ml_buffer_release(ml_buffer *b) {
    /* acq_rel: what any thread did with the memory happens before destroy. */
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    /* Recorded commands hold references of their own, so one that still needs the memory is only left after an error;
     * the memory must not go before it is complete, and nobody is left to hear of its failure. */
    (void)ml_buffer_wait(b);
    if (__builtin_expect(b->prepacked != NULL, 0)) {
        ml_prepacked_free(b->prepacked);
        b->prepacked = NULL; /* a pool hands the buffer out again */
    }
    b->destroy(b);
}

ml_status ml_buffer_wait(ml_buffer *b) {
    if (!b || !atomic_load_explicit(&b->pending, memory_order_acquire))
        return ML_OK;
    if (!b->wait)
        return ml_fail(ML_ERR_DEVICE, "a command is pending on a buffer whose device cannot wait");
    return b->wait(b);
}
