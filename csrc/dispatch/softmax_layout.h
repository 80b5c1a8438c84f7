/* How a softmax is cut into tasks and what scratch memory they need on the CPU: a pure function of the operation and
 * the variant, so that the planner can state plan->scratch_bytes and the device derives the same cut. What decides
 * about the order of additions never depends on the number of threads: results are bit-identical for any number of
 * them. */
#ifndef ML_SOFTMAX_LAYOUT_H
#define ML_SOFTMAX_LAYOUT_H

#include "core/op.h"

enum {
    ML_SOFTMAX_BLOCK_LEN = 2048,     /* elements of a row that BLOCK takes at once: 8 KiB of f32 */
    ML_SOFTMAX_CHUNK_LEN = 8 * 2048, /* part of a long row that is one task */
    ML_SOFTMAX_KEEP_LEN = 32 * 2048, /* up to this length BLOCK keeps its weights: 256 KiB, within L2 */
    ML_SOFTMAX_SPLIT_ROWS = 8,       /* fewer long rows than this are split */
    ML_SOFTMAX_MAX_GROUP = 8,
    ML_SOFTMAX_BLOCK_ROWS = 128, /* steps along the axis of a block of columns */
    ML_SOFTMAX_COLS = 64         /* most columns of a tile */
};

typedef enum ml_softmax_order {
    ML_SOFTMAX_ROWS,   /* row by row */
    ML_SOFTMAX_SPLIT,  /* BLOCK: chunks of rows, merged in order */
    ML_SOFTMAX_COLUMNS /* the axis is strided, another dim is not: tiles of columns side by side */
} ml_softmax_order;

typedef struct ml_softmax_layout {
    ml_softmax_order order;
    int64_t rows, length; /* length: seq_k */
    int64_t group;        /* VEC by rows: rows whose scores lie in scratch side by side */
    int64_t row_floats;   /* and the distance of two of them */
    int64_t chunks;       /* SPLIT: of a row */
    int64_t blocks;       /* SPLIT: of a row, ML_SOFTMAX_BLOCK_LEN each */
    int col_dim;          /* COLUMNS: the dim they are taken from */
    int64_t cols;         /* COLUMNS: of a tile */
    int64_t tiles;        /* COLUMNS: along col_dim */
    bool vec;             /* the variant */
    bool keep;            /* BLOCK: the weights of a row stay until they are scaled (SPLIT: in the result) */
    int64_t shared_bytes; /* at offset 0 of the scratch: two floats for each chunk, then one for each block */
    int64_t worker_bytes; /* one such part per thread after it; a multiple of 64 */
} ml_softmax_layout;

void ml_softmax_layout_of(const ml_op *op, ml_softmax_variant variant, ml_softmax_layout *out);

/* plan->scratch_bytes on the cpu device. */
int64_t ml_softmax_scratch_bytes(const ml_op *op, ml_softmax_variant variant, int threads);

#endif
