/* Matrix multiplication: our tiled GEMM and the small-N family. */
#include "device/gpu/gpu.h"

#include <stdlib.h>

/* The problem after orientation. */
typedef struct problem {
    const ml_matmul_params *params;
    ml_view a, b, c, bias, out;
    int64_t m, n, k;
    int skip; /* ML_GPU_SKIP_... */
    bool bias_by_row;
} problem;

static ml_view swapped(const ml_view *v) {
    ml_view r = *v;
    const int i = v->ndim - 2, j = v->ndim - 1;
    r.shape[i] = v->shape[j];
    r.shape[j] = v->shape[i];
    r.strides[i] = v->strides[j];
    r.strides[j] = v->strides[i];
    return r;
}

static int64_t row_stride(const ml_view *v) {
    return v->strides[v->ndim - 2];
}

static int64_t column_stride(const ml_view *v) {
    return v->strides[v->ndim - 1];
}

static void set_problem(const ml_encode_args *args, bool transposed, problem *p) {
    const ml_op *op = args->op;
    *p = (problem){.params = &op->matmul};
    p->a = transposed ? swapped(&op->in[ML_IN_B]) : op->in[ML_IN_A];
    p->b = transposed ? swapped(&op->in[ML_IN_A]) : op->in[ML_IN_B];
    p->out = transposed ? swapped(&op->out[0]) : op->out[0];
    if (op->matmul.has_c)
        p->c = transposed ? swapped(&op->in[ML_IN_C]) : op->in[ML_IN_C];
    if (op->matmul.has_bias)
        p->bias = transposed ? swapped(&op->in[ML_IN_BIAS]) : op->in[ML_IN_BIAS];
    p->m = transposed ? op->matmul.n : op->matmul.m;
    p->n = transposed ? op->matmul.m : op->matmul.n;
    p->k = op->matmul.alpha == 0.0f ? 0 : op->matmul.k;
    if (op->matmul.skip_hidden)
        p->skip = transposed ? ML_GPU_SKIP_B : ML_GPU_SKIP_A;
}

/* A stride that is never stepped along may be anything: 0 keeps every offset in range. */
static ml_gpu_matrix matrix_of(const ml_view *v, int64_t offset) {
    const int batch = v->ndim - 2;
    ml_gpu_matrix m = {.offset = offset};
    m.rs = v->shape[batch] > 1 ? v->strides[batch] : 0;
    m.cs = v->shape[batch + 1] > 1 ? v->strides[batch + 1] : 0;
    for (int d = 0; d < batch; d++)
        m.batch[d] = v->shape[d] > 1 ? v->strides[d] : 0;
    return m;
}

/* Neighbours along which dim: 1 the last (rows are contiguous), 0 the one before, -1 neither. */
static int unit_dim(const ml_view *v) {
    const int last = v->ndim - 1;
    if (v->shape[last] <= 1 || v->strides[last] == 1)
        return 1;
    return v->shape[last - 1] <= 1 || v->strides[last - 1] == 1 ? 0 : -1;
}

static bool takes_vectors(const ml_view *v, int unit) {
    /* a dim of size 1 counts as contiguous, whatever its stride: the kernel steps by 1 */
    return unit >= 0 && ml_gpu_is_vector(v, v->ndim - 2 + unit);
}

static ml_status bind_operands(ml_gpu_encoding *e, const problem *p, ml_gpu_matmul *g) {
    int64_t offset;
    ML_TRY(ml_gpu_bind(e, 0, &p->a, false, &offset));
    g->a = matrix_of(&p->a, offset);
    ML_TRY(ml_gpu_bind(e, 1, &p->b, false, &offset));
    g->b = matrix_of(&p->b, offset);
    if (p->params->has_c) {
        ML_TRY(ml_gpu_bind(e, 2, &p->c, false, &offset));
        g->c = matrix_of(&p->c, offset);
    }
    if (p->params->has_bias) { /* one value for each row or column, whatever its broadcast view looks like */
        ml_view vector = p->bias;
        for (int d = 0; d < vector.ndim - 2; d++)
            vector.shape[d] = 1;
        ML_TRY(ml_gpu_bind(e, 3, &vector, false, &offset));
        g->bias_offset = offset;
        g->bias_rs = vector.shape[vector.ndim - 2] > 1 ? row_stride(&vector) : 0;
        g->bias_cs = vector.shape[vector.ndim - 1] > 1 ? column_stride(&vector) : 0;
    }
    ML_TRY(ml_gpu_bind(e, 4, &p->out, true, &offset));
    g->out = matrix_of(&p->out, offset);
    return ML_OK;
}

static ml_status set_params(ml_gpu_encoding *e, const problem *p, ml_gpu_matmul *g) {
    const int batch = p->out.ndim - 2;
    if (p->m > INT32_MAX || p->n > INT32_MAX || p->k > INT32_MAX)
        return ml_fail(ML_ERR_UNSUPPORTED, "matmul: M=%lld N=%lld K=%lld are beyond what the GPU kernels count",
                       (long long)p->m, (long long)p->n, (long long)p->k);
    *g = (ml_gpu_matmul){.m = (int32_t)p->m,
                         .n = (int32_t)p->n,
                         .k = (int32_t)p->k,
                         .batch_ndim = batch,
                         .alpha = p->k == 0 ? 1.0f : p->params->alpha,
                         .beta = p->params->beta};
    for (int d = 0; d < ML_GPU_BATCH_DIMS; d++)
        g->batch_shape[d] = d < batch ? (int32_t)p->out.shape[d] : 1;
    return bind_operands(e, p, g);
}

static void set_common_constants(ml_gpu_encoding *e, const problem *p) {
    const ml_matmul_params *m = p->params;
    ml_gpu_set_bool(e, ML_GPU_FC_USE_OUT_SOURCE, m->has_c);
    ml_gpu_set_bool(e, ML_GPU_FC_DO_AXPBY, (p->k > 0 && m->alpha != 1.0f) || (m->has_c && m->beta != 1.0f));
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_BIAS, m->has_bias);
    ml_gpu_set_int(e, ML_GPU_FC_ACTIVATION, (int)m->activation);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_BATCH, m->batch > 1);
    ml_gpu_set_int(e, ML_GPU_FC_SKIP_HIDDEN, p->skip);
    ml_gpu_set_int(e, ML_GPU_FC_C_DTYPE, m->has_c ? (int)p->c.dtype : 0);
    ml_gpu_set_int(e, ML_GPU_FC_BIAS_DTYPE, m->has_bias ? (int)p->bias.dtype : 0);
    ml_gpu_set_int(e, ML_GPU_FC_OUT_DTYPE, (int)p->out.dtype);
}

static int64_t parts(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

static ml_status encode_gemm(ml_gpu_encoding *e) {
    const ml_gpu_variant *v = e->variant;
    problem p;
    ml_gpu_matmul g;
    /* Only weights in `a` can be skipped, so a transposed plan is turned back for them: strides, no work. */
    set_problem(e->args, e->args->plan->transposed && !e->args->op->matmul.skip_hidden, &p);
    ML_TRY(set_params(e, &p, &g));
    set_common_constants(e, &p);
    ml_gpu_set_int(e, ML_GPU_FC_A_DTYPE, (int)p.a.dtype);
    ml_gpu_set_int(e, ML_GPU_FC_B_DTYPE, (int)p.b.dtype);
    ml_gpu_type type = ML_GPU_TYPE_ANY;
    if (v->types != 1u << ML_GPU_TYPE_ANY) { /* gemm_simd */
        const int unit_a = unit_dim(&p.a), unit_b = unit_dim(&p.b);
        const bool columns_a = unit_a < 0 ? llabs(row_stride(&p.a)) < llabs(column_stride(&p.a)) : unit_a == 0;
        const bool columns_b = unit_b < 0 ? llabs(row_stride(&p.b)) < llabs(column_stride(&p.b)) : unit_b == 0;
        if (p.a.dtype == p.b.dtype)
            type = ml_gpu_type_of(p.a.dtype);
        ml_gpu_set_bool(e, ML_GPU_FC_TRANSPOSE_A, columns_a);
        ml_gpu_set_bool(e, ML_GPU_FC_TRANSPOSE_B, columns_b);
        ml_gpu_set_bool(e, ML_GPU_FC_STRIDED_A, unit_a < 0);
        ml_gpu_set_bool(e, ML_GPU_FC_STRIDED_B, unit_b < 0);
        ml_gpu_set_bool(e, ML_GPU_FC_VECTOR_A, takes_vectors(&p.a, unit_a));
        ml_gpu_set_bool(e, ML_GPU_FC_VECTOR_B, takes_vectors(&p.b, unit_b));
        ml_gpu_set_bool(e, ML_GPU_FC_ALIGN_M, p.m % v->bm == 0);
        ml_gpu_set_bool(e, ML_GPU_FC_ALIGN_N, p.n % v->bn == 0);
        ml_gpu_set_bool(e, ML_GPU_FC_ALIGN_K, p.k % (v->bk > 0 ? v->bk : 16) == 0);
    }
    ml_gpu_params(e, 5, &g, sizeof g);
    ML_TRY(ml_gpu_grid(e, parts(p.n, v->bn), parts(p.m, v->bm), p.params->batch));
    ml_gpu_threads(e, v->threadgroup[0], v->threadgroup[1], v->threadgroup[2]);
    return ml_gpu_run(e, NULL, type);
}

static ml_status encode_gemv(ml_gpu_encoding *e) {
    const ml_gpu_variant *v = e->variant;
    problem p;
    ml_gpu_matmul g;
    set_problem(e->args, e->args->plan->transposed, &p);
    const bool by_columns = (e->args->plan->kernel->requires_cases & ML_CASE_A_COLUMNS) != 0;
    const int unit = unit_dim(&p.a);
    const bool strided = !by_columns && unit != 1;
    ML_TRY(set_params(e, &p, &g));
    set_common_constants(e, &p);
    ml_gpu_set_int(e, ML_GPU_FC_A_DTYPE, (int)p.a.dtype);
    ml_gpu_set_int(e, ML_GPU_FC_B_DTYPE, (int)p.b.dtype);
    ml_gpu_set_bool(e, ML_GPU_FC_STRIDED_A, strided);
    ml_gpu_set_bool(e, ML_GPU_FC_VECTOR_A, !strided && takes_vectors(&p.a, by_columns ? 0 : 1));
    ml_gpu_params(e, 5, &g, sizeof g);
    ML_TRY(ml_gpu_grid(e, parts(p.m, v->bm), parts(p.n, v->bn), p.params->batch));
    ml_gpu_threads(e, v->threadgroup[0], v->threadgroup[1], v->threadgroup[2]);
    return ml_gpu_run(e, NULL, ml_gpu_type_of(p.a.dtype));
}

ml_status ml_gpu_encode_matmul(ml_gpu_encoding *e) {
    return e->args->plan->family == ML_BACKEND_GEMV ? encode_gemv(e) : encode_gemm(e);
}
