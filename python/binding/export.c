/* Tensors out: buffer protocol, NumPy, pickling, repr. */
#include "mlpy.h"

#include <string.h>

/* ---- buffer protocol --------------------------------------------------------------------------------------------- */

typedef struct exported {
    Py_ssize_t shape[ML_MAX_DIMS], strides[ML_MAX_DIMS];
} exported;

static bool is_fortran_contiguous(const ml_view *v) {
    int64_t expected = 1;
    for (int i = 0; i < v->ndim; i++) {
        if (v->shape[i] == 0)
            return true;
        if (v->shape[i] != 1 && v->strides[i] != expected)
            return false;
        expected *= v->shape[i];
    }
    return true;
}

static bool layout_fits(const ml_view *v, int flags) {
    bool c = ml_view_is_contiguous(v);
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES || (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS)
        return c;
    if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS)
        return c || is_fortran_contiguous(v);
    return (flags & PyBUF_F_CONTIGUOUS) != PyBUF_F_CONTIGUOUS || is_fortran_contiguous(v);
}

/* Exports t on behalf of self. */
static int fill_buffer(PyObject *self, Py_buffer *view, int flags, const char *format) {
    const ml_tensor *t = mlpy_tensor_of(self);
    const ml_view *v = &t->view;
    view->obj = NULL;
    bool read_only = atomic_load(&v->buf->flags) & ML_BUF_READ_ONLY;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE && read_only) {
        PyErr_SetString(PyExc_BufferError, "tensor is read-only");
        return -1;
    }
    if (!layout_fits(v, flags)) {
        PyErr_SetString(PyExc_BufferError, "tensor is not contiguous in the order asked for");
        return -1;
    }
    ml_status status = ml_tensor_data(t, &view->buf);
    if (status != ML_OK) {
        PyErr_SetString(PyExc_BufferError, ml_last_error());
        return -1;
    }
    exported *e = PyMem_Malloc(sizeof *e);
    if (!e) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t itemsize = (Py_ssize_t)ml_dtype_size(v->dtype);
    for (int i = 0; i < v->ndim; i++) {
        e->shape[i] = (Py_ssize_t)v->shape[i];
        e->strides[i] = (Py_ssize_t)v->strides[i] * itemsize;
    }
    view->obj = Py_NewRef(self);
    view->len = (Py_ssize_t)ml_view_size(v) * itemsize;
    view->itemsize = itemsize;
    view->readonly = read_only;
    view->ndim = v->ndim;
    view->format = flags & PyBUF_FORMAT ? (char *)format : NULL;
    view->shape = flags & PyBUF_ND ? e->shape : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? e->strides : NULL;
    view->suboffsets = NULL;
    view->internal = e;
    atomic_fetch_or(&v->buf->flags, ML_BUF_EXPORTED);
    return 0;
}

int mlpy_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    static const char *const formats[ML_DTYPE_COUNT] = {
        [ML_F32] = "f", [ML_F16] = "e", [ML_I32] = "i", [ML_U8] = "B", [ML_BOOL] = "?"};
    const char *format = formats[mlpy_tensor_of(self)->view.dtype];
    if (!format) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "the buffer protocol has no bfloat16: use numpy() or DLPack");
        return -1;
    }
    return fill_buffer(self, view, flags, format);
}

void mlpy_releasebuffer(PyObject *self, Py_buffer *view) {
    PyMem_Free(view->internal);
    view->internal = NULL;
}

/* The 16-bit patterns of a bfloat16 tensor, from which NumPy makes a view of ml_dtypes.bfloat16. */
static int raw_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    return fill_buffer(self, view, flags, "H");
}

static void raw_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ml_tensor_release(mlpy_tensor_of(self));
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot raw_slots[] = {
    {Py_tp_dealloc, raw_dealloc},
    {Py_bf_getbuffer, raw_getbuffer},
    {Py_bf_releasebuffer, mlpy_releasebuffer},
    {0, NULL},
};

PyType_Spec mlpy_raw_spec = {
    .name = "metallic._core._Bits16",
    .basicsize = sizeof(mlpy_tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = raw_slots,
};

/* ---- NumPy ------------------------------------------------------------------------------------------------------- */

static PyObject *bfloat16_array(PyObject *self) {
    mlpy_state *st = mlpy_state_of(self);
    PyObject *ml_dtypes = mlpy_module(st, MLPY_S_ml_dtypes);
    if (!ml_dtypes) {
        if (PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
            mlpy_fail(st, ML_ERR_DTYPE, "numpy: NumPy has no bfloat16 of its own and ml_dtypes is not installed");
        }
        return NULL;
    }
    PyObject *result = NULL, *bits = NULL;
    PyObject *bfloat16 = PyObject_GetAttr(ml_dtypes, st->names[MLPY_S_bfloat16]);
    mlpy_tensor *raw = bfloat16 ? PyObject_New(mlpy_tensor, st->raw_type) : NULL;
    if (raw) {
        raw->t = mlpy_tensor_of(self);
        ml_tensor_retain(raw->t);
        bits = mlpy_numpy_asarray(st, (PyObject *)raw);
        Py_DECREF(raw);
    }
    if (bits)
        result = PyObject_CallMethodOneArg(bits, st->names[MLPY_S_view], bfloat16);
    Py_XDECREF(bits);
    Py_XDECREF(bfloat16);
    Py_DECREF(ml_dtypes);
    return result;
}

/* A NumPy array over self's memory. */
static PyObject *shared_array(PyObject *self) {
    if (mlpy_tensor_of(self)->view.dtype == ML_BF16)
        return bfloat16_array(self);
    PyObject *view = PyMemoryView_FromObject(self);
    PyObject *array = view ? mlpy_numpy_asarray(mlpy_state_of(self), view) : NULL;
    Py_XDECREF(view);
    return array;
}

/* array, copied when asked; takes the reference. */
static PyObject *maybe_copy(const mlpy_state *st, PyObject *array, int copy) {
    if (!array || copy != 1)
        return array;
    PyObject *copied = PyObject_CallMethodNoArgs(array, st->names[MLPY_S_copy]);
    Py_DECREF(array);
    return copied;
}

PyObject *mlpy_numpy(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"numpy", 1, 0, 0, 0, {MLPY_S_copy}};
    mlpy_state *st = mlpy_state_of(self);
    PyObject *v[1];
    int copy;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_arg_copy(v[0], &copy) < 0)
        return NULL;
    return maybe_copy(st, shared_array(self), copy);
}

/* Whether array has the dtype already. */
static int has_dtype(mlpy_state *st, PyObject *array, PyObject *dtype) {
    PyObject *own = PyObject_GetAttr(array, st->names[MLPY_S_dtype]);
    int same = own ? PyObject_RichCompareBool(own, dtype, Py_EQ) : -1;
    Py_XDECREF(own);
    return same;
}

PyObject *mlpy_array_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"__array__", 2, 0, 2, 0, {MLPY_S_dtype, MLPY_S_copy}};
    mlpy_state *st = mlpy_state_of(self);
    PyObject *v[2];
    int copy;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_arg_copy(v[1], &copy) < 0)
        return NULL;
    PyObject *array = shared_array(self);
    if (!array || !v[0] || v[0] == Py_None)
        return maybe_copy(st, array, copy);
    int same = has_dtype(st, array, v[0]);
    PyObject *result = NULL;
    if (same > 0)
        return maybe_copy(st, array, copy);
    if (same == 0 && copy == 0)
        PyErr_Format(PyExc_ValueError, "__array__: dtype %S needs a copy (copy=False)", v[0]);
    else if (same == 0)
        result = PyObject_CallMethodOneArg(array, st->names[MLPY_S_astype], v[0]);
    Py_DECREF(array);
    return result;
}

/* ---- pickling ---------------------------------------------------------------------------------------------------- */

PyObject *mlpy_reduce(PyObject *self, PyObject *ignored) {
    mlpy_state *st = mlpy_state_of(self);
    ml_tensor *t = mlpy_tensor_of(self), *contiguous = NULL;
    ml_status status;
    if (ml_view_is_contiguous(&t->view)) {
        ml_tensor_retain(t);
        contiguous = t;
    } else {
        status = ml_cast(mlpy_context_of_tensor(st, t), t, t->view.dtype, &contiguous);
        if (status != ML_OK)
            return mlpy_raise(st, status);
    }
    void *data = NULL;
    PyObject *result = NULL, *bytes = NULL, *shape = NULL, *rebuild = NULL;
    status = ml_tensor_data(contiguous, &data);
    if (status != ML_OK) {
        mlpy_raise(st, status);
        goto done;
    }
    bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)(ml_tensor_size(t) * (int64_t)ml_dtype_size(t->view.dtype)));
    shape = bytes ? mlpy_tuple_from(t->view.shape, t->view.ndim, 1) : NULL;
    rebuild = shape ? PyObject_GetAttr(PyType_GetModule(Py_TYPE(self)), st->names[MLPY_S__rebuild]) : NULL;
    if (rebuild)
        result = Py_BuildValue("O(OOO)", rebuild, bytes, shape, st->dtypes[t->view.dtype]);
done:
    Py_XDECREF(rebuild);
    Py_XDECREF(shape);
    Py_XDECREF(bytes);
    ml_tensor_release(contiguous);
    return result;
}

/* ---- repr -------------------------------------------------------------------------------------------------------- */

/* NumPy prints the elements, so the print options that people know apply; bfloat16 is widened for it. */
static PyObject *elements_text(PyObject *self) {
    const mlpy_state *st = mlpy_state_of(self);
    PyObject *source = NULL, *array = NULL, *numpy = NULL, *print = NULL, *args = NULL, *kw = NULL, *text = NULL;
    if (mlpy_tensor_of(self)->view.dtype == ML_BF16)
        source = PyObject_CallMethodOneArg(self, st->names[MLPY_S_astype], st->dtypes[ML_F32]);
    else
        source = Py_NewRef(self);
    array = source ? shared_array(source) : NULL;
    numpy = array ? mlpy_module(st, MLPY_S_numpy) : NULL;
    print = numpy ? PyObject_GetAttr(numpy, st->names[MLPY_S_array2string]) : NULL;
    args = print ? PyTuple_Pack(1, array) : NULL;
    kw = args ? Py_BuildValue("{ssss}", "separator", ", ", "prefix", "Tensor(") : NULL;
    if (kw)
        text = PyObject_Call(print, args, kw);
    Py_XDECREF(kw);
    Py_XDECREF(args);
    Py_XDECREF(print);
    Py_XDECREF(numpy);
    Py_XDECREF(array);
    Py_XDECREF(source);
    return text;
}

PyObject *mlpy_repr(PyObject *self) {
    const ml_view *v = &mlpy_tensor_of(self)->view;
    const char *name = v->dtype == ML_BOOL ? "bool_" : ml_dtype_name(v->dtype), *device = v->buf->device->name;
    bool empty = ml_view_size(v) == 0;
    PyObject *middle = empty ? PyObject_GetAttr(self, mlpy_state_of(self)->names[MLPY_S_shape]) : elements_text(self);
    if (!middle)
        return NULL;
    PyObject *result;
    if (strcmp(device, "cpu") == 0)
        result = PyUnicode_FromFormat(empty ? "Tensor([], shape=%S, dtype=%s)" : "Tensor(%S, dtype=%s)", middle, name);
    else
        result = PyUnicode_FromFormat(empty ? "Tensor([], shape=%S, dtype=%s, device='%s')"
                                            : "Tensor(%S, dtype=%s, device='%s')",
                                      middle, name, device);
    Py_DECREF(middle);
    return result;
}

PyObject *mlpy_is_read_only(PyObject *module, PyObject *tensor) {
    (void)module;
    if (!mlpy_is_tensor(tensor))
        return PyErr_Format(PyExc_TypeError, "%s is no tensor", Py_TYPE(tensor)->tp_name);
    return PyBool_FromLong(atomic_load(&mlpy_tensor_of(tensor)->view.buf->flags) & ML_BUF_READ_ONLY);
}
