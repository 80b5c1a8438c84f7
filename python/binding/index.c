/* Basic indexing (integers, slices, ..., None: always views), assignment, iteration, nested lists. */
#include "mlpy.h"

/* Walks one index into view. */
typedef struct index_walk {
    mlpy_state *st;
    const ml_view *in;
    ml_view out;
    int axis; /* next axis of in */
} index_walk;

static int push_dim(index_walk *w, int64_t dim, int64_t stride) {
    if (w->out.ndim == ML_MAX_DIMS) {
        PyErr_Format(PyExc_IndexError, "index: more than %d dimensions", ML_MAX_DIMS);
        return -1;
    }
    w->out.shape[w->out.ndim] = dim;
    w->out.strides[w->out.ndim] = stride;
    w->out.ndim++;
    return 0;
}

static void move_offset(index_walk *w, int64_t elements) {
    w->out.offset += elements * (int64_t)ml_dtype_size(w->in->dtype);
}

static int index_integer(index_walk *w, Py_ssize_t i) {
    int64_t dim = w->in->shape[w->axis];
    if (i < -dim || i >= dim) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of range for axis %d of size %lld", i, w->axis,
                     (long long)dim);
        return -1;
    }
    move_offset(w, (i < 0 ? i + dim : i) * w->in->strides[w->axis]);
    w->axis++;
    return 0;
}

static int index_slice(index_walk *w, PyObject *slice) {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return -1;
    Py_ssize_t count = PySlice_AdjustIndices((Py_ssize_t)w->in->shape[w->axis], &start, &stop, step);
    int64_t stride = w->in->strides[w->axis];
    w->axis++;
    /* A step that no second element uses may be anything: keep it from overflowing. */
    if (count > 0)
        move_offset(w, start * stride);
    return push_dim(w, count, count > 1 ? stride * step : stride);
}

static int index_rest(index_walk *w, int n) {
    for (; n > 0; n--, w->axis++) {
        if (push_dim(w, w->in->shape[w->axis], w->in->strides[w->axis]) < 0)
            return -1;
    }
    return 0;
}

static int index_one(index_walk *w, PyObject *item) {
    if (item == Py_None)
        return push_dim(w, 1, 0);
    if (PySlice_Check(item))
        return index_slice(w, item);
    if (PyIndex_Check(item) && !PyBool_Check(item) && !mlpy_is_tensor(item)) {
        Py_ssize_t i = PyNumber_AsSsize_t(item, PyExc_IndexError);
        return i == -1 && PyErr_Occurred() ? -1 : index_integer(w, i);
    }
    PyErr_Format(PyExc_TypeError, "index: only integers, slices, ... and None are supported, not %.100s",
                 Py_TYPE(item)->tp_name);
    return -1;
}

/* The view that key selects, as a new reference. */
static int select_view(PyObject *self, PyObject *key, ml_view *out) {
    const ml_view *in = &mlpy_tensor_of(self)->view;
    index_walk w = {.st = mlpy_state_of(self), .in = in};
    w.out = *in;
    w.out.ndim = 0;
    bool is_tuple = PyTuple_Check(key);
    Py_ssize_t n = is_tuple ? PyTuple_GET_SIZE(key) : 1;
    int used = 0, ellipses = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = is_tuple ? PyTuple_GET_ITEM(key, i) : key;
        ellipses += item == Py_Ellipsis;
        used += item != Py_Ellipsis && item != Py_None;
    }
    if (ellipses > 1) {
        PyErr_SetString(PyExc_IndexError, "index: more than one ellipsis");
        return -1;
    }
    if (used > in->ndim) {
        PyErr_Format(PyExc_IndexError, "index: %d indices for a tensor of %d dimension%s", used, in->ndim,
                     in->ndim == 1 ? "" : "s");
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = is_tuple ? PyTuple_GET_ITEM(key, i) : key;
        if ((item == Py_Ellipsis ? index_rest(&w, in->ndim - used) : index_one(&w, item)) < 0)
            return -1;
    }
    if (index_rest(&w, in->ndim - w.axis) < 0)
        return -1;
    *out = w.out;
    return 0;
}

static PyObject *wrap(PyObject *self, const ml_view *view) {
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_from_view(view, &t);
    return mlpy_tensor_result(mlpy_state_of(self), status, t);
}

PyObject *mlpy_subscript(PyObject *self, PyObject *key) {
    ml_view view;
    return select_view(self, key, &view) < 0 ? NULL : wrap(self, &view);
}

Py_ssize_t mlpy_length(PyObject *self) {
    const ml_view *v = &mlpy_tensor_of(self)->view;
    if (v->ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
        return -1;
    }
    return (Py_ssize_t)v->shape[0];
}

PyObject *mlpy_item_at(PyObject *self, Py_ssize_t index) {
    const ml_view *in = &mlpy_tensor_of(self)->view;
    index_walk w = {.st = mlpy_state_of(self), .in = in};
    w.out = *in;
    w.out.ndim = 0;
    if (in->ndim == 0) {
        PyErr_SetString(PyExc_IndexError, "index: 1 index for a tensor of 0 dimensions");
        return NULL;
    }
    /* Negative indices have been made positive by the caller (sq_item); what is still negative is out of range. */
    if (index < 0) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of range for axis 0 of size %lld", index,
                     (long long)in->shape[0]);
        return NULL;
    }
    if (index_integer(&w, index) < 0 || index_rest(&w, in->ndim - 1) < 0)
        return NULL;
    return wrap(self, &w.out);
}

PyObject *mlpy_iter(PyObject *self) {
    if (mlpy_tensor_of(self)->view.ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "iteration over a 0-d tensor");
        return NULL;
    }
    return PySeqIter_New(self);
}

/* view[...] = value, broadcast and cast. */
static int assign(mlpy_state *st, ml_tensor *dst, PyObject *value) {
    ml_context *ctx = mlpy_context_of_tensor(st, dst);
    if (!ctx)
        return -1;
    ml_status status;
    if (mlpy_is_scalar(st, value)) {
        double number;
        if (mlpy_arg_double(value, "value", &number) < 0)
            return -1;
        status = ml_fill(ctx, dst, number);
    } else {
        const mlpy_import_options options = {.ctx = ctx, .name = "value", .dtype = -1, .copy = -1};
        mlpy_operand src;
        int failed = mlpy_operand_get(st, value, &options, 0, &src);
        if (failed || !src.t) {
            mlpy_operand_clear(&src);
            if (!failed)
                mlpy_fail(st, ML_ERR_DTYPE, "value: None is no array");
            return -1;
        }
        if (mlpy_is_long(0, ml_view_size(&dst->view) * 4)) {
            Py_BEGIN_ALLOW_THREADS
            status = ml_copy(ctx, src.t, dst);
            Py_END_ALLOW_THREADS
        } else {
            status = ml_copy(ctx, src.t, dst);
        }
        mlpy_operand_clear(&src);
    }
    if (status == ML_OK)
        return 0;
    mlpy_raise(st, status);
    return -1;
}

int mlpy_ass_subscript(PyObject *self, PyObject *key, PyObject *value) {
    mlpy_state *st = mlpy_state_of(self);
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "elements of a tensor cannot be deleted");
        return -1;
    }
    mlpy_enter(st);
    ml_view view;
    ml_tensor *dst = NULL;
    if (select_view(self, key, &view) < 0)
        return -1;
    ml_status status = ml_tensor_from_view(&view, &dst);
    if (status != ML_OK) {
        mlpy_raise(st, status);
        return -1;
    }
    int result = assign(st, dst, value);
    ml_tensor_release(dst);
    return result;
}

/* ---- nested lists ------------------------------------------------------------------------------------------------ */

static PyObject *element(ml_dtype dtype, const char *p) {
    double value = ml_load_element(dtype, p);
    if (dtype == ML_BOOL)
        return PyBool_FromLong(value != 0);
    return ml_dtype_is_float(dtype) ? PyFloat_FromDouble(value) : PyLong_FromLong((long)value);
}

static PyObject *list_of(const ml_view *v, int axis, const char *p) {
    if (axis == v->ndim)
        return element(v->dtype, p);
    PyObject *list = PyList_New((Py_ssize_t)v->shape[axis]);
    int64_t step = v->strides[axis] * (int64_t)ml_dtype_size(v->dtype);
    for (int64_t i = 0; list && i < v->shape[axis]; i++) {
        PyObject *item = list_of(v, axis + 1, p + i * step);
        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

PyObject *mlpy_tolist(PyObject *self, PyObject *ignored) {
    const ml_tensor *t = mlpy_tensor_of(self);
    void *data = NULL;
    ml_status status = ml_tensor_data(t, &data);
    if (status != ML_OK)
        return mlpy_raise(mlpy_state_of(self), status);
    return list_of(&t->view, 0, data);
}

int mlpy_assign_all(PyObject *self, PyObject *value) {
    return assign(mlpy_state_of(self), mlpy_tensor_of(self), value);
}
