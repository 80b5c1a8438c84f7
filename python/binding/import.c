/* Python objects in: array(), asarray(), and the operands of a call. */
#include "mlpy.h"

#include <string.h>

#define BUFFER_FLAGS (PyBUF_STRIDES | PyBUF_FORMAT)

/* A class of NumPy, if NumPy has been imported by anybody; borrowed; NULL (no exception) when it has not. */
static PyObject *np_class(const mlpy_state *st, PyObject **slot, const char *name) {
    if (*slot)
        return *slot;
    PyObject *numpy = PyImport_GetModule(st->names[MLPY_S_numpy]);
    if (numpy) {
        *slot = PyObject_GetAttrString(numpy, name);
        Py_DECREF(numpy);
    }
    /* Without it there are no NumPy scalars to be recognised (NumPy may also be half imported on another thread). */
    if (!*slot)
        PyErr_Clear();
    return *slot;
}

PyObject *mlpy_module(const mlpy_state *st, mlpy_name name) {
    return PyImport_ImportModuleLevelObject(st->names[name], NULL, NULL, NULL, 0);
}

PyObject *mlpy_numpy_asarray(const mlpy_state *st, PyObject *obj) {
    PyObject *numpy = mlpy_module(st, MLPY_S_numpy);
    PyObject *array = numpy ? PyObject_CallMethodOneArg(numpy, st->names[MLPY_S_asarray], obj) : NULL;
    Py_XDECREF(numpy);
    return array;
}

bool mlpy_is_scalar(mlpy_state *st, PyObject *obj) {
    if (PyFloat_Check(obj) || PyLong_Check(obj))
        return true;
    if (mlpy_is_tensor(obj) || PyUnicode_Check(obj) || PyBytes_Check(obj))
        return false;
    PyObject *generic = np_class(st, &st->np_generic, "generic");
    if (!generic || !PyType_IsSubtype(Py_TYPE(obj), (PyTypeObject *)generic))
        return false;
    PyObject *complexfloating = np_class(st, &st->np_complex, "complexfloating");
    return !complexfloating || !PyType_IsSubtype(Py_TYPE(obj), (PyTypeObject *)complexfloating);
}

bool mlpy_is_array_like(mlpy_state *st, PyObject *obj) {
    return mlpy_is_tensor(obj) || PyObject_CheckBuffer(obj) ||
           PyObject_HasAttr((PyObject *)Py_TYPE(obj), st->names[MLPY_S___dlpack__]);
}

/* ---- the ways in ------------------------------------------------------------------------------------------------- */

static ml_status no_sharing(const mlpy_import_options *o, const char *why) {
    return ml_fail(ML_ERR_VALUE, "%s: cannot be shared without a copy (copy=False): %s", o->name, why);
}

/* The dtype a foreign kind has here. */
static ml_dtype natural_dtype(int kind) {
    return kind == MLPY_F64 ? ML_F32 : kind == MLPY_I64 ? ML_I32 : (ml_dtype)kind;
}

/* Judges foreign memory and borrows or converts it. */
ml_status mlpy_take_foreign(mlpy_state *st, const mlpy_import_options *o, const mlpy_foreign *f,
                            const mlpy_lender *lender, ml_tensor **out) {
    ml_dtype dtype = o->dtype < 0 ? natural_dtype(f->kind) : (ml_dtype)o->dtype;
    ml_view view;
    char *low;
    int64_t size;
    /* A GPU that cannot work in that memory gets a copy once, not for each use; what is to be written stays shared. */
    if (mlpy_foreign_in_place(f, &view, &low, &size) &&
        (o->copy == 0 || ml_context_shares_memory(o->ctx, low, (size_t)size))) {
        ml_tensor *t = NULL;
        ML_TRY(mlpy_foreign_borrow(st, o->ctx, f, lender, &t));
        if (view.dtype == dtype && o->copy != 1) {
            *out = t;
            return ML_OK;
        }
        ml_status status = o->copy == 0 ? no_sharing(o, "the dtype differs") : ml_cast(o->ctx, t, dtype, out);
        ml_tensor_release(t);
        return status;
    }
    ml_status status;
    if (o->copy == 0)
        status = no_sharing(o, f->kind >= ML_DTYPE_COUNT ? "float64 and int64 are converted"
                               : f->swapped              ? "its byte order is not this machine's"
                                                         : "it is misaligned or its strides are odd");
    else
        status = mlpy_foreign_convert(o->ctx, f, dtype, out);
    if (status == ML_OK)
        ml_metrics_add_copied(ml_tensor_size(*out) * (int64_t)ml_dtype_size(dtype));
    if (lender->managed)
        lender->managed_deleter(lender->managed);
    else
        PyBuffer_Release(lender->view);
    return status;
}

/* A NumPy array of ml_dtypes.bfloat16, which has no buffer format: its 16-bit view. 1: done, 0: it is none, -1:
 * exception. */
static int bfloat16_view(PyObject *obj, mlpy_state *st, PyObject **view) {
    PyObject *dtype = PyObject_GetAttr(obj, st->names[MLPY_S_dtype]);
    PyObject *name = dtype ? PyObject_GetAttr(dtype, st->names[MLPY_S_name]) : NULL;
    Py_XDECREF(dtype);
    if (!name) {
        PyErr_Clear();
        return 0;
    }
    bool is_bf16 = PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    Py_DECREF(name);
    if (!is_bf16)
        return 0;
    PyObject *bits = PyUnicode_FromString("uint16");
    *view = bits ? PyObject_CallMethodOneArg(obj, st->names[MLPY_S_view], bits) : NULL;
    Py_XDECREF(bits);
    if (*view && PyObject_CheckBuffer(*view))
        return 1;
    Py_CLEAR(*view);
    PyErr_Clear();
    return 0;
}

/* Fills f from view, or from the 16-bit view of a bfloat16 array. 1: f and buffer are set (buffer to be released); 0:
 * obj has no buffer that means anything here. */
static int get_foreign(mlpy_state *st, PyObject *obj, Py_buffer *buffer, mlpy_foreign *f) {
    if (!PyObject_CheckBuffer(obj))
        return 0;
    if (PyObject_GetBuffer(obj, buffer, BUFFER_FLAGS) == 0) {
        if (mlpy_foreign_from_buffer(buffer, f))
            return 1;
        PyBuffer_Release(buffer);
        return 0;
    }
    PyErr_Clear();
    PyObject *bits = NULL;
    if (bfloat16_view(obj, st, &bits) <= 0)
        return 0;
    int failed = PyObject_GetBuffer(bits, buffer, BUFFER_FLAGS);
    Py_DECREF(bits);
    if (failed) {
        PyErr_Clear();
        return 0;
    }
    /* Read as unsigned bytes first for shape and strides: the format is 'H', with the array's byte order. */
    const char *format = buffer->format;
    bool swapped = format && format[0] == '>';
    if (buffer->itemsize != 2 || buffer->ndim > ML_MAX_DIMS || !format || format[strlen(format) - 1] != 'H') {
        PyBuffer_Release(buffer);
        return 0;
    }
    *f = (mlpy_foreign){.name = f->name,
                        .data = buffer->buf,
                        .kind = ML_BF16,
                        .ndim = buffer->ndim,
                        .itemsize = 2,
                        .read_only = buffer->readonly != 0,
                        .swapped = swapped};
    for (int i = 0; i < f->ndim; i++) {
        f->shape[i] = buffer->shape[i];
        f->strides[i] = buffer->strides[i];
    }
    return 1;
}

/* One of our own. */
static ml_status take_tensor(ml_tensor *t, const mlpy_import_options *o, ml_tensor **out) {
    bool same_device = ml_context_device_of(o->ctx) == t->view.buf->device;
    bool same_dtype = o->dtype < 0 || (ml_dtype)o->dtype == t->view.dtype;
    if (same_device && same_dtype && o->copy != 1) {
        ml_tensor_retain(t);
        *out = t;
        return ML_OK;
    }
    if (o->copy == 0)
        return no_sharing(o, same_device ? "the dtype differs" : "it lies on another device");
    return ml_cast(o->ctx, t, o->dtype < 0 ? t->view.dtype : (ml_dtype)o->dtype, out);
}

void mlpy_refuse_dtype(mlpy_state *st, PyObject *array, PyObject *obj, const char *name) {
    PyObject *dtype = PyObject_GetAttr(array, st->names[MLPY_S_dtype]);
    if (!dtype)
        PyErr_Clear();
    mlpy_fail(st, ML_ERR_DTYPE,
              "%s: dtype %S of %.100s is none of float32, float16, bfloat16, int32, uint8, bool, float64, int64", name,
              dtype ? dtype : Py_None, Py_TYPE(obj)->tp_name);
    Py_XDECREF(dtype);
}

/* numpy.asarray(obj): numbers, nested lists, objects that only know __array__. The result is imported in turn; it is
 * nobody else's memory, so nothing is counted as copied. */
static int through_numpy(mlpy_state *st, PyObject *obj, const mlpy_import_options *o, ml_tensor **out) {
    PyObject *array = mlpy_numpy_asarray(st, obj);
    if (!array) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) { /* ragged lists */
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            PyErr_NormalizeException(&type, &value, &traceback);
            mlpy_fail(st, ML_ERR_SHAPE, "%s: %S", o->name, value ? value : Py_None);
            Py_XDECREF(type);
            Py_XDECREF(value);
            Py_XDECREF(traceback);
        }
        return -1;
    }
    Py_buffer buffer;
    mlpy_foreign f = {.name = o->name};
    if (get_foreign(st, array, &buffer, &f) <= 0) {
        PyErr_Clear();
        mlpy_refuse_dtype(st, array, obj, o->name);
        Py_DECREF(array);
        return -1;
    }
    Py_DECREF(array);
    ml_dtype dtype = o->dtype < 0 ? natural_dtype(f.kind) : (ml_dtype)o->dtype;
    ml_status status;
    if (f.kind == (int)dtype && !f.swapped && ml_context_device_of(o->ctx)->kind == ML_DEVICE_CPU) {
        const mlpy_lender lender = {.view = &buffer};
        status = mlpy_foreign_borrow(st, o->ctx, &f, &lender, out);
    } else {
        status = mlpy_foreign_convert(o->ctx, &f, dtype, out);
        PyBuffer_Release(&buffer);
    }
    if (status == ML_OK)
        return 0;
    mlpy_raise(st, status);
    return -1;
}

static int refuse(mlpy_state *st, PyObject *obj, const mlpy_import_options *o) {
    mlpy_fail(st, ML_ERR_DTYPE, "%s: cannot make a tensor from %.100s", o->name, Py_TYPE(obj)->tp_name);
    return -1;
}

/* Any array-like as a tensor: the buffer protocol, then DLPack, then __array__; with lists also numbers and nested
 * lists, as NumPy converts them. 0, or -1 with the exception set. */
static int import_object(mlpy_state *st, PyObject *obj, const mlpy_import_options *o, bool lists, ml_tensor **out) {
    ml_status status;
    Py_buffer buffer;
    mlpy_foreign f = {.name = o->name};
    if (mlpy_is_tensor(obj)) {
        status = take_tensor(mlpy_tensor_of(obj), o, out);
    } else if (!mlpy_is_scalar(st, obj) && get_foreign(st, obj, &buffer, &f)) {
        const mlpy_lender lender = {.view = &buffer};
        status = mlpy_take_foreign(st, o, &f, &lender, out);
    } else {
        int done = mlpy_dlpack_import(st, obj, o, out);
        if (done)
            return done > 0 ? 0 : -1;
        if (!lists && !PyObject_HasAttr((PyObject *)Py_TYPE(obj), st->names[MLPY_S___array__]))
            return refuse(st, obj, o);
        if (PyUnicode_Check(obj) || obj == Py_None)
            return refuse(st, obj, o);
        if (o->copy == 0) {
            PyErr_Format(PyExc_ValueError, "%s: %.100s cannot be shared without a copy (copy=False)", o->name,
                         Py_TYPE(obj)->tp_name);
            return -1;
        }
        return through_numpy(st, obj, o, out);
    }
    if (status == ML_OK)
        return 0;
    mlpy_raise(st, status);
    return -1;
}

/* ---- operands of a call ------------------------------------------------------------------------------------------ */

static void borrow_in_place(const mlpy_import_options *o, const mlpy_foreign *f, const ml_view *view, char *low,
                            int64_t size, mlpy_operand *out) {
    out->buffer.host = low;
    out->buffer.size = (size_t)size;
    out->buffer.handle = NULL;
    out->buffer.device = ml_context_device_of(o->ctx);
    out->buffer.destroy = NULL;
    out->buffer.prepacked = NULL;
    atomic_init(&out->buffer.refs, 1 << 20);
    atomic_init(&out->buffer.flags, ML_BUF_BORROWED | (f->read_only ? ML_BUF_READ_ONLY : 0));
    atomic_init(&out->buffer.pending, NULL);
    atomic_init(&out->tensor.refs, 1 << 20);
    out->tensor.view = *view;
    out->tensor.view.buf = &out->buffer;
    out->t = &out->tensor;
}

int mlpy_operand_get(mlpy_state *st, PyObject *obj, const mlpy_import_options *o, int flags, mlpy_operand *out) {
    mlpy_operand_init(out);
    if (!obj || obj == Py_None)
        return 0;
    if (mlpy_is_tensor(obj)) {
        out->t = mlpy_tensor_of(obj);
        if (out->t->view.buf->device == ml_context_device_of(o->ctx))
            return 0;
        mlpy_fail(st, ML_ERR_DEVICE, "%s: lies on device '%s', the call runs on '%s'", o->name,
                  out->t->view.buf->device->name, ml_context_device(o->ctx));
        return -1;
    }
    if ((flags & MLPY_SCALARS) && mlpy_is_scalar(st, obj)) {
        out->is_value = true;
        return mlpy_arg_double(obj, o->name, &out->value);
    }
    mlpy_foreign f = {.name = o->name};
    /* A CPU call is over when it returns, so the operand can live on the caller's stack. */
    if (ml_context_device_of(o->ctx)->kind == ML_DEVICE_CPU && PyObject_CheckBuffer(obj) &&
        get_foreign(st, obj, &out->view, &f)) {
        ml_view view;
        char *low;
        int64_t size;
        out->has_view = true;
        if (mlpy_foreign_in_place(&f, &view, &low, &size)) {
            borrow_in_place(o, &f, &view, low, size, out);
            return 0;
        }
        mlpy_operand_clear(out);
    }
    mlpy_import_options options = *o;
    if (flags & MLPY_WRITABLE)
        options.copy = 0;
    if (import_object(st, obj, &options, flags & MLPY_LISTS, &out->t) < 0)
        return -1;
    out->owned = true;
    return 0;
}

void mlpy_operand_clear(mlpy_operand *operand) {
    if (operand->owned)
        ml_tensor_release(operand->t);
    if (operand->has_view)
        PyBuffer_Release(&operand->view);
    operand->owned = operand->has_view = false;
    operand->t = NULL;
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

/* array and asarray: v = obj, dtype, device, copy. */
static PyObject *make_array(mlpy_state *st, PyObject *const *v, const char *name) {
    mlpy_import_options o = {.name = name, .dtype = -1, .copy = -1};
    mlpy_enter(st);
    if (mlpy_arg_copy(v[3], &o.copy) < 0)
        return NULL;
    if (v[1] && v[1] != Py_None) {
        ml_dtype dtype;
        if (mlpy_dtype_from(st, v[1], &dtype) < 0)
            return NULL;
        o.dtype = (int)dtype;
    }
    bool default_device = !v[2] || v[2] == Py_None;
    if (default_device) {
        o.ctx = mlpy_is_tensor(v[0]) ? mlpy_context_of_tensor(st, mlpy_tensor_of(v[0])) : mlpy_default_context(st);
        if (!o.ctx)
            return NULL;
    } else if (mlpy_context_of_device(st, v[2], &o.ctx) < 0) {
        return NULL;
    }
    ml_tensor *t = NULL;
    int failed = import_object(st, v[0], &o, true, &t);
    if (!default_device)
        ml_context_release(o.ctx);
    if (failed)
        return NULL;
    if (mlpy_is_tensor(v[0]) && t == mlpy_tensor_of(v[0])) {
        ml_tensor_release(t);
        return Py_NewRef(v[0]);
    }
    return mlpy_tensor_wrap(st, t);
}

PyObject *mlpy_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"array", 4, 0, 2, 1, {MLPY_S_obj, MLPY_S_dtype, MLPY_S_device, MLPY_S_copy}};
    mlpy_state *st = PyModule_GetState(module);
    PyObject *v[4];
    return mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 ? NULL : make_array(st, v, "array");
}

PyObject *mlpy_asarray(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"asarray", 3, 0, 2, 1, {MLPY_S_obj, MLPY_S_dtype, MLPY_S_device}};
    mlpy_state *st = PyModule_GetState(module);
    PyObject *v[4] = {NULL};
    return mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 ? NULL : make_array(st, v, "asarray");
}

PyObject *mlpy_from_dlpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"from_dlpack", 1, 0, 1, 1, {MLPY_S_obj}};
    mlpy_state *st = PyModule_GetState(module);
    PyObject *v[1];
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0)
        return NULL;
    mlpy_enter(st);
    mlpy_import_options o = {.ctx = mlpy_default_context(st), .name = "from_dlpack", .dtype = -1, .copy = -1};
    ml_tensor *t = NULL;
    if (!o.ctx)
        return NULL;
    if (mlpy_is_tensor(v[0]))
        return Py_NewRef(v[0]);
    int done = mlpy_dlpack_import(st, v[0], &o, &t);
    if (done == 0)
        PyErr_Format(PyExc_TypeError, "from_dlpack: %.100s has no __dlpack__", Py_TYPE(v[0])->tp_name);
    return done > 0 ? mlpy_tensor_wrap(st, t) : NULL;
}

/* _rebuild(bytes, shape, dtype): what a pickled tensor is made from. */
PyObject *mlpy_rebuild(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    mlpy_state *st = PyModule_GetState(module);
    ml_shape shape;
    ml_dtype dtype;
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "_rebuild() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    if (mlpy_shape_from(st, args[1], 0, &shape) < 0 || mlpy_dtype_from(st, args[2], &dtype) < 0)
        return NULL;
    ml_context *ctx = mlpy_default_context(st);
    Py_buffer bytes;
    if (!ctx || PyObject_GetBuffer(args[0], &bytes, PyBUF_SIMPLE) < 0)
        return NULL;
    ml_tensor *t = NULL;
    void *data = NULL;
    ml_status status = ml_tensor_empty(ctx, dtype, &shape, &t);
    if (status == ML_OK)
        status = ml_tensor_data(t, &data);
    if (status == ML_OK && bytes.len != ml_tensor_size(t) * (int64_t)ml_dtype_size(dtype))
        status = ml_fail(ML_ERR_VALUE, "pickled tensor: %zd bytes do not fit its shape", bytes.len);
    if (status == ML_OK && bytes.len > 0)
        memcpy(data, bytes.buf, (size_t)bytes.len);
    PyBuffer_Release(&bytes);
    if (status != ML_OK && t)
        ml_tensor_release(t);
    return mlpy_tensor_result(st, status, t);
}

PyObject *mlpy_empty(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    mlpy_state *st = PyModule_GetState(module);
    ml_shape shape;
    ml_dtype dtype;
    ml_context *ctx = NULL;
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "_empty() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    mlpy_enter(st);
    if (mlpy_shape_from(st, args[0], 0, &shape) < 0 || mlpy_dtype_from(st, args[1], &dtype) < 0)
        return NULL;
    if (args[2] != Py_None) {
        if (mlpy_context_of_device(st, args[2], &ctx) < 0)
            return NULL;
    } else {
        ctx = mlpy_default_context(st);
        if (!ctx)
            return NULL;
        ml_context_retain(ctx);
    }
    ml_tensor *t = NULL;
    ml_status status = ml_tensor_empty(ctx, dtype, &shape, &t);
    ml_context_release(ctx);
    return mlpy_tensor_result(st, status, t);
}
