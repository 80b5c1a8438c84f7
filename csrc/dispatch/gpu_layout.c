#include "dispatch/gpu_layout.h"

#define MIN_KEYS_PER_SPLIT                                                                                             \
    512 /* below, reading the partial results takes more than the tenth of a split's own bytes                         \
         */
#define MAX_SPLITS 32
#define ENOUGH_GROUPS 128 /* threadgroups that fill the largest GPUs of interest once */

ml_gpu_splits ml_gpu_sdpa_splits(const ml_sdpa_params *p) {
    const int64_t len_k = p->len_k > 0 ? p->len_k : 1;
    const int64_t rows = p->heads_kv > 0 ? p->heads_q / p->heads_kv * p->len_q : 0;
    const int64_t groups = p->batch * p->heads_kv * ((rows + 7) / 8);
    int64_t n = groups > 0 ? (ENOUGH_GROUPS + groups - 1) / groups : 1;
    if (n > len_k / MIN_KEYS_PER_SPLIT)
        n = len_k / MIN_KEYS_PER_SPLIT;
    if (n > MAX_SPLITS)
        n = MAX_SPLITS;
    if (n < 1)
        n = 1;
    const int64_t keys = ((len_k + n - 1) / n + 31) / 32 * 32;
    return (ml_gpu_splits){(len_k + keys - 1) / keys, keys};
}

int64_t ml_gpu_sdpa_scratch_bytes(const ml_sdpa_params *p) {
    const ml_gpu_splits s = ml_gpu_sdpa_splits(p);
    return s.n > 1 ? p->batch * p->heads_q * p->len_q * s.n * (p->dim_v + 2) * (int64_t)sizeof(float) : 0;
}

static uint32_t layout_case(const ml_op *op, bool transposed) {
    const ml_view *v = transposed ? &op->in[ML_IN_B] : &op->in[ML_IN_A];
    const int rows = transposed ? v->ndim - 1 : v->ndim - 2, columns = transposed ? v->ndim - 2 : v->ndim - 1;
    if (v->shape[columns] <= 1 || v->strides[columns] == 1)
        return ML_CASE_A_ROWS;
    return v->shape[rows] <= 1 || v->strides[rows] == 1 ? ML_CASE_A_COLUMNS : ML_CASE_A_ROWS;
}

uint32_t ml_gpu_matmul_cases(const ml_op *op, bool transposed) {
    const ml_matmul_params *p = &op->matmul;
    const bool product =
        p->k > 0 && p->alpha != 0.0f && !p->skip_hidden && (!p->has_c || ml_view_same(&op->in[ML_IN_C], &op->out[0]));
    return layout_case(op, transposed) | (product ? (uint32_t)ML_CASE_PRODUCT : 0u);
}

uint32_t ml_gpu_sdpa_cases(const ml_op *op) {
    const ml_sdpa_params *p = &op->sdpa;
    const int64_t rows = p->heads_kv > 0 ? p->heads_q / p->heads_kv * p->len_q : 1;
    const bool same = op->in[ML_IN_K].dtype == op->in[ML_IN_V].dtype;
    return (rows <= 1   ? (uint32_t)ML_CASE_ROWS_1
            : rows <= 4 ? (uint32_t)ML_CASE_ROWS_4
                        : (uint32_t)ML_CASE_ROWS_8) |
           (same ? (uint32_t)ML_CASE_SAME_DTYPE : 0u);
}

/* A transposed copy gains by going through threadgroup memory from a few tiles on. */
static bool is_transpose(const ml_view *out, const ml_view *a) {
    ml_view v[2] = {*out, *a};
    ml_views_coalesce(v, 2, true);
    const int last = v[0].ndim - 1;
    if (last < 1 || v[0].strides[last] != 1 || v[1].strides[last] == 1 || v[0].shape[last] < 16)
        return false;
    for (int d = 0; d < last; d++)
        if (v[1].strides[d] == 1)
            return v[1].shape[d] >= 16;
    return false;
}

static bool is_number(const ml_op *op, int i) {
    return i == 0 ? op->binary.a_is_value : op->binary.b_is_value;
}

uint32_t ml_gpu_simple_cases(const ml_op *op) {
    if (op->kind == ML_OP_COPY) {
        const bool same = op->in[0].dtype == op->out[0].dtype;
        return same ? ML_CASE_SAME_DTYPE | (is_transpose(&op->out[0], &op->in[0]) ? (uint32_t)ML_CASE_TRANSPOSE : 0u)
                    : 0u;
    }
    if (op->kind != ML_OP_BINARY)
        return 0;
    bool integer = !ml_dtype_is_float(op->out[0].dtype);
    for (int i = 0; i < 2; i++) {
        const double value = i == 0 ? op->binary.a_value : op->binary.b_value;
        if (!is_number(op, i))
            integer = integer && !ml_dtype_is_float(op->in[i].dtype);
        else
            integer = integer && value >= -2147483648.0 && value <= 2147483647.0 && value == (double)(int64_t)value;
    }
    return integer ? ML_CASE_INTEGER : 0;
}

bool ml_gpu_checks_range(const ml_op *op) {
    const ml_dtype to = op->out[0].dtype;
    if (to != ML_I32 && to != ML_U8)
        return false;
    if (op->kind == ML_OP_COPY)
        return ml_dtype_is_float(op->in[0].dtype) || (to == ML_U8 && op->in[0].dtype == ML_I32);
    if (op->kind != ML_OP_BINARY)
        return false;
    for (int i = 0; i < 2; i++)
        if (!is_number(op, i) && (ml_dtype_is_float(op->in[i].dtype) || (to == ML_U8 && op->in[i].dtype == ML_I32)))
            return true;
    return false;
}
