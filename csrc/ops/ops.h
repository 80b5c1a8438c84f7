/* Shared by the operations: argument checks with messages that name the argument, and output inference. One file per
 * operation implements the public functions of metallic.h: check, infer, build an ml_op, ml_execute(). */
#ifndef ML_OPS_H
#define ML_OPS_H

#include "runtime/runtime.h"

/* What every operation needs of its caller: arguments, and room for the result. Errors: ML_ERR_VALUE. */
ml_status ml_op_given(const char *name, const void *args, ml_tensor *const *out);

/* Appends an output slot to op (out[n_out++]): the caller's tensor (checked: shape, dtype, writable, aliasing against
 * op->in[0..n_in) by the rule of SEMANTICS "out and aliasing") or one to be allocated. Set the inputs first, those that
 * are not read too. in_place_inputs: bit i set when out may be exactly in[i]. */
ml_status ml_op_set_out(ml_op *op, const char *name, const ml_shape *shape, ml_dtype dtype, ml_tensor *out,
                        uint32_t in_place_inputs);
/* ml_execute, then *out = the new tensor when it was NULL. Errors: also ML_ERR_DEVICE when an operand is not of ctx's
 * device. */
ml_status ml_op_run(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **out);

/* The same for an operation of several outputs: *outs[i] for out[i]. */
ml_status ml_op_run_all(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **outs[]);

/* v broadcast to shape, into slot. Errors: ML_ERR_SHAPE naming op, argument, v and shape. */
ml_status ml_op_broadcast(const char *op, const char *argument, const ml_view *v, const ml_shape *shape, ml_view *slot);

#endif
