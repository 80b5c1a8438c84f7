/* Plans and operations in words: the members of explain's and the metrics' JSON objects. */
#ifndef ML_RUNTIME_DESCRIBE_H
#define ML_RUNTIME_DESCRIBE_H

#include "device/device.h"
#include "runtime/json.h"

#define ML_IMPL_MAX 128

/* The implementation that runs: "cpu/gemm_avx512_f32_14x32"; "composed" for a plan that is lowered. */
char *ml_describe_impl(ml_device *dev, const ml_plan *plan, char *buf, size_t size);
/* "gemv", "vec", ...; "" for operations without families. */
const char *ml_describe_family(const ml_plan *plan);
/* Adds op, backend, variant, impl, why, predicted_us, bytes, flops, ... to the open object. */
void ml_describe_plan(ml_json *j, ml_device *dev, const ml_plan *plan);
/* Adds dtype, dtypes, shapes, strides and the operation's own parameters to the open object. */
void ml_describe_op(ml_json *j, const ml_op *op);

#endif
