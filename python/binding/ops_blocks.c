/* Norms, activations, rotary positions and prepacking as Python functions: parse, borrow the operands, call the core.
 */
#include "mlpy.h"

/* The operands of a call: the first is an input, the second `out`, the rest inputs that may be absent. */
enum { OUT = 1, MAX_OPERANDS = 5 };
typedef struct operands {
    mlpy_state *st;
    ml_context *ctx; /* that of the call; begin() puts in the one to use */
    int n, got;
    PyObject *objects[MAX_OPERANDS];
    const char *names[MAX_OPERANDS];
    mlpy_operand at[MAX_OPERANDS];
} operands;

/* Inputs that must be there are the first `required` but out. -1 with an exception; end() is due in any case. */
static int begin(operands *o, const mlpy_call *call, int required) {
    o->st = call->st;
    o->got = 0;
    mlpy_enter(o->st);
    o->ctx = mlpy_pick_context(o->st, o->ctx, o->objects, o->n);
    if (!o->ctx)
        return -1;
    mlpy_import_options options = {.ctx = o->ctx, .dtype = -1, .copy = -1};
    while (o->got < o->n) {
        const int i = o->got;
        options.name = o->names[i];
        const int failed = mlpy_operand_get(o->st, o->objects[i], &options, i == OUT ? MLPY_WRITABLE : 0, &o->at[i]);
        o->got++;
        if (failed)
            return -1;
        if (i < required && i != OUT && !o->at[i].t) {
            mlpy_fail(o->st, ML_ERR_DTYPE, "%s: None is no array", o->names[i]);
            return -1;
        }
    }
    return 0;
}

static void end(operands *o) {
    while (o->got > 0)
        mlpy_operand_clear(&o->at[--o->got]);
}

/* out itself when it was given, else the new tensor. */
static PyObject *result_of(const operands *o, ml_status status, ml_tensor *out) {
    if (status != ML_OK) {
        mlpy_raise(o->st, status);
        return NULL;
    }
    return o->at[OUT].t ? Py_NewRef(o->objects[OUT]) : mlpy_tensor_wrap(o->st, out);
}

/* Elements each of which costs about `flops`. */
static bool is_long(const ml_tensor *t, int64_t flops) {
    const int64_t size = ml_view_size(&t->view);
    return mlpy_is_long(size < INT64_MAX / 64 ? size * flops : INT64_MAX, size * 8);
}

#define MLPY_RUN(release_gil, status, expression)                                                                      \
    do {                                                                                                               \
        if (release_gil) {                                                                                             \
            Py_BEGIN_ALLOW_THREADS(status)                                                                             \
            = (expression);                                                                                            \
            Py_END_ALLOW_THREADS                                                                                       \
        } else {                                                                                                       \
            (status) = (expression);                                                                                   \
        }                                                                                                              \
    } while (0)

/* ---- norms ------------------------------------------------------------------------------------------------------- */

PyObject *mlpy_op_layer_norm(const mlpy_call *call) {
    enum { X, WEIGHT, BIAS, EPS, O, CTX, N };
    static const mlpy_signature sig = {
        "layer_norm", N, 0, 4, 1, {MLPY_S_x, MLPY_S_weight, MLPY_S_bias, MLPY_S_eps, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    ml_layer_norm_args args = ML_LAYER_NORM_DEFAULTS;
    operands o = {.n = 4, .names = {"x", "out", "weight", "bias"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0 || mlpy_arg_float(v[EPS], "eps", &args.eps) < 0)
        return NULL;
    PyObject *const objects[] = {v[X], v[O], v[WEIGHT], v[BIAS]};
    memcpy(o.objects, objects, sizeof objects);
    if (begin(&o, call, 1) == 0) {
        args.x = o.at[0].t;
        args.weight = o.at[2].t;
        args.bias = o.at[3].t;
        ml_tensor *out = o.at[OUT].t;
        ml_status status;
        MLPY_RUN(is_long(args.x, 8), status, ml_layer_norm(o.ctx, &args, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    return result;
}

/* With a residual: the pair (normalised, sum). */
static PyObject *pair_of(const operands *o, ml_status status, ml_tensor *out, ml_tensor *sum) {
    PyObject *first = result_of(o, status, out);
    if (!sum)
        return first;
    PyObject *second = mlpy_tensor_wrap(o->st, sum);
    PyObject *pair = first && second ? PyTuple_Pack(2, first, second) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

PyObject *mlpy_op_rms_norm(const mlpy_call *call) {
    enum { X, WEIGHT, EPS, RESIDUAL, O, CTX, N };
    static const mlpy_signature sig = {
        "rms_norm", N, 0, 3, 1, {MLPY_S_x, MLPY_S_weight, MLPY_S_eps, MLPY_S_residual, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    ml_rms_norm_args args = ML_RMS_NORM_DEFAULTS;
    operands o = {.n = 4, .names = {"x", "out", "weight", "residual"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0 || mlpy_arg_float(v[EPS], "eps", &args.eps) < 0)
        return NULL;
    PyObject *const objects[] = {v[X], v[O], v[WEIGHT], v[RESIDUAL]};
    memcpy(o.objects, objects, sizeof objects);
    if (begin(&o, call, 1) == 0) {
        args.x = o.at[0].t;
        args.weight = o.at[2].t;
        args.residual = o.at[3].t;
        ml_tensor *out = o.at[OUT].t, *sum = NULL;
        ml_status status;
        MLPY_RUN(is_long(args.x, 8), status, ml_rms_norm(o.ctx, &args, &out, &sum));
        result = pair_of(&o, status, out, sum);
    }
    end(&o);
    return result;
}

/* ---- activations ------------------------------------------------------------------------------------------------- */

enum { ACTIVATION_FLOPS = 30 };

PyObject *mlpy_op_gelu(const mlpy_call *call) {
    enum { X, APPROXIMATE, O, CTX, N };
    static const mlpy_signature sig = {"gelu", N, 0, 2, 1, {MLPY_S_x, MLPY_S_approximate, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    bool tanh_form = false;
    operands o = {.n = 2, .names = {"x", "out"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0 || mlpy_arg_approximate(v[APPROXIMATE], &tanh_form) < 0)
        return NULL;
    o.objects[0] = v[X];
    o.objects[OUT] = v[O];
    if (begin(&o, call, 1) == 0) {
        ml_tensor *out = o.at[OUT].t;
        ml_status status;
        MLPY_RUN(is_long(o.at[0].t, ACTIVATION_FLOPS), status, ml_gelu(o.ctx, o.at[0].t, tanh_form, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    return result;
}

PyObject *mlpy_op_silu(const mlpy_call *call) {
    enum { X, O, CTX, N };
    static const mlpy_signature sig = {"silu", N, 0, 1, 1, {MLPY_S_x, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    operands o = {.n = 2, .names = {"x", "out"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0)
        return NULL;
    o.objects[0] = v[X];
    o.objects[OUT] = v[O];
    if (begin(&o, call, 1) == 0) {
        ml_tensor *out = o.at[OUT].t;
        ml_status status;
        MLPY_RUN(is_long(o.at[0].t, ACTIVATION_FLOPS), status, ml_silu(o.ctx, o.at[0].t, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    return result;
}

PyObject *mlpy_op_swiglu(const mlpy_call *call) {
    enum { GATE, UP, O, CTX, N };
    static const mlpy_signature sig = {"swiglu", N, 0, 2, 2, {MLPY_S_gate, MLPY_S_up, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    operands o = {.n = 3, .names = {"gate", "out", "up"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0)
        return NULL;
    o.objects[0] = v[GATE];
    o.objects[OUT] = v[O];
    o.objects[2] = v[UP];
    if (begin(&o, call, 3) == 0) {
        ml_tensor *out = o.at[OUT].t;
        ml_status status;
        const bool release = is_long(o.at[0].t, ACTIVATION_FLOPS) || is_long(o.at[2].t, ACTIVATION_FLOPS);
        MLPY_RUN(release, status, ml_swiglu(o.ctx, o.at[0].t, o.at[2].t, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    return result;
}

/* ---- rotary positions -------------------------------------------------------------------------------------------- */

/* An integer, or one for each entry of the first axis: then *list is theirs, to be freed. */
static int offsets_from(PyObject *obj, ml_rope_args *args, int64_t **list) {
    Py_ssize_t n = obj && !PyLong_Check(obj) && PySequence_Check(obj) ? PySequence_Size(obj) : -1;
    if (n < 0) { /* also an array without dims, which is no sequence whatever it says */
        PyErr_Clear();
        return mlpy_arg_int64(obj, "offset", &args->offset);
    }
    PyObject *fast = PySequence_Fast(obj, "offset must be an integer or a sequence of integers");
    if (!fast)
        return -1;
    n = PySequence_Fast_GET_SIZE(fast);
    *list = PyMem_Malloc(sizeof **list * (size_t)(n ? n : 1));
    int failed = *list ? 0 : (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; !failed && i < n; i++)
        failed = mlpy_arg_int64(PySequence_Fast_GET_ITEM(fast, i), "offset", &(*list)[i]);
    Py_DECREF(fast);
    args->offsets = *list;
    args->n_offsets = n;
    return failed;
}

/* 0 means "all of them" to the core, so it is refused here. */
static int dims_from(mlpy_state *st, PyObject *obj, int64_t *dims) {
    if (!obj || obj == Py_None)
        return 0;
    if (mlpy_arg_int64(obj, "dims", dims) < 0)
        return -1;
    if (*dims >= 1)
        return 0;
    mlpy_fail(st, ML_ERR_SHAPE, "rope: dims %lld; it must be at least 2", (long long)*dims);
    return -1;
}

PyObject *mlpy_op_rope(const mlpy_call *call) {
    enum { X, OFFSET, BASE, DIMS, INTERLEAVED, SCALE, O, CTX, N };
    static const mlpy_signature sig = {
        "rope",
        N,
        0,
        1,
        1,
        {MLPY_S_x, MLPY_S_offset, MLPY_S_base, MLPY_S_dims, MLPY_S_interleaved, MLPY_S_scale, MLPY_S_out, MLPY_S_ctx}};
    PyObject *v[N], *result = NULL;
    int64_t *list = NULL;
    ml_rope_args args = ML_ROPE_DEFAULTS;
    operands o = {.n = 2, .names = {"x", "out"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_given_context(call, v[CTX], &o.ctx) < 0 || mlpy_arg_double(v[BASE], "base", &args.base) < 0 ||
        mlpy_arg_double(v[SCALE], "scale", &args.scale) < 0 || dims_from(call->st, v[DIMS], &args.dims) < 0 ||
        mlpy_arg_bool(v[INTERLEAVED], &args.interleaved) < 0)
        return NULL;
    if (offsets_from(v[OFFSET], &args, &list) < 0) {
        PyMem_Free(list);
        return NULL;
    }
    o.objects[0] = v[X];
    o.objects[OUT] = v[O];
    if (begin(&o, call, 1) == 0) {
        args.x = o.at[0].t;
        ml_tensor *out = o.at[OUT].t;
        ml_status status;
        MLPY_RUN(is_long(args.x, 8), status, ml_rope(o.ctx, &args, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    PyMem_Free(list);
    return result;
}

/* ---- prepacked weights ------------------------------------------------------------------------------------------- */

PyObject *mlpy_op_prepack(const mlpy_call *call) {
    enum { WEIGHT, TRANSPOSE, N };
    static const mlpy_signature sig = {"prepack", N, 0, 1, 1, {MLPY_S_weight, MLPY_S_transpose}};
    PyObject *v[N], *result = NULL;
    bool transpose = false;
    operands o = {.ctx = call->ctx, .n = 2, .names = {"weight", "out"}};
    if (mlpy_parse(call->st, &sig, call->args, call->nargs, call->kwnames, v) < 0 ||
        mlpy_arg_bool(v[TRANSPOSE], &transpose) < 0)
        return NULL;
    o.objects[0] = v[WEIGHT];
    if (begin(&o, call, 1) == 0) {
        const ml_tensor *weight = o.at[0].t;
        ml_tensor *out = NULL;
        ml_status status;
        MLPY_RUN(is_long(weight, 1), status, ml_prepack(o.ctx, weight, transpose, &out));
        result = result_of(&o, status, out);
    }
    end(&o);
    return result;
}
