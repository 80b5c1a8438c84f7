/* Private functions of the module through which the tests reach what is pure in the core: selection, resource-cache
 * keys, preferences and tuning tables. They take plain dicts, so that a case, a device or an environment can be made
 * up.
 *
 *     _select(op, case, caps, prefs) -> dict       plans a made-up operation on a made-up device
 *     _plan_key(op, case, plan) -> bytes           the resource-cache key of a planned operation
 *     _parse_prefs(env, kwargs, overrides) -> dict environment < Context keywords < thread overrides
 *     _tuning(device, family, cache_dir) -> list   the rows a device would get
 *     _parse_tuning(text, device, family) -> list  the rows of a table
 *
 * A failure of the core is not raised but returned as {"error": status name, "message": text}. Keys that are left out
 * have the defaults stated at their tables in select_read.c; an unknown key is a KeyError. */
#include "select.h"

#include "dispatch/dispatch.h"
#include "runtime/prefs.h"
#include "runtime/tuning.h"

static const char *const why_names[ML_WHY_COUNT] = {
    [ML_WHY_NONE] = "NONE",
    [ML_WHY_TRANSPOSED] = "TRANSPOSED",
    [ML_WHY_SMALL_N] = "SMALL_N",
    [ML_WHY_SIMD] = "SIMD",
    [ML_WHY_GENERIC] = "GENERIC",
    [ML_WHY_FORCED_BACKEND_ARG] = "FORCED_BACKEND_ARG",
    [ML_WHY_FORCED_BACKEND_PREF] = "FORCED_BACKEND_PREF",
    [ML_WHY_FORCED_SMALLN] = "FORCED_SMALLN",
    [ML_WHY_FORCED_GEMM] = "FORCED_GEMM",
    [ML_WHY_SMALLN_IGNORED] = "SMALLN_IGNORED",
    [ML_WHY_BACKEND_DEFAULT] = "BACKEND_DEFAULT",
    [ML_WHY_BACKEND_ABSENT] = "BACKEND_ABSENT",
    [ML_WHY_TUNED] = "TUNED",
    [ML_WHY_UNSUPPORTED_DTYPE] = "UNSUPPORTED_DTYPE",
    [ML_WHY_UNSUPPORTED_BIAS] = "UNSUPPORTED_BIAS",
    [ML_WHY_UNSUPPORTED_ACTIVATION] = "UNSUPPORTED_ACTIVATION",
    [ML_WHY_UNSUPPORTED_STRIDES] = "UNSUPPORTED_STRIDES",
    [ML_WHY_UNSUPPORTED_MIXED] = "UNSUPPORTED_MIXED",
    [ML_WHY_UNSUPPORTED_SIZE] = "UNSUPPORTED_SIZE",
    [ML_WHY_UNSUPPORTED_MASK] = "UNSUPPORTED_MASK",
    [ML_WHY_UNSUPPORTED_OTHER] = "UNSUPPORTED_OTHER",
    [ML_WHY_FELL_BACK_MLX] = "FELL_BACK_MLX",
    [ML_WHY_FELL_BACK_GENERIC] = "FELL_BACK_GENERIC",
    [ML_WHY_NOT_DISPATCHED] = "NOT_DISPATCHED",
    [ML_WHY_VEC] = "VEC",
    [ML_WHY_BLOCK] = "BLOCK",
    [ML_WHY_VECTOR] = "VECTOR",
    [ML_WHY_TILED] = "TILED",
    [ML_WHY_COMPOSED] = "COMPOSED",
    [ML_WHY_FORCED_VARIANT_ARG] = "FORCED_VARIANT_ARG",
    [ML_WHY_FORCED_VARIANT_PREF] = "FORCED_VARIANT_PREF",
    [ML_WHY_TRIVIAL] = "TRIVIAL",
};

static PyObject *failure(ml_status status) {
    return Py_BuildValue("{s:s, s:s}", "error", ml_status_name(status), "message", ml_last_error());
}

/* Adds value (whose reference it takes; NULL: an exception is set) to dict. */
static int put(PyObject *dict, const char *key, PyObject *value) {
    int result = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return result;
}

static PyObject *bool_of(bool value) {
    return PyBool_FromLong(value);
}

static PyObject *plan_dict(const ml_plan *plan) {
    char variant[64];
    const ml_blocking *block = &plan->block;
    const ml_geometry *g = &plan->geometry;
    PyObject *codes = PyList_New(0), *texts = PyList_New(0), *dict = NULL;
    if (!codes || !texts)
        goto fail;
    for (int i = 0; i < plan->n_why; i++) {
        PyObject *code = PyUnicode_FromString(why_names[plan->why[i]]);
        PyObject *text = PyUnicode_FromString(ml_why_text((ml_why)plan->why[i]));
        int bad = !code || !text || PyList_Append(codes, code) < 0 || PyList_Append(texts, text) < 0;
        Py_XDECREF(code);
        Py_XDECREF(text);
        if (bad)
            goto fail;
    }
    dict = Py_BuildValue(
        "{s:s, s:s, s:s, s:z, s:i, s:i, s:i, s:(LLL), s:((iii)(iii)i), s:L, s:L, s:L, s:L, s:d, s:O, s:O}", "op",
        ml_op_name(plan->op), "family", ml_family_name(plan->op, plan->family), "variant",
        ml_plan_variant_format(plan, variant, sizeof variant), "kernel", plan->kernel ? plan->kernel->name : NULL,
        "variant_kind", (int)plan->variant, "bucket", (int)plan->bucket, "tile", (int)plan->tile, "block",
        (long long)block->mc, (long long)block->nc, (long long)block->kc, "geometry", g->grid[0], g->grid[1],
        g->grid[2], g->threadgroup[0], g->threadgroup[1], g->threadgroup[2], g->threadgroup_memory, "scratch_bytes",
        (long long)plan->scratch_bytes, "bytes_read", (long long)plan->bytes_read, "bytes_written",
        (long long)plan->bytes_written, "flops", (long long)plan->flops, "predicted_us", plan->predicted_us, "why",
        codes, "why_text", texts);
    if (dict &&
        (put(dict, "transposed", bool_of(plan->transposed)) < 0 || put(dict, "composed", bool_of(plan->composed)) < 0 ||
         put(dict, "simd_reduction", bool_of(plan->simd_reduction)) < 0))
        Py_CLEAR(dict);
fail:
    Py_XDECREF(codes);
    Py_XDECREF(texts);
    return dict;
}

PyObject *mlpy_select(PyObject *self, PyObject *args) {
    const char *name;
    PyObject *case_dict, *caps_dict, *prefs_dict, *result = NULL;
    if (!PyArg_ParseTuple(args, "sO!O!O!:_select", &name, &PyDict_Type, &case_dict, &PyDict_Type, &caps_dict,
                          &PyDict_Type, &prefs_dict))
        return NULL;
    ml_op op;
    ml_caps caps;
    ml_prefs prefs = ML_PREFS_DEFAULTS;
    mlpy_rows rows = {0};
    ml_status status = ML_OK;
    if (mlpy_read_case(name, case_dict, &op) < 0 || mlpy_read_caps(caps_dict, &caps, &rows) < 0 ||
        mlpy_read_prefs(prefs_dict, &prefs, &status) < 0)
        goto done;
    ml_plan plan;
    if (status == ML_OK)
        status = ml_plan_op(&op, &caps, &prefs, &plan);
    result = status == ML_OK ? plan_dict(&plan) : failure(status);
done:
    mlpy_rows_free(&rows);
    return result;
}

PyObject *mlpy_plan_key(PyObject *self, PyObject *args) {
    const char *name;
    PyObject *case_dict, *plan_fields;
    if (!PyArg_ParseTuple(args, "sO!O!:_plan_key", &name, &PyDict_Type, &case_dict, &PyDict_Type, &plan_fields))
        return NULL;
    ml_op op;
    ml_plan plan;
    if (mlpy_read_case(name, case_dict, &op) < 0 || mlpy_read_plan(op.kind, plan_fields, &plan) < 0)
        return NULL;
    ml_cache_key key;
    ml_plan_key(&op, &plan, &key);
    return PyBytes_FromStringAndSize((const char *)key.bytes, key.size);
}

/* ---- preferences ---- */

typedef struct fake_environment {
    PyObject *variables, *warnings;
} fake_environment;

static const char *fake_getenv(void *arg, const char *name) {
    PyObject *value = PyDict_GetItemString(((fake_environment *)arg)->variables, name);
    return value && PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
}

static void fake_warn(void *arg, const char *message) {
    PyObject *text = PyUnicode_FromString(message);
    if (text)
        PyList_Append(((fake_environment *)arg)->warnings, text);
    Py_XDECREF(text);
}

static PyObject *prefs_dict_of(const ml_pref_set *set, PyObject *warnings) {
    static const char *const forces[] = {"auto", "smalln", "gemm"};
    const ml_pref_values *v = &set->values;
    const ml_prefs *s = &v->select;
    PyObject *given = PyList_New(0);
    for (int id = 0; given && id < ML_PREF_COUNT; id++) {
        if (!ml_pref_given(set, (ml_pref_id)id))
            continue;
        PyObject *name = PyUnicode_FromString(ml_pref_describe((ml_pref_id)id).env);
        if (!name || PyList_Append(given, name) < 0)
            Py_CLEAR(given);
        Py_XDECREF(name);
    }
    if (!given)
        return NULL;
    PyObject *dict = Py_BuildValue(
        "{s:s, s:s, s:L, s:L, s:L, s:s, s:L, s:s, s:I, s:s, s:s, s:s, s:I, s:i, s:i, s:s, s:s, s:N, s:O}",
        "matmul_backend", ml_backend_name(s->matmul_backend), "matmul_variant_force", forces[s->matmul_variant_force],
        "matmul_smalln_max_n", (long long)s->smalln_max_n, "matmul_simd_m_min", (long long)s->simd_m_min,
        "matmul_simd_n_min", (long long)s->simd_n_min, "softmax_variant", ml_softmax_variant_name(s->softmax_variant),
        "softmax_vec_max_k", (long long)s->softmax_vec_max_k, "sdpa_variant", ml_sdpa_variant_name(s->sdpa_variant),
        "dispatch", s->dispatch_ops, "precision", s->precision == ML_PRECISION_HIGH ? "high" : "fast", "submit",
        s->submit == ML_SUBMIT_PER_ITEM ? "per_item" : "batched", "device", v->device, "isa", v->isa_mask,
        "num_threads", v->num_threads, "log_level", (int)v->log_level, "metrics_jsonl_path", v->metrics_jsonl_path,
        "cache_dir", v->cache_dir, "given", given, "warnings", warnings);
    if (dict &&
        (put(dict, "matmul_force_smalln", bool_of(s->matmul_force_smalln)) < 0 ||
         put(dict, "exp_kernels", bool_of(s->exp_kernels)) < 0 ||
         put(dict, "metrics_console", bool_of(v->metrics_console)) < 0 ||
         put(dict, "enable_profiling", bool_of(v->enable_profiling)) < 0 || put(dict, "check", bool_of(v->check)) < 0 ||
         put(dict, "variants", PyUnicode_FromString(v->variants)) < 0))
        Py_CLEAR(dict);
    return dict;
}

PyObject *mlpy_parse_prefs(PyObject *self, PyObject *args) {
    PyObject *env, *kwargs, *overrides, *result = NULL;
    if (!PyArg_ParseTuple(args, "O!O!O!:_parse_prefs", &PyDict_Type, &env, &PyDict_Type, &kwargs, &PyDict_Type,
                          &overrides))
        return NULL;
    fake_environment fake = {env, PyList_New(0)};
    mlpy_pref_list over = {0}, pushed = {0};
    if (!fake.warnings || mlpy_read_pref_list(kwargs, &over) < 0 || mlpy_read_pref_list(overrides, &pushed) < 0)
        goto done;
    ml_pref_set base, high;
    ml_pref_set_init(&base);
    ml_pref_set_load_from(&base, &(ml_pref_source){fake_getenv, fake_warn, &fake});
    ml_pref_set_init(&high);
    ml_status status = ml_pref_set_load(&high, over.items, over.n);
    if (status == ML_OK) {
        ml_pref_set_merge(&base, &high);
        if (pushed.n > 0)
            status = ml_prefs_push(pushed.items, pushed.n);
    }
    if (status == ML_OK) {
        ml_prefs_apply_thread(&base.values.select);
        if (pushed.n > 0)
            ml_prefs_pop();
    }
    result = status == ML_OK ? prefs_dict_of(&base, fake.warnings) : failure(status);
done:
    mlpy_pref_list_free(&over);
    mlpy_pref_list_free(&pushed);
    Py_XDECREF(fake.warnings);
    return result;
}

static PyObject *pref_table(PyObject *self, PyObject *ignored) {
    PyObject *list = PyList_New(0);
    for (int id = 0; list && id < ML_PREF_COUNT; id++) {
        ml_pref_info info = ml_pref_describe((ml_pref_id)id);
        PyObject *row = Py_BuildValue("{s:s, s:z, s:s, s:N}", "env", info.env, "alias", info.alias, "accepted",
                                      info.accepted, "per_thread", bool_of(info.per_thread));
        if (!row || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

/* ---- tuning tables ---- */

static PyObject *tuning_list(ml_status status, ml_tuning *tuning) {
    if (status != ML_OK)
        return failure(status);
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < tuning->n; i++) {
        const ml_tuning_row *r = &tuning->rows[i];
        PyObject *row =
            Py_BuildValue("{s:s, s:I, s:(LL), s:(LL), s:(LL), s:s, s:z, s:f}", "op", ml_op_name(r->op), "dtypes",
                          r->dtypes, "m", (long long)r->m_min, (long long)r->m_max, "n", (long long)r->n_min,
                          (long long)r->n_max, "k", (long long)r->k_min, (long long)r->k_max, "family",
                          ml_backend_name((ml_matmul_backend)r->family), "kernel", r->kernel, "gain", (double)r->gain);
        if (!row || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    ml_tuning_release(tuning);
    return list;
}

static PyObject *tuning_for(PyObject *self, PyObject *args) {
    const char *device, *family, *cache_dir;
    if (!PyArg_ParseTuple(args, "ssz:_tuning", &device, &family, &cache_dir))
        return NULL;
    ml_tuning tuning = {0};
    return tuning_list(ml_tuning_for(device, family, cache_dir, &tuning), &tuning);
}

static PyObject *parse_tuning(PyObject *self, PyObject *args) {
    const char *text;
    ml_tuning_query query;
    if (!PyArg_ParseTuple(args, "sss:_parse_tuning", &text, &query.device, &query.family))
        return NULL;
    ml_tuning tuning = {0};
    return tuning_list(ml_tuning_parse("table", text, &query, &tuning), &tuning);
}

PyMethodDef mlpy_select_functions[] = {
    {"_select", mlpy_select, METH_VARARGS, NULL},
    {"_plan_key", mlpy_plan_key, METH_VARARGS, NULL},
    {"_parse_prefs", mlpy_parse_prefs, METH_VARARGS, NULL},
    {"_pref_table", pref_table, METH_NOARGS, NULL},
    {"_tuning", tuning_for, METH_VARARGS, NULL},
    {"_parse_tuning", parse_tuning, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
