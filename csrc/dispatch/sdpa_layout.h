/* How attention is cut into pieces: a pure function of shapes, strides and dtypes, so that the planner knows the
 * scratch memory and the device derives the same cut when it runs the plan. The cut never depends on the number of
 * threads: results are bit-identical for any number of them. docs/attention.md has the reasons. */
#ifndef ML_SDPA_LAYOUT_H
#define ML_SDPA_LAYOUT_H

#include "core/op.h"

enum {
    ML_SDPA_KEYS = 64, /* keys of a tile: one bit each of a 64-bit word */
    ML_SDPA_LINE = 16  /* floats of a cache line: rows and columns in scratch are padded to this */
};

/* The rows of a tile are `tile_heads` query heads of one key/value head times `tile_queries` queries, so that all of
 * them share one reading of K and V; the rows of one query are neighbours. An item is such a tile with all keys it may
 * see; where items are few, each is cut into chunks of keys whose partial results are merged in order. */
typedef struct ml_sdpa_layout {
    int64_t tile_heads, head_tiles; /* the last tile may hold fewer */
    int64_t tile_queries, query_tiles;
    int64_t rows;               /* tile_heads * tile_queries */
    int64_t items;              /* batch * heads_kv * head_tiles * query_tiles; query tiles vary fastest */
    int64_t items_per_task;     /* > 1 only with one chunk */
    int64_t key_begin, key_end; /* what any query may see by causality and window; begin is a multiple of a tile */
    int64_t chunks, chunk_keys; /* chunk_keys: a multiple of a tile */
    bool pack_v;                /* V is converted tile by tile, else read where it lies */

    int64_t acc_cols, pad_rows;                       /* dim_v, rows padded to whole lines */
    int64_t strip_floats;                             /* queries of one strip */
    int64_t q_floats, k_floats, v_floats, row_floats; /* of one worker; row: one row of anything as f32 */
    int64_t partial_floats;                           /* sums, maxima and totals of one item and chunk */
    int64_t private_bytes, shared_bytes;              /* of one worker; of all partial results */
} ml_sdpa_layout;

/* The layout of an attention (op->kind ML_OP_SDPA) that plan->kernel (mr, nr, family) runs. */
void ml_sdpa_layout_of(const ml_op *op, const ml_kernel_desc *kernel, ml_sdpa_layout *l);

/* plan->scratch_bytes on the cpu device. */
int64_t ml_sdpa_scratch_bytes(const ml_op *op, const ml_kernel_desc *kernel, int threads);

/* The same for the softmax of scores in memory (ml_softmax_params.scores): a float per tile of a row, for each thread.
 */
int64_t ml_sdpa_scores_scratch_bytes(int64_t keys, int threads);

#endif
