/* DType: one immutable object per element type and interpreter. */
#include "mlpy.h"

#include <string.h>

static const char *const public_names[ML_DTYPE_COUNT] = {"float32", "float16", "bfloat16", "int32", "uint8", "bool_"};

static void dtype_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *dtype_repr(PyObject *self) {
    return PyUnicode_FromFormat("metallic.%s", public_names[((mlpy_dtype *)self)->dtype]);
}

static PyObject *dtype_str(PyObject *self) {
    return PyUnicode_FromString(ml_dtype_name(((mlpy_dtype *)self)->dtype));
}

/* Pickled by name, so that the very same object comes back. */
static PyObject *dtype_reduce(PyObject *self, PyObject *ignored) {
    return PyUnicode_FromString(public_names[((mlpy_dtype *)self)->dtype]);
}

static PyObject *dtype_get_name(PyObject *self, void *closure) {
    return dtype_str(self);
}

static PyObject *dtype_get_itemsize(PyObject *self, void *closure) {
    return PyLong_FromSize_t(ml_dtype_size(((mlpy_dtype *)self)->dtype));
}

static PyGetSetDef dtype_getset[] = {
    {"name", dtype_get_name, NULL, PyDoc_STR("The name NumPy and ml_dtypes use: 'float32', 'bfloat16', 'bool', ..."),
     NULL},
    {"itemsize", dtype_get_itemsize, NULL, PyDoc_STR("Bytes per element."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef dtype_methods[] = {
    {"__reduce__", dtype_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    dtype_doc,
    "An element type: metallic.float32, float16, bfloat16, int32, uint8 or bool_.\n"
    "\n"
    "There is one object per type: compare with ==, use as a key, pickle. Wherever one is asked for, its name, a\n"
    "NumPy or ml_dtypes dtype, or float, int or bool do as well.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> ml.float16.name, ml.float16.itemsize\n"
    "('float16', 2)\n"
    ">>> ml.zeros(2, dtype='float16').dtype == ml.float16\n"
    "True\n");

static PyType_Slot dtype_slots[] = {
    {Py_tp_dealloc, dtype_dealloc},
    {Py_tp_repr, dtype_repr},
    {Py_tp_str, dtype_str},
    {Py_tp_methods, dtype_methods},
    {Py_tp_getset, dtype_getset},
    {Py_tp_doc, (void *)dtype_doc},
    {0, NULL},
};

PyType_Spec mlpy_dtype_spec = {
    .name = "metallic.DType",
    .basicsize = sizeof(mlpy_dtype),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = dtype_slots,
};

PyObject *mlpy_dtype_object(mlpy_state *st, ml_dtype dtype) {
    return Py_NewRef(st->dtypes[dtype]);
}

/* "float32", "bool_", ... ; 1 found, 0 not. */
static int dtype_from_name(const char *name, ml_dtype *out) {
    for (int i = 0; i < ML_DTYPE_COUNT; i++) {
        if (strcmp(name, public_names[i]) == 0 || strcmp(name, ml_dtype_name((ml_dtype)i)) == 0) {
            *out = (ml_dtype)i;
            return 1;
        }
    }
    return 0;
}

/* The name of a dtype object (attribute name) or of a scalar type (attribute __name__). -1: exception set. */
static int dtype_from_attribute(mlpy_state *st, PyObject *obj, mlpy_name attribute, ml_dtype *out) {
    PyObject *name = PyObject_GetAttr(obj, st->names[attribute]);
    if (!name) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    int found = 0;
    if (PyUnicode_Check(name)) {
        const char *text = PyUnicode_AsUTF8(name);
        found = text ? dtype_from_name(text, out) : -1;
    }
    Py_DECREF(name);
    return found;
}

int mlpy_dtype_from(mlpy_state *st, PyObject *obj, ml_dtype *out) {
    if (Py_TYPE(obj) == st->dtype_type) {
        *out = ((mlpy_dtype *)obj)->dtype;
        return 0;
    }
    int found = 0;
    if (obj == (PyObject *)&PyFloat_Type) {
        *out = ML_F32;
        return 0;
    } else if (obj == (PyObject *)&PyLong_Type) {
        *out = ML_I32;
        return 0;
    } else if (obj == (PyObject *)&PyBool_Type) {
        *out = ML_BOOL;
        return 0;
    } else if (PyUnicode_Check(obj)) {
        const char *text = PyUnicode_AsUTF8(obj);
        if (!text)
            return -1;
        found = dtype_from_name(text, out);
    } else if (PyType_Check(obj)) {
        found = dtype_from_attribute(st, obj, MLPY_S___name__, out);
    } else {
        found = dtype_from_attribute(st, obj, MLPY_S_name, out);
    }
    if (found > 0)
        return 0;
    if (found == 0)
        mlpy_fail(st, ML_ERR_DTYPE, "dtype: %R is none of float32, float16, bfloat16, int32, uint8, bool", obj);
    return -1;
}
