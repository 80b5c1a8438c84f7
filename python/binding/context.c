/* Context, ResourceCache, and which context a call runs in. */
#include "mlpy.h"

/* ---- preferences ------------------------------------------------------------------------------------------------- */

static PyObject *pref_text(PyObject *value) {
    if (PyBool_Check(value))
        return PyUnicode_FromString(value == Py_True ? "1" : "0");
    if (PyList_Check(value) || PyTuple_Check(value)) {
        PyObject *comma = PyUnicode_FromString(","), *text = comma ? PyUnicode_Join(comma, value) : NULL;
        Py_XDECREF(comma);
        return text;
    }
    return PyObject_Str(value);
}

int mlpy_prefs_from(PyObject *dict, mlpy_prefs *out) {
    Py_ssize_t n = PyDict_GET_SIZE(dict), at = 0;
    *out = (mlpy_prefs){.items = PyMem_Malloc(((size_t)n + 1) * sizeof *out->items), .hold = PyList_New(0)};
    if (!out->items && !PyErr_Occurred())
        PyErr_NoMemory();
    PyObject *key, *value;
    while (out->items && out->hold && PyDict_Next(dict, &at, &key, &value)) {
        if (value == Py_None)
            continue;
        PyObject *text = pref_text(value);
        ml_pref *item = &out->items[out->n];
        if (text && PyList_Append(out->hold, text) == 0 && PyList_Append(out->hold, key) == 0) {
            item->key = PyUnicode_AsUTF8(key);
            item->value = PyUnicode_AsUTF8(text);
            out->n++;
        }
        Py_XDECREF(text);
        if (PyErr_Occurred())
            break;
    }
    if (!PyErr_Occurred())
        return 0;
    mlpy_prefs_free(out);
    return -1;
}

void mlpy_prefs_free(mlpy_prefs *prefs) {
    PyMem_Free(prefs->items);
    Py_XDECREF(prefs->hold);
    *prefs = (mlpy_prefs){0};
}

/* ---- which context ----------------------------------------------------------------------------------------------- */

ml_context *mlpy_default_context(mlpy_state *st) {
    ml_context *ctx = __atomic_load_n(&st->ctx, __ATOMIC_ACQUIRE), *made = NULL;
    if (ctx)
        return ctx;
    ml_status status = ml_context_default(NULL, &made);
    if (status != ML_OK) {
        mlpy_raise(st, status);
        return NULL;
    }
    /* Without a GIL another thread may have been faster; it got the same context. */
    if (!__atomic_compare_exchange_n(&st->ctx, &ctx, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ml_context_release(made);
    return made;
}

int mlpy_context_of_device(mlpy_state *st, PyObject *device, ml_context **out) {
    const char *name = NULL;
    if (device && device != Py_None) {
        if (!PyUnicode_Check(device)) {
            PyErr_Format(PyExc_TypeError, "device must be a string or None, not %.100s", Py_TYPE(device)->tp_name);
            return -1;
        }
        name = PyUnicode_AsUTF8(device);
        if (!name)
            return -1;
    }
    ml_status status = ml_context_default(name, out);
    if (status == ML_OK)
        return 0;
    mlpy_raise(st, status);
    return -1;
}

ml_context *mlpy_context_of_tensor(mlpy_state *st, const ml_tensor *t) {
    ml_context *ctx = mlpy_default_context(st);
    ml_device *device = t->view.buf->device;
    if (!ctx || ml_context_device_of(ctx) == device)
        return ctx;
    /* Default contexts are kept by the runtime for the life of the process, so a borrowed pointer is safe. */
    ml_status status = ml_context_default(device->name, &ctx);
    if (status != ML_OK) {
        mlpy_raise(st, status);
        return NULL;
    }
    ml_context_release(ctx);
    return ctx;
}

/* ---- Context ----------------------------------------------------------------------------------------------------- */

static PyObject *context_wrap(mlpy_state *st, ml_context *ctx) {
    mlpy_context *self = PyObject_New(mlpy_context, st->context_type);
    if (!self) {
        ml_context_release(ctx);
        return NULL;
    }
    self->ctx = ctx;
    return (PyObject *)self;
}

/* Context(device=None, *, strict=False, **prefs) */
static PyObject *context_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    mlpy_state *st = PyType_GetModuleState(type);
    PyObject *device = NULL, *prefs_dict = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    if (!prefs_dict || !PyArg_ParseTuple(args, "|O:Context", &device)) {
        Py_XDECREF(prefs_dict);
        return NULL;
    }
    mlpy_prefs prefs = {0};
    ml_context_options options = {0};
    ml_context *ctx = NULL;
    PyObject *result = NULL, *named = PyDict_GetItemWithError(prefs_dict, st->names[MLPY_S_device]),
             *strict = PyDict_GetItemWithError(prefs_dict, st->names[MLPY_S_strict]);
    if (device && named) {
        PyErr_SetString(PyExc_TypeError, "Context() got multiple values for argument 'device'");
        goto done;
    }
    device = device ? device : named;
    if (device && device != Py_None) {
        options.device = PyUnicode_Check(device) ? PyUnicode_AsUTF8(device) : NULL;
        if (!options.device) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_TypeError, "device must be a string or None, not %.100s", Py_TYPE(device)->tp_name);
            goto done;
        }
    }
    if (mlpy_arg_bool(strict, &options.strict) < 0)
        goto done;
    Py_XINCREF(device);
    bool deleted = (!named || PyDict_DelItem(prefs_dict, st->names[MLPY_S_device]) == 0) &&
                   (!strict || PyDict_DelItem(prefs_dict, st->names[MLPY_S_strict]) == 0);
    if (deleted && mlpy_prefs_from(prefs_dict, &prefs) == 0) {
        options.prefs = prefs.items;
        options.n_prefs = prefs.n;
        ml_status status = ml_context_create(&options, &ctx);
        result = status == ML_OK ? context_wrap(st, ctx) : mlpy_raise(st, status);
    }
    mlpy_prefs_free(&prefs);
    Py_XDECREF(device);
done:
    Py_DECREF(prefs_dict);
    return result;
}

static void context_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ml_context_release(((mlpy_context *)self)->ctx);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *context_repr(PyObject *self) {
    return PyUnicode_FromFormat("Context(device='%s')", ml_context_device(((mlpy_context *)self)->ctx));
}

static PyObject *context_device(PyObject *self, void *closure) {
    return PyUnicode_FromString(ml_context_device(((mlpy_context *)self)->ctx));
}

PyDoc_STRVAR(synchronize_doc, "synchronize($self, /)\n--\n\n"
                              "Waits until everything that this thread has recorded is complete.\n"
                              "\n"
                              ">>> import metallic as ml\n"
                              ">>> ml.default_context().synchronize()\n");

static PyObject *context_synchronize(PyObject *self, PyObject *ignored) {
    mlpy_state *st = mlpy_state_of(self);
    ml_status status;
    Py_BEGIN_ALLOW_THREADS
    status = ml_context_synchronize(((mlpy_context *)self)->ctx);
    Py_END_ALLOW_THREADS
    mlpy_enter(st);
    if (status != ML_OK)
        return mlpy_raise(st, status);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    memory_stats_doc,
    "memory_stats($self, /)\n--\n\n"
    "The memory pool in bytes: bytes_in_use, bytes_reserved, peak_in_use; and counts: allocations, pool_hits,\n"
    "blocks.\n"
    "\n"
    ">>> import metallic as ml\n"
    ">>> sorted(ml.default_context().memory_stats())\n"
    "['allocations', 'blocks', 'bytes_in_use', 'bytes_reserved', 'peak_in_use', 'pool_hits']\n");

static PyObject *context_memory_stats(PyObject *self, PyObject *ignored) {
    ml_memory_stats s;
    ml_context_memory_stats(((mlpy_context *)self)->ctx, &s);
    return Py_BuildValue("{sLsLsLsLsLsL}", "bytes_in_use", (long long)s.bytes_in_use, "bytes_reserved",
                         (long long)s.bytes_reserved, "peak_in_use", (long long)s.peak_in_use, "allocations",
                         (long long)s.allocations, "pool_hits", (long long)s.pool_hits, "blocks", (long long)s.blocks);
}

static PyObject *cache_stats_dict(const ml_cache_stats *s) {
    return Py_BuildValue("{sLsLsLsL}", "entries", (long long)s->entries, "hits", (long long)s->hits, "misses",
                         (long long)s->misses, "evictions", (long long)s->evictions);
}

PyDoc_STRVAR(cache_stats_doc, "cache_stats($self, /)\n--\n\n"
                              "Counts of the context's own resource cache: entries, hits, misses, evictions.\n"
                              "\n"
                              ">>> import metallic as ml\n"
                              ">>> ml.Context('cpu').cache_stats()['entries']\n"
                              "0\n");

static PyObject *context_cache_stats(PyObject *self, PyObject *ignored) {
    ml_cache_stats s;
    ml_context_cache_stats(((mlpy_context *)self)->ctx, &s);
    return cache_stats_dict(&s);
}

PyDoc_STRVAR(trim_doc, "trim($self, /)\n--\n\n"
                       "Returns pooled memory that no tensor uses to the system.\n"
                       "\n"
                       ">>> import metallic as ml\n"
                       ">>> ml.default_context().trim()\n");

static PyObject *context_trim(PyObject *self, PyObject *ignored) {
    Py_BEGIN_ALLOW_THREADS
    ml_context_trim(((mlpy_context *)self)->ctx);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(batch_doc,
             "batch($self, /)\n--\n\n"
             "A with block whose operations share one command buffer; gives the context.\n"
             "\n"
             "Per thread; blocks nest. On the CPU every operation is complete when it returns, batched or not.\n"
             "\n"
             ">>> import metallic as ml\n"
             ">>> with ml.default_context().batch() as ctx:\n"
             "...     y = ctx.add(ctx.matmul(ml.ones((2, 2)), ml.ones((2, 2))), 1)\n"
             ">>> y.tolist()\n"
             "[[3.0, 3.0], [3.0, 3.0]]\n");

#define MLPY_METHOD(name)                                                                                              \
    {#name, (PyCFunction)(void (*)(void))mlpy_method_##name, METH_FASTCALL | METH_KEYWORDS, mlpy_method_doc_##name},
static PyMethodDef context_methods[] = {
    {"synchronize", context_synchronize, METH_NOARGS, synchronize_doc},
    {"batch", mlpy_guard_batch, METH_NOARGS, batch_doc},
    {"memory_stats", context_memory_stats, METH_NOARGS, memory_stats_doc},
    {"cache_stats", context_cache_stats, METH_NOARGS, cache_stats_doc},
    {"trim", context_trim, METH_NOARGS, trim_doc},
    MLPY_OPS(MLPY_METHOD){NULL, NULL, 0, NULL},
};

static PyGetSetDef context_getset[] = {
    {"device", context_device, NULL, PyDoc_STR("Name of the device: 'cpu', ..."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    context_doc,
    "Context(device=None, *, strict=False, **prefs)\n--\n\n"
    "A device with its preferences, memory pool and resource cache; may be used from many threads.\n\n"
    "device None: METALLIC_DEVICE, else the best device present. strict: a forced choice that cannot do a case raises\n"
    "UnsupportedError instead of falling back. prefs: the environment variables in lower case without METALLIC_; the\n"
    "environment is read once, here. Errors: DeviceError (unknown or absent device), ValueError (unknown "
    "preference).\n\n"
    ">>> import metallic as ml\n"
    ">>> ctx = ml.Context('cpu', matmul_backend='mlx')\n"
    ">>> ctx.matmul(ml.ones((1, 3)), ml.ones((3, 1))).item()\n"
    "3.0\n");

static PyType_Slot context_slots[] = {
    {Py_tp_new, context_new},
    {Py_tp_dealloc, context_dealloc},
    {Py_tp_repr, context_repr},
    {Py_tp_methods, context_methods},
    {Py_tp_getset, context_getset},
    {Py_tp_doc, (void *)context_doc},
    {0, NULL},
};

PyType_Spec mlpy_context_spec = {
    .name = "metallic.Context",
    .basicsize = sizeof(mlpy_context),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = context_slots,
};

PyObject *mlpy_default_context_object(PyObject *module, PyObject *ignored) {
    mlpy_state *st = PyModule_GetState(module);
    ml_context *ctx = mlpy_default_context(st);
    if (!ctx)
        return NULL;
    ml_context_retain(ctx);
    return context_wrap(st, ctx);
}

/* ---- ResourceCache ----------------------------------------------------------------------------------------------- */

static PyObject *cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"cached_only", NULL};
    int cached_only = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:ResourceCache", keywords, &cached_only))
        return NULL;
    mlpy_cache *self = PyObject_New(mlpy_cache, type);
    if (!self)
        return NULL;
    self->cache = NULL;
    ml_status status = ml_resource_cache_create(cached_only != 0, &self->cache);
    if (status != ML_OK) {
        Py_DECREF(self);
        return mlpy_raise(PyType_GetModuleState(type), status);
    }
    return (PyObject *)self;
}

static void cache_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (((mlpy_cache *)self)->cache)
        ml_resource_cache_release(((mlpy_cache *)self)->cache);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *cache_stats(PyObject *self, void *closure) {
    ml_cache_stats s;
    ml_resource_cache_stats(((mlpy_cache *)self)->cache, &s);
    return cache_stats_dict(&s);
}

static PyGetSetDef cache_getset[] = {
    {"stats", cache_stats, NULL, PyDoc_STR("Counts: entries, hits, misses, evictions."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(cache_doc,
             "ResourceCache(*, cached_only=False)\n--\n\n"
             "Prepared resources (plans, pipelines) apart from any context; may be shared by contexts and threads.\n"
             "\n"
             "cached_only: an operation that would have to prepare something raises ResourceNotCached.\n"
             "\n"
             ">>> import metallic as ml\n"
             ">>> ml.ResourceCache().stats\n"
             "{'entries': 0, 'hits': 0, 'misses': 0, 'evictions': 0}\n");

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_getset, cache_getset},
    {Py_tp_doc, (void *)cache_doc},
    {0, NULL},
};

PyType_Spec mlpy_cache_spec = {
    .name = "metallic.ResourceCache",
    .basicsize = sizeof(mlpy_cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cache_slots,
};
