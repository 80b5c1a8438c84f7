#include "dispatch/softmax_layout.h"

enum {
    MIN_COLS = 8,       /* fewer columns side by side are not worth a tile */
    GROUP_FLOATS = 2560 /* scores of a group of rows */
};

static int64_t round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}

/* The dim other than the axis along which x lies contiguously, or -1. */
static int contiguous_dim(const ml_view *x) {
    const int axis = x->ndim - 1;
    if (x->shape[axis] <= 1 || x->strides[axis] == 1)
        return -1;
    for (int d = axis - 1; d >= 0; d--)
        if (x->shape[d] >= MIN_COLS && x->strides[d] == 1)
            return d;
    return -1;
}

/* Columns of a tile so that VEC's scores of whole columns stay within L2. */
static int64_t tile_cols(ml_softmax_variant variant, int64_t length, int64_t available) {
    int64_t cols = ML_SOFTMAX_COLS;
    while (variant == ML_SOFTMAX_VEC && cols > 16 && cols * length > 2 * ML_SOFTMAX_KEEP_LEN)
        cols /= 2;
    const int64_t needed = round_up(available, 16);
    return cols < needed ? cols : needed;
}

void ml_softmax_layout_of(const ml_op *op, ml_softmax_variant variant, ml_softmax_layout *out) {
    const ml_softmax_params *p = &op->softmax;
    const ml_view *x = &op->in[0];
    *out = (ml_softmax_layout){.order = ML_SOFTMAX_ROWS, .rows = p->rows, .length = p->seq_k, .chunks = 1};
    out->vec = variant == ML_SOFTMAX_VEC;
    out->keep = !p->log && p->seq_k <= ML_SOFTMAX_KEEP_LEN;
    int64_t floats;
    const int col_dim = contiguous_dim(x);
    if (col_dim >= 0) {
        out->order = ML_SOFTMAX_COLUMNS;
        out->col_dim = col_dim;
        out->cols = tile_cols(variant, p->seq_k, x->shape[col_dim]);
        out->tiles = (x->shape[col_dim] + out->cols - 1) / out->cols;
        floats = out->cols * (variant == ML_SOFTMAX_VEC ? p->seq_k : ML_SOFTMAX_BLOCK_ROWS);
    } else if (variant == ML_SOFTMAX_VEC) {
        /* Short rows go several at a time, so that the latencies of their reductions overlap; together within L1. */
        out->row_floats = round_up(p->seq_k, 16);
        out->group = GROUP_FLOATS / (out->row_floats + 1);
        out->group = out->group < 1 ? 1 : out->group < ML_SOFTMAX_MAX_GROUP ? out->group : ML_SOFTMAX_MAX_GROUP;
        floats = out->group * out->row_floats;
    } else if (p->rows < ML_SOFTMAX_SPLIT_ROWS && p->seq_k >= 2 * ML_SOFTMAX_CHUNK_LEN) {
        const ml_view *result = &op->out[0];
        out->order = ML_SOFTMAX_SPLIT;
        out->keep = !p->log && result->dtype == ML_F32 && result->strides[result->ndim - 1] == 1;
        out->chunks = (p->seq_k + ML_SOFTMAX_CHUNK_LEN - 1) / ML_SOFTMAX_CHUNK_LEN;
        out->blocks = out->chunks * (ML_SOFTMAX_CHUNK_LEN / ML_SOFTMAX_BLOCK_LEN);
        out->shared_bytes = round_up(p->rows * (2 * out->chunks + out->blocks) * (int64_t)sizeof(float), 64);
        floats = ML_SOFTMAX_BLOCK_LEN;
    } else {
        floats = out->keep ? p->seq_k : ML_SOFTMAX_BLOCK_LEN;
    }
    /* A line more, so that the parts of two threads never share one by prefetching. */
    out->worker_bytes = round_up(floats * (int64_t)sizeof(float), 64) + 64;
}

int64_t ml_softmax_scratch_bytes(const ml_op *op, ml_softmax_variant variant, int threads) {
    ml_softmax_layout layout;
    ml_softmax_layout_of(op, variant, &layout);
    return layout.shared_bytes + threads * layout.worker_bytes;
}
