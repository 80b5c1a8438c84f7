#include "dispatch/sdpa_layout.h"

/* One core's rough speed, for deciding how much work is worth a task: bytes of K and V, multiply-adds per ns. */
#define BYTES_PER_NS 16.0
#define FMA_PER_NS 32.0
#define SERIAL_NS 10000.0 /* less than this stays in one task */
#define TASK_NS 4000.0    /* aimed at per task ... */
#define MAX_TASKS 32      /* ... but not more tasks than this by cutting keys or queries finer */
#define CHUNK_MIN 128     /* keys: a chunk's fixed cost (its queries, its partial sums) is a few dozen keys' time */
/* Strips of mr rows in a tile. K is transposed once per tile, which costs as much as two or three rows. */
#define VECTOR_STRIPS 4
#define TILED_STRIPS 16

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

/* Keys that causality and window leave to queries [first, first + count). */
static void key_range(const ml_sdpa_params *p, ml_sdpa_layout *l) {
    l->key_begin = 0;
    l->key_end = p->len_k;
    if (p->causal || p->window > 0)
        l->key_end = max64(min64(p->len_k, p->len_q + p->query_offset), 0);
    if (p->window > 0)
        l->key_begin = max64(p->query_offset - p->window + 1, 0) / ML_SDPA_KEYS * ML_SDPA_KEYS;
    if (l->key_begin > l->key_end)
        l->key_begin = l->key_end = 0;
}

/* Time for `rows` rows to see all keys. In double: the product may exceed 64 bits. */
static double work_ns(const ml_op *op, const ml_sdpa_layout *l, double rows) {
    const ml_sdpa_params *p = &op->sdpa;
    double elements = (double)(l->key_end - l->key_begin) * (double)(p->dim_qk + p->dim_v);
    double by_bytes = elements * (double)ml_dtype_size_of(op->in[ML_IN_K].dtype) / BYTES_PER_NS;
    double by_fma = elements * rows / FMA_PER_NS;
    return by_bytes > by_fma ? by_bytes : by_fma;
}

static void cut_rows(const ml_op *op, const ml_kernel_desc *kernel, ml_sdpa_layout *l) {
    const ml_sdpa_params *p = &op->sdpa;
    int64_t mr = max64(kernel->mr, 1), group = p->heads_q / max64(p->heads_kv, 1), pairs = p->batch * p->heads_kv;
    int64_t most = mr * (kernel->family == ML_SDPA_VECTOR ? VECTOR_STRIPS : TILED_STRIPS);
    if (kernel->family != ML_SDPA_VECTOR) { /* smaller tiles where there would be few of them */
        double per_pair = (double)group * (double)p->len_q, total = work_ns(op, l, per_pair) * (double)pairs;
        double want = total / (4 * TASK_NS) < MAX_TASKS ? total / (4 * TASK_NS) : MAX_TASKS;
        double rows = want > 1 ? per_pair * (double)pairs / want : (double)most;
        if (rows < (double)most)
            most = max64(round_up((int64_t)rows, mr), 2 * mr);
    }
    l->head_tiles = max64(ceil_div(group, most), 1);
    l->tile_heads = max64(ceil_div(group, l->head_tiles), 1);
    l->query_tiles = max64(ceil_div(p->len_q, max64(most / l->tile_heads, 1)), 1);
    l->tile_queries = max64(ceil_div(p->len_q, l->query_tiles), 1);
    l->query_tiles = max64(ceil_div(p->len_q, l->tile_queries), 1);
    l->rows = l->tile_heads * l->tile_queries;
    l->items = pairs * l->head_tiles * l->query_tiles;
}

static void cut_keys(const ml_op *op, ml_sdpa_layout *l) {
    int64_t keys = l->key_end - l->key_begin;
    l->chunks = l->items_per_task = 1;
    l->chunk_keys = max64(round_up(keys, ML_SDPA_KEYS), ML_SDPA_KEYS);
    double item_ns = work_ns(op, l, (double)l->rows), total_ns = item_ns * (double)l->items;
    if (total_ns < SERIAL_NS) {
        l->items_per_task = max64(l->items, 1);
    } else if (item_ns < TASK_NS) {
        l->items_per_task = max64(min64((int64_t)(TASK_NS / (item_ns + 50.0)) + 1, ceil_div(l->items, 4)), 1);
    } else if (l->items < MAX_TASKS) {
        int64_t want = total_ns / TASK_NS < MAX_TASKS ? (int64_t)(total_ns / TASK_NS) : MAX_TASKS;
        int64_t chunks = min64(want / l->items, keys / CHUNK_MIN);
        if (chunks > 1) {
            l->chunk_keys = round_up(ceil_div(keys, chunks), ML_SDPA_KEYS);
            l->chunks = ceil_div(keys, l->chunk_keys);
        }
    }
}

void ml_sdpa_layout_of(const ml_op *op, const ml_kernel_desc *kernel, ml_sdpa_layout *l) {
    const ml_sdpa_params *p = &op->sdpa;
    const ml_view *v = &op->in[ML_IN_V];
    *l = (ml_sdpa_layout){.items = 0};
    key_range(p, l);
    cut_rows(op, kernel, l);
    cut_keys(op, l);

    const int64_t mr = max64(kernel->mr, 1), nr = max64(kernel->nr, 1), strips = ceil_div(l->rows, mr);
    bool unit = p->dim_v <= 1 || v->strides[v->ndim - 1] == 1;
    l->pack_v = !unit || p->dim_v % ML_SDPA_LINE != 0 || (v->dtype != ML_F32 && strips > 1);
    l->acc_cols = round_up(max64(p->dim_v, 1), ML_SDPA_LINE);
    l->pad_rows = round_up(l->rows, ML_SDPA_LINE) + ML_SDPA_LINE; /* kernels take whole vectors of rows anywhere */
    l->strip_floats = mr * round_up(p->dim_qk, ML_SDPA_LINE);
    l->q_floats = strips * l->strip_floats;
    l->k_floats = ML_SDPA_KEYS * p->dim_qk;
    l->v_floats = l->pack_v ? round_up(p->dim_v, nr) * ML_SDPA_KEYS : 0;
    l->row_floats = round_up(max64(max64(p->dim_qk, p->dim_v), ML_SDPA_KEYS), ML_SDPA_LINE);
    l->partial_floats = l->pad_rows * (l->acc_cols + 2);
    int64_t private_floats = l->q_floats + l->k_floats + l->v_floats + l->row_floats + l->partial_floats;
    l->private_bytes = private_floats * (int64_t)sizeof(float) + l->pad_rows * (int64_t)sizeof(uint64_t);
    if (l->chunks > 1)
        l->shared_bytes = l->items * l->chunks * l->partial_floats * (int64_t)sizeof(float);
}

int64_t ml_sdpa_scratch_bytes(const ml_op *op, const ml_kernel_desc *kernel, int threads) {
    ml_sdpa_layout l;
    ml_sdpa_layout_of(op, kernel, &l);
    return l.shared_bytes + max64(threads, 1) * l.private_bytes;
}

int64_t ml_sdpa_scores_scratch_bytes(int64_t keys, int threads) {
    return max64(threads, 1) * round_up(ceil_div(keys, ML_SDPA_KEYS) + 1, ML_SDPA_LINE) * (int64_t)sizeof(float);
}
