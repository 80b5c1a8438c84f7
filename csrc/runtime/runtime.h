/* The runtime: contexts, preferences, command buffers, memory pool, metrics. ops/ calls ml_execute() and nothing else.
 */
#ifndef ML_RUNTIME_H
#define ML_RUNTIME_H

#include "core/tensor.h"
#include "device/device.h"

/* The one way to run an operation (DESIGN.md section 2): plan, allocate what out[] lacks, record, metrics.
 * op->out[i] with a buffer is written in place. On success outs[i] (may be NULL when the caller gave the output) is a
 * new tensor over out[i]. cache NULL: the context's. While the thread explains, nothing runs. */
ml_status ml_execute(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **outs);

ml_device *ml_context_device_of(const ml_context *ctx);
/* The context's preferences with the calling thread's overrides applied. */
void ml_context_prefs(const ml_context *ctx, ml_prefs *out);
const ml_caps *ml_context_caps(const ml_context *ctx);

/* Whether the device works in host memory of this place and size. Else it is copied for each use: ml_tensor_from_host
 * takes it all the same. */
bool ml_context_shares_memory(const ml_context *ctx, const void *data, size_t size);

/* Memory from the context's pool, page-aligned. */
ml_status ml_context_alloc(ml_context *ctx, size_t size, ml_buffer **out);

/* Notes for the metrics of the calling thread's next dispatch: bytes copied at import (strides or alignment the core
 * cannot hold). */
void ml_metrics_add_copied(int64_t bytes);

#endif
