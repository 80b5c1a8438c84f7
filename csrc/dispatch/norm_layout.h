/* How a norm is cut into tasks and what scratch memory it needs on the CPU: a pure function of the operation. The order
 * of additions within a row never depends on the number of threads. */
#ifndef ML_NORM_LAYOUT_H
#define ML_NORM_LAYOUT_H

#include "core/op.h"

enum {
    ML_NORM_BLOCK_LEN = 4096,     /* elements that a kernel takes at once: 16 KiB of f32, half of L1 */
    ML_NORM_KEEP_LEN = 32 * 2048, /* longest row that stays in L2: 256 KiB */
    ML_NORM_MAX_GROUP = 8
};

typedef struct ml_norm_layout {
    int64_t rows, length;
    bool staged;        /* some operand's rows are not contiguous: computed on f32 copies of the rows */
    bool kept;          /* staged: a whole row at once, else block by block, twice */
    int64_t group;      /* rows at work at once, so that the latencies of their reductions overlap */
    int64_t row_floats; /* staged: distance of the copies of two rows of a group */
    bool weight_copied; /* to f32 in the shared scratch, once for all rows */
    bool offset_copied;
    int64_t shared_bytes; /* at offset 0 of the scratch: weight, then offset */
    int64_t worker_bytes; /* one such part for each thread after it; a multiple of 64; may be 0 */
} ml_norm_layout;

void ml_norm_layout_of(const ml_op *op, ml_norm_layout *out);

#endif
