/* Host memory that a GPU cannot use in place: operands of one operation are copied to memory of the device, results
 * back. */
#ifndef ML_RUNTIME_STAGING_H
#define ML_RUNTIME_STAGING_H

#include "runtime/context.h"

typedef struct ml_staging {
    ml_op op; /* the operation on the copies */
    ml_view target[ML_OP_MAX_OUT];
    bool copied_out[ML_OP_MAX_OUT];
    ml_buffer *copies[ML_OP_MAX_IN + ML_OP_MAX_OUT];
    int n_copies;
    int64_t copied_bytes;
} ml_staging;

/* Whether an operand needs it. all_borrowed: borrowed inputs too that the device could use in place, since it will run
 * after the call that lent them has returned. */
bool ml_staging_needed(const ml_op *op, bool all_borrowed);
/* Copies inputs, and makes room for outputs. Errors: ML_ERR_MEMORY, and those of what is pending. */
ml_status ml_staging_begin(ml_staging *s, ml_context *ctx, const ml_op *op, bool all_borrowed);
/* Whether there is something to copy back. */
bool ml_staging_writes_back(const ml_staging *s);
/* After the operation is complete: results to where they belong. */
void ml_staging_copy_back(ml_staging *s);
void ml_staging_end(ml_staging *s);

#endif
