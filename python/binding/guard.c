/* One context manager type for what opens and closes per thread. */
#include "mlpy.h"

#include "runtime/prefs.h"

typedef enum guard_kind { GUARD_SCOPE, GUARD_PREFS, GUARD_BATCH } guard_kind;

typedef struct guard {
    PyObject_HEAD guard_kind kind;
    int depth;            /* entered and not yet left; all on one thread */
    unsigned long thread; /* that thread */
    PyObject *object;     /* the label, the Context; NULL for preferences */
    mlpy_prefs prefs;
} guard;

static guard *guard_new(mlpy_state *st, guard_kind kind, PyObject *object) {
    guard *g = PyObject_New(guard, st->guard_type);
    if (g) {
        g->kind = kind;
        g->depth = 0;
        g->thread = 0;
        g->object = Py_XNewRef(object);
        g->prefs = (mlpy_prefs){0};
    }
    return g;
}

static void guard_dealloc(PyObject *self) {
    guard *g = (guard *)self;
    PyTypeObject *type = Py_TYPE(self);
    mlpy_prefs_free(&g->prefs);
    Py_XDECREF(g->object);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *guard_enter(PyObject *self, PyObject *ignored) {
    guard *g = (guard *)self;
    ml_status status = ML_OK;
    if (g->depth > 0 && g->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "this context manager is in use on another thread");
        return NULL;
    }
    switch (g->kind) {
    case GUARD_SCOPE: {
        const char *label = PyUnicode_AsUTF8(g->object);
        if (!label)
            return NULL;
        ml_scope_push(label);
        break;
    }
    case GUARD_PREFS:
        status = ml_prefs_push_for(g, g->prefs.items, g->prefs.n);
        break;
    case GUARD_BATCH:
        status = ml_batch_begin(((mlpy_context *)g->object)->ctx);
        break;
    }
    if (status != ML_OK)
        return mlpy_raise(mlpy_state_of(self), status);
    g->depth++;
    g->thread = PyThread_get_thread_ident();
    return Py_NewRef(g->kind == GUARD_BATCH ? g->object : Py_None);
}

static PyObject *guard_exit(PyObject *self, PyObject *args) {
    guard *g = (guard *)self;
    if (g->depth == 0 || g->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "this context manager was not entered on this thread");
        return NULL;
    }
    g->depth--;
    ml_status status = ML_OK;
    switch (g->kind) {
    case GUARD_SCOPE:
        ml_scope_pop();
        break;
    case GUARD_PREFS:
        ml_prefs_pop_for(g);
        break;
    case GUARD_BATCH:
        Py_BEGIN_ALLOW_THREADS
        status = ml_batch_end(((mlpy_context *)g->object)->ctx);
        Py_END_ALLOW_THREADS
        break;
    }
    if (status != ML_OK)
        return mlpy_raise(mlpy_state_of(self), status);
    Py_RETURN_NONE;
}

static PyMethodDef guard_methods[] = {
    {"__enter__", guard_enter, METH_NOARGS, NULL},
    {"__exit__", guard_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot guard_slots[] = {
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_methods, guard_methods},
    {0, NULL},
};

PyType_Spec mlpy_guard_spec = {
    .name = "metallic._core._Guard",
    .basicsize = sizeof(guard),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = guard_slots,
};

/* ---- makers ------------------------------------------------------------------------------------------------------ */

PyObject *mlpy_guard_scope(PyObject *module, PyObject *label) {
    if (!PyUnicode_Check(label)) {
        PyErr_Format(PyExc_TypeError, "scope: name must be a string, not %.100s", Py_TYPE(label)->tp_name);
        return NULL;
    }
    return (PyObject *)guard_new(PyModule_GetState(module), GUARD_SCOPE, label);
}

PyObject *mlpy_guard_batch(PyObject *context, PyObject *ignored) {
    return (PyObject *)guard_new(mlpy_state_of(context), GUARD_BATCH, context);
}

const char mlpy_prefs_doc[] =
    "prefs($module, /, **overrides)\n--\n\n"
    "Overrides preferences for this thread within a with block.\n"
    "\n"
    "Keywords are the environment variables in lower case without METALLIC_. An argument of a call still wins;\n"
    "None leaves a preference alone. ValueError for an unknown name, when the block is entered.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> x = ml.ones((2, 64))\n"
    ">>> with ml.prefs(matmul_backend='mlx'):\n"
    "...     ml.explain(ml.matmul, x, x.T).backend\n"
    "'mlx'\n";

PyObject *mlpy_guard_prefs(PyObject *module, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_Format(PyExc_TypeError, "prefs() takes no positional arguments (%zd given)", PyTuple_GET_SIZE(args));
        return NULL;
    }
    guard *g = guard_new(PyModule_GetState(module), GUARD_PREFS, NULL);
    if (g && kwargs && mlpy_prefs_from(kwargs, &g->prefs) < 0)
        Py_CLEAR(g);
    return (PyObject *)g;
}
