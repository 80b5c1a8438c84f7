/* The module object: state, types, exceptions, function table. */
#include "mlpy.h"

#include "ceiling.h"
#include "select.h"

#include <stdarg.h>
#include <string.h>

PyObject *mlpy_raise(mlpy_state *st, ml_status status) {
    /* A Python exception that a callback left behind explains more than the status does. */
    if (PyErr_Occurred())
        return NULL;
    PyObject *type = status > ML_OK && status < ML_STATUS_COUNT ? st->errors[status] : PyExc_SystemError;
    PyObject *message = PyUnicode_DecodeUTF8(ml_last_error(), (Py_ssize_t)strlen(ml_last_error()), "replace");
    if (message) {
        PyErr_SetObject(type, message);
        Py_DECREF(message);
    }
    return NULL;
}

PyObject *mlpy_fail(mlpy_state *st, ml_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    PyErr_FormatV(st->errors[status], format, args);
    va_end(args);
    return NULL;
}

static mlpy_state *state_of_module(PyObject *module) {
    return PyModule_GetState(module);
}

PyDoc_STRVAR(
    set_num_threads_doc,
    "set_num_threads($module, /, n)\n--\n\n"
    "Sets the number of threads of the CPU pool, the caller included.\n\n"
    "n below 1 restores the default: METALLIC_NUM_THREADS, else the CPUs that affinity and cgroup limits leave.\n"
    "Results do not depend on it.\n\n"
    ">>> import metallic as ml\n"
    ">>> ml.set_num_threads(1)\n"
    ">>> ml.set_num_threads(0)\n");

static PyObject *set_num_threads(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const mlpy_signature sig = {"set_num_threads", 1, 0, 1, 1, {MLPY_S_n}};
    PyObject *v[1];
    int64_t n = 0;
    if (mlpy_parse(state_of_module(module), &sig, args, nargs, kwnames, v) < 0 || mlpy_arg_int64(v[0], "n", &n) < 0)
        return NULL;
    if (n > 4096 || n < INT32_MIN) {
        PyErr_Format(PyExc_ValueError, "n: %lld threads are too many", (long long)n);
        return NULL;
    }
    ml_set_num_threads((int)n);
    Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *module, PyObject *ignored) {
    return PyLong_FromLong(ml_get_num_threads());
}

static PyObject *set_openblas_path(PyObject *module, PyObject *arg) {
    PyObject *path = NULL;
    if (!PyUnicode_FSConverter(arg, &path))
        return NULL;
    ml_set_openblas_path(PyBytes_AS_STRING(path));
    Py_DECREF(path);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    array_doc,
    "array($module, /, obj, dtype=None, *, device=None, copy=None)\n--\n\n"
    "A tensor from a tensor, a NumPy array, anything with the buffer protocol or DLPack, a number or nested lists.\n\n"
    "Shares the object's memory when the device can use it as it is, so that changes show on both sides; copy=True\n"
    "never shares, copy=False raises ValueError where sharing is impossible (another dtype, byte order or device,\n"
    "misaligned memory, strides that are no multiple of the item size, lists). Read-only memory gives a read-only\n"
    "tensor. float64 becomes float32 and int64 becomes int32; an integer that does not fit raises DTypeError.\n\n"
    ">>> import metallic as ml, numpy as np\n"
    ">>> source = np.zeros((2, 2), np.float32)\n"
    ">>> shared = ml.array(source)\n"
    ">>> source[0, 1] = 5\n"
    ">>> shared.tolist()\n"
    "[[0.0, 5.0], [0.0, 0.0]]\n"
    ">>> ml.array([1, 2, 3], dtype=ml.float16)\n"
    "Tensor([1., 2., 3.], dtype=float16)\n");
PyDoc_STRVAR(asarray_doc, "asarray($module, /, obj, dtype=None, *, device=None)\n--\n\n"
                          "As array(obj, dtype, device=device): shares memory when possible.\n"
                          "\n"
                          ">>> import metallic as ml\n"
                          ">>> t = ml.ones(3)\n"
                          ">>> ml.asarray(t) is t\n"
                          "True\n");
PyDoc_STRVAR(from_dlpack_doc,
             "from_dlpack($module, /, obj)\n--\n\n"
             "A tensor over the memory of an object with __dlpack__ and __dlpack_device__.\n"
             "\n"
             "Errors: TypeError without DLPack, DeviceError for memory of another device, DTypeError.\n"
             "\n"
             ">>> import metallic as ml, numpy as np\n"
             ">>> ml.from_dlpack(np.arange(3, dtype=np.float32))\n"
             "Tensor([0., 1., 2.], dtype=float32)\n");

PyDoc_STRVAR(default_context_doc,
             "default_context($module, /)\n--\n\n"
             "The context of calls without ctx= whose operands name no other device; made on first use.\n"
             "\n"
             ">>> import metallic as ml\n"
             ">>> ml.default_context().device == ml.zeros(1).device\n"
             "True\n");

#define FAST(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef functions[] = {
    {"array", FAST(mlpy_array), METH_FASTCALL | METH_KEYWORDS, array_doc},
    {"asarray", FAST(mlpy_asarray), METH_FASTCALL | METH_KEYWORDS, asarray_doc},
    {"from_dlpack", FAST(mlpy_from_dlpack), METH_FASTCALL | METH_KEYWORDS, from_dlpack_doc},
    {"default_context", mlpy_default_context_object, METH_NOARGS, default_context_doc},
    {"_empty", FAST(mlpy_empty), METH_FASTCALL, NULL},
    {"set_num_threads", FAST(set_num_threads), METH_FASTCALL | METH_KEYWORDS, set_num_threads_doc},
    {"_get_num_threads", get_num_threads, METH_NOARGS, NULL},
    {"_set_openblas_path", set_openblas_path, METH_O, NULL},
    {"_rebuild", FAST(mlpy_rebuild), METH_FASTCALL, NULL},
    {"prefs", FAST(mlpy_guard_prefs), METH_VARARGS | METH_KEYWORDS, mlpy_prefs_doc},
    {"_scope", mlpy_guard_scope, METH_O, NULL},
    {"_is_read_only", mlpy_is_read_only, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out) {
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *out ? 0 : -1;
}

/* Publishes a type under the last part of its name. */
static int publish(PyObject *module, PyTypeObject *type) {
    return PyModule_AddType(module, type);
}

/* The exception classes live in metallic/_errors.py; each status maps to one. */
static int load_errors(mlpy_state *st) {
    static const char *const names[ML_STATUS_COUNT] = {
        [ML_ERR_SHAPE] = "ShapeError",
        [ML_ERR_DTYPE] = "DTypeError",
        [ML_ERR_DEVICE] = "DeviceError",
        [ML_ERR_MEMORY] = "DeviceError",
        [ML_ERR_UNSUPPORTED] = "UnsupportedError",
        [ML_ERR_COMPILE] = "CompileError",
        [ML_ERR_CHECK] = "CheckError",
        [ML_ERR_NOT_CACHED] = "ResourceNotCached",
    };
    PyObject *errors = PyImport_ImportModule("metallic._errors");
    if (!errors)
        return -1;
    for (int i = 0; i < ML_STATUS_COUNT; i++) {
        st->errors[i] = names[i] ? PyObject_GetAttrString(errors, names[i])
                                 : Py_NewRef(i == ML_ERR_VALUE ? PyExc_ValueError : PyExc_SystemError);
        if (!st->errors[i]) {
            Py_DECREF(errors);
            return -1;
        }
    }
    Py_DECREF(errors);
    return 0;
}

static int module_exec(PyObject *module) {
    static const char *const names[MLPY_NAME_COUNT] = {
#define MLPY_NAME_TEXT(n) #n,
        MLPY_NAMES(MLPY_NAME_TEXT)
#undef MLPY_NAME_TEXT
    };
    static const char *const dtype_names[ML_DTYPE_COUNT] = {"float32", "float16", "bfloat16",
                                                            "int32",   "uint8",   "bool_"};
    mlpy_state *st = state_of_module(module);
    st->queue = mlpy_queue_create();
    if (!st->queue)
        return -1;
    for (int i = 0; i < MLPY_NAME_COUNT; i++) {
        st->names[i] = PyUnicode_InternFromString(names[i]);
        if (!st->names[i])
            return -1;
    }
    if (load_errors(st) < 0 || add_type(module, &mlpy_dtype_spec, &st->dtype_type) < 0 ||
        add_type(module, &mlpy_tensor_spec, &st->tensor_type) < 0 ||
        add_type(module, &mlpy_raw_spec, &st->raw_type) < 0 ||
        add_type(module, &mlpy_context_spec, &st->context_type) < 0 ||
        add_type(module, &mlpy_cache_spec, &st->cache_type) < 0 ||
        add_type(module, &mlpy_guard_spec, &st->guard_type) < 0 ||
        add_type(module, &mlpy_profile_spec, &st->profile_type) < 0 ||
        add_type(module, &mlpy_metal_library_spec, &st->metal_library_type) < 0 ||
        add_type(module, &mlpy_metal_function_spec, &st->metal_function_type) < 0 ||
        add_type(module, &mlpy_metal_hazards_spec, &st->metal_hazards_type) < 0 ||
        publish(module, st->metal_library_type) < 0 || publish(module, st->metal_hazards_type) < 0 ||
        publish(module, st->dtype_type) < 0 || publish(module, st->tensor_type) < 0 ||
        publish(module, st->context_type) < 0 || publish(module, st->cache_type) < 0 ||
        publish(module, st->profile_type) < 0)
        return -1;
    for (int i = 0; i < ML_DTYPE_COUNT; i++) {
        mlpy_dtype *d = PyObject_New(mlpy_dtype, st->dtype_type);
        if (!d)
            return -1;
        d->dtype = (ml_dtype)i;
        st->dtypes[i] = (PyObject *)d;
        if (PyModule_AddObjectRef(module, dtype_names[i], (PyObject *)d) < 0)
            return -1;
    }
    if (PyModule_AddFunctions(module, mlpy_op_functions) < 0 ||
        PyModule_AddFunctions(module, mlpy_metrics_functions) < 0)
        return -1;
    if (PyModule_AddFunctions(module, mlpy_select_functions) < 0 ||
        PyModule_AddFunctions(module, ml_ceiling_methods) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", ml_version());
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    mlpy_state *st = state_of_module(module);
    Py_VISIT(st->dtype_type);
    Py_VISIT(st->tensor_type);
    Py_VISIT(st->raw_type);
    Py_VISIT(st->context_type);
    Py_VISIT(st->cache_type);
    Py_VISIT(st->guard_type);
    Py_VISIT(st->profile_type);
    Py_VISIT(st->metal_library_type);
    Py_VISIT(st->metal_function_type);
    Py_VISIT(st->metal_hazards_type);
    Py_VISIT(st->np_generic);
    Py_VISIT(st->np_complex);
    for (int i = 0; i < ML_DTYPE_COUNT; i++)
        Py_VISIT(st->dtypes[i]);
    for (int i = 0; i < ML_STATUS_COUNT; i++)
        Py_VISIT(st->errors[i]);
    return 0;
}

static int module_clear(PyObject *module) {
    mlpy_state *st = state_of_module(module);
    Py_CLEAR(st->dtype_type);
    Py_CLEAR(st->tensor_type);
    Py_CLEAR(st->raw_type);
    Py_CLEAR(st->context_type);
    Py_CLEAR(st->cache_type);
    Py_CLEAR(st->guard_type);
    Py_CLEAR(st->profile_type);
    Py_CLEAR(st->metal_library_type);
    Py_CLEAR(st->metal_function_type);
    Py_CLEAR(st->metal_hazards_type);
    Py_CLEAR(st->np_generic);
    Py_CLEAR(st->np_complex);
    for (int i = 0; i < ML_DTYPE_COUNT; i++)
        Py_CLEAR(st->dtypes[i]);
    for (int i = 0; i < ML_STATUS_COUNT; i++)
        Py_CLEAR(st->errors[i]);
    for (int i = 0; i < MLPY_NAME_COUNT; i++)
        Py_CLEAR(st->names[i]);
    return 0;
}

static void module_free(void *module) {
    mlpy_state *st = state_of_module(module);
    if (!st)
        return;
    module_clear(module);
    if (st->ctx)
        ml_context_release(st->ctx);
    st->ctx = NULL;
    if (st->queue)
        mlpy_queue_close(st->queue);
    st->queue = NULL;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "metallic._core",
    .m_doc = PyDoc_STR("The C core of metallic; use it through the package metallic."),
    .m_size = sizeof(mlpy_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&module_def);
}
