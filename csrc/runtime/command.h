/* Command buffers.
 *
 * The open command buffer belongs to (context, thread) and exists from the outermost ml_batch_begin to its
 * ml_batch_end. On the cpu an operation has been computed when ml_command_record returns, so a batch is only a pair of
 * brackets there. On other devices what is recorded in a batch is committed and awaited when it ends, on
 * ml_context_synchronize, or when one of its results is read; outside a batch each record is a command buffer of its
 * own. */
#ifndef ML_RUNTIME_COMMAND_H
#define ML_RUNTIME_COMMAND_H

#include "runtime/runtime.h"
#include "runtime/thread.h"

struct ml_command {
    void *buffer; /* the device's command buffer; NULL until something is recorded, always on cpu */
    ml_context *ctx;
    int depth;            /* open ml_batch_begin calls */
    ml_buffer **retained; /* what the recorded operations use: kept until they are complete */
    int n_retained, capacity;
    double device_us;        /* of what was awaited last */
    struct ml_command *next; /* of the thread */
};

/* Runs (cpu) or records one planned operation. *device_us: time of the device when it is known at once, else 0. */
ml_status ml_command_record(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us);

/* The thread ends: completes what it left open. */
void ml_command_forget_thread(ml_thread *t);

#endif
