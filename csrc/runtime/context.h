/* The context's insides, for runtime/ only. */
#ifndef ML_RUNTIME_CONTEXT_H
#define ML_RUNTIME_CONTEXT_H

#include "runtime/mempool.h"
#include "runtime/prefs.h"
#include "runtime/runtime.h"
#include "runtime/tuning.h"

struct ml_metrics_sink;
struct ml_command;

/* What the device can do with a number of threads. Immutable once it is in a context's list. */
typedef struct ml_caps_node {
    ml_caps caps;
    struct ml_caps_node *next;
} ml_caps_node;

struct ml_context {
    atomic_int refs;
    int64_t id; /* unique in the process: names the context in metrics */
    ml_device *device;
    uint32_t fork_generation; /* of the process that made it */
    ml_pref_values prefs;     /* environment and options, complete */
    ml_tuning tuning;
    _Atomic(ml_caps_node *) caps; /* never empty; the newest first */
    ml_mempool *pool;
    ml_mempool *scratch; /* what kernels leave to each other: memory of the GPU alone; the pool itself on the CPU, and
                            where it is poisoned */
    ml_resource_cache *cache;
    struct ml_metrics_sink *sink; /* NULL: neither console nor file */
    struct ml_command *commands;  /* committed and not known to be complete, oldest first (command.c) */
    int n_commands;
};

/* A device by name; NULL or "": the best one present. Errors: ML_ERR_DEVICE (unknown, or absent and why). */
ml_status ml_device_find(const char *name, ml_device **out);

/* ML_ERR_DEVICE in a forked child of a GPU context's process; the CPU device works in children. */
ml_status ml_context_check_process(const ml_context *ctx);

#endif
