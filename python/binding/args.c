#include "mlpy.h"

#include <string.h>

static int mlpy_find(const mlpy_state *st, const mlpy_signature *sig, PyObject *key) {
    for (int i = 0; i < sig->n; i++) {
        if (st->names[sig->names[i]] == key)
            return i;
    }
    /* Keywords made at run time need not be interned. */
    for (int i = 0; i < sig->n; i++) {
        if (PyUnicode_Compare(st->names[sig->names[i]], key) == 0)
            return i;
    }
    return -1;
}

static const char *mlpy_param_name(const mlpy_state *st, const mlpy_signature *sig, int i) {
    const char *name = PyUnicode_AsUTF8(st->names[sig->names[i]]);
    return name ? name : "?";
}

int mlpy_parse(const mlpy_state *st, const mlpy_signature *sig, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, PyObject **values) {
    if (nargs > sig->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional argument%s (%zd given)", sig->function,
                     sig->positional, sig->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (int i = 0; i < sig->n; i++)
        values[i] = i < nargs ? args[i] : NULL;
    Py_ssize_t n_kw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t k = 0; k < n_kw; k++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, k);
        int i = mlpy_find(st, sig, key);
        if (i < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", sig->function, key);
            return -1;
        }
        if (i < sig->positional_only) {
            PyErr_Format(PyExc_TypeError, "%s() got positional-only argument '%U' passed as keyword", sig->function,
                         key);
            return -1;
        }
        if (values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", sig->function, key);
            return -1;
        }
        values[i] = args[nargs + k];
    }
    for (int i = 0; i < sig->required; i++) {
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s' (pos %d)", sig->function,
                         mlpy_param_name(st, sig, i), i + 1);
            return -1;
        }
    }
    return 0;
}

int mlpy_arg_bool(PyObject *o, bool *out) {
    if (!o)
        return 0;
    int truth = PyObject_IsTrue(o);
    if (truth < 0)
        return -1;
    *out = truth != 0;
    return 0;
}

int mlpy_arg_double(PyObject *o, const char *name, double *out) {
    if (!o)
        return 0;
    double value = PyFloat_AsDouble(o);
    if (value == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s must be a number, not %.100s", name, Py_TYPE(o)->tp_name);
        else if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Format(PyExc_OverflowError, "%s: an integer too large for a float", name);
        return -1;
    }
    *out = value;
    return 0;
}

int mlpy_arg_float(PyObject *o, const char *name, float *out) {
    double value = (double)*out;
    if (mlpy_arg_double(o, name, &value) < 0)
        return -1;
    *out = (float)value;
    return 0;
}

int mlpy_arg_int64(PyObject *o, const char *name, int64_t *out) {
    if (!o)
        return 0;
    PyObject *index = PyNumber_Index(o);
    if (!index) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s must be an integer, not %.100s", name, Py_TYPE(o)->tp_name);
        return -1;
    }
    const long long value = PyLong_AsLongLong(index);
    if (value == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Format(PyExc_OverflowError, "%s: %S does not fit 64 bits", name, index);
        Py_DECREF(index);
        return -1;
    }
    Py_DECREF(index);
    *out = value;
    return 0;
}

int mlpy_arg_copy(PyObject *o, int *out) {
    *out = -1;
    if (!o || o == Py_None)
        return 0;
    *out = PyObject_IsTrue(o);
    return *out < 0 ? -1 : 0;
}

typedef struct mlpy_word {
    const char *word;
    int value;
} mlpy_word;

/* One of a few words; ValueError lists them. */
static int mlpy_arg_word(PyObject *o, const char *name, const mlpy_word *words, int *out) {
    if (!o || o == Py_None)
        return 0;
    if (!PyUnicode_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s must be a string or None, not %.100s", name, Py_TYPE(o)->tp_name);
        return -1;
    }
    for (const mlpy_word *w = words; w->word; w++) {
        if (PyUnicode_CompareWithASCIIString(o, w->word) == 0) {
            *out = w->value;
            return 0;
        }
    }
    char accepted[256] = "";
    for (const mlpy_word *w = words; w->word; w++) {
        strncat(accepted, w == words ? "'" : ", '", sizeof accepted - strlen(accepted) - 1);
        strncat(accepted, w->word, sizeof accepted - strlen(accepted) - 1);
        strncat(accepted, "'", sizeof accepted - strlen(accepted) - 1);
    }
    PyErr_Format(PyExc_ValueError, "%s: %R is none of %s", name, o, accepted);
    return -1;
}

int mlpy_arg_approximate(PyObject *o, bool *tanh_form) {
    static const mlpy_word words[] = {{"none", 0}, {"tanh", 1}, {NULL, 0}};
    int value = *tanh_form;
    if (mlpy_arg_word(o, "approximate", words, &value) < 0)
        return -1;
    *tanh_form = value != 0;
    return 0;
}

int mlpy_arg_activation(PyObject *o, ml_activation *out) {
    static const mlpy_word words[] = {{"gelu", ML_ACT_GELU},
                                      {"gelu_tanh", ML_ACT_GELU_TANH},
                                      {"silu", ML_ACT_SILU},
                                      {"relu", ML_ACT_RELU},
                                      {NULL, 0}};
    int value = (int)*out;
    if (mlpy_arg_word(o, "activation", words, &value) < 0)
        return -1;
    *out = (ml_activation)value;
    return 0;
}

int mlpy_arg_backend(PyObject *o, ml_matmul_backend *out) {
    static const mlpy_word words[] = {{"auto", ML_BACKEND_AUTO}, {"mlx", ML_BACKEND_MLX},     {"mps", ML_BACKEND_MPS},
                                      {"gemv", ML_BACKEND_GEMV}, {"custom", ML_BACKEND_GEMV}, {NULL, 0}};
    int value = (int)*out;
    if (mlpy_arg_word(o, "backend", words, &value) < 0)
        return -1;
    *out = (ml_matmul_backend)value;
    return 0;
}

int mlpy_arg_variant(PyObject *o, ml_variant_force *out) {
    static const mlpy_word words[] = {
        {"auto", ML_FORCE_AUTO}, {"smalln", ML_FORCE_SMALLN}, {"gemm", ML_FORCE_GEMM}, {NULL, 0}};
    int value = (int)*out;
    if (mlpy_arg_word(o, "variant", words, &value) < 0)
        return -1;
    *out = (ml_variant_force)value;
    return 0;
}

int mlpy_arg_sdpa_variant(PyObject *o, ml_sdpa_variant *out) {
    static const mlpy_word words[] = {{"auto", ML_SDPA_AUTO},
                                      {"composed", ML_SDPA_COMPOSED},
                                      {"vector", ML_SDPA_VECTOR},
                                      {"tiled", ML_SDPA_TILED},
                                      {NULL, 0}};
    int value = (int)*out;
    if (mlpy_arg_word(o, "variant", words, &value) < 0)
        return -1;
    *out = (ml_sdpa_variant)value;
    return 0;
}

int mlpy_arg_softmax_variant(PyObject *o, ml_softmax_variant *out) {
    static const mlpy_word words[] = {
        {"auto", ML_SOFTMAX_AUTO}, {"vec", ML_SOFTMAX_VEC}, {"block", ML_SOFTMAX_BLOCK}, {NULL, 0}};
    int value = (int)*out;
    if (mlpy_arg_word(o, "variant", words, &value) < 0)
        return -1;
    *out = (ml_softmax_variant)value;
    return 0;
}
