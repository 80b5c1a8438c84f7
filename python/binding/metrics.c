/* Profiles, explanations and inventories. The core speaks JSON here; the package turns it into Python objects. */
#include "mlpy.h"

#include <string.h>

typedef struct profile {
    PyObject_HEAD ml_profile *profile;
} profile;

/* JSON text of the core as a string; frees it. */
static PyObject *take_json(mlpy_state *st, ml_status status, char *json) {
    if (status != ML_OK)
        return mlpy_raise(st, status);
    PyObject *text = PyUnicode_DecodeUTF8(json, (Py_ssize_t)strlen(json), "replace");
    ml_free(json);
    return text;
}

static PyObject *profile_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "_Profile() takes no arguments");
        return NULL;
    }
    profile *self = PyObject_New(profile, type);
    if (!self)
        return NULL;
    self->profile = NULL;
    ml_status status = ml_profile_begin(&self->profile);
    if (status != ML_OK) {
        Py_DECREF(self);
        return mlpy_raise(PyType_GetModuleState(type), status);
    }
    return (PyObject *)self;
}

static void profile_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (((profile *)self)->profile)
        ml_profile_release(((profile *)self)->profile);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *profile_end(PyObject *self, PyObject *ignored) {
    ml_profile_end(((profile *)self)->profile);
    Py_RETURN_NONE;
}

/* records_from(start): the JSON lines from number start on. */
static PyObject *profile_records_from(PyObject *self, PyObject *start) {
    const ml_profile *p = ((profile *)self)->profile;
    mlpy_state *st = mlpy_state_of(self);
    int64_t first = 0;
    if (mlpy_arg_int64(start, "start", &first) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    int64_t n = ml_profile_count(p);
    for (int64_t i = first; list && i < n; i++) {
        char *json = NULL;
        ml_status status = ml_profile_record_json(p, i, &json);
        PyObject *text = take_json(st, status, json);
        if (!text || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

static PyMethodDef profile_methods[] = {
    {"end", profile_end, METH_NOARGS, NULL},
    {"records_from", profile_records_from, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot profile_slots[] = {
    {Py_tp_new, profile_new},
    {Py_tp_dealloc, profile_dealloc},
    {Py_tp_methods, profile_methods},
    {0, NULL},
};

PyType_Spec mlpy_profile_spec = {
    .name = "metallic._core._Profile",
    .basicsize = sizeof(profile),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = profile_slots,
};

/* ---- functions --------------------------------------------------------------------------------------------------- */

static PyObject *explain_begin(PyObject *module, PyObject *ignored) {
    ml_explain_begin();
    Py_RETURN_NONE;
}

static PyObject *explain_end(PyObject *module, PyObject *ignored) {
    char *json = NULL;
    ml_status status = ml_explain_end(&json);
    return take_json(PyModule_GetState(module), status, json);
}

static PyObject *devices_json(PyObject *module, PyObject *ignored) {
    char *json = NULL;
    ml_status status = ml_devices_json(&json);
    return take_json(PyModule_GetState(module), status, json);
}

static PyObject *kernels_json(PyObject *module, PyObject *args) {
    const char *op = NULL, *device = NULL;
    char *json = NULL;
    if (!PyArg_ParseTuple(args, "zz:_kernels_json", &op, &device))
        return NULL;
    ml_status status = ml_kernels_json(op, device, &json);
    return take_json(PyModule_GetState(module), status, json);
}

PyMethodDef mlpy_metrics_functions[] = {
    {"_explain_begin", explain_begin, METH_NOARGS, NULL},
    {"_explain_end", explain_end, METH_NOARGS, NULL},
    {"_devices_json", devices_json, METH_NOARGS, NULL},
    {"_kernels_json", kernels_json, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
