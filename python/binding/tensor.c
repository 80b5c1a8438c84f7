/* Tensor: attributes, views, copies. Indexing is in index.c, arithmetic in operators.c, the ways out in export.c. */
#include "mlpy.h"

#include <stddef.h>
#include <structmember.h>

PyObject *mlpy_tensor_wrap(mlpy_state *st, ml_tensor *t) {
    mlpy_tensor *self = PyObject_New(mlpy_tensor, st->tensor_type);
    if (!self) {
        ml_tensor_release(t);
        return NULL;
    }
    self->t = t;
    self->weakrefs = NULL;
    return (PyObject *)self;
}

PyObject *mlpy_tensor_result(mlpy_state *st, ml_status status, ml_tensor *t) {
    return status == ML_OK ? mlpy_tensor_wrap(st, t) : mlpy_raise(st, status);
}

void mlpy_tensor_dealloc(PyObject *self) {
    mlpy_tensor *tensor = (mlpy_tensor *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (tensor->weakrefs)
        PyObject_ClearWeakRefs(self);
    ml_tensor_release(tensor->t);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *mlpy_tuple_from(const int64_t *values, int n, int64_t factor) {
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *item = PyLong_FromLongLong(values[i] * factor);
        if (!item)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

/* ---- attributes -------------------------------------------------------------------------------------------------- */

static PyObject *get_shape(PyObject *self, void *closure) {
    const ml_view *v = &mlpy_tensor_of(self)->view;
    return mlpy_tuple_from(v->shape, v->ndim, 1);
}

static PyObject *get_strides(PyObject *self, void *closure) {
    const ml_view *v = &mlpy_tensor_of(self)->view;
    return mlpy_tuple_from(v->strides, v->ndim, (int64_t)ml_dtype_size(v->dtype));
}

static PyObject *get_ndim(PyObject *self, void *closure) {
    return PyLong_FromLong(mlpy_tensor_of(self)->view.ndim);
}

static PyObject *get_size(PyObject *self, void *closure) {
    return PyLong_FromLongLong(ml_view_size(&mlpy_tensor_of(self)->view));
}

static PyObject *get_nbytes(PyObject *self, void *closure) {
    const ml_view *v = &mlpy_tensor_of(self)->view;
    return PyLong_FromLongLong(ml_view_size(v) * (int64_t)ml_dtype_size(v->dtype));
}

static PyObject *get_dtype(PyObject *self, void *closure) {
    return mlpy_dtype_object(mlpy_state_of(self), mlpy_tensor_of(self)->view.dtype);
}

static PyObject *get_device(PyObject *self, void *closure) {
    return PyUnicode_FromString(mlpy_tensor_of(self)->view.buf->device->name);
}

/* NumPy's operators hand over to ours when they meet a tensor: a higher priority and no __array_ufunc__. */
static PyObject *get_array_priority(PyObject *self, void *closure) {
    return PyFloat_FromDouble(1000.0);
}

static PyGetSetDef tensor_getset[] = {
    {"shape", get_shape, NULL, PyDoc_STR("Elements along each axis."), NULL},
    {"strides", get_strides, NULL, PyDoc_STR("Bytes between neighbours along each axis; may be zero or negative."),
     NULL},
    {"ndim", get_ndim, NULL, PyDoc_STR("Number of axes, at most 8."), NULL},
    {"size", get_size, NULL, PyDoc_STR("Number of elements."), NULL},
    {"nbytes", get_nbytes, NULL, PyDoc_STR("size times the bytes of an element."), NULL},
    {"dtype", get_dtype, NULL, PyDoc_STR("The element type."), NULL},
    {"device", get_device, NULL, PyDoc_STR("Name of the device that holds the memory: 'cpu', ..."), NULL},
    {"T", mlpy_get_t, NULL, PyDoc_STR("View with all axes reversed."), NULL},
    {"mT", mlpy_get_mt, NULL, PyDoc_STR("View with the last two axes swapped; ShapeError below two dimensions."), NULL},
    {"__array_priority__", get_array_priority, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef tensor_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(mlpy_tensor, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- copies ------------------------------------------------------------------------------------------------------ */

/* A new contiguous tensor with the elements in dtype. */
static PyObject *cast_to(PyObject *self, ml_dtype dtype) {
    mlpy_state *st = mlpy_state_of(self);
    const ml_tensor *t = mlpy_tensor_of(self);
    ml_context *ctx = mlpy_context_of_tensor(st, t);
    if (!ctx)
        return NULL;
    mlpy_enter(st);
    ml_tensor *out = NULL;
    ml_status status;
    if (mlpy_is_long(0, ml_view_size(&t->view) * 4)) {
        Py_BEGIN_ALLOW_THREADS
        status = ml_cast(ctx, t, dtype, &out);
        Py_END_ALLOW_THREADS
    } else {
        status = ml_cast(ctx, t, dtype, &out);
    }
    return mlpy_tensor_result(st, status, out);
}

PyDoc_STRVAR(astype_doc, "astype($self, /, dtype)\n--\n\n"
                         "A new tensor with the elements in dtype, rounded to nearest even.\n"
                         "\n"
                         "Floats become integers by truncation; DTypeError when one does not fit (or is NaN).\n"
                         "\n"
                         ">>> import metallic as ml\n"
                         ">>> ml.array([1.5, -2.5]).astype(ml.int32).tolist()\n"
                         "[1, -2]\n");

static PyObject *tensor_astype(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"astype", 1, 0, 1, 1, {MLPY_S_dtype}};
    mlpy_state *st = mlpy_state_of(self);
    PyObject *v[1];
    ml_dtype dtype;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_dtype_from(st, v[0], &dtype) < 0)
        return NULL;
    return cast_to(self, dtype);
}

PyDoc_STRVAR(copy_doc, "copy($self, /)\n--\n\n"
                       "A new, writable, contiguous tensor with the same elements.\n"
                       "\n"
                       ">>> import metallic as ml\n"
                       ">>> ml.zeros((2, 3)).T.copy().strides\n"
                       "(8, 4)\n");

static PyObject *tensor_copy(PyObject *self, PyObject *ignored) {
    return cast_to(self, mlpy_tensor_of(self)->view.dtype);
}

PyDoc_STRVAR(to_doc,
             "to($self, /, device)\n--\n\n"
             "This tensor if the device already holds it, else a copy there. DeviceError when the device is absent.\n"
             "\n"
             ">>> import metallic as ml\n"
             ">>> t = ml.zeros(3, device='cpu')\n"
             ">>> t.to('cpu') is t\n"
             "True\n");

static PyObject *tensor_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"to", 1, 0, 1, 1, {MLPY_S_device}};
    mlpy_state *st = mlpy_state_of(self);
    const ml_tensor *t = mlpy_tensor_of(self);
    PyObject *v[1];
    ml_context *ctx = NULL;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_context_of_device(st, v[0], &ctx) < 0)
        return NULL;
    if (ml_context_device_of(ctx) == t->view.buf->device) {
        ml_context_release(ctx);
        return Py_NewRef(self);
    }
    ml_shape shape = ml_view_shape(&t->view);
    ml_tensor *out = NULL;
    ml_status status = ml_tensor_empty(ctx, t->view.dtype, &shape, &out);
    if (status == ML_OK && (status = ml_copy(ctx, t, out)) != ML_OK)
        ml_tensor_release(out);
    ml_context_release(ctx);
    return mlpy_tensor_result(st, status, out);
}

PyDoc_STRVAR(fill_doc, "fill($self, /, value)\n--\n\n"
                       "Sets every element to value and returns the tensor.\n"
                       "\n"
                       "ValueError when it is read-only, DTypeError when an integer dtype cannot hold value.\n"
                       "\n"
                       ">>> import metallic as ml\n"
                       ">>> ml.empty(2).fill(0.5).tolist()\n"
                       "[0.5, 0.5]\n");

static PyObject *tensor_fill(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"fill", 1, 0, 1, 1, {MLPY_S_value}};
    mlpy_state *st = mlpy_state_of(self);
    ml_tensor *t = mlpy_tensor_of(self);
    PyObject *v[1];
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0)
        return NULL;
    double value;
    if (mlpy_arg_double(v[0], "value", &value) < 0)
        return NULL;
    ml_context *ctx = mlpy_context_of_tensor(st, t);
    if (!ctx)
        return NULL;
    ml_status status = ml_fill(ctx, t, value);
    return status == ML_OK ? Py_NewRef(self) : mlpy_raise(st, status);
}

/* ---- one element ------------------------------------------------------------------------------------------------- */

/* The only element; ShapeError (a ValueError) when there is not exactly one. */
static int only_element(PyObject *self, const char *what, double *value) {
    mlpy_state *st = mlpy_state_of(self);
    const ml_tensor *t = mlpy_tensor_of(self);
    if (ml_view_size(&t->view) != 1) {
        char text[ML_FORMAT_MAX];
        mlpy_fail(st, ML_ERR_SHAPE, "%s: only a tensor of one element has a single value, not %s", what,
                  ml_view_format(&t->view, text, sizeof text));
        return -1;
    }
    void *data = NULL;
    ml_status status = ml_tensor_data(t, &data);
    if (status != ML_OK) {
        mlpy_raise(st, status);
        return -1;
    }
    *value = ml_load_element(t->view.dtype, data);
    return 0;
}

PyDoc_STRVAR(item_doc, "item($self, /)\n--\n\n"
                       "The only element as a Python float, int or bool; ShapeError when there is not exactly one.\n"
                       "\n"
                       ">>> import metallic as ml\n"
                       ">>> ml.array([[7]]).item()\n"
                       "7\n");

static PyObject *tensor_item(PyObject *self, PyObject *ignored) {
    double value;
    if (only_element(self, "item", &value) < 0)
        return NULL;
    ml_dtype dtype = mlpy_tensor_of(self)->view.dtype;
    if (dtype == ML_BOOL)
        return PyBool_FromLong(value != 0);
    return ml_dtype_is_float(dtype) ? PyFloat_FromDouble(value) : PyLong_FromDouble(value);
}

static int tensor_bool(PyObject *self) {
    double value;
    return only_element(self, "bool", &value) < 0 ? -1 : value != 0;
}

static PyObject *tensor_float(PyObject *self) {
    double value;
    return only_element(self, "float", &value) < 0 ? NULL : PyFloat_FromDouble(value);
}

static PyObject *tensor_int(PyObject *self) {
    double value;
    return only_element(self, "int", &value) < 0 ? NULL : PyLong_FromDouble(value);
}

PyDoc_STRVAR(is_contiguous_doc, "is_contiguous($self, /)\n--\n\n"
                                "Whether the elements lie in row-major order without gaps.\n"
                                "\n"
                                ">>> import metallic as ml\n"
                                ">>> ml.zeros((2, 3)).T.is_contiguous()\n"
                                "False\n");

static PyObject *tensor_is_contiguous(PyObject *self, PyObject *ignored) {
    return PyBool_FromLong(ml_view_is_contiguous(&mlpy_tensor_of(self)->view));
}

/* ---- the type ---------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(tolist_doc, "tolist($self, /)\n--\n\n"
                         "The elements as nested lists of Python numbers (a number for a 0-d tensor).\n"
                         "\n"
                         ">>> import metallic as ml\n"
                         ">>> ml.ones((1, 2), ml.bool_).tolist()\n"
                         "[[True, True]]\n");
PyDoc_STRVAR(
    numpy_doc,
    "numpy($self, /, *, copy=None)\n--\n\n"
    "A NumPy array over the same memory (bfloat16: of ml_dtypes.bfloat16; DTypeError without ml_dtypes).\n\n"
    "copy=True never shares; copy=False raises ValueError where sharing is impossible. Read-only stays read-only.\n\n"
    ">>> import metallic as ml\n"
    ">>> t = ml.zeros(2)\n"
    ">>> t.numpy()[0] = 3\n"
    ">>> t.tolist()\n"
    "[3.0, 0.0]\n");

PyDoc_STRVAR(array_protocol_doc, "__array__($self, /, dtype=None, copy=None)\n--\n\n"
                                 "What NumPy asks for: numpy(copy=copy), converted to dtype when one is given.\n");
PyDoc_STRVAR(
    dlpack_doc,
    "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
    "A DLPack capsule over the same memory: versioned when max_version is (1, 0) or more, which alone can say\n"
    "read-only (BufferError otherwise). stream must be None, dl_device None or (1, 0). copy=True never shares.\n");
PyDoc_STRVAR(dlpack_device_doc, "__dlpack_device__($self, /)\n--\n\n"
                                "(1, 0): memory that the CPU can read.\n");

#define FAST(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef tensor_methods[] = {
    {"numpy", FAST(mlpy_numpy), METH_FASTCALL | METH_KEYWORDS, numpy_doc},
    {"tolist", mlpy_tolist, METH_NOARGS, tolist_doc},
    {"item", tensor_item, METH_NOARGS, item_doc},
    {"astype", FAST(tensor_astype), METH_FASTCALL | METH_KEYWORDS, astype_doc},
    {"to", FAST(tensor_to), METH_FASTCALL | METH_KEYWORDS, to_doc},
    {"copy", tensor_copy, METH_NOARGS, copy_doc},
    {"fill", FAST(tensor_fill), METH_FASTCALL | METH_KEYWORDS, fill_doc},
    {"reshape", FAST(mlpy_reshape), METH_FASTCALL, mlpy_reshape_doc},
    {"transpose", FAST(mlpy_transpose), METH_FASTCALL, mlpy_transpose_doc},
    {"swapaxes", FAST(mlpy_swapaxes), METH_FASTCALL | METH_KEYWORDS, mlpy_swapaxes_doc},
    {"broadcast_to", FAST(mlpy_broadcast_to), METH_FASTCALL | METH_KEYWORDS, mlpy_broadcast_to_doc},
    {"squeeze", FAST(mlpy_squeeze), METH_FASTCALL | METH_KEYWORDS, mlpy_squeeze_doc},
    {"expand_dims", FAST(mlpy_expand_dims), METH_FASTCALL | METH_KEYWORDS, mlpy_expand_dims_doc},
    {"is_contiguous", tensor_is_contiguous, METH_NOARGS, is_contiguous_doc},
    {"__array__", FAST(mlpy_array_protocol), METH_FASTCALL | METH_KEYWORDS, array_protocol_doc},
    {"__dlpack__", FAST(mlpy_dlpack), METH_FASTCALL | METH_KEYWORDS, dlpack_doc},
    {"__dlpack_device__", mlpy_dlpack_device, METH_NOARGS, dlpack_device_doc},
    {"__reduce__", mlpy_reduce, METH_NOARGS, NULL},
    {"__copy__", tensor_copy, METH_NOARGS, NULL},
    {"__deepcopy__", tensor_copy, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    tensor_doc,
    "An n-dimensional array (0 to 8 axes) of one dtype on one device; make one with array(), empty(), zeros(), ...\n\n"
    "Views (T, mT, transpose, basic indexing, broadcast_to, squeeze, expand_dims, reshape where possible) share the\n"
    "memory. + - * / and @ follow NumPy's broadcasting; == and != are element-wise, so tensors are not hashable.\n"
    "NumPy takes a tensor as an array without a copy, and so does everything that knows DLPack.\n\n"
    ">>> import metallic as ml, numpy as np\n"
    ">>> x = ml.array([[1, 2], [3, 4]], dtype=ml.float32)\n"
    ">>> (2 * x - 1)[:, ::-1]\n"
    "Tensor([[3., 1.],\n"
    "        [7., 5.]], dtype=float32)\n"
    ">>> np.sqrt(x @ x.T).shape\n"
    "(2, 2)\n");

static PyType_Slot tensor_slots[] = {
    {Py_tp_dealloc, mlpy_tensor_dealloc},
    {Py_tp_doc, (void *)tensor_doc},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_tp_members, tensor_members},
    {Py_tp_repr, mlpy_repr},
    {Py_tp_iter, mlpy_iter},
    {Py_tp_richcompare, mlpy_richcompare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_mp_length, mlpy_length},
    {Py_mp_subscript, mlpy_subscript},
    {Py_mp_ass_subscript, mlpy_ass_subscript},
    {Py_sq_length, mlpy_length},
    {Py_sq_item, mlpy_item_at},
    {Py_nb_bool, tensor_bool},
    {Py_nb_float, tensor_float},
    {Py_nb_int, tensor_int},
    {Py_nb_add, mlpy_nb_add},
    {Py_nb_inplace_add, mlpy_nb_inplace_add},
    {Py_nb_subtract, mlpy_nb_subtract},
    {Py_nb_inplace_subtract, mlpy_nb_inplace_subtract},
    {Py_nb_multiply, mlpy_nb_multiply},
    {Py_nb_inplace_multiply, mlpy_nb_inplace_multiply},
    {Py_nb_true_divide, mlpy_nb_divide},
    {Py_nb_inplace_true_divide, mlpy_nb_inplace_divide},
    {Py_nb_matrix_multiply, mlpy_nb_matmul},
    {Py_nb_inplace_matrix_multiply, mlpy_nb_inplace_matmul},
    {Py_bf_getbuffer, mlpy_getbuffer},
    {Py_bf_releasebuffer, mlpy_releasebuffer},
    {0, NULL},
};

PyType_Spec mlpy_tensor_spec = {
    .name = "metallic.Tensor",
    .basicsize = sizeof(mlpy_tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tensor_slots,
};
