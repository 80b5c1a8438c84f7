/* Matmul: numpy.matmul's shapes, with transposes, alpha, beta, c, bias and activation; and its ragged form. */
#include "ops/ops.h"

#define NAME "matmul"

/* A problem on its way from arguments to an ml_op. */
typedef struct problem {
    const ml_matmul_args *args;
    ml_view a, b; /* as matrices, transposed: [..., M, K] and [..., K, N] */
    int64_t m, n, k;
    bool a_vector, b_vector;
    ml_shape batch;  /* leading dims of the result */
    ml_shape result; /* as the caller sees it: without M or N where a or b is a vector */
    ml_dtype dtype;
} problem;

static ml_status operands_do_not_fit(const ml_matmul_args *args, const char *why, int64_t x, int64_t y) {
    char a[ML_FORMAT_MAX], b[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_SHAPE, NAME ": a %s%s and b %s%s: %s %lld and %lld differ",
                   ml_view_format(&args->a->view, a, sizeof a), args->transpose_a ? " transposed" : "",
                   ml_view_format(&args->b->view, b, sizeof b), args->transpose_b ? " transposed" : "", why,
                   (long long)x, (long long)y);
}

static ml_status check_dtype(const char *argument, const ml_tensor *t) {
    if (!t || ml_dtype_is_float(t->view.dtype))
        return ML_OK;
    char text[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_DTYPE, NAME ": %s %s is not of a floating-point dtype; cast it first", argument,
                   ml_view_format(&t->view, text, sizeof text));
}

static ml_status check_arguments(const ml_matmul_args *args) {
    if (!args->a || !args->b)
        return ml_fail(ML_ERR_VALUE, NAME ": %s is NULL", args->a ? "b" : "a");
    ML_TRY(check_dtype("a", args->a));
    ML_TRY(check_dtype("b", args->b));
    ML_TRY(check_dtype("c", args->c));
    ML_TRY(check_dtype("bias", args->bias));
    if ((unsigned)args->activation > ML_ACT_RELU || (unsigned)args->backend > ML_BACKEND_GEMV ||
        (unsigned)args->variant > ML_FORCE_GEMM)
        return ml_fail(ML_ERR_VALUE, NAME ": unknown activation %d, backend %d or variant %d", (int)args->activation,
                       (int)args->backend, (int)args->variant);
    if (args->a->view.ndim > 0 && args->b->view.ndim > 0)
        return ML_OK;
    char text[ML_FORMAT_MAX];
    const bool a_scalar = args->a->view.ndim == 0;
    return ml_fail(ML_ERR_SHAPE, NAME ": %s %s has no dimensions; multiply by a number instead", a_scalar ? "a" : "b",
                   ml_view_format(a_scalar ? &args->a->view : &args->b->view, text, sizeof text));
}

/* The operand as matrices. A vector becomes one row (a) or one column (b), and its own transpose is itself. */
static bool as_matrices(const ml_view *v, bool transpose, bool vector_is_row, ml_view *out) {
    *out = *v;
    const int last = v->ndim - 1;
    if (v->ndim == 1) {
        const int along = vector_is_row ? 1 : 0;
        out->ndim = 2;
        out->shape[along] = v->shape[0];
        out->strides[along] = v->strides[0];
        out->shape[1 - along] = 1;
        out->strides[1 - along] = 0;
        return true;
    }
    if (transpose) {
        out->shape[last] = v->shape[last - 1];
        out->strides[last] = v->strides[last - 1];
        out->shape[last - 1] = v->shape[last];
        out->strides[last - 1] = v->strides[last];
    }
    return false;
}

static ml_shape leading_dims(const ml_view *v) {
    ml_shape s = {.ndim = v->ndim - 2};
    for (int i = 0; i < s.ndim; i++)
        s.dims[i] = v->shape[i];
    return s;
}

static ml_status infer(problem *p) {
    const ml_matmul_args *args = p->args;
    p->a_vector = as_matrices(&args->a->view, args->transpose_a, true, &p->a);
    p->b_vector = as_matrices(&args->b->view, args->transpose_b, false, &p->b);
    p->m = p->a.shape[p->a.ndim - 2];
    p->k = p->a.shape[p->a.ndim - 1];
    p->n = p->b.shape[p->b.ndim - 1];
    if (p->b.shape[p->b.ndim - 2] != p->k)
        return operands_do_not_fit(args, "inner dimensions", p->k, p->b.shape[p->b.ndim - 2]);
    p->batch.ndim = 0;
    if (p->a.ndim > 2 || p->b.ndim > 2) {
        ml_shape a = leading_dims(&p->a), b = leading_dims(&p->b);
        if (ml_shape_broadcast(&a, &b, &p->batch) != ML_OK) {
            int i = 0; /* distance from the last leading dim to the first that does not fit */
            while (i < a.ndim - 1 && i < b.ndim - 1 &&
                   (a.dims[a.ndim - 1 - i] == b.dims[b.ndim - 1 - i] || a.dims[a.ndim - 1 - i] == 1 ||
                    b.dims[b.ndim - 1 - i] == 1))
                i++;
            return operands_do_not_fit(args, "batch dimensions", a.ndim ? a.dims[a.ndim - 1 - i] : 1,
                                       b.ndim ? b.dims[b.ndim - 1 - i] : 1);
        }
    }
    p->result = p->batch;
    if (!p->a_vector)
        p->result.dims[p->result.ndim++] = p->m;
    if (!p->b_vector)
        p->result.dims[p->result.ndim++] = p->n;
    p->dtype = ml_dtype_promote(args->a->view.dtype, args->b->view.dtype);
    return ML_OK;
}

/* A view of the result's shape (as the caller sees it) as matrices of the operation. */
static void put_back_vector_dims(const problem *p, ml_view *v) {
    if (p->a_vector) { /* M before N, or last when there is no N either */
        const int at = p->batch.ndim;
        for (int i = v->ndim; i > at; i--) {
            v->shape[i] = v->shape[i - 1];
            v->strides[i] = v->strides[i - 1];
        }
        v->shape[at] = 1;
        v->strides[at] = 0;
        v->ndim++;
    }
    if (p->b_vector) {
        v->shape[v->ndim] = 1;
        v->strides[v->ndim] = 0;
        v->ndim++;
    }
}

/* Leading dims as the result's, stride 0 where they repeat. */
static void broadcast_batch(const problem *p, ml_view *v) {
    const int ndim = p->batch.ndim + 2, shift = ndim - v->ndim;
    if (p->batch.ndim == 0)
        return;
    for (int i = ndim - 1; i >= 0; i--) {
        const bool present = i >= shift;
        const int64_t have = present ? v->shape[i - shift] : 1;
        v->strides[i] = present && (have != 1 || i >= p->batch.ndim) ? v->strides[i - shift] : 0;
        v->shape[i] = i < p->batch.ndim ? p->batch.dims[i] : have;
    }
    v->ndim = ndim;
}

/* [N] or [1, N]: one value per column; [M, 1]: one per row. */
static ml_status set_bias(const problem *p, ml_view *slot) {
    const ml_view *v = &p->args->bias->view;
    const bool by_column =
        (v->ndim == 1 && v->shape[0] == p->n) || (v->ndim == 2 && v->shape[0] == 1 && v->shape[1] == p->n);
    const bool by_row = !by_column && v->ndim == 2 && v->shape[0] == p->m && v->shape[1] == 1;
    if (!by_column && !by_row) {
        char text[ML_FORMAT_MAX];
        return ml_fail(ML_ERR_SHAPE, NAME ": bias %s fits neither [N] = [%lld] nor [M, 1] = [%lld, 1]",
                       ml_view_format(v, text, sizeof text), (long long)p->n, (long long)p->m);
    }
    *slot = (ml_view){.buf = v->buf, .offset = v->offset, .dtype = v->dtype, .ndim = p->batch.ndim + 2};
    for (int i = 0; i < p->batch.ndim; i++)
        slot->shape[i] = p->batch.dims[i];
    slot->shape[slot->ndim - 2] = p->m;
    slot->shape[slot->ndim - 1] = p->n;
    if (by_column)
        slot->strides[slot->ndim - 1] = v->strides[v->ndim - 1];
    else
        slot->strides[slot->ndim - 2] = v->strides[0];
    return ML_OK;
}

/* ---- fewer, larger matrices ---- */

typedef struct view_list {
    ml_view *at[5];
    int n;
} view_list;

/* Dims d and d + 1 of v are walked as one: the step of d is the length of d + 1. */
static bool is_one_walk(const ml_view *v, int d) {
    int64_t run;
    return v->shape[d] == 1 || v->shape[d + 1] == 1 ||
           (!__builtin_mul_overflow(v->strides[d + 1], v->shape[d + 1], &run) && v->strides[d] == run);
}

static void merge_dims(ml_view *v, int d) {
    if (v->shape[d + 1] == 1)
        v->strides[d + 1] = v->strides[d];
    v->shape[d + 1] *= v->shape[d];
    v->ndim--;
    for (int i = d; i < v->ndim; i++) {
        v->shape[i] = v->shape[i + 1];
        v->strides[i] = v->strides[i + 1];
    }
}

static void remove_dim(ml_view *v, int d) {
    v->ndim--;
    for (int i = d; i < v->ndim; i++) {
        v->shape[i] = v->shape[i + 1];
        v->strides[i] = v->strides[i + 1];
    }
}

static bool all_one_walk(const view_list *views, int d) {
    for (int i = 0; i < views->n; i++)
        if (!is_one_walk(views->at[i], d))
            return false;
    return true;
}

/* Batches that are no batches: dims of size 1 go; where every matrix of a run meets the same b ([B, M, K] @ [K, N], the
 * linear layer) the run's rows become rows of one matrix; leading dims walked as one become one. */
static void collapse_batch(ml_op *op) {
    view_list rows = {.n = 0}; /* everything that has rows: all but b */
    rows.at[rows.n++] = &op->out[0];
    rows.at[rows.n++] = &op->in[ML_IN_A];
    if (op->matmul.has_c)
        rows.at[rows.n++] = &op->in[ML_IN_C];
    if (op->matmul.has_bias)
        rows.at[rows.n++] = &op->in[ML_IN_BIAS];
    ml_view *b = &op->in[ML_IN_B];
    view_list all = rows;
    all.at[all.n++] = b;
    const ml_view *out = &op->out[0];

    for (int d = out->ndim - 3; d >= 0; d--)
        if (out->shape[d] == 1)
            for (int i = 0; i < all.n; i++)
                remove_dim(all.at[i], d);
    while (out->ndim > 2 && b->strides[out->ndim - 3] == 0 && all_one_walk(&rows, out->ndim - 3)) {
        const int d = out->ndim - 3;
        for (int i = 0; i < rows.n; i++)
            merge_dims(rows.at[i], d);
        remove_dim(b, d);
    }
    for (int d = out->ndim - 4; d >= 0; d--)
        if (all_one_walk(&all, d))
            for (int i = 0; i < all.n; i++)
                merge_dims(all.at[i], d);

    op->matmul.m = out->shape[out->ndim - 2];
    op->matmul.batch = 1;
    for (int d = 0; d < out->ndim - 2; d++)
        op->matmul.batch *= out->shape[d];
}

/* ---- the operation ---- */

static ml_status set_operands(const problem *p, ml_tensor *out, ml_op *op) {
    const ml_matmul_args *args = p->args;
    const ml_tensor *c = args->c ? args->c : args->beta != 0.0f ? out : NULL;
    if (args->beta != 0.0f && !c)
        return ml_fail(ML_ERR_VALUE, NAME ": beta is %g, but there is neither c nor out to scale", (double)args->beta);
    op->n_in = 4;
    op->in[ML_IN_A] = args->a->view;
    op->in[ML_IN_B] = args->b->view;
    if (c)
        ML_TRY(ml_op_broadcast(NAME, "c", &c->view, &p->result, &op->in[ML_IN_C]));
    if (args->bias)
        ML_TRY(set_bias(p, &op->in[ML_IN_BIAS]));
    ML_TRY(ml_op_set_out(op, NAME, &p->result, p->dtype, out, 1u << ML_IN_C));

    op->matmul = (ml_matmul_params){.m = p->m,
                                    .n = p->n,
                                    .k = p->k,
                                    .batch = 1,
                                    .alpha = p->k == 0 ? 0.0f : args->alpha, /* a sum of nothing, even times inf */
                                    .beta = args->beta,
                                    .activation = args->activation,
                                    .has_c = args->beta != 0.0f,
                                    .has_bias = args->bias != NULL,
                                    .transpose_a = args->transpose_a && !p->a_vector,
                                    .transpose_b = args->transpose_b && !p->b_vector,
                                    .backend = args->backend,
                                    .variant = args->variant};
    op->in[ML_IN_A] = p->a;
    op->in[ML_IN_B] = p->b;
    broadcast_batch(p, &op->in[ML_IN_A]);
    broadcast_batch(p, &op->in[ML_IN_B]);
    if (op->matmul.has_c)
        put_back_vector_dims(p, &op->in[ML_IN_C]);
    else
        op->in[ML_IN_C] = (ml_view){.buf = NULL}; /* it took part in the aliasing check; nobody reads it */
    put_back_vector_dims(p, &op->out[0]);
    if (p->batch.ndim > 0)
        collapse_batch(op);
    return ML_OK;
}

ml_status ml_matmul(ml_context *ctx, const ml_matmul_args *args, ml_tensor **out) {
    problem p;
    p.args = args;
    ML_TRY(ml_op_given(NAME, args, out));
    ML_TRY(check_arguments(args));
    ML_TRY(infer(&p));
    if (p.batch.ndim + 2 > ML_MAX_DIMS)
        return ml_fail(ML_ERR_SHAPE, NAME ": the result has %d leading dimensions; at most %d", p.batch.ndim,
                       ML_MAX_DIMS - 2);
    ml_op op;
    op.kind = ML_OP_MATMUL;
    op.n_out = 0;
    op.in[ML_IN_C] = op.in[ML_IN_BIAS] = (ml_view){.buf = NULL};
    ML_TRY(set_operands(&p, *out, &op));
    const bool fresh = *out == NULL;
    ML_TRY(ml_op_run(ctx, &op, args->cache, out));
    if (fresh && (p.a_vector || p.b_vector || p.batch.ndim > 0)) {
        ml_view *v = &(*out)->view; /* ours alone so far: from the operation's shape to the caller's */
        v->ndim = p.result.ndim;
        for (int i = 0; i < p.result.ndim; i++)
            v->shape[i] = p.result.dims[i];
        ml_view_set_contiguous(v);
    }
    return ML_OK;
}

/* ---- ragged ---- */

static ml_status check_ragged(const ml_matmul_ragged_args *args) {
    if (!args->a || !args->b || (!args->row_counts && args->groups > 0))
        return ml_fail(ML_ERR_VALUE, "matmul_ragged: %s is NULL", !args->a ? "a" : !args->b ? "b" : "row_counts");
    const ml_view *a = &args->a->view, *b = &args->b->view;
    char a_text[ML_FORMAT_MAX], b_text[ML_FORMAT_MAX];
    ml_view_format(a, a_text, sizeof a_text);
    ml_view_format(b, b_text, sizeof b_text);
    if (!ml_dtype_is_float(a->dtype) || !ml_dtype_is_float(b->dtype))
        return ml_fail(ML_ERR_DTYPE, "matmul_ragged: a %s and b %s must be of floating-point dtypes", a_text, b_text);
    if (a->ndim != 2 || b->ndim != 3)
        return ml_fail(ML_ERR_SHAPE, "matmul_ragged: a %s and b %s; they are [rows, K] and [groups, K, N]", a_text,
                       b_text);
    if (a->shape[1] != b->shape[1])
        return ml_fail(ML_ERR_SHAPE, "matmul_ragged: a %s and b %s: inner dimensions %lld and %lld differ", a_text,
                       b_text, (long long)a->shape[1], (long long)b->shape[1]);
    if (args->groups != b->shape[0])
        return ml_fail(ML_ERR_SHAPE, "matmul_ragged: %lld row counts for b %s", (long long)args->groups, b_text);
    int64_t rows = 0;
    for (int64_t g = 0; g < args->groups; g++)
        if (args->row_counts[g] < 0 || __builtin_add_overflow(rows, args->row_counts[g], &rows))
            return ml_fail(ML_ERR_VALUE, "matmul_ragged: row count %lld of group %lld", (long long)args->row_counts[g],
                           (long long)g);
    if (rows != a->shape[0])
        return ml_fail(ML_ERR_SHAPE, "matmul_ragged: the row counts add up to %lld, but a is %s", (long long)rows,
                       a_text);
    return ML_OK;
}

ml_status ml_matmul_ragged(ml_context *ctx, const ml_matmul_ragged_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given("matmul_ragged", args, out));
    ML_TRY(check_ragged(args));
    const ml_view *a = &args->a->view, *b = &args->b->view;
    ml_op op = {.kind = ML_OP_MATMUL_RAGGED, .n_in = 2};
    op.ragged = (ml_ragged_params){.groups = args->groups, .row_counts = args->row_counts};
    op.in[ML_IN_A] = *a;
    op.in[ML_IN_B] = *b;
    const ml_shape shape = {.ndim = 2, .dims = {a->shape[0], b->shape[2]}};
    ML_TRY(ml_op_set_out(&op, "matmul_ragged", &shape, ml_dtype_promote(a->dtype, b->dtype), *out, 0));
    return ml_op_run(ctx, &op, NULL, out);
}
