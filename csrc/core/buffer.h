/* A reference-counted range of memory that a device owns or has borrowed. */
#ifndef ML_CORE_BUFFER_H
#define ML_CORE_BUFFER_H

#include "core/status.h"

#include <stdatomic.h>

enum {
    ML_BUF_READ_ONLY = 1 << 0,
    ML_BUF_BORROWED = 1 << 1, /* foreign memory: NumPy, DLPack, C callers */
    ML_BUF_EXPORTED = 1 << 2  /* handed out through the buffer protocol or DLPack */
};

struct ml_buffer {
    atomic_int refs;
    atomic_uint flags;
    void *host;           /* host address; NULL when not host-visible */
    size_t size;          /* bytes */
    void *handle;         /* the GPU's buffer object; NULL on cpu */
    size_t handle_offset; /* bytes from the start of handle to this buffer: pooled memory is a part of it */
    struct ml_device *device;
    /* Not NULL: a weight that never changes, with what was derived from it (core/prepacked.h). Goes with the buffer. */
    struct ml_prepacked *prepacked;
    /* Called once when the last reference goes. For pooled memory it returns the block to its pool. */
    void (*destroy)(ml_buffer *self);
    /* The command that will write this buffer last; NULL when nothing is pending. Always NULL on cpu. */
    _Atomic(struct ml_command *) pending;
    /* Completes what is pending and clears it. Never called while pending is NULL, so a device on which nothing ever is
     * leaves it NULL. */
    ml_status (*wait)(ml_buffer *self);
};

/* A buffer over foreign memory, with one reference. memory->release (may be NULL) runs when the last reference goes,
 * not when wrapping fails. Errors: ML_ERR_VALUE (no address), ML_ERR_MEMORY. */
ml_status ml_buffer_wrap(struct ml_device *device, const ml_host_memory *memory, ml_buffer **out);
/* For owners that add to a wrapped buffer: its own destroy, and what runs then (not called with NULL). */
void ml_buffer_destroy_wrapped(ml_buffer *self);
void ml_buffer_set_release(ml_buffer *b, ml_release_fn release, void *user);
void ml_buffer_retain(ml_buffer *b);  /* NULL is fine */
void ml_buffer_release(ml_buffer *b); /* NULL is fine; waits for what is pending before the memory goes */
/* Returns when no command will write the buffer any more. NULL is fine. */
ml_status ml_buffer_wait(ml_buffer *b);

#endif
