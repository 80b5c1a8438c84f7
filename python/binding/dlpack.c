/* DLPack, both ways, unversioned and version 1 (https://dmlc.github.io/dlpack/latest/). */
#include "mlpy.h"

#include <stdlib.h>

enum { DL_CPU = 1, DL_CUDA_HOST = 3 };
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_BOOL = 6 };
enum { DL_FLAG_READ_ONLY = 1, DL_FLAG_COPIED = 2 };

typedef struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides; /* strides: elements; NULL: contiguous */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *owner;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

typedef struct dl_managed_versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *owner;
    void (*deleter)(struct dl_managed_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_managed_versioned;

#define LEGACY_NAME "dltensor"
#define VERSIONED_NAME "dltensor_versioned"

/* ---- out --------------------------------------------------------------------------------------------------------- */

/* What an exported capsule owns: one allocation with the shape, and a reference to the tensor. The deleters use neither
 * Python nor its allocator, since anybody may call them from any thread. */
typedef struct dl_export {
    union {
        dl_managed legacy;
        dl_managed_versioned versioned;
    };
    ml_tensor *t;
    int64_t shape[ML_MAX_DIMS], strides[ML_MAX_DIMS];
} dl_export;

static void delete_export(dl_export *e) {
    ml_tensor_release(e->t);
    free(e);
}

static void delete_legacy(dl_managed *self) {
    delete_export(self->owner);
}

static void delete_versioned(dl_managed_versioned *self) {
    delete_export(self->owner);
}

static void destroy_capsule(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, LEGACY_NAME)) {
        dl_managed *m = PyCapsule_GetPointer(capsule, LEGACY_NAME);
        if (m && m->deleter)
            m->deleter(m);
    } else if (PyCapsule_IsValid(capsule, VERSIONED_NAME)) {
        dl_managed_versioned *m = PyCapsule_GetPointer(capsule, VERSIONED_NAME);
        if (m && m->deleter)
            m->deleter(m);
    }
}

/* Takes t's reference. */
static PyObject *make_capsule(mlpy_state *st, ml_tensor *t, bool versioned, uint64_t flags) {
    static const struct {
        uint8_t code, bits;
    } dtypes[ML_DTYPE_COUNT] = {[ML_F32] = {DL_FLOAT, 32}, [ML_F16] = {DL_FLOAT, 16}, [ML_BF16] = {DL_BFLOAT, 16},
                                [ML_I32] = {DL_INT, 32},   [ML_U8] = {DL_UINT, 8},    [ML_BOOL] = {DL_BOOL, 8}};
    const ml_view *v = &t->view;
    void *data = NULL;
    ml_status status = ml_tensor_data(t, &data);
    dl_export *e = status == ML_OK ? calloc(1, sizeof *e) : NULL;
    if (!e) {
        ml_tensor_release(t);
        return status == ML_OK ? PyErr_NoMemory() : mlpy_raise(st, status);
    }
    e->t = t;
    for (int i = 0; i < v->ndim; i++) {
        e->shape[i] = v->shape[i];
        e->strides[i] = v->strides[i];
    }
    dl_tensor *d = versioned ? &e->versioned.tensor : &e->legacy.tensor;
    d->data = data;
    d->device.type = DL_CPU;
    d->ndim = v->ndim;
    d->dtype.code = dtypes[v->dtype].code;
    d->dtype.bits = dtypes[v->dtype].bits;
    d->dtype.lanes = 1;
    d->shape = e->shape;
    d->strides = e->strides;
    if (versioned) {
        e->versioned.version.major = 1;
        e->versioned.owner = e;
        e->versioned.deleter = delete_versioned;
        e->versioned.flags = flags;
    } else {
        e->legacy.owner = e;
        e->legacy.deleter = delete_legacy;
    }
    atomic_fetch_or(&v->buf->flags, ML_BUF_EXPORTED);
    PyObject *capsule = versioned ? PyCapsule_New(&e->versioned, VERSIONED_NAME, destroy_capsule)
                                  : PyCapsule_New(&e->legacy, LEGACY_NAME, destroy_capsule);
    if (!capsule)
        delete_export(e);
    return capsule;
}

/* A pair (a, b) of integers. */
static int pair_from(PyObject *obj, const char *name, int64_t *a, int64_t *b) {
    if (!PyTuple_Check(obj) || PyTuple_GET_SIZE(obj) != 2) {
        PyErr_Format(PyExc_TypeError, "__dlpack__: %s must be a pair of integers", name);
        return -1;
    }
    if (mlpy_arg_int64(PyTuple_GET_ITEM(obj, 0), name, a) < 0)
        return -1;
    return mlpy_arg_int64(PyTuple_GET_ITEM(obj, 1), name, b);
}

PyObject *mlpy_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {
        "__dlpack__", 4, 0, 0, 0, {MLPY_S_stream, MLPY_S_max_version, MLPY_S_dl_device, MLPY_S_copy}};
    mlpy_state *st = mlpy_state_of(self);
    ml_tensor *t = mlpy_tensor_of(self);
    PyObject *v[4];
    int copy;
    int64_t major = 0, minor = 0, device = DL_CPU, id = 0;
    if (mlpy_parse(st, &sig, args, nargs, kwnames, v) < 0 || mlpy_arg_copy(v[3], &copy) < 0)
        return NULL;
    if (v[0] && v[0] != Py_None) {
        PyErr_SetString(PyExc_ValueError, "__dlpack__: stream must be None for memory of the CPU");
        return NULL;
    }
    if (v[1] && v[1] != Py_None && pair_from(v[1], "max_version", &major, &minor) < 0)
        return NULL;
    if (v[2] && v[2] != Py_None && pair_from(v[2], "dl_device", &device, &id) < 0)
        return NULL;
    if (device != DL_CPU || id != 0) {
        PyErr_SetString(PyExc_BufferError, "__dlpack__: only dl_device (1, 0), the CPU, is possible");
        return NULL;
    }
    bool read_only = copy != 1 && (atomic_load(&t->view.buf->flags) & ML_BUF_READ_ONLY);
    if (read_only && major < 1) {
        PyErr_SetString(PyExc_BufferError,
                        "__dlpack__: read-only memory needs DLPack 1.0 (max_version=(1, 0)) or copy=True");
        return NULL;
    }
    if (copy == 1) {
        ml_context *ctx = mlpy_context_of_tensor(st, t);
        ml_tensor *copied = NULL;
        ml_status status = ctx ? ml_cast(ctx, t, t->view.dtype, &copied) : ML_ERR_DEVICE;
        if (status != ML_OK)
            return mlpy_raise(st, status);
        t = copied;
    } else {
        ml_tensor_retain(t);
    }
    return make_capsule(st, t, major >= 1, (read_only ? DL_FLAG_READ_ONLY : 0u) | (copy == 1 ? DL_FLAG_COPIED : 0u));
}

PyObject *mlpy_dlpack_device(PyObject *self, PyObject *ignored) {
    return Py_BuildValue("(ii)", DL_CPU, 0);
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

static int kind_of(const dl_tensor *d) {
    if (d->dtype.lanes != 1)
        return -1;
    switch (d->dtype.code << 8 | d->dtype.bits) {
    case DL_FLOAT << 8 | 32:
        return ML_F32;
    case DL_FLOAT << 8 | 16:
        return ML_F16;
    case DL_FLOAT << 8 | 64:
        return MLPY_F64;
    case DL_BFLOAT << 8 | 16:
        return ML_BF16;
    case DL_INT << 8 | 32:
        return ML_I32;
    case DL_INT << 8 | 64:
        return MLPY_I64;
    case DL_UINT << 8 | 8:
        return ML_U8;
    case DL_BOOL << 8 | 8:
        return ML_BOOL;
    default:
        return -1;
    }
}

static ml_status foreign_from(const dl_tensor *d, const char *name, bool read_only, mlpy_foreign *f) {
    *f = (mlpy_foreign){.name = name, .kind = kind_of(d), .ndim = d->ndim, .read_only = read_only};
    if (d->device.type != DL_CPU && d->device.type != DL_CUDA_HOST)
        return ml_fail(ML_ERR_DEVICE, "%s: DLPack memory lies on device type %d, not on the CPU", name, d->device.type);
    if (f->kind < 0)
        return ml_fail(ML_ERR_DTYPE,
                       "%s: DLPack dtype (code %d, %d bits, %d lanes) is none of float32, float16, bfloat16, int32, "
                       "uint8, bool, float64, int64",
                       name, d->dtype.code, d->dtype.bits, d->dtype.lanes);
    if (d->ndim < 0 || d->ndim > ML_MAX_DIMS)
        return ml_fail(ML_ERR_SHAPE, "%s: %d dimensions, at most %d are possible", name, d->ndim, ML_MAX_DIMS);
    f->data = (char *)d->data + d->byte_offset;
    f->itemsize = d->dtype.bits / 8;
    int64_t contiguous = 1;
    for (int i = d->ndim - 1; i >= 0; i--) {
        f->shape[i] = d->shape[i];
        f->strides[i] = (d->strides ? d->strides[i] : contiguous) * f->itemsize;
        contiguous *= d->shape[i];
    }
    return ML_OK;
}

static void delete_managed(void *managed) {
    dl_managed *m = managed;
    if (m->deleter)
        m->deleter(m);
}

static void delete_managed_versioned(void *managed) {
    dl_managed_versioned *m = managed;
    if (m->deleter)
        m->deleter(m);
}

/* Takes the tensor out of its capsule: lender and f, or an exception. */
static int consume(mlpy_state *st, PyObject *capsule, const char *name, mlpy_lender *lender, mlpy_foreign *f) {
    const dl_tensor *d = NULL;
    bool read_only = false;
    ml_status status = ML_OK;
    *lender = (mlpy_lender){0};
    if (PyCapsule_IsValid(capsule, VERSIONED_NAME)) {
        dl_managed_versioned *m = PyCapsule_GetPointer(capsule, VERSIONED_NAME);
        if (PyCapsule_SetName(capsule, "used_" VERSIONED_NAME) < 0)
            return -1;
        lender->managed = m;
        lender->managed_deleter = delete_managed_versioned;
        read_only = (m->flags & DL_FLAG_READ_ONLY) != 0;
        /* Of another major version only the start of the struct may be read: what is needed to delete it. */
        if (m->version.major != 1)
            status = ml_fail(ML_ERR_VALUE, "%s: DLPack version %u is not understood", name, m->version.major);
        d = &m->tensor;
    } else if (PyCapsule_IsValid(capsule, LEGACY_NAME)) {
        dl_managed *m = PyCapsule_GetPointer(capsule, LEGACY_NAME);
        if (PyCapsule_SetName(capsule, "used_" LEGACY_NAME) < 0)
            return -1;
        lender->managed = m;
        lender->managed_deleter = delete_managed;
        d = &m->tensor;
    } else {
        PyErr_Format(PyExc_TypeError, "%s: __dlpack__ returned no fresh DLPack capsule", name);
        return -1;
    }
    if (status == ML_OK)
        status = foreign_from(d, name, read_only, f);
    if (status == ML_OK)
        return 0;
    lender->managed_deleter(lender->managed);
    mlpy_raise(st, status);
    return -1;
}

/* obj.__dlpack__(max_version=(1, 0)), without the keyword for producers that do not know it. */
static PyObject *call_dlpack(mlpy_state *st, PyObject *obj) {
    PyObject *version = Py_BuildValue("(ii)", 1, 0);
    PyObject *kwnames = version ? PyTuple_Pack(1, st->names[MLPY_S_max_version]) : NULL;
    PyObject *capsule = NULL;
    if (kwnames) {
        PyObject *args[2] = {obj, version};
        capsule = PyObject_VectorcallMethod(st->names[MLPY_S___dlpack__], args, 1, kwnames);
    }
    Py_XDECREF(kwnames);
    Py_XDECREF(version);
    if (capsule || !PyErr_ExceptionMatches(PyExc_TypeError))
        return capsule;
    PyErr_Clear();
    return PyObject_CallMethodNoArgs(obj, st->names[MLPY_S___dlpack__]);
}

int mlpy_dlpack_import(mlpy_state *st, PyObject *obj, const mlpy_import_options *o, ml_tensor **out) {
    if (!PyObject_HasAttr((PyObject *)Py_TYPE(obj), st->names[MLPY_S___dlpack__]))
        return 0;
    /* Where the memory lies is asked first: producing a capsule may copy or synchronise. */
    PyObject *device = PyObject_CallMethodNoArgs(obj, st->names[MLPY_S___dlpack_device__]);
    if (!device)
        return -1;
    int64_t type = DL_CPU, id = 0;
    int failed = pair_from(device, "__dlpack_device__", &type, &id);
    Py_DECREF(device);
    if (failed)
        return -1;
    if (type != DL_CPU && type != DL_CUDA_HOST) {
        mlpy_fail(st, ML_ERR_DEVICE, "%s: %.100s lies on DLPack device type %lld, not on the CPU", o->name,
                  Py_TYPE(obj)->tp_name, (long long)type);
        return -1;
    }
    PyObject *capsule = call_dlpack(st, obj);
    if (!capsule) {
        /* NumPy's way of saying that DLPack does not know the dtype; elsewhere it may mean anything and stays. */
        if (PyErr_ExceptionMatches(PyExc_BufferError) && PyObject_CheckBuffer(obj)) {
            PyErr_Clear();
            mlpy_refuse_dtype(st, obj, obj, o->name);
        }
        return -1;
    }
    mlpy_lender lender;
    mlpy_foreign f;
    if (consume(st, capsule, o->name, &lender, &f) < 0) {
        /* The capsule's destructor and the look-up of an attribute may clear the exception that is set. */
        PyObject *error, *value, *traceback;
        PyErr_Fetch(&error, &value, &traceback);
        Py_DECREF(capsule);
        const bool of_dtype = PyErr_GivenExceptionMatches(error, st->errors[ML_ERR_DTYPE]);
        if (of_dtype && PyObject_HasAttr(obj, st->names[MLPY_S_dtype])) {
            Py_XDECREF(error);
            Py_XDECREF(value);
            Py_XDECREF(traceback);
            mlpy_refuse_dtype(st, obj, obj, o->name); /* in the producer's words, not DLPack's */
        } else {
            PyErr_Restore(error, value, traceback);
        }
        return -1;
    }
    Py_DECREF(capsule);
    ml_status status = mlpy_take_foreign(st, o, &f, &lender, out);
    if (status == ML_OK)
        return 1;
    mlpy_raise(st, status);
    return -1;
}
