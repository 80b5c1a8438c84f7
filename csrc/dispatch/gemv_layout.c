#include "dispatch/gemv_layout.h"

#include <stdlib.h>

/* One core's rough speed, for deciding how much work is worth a task: bytes of A per ns, multiply-adds per ns. */
#define BYTES_PER_NS 64
#define FMA_PER_NS 48
#define SERIAL_NS 4000     /* less than this stays in one task */
#define BRIEF_NS 16000     /* less than this is not worth waking a thread */
#define TASK_NS 8000       /* aimed at per task ... */
#define MAX_TASKS 32       /* ... but not more tasks than this */
#define DOT_ROWS 16        /* rows of a task are a multiple of this */
#define AXPY_ROWS 1024     /* shortest run along M that streams well from memory, ... */
#define AXPY_COLS 4        /* ... but from so many columns on products take longer than reading, ... */
#define AXPY_ROWS_MANY 256 /* ... and shorter runs are better than partial sums */
/* Shortest chunk when K is split over tasks: a sum takes about 32 elements' time to finish, a partial sum about 2. */
#define DOT_K_CHUNK 512
#define AXPY_K_CHUNK 64
#define PASS_FLOATS 65536 /* packed columns held in scratch at once */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

/* Stride along dim d of an operand, 1 where the dim has at most one element (its stride has no meaning there). */
static int64_t stride_of(const ml_view *v, int d) {
    return v->shape[d] <= 1 ? 1 : v->strides[d];
}

/* Splits n units of work into `parts` runs of a multiple of `align`; returns the length, updates parts to what is used.
 */
static int64_t split(int64_t n, int64_t align, int64_t *parts) {
    int64_t length = round_up(ceil_div(n, max64(*parts, 1)), align);
    *parts = max64(ceil_div(n, length), 1);
    return length;
}

static void cut(ml_gemv_layout *l, size_t a_size) {
    l->row_tasks = l->k_chunks = 1;
    l->row_unit = max64(l->m, 1);
    l->k_per_chunk = l->k;
    l->items_per_task = 1;
    int64_t block_cols = min64(l->cols, ML_GEMV_COLS);
    /* In double: m * k * cols may exceed 64 bits for broadcast operands. */
    double mk = (double)l->m * (double)(l->skip_product ? 1 : l->k);
    double by_bytes = mk * (double)a_size / BYTES_PER_NS, by_fma = mk * (double)block_cols / FMA_PER_NS;
    double item_ns = by_bytes > by_fma ? by_bytes : by_fma;
    double total_ns = item_ns * (double)l->items;
    l->brief = total_ns < BRIEF_NS;
    if (total_ns < SERIAL_NS) {
        l->items_per_task = max64(l->items, 1);
        return;
    }
    if (item_ns < TASK_NS && l->items > 1) {
        int64_t per_task = (int64_t)(TASK_NS / (item_ns + 50.0)) + 1;
        l->items_per_task = max64(min64(per_task, ceil_div(l->items, 4)), 1);
        return;
    }
    int64_t want = max64(min64((int64_t)(total_ns / TASK_NS), MAX_TASKS) / l->items, l->items > 1 ? 1 : 2);
    if (want > 1)
        want += want & 1; /* an even number shares out evenly over two, the most common small pool */
    bool along_m = l->order == ML_GEMV_AXPY;
    l->row_unit = along_m ? 64 : DOT_ROWS;
    const int64_t run = block_cols < AXPY_COLS ? AXPY_ROWS : AXPY_ROWS_MANY;
    l->row_tasks = along_m ? max64(l->m / run, 1) : ceil_div(l->m, DOT_ROWS);
    l->row_tasks = min64(want, l->row_tasks);
    if (l->row_tasks * 2 > want || l->skip_product)
        return;
    int64_t shortest = along_m ? max64(AXPY_K_CHUNK, 32 * block_cols) : DOT_K_CHUNK;
    l->k_chunks = min64(ceil_div(want, l->row_tasks), max64(l->k / shortest, 1));
    l->k_per_chunk = split(l->k, ML_GEMV_X_PAD, &l->k_chunks);
}

void ml_gemv_layout_of(const ml_op *op, bool transposed, ml_gemv_layout *l) {
    const ml_matmul_params *p = &op->matmul;
    const ml_view *a = &op->in[transposed ? ML_IN_B : ML_IN_A], *b = &op->in[transposed ? ML_IN_A : ML_IN_B];
    int nd = op->out[0].ndim;
    int row = transposed ? nd - 1 : nd - 2, col = transposed ? nd - 2 : nd - 1; /* of A: M and K; of B: K and N */
    *l = (ml_gemv_layout){.m = transposed ? p->n : p->m, .n = transposed ? p->m : p->n, .k = p->k};
    l->skip_product = p->k == 0 || p->alpha == 0.0f;

    l->share = 1;
    for (int d = nd - 3; d >= 0 && p->batch > 0; d--) {
        int64_t dim = op->out[0].shape[d];
        if (dim != 1 && a->strides[d] != 0 && !l->skip_product)
            break;
        l->share *= dim;
    }
    l->groups = p->batch > 0 ? p->batch / l->share : 0;
    l->cols = l->share * l->n;
    l->blocks = ceil_div(l->cols, ML_GEMV_COLS);
    l->items = l->groups * l->blocks;

    int64_t rs = stride_of(a, row), cs = stride_of(a, col);
    l->flip_m = rs < 0;
    l->flip_k = cs < 0;
    rs = llabs(rs);
    cs = llabs(cs);
    if (cs == 1 && (rs != 1 || l->m < 16 || l->k >= 16)) {
        l->order = ML_GEMV_DOT;
    } else if (rs == 1 && (l->m >= 8 || l->k <= 8)) {
        l->order = ML_GEMV_AXPY;
    } else {
        l->order = cs <= rs || l->m < 8 ? ML_GEMV_DOT : ML_GEMV_AXPY;
        l->pack = true;
    }
    cut(l, ml_dtype_size_of(a->dtype));

    int64_t block_cols = min64(l->cols, ML_GEMV_COLS);
    int64_t b_rs = l->flip_k ? -stride_of(b, row) : stride_of(b, row), b_cs = stride_of(b, col);
    l->x_run = l->cols == 1 && b_rs == 1;
    if (l->order == ML_GEMV_AXPY) /* any strides, unless its columns would compete for the same cache sets */
        l->x_direct = l->n <= 4 || b_cs == 0 || b_cs % 1024 != 0;
    else /* bf16 rows take an order of their own */
        l->x_direct = l->x_run && a->dtype != ML_BF16;
    l->x_direct = l->x_direct && b->dtype == ML_F32 && l->share == 1;
    l->ldx = round_up(l->k, ML_GEMV_X_PAD);
    l->x_stack = !l->x_direct && l->ldx <= ML_GEMV_STACK_X / max64(block_cols, 1) &&
                 (block_cols == 1 || l->row_tasks * l->k_chunks <= 2);
    l->items_per_pass = max64(l->items, 1);
    if (l->skip_product)
        return;
    if (!l->x_direct && !l->x_stack) {
        l->ldx += 16; /* columns a power of two apart would compete for the same cache sets */
        int64_t per_item = l->ldx * block_cols;
        int64_t tasks_worth = l->items_per_task * 8;
        l->items_per_pass = min64(max64(PASS_FLOATS / per_item, tasks_worth), l->items_per_pass);
        l->x_floats = l->items_per_pass * per_item;
    }
    if (l->k_chunks > 1) {
        int64_t per_item = l->k_chunks * l->m * block_cols;
        l->items_per_pass = min64(l->items_per_pass, max64(PASS_FLOATS / per_item, 1));
        l->partial_floats = l->items_per_pass * per_item;
    }
}

int64_t ml_gemv_scratch_bytes(const ml_op *op, bool transposed) {
    ml_gemv_layout l;
    ml_gemv_layout_of(op, transposed, &l);
    return (l.x_floats + round_up(l.partial_floats, 16)) * (int64_t)sizeof(float);
}
