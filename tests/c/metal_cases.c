#include "metal_cases.h"

#include <stdio.h>
#include <string.h>

typedef struct element {
    const char *name;
    int dtype;
    size_t bytes;
} element;

static const element elements[] = {
    {"f16", ML_GPU_F16, 2}, {"f32", ML_GPU_F32, 4}, {"bf16", ML_GPU_BF16, 2}, {"any", ML_GPU_F16, 2}};

static void set(launch *l, int index, int value) {
    l->constants[l->n_constants].index = index;
    l->constants[l->n_constants++].value = value;
}

static uint32_t parts(int64_t n, int64_t size) {
    return (uint32_t)((n + size - 1) / size);
}

static void set_grid(launch *l, uint32_t x, uint32_t y, uint32_t z, uint32_t threads) {
    l->grid[0] = x;
    l->grid[1] = y;
    l->grid[2] = z;
    l->threadgroup[0] = threads;
    l->threadgroup[1] = l->threadgroup[2] = 1;
}

/* out[m, n] = a[m, k] b[k, n], contiguous; a_columns, b_columns: stored the other way round. */
static void matmul(launch *l, const element *t, const int64_t size[3], bool a_columns, bool b_columns) {
    const int64_t m = size[0], n = size[1], k = size[2];
    ml_gpu_matmul *p = &l->params.matmul;
    p->m = (int32_t)m;
    p->n = (int32_t)n;
    p->k = (int32_t)k;
    p->alpha = 1.0f;
    p->a = (ml_gpu_matrix){.rs = a_columns ? 1 : k, .cs = a_columns ? m : 1};
    p->b = (ml_gpu_matrix){.rs = b_columns ? 1 : n, .cs = b_columns ? k : 1};
    p->out = (ml_gpu_matrix){.rs = n, .cs = 1};
    l->params_bytes = sizeof *p;
    l->params_index = 5;
    l->operands[0] = (size_t)(m * k) * t->bytes;
    l->operands[1] = (size_t)(k * n) * t->bytes;
    l->operands[4] = (size_t)(m * n) * t->bytes;
    l->outputs = (size_t)(m * n);
    l->least_bytes = l->operands[0] + l->operands[1] + l->operands[4];
    l->bfloat = strcmp(t->name, "bf16") == 0;
    set(l, ML_GPU_FC_A_DTYPE, t->dtype);
    set(l, ML_GPU_FC_B_DTYPE, t->dtype);
    set(l, ML_GPU_FC_OUT_DTYPE, t->dtype);
    set(l, ML_GPU_FC_VECTOR_A, 1);
    set(l, ML_GPU_FC_VECTOR_B, 1);
    snprintf(l->what, sizeof l->what, "%d x %d x %d", (int)m, (int)n, (int)k);
}

static void gemm(launch *l, const element *t, const int tile[2]) {
    matmul(l, t, (const int64_t[]){128, 128, 128}, false, false);
    l->source = "gemm.metal";
    snprintf(l->function, sizeof l->function, "gemm_simd_%s_%dx%d", t->name, tile[0], tile[1]);
    set(l, ML_GPU_FC_ALIGN_M, 1);
    set(l, ML_GPU_FC_ALIGN_N, 1);
    set(l, ML_GPU_FC_ALIGN_K, 1);
    set_grid(l, parts(128, tile[1]), parts(128, tile[0]), 1, 128);
}

static void gemm_generic(launch *l) {
    matmul(l, &elements[3], (const int64_t[]){128, 128, 128}, false, false);
    l->source = "gemm_generic.metal";
    snprintf(l->function, sizeof l->function, "gemm_generic");
    set_grid(l, parts(128, 32), parts(128, 32), 1, 256);
}

static void gemv(launch *l, const element *t, int columns, bool nn) {
    const int64_t m = 1024, rows = nn ? 128 : 32;
    matmul(l, t, (const int64_t[]){m, columns, 896}, nn, true);
    l->source = "gemv.metal";
    snprintf(l->function, sizeof l->function, "gemv_%s_%s_n%d", nn ? "nn" : "nt", t->name, columns);
    l->reads_once = columns == 1;
    set_grid(l, parts(m, rows), 1, 1, 256);
}

static void softmax(launch *l, const element *t, bool block) {
    const int rows = 8, keys = block ? 4096 : 1000;
    ml_gpu_softmax *p = &l->params.softmax;
    p->seq_k = keys;
    p->seq_q = rows;
    p->heads = p->ndim = 1;
    p->shape[0] = rows;
    p->scale = 1.0f;
    p->x_strides[0] = p->out_strides[0] = keys;
    p->x_step = p->out_step = 1;
    l->source = "softmax.metal";
    snprintf(l->function, sizeof l->function, "softmax_%s_%s", block ? "block" : "vec", t->name);
    l->bfloat = t->dtype == ML_GPU_BF16;
    l->params_bytes = sizeof *p;
    l->params_index = 3;
    l->outputs = (size_t)rows * (size_t)keys;
    l->operands[0] = l->operands[2] = l->outputs * t->bytes;
    l->least_bytes = 2 * l->operands[0];
    l->reads_once = true;
    set(l, ML_GPU_FC_SIMD_REDUCE, 1);
    set(l, ML_GPU_FC_UNIT_STEP, 1);
    set(l, ML_GPU_FC_VECTOR, 1);
    set_grid(l, (uint32_t)rows, 1, 1, block ? 256 : 512);
    snprintf(l->what, sizeof l->what, "%d rows of %d", rows, keys);
}

/* One batch item. */
static void attention(launch *l, const element *t, const int heads[2], const int size[3]) {
    const int64_t queries = size[0], keys = size[1], dim = size[2];
    ml_gpu_sdpa *p = &l->params.sdpa;
    p->batch = p->splits = 1;
    p->heads_q = heads[0];
    p->heads_kv = heads[1];
    p->len_q = (int32_t)queries;
    p->len_k = p->keys_per_split = (int32_t)keys;
    p->dim_qk = p->dim_v = (int32_t)dim;
    p->scale = 0.125f;
    p->q = p->out = (ml_gpu_heads){.head = queries * dim, .row = dim, .step = 1};
    p->k = p->v = (ml_gpu_heads){.head = keys * dim, .row = dim, .step = 1};
    p->query_offset = keys - queries;
    l->bfloat = t->dtype == ML_GPU_BF16;
    l->params_bytes = sizeof *p;
    l->params_index = 4;
    l->outputs = (size_t)(heads[0] * queries * dim);
    l->operands[0] = l->operands[3] = l->outputs * t->bytes;
    l->operands[1] = l->operands[2] = (size_t)(heads[1] * keys * dim) * t->bytes;
    l->least_bytes = 2 * (l->operands[0] + l->operands[1]);
    set(l, ML_GPU_FC_A_DTYPE, t->dtype);
    set(l, ML_GPU_FC_OUT_DTYPE, t->dtype);
    set(l, ML_GPU_FC_UNIT_STEP, 1);
    set(l, ML_GPU_FC_VECTOR, 1);
    snprintf(l->what, sizeof l->what, "%d/%d heads, %d queries, %d keys", heads[0], heads[1], (int)queries, (int)keys);
}

static void set_splits(launch *l, int splits) {
    ml_gpu_sdpa *p = &l->params.sdpa;
    const size_t rows = (size_t)p->heads_q * (size_t)p->len_q;
    p->splits = splits;
    p->keys_per_split = p->len_k / splits;
    l->operands[7] = rows * (size_t)splits * (size_t)(p->dim_v + 2) * sizeof(float);
    set(l, ML_GPU_FC_TWO_PASS, 1);
    const size_t used = strlen(l->what);
    snprintf(l->what + used, sizeof l->what - used, " in %d splits", splits);
}

static void sdpa_vector(launch *l, const element *t, int dim, int rows, int splits) {
    const int group = rows == 8 ? 7 : rows;
    attention(l, t, (const int[]){2 * group, 2}, (const int[]){1, splits > 1 ? 1024 : 256, dim});
    l->source = "sdpa_vector.metal";
    snprintf(l->function, sizeof l->function, "sdpa_vector_%s_d%d_r%d", t->name, dim, rows);
    l->reads_once = true;
    if (splits > 1)
        set_splits(l, splits);
    set_grid(l, 1, 2, (uint32_t)splits, 256);
}

static void sdpa_reduce(launch *l) {
    attention(l, &elements[0], (const int[]){14, 2}, (const int[]){1, 4096, 64});
    set_splits(l, 8);
    l->source = "sdpa_vector.metal";
    snprintf(l->function, sizeof l->function, "sdpa_vector_reduce");
    l->least_bytes = l->operands[3] + l->operands[7];
    l->operands[0] = l->operands[1] = l->operands[2] = 0;
    l->reads_once = true;
    set_grid(l, 14, 1, 1, 32);
}

static void sdpa_tiled(launch *l, const element *t, int dim) {
    attention(l, t, (const int[]){1, 1}, (const int[]){128, 128, dim});
    l->source = "sdpa_tiled.metal";
    snprintf(l->function, sizeof l->function, "sdpa_tiled_%s_d%d", t->name, dim);
    set(l, ML_GPU_FC_CAUSAL, 1);
    set_grid(l, 4, 1, 1, 128);
}

enum { BINARY_FLOAT, BINARY_INTEGER, COPY_CAST, COPY_BYTES, COPY_TRANSPOSE, FILL, ELEMENTWISE };

static void elementwise(launch *l, int which) {
    static const char *const names[] = {"binary_float", "binary_integer", "copy_cast",
                                        "copy_bytes",   "copy_transpose", "fill"};
    const bool transpose = which == COPY_TRANSPOSE, integer = which == BINARY_INTEGER;
    const int64_t side = 128, size = side * side;
    const size_t bytes = integer ? 4 : 2;
    ml_gpu_elementwise *p = &l->params.elementwise;
    p->ndim = transpose ? 2 : 1;
    p->size = size;
    p->shape[0] = transpose ? side : size;
    p->shape[1] = side;
    p->out_strides[0] = transpose ? side : 1;
    p->out_strides[1] = p->a_strides[0] = p->b_strides[0] = 1;
    p->a_strides[1] = side;
    l->source = "elementwise.metal";
    snprintf(l->function, sizeof l->function, "%s", names[which]);
    l->params_bytes = sizeof *p;
    l->params_index = 3;
    l->outputs = (size_t)size;
    l->operands[0] = (size_t)size * bytes;
    l->operands[1] = which == FILL ? 0 : (size_t)size * bytes;
    l->operands[2] = which <= BINARY_INTEGER ? (size_t)size * bytes : 0;
    l->least_bytes = l->operands[0] + l->operands[1] + l->operands[2];
    l->reads_once = true;
    const int dtype = integer ? ML_GPU_I32 : ML_GPU_F16;
    set(l, ML_GPU_FC_A_DTYPE, dtype);
    set(l, ML_GPU_FC_B_DTYPE, dtype);
    set(l, ML_GPU_FC_OUT_DTYPE, which == COPY_CAST ? ML_GPU_BF16 : dtype);
    set(l, ML_GPU_FC_ELEMENT_BYTES, (int)bytes);
    snprintf(l->what, sizeof l->what, transpose ? "%d x %d" : "%d x %d, contiguous", (int)side, (int)side);
    if (transpose) {
        set_grid(l, parts(side, 32), parts(side, 32), 1, 32);
        l->threadgroup[1] = 8;
        return;
    }
    set(l, ML_GPU_FC_CONTIGUOUS, 1);
    set_grid(l, (uint32_t)(size / 4), 1, 1, 256);
    l->grid_in_threads = true;
}

/* Walks all launches; counts down to the wanted one. */
#define LAUNCH(call)                                                                                                   \
    do {                                                                                                               \
        if (i-- == 0) {                                                                                                \
            call;                                                                                                      \
            return true;                                                                                               \
        }                                                                                                              \
    } while (0)

bool launch_at(int i, launch *l) {
    static const int tiles[][2] = {{64, 64}, {64, 32}, {32, 32}}, dims[] = {64, 128, 256}, row_counts[] = {1, 4, 8};
    memset(l, 0, sizeof *l);
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 3; k++)
            LAUNCH(gemm(l, &elements[t], tiles[k]));
    LAUNCH(gemm_generic(l));
    for (int t = 0; t < 3; t++)
        for (int nn = 0; nn < 2; nn++)
            for (int n = 1; n <= 16; n *= 2)
                LAUNCH(gemv(l, &elements[t], n, nn));
    for (int t = 0; t < 3; t++) {
        LAUNCH(softmax(l, &elements[t], false));
        LAUNCH(softmax(l, &elements[t], true));
    }
    for (int t = 0; t < 3; t++)
        for (int d = 0; d < 3; d++) {
            for (int r = 0; r < 3; r++)
                LAUNCH(sdpa_vector(l, &elements[t], dims[d], row_counts[r], 1));
            LAUNCH(sdpa_vector(l, &elements[t], dims[d], 8, 2));
        }
    LAUNCH(sdpa_reduce(l));
    for (int t = 0; t < 3; t++)
        for (int d = 0; d < 3; d++)
            LAUNCH(sdpa_tiled(l, &elements[t], dims[d]));
    for (int which = 0; which < ELEMENTWISE; which++)
        LAUNCH(elementwise(l, which));
    return false;
}

/* Every weight in a is hidden, and nothing in b is finite. */
static void hide(launch *l) {
    set(l, ML_GPU_FC_SKIP_HIDDEN, ML_GPU_SKIP_A);
    l->fill[0] = 0x8000; /* -0 */
    l->fill[1] = 0x7e00; /* NaN */
}

static void softmax_tree(launch *l) {
    softmax(l, &elements[0], false);
    l->n_constants = 0; /* no simdgroup operations, no unit steps */
}

static void masked_values(launch *l) {
    sdpa_tiled(l, &elements[0], 64);
    set(l, ML_GPU_FC_MASK_KIND, ML_GPU_MASK_BOOL);
    ml_gpu_sdpa *p = &l->params.sdpa;
    p->mask = (ml_gpu_heads){.row = p->len_k, .step = 1};
    l->operands[5] = (size_t)p->len_q * (size_t)p->len_k;
    l->fill[5] = 0x0101;
    l->fill[2] = 0x7e00; /* NaN */
}

bool barrier_launch_at(int i, launch *l) {
    memset(l, 0, sizeof *l);
    LAUNCH((gemm(l, &elements[0], (const int[]){32, 32}), hide(l)));
    LAUNCH((gemm_generic(l), hide(l)));
    LAUNCH(gemv(l, &elements[0], 4, false));
    LAUNCH(gemv(l, &elements[0], 4, true));
    LAUNCH(softmax(l, &elements[0], false));
    LAUNCH(softmax_tree(l));
    LAUNCH(sdpa_vector(l, &elements[0], 64, 4, 1));
    LAUNCH(masked_values(l));
    LAUNCH(elementwise(l, COPY_TRANSPOSE));
    return false;
}
