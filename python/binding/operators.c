/* + - * / @ == != and their in-place and reflected forms. */
#include "mlpy.h"

static ml_status call_binary(ml_context *ctx, const ml_binary_args *args, ml_tensor **out) {
    int64_t elements = 0;
    if (args->a)
        elements = ml_view_size(&args->a->view);
    if (args->b && ml_view_size(&args->b->view) > elements)
        elements = ml_view_size(&args->b->view);
    if (!mlpy_is_long(0, elements * 8))
        return ml_binary(ctx, args, out);
    ml_status status;
    Py_BEGIN_ALLOW_THREADS
    status = ml_binary(ctx, args, out);
    Py_END_ALLOW_THREADS
    return status;
}

PyObject *mlpy_binary(mlpy_state *st, const mlpy_binary_call *call) {
    mlpy_enter(st);
    PyObject *const objects[] = {call->a, call->b, call->out};
    static const char *const names[] = {"a", "b", "out"};
    ml_context *ctx = mlpy_pick_context(st, call->ctx, objects, 3);
    if (!ctx)
        return NULL;
    /* Two numbers have no dtype to take from each other: the first becomes a 0-d array of its own. */
    bool no_array = mlpy_is_scalar(st, call->a) && mlpy_is_scalar(st, call->b);
    mlpy_import_options options = {.ctx = ctx, .dtype = -1, .copy = -1};
    mlpy_operand operands[3];
    PyObject *result = NULL;
    int n = 0;
    while (n < 3) {
        options.name = names[n];
        int flags = n == 2 ? MLPY_WRITABLE : no_array ? MLPY_LISTS : MLPY_SCALARS;
        int failed = mlpy_operand_get(st, objects[n], &options, flags, &operands[n]);
        n++;
        if (failed)
            goto done;
    }
    for (int i = 0; i < 2; i++) {
        if (!operands[i].t && !operands[i].is_value) {
            mlpy_fail(st, ML_ERR_DTYPE, "%s: None is no array", names[i]);
            goto done;
        }
    }
    const ml_binary_args args = {.kind = call->kind,
                                 .a = operands[0].t,
                                 .b = operands[1].t,
                                 .a_value = operands[0].is_value ? operands[0].value : 0,
                                 .b_value = operands[1].is_value ? operands[1].value : 0};
    ml_tensor *out = operands[2].t;
    ml_status status = call_binary(ctx, &args, &out);
    if (status != ML_OK)
        mlpy_raise(st, status);
    else
        result = operands[2].t ? Py_NewRef(call->out) : mlpy_tensor_wrap(st, out);
done:
    while (n > 0)
        mlpy_operand_clear(&operands[--n]);
    return result;
}

/* An operand of an operator; anything else makes Python ask the other side. */
static bool is_operand(mlpy_state *st, PyObject *o) {
    return mlpy_is_tensor(o) || mlpy_is_scalar(st, o) || mlpy_is_array_like(st, o);
}

static PyObject *operate(ml_binary_kind kind, PyObject *a, PyObject *b) {
    mlpy_state *st = mlpy_state_of(mlpy_is_tensor(a) ? a : b);
    if (!is_operand(st, a) || !is_operand(st, b))
        Py_RETURN_NOTIMPLEMENTED;
    return mlpy_binary(st, &(mlpy_binary_call){.kind = kind, .a = a, .b = b});
}

/* self op= other: into self, whose dtype stays; the core refuses what an integer dtype cannot keep. */
static PyObject *operate_in_place(ml_binary_kind kind, PyObject *self, PyObject *other) {
    mlpy_state *st = mlpy_state_of(self);
    if (!is_operand(st, other))
        Py_RETURN_NOTIMPLEMENTED;
    return mlpy_binary(st, &(mlpy_binary_call){.kind = kind, .a = self, .b = other, .out = self});
}

#define MLPY_OPERATOR(name, kind)                                                                                      \
    PyObject *mlpy_nb_##name(PyObject *a, PyObject *b) {                                                               \
        return operate(kind, a, b);                                                                                    \
    }                                                                                                                  \
    PyObject *mlpy_nb_inplace_##name(PyObject *a, PyObject *b) {                                                       \
        return operate_in_place(kind, a, b);                                                                           \
    }
MLPY_OPERATOR(add, ML_ADD)
MLPY_OPERATOR(subtract, ML_SUB)
MLPY_OPERATOR(multiply, ML_MUL)
MLPY_OPERATOR(divide, ML_DIV)

PyObject *mlpy_nb_matmul(PyObject *a, PyObject *b) {
    mlpy_state *st = mlpy_state_of(mlpy_is_tensor(a) ? a : b);
    if (!mlpy_is_array_like(st, a) || !mlpy_is_array_like(st, b))
        Py_RETURN_NOTIMPLEMENTED;
    return mlpy_matmul_plain(st, a, b);
}

/* The product goes to memory of its own first, since it may not overlap its operands. */
PyObject *mlpy_nb_inplace_matmul(PyObject *a, PyObject *b) {
    mlpy_state *st = mlpy_state_of(a);
    if (!mlpy_is_array_like(st, b))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *product = mlpy_matmul_plain(st, a, b);
    if (!product)
        return NULL;
    ml_shape shape = ml_view_shape(&mlpy_tensor_of(a)->view), got = ml_view_shape(&mlpy_tensor_of(product)->view);
    bool same = shape.ndim == got.ndim;
    for (int i = 0; same && i < shape.ndim; i++)
        same = shape.dims[i] == got.dims[i];
    int failed = -1;
    if (same) {
        failed = mlpy_assign_all(a, product);
    } else {
        char left[ML_FORMAT_MAX], right[ML_FORMAT_MAX];
        mlpy_fail(st, ML_ERR_SHAPE, "in-place: a product of shape %s does not go into a tensor of shape %s",
                  ml_shape_format(&got, right, sizeof right), ml_shape_format(&shape, left, sizeof left));
    }
    Py_DECREF(product);
    return failed ? NULL : Py_NewRef(a);
}

PyObject *mlpy_richcompare(PyObject *a, PyObject *b, int op) {
    if (op != Py_EQ && op != Py_NE)
        Py_RETURN_NOTIMPLEMENTED;
    return operate(op == Py_EQ ? ML_EQUAL : ML_NOT_EQUAL, a, b);
}
