/* The operations as Python functions and as methods of Context: parse, borrow the operands, call the core. */
#include "mlpy.h"

ml_context *mlpy_pick_context(mlpy_state *st, ml_context *given, PyObject *const *objects, int n) {
    if (given)
        return given;
    for (int i = 0; i < n; i++) {
        if (objects[i] && mlpy_is_tensor(objects[i]))
            return mlpy_context_of_tensor(st, mlpy_tensor_of(objects[i]));
    }
    return mlpy_default_context(st);
}

int mlpy_given_context(const mlpy_call *call, PyObject *arg, ml_context **out) {
    *out = call->ctx;
    if (!arg || arg == Py_None)
        return 0;
    if (call->ctx) {
        PyErr_SetString(PyExc_TypeError, "ctx: this is a method of a context already");
        return -1;
    }
    if (Py_TYPE(arg) != call->st->context_type) {
        PyErr_Format(PyExc_TypeError, "ctx must be a Context or None, not %.100s", Py_TYPE(arg)->tp_name);
        return -1;
    }
    *out = ((mlpy_context *)arg)->ctx;
    return 0;
}

/* ---- matmul ------------------------------------------------------------------------------------------------------ */

/* The Python operands of a matmul beside its plain arguments. */
typedef struct matmul_objects {
    PyObject *a, *b, *c, *bias, *out;
} matmul_objects;

/* Rough multiply-adds and bytes, to decide on the GIL only: every element of one operand meets the other's row or
 * column. */
static bool matmul_is_long(const ml_matmul_args *args) {
    const ml_view *a = &args->a->view, *b = &args->b->view;
    int64_t a_size = ml_view_size(a), b_size = ml_view_size(b), m = 1, n = 1;
    if (a->ndim >= 2)
        m = a->shape[a->ndim - (args->transpose_a ? 1 : 2)];
    if (b->ndim >= 2)
        n = b->shape[b->ndim - (args->transpose_b ? 2 : 1)];
    double flops_a = 2.0 * (double)a_size * (double)n, flops_b = 2.0 * (double)b_size * (double)m;
    double flops = flops_a > flops_b ? flops_a : flops_b;
    return mlpy_is_long(flops < 1e18 ? (int64_t)flops : INT64_MAX, (a_size + b_size) * 2);
}

static ml_status call_matmul(ml_context *ctx, const ml_matmul_args *args, ml_tensor **out) {
    if (!matmul_is_long(args))
        return ml_matmul(ctx, args, out);
    ml_status status;
    Py_BEGIN_ALLOW_THREADS
    status = ml_matmul(ctx, args, out);
    Py_END_ALLOW_THREADS
    return status;
}

static int missing(const mlpy_call *call, const char *name) {
    mlpy_fail(call->st, ML_ERR_DTYPE, "%s: None is no array", name);
    return -1;
}

/* args holds everything but the tensors. Returns out itself when it was given. */
static PyObject *run_matmul(const mlpy_call *call, ml_context *given, const matmul_objects *o, ml_matmul_args *args) {
    mlpy_state *st = call->st;
    mlpy_enter(st);
    PyObject *const objects[] = {o->a, o->b, o->out, o->c, o->bias};
    static const char *const names[] = {"a", "b", "out", "c", "bias"};
    mlpy_operand operands[5];
    ml_context *ctx = mlpy_pick_context(st, given, objects, 5);
    if (!ctx)
        return NULL;
    mlpy_import_options options = {.ctx = ctx, .dtype = -1, .copy = -1};
    PyObject *result = NULL;
    int n = 0;
    while (n < 5) {
        options.name = names[n];
        int failed = mlpy_operand_get(st, objects[n], &options, n == 2 ? MLPY_WRITABLE : 0, &operands[n]);
        n++;
        if (failed)
            goto done;
    }
    args->a = operands[0].t;
    args->b = operands[1].t;
    args->c = operands[3].t;
    args->bias = operands[4].t;
    if (!args->a || !args->b) {
        missing(call, args->a ? "b" : "a");
        goto done;
    }
    ml_tensor *out = operands[2].t;
    ml_status status = call_matmul(ctx, args, &out);
    if (status != ML_OK)
        mlpy_raise(st, status);
    else if (operands[2].t)
        result = Py_NewRef(o->out);
    else
        result = mlpy_tensor_wrap(st, out);
done:
    while (n > 0)
        mlpy_operand_clear(&operands[--n]);
    return result;
}

PyObject *mlpy_matmul_plain(mlpy_state *st, PyObject *a, PyObject *b) {
    const mlpy_call call = {.st = st};
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    return run_matmul(&call, NULL, &(matmul_objects){.a = a, .b = b}, &args);
}

/* matmul and the functions that fix its backend (AUTO: `backend` is a parameter). */
static PyObject *matmul_with(const mlpy_call *call, const char *function, ml_matmul_backend backend) {
    enum { A, B, TA, TB, ALPHA, BETA, C, BIAS, ACT, OUT, VARIANT, CTX, BACKEND, N };
    mlpy_signature sig = {.function = function,
                          .n = backend == ML_BACKEND_AUTO ? N : BACKEND,
                          .positional_only = 2,
                          .positional = 2,
                          .required = 2,
                          .names = {MLPY_S_a, MLPY_S_b, MLPY_S_transpose_a, MLPY_S_transpose_b, MLPY_S_alpha,
                                    MLPY_S_beta, MLPY_S_c, MLPY_S_bias, MLPY_S_activation, MLPY_S_out, MLPY_S_variant,
                                    MLPY_S_ctx, MLPY_S_backend}};
    PyObject *v[N] = {NULL};
    ml_context *ctx;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.backend = backend;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_bool(v[TA], &args.transpose_a) < 0 ||
        mlpy_arg_bool(v[TB], &args.transpose_b) < 0 || mlpy_arg_float(v[ALPHA], "alpha", &args.alpha) < 0 ||
        mlpy_arg_float(v[BETA], "beta", &args.beta) < 0 || mlpy_arg_activation(v[ACT], &args.activation) < 0 ||
        mlpy_arg_backend(v[BACKEND], &args.backend) < 0 || mlpy_arg_variant(v[VARIANT], &args.variant) < 0)
        return NULL;
    return run_matmul(call, ctx, &(matmul_objects){v[A], v[B], v[C], v[BIAS], v[OUT]}, &args);
}

static PyObject *op_matmul(const mlpy_call *call) {
    return matmul_with(call, "matmul", ML_BACKEND_AUTO);
}
static PyObject *op_matmul_mlx(const mlpy_call *call) {
    return matmul_with(call, "matmul_mlx", ML_BACKEND_MLX);
}
static PyObject *op_matmul_mps(const mlpy_call *call) {
    return matmul_with(call, "matmul_mps", ML_BACKEND_MPS);
}
static PyObject *op_matmul_gemv(const mlpy_call *call) {
    return matmul_with(call, "matmul_gemv", ML_BACKEND_GEMV);
}

static PyObject *op_addmm(const mlpy_call *call) {
    enum { C, A, B, ALPHA, BETA, OUT, CTX, N };
    static const mlpy_signature sig = {
        "addmm", N, 3, 3, 3, {MLPY_S_c, MLPY_S_a, MLPY_S_b, MLPY_S_alpha, MLPY_S_beta, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.beta = 1.0f;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_float(v[ALPHA], "alpha", &args.alpha) < 0 ||
        mlpy_arg_float(v[BETA], "beta", &args.beta) < 0)
        return NULL;
    if (v[C] == Py_None) {
        missing(call, "c");
        return NULL;
    }
    return run_matmul(call, ctx, &(matmul_objects){v[A], v[B], v[C], NULL, v[OUT]}, &args);
}

static PyObject *op_linear(const mlpy_call *call) {
    enum { X, WEIGHT, BIAS, ACT, OUT, CTX, N };
    static const mlpy_signature sig = {
        "linear", N, 0, 3, 2, {MLPY_S_x, MLPY_S_weight, MLPY_S_bias, MLPY_S_activation, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.transpose_b = true;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_activation(v[ACT], &args.activation) < 0)
        return NULL;
    return run_matmul(call, ctx, &(matmul_objects){v[X], v[WEIGHT], NULL, v[BIAS], v[OUT]}, &args);
}

/* matmul_dispatch, and matmul_alpha_beta, which adds `cache`. */
static PyObject *dispatch_with(const mlpy_call *call, const char *function, bool has_cache) {
    enum { A, B, OUT, TA, TB, ALPHA, BETA, CTX, CACHE, N };
    mlpy_signature sig = {.function = function,
                          .n = has_cache ? N : CACHE,
                          .positional = 7,
                          .required = 7,
                          .names = {MLPY_S_a, MLPY_S_b, MLPY_S_out, MLPY_S_transpose_a, MLPY_S_transpose_b,
                                    MLPY_S_alpha, MLPY_S_beta, MLPY_S_ctx, MLPY_S_cache}};
    PyObject *v[N] = {NULL};
    ml_context *ctx;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_bool(v[TA], &args.transpose_a) < 0 ||
        mlpy_arg_bool(v[TB], &args.transpose_b) < 0 || mlpy_arg_float(v[ALPHA], "alpha", &args.alpha) < 0 ||
        mlpy_arg_float(v[BETA], "beta", &args.beta) < 0)
        return NULL;
    if (v[CACHE] && v[CACHE] != Py_None) {
        if (Py_TYPE(v[CACHE]) != call->st->cache_type) {
            PyErr_Format(PyExc_TypeError, "cache must be a ResourceCache or None, not %.100s",
                         Py_TYPE(v[CACHE])->tp_name);
            return NULL;
        }
        args.cache = ((mlpy_cache *)v[CACHE])->cache;
    }
    return run_matmul(call, ctx, &(matmul_objects){.a = v[A], .b = v[B], .out = v[OUT]}, &args);
}

static PyObject *op_matmul_dispatch(const mlpy_call *call) {
    return dispatch_with(call, "matmul_dispatch", false);
}
static PyObject *op_matmul_alpha_beta(const mlpy_call *call) {
    return dispatch_with(call, "matmul_alpha_beta", true);
}

static PyObject *op_matmul_bias_add(const mlpy_call *call) {
    enum { A, B, BIAS, TA, TB, CTX, N };
    static const mlpy_signature sig = {
        "matmul_bias_add",
        N,
        0,
        5,
        3,
        {MLPY_S_a, MLPY_S_b, MLPY_S_bias, MLPY_S_transpose_a, MLPY_S_transpose_b, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_bool(v[TA], &args.transpose_a) < 0 ||
        mlpy_arg_bool(v[TB], &args.transpose_b) < 0)
        return NULL;
    if (v[BIAS] == Py_None) {
        missing(call, "bias");
        return NULL;
    }
    return run_matmul(call, ctx, &(matmul_objects){.a = v[A], .b = v[B], .bias = v[BIAS]}, &args);
}

/* ---- ragged batches ---------------------------------------------------------------------------------------------- */

static int64_t *row_counts_from(PyObject *obj, Py_ssize_t *n) {
    PyObject *fast = PySequence_Fast(obj, "row_counts must be a sequence of integers");
    if (!fast)
        return NULL;
    *n = PySequence_Fast_GET_SIZE(fast);
    int64_t *counts = PyMem_Malloc(sizeof *counts * (size_t)(*n ? *n : 1));
    if (!counts)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; counts && i < *n; i++) {
        if (mlpy_arg_int64(PySequence_Fast_GET_ITEM(fast, i), "row_counts", &counts[i]) < 0) {
            PyMem_Free(counts);
            counts = NULL;
        }
    }
    Py_DECREF(fast);
    return counts;
}

static PyObject *op_matmul_ragged(const mlpy_call *call) {
    enum { A, B, COUNTS, OUT, CTX, N };
    static const mlpy_signature sig = {
        "matmul_ragged", N, 0, 3, 3, {MLPY_S_a, MLPY_S_b, MLPY_S_row_counts, MLPY_S_out, MLPY_S_ctx}};
    static const char *const names[] = {"a", "b", "out"};
    mlpy_state *st = call->st;
    PyObject *v[N], *result = NULL;
    ml_context *ctx;
    Py_ssize_t groups = 0;
    if (mlpy_parse(st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0)
        return NULL;
    mlpy_enter(st);
    PyObject *const objects[] = {v[A], v[B], v[OUT]};
    ctx = mlpy_pick_context(st, ctx, objects, 3);
    int64_t *counts = ctx ? row_counts_from(v[COUNTS], &groups) : NULL;
    if (!counts)
        return NULL;
    mlpy_operand operands[3];
    mlpy_import_options options = {.ctx = ctx, .dtype = -1, .copy = -1};
    int n = 0;
    while (n < 3) {
        options.name = names[n];
        int failed = mlpy_operand_get(st, objects[n], &options, n == 2 ? MLPY_WRITABLE : 0, &operands[n]);
        n++;
        if (failed)
            goto done;
    }
    if (!operands[0].t || !operands[1].t) {
        missing(call, operands[0].t ? "b" : "a");
        goto done;
    }
    const ml_matmul_ragged_args args = {.a = operands[0].t, .b = operands[1].t, .row_counts = counts, .groups = groups};
    ml_tensor *out = operands[2].t;
    const ml_view *b = &args.b->view;
    ml_status status;
    if (mlpy_is_long(2 * ml_view_size(&args.a->view) * (b->ndim ? b->shape[b->ndim - 1] : 1), 2 * ml_view_size(b))) {
        Py_BEGIN_ALLOW_THREADS
        status = ml_matmul_ragged(ctx, &args, &out);
        Py_END_ALLOW_THREADS
    } else {
        status = ml_matmul_ragged(ctx, &args, &out);
    }
    if (status != ML_OK)
        mlpy_raise(st, status);
    else
        result = operands[2].t ? Py_NewRef(v[OUT]) : mlpy_tensor_wrap(st, out);
done:
    while (n > 0)
        mlpy_operand_clear(&operands[--n]);
    PyMem_Free(counts);
    return result;
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

typedef struct softmax_objects {
    PyObject *x, *mask, *out;
} softmax_objects;

/* args holds everything but the tensors. Returns out itself when it was given. */
static PyObject *run_softmax(const mlpy_call *call, ml_context *given, const softmax_objects *o,
                             ml_softmax_args *args) {
    mlpy_state *st = call->st;
    mlpy_enter(st);
    PyObject *const objects[] = {o->x, o->out, o->mask};
    static const char *const names[] = {"x", "out", "mask"};
    mlpy_operand operands[3];
    ml_context *ctx = mlpy_pick_context(st, given, objects, 3);
    if (!ctx)
        return NULL;
    mlpy_import_options options = {.ctx = ctx, .dtype = -1, .copy = -1};
    PyObject *result = NULL;
    int n = 0;
    while (n < 3) {
        options.name = names[n];
        int failed = mlpy_operand_get(st, objects[n], &options, n == 1 ? MLPY_WRITABLE : 0, &operands[n]);
        n++;
        if (failed)
            goto done;
    }
    args->x = operands[0].t;
    args->mask = operands[2].t;
    if (!args->x) {
        missing(call, "x");
        goto done;
    }
    ml_tensor *out = operands[1].t;
    const int64_t size = ml_view_size(&args->x->view);
    ml_status status;
    if (mlpy_is_long(size * 20, size * 8)) { /* an exponential counts as twenty */
        Py_BEGIN_ALLOW_THREADS
        status = ml_softmax(ctx, args, &out);
        Py_END_ALLOW_THREADS
    } else {
        status = ml_softmax(ctx, args, &out);
    }
    if (status != ML_OK)
        mlpy_raise(st, status);
    else
        result = operands[1].t ? Py_NewRef(o->out) : mlpy_tensor_wrap(st, out);
done:
    while (n > 0)
        mlpy_operand_clear(&operands[--n]);
    return result;
}

static int axis_from(PyObject *o, int *out) {
    int64_t axis = *out;
    if (mlpy_arg_int64(o, "axis", &axis) < 0)
        return -1;
    *out = axis < -ML_MAX_DIMS ? -ML_MAX_DIMS - 1 : axis > ML_MAX_DIMS ? ML_MAX_DIMS : (int)axis;
    return 0;
}

static PyObject *op_softmax(const mlpy_call *call) {
    enum { X, AXIS, CAUSAL, OFFSET, MASK, SCALE, OUT, VARIANT, CTX, N };
    static const mlpy_signature sig = {"softmax",
                                       N,
                                       0,
                                       2,
                                       1,
                                       {MLPY_S_x, MLPY_S_axis, MLPY_S_causal, MLPY_S_query_offset, MLPY_S_mask,
                                        MLPY_S_scale, MLPY_S_out, MLPY_S_variant, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_softmax_args args = ML_SOFTMAX_DEFAULTS;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || axis_from(v[AXIS], &args.axis) < 0 ||
        mlpy_arg_bool(v[CAUSAL], &args.causal) < 0 ||
        mlpy_arg_int64(v[OFFSET] == Py_None ? NULL : v[OFFSET], "query_offset", &args.query_offset) < 0 ||
        mlpy_arg_float(v[SCALE], "scale", &args.scale) < 0 || mlpy_arg_softmax_variant(v[VARIANT], &args.variant) < 0)
        return NULL;
    return run_softmax(call, ctx, &(softmax_objects){v[X], v[MASK], v[OUT]}, &args);
}

static PyObject *op_log_softmax(const mlpy_call *call) {
    enum { X, AXIS, OUT, CTX, N };
    static const mlpy_signature sig = {"log_softmax", N, 0, 2, 1, {MLPY_S_x, MLPY_S_axis, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_softmax_args args = ML_SOFTMAX_DEFAULTS;
    args.log = true;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || axis_from(v[AXIS], &args.axis) < 0)
        return NULL;
    return run_softmax(call, ctx, &(softmax_objects){.x = v[X], .out = v[OUT]}, &args);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static bool sdpa_is_long(const ml_sdpa_args *args) {
    const ml_view *q = &args->query->view, *k = &args->key->view, *v = &args->value->view;
    const double keys = k->ndim > 1 ? (double)k->shape[k->ndim - 2] : 1.0;
    const double flops = 4.0 * (double)ml_view_size(q) * keys;
    return mlpy_is_long(flops < 1e18 ? (int64_t)flops : INT64_MAX, 2 * (ml_view_size(k) + ml_view_size(v)));
}

/* None is the default. Returns whether a number was given, or -1. */
static int optional_float(PyObject *o, const char *name, float *out) {
    if (!o || o == Py_None)
        return 0;
    return mlpy_arg_float(o, name, out) < 0 ? -1 : 1;
}
static int optional_int64(PyObject *o, const char *name, int64_t *out) {
    if (!o || o == Py_None)
        return 0;
    return mlpy_arg_int64(o, name, out) < 0 ? -1 : 1;
}

/* 0 as a window or soft cap means "none" to the core, so it is refused here. */
static int sdpa_limits(mlpy_state *st, PyObject *window, PyObject *softcap, ml_sdpa_args *args) {
    const int has_window = optional_int64(window, "window", &args->window);
    const int has_softcap = has_window < 0 ? -1 : optional_float(softcap, "softcap", &args->softcap);
    if (has_softcap < 0)
        return -1;
    if (has_window > 0 && args->window < 1) {
        mlpy_fail(st, ML_ERR_SHAPE, "scaled_dot_product_attention: window %lld; it must be at least 1",
                  (long long)args->window);
        return -1;
    }
    if (has_softcap > 0 && !(args->softcap > 0.0f)) {
        mlpy_fail(st, ML_ERR_VALUE, "scaled_dot_product_attention: softcap %R; it must be positive", softcap);
        return -1;
    }
    return 0;
}

typedef struct sdpa_objects {
    PyObject *query, *key, *value, *mask, *sinks, *out;
} sdpa_objects;

/* args holds everything but the tensors. Returns out itself when it was given. */
static PyObject *run_sdpa(const mlpy_call *call, ml_context *given, const sdpa_objects *o, ml_sdpa_args *args) {
    enum { OUT = 3, N = 6 };
    mlpy_state *st = call->st;
    mlpy_enter(st);
    PyObject *const objects[N] = {o->query, o->key, o->value, o->out, o->mask, o->sinks};
    static const char *const names[N] = {"query", "key", "value", "out", "attn_mask", "sinks"};
    mlpy_operand operands[N];
    ml_context *ctx = mlpy_pick_context(st, given, objects, N);
    if (!ctx)
        return NULL;
    mlpy_import_options options = {.ctx = ctx, .dtype = -1, .copy = -1};
    PyObject *result = NULL;
    int n = 0;
    while (n < N) {
        options.name = names[n];
        int failed = mlpy_operand_get(st, objects[n], &options, n == OUT ? MLPY_WRITABLE : 0, &operands[n]);
        n++;
        if (failed)
            goto done;
    }
    for (int i = 0; i < OUT; i++) {
        if (!operands[i].t) {
            missing(call, names[i]);
            goto done;
        }
    }
    args->query = operands[0].t;
    args->key = operands[1].t;
    args->value = operands[2].t;
    args->mask = operands[4].t;
    args->sinks = operands[5].t;
    ml_tensor *out = operands[OUT].t;
    ml_status status;
    if (sdpa_is_long(args)) {
        Py_BEGIN_ALLOW_THREADS
        status = ml_scaled_dot_product_attention(ctx, args, &out);
        Py_END_ALLOW_THREADS
    } else {
        status = ml_scaled_dot_product_attention(ctx, args, &out);
    }
    if (status != ML_OK)
        mlpy_raise(st, status);
    else
        result = operands[OUT].t ? Py_NewRef(o->out) : mlpy_tensor_wrap(st, out);
done:
    while (n > 0)
        mlpy_operand_clear(&operands[--n]);
    return result;
}

static PyObject *op_scaled_dot_product_attention(const mlpy_call *call) {
    enum { QUERY, KEY, VALUE, MASK, CAUSAL, SCALE, OFFSET, WINDOW, SINKS, SOFTCAP, OUT, VARIANT, CTX, N };
    static const mlpy_signature sig = {"scaled_dot_product_attention",
                                       N,
                                       0,
                                       4,
                                       3,
                                       {MLPY_S_query, MLPY_S_key, MLPY_S_value, MLPY_S_attn_mask, MLPY_S_is_causal,
                                        MLPY_S_scale, MLPY_S_query_offset, MLPY_S_window, MLPY_S_sinks, MLPY_S_softcap,
                                        MLPY_S_out, MLPY_S_variant, MLPY_S_ctx}};
    PyObject *v[N];
    ml_context *ctx;
    ml_sdpa_args args = ML_SDPA_DEFAULTS;
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &ctx) < 0 || mlpy_arg_bool(v[CAUSAL], &args.causal) < 0 ||
        optional_int64(v[OFFSET], "query_offset", &args.query_offset) < 0 ||
        sdpa_limits(call->st, v[WINDOW], v[SOFTCAP], &args) < 0 || mlpy_arg_sdpa_variant(v[VARIANT], &args.variant) < 0)
        return NULL;
    const int has_scale = optional_float(v[SCALE], "scale", &args.scale);
    if (has_scale < 0)
        return NULL;
    args.has_scale = has_scale > 0;
    const sdpa_objects objects = {v[QUERY], v[KEY], v[VALUE], v[MASK], v[SINKS], v[OUT]};
    return run_sdpa(call, ctx, &objects, &args);
}

/* ---- element-wise ------------------------------------------------------------------------------------------------ */

static PyObject *binary_with(const mlpy_call *call, const char *function, ml_binary_kind kind) {
    mlpy_signature sig = {.function = function,
                          .n = 4,
                          .positional = 2,
                          .required = 2,
                          .names = {MLPY_S_a, MLPY_S_b, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[4];
    mlpy_binary_call binary = {.kind = kind};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[3], &binary.ctx) < 0)
        return NULL;
    binary.a = v[0];
    binary.b = v[1];
    binary.out = v[2] == Py_None ? NULL : v[2];
    return mlpy_binary(call->st, &binary);
}

static PyObject *op_add(const mlpy_call *call) {
    return binary_with(call, "add", ML_ADD);
}
static PyObject *op_subtract(const mlpy_call *call) {
    return binary_with(call, "subtract", ML_SUB);
}
static PyObject *op_multiply(const mlpy_call *call) {
    return binary_with(call, "multiply", ML_MUL);
}
static PyObject *op_divide(const mlpy_call *call) {
    return binary_with(call, "divide", ML_DIV);
}

/* ---- ops_blocks.c ------------------------------------------------------------------------------------------------ */

#define MLPY_ELSEWHERE(name)                                                                                           \
    static PyObject *op_##name(const mlpy_call *call) {                                                                \
        return mlpy_op_##name(call);                                                                                   \
    }
MLPY_BLOCK_OPS(MLPY_ELSEWHERE)

/* ---- tables ------------------------------------------------------------------------------------------------------ */

#define MLPY_ENTRIES(name)                                                                                             \
    static PyObject *function_##name(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {   \
        const mlpy_call call = {PyModule_GetState(module), NULL, args, nargs, kwnames};                                \
        return op_##name(&call);                                                                                       \
    }                                                                                                                  \
    PyObject *mlpy_method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {         \
        const mlpy_call call = {mlpy_state_of(self), ((mlpy_context *)self)->ctx, args, nargs, kwnames};               \
        return op_##name(&call);                                                                                       \
    }
MLPY_OPS(MLPY_ENTRIES)

#define MLPY_FUNCTION(name)                                                                                            \
    {#name, (PyCFunction)(void (*)(void))function_##name, METH_FASTCALL | METH_KEYWORDS, mlpy_doc_##name},
PyMethodDef mlpy_op_functions[] = {MLPY_OPS(MLPY_FUNCTION){NULL, NULL, 0, NULL}};
