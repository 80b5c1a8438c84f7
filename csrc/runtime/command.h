/* Command buffers.
 *
 * On the cpu an operation has been computed when ml_command_record returns, so a batch is only a pair of brackets
 * there. On other devices a command buffer is open, then committed, then complete. Outside a batch each operation is a
 * command buffer of its own, committed at once, all parts of a composed operation included; between ml_batch_begin and
 * ml_batch_end the operations of a (context, thread) share one. What a command buffer writes is pending until somebody
 * reads it, from whatever thread, or synchronises; failures surface there.
 */
#ifndef ML_RUNTIME_COMMAND_H
#define ML_RUNTIME_COMMAND_H

#include "runtime/context.h"
#include "runtime/thread.h"

#include <pthread.h>

/* Committed command buffers of a context that may be under way at once; a new one waits for the oldest. */
#define ML_COMMANDS_IN_FLIGHT 64

typedef struct ml_command {
    atomic_int refs;
    ml_context *ctx; /* outlives its commands: it completes them when it goes */
    ml_device *device;
    uint32_t fork_generation;
    int64_t id;           /* unique in the process: names it in metrics */
    void *buffer;         /* the device's command buffer */
    bool open;            /* not yet committed; guarded by the lock of command.c */
    bool listed;          /* among the context's committed ones */
    ml_buffer **retained; /* what the recorded operations use: kept until they are complete */
    int n_retained, capacity;
    pthread_mutex_t waiting; /* held by whoever waits for the device */
    bool complete;
    ml_status status;
    char message[256]; /* of a failure */
    double device_us;
    struct ml_command *next; /* in the context's list, oldest first */
} ml_command;

/* ml_batch_begin of one (context, thread), or the parts of one call. */
typedef struct ml_batch {
    ml_context *ctx;
    int depth;
    bool is_call;        /* opened by ml_command_group_begin */
    bool must_wait;      /* of a call: memory that is not ours is used, so it is complete when the call returns */
    ml_command *command; /* NULL until something is recorded */
    struct ml_batch *next;
} ml_batch;

/* Runs (cpu) or records one planned operation. device_us not NULL: the caller wants the device's time and waits for it
 * (0 when unknown; never within a batch). */
ml_status ml_command_record(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us);

/* What this thread records into ctx until ml_command_group_end is one command buffer: the parts of one call. Nothing on
 * the cpu and within a batch. */
ml_status ml_command_group_begin(ml_context *ctx, ml_thread *t);
/* Commits, or drops what was recorded when status, that of the parts, is a failure; returns how it all went. device_us
 * not NULL: waits for the device's time. Nothing where no group is open. */
ml_status ml_command_group_end(ml_context *ctx, ml_thread *t, ml_status status, double *device_us);

/* The thread ends: completes what it left open. */
void ml_command_forget_thread(ml_thread *t);
/* The context ends: completes what it has committed. */
void ml_command_forget_context(ml_context *ctx);

#endif
