/* Kernels from MSL source, as metallic/metal.py uses them: libraries, functions with their constants, dispatches. What
 * is pleasant to call is written in Python; here objects are held, the GIL is let go, and memory is pinned. */
#include "mlpy.h"

#include "softmetal/executor.h"

#include <stdlib.h>
#include <string.h>

typedef struct mlpy_metal_library {
    PyObject_HEAD sm_library *library;
} mlpy_metal_library;

typedef struct mlpy_metal_function {
    PyObject_HEAD sm_kernel *kernel;
    unsigned char *constants;
} mlpy_metal_function;

typedef struct mlpy_metal_hazards {
    PyObject_HEAD sm_hazards *tracker;
} mlpy_metal_hazards;

/* The exception of status; the whole of log where there is one, else the last error. Frees log. Returns NULL. */
static PyObject *raise_log(mlpy_state *st, ml_status status, char *log) {
    PyErr_SetString(st->errors[status], log && *log ? log : ml_last_error());
    free(log);
    return NULL;
}

/* ---- libraries --------------------------------------------------------------------------------------------------- */

/* What sm_library_create reads; the strings belong to the Python objects. */
typedef struct library_arguments {
    sm_library_options options;
    sm_macro *macros;
    const char **include_dirs;
} library_arguments;

static int read_macros(PyObject *list, library_arguments *a) {
    const Py_ssize_t n = PyList_GET_SIZE(list);
    a->macros = PyMem_Calloc((size_t)n + 1, sizeof *a->macros);
    if (!a->macros) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "ss", &a->macros[i].name, &a->macros[i].value))
            return -1;
    a->options.macros = a->macros;
    a->options.n_macros = (int)n;
    return 0;
}

static int read_include_dirs(PyObject *list, library_arguments *a) {
    const Py_ssize_t n = PyList_GET_SIZE(list);
    a->include_dirs = PyMem_Calloc((size_t)n + 1, sizeof *a->include_dirs);
    if (!a->include_dirs) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        a->include_dirs[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i));
        if (!a->include_dirs[i])
            return -1;
    }
    a->options.include_dirs = a->include_dirs;
    a->options.n_include_dirs = (int)n;
    return 0;
}

/* _MetalLibrary(source, name, macros, include_dirs, checked, strict): macros is a list of (name, value), include_dirs a
 * list of str. */
static PyObject *library_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    mlpy_state *st = PyType_GetModuleState(type);
    library_arguments a = {{0}, NULL, NULL};
    Py_ssize_t length;
    PyObject *macros, *include_dirs;
    int checked, strict;
    mlpy_metal_library *self = NULL;
    if (!PyArg_ParseTuple(args, "s#sO!O!pp", &a.options.source, &length, &a.options.name, &PyList_Type, &macros,
                          &PyList_Type, &include_dirs, &checked, &strict))
        return NULL;
    a.options.length = (size_t)length;
    a.options.checked = checked != 0;
    a.options.strict = strict != 0;
    if (read_macros(macros, &a) < 0 || read_include_dirs(include_dirs, &a) < 0)
        goto done;
    self = PyObject_New(mlpy_metal_library, type);
    if (!self)
        goto done;
    self->library = NULL;
    char *log = NULL;
    ml_status status;
    Py_BEGIN_ALLOW_THREADS
    status = sm_library_create(&a.options, &self->library, &log);
    Py_END_ALLOW_THREADS
    if (status != ML_OK) {
        Py_CLEAR(self);
        raise_log(st, status, log);
    } else {
        free(log); /* warnings: the user's compiler options do not ask for any */
    }
done:
    PyMem_Free(a.macros);
    PyMem_Free(a.include_dirs);
    return (PyObject *)self;
}

static void library_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (((mlpy_metal_library *)self)->library)
        sm_library_release(((mlpy_metal_library *)self)->library);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Names of the kernels, in the order of the source. */
static PyObject *library_names(PyObject *self, PyObject *ignored) {
    (void)ignored;
    const sm_library *library = ((mlpy_metal_library *)self)->library;
    const int n = sm_library_function_count(library);
    PyObject *names = PyList_New(n);
    for (int i = 0; names && i < n; i++) {
        PyObject *name = PyUnicode_FromString(sm_library_function(library, i)->name);
        if (!name)
            Py_CLEAR(names);
        else
            PyList_SET_ITEM(names, i, name);
    }
    return names;
}

/* [(name, index, type, optional)] of the function constants that a kernel can reach. */
static PyObject *library_constants(PyObject *self, PyObject *name) {
    const char *text = PyUnicode_AsUTF8(name);
    if (!text)
        return NULL;
    const sm_function_info *f = sm_library_find(((mlpy_metal_library *)self)->library, text);
    PyObject *list = PyList_New(f ? f->n_constants : 0);
    for (int i = 0; list && f && i < f->n_constants; i++) {
        const sm_constant_info *c = &f->constants[i];
        PyObject *row = Py_BuildValue("sisO", c->name, (int)c->index, c->type, c->optional ? Py_True : Py_False);
        if (!row)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, row);
    }
    return list;
}

/* load(name, constants) with constants a list of (name or None, index, bytes): a _MetalFunction. */
static PyObject *library_load(PyObject *self, PyObject *args) {
    mlpy_state *st = PyType_GetModuleState(Py_TYPE(self));
    const char *name;
    PyObject *list;
    if (!PyArg_ParseTuple(args, "sO!", &name, &PyList_Type, &list))
        return NULL;
    const Py_ssize_t n = PyList_GET_SIZE(list);
    sm_constant_value *values = PyMem_Calloc((size_t)n + 1, sizeof *values);
    if (!values)
        return PyErr_NoMemory();
    mlpy_metal_function *function = NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        const char *data;
        Py_ssize_t size;
        int index;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "ziy#", &values[i].name, &index, &data, &size))
            goto done;
        values[i].index = index;
        values[i].data = data;
        values[i].size = (size_t)size;
    }
    function = PyObject_New(mlpy_metal_function, st->metal_function_type);
    if (!function)
        goto done;
    function->kernel = NULL;
    function->constants = NULL;
    char *log = NULL;
    ml_status status;
    Py_BEGIN_ALLOW_THREADS
    status = sm_library_load(((mlpy_metal_library *)self)->library, name, sm_executor_host(), &function->kernel, &log);
    if (status == ML_OK)
        status = sm_constants_create(function->kernel, values, (int)n, &function->constants);
    Py_END_ALLOW_THREADS
    if (status != ML_OK) {
        Py_CLEAR(function);
        raise_log(st, status, log);
    } else {
        free(log);
    }
done:
    PyMem_Free(values);
    return (PyObject *)function;
}

static PyMethodDef library_methods[] = {
    {"names", library_names, METH_NOARGS, NULL},
    {"constants", library_constants, METH_O, NULL},
    {"load", library_load, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot library_slots[] = {
    {Py_tp_new, library_new},
    {Py_tp_dealloc, library_dealloc},
    {Py_tp_methods, library_methods},
    {0, NULL},
};

PyType_Spec mlpy_metal_library_spec = {
    .name = "metallic._core._MetalLibrary",
    .basicsize = sizeof(mlpy_metal_library),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = library_slots,
};

/* ---- functions --------------------------------------------------------------------------------------------------- */

static void function_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    mlpy_metal_function *f = (mlpy_metal_function *)self;
    if (f->constants)
        sm_constants_release(f->constants);
    if (f->kernel)
        sm_kernel_release(f->kernel);
    PyObject_Free(self);
    Py_DECREF(type);
}

static const char *argument_kind(const sm_argument *a, const unsigned char *constants) {
    if (a->kind == SM_ARGUMENT_BUFFER)
        return a->enabled && !a->enabled(constants) ? "absent" : "buffer";
    return a->kind == SM_ARGUMENT_THREADGROUP ? "threadgroup" : a->kind == SM_ARGUMENT_BUILTIN ? "builtin" : "texture";
}

/* (max_total_threads or 0, bytes of static threadgroup memory, [(kind, index, name, type, element size, writable,
 * reference)]) */
static PyObject *function_info(PyObject *self, PyObject *ignored) {
    (void)ignored;
    const mlpy_metal_function *f = (mlpy_metal_function *)self;
    const sm_function *function = f->kernel->function;
    PyObject *rows = PyList_New((Py_ssize_t)function->n_arguments);
    for (uint32_t i = 0; rows && i < function->n_arguments; i++) {
        const sm_argument *a = &function->arguments[i];
        const bool writable = a->access == SM_MODE_READ_WRITE && !a->is_constant;
        PyObject *row = Py_BuildValue("sissIOO", argument_kind(a, f->constants), (int)a->index, a->name, a->type,
                                      (unsigned)a->element_size, writable ? Py_True : Py_False,
                                      a->is_reference ? Py_True : Py_False);
        if (!row)
            Py_CLEAR(rows);
        else
            PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
    }
    if (!rows)
        return NULL;
    return Py_BuildValue("IKN", (unsigned)function->max_total_threads,
                         (unsigned long long)sm_kernel_threadgroup_memory(f->kernel), rows);
}

/* Memory that a dispatch uses. */
typedef struct pinned {
    Py_buffer views[SM_MAX_BUFFERS];
    int n_views;
    sm_dispatch dispatch;
} pinned;

static const char nothing[16]; /* where buffers without elements begin */

/* A tensor or an object with the buffer protocol, contiguous. */
static int bind_object(mlpy_state *st, pinned *p, sm_binding *to, PyObject *object, int writable) {
    if (mlpy_is_tensor(object)) {
        const ml_tensor *t = mlpy_tensor_of(object);
        ml_status status = ml_tensor_data(t, &to->address);
        if (status != ML_OK) {
            mlpy_raise(st, status);
            return -1;
        }
        to->length = (uint64_t)ml_view_size(&t->view) * ml_dtype_size(t->view.dtype);
    } else {
        Py_buffer *view = &p->views[p->n_views];
        if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) < 0)
            return -1;
        p->n_views++;
        to->address = view->buf;
        to->length = (uint64_t)view->len;
    }
    if (to->length == 0)
        to->address = (void *)(uintptr_t)nothing;
    return 0;
}

/* [(index, object, writable, read only)] */
static int bind_buffers(mlpy_state *st, pinned *p, PyObject *list) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *object;
        int index, writable, read_only;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iOpp", &index, &object, &writable, &read_only))
            return -1;
        if (index < 0 || index >= SM_MAX_BUFFERS) {
            PyErr_Format(PyExc_ValueError, "buffer %d: indices go from 0 to %d", index, SM_MAX_BUFFERS - 1);
            return -1;
        }
        sm_binding *to = &p->dispatch.buffers[index];
        if (bind_object(st, p, to, object, writable) < 0)
            return -1;
        to->read_only = read_only != 0;
    }
    return 0;
}

/* [(index, bytes)] */
static int bind_threadgroup(pinned *p, PyObject *list) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        int index;
        unsigned bytes;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iI", &index, &bytes))
            return -1;
        if (index < 0 || index >= SM_MAX_THREADGROUP_BUFFERS) {
            PyErr_Format(PyExc_ValueError, "threadgroup memory %d: indices go from 0 to %d", index,
                         SM_MAX_THREADGROUP_BUFFERS - 1);
            return -1;
        }
        p->dispatch.threadgroup_memory[index] = bytes;
    }
    return 0;
}

/* The outcome as (findings as JSON or None, findings as text or None, message of a failed dispatch or None). */
static PyObject *outcome(sm_findings *findings, ml_status status) {
    char *json = findings->n ? sm_findings_json(findings) : NULL;
    char *text = findings->n ? sm_findings_text(findings) : NULL;
    PyObject *result = Py_BuildValue("zzz", json, text, status == ML_OK ? NULL : ml_last_error());
    free(json);
    free(text);
    sm_findings_clear(findings);
    return result;
}

/* dispatch(buffers, threadgroup_memory, (grid), (threadgroup), grid_in_threads, order, seed, hazards): outcome().
 * Returns when it has run. hazards: a _MetalHazards, which no other thread uses meanwhile, or None. */
static PyObject *function_dispatch(PyObject *self, PyObject *args) {
    mlpy_state *st = PyType_GetModuleState(Py_TYPE(self));
    mlpy_enter(st);
    mlpy_metal_function *f = (mlpy_metal_function *)self;
    pinned p;
    memset(&p, 0, sizeof p);
    sm_dispatch *d = &p.dispatch;
    PyObject *buffers, *memory, *hazards, *result = NULL;
    unsigned order;
    unsigned long long seed;
    int in_threads;
    if (!PyArg_ParseTuple(args, "O!O!(III)(III)pIKO", &PyList_Type, &buffers, &PyList_Type, &memory, &d->grid[0],
                          &d->grid[1], &d->grid[2], &d->threads_per_threadgroup[0], &d->threads_per_threadgroup[1],
                          &d->threads_per_threadgroup[2], &in_threads, &order, &seed, &hazards))
        return NULL;
    if (hazards != Py_None && !Py_IS_TYPE(hazards, st->metal_hazards_type))
        return PyErr_Format(PyExc_TypeError, "hazards is a %s", Py_TYPE(hazards)->tp_name);
    d->hazards = hazards == Py_None ? NULL : ((mlpy_metal_hazards *)hazards)->tracker;
    d->kernel = f->kernel;
    d->constants = f->constants;
    d->grid_in_threads = in_threads != 0;
    d->order = (sm_order)order;
    d->seed = seed;
    if (bind_buffers(st, &p, buffers) == 0 && bind_threadgroup(&p, memory) == 0) {
        sm_findings findings = {0};
        ml_status status;
        Py_BEGIN_ALLOW_THREADS
        status = sm_dispatch_run(d, &findings);
        Py_END_ALLOW_THREADS
        if (status == ML_ERR_VALUE && findings.n == 0)
            mlpy_raise(st, status);
        else
            result = outcome(&findings, status);
    }
    for (int i = 0; i < p.n_views; i++)
        PyBuffer_Release(&p.views[i]);
    return result;
}

static PyMethodDef function_methods[] = {
    {"info", function_info, METH_NOARGS, NULL},
    {"dispatch", function_dispatch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot function_slots[] = {
    {Py_tp_dealloc, function_dealloc},
    {Py_tp_methods, function_methods},
    {0, NULL},
};

PyType_Spec mlpy_metal_function_spec = {
    .name = "metallic._core._MetalFunction",
    .basicsize = sizeof(mlpy_metal_function),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = function_slots,
};

/* ---- hazards between dispatches ---------------------------------------------------------------------------------- */

/* _MetalHazards(): what the dispatches of one concurrent encoder touched since its last barrier. */
static PyObject *hazards_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    if (!PyArg_ParseTuple(args, ""))
        return NULL;
    mlpy_metal_hazards *self = PyObject_New(mlpy_metal_hazards, type);
    if (!self)
        return NULL;
    self->tracker = sm_hazards_create();
    if (!self->tracker) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void hazards_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    sm_hazards_free(((mlpy_metal_hazards *)self)->tracker);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* barrier(objects): for the memory of these tensors and buffers; with an empty list for all. */
static PyObject *hazards_barrier(PyObject *self, PyObject *list) {
    mlpy_state *st = PyType_GetModuleState(Py_TYPE(self));
    if (!PyList_Check(list))
        return PyErr_Format(PyExc_TypeError, "objects is a %s, not a list", Py_TYPE(list)->tp_name);
    const Py_ssize_t n = PyList_GET_SIZE(list);
    sm_range *ranges = PyMem_Calloc((size_t)n + 1, sizeof *ranges);
    if (!ranges)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        pinned one = {.n_views = 0};
        sm_binding memory = {0};
        if (bind_object(st, &one, &memory, PyList_GET_ITEM(list, i), 0) < 0)
            goto done;
        ranges[i] = (sm_range){memory.address, memory.length};
        for (int k = 0; k < one.n_views; k++)
            PyBuffer_Release(&one.views[k]);
    }
    sm_hazards_barrier(((mlpy_metal_hazards *)self)->tracker, ranges, (int)n);
    result = Py_NewRef(Py_None);
done:
    PyMem_Free(ranges);
    return result;
}

static PyMethodDef hazards_methods[] = {
    {"barrier", hazards_barrier, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hazards_slots[] = {
    {Py_tp_new, hazards_new},
    {Py_tp_dealloc, hazards_dealloc},
    {Py_tp_methods, hazards_methods},
    {0, NULL},
};

PyType_Spec mlpy_metal_hazards_spec = {
    .name = "metallic._core._MetalHazards",
    .basicsize = sizeof(mlpy_metal_hazards),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hazards_slots,
};
