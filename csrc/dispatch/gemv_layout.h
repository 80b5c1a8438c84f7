/* How a vector or small-N matmul is cut into pieces: a pure function of shapes, strides and dtypes, so that the planner
 * knows the scratch memory and the device derives the same cut when it runs the plan. The cut never depends on the
 * number of threads: results are bit-identical for any number of them. */
#ifndef ML_GEMV_LAYOUT_H
#define ML_GEMV_LAYOUT_H

#include "core/op.h"

enum {
    ML_GEMV_COLS = 16,           /* columns of B taken at once */
    ML_GEMV_X_PAD = 32,          /* K is cut at multiples of this; a packed column has room for as many */
    ML_GEMV_STACK_X = 4096,      /* packed B of at most this many floats lives on the stack of each task */
    ML_GEMV_PANEL_FLOATS = 4096, /* sums a task holds on its stack before the epilogue */
    ML_GEMV_PACK_BYTES = 49152   /* block of a strided A that a task holds on its stack, collected */
};

/* How A is read: by rows along K, or by columns along M. */
typedef enum ml_gemv_order { ML_GEMV_DOT = 0, ML_GEMV_AXPY } ml_gemv_order;

/* batch = groups * share: the `share` problems of a group multiply the same A, so their columns are put side by side.
 * The share * n columns of a group are taken in blocks of 16; one (group, block) is an item. An item is cut into
 * row_tasks x k_chunks tasks, or several small items make one task. */
typedef struct ml_gemv_layout {
    int64_t m, n, k;
    int64_t groups, share;
    int64_t cols, blocks; /* columns of a group; column blocks of a group */
    int64_t items;        /* groups * blocks */
    ml_gemv_order order;
    bool pack; /* A has gaps in that direction: blocks of it are collected on the way */
    bool flip_m,
        flip_k;        /* A lies backwards along M or K: read from its end, with what goes with it (B; out, C, bias) */
    bool skip_product; /* k == 0 or alpha == 0: neither A nor B is read */
    bool x_run;        /* one column, its elements side by side */
    bool x_direct;     /* columns of B are f32 and laid out as the kernel wants them: used where they are */
    bool x_stack;      /* packed by each task on its stack; neither: packed into scratch, items_per_pass at a time */
    int64_t ldx;       /* floats of a packed column */
    int64_t items_per_task;      /* > 1 only when row_tasks == k_chunks == 1 */
    int64_t row_tasks, row_unit; /* tasks that share out the units of so many rows; ml_gemv_first_row */
    int64_t k_chunks, k_per_chunk;
    int64_t items_per_pass;
    bool brief;             /* a few microseconds of work: ml_parallel_brief */
    int64_t x_floats;       /* scratch of a pass for packed columns */
    int64_t partial_floats; /* scratch of a pass for partial sums, [item][k_chunk][m * block columns] */
} ml_gemv_layout;

/* First row of a row task, and M for the task after the last: shares that differ by one unit at most, so that two
 * threads with half of the tasks each have half of the rows each. */
static inline int64_t ml_gemv_first_row(const ml_gemv_layout *l, int64_t row_task) {
    const int64_t units = (l->m + l->row_unit - 1) / l->row_unit, row = units * row_task / l->row_tasks * l->row_unit;
    return row < l->m ? row : l->m;
}

/* The layout of a matmul (op->kind ML_OP_MATMUL); transposed: plan->transposed. */
void ml_gemv_layout_of(const ml_op *op, bool transposed, ml_gemv_layout *l);

/* Bytes of scratch the "gemv" backend of the cpu device needs: plan->scratch_bytes. */
int64_t ml_gemv_scratch_bytes(const ml_op *op, bool transposed);

#endif
