/* What the runtime keeps for each thread: scope labels, scratch memory, open commands, explain mode. Freed when the
 * thread ends. */
#ifndef ML_RUNTIME_THREAD_H
#define ML_RUNTIME_THREAD_H

#include "core/op.h"

#define ML_LABEL_MAX 512
#define ML_SCOPE_MAX 32

struct ml_batch;
struct ml_plan_memo;

typedef struct ml_thread {
    int index; /* small and dense in order of first use: selects shards */
    int explain_depth;
    char *explained;      /* JSON of the last plan, while explaining */
    int64_t copied_bytes; /* noted for the next dispatch */

    char label[ML_LABEL_MAX];          /* "a/b/c" */
    uint16_t scope_ends[ML_SCOPE_MAX]; /* length of label before each open scope */
    int scopes;                        /* open, those beyond ML_SCOPE_MAX included */

    void *scratch;
    size_t scratch_size;

    struct ml_batch *batches;   /* open ones, one per context */
    struct ml_plan_memo *plans; /* plan_memo.h; NULL until first used */
} ml_thread;

/* The calling thread's state, made on first use; NULL when out of memory. */
ml_thread *ml_thread_get(void);

/* At least size bytes of uninitialised memory, 64-byte aligned (page-aligned from 16 KiB on), valid until the thread's
 * next call. Kept and reused. NULL when out of memory. */
void *ml_thread_scratch(ml_thread *t, size_t size);
void ml_thread_release_scratch(ml_thread *t);

#endif
