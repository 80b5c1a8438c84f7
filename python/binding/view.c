/* Views of a tensor: the same memory under another shape or order of axes. */
#include "mlpy.h"

/* Wraps a view of t's buffer. */
static PyObject *wrap_view(mlpy_state *st, const ml_view *view) {
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_from_view(view, &t);
    return status == ML_OK ? mlpy_tensor_wrap(st, t) : mlpy_raise(st, status);
}

PyObject *mlpy_get_t(PyObject *self, void *closure) {
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_transpose(mlpy_tensor_of(self), NULL, &t);
    return mlpy_tensor_result(mlpy_state_of(self), status, t);
}

static PyObject *swap(PyObject *self, int a, int b) {
    ml_view v = mlpy_tensor_of(self)->view;
    int64_t dim = v.shape[a], stride = v.strides[a];
    v.shape[a] = v.shape[b];
    v.strides[a] = v.strides[b];
    v.shape[b] = dim;
    v.strides[b] = stride;
    return wrap_view(mlpy_state_of(self), &v);
}

PyObject *mlpy_get_mt(PyObject *self, void *closure) {
    int ndim = mlpy_tensor_of(self)->view.ndim;
    if (ndim < 2)
        return mlpy_fail(mlpy_state_of(self), ML_ERR_SHAPE, "mT: a tensor of %d dimension%s has no matrix to transpose",
                         ndim, ndim == 1 ? "" : "s");
    return swap(self, ndim - 2, ndim - 1);
}

/* ---- shapes and axes from Python --------------------------------------------------------------------------------- */

static int dim_from(mlpy_state *st, PyObject *item, int64_t lowest, int64_t *out) {
    if (mlpy_arg_int64(item, "shape", out) < 0)
        return -1;
    if (*out < lowest) {
        mlpy_fail(st, ML_ERR_SHAPE, "shape: %lld is no dimension", (long long)*out);
        return -1;
    }
    return 0;
}

static int dims_from(mlpy_state *st, PyObject *const *items, Py_ssize_t n, int64_t lowest, ml_shape *out) {
    if (n > ML_MAX_DIMS) {
        mlpy_fail(st, ML_ERR_SHAPE, "shape: %zd dimensions, at most %d are possible", n, ML_MAX_DIMS);
        return -1;
    }
    out->ndim = (int)n;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (dim_from(st, items[i], lowest, &out->dims[i]) < 0)
            return -1;
    }
    return 0;
}

int mlpy_shape_from(mlpy_state *st, PyObject *obj, int64_t lowest, ml_shape *out) {
    if (PyIndex_Check(obj)) {
        out->ndim = 1;
        return dim_from(st, obj, lowest, &out->dims[0]);
    }
    PyObject *fast = PySequence_Fast(obj, "shape must be an integer or a sequence of integers");
    if (!fast)
        return -1;
    int result = dims_from(st, PySequence_Fast_ITEMS(fast), PySequence_Fast_GET_SIZE(fast), lowest, out);
    Py_DECREF(fast);
    return result;
}

/* f(2, 3), f((2, 3)), f([2, 3]). */
static int dims_from_args(mlpy_state *st, PyObject *const *args, Py_ssize_t nargs, int64_t lowest, ml_shape *out) {
    if (nargs == 1 && !PyIndex_Check(args[0]))
        return mlpy_shape_from(st, args[0], lowest, out);
    return dims_from(st, args, nargs, lowest, out);
}

/* An axis in [-n, n) as one in [0, n). */
static int axis_from(mlpy_state *st, PyObject *obj, int n, int *out) {
    int64_t axis = 0;
    if (mlpy_arg_int64(obj, "axis", &axis) < 0)
        return -1;
    if (axis < -n || axis >= n) {
        mlpy_fail(st, ML_ERR_SHAPE, "axis %lld is out of range for %d dimensions", (long long)axis, n);
        return -1;
    }
    *out = (int)(axis < 0 ? axis + n : axis);
    return 0;
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

const char mlpy_reshape_doc[] =
    "reshape($self, /, *shape)\n--\n\n"
    "The same elements in row-major order under another shape; one dimension may be -1.\n"
    "\n"
    "A view where the strides allow one, else a new tensor. ShapeError when the sizes differ.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.zeros((2, 3)).reshape(3, -1).shape\n"
    "(3, 2)\n";

/* Replaces one -1 by what is left; false when the sizes differ. */
static bool resolve_shape(int64_t size, ml_shape *shape) {
    int64_t known = 1;
    int unknown = -1;
    for (int i = 0; i < shape->ndim; i++) {
        if (shape->dims[i] >= 0) {
            if (__builtin_mul_overflow(known, shape->dims[i], &known))
                return false;
        } else if (unknown >= 0) {
            return false;
        } else {
            unknown = i;
        }
    }
    if (unknown < 0)
        return known == size;
    if (known == 0 || size % known != 0)
        return false;
    shape->dims[unknown] = size / known;
    return true;
}

PyObject *mlpy_reshape(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    mlpy_state *st = mlpy_state_of(self);
    const ml_tensor *t = mlpy_tensor_of(self);
    ml_shape shape;
    if (dims_from_args(st, args, nargs, -1, &shape) < 0)
        return NULL;
    if (!resolve_shape(ml_view_size(&t->view), &shape)) {
        char from[ML_FORMAT_MAX], to[ML_FORMAT_MAX];
        return mlpy_fail(st, ML_ERR_SHAPE, "reshape: %s does not fit into shape %s",
                         ml_view_format(&t->view, from, sizeof from), ml_shape_format(&shape, to, sizeof to));
    }
    ml_tensor *view = NULL, *copy = NULL;
    if (ml_tensor_reshape(t, &shape, &view) == ML_OK)
        return mlpy_tensor_wrap(st, view);
    ml_status status = ml_cast(mlpy_context_of_tensor(st, t), t, t->view.dtype, &copy);
    if (status == ML_OK) {
        status = ml_tensor_reshape(copy, &shape, &view);
        ml_tensor_release(copy);
    }
    return mlpy_tensor_result(st, status, view);
}

const char mlpy_transpose_doc[] = "transpose($self, /, *axes)\n--\n\n"
                                  "View with the axes in the given order; reversed when none are given.\n"
                                  "\n"
                                  "ShapeError unless axes is a permutation.\n"
                                  "\n"
                                  ">>> import metallic as ml\n"
                                  ">>> ml.zeros((2, 3, 4)).transpose(1, 0, 2).shape\n"
                                  "(3, 2, 4)\n";

PyObject *mlpy_transpose(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    mlpy_state *st = mlpy_state_of(self);
    const ml_view *v = &mlpy_tensor_of(self)->view;
    if (nargs == 0 || (nargs == 1 && args[0] == Py_None))
        return mlpy_get_t(self, NULL);
    ml_shape given;
    if (dims_from_args(st, args, nargs, INT64_MIN, &given) < 0)
        return NULL;
    int axes[ML_MAX_DIMS];
    unsigned seen = 0;
    bool good = given.ndim == v->ndim;
    for (int i = 0; good && i < v->ndim; i++) {
        int64_t axis = given.dims[i] < 0 ? given.dims[i] + v->ndim : given.dims[i];
        good = axis >= 0 && axis < v->ndim && !(seen & (1u << axis));
        axes[i] = (int)(good ? axis : 0);
        seen |= 1u << axes[i];
    }
    if (!good) {
        char text[ML_FORMAT_MAX];
        return mlpy_fail(st, ML_ERR_SHAPE, "transpose: axes %s are no permutation of the %d dimensions",
                         ml_shape_format(&given, text, sizeof text), v->ndim);
    }
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_transpose(mlpy_tensor_of(self), axes, &t);
    return mlpy_tensor_result(st, status, t);
}

const char mlpy_swapaxes_doc[] = "swapaxes($self, /, a, b)\n--\n\n"
                                 "View with two axes exchanged; ShapeError for an axis out of range.\n"
                                 "\n"
                                 ">>> import metallic as ml\n"
                                 ">>> ml.zeros((2, 3, 4)).swapaxes(0, -1).shape\n"
                                 "(4, 3, 2)\n";

PyObject *mlpy_swapaxes(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"swapaxes", 2, 0, 2, 2, {MLPY_S_a, MLPY_S_b}};
    mlpy_state *st = mlpy_state_of(self);
    PyObject *v[2];
    int ndim = mlpy_tensor_of(self)->view.ndim, a, b;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || axis_from(st, v[0], ndim, &a) < 0 ||
        axis_from(st, v[1], ndim, &b) < 0)
        return NULL;
    return swap(self, a, b);
}

const char mlpy_broadcast_to_doc[] =
    "broadcast_to($self, /, shape)\n--\n\n"
    "View that repeats axes of size 1 (stride 0) and adds leading ones; ShapeError when it does not fit.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.ones(3).broadcast_to((2, 3)).strides\n"
    "(0, 4)\n";

PyObject *mlpy_broadcast_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"broadcast_to", 1, 0, 1, 1, {MLPY_S_shape}};
    mlpy_state *st = mlpy_state_of(self);
    PyObject *v[1];
    ml_shape shape;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_shape_from(st, v[0], 0, &shape) < 0)
        return NULL;
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_broadcast_to(mlpy_tensor_of(self), &shape, &t);
    return mlpy_tensor_result(st, status, t);
}

const char mlpy_squeeze_doc[] =
    "squeeze($self, /, axis=None)\n--\n\n"
    "View without one axis of size 1 (ShapeError when its size differs), or without all of them.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.zeros((1, 3, 1)).squeeze().shape, ml.zeros((1, 3, 1)).squeeze(0).shape\n"
    "((3,), (3, 1))\n";

PyObject *mlpy_squeeze(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"squeeze", 1, 0, 1, 0, {MLPY_S_axis}};
    mlpy_state *st = mlpy_state_of(self);
    const ml_view *view = &mlpy_tensor_of(self)->view;
    PyObject *v[1];
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0)
        return NULL;
    int axis = ML_ALL_AXES;
    if (v[0] && v[0] != Py_None && axis_from(st, v[0], view->ndim, &axis) < 0)
        return NULL;
    ml_view out;
    ml_status status = ml_view_squeeze(view, axis, &out);
    return status == ML_OK ? wrap_view(st, &out) : mlpy_raise(st, status);
}

const char mlpy_expand_dims_doc[] = "expand_dims($self, /, axis)\n--\n\n"
                                    "View with a new axis of size 1 at position axis of the result.\n"
                                    "\n"
                                    ">>> import metallic as ml\n"
                                    ">>> ml.zeros((2, 3)).expand_dims(-1).shape\n"
                                    "(2, 3, 1)\n";

PyObject *mlpy_expand_dims(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"expand_dims", 1, 0, 1, 1, {MLPY_S_axis}};
    mlpy_state *st = mlpy_state_of(self);
    const ml_view *view = &mlpy_tensor_of(self)->view;
    PyObject *v[1];
    int axis;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || axis_from(st, v[0], view->ndim + 1, &axis) < 0)
        return NULL;
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_expand_dims(mlpy_tensor_of(self), axis, &t);
    return mlpy_tensor_result(st, status, t);
}
