/* The plans a thread made last.
 *
 * Planning is a pure function, so a plan (and its resource-cache key) can be taken over when everything it depends on
 * is equal: the operation's parameters, the operands' dtypes, shapes, strides and alignment, preferences, context and
 * number of threads. These facts are written into a signature of bytes and compared in full; a table with one slot per
 * hash keeps the last plan of each slot. */
#ifndef ML_RUNTIME_PLAN_MEMO_H
#define ML_RUNTIME_PLAN_MEMO_H

#include "runtime/thread.h"

#include "core/cache.h"

typedef struct ml_planned {
    ml_plan plan;
    ml_cache_key key;
} ml_planned;

/* What a plan is made from. */
typedef struct ml_plan_request {
    const ml_op *op;
    const ml_caps *caps;
    const ml_prefs *prefs;
    int64_t context;
} ml_plan_request;

/* The plan of a request whose operands and outputs have buffers: valid until the thread's next call. Errors: those of
 * ml_plan_op. */
ml_status ml_plan_memo_get(ml_thread *t, const ml_plan_request *request, const ml_planned **out);

#endif
