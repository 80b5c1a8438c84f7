/* Dicts to the core's plain types. A table per struct: key, type, where it goes. */
#include "select.h"

#include "dispatch/dispatch.h"
#include "runtime/prefs.h"

#include <string.h>

typedef enum field_type {
    FIELD_OTHER, /* read by the caller */
    FIELD_INT,   /* int */
    FIELD_LONG,  /* int64_t */
    FIELD_MASK,  /* uint32_t */
    FIELD_BOOL,
    FIELD_FLOAT,
    FIELD_TEXT,   /* const char *, borrowed */
    FIELD_CHOICE, /* int: position in choices */
    FIELD_DTYPES  /* uint32_t from a list of dtype names */
} field_type;

typedef struct field {
    const char *key;
    field_type type;
    size_t offset;
    const char *const *choices;
} field;

static const char *const dtype_names[] = {"float32", "float16", "bfloat16", "int32", "uint8", "bool", NULL};
static const char *const backend_names[] = {"auto", "mlx", "mps", "gemv", NULL};
static const char *const force_names[] = {"auto", "smalln", "gemm", NULL};
static const char *const softmax_names[] = {"auto", "vec", "block", NULL};
static const char *const sdpa_names[] = {"auto", "composed", "vector", "tiled", NULL};
static const char *const activation_names[] = {"none", "gelu", "gelu_tanh", "silu", "relu", NULL};
static const char *const mask_names[] = {"none", "bool", "additive", NULL};
static const char *const device_names[] = {"cpu", "metal", "cuda", NULL};
static const char *const binary_names[] = {"add", "sub", "mul", "div", "equal", "not_equal", NULL};
static const char *const support_names[] = {"bias",     "activation", "alpha_beta", "any_strides", "mixed_dtypes",
                                            "causal",   "mask",       "window",     "sinks",       "softcap",
                                            "bf16_dot", "f16_dot",    NULL};

static int choose(PyObject *value, const char *const *choices, int *out) {
    const char *text = PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    for (int i = 0; text && choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "%R is none of the accepted names (%s, ...)", value, choices[0]);
    return -1;
}

/* A list of names as bits. */
static int read_bits(PyObject *list, const char *const *choices, uint32_t *out) {
    PyObject *fast = PySequence_Fast(list, "a list of names is wanted");
    if (!fast)
        return -1;
    uint32_t bits = 0;
    int result = 0, position;
    for (Py_ssize_t i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(fast); i++) {
        result = choose(PySequence_Fast_GET_ITEM(fast, i), choices, &position);
        if (result == 0)
            bits |= 1u << position;
    }
    Py_DECREF(fast);
    *out = bits;
    return result;
}

static int read_field(PyObject *value, const field *f, void *base) {
    void *to = (char *)base + f->offset;
    long long whole = 0;
    if (f->type == FIELD_INT || f->type == FIELD_LONG || f->type == FIELD_MASK) {
        whole = PyLong_AsLongLong(value);
        if (whole == -1 && PyErr_Occurred())
            return -1;
    }
    switch (f->type) {
    case FIELD_OTHER:
        return 0;
    case FIELD_INT:
        *(int *)to = (int)whole;
        return 0;
    case FIELD_LONG:
        *(int64_t *)to = whole;
        return 0;
    case FIELD_MASK:
        *(uint32_t *)to = (uint32_t)whole;
        return 0;
    case FIELD_BOOL: {
        int truth = PyObject_IsTrue(value);
        *(bool *)to = truth > 0;
        return truth < 0 ? -1 : 0;
    }
    case FIELD_FLOAT: {
        double number = PyFloat_AsDouble(value);
        *(float *)to = (float)number;
        return number == -1.0 && PyErr_Occurred() ? -1 : 0;
    }
    case FIELD_TEXT: {
        const char *text = value == Py_None ? NULL : PyUnicode_AsUTF8(value);
        memcpy(to, &text, sizeof text);
        return !text && value != Py_None ? -1 : 0;
    }
    case FIELD_CHOICE: {
        int position;
        if (choose(value, f->choices, &position) < 0)
            return -1;
        memcpy(to, &position, sizeof position);
        return 0;
    }
    case FIELD_DTYPES:
        return read_bits(value, dtype_names, to);
    }
    return 0;
}

/* Fills base from dict; keys that the table does not have are an error. */
static int read_fields(PyObject *dict, const field *fields, size_t n, void *base) {
    Py_ssize_t found = 0;
    for (size_t i = 0; i < n; i++) {
        PyObject *value = PyDict_GetItemString(dict, fields[i].key);
        if (!value)
            continue;
        found++;
        if (read_field(value, &fields[i], base) < 0)
            return -1;
    }
    if (found == PyDict_GET_SIZE(dict))
        return 0;
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        size_t i = 0;
        while (i < n && PyUnicode_CompareWithASCIIString(key, fields[i].key) != 0)
            i++;
        if (i == n) {
            PyErr_SetObject(PyExc_KeyError, key);
            return -1;
        }
    }
    return 0;
}
#define READ(dict, fields, base) read_fields(dict, fields, sizeof(fields) / sizeof((fields)[0]), base)

/* ---- operations ---- */

/* What every case may say about its operands: "dtype" of all, "dtypes" and "strides" (elements, of the last dims) and
 * "offsets" (bytes) of each by name. */
#define OPERAND_FIELDS                                                                                                 \
    {"dtype", FIELD_OTHER, 0, NULL}, {"dtypes", FIELD_OTHER, 0, NULL}, {"strides", FIELD_OTHER, 0, NULL}, {            \
        "offsets", FIELD_OTHER, 0, NULL                                                                                \
    }

static int read_operand(PyObject *dict, const char *name, ml_view *v) {
    int dtype = ML_F32;
    PyObject *value = PyDict_GetItemString(dict, "dtype"), *each = PyDict_GetItemString(dict, "dtypes");
    PyObject *own = each ? PyDict_GetItemString(each, name) : NULL;
    if (own || value) {
        if (choose(own ? own : value, dtype_names, &dtype) < 0)
            return -1;
    }
    v->dtype = (ml_dtype)dtype;
    each = PyDict_GetItemString(dict, "strides");
    own = each ? PyDict_GetItemString(each, name) : NULL;
    if (own) {
        PyObject *fast = PySequence_Fast(own, "strides are a list");
        Py_ssize_t n = fast ? PySequence_Fast_GET_SIZE(fast) : 0;
        for (Py_ssize_t i = 0; fast && i < n && i < v->ndim; i++)
            v->strides[v->ndim - 1 - i] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(fast, n - 1 - i));
        Py_XDECREF(fast);
    }
    each = PyDict_GetItemString(dict, "offsets");
    own = each ? PyDict_GetItemString(each, name) : NULL;
    if (own)
        v->offset = PyLong_AsLongLong(own);
    return PyErr_Occurred() ? -1 : 0;
}

static void set_shape(ml_view *v, int ndim, const int64_t *dims) {
    v->ndim = ndim;
    memcpy(v->shape, dims, (size_t)ndim * sizeof *dims);
    ml_view_set_contiguous(v);
}

/* {m, n, k, batch = 1 (its dim is there when it is not 1), alpha = 1, beta = 0, bias = "none" | "n" | "m", activation,
 * transpose_a, transpose_b, skip_hidden, backend, variant}; operands a, b, c, bias, out. */
static int read_matmul(PyObject *dict, ml_op *op) {
#define AT(f) offsetof(ml_matmul_params, f)
    static const field fields[] = {{"m", FIELD_LONG, AT(m), NULL},
                                   {"n", FIELD_LONG, AT(n), NULL},
                                   {"k", FIELD_LONG, AT(k), NULL},
                                   {"batch", FIELD_LONG, AT(batch), NULL},
                                   {"alpha", FIELD_FLOAT, AT(alpha), NULL},
                                   {"beta", FIELD_FLOAT, AT(beta), NULL},
                                   {"bias", FIELD_OTHER, 0, NULL},
                                   {"activation", FIELD_CHOICE, AT(activation), activation_names},
                                   {"transpose_a", FIELD_BOOL, AT(transpose_a), NULL},
                                   {"transpose_b", FIELD_BOOL, AT(transpose_b), NULL},
                                   {"skip_hidden", FIELD_BOOL, AT(skip_hidden), NULL},
                                   {"backend", FIELD_CHOICE, AT(backend), backend_names},
                                   {"variant", FIELD_CHOICE, AT(variant), force_names},
                                   OPERAND_FIELDS};
#undef AT
    static const char *const bias_names[] = {"none", "n", "m", NULL};
    ml_matmul_params *p = &op->matmul;
    *p = (ml_matmul_params){.m = 1, .n = 1, .k = 1, .batch = 1, .alpha = 1};
    int bias = 0;
    PyObject *bias_value = PyDict_GetItemString(dict, "bias");
    if (READ(dict, fields, p) < 0 || (bias_value && choose(bias_value, bias_names, &bias) < 0))
        return -1;
    p->has_c = p->beta != 0.0f;
    p->has_bias = bias != 0;
    op->n_in = 4;
    op->n_out = 1;
    int nd = p->batch == 1 ? 2 : 3;
    int64_t a[] = {p->batch, p->m, p->k}, b[] = {p->batch, p->k, p->n}, out[] = {p->batch, p->m, p->n};
    const int64_t *shapes[] = {a, b, out, out, out};
    static const char *const names[] = {"a", "b", "c", "bias", "out"};
    for (int i = 0; i < 5; i++) {
        ml_view *v = i < 4 ? &op->in[i] : &op->out[0];
        set_shape(v, nd, shapes[i] + 3 - nd);
        if (i == ML_IN_BIAS) {
            memset(v->strides, 0, sizeof v->strides);
            v->strides[bias == 2 ? nd - 2 : nd - 1] = 1;
        }
        if (read_operand(dict, names[i], v) < 0)
            return -1;
    }
    return 0;
}

/* {rows = 1, seq_q = rows, seq_k = 1, causal, log, query_offset, scale, mask, variant}, of the scores of an attention
 * {scores, sinks, softcap, window} too; operands x, mask, sinks, out. */
static int read_softmax(PyObject *dict, ml_op *op) {
#define AT(f) offsetof(ml_softmax_params, f)
    static const field fields[] = {{"rows", FIELD_LONG, AT(rows), NULL},
                                   {"seq_q", FIELD_LONG, AT(seq_q), NULL},
                                   {"seq_k", FIELD_LONG, AT(seq_k), NULL},
                                   {"scale", FIELD_FLOAT, AT(scale), NULL},
                                   {"causal", FIELD_BOOL, AT(causal), NULL},
                                   {"log", FIELD_BOOL, AT(log), NULL},
                                   {"query_offset", FIELD_LONG, AT(query_offset), NULL},
                                   {"mask", FIELD_CHOICE, AT(mask), mask_names},
                                   {"variant", FIELD_CHOICE, AT(variant), softmax_names},
                                   {"scores", FIELD_BOOL, AT(scores), NULL},
                                   {"sinks", FIELD_BOOL, AT(has_sinks), NULL},
                                   {"softcap", FIELD_FLOAT, AT(softcap), NULL},
                                   {"window", FIELD_LONG, AT(window), NULL},
                                   OPERAND_FIELDS};
#undef AT
    ml_softmax_params *p = &op->softmax;
    *p = (ml_softmax_params){.rows = 1, .seq_k = 1, .scale = 1};
    if (READ(dict, fields, p) < 0)
        return -1;
    if (p->seq_q == 0)
        p->seq_q = p->rows;
    op->n_in = p->has_sinks ? 3 : p->mask != ML_MASK_NONE ? 2 : 1;
    op->n_out = 1;
    int64_t shape[] = {p->rows, p->seq_k};
    set_shape(&op->in[0], 2, shape);
    set_shape(&op->in[1], 2, shape);
    set_shape(&op->in[2], 1, &(int64_t){1});
    set_shape(&op->out[0], 2, shape);
    return read_operand(dict, "x", &op->in[0]) < 0 || read_operand(dict, "mask", &op->in[1]) < 0 ||
                   read_operand(dict, "sinks", &op->in[2]) < 0 || read_operand(dict, "out", &op->out[0]) < 0
               ? -1
               : 0;
}

/* {batch, heads_q, heads_kv, len_q, len_k = 1, dim_qk, dim_v = 64, causal, sinks, query_offset, window, softcap, mask,
 * variant}; operands q, k, v, mask, sinks, out. */
static int read_sdpa(PyObject *dict, ml_op *op) {
#define AT(f) offsetof(ml_sdpa_params, f)
    static const field fields[] = {{"batch", FIELD_LONG, AT(batch), NULL},
                                   {"heads_q", FIELD_LONG, AT(heads_q), NULL},
                                   {"heads_kv", FIELD_LONG, AT(heads_kv), NULL},
                                   {"len_q", FIELD_LONG, AT(len_q), NULL},
                                   {"len_k", FIELD_LONG, AT(len_k), NULL},
                                   {"dim_qk", FIELD_LONG, AT(dim_qk), NULL},
                                   {"dim_v", FIELD_LONG, AT(dim_v), NULL},
                                   {"scale", FIELD_FLOAT, AT(scale), NULL},
                                   {"softcap", FIELD_FLOAT, AT(softcap), NULL},
                                   {"causal", FIELD_BOOL, AT(causal), NULL},
                                   {"sinks", FIELD_BOOL, AT(has_sinks), NULL},
                                   {"query_offset", FIELD_LONG, AT(query_offset), NULL},
                                   {"window", FIELD_LONG, AT(window), NULL},
                                   {"mask", FIELD_CHOICE, AT(mask), mask_names},
                                   {"variant", FIELD_CHOICE, AT(variant), sdpa_names},
                                   OPERAND_FIELDS};
#undef AT
    ml_sdpa_params *p = &op->sdpa;
    *p = (ml_sdpa_params){
        .batch = 1, .heads_q = 1, .heads_kv = 1, .len_q = 1, .len_k = 1, .dim_qk = 64, .dim_v = 64, .scale = 1};
    if (READ(dict, fields, p) < 0)
        return -1;
    op->n_in = 5;
    op->n_out = 1;
    set_shape(&op->in[ML_IN_Q], 4, (int64_t[]){p->batch, p->heads_q, p->len_q, p->dim_qk});
    set_shape(&op->in[ML_IN_K], 4, (int64_t[]){p->batch, p->heads_kv, p->len_k, p->dim_qk});
    set_shape(&op->in[ML_IN_V], 4, (int64_t[]){p->batch, p->heads_kv, p->len_k, p->dim_v});
    set_shape(&op->in[ML_IN_MASK], 4, (int64_t[]){p->batch, p->heads_q, p->len_q, p->len_k});
    set_shape(&op->in[ML_IN_SINKS], 1, (int64_t[]){p->heads_q});
    set_shape(&op->out[0], 4, (int64_t[]){p->batch, p->heads_q, p->len_q, p->dim_v});
    static const char *const names[] = {"q", "k", "v", "mask", "sinks"};
    for (int i = 0; i < 5; i++)
        if (read_operand(dict, names[i], &op->in[i]) < 0)
            return -1;
    return read_operand(dict, "out", &op->out[0]);
}

/* {rows, cols, kind = "add" (binary), a_is_value, b_is_value}; operands a, b (copy: a), out. */
static int read_simple(PyObject *dict, ml_op *op) {
    struct {
        int64_t rows, cols;
        int kind;
        bool a_is_value, b_is_value;
    } c = {1, 1, 0, false, false};
#define AT(f) ((size_t)((char *)&c.f - (char *)&c))
    const field fields[] = {{"rows", FIELD_LONG, AT(rows), NULL},
                            {"cols", FIELD_LONG, AT(cols), NULL},
                            {"kind", FIELD_CHOICE, AT(kind), binary_names},
                            {"a_is_value", FIELD_BOOL, AT(a_is_value), NULL},
                            {"b_is_value", FIELD_BOOL, AT(b_is_value), NULL},
                            OPERAND_FIELDS};
#undef AT
    if (READ(dict, fields, &c) < 0)
        return -1;
    op->n_in = op->kind == ML_OP_BINARY ? 2 : op->kind == ML_OP_COPY ? 1 : 0;
    op->n_out = 1;
    if (op->kind == ML_OP_BINARY)
        op->binary =
            (ml_binary_params){.kind = (ml_binary_kind)c.kind, .a_is_value = c.a_is_value, .b_is_value = c.b_is_value};
    int64_t shape[] = {c.rows, c.cols};
    for (int i = 0; i < op->n_in; i++) {
        set_shape(&op->in[i], 2, shape);
        if (read_operand(dict, i == 0 ? "a" : "b", &op->in[i]) < 0)
            return -1;
    }
    set_shape(&op->out[0], 2, shape);
    return read_operand(dict, "out", &op->out[0]);
}

/* {rows, length, eps, weight, bias, residual}; operands x, weight, bias, residual, out, sum. */
static int read_norm(PyObject *dict, ml_op *op) {
#define AT(f) offsetof(ml_norm_params, f)
    static const field fields[] = {{"rows", FIELD_LONG, AT(rows), NULL},
                                   {"length", FIELD_LONG, AT(length), NULL},
                                   {"eps", FIELD_FLOAT, AT(eps), NULL},
                                   {"weight", FIELD_BOOL, AT(has_weight), NULL},
                                   {"bias", FIELD_BOOL, AT(has_offset), NULL},
                                   {"residual", FIELD_BOOL, AT(has_residual), NULL},
                                   OPERAND_FIELDS};
#undef AT
    static const char *const names[] = {"x", "weight", "bias", "residual", "out", "sum"};
    ml_norm_params *p = &op->norm;
    *p = (ml_norm_params){.rows = 1, .length = 1};
    if (READ(dict, fields, p) < 0)
        return -1;
    op->n_in = 4;
    op->n_out = p->has_residual ? 2 : 1;
    int64_t shape[] = {p->rows, p->length};
    for (int i = 0; i < 6; i++) {
        ml_view *v = i < 4 ? &op->in[i] : &op->out[i - 4];
        const bool vector = i == ML_IN_WEIGHT || i == ML_IN_OFFSET;
        set_shape(v, vector ? 1 : 2, vector ? &shape[1] : shape);
        if (read_operand(dict, names[i], v) < 0)
            return -1;
    }
    return 0;
}

/* {rows, cols, activation}; operands x (swiglu: x, up), out. */
static int read_activate(PyObject *dict, ml_op *op) {
    struct {
        int64_t rows, cols;
        int activation;
    } c = {1, 1, 0};
#define AT(f) ((size_t)((char *)&c.f - (char *)&c))
    const field fields[] = {{"rows", FIELD_LONG, AT(rows), NULL},
                            {"cols", FIELD_LONG, AT(cols), NULL},
                            {"activation", FIELD_CHOICE, AT(activation), activation_names},
                            OPERAND_FIELDS};
#undef AT
    if (READ(dict, fields, &c) < 0)
        return -1;
    op->activate.activation = (ml_activation)c.activation;
    op->n_in = op->kind == ML_OP_SWIGLU ? 2 : 1;
    op->n_out = 1;
    int64_t shape[] = {c.rows, c.cols};
    set_shape(&op->in[0], 2, shape);
    set_shape(&op->in[1], 2, shape);
    set_shape(&op->out[0], 2, shape);
    return read_operand(dict, "x", &op->in[0]) < 0 || read_operand(dict, "up", &op->in[1]) < 0 ||
                   read_operand(dict, "out", &op->out[0]) < 0
               ? -1
               : 0;
}

/* {rows, length, width, dims = width, interleaved, offsets (whether there is a list), scale}; operands x, out. */
static int read_rope(PyObject *dict, ml_op *op) {
    static const int64_t list[1] = {0};
    struct {
        int64_t rows, length, width, dims, offset;
        bool interleaved, offsets;
    } c = {1, 1, 2, 0, 0, false, false};
#define AT(f) ((size_t)((char *)&c.f - (char *)&c))
    const field fields[] = {
        {"rows", FIELD_LONG, AT(rows), NULL},       {"length", FIELD_LONG, AT(length), NULL},
        {"width", FIELD_LONG, AT(width), NULL},     {"dims", FIELD_LONG, AT(dims), NULL},
        {"offset", FIELD_LONG, AT(offset), NULL},   {"interleaved", FIELD_BOOL, AT(interleaved), NULL},
        {"offsets", FIELD_BOOL, AT(offsets), NULL}, OPERAND_FIELDS};
#undef AT
    if (READ(dict, fields, &c) < 0)
        return -1;
    op->rope = (ml_rope_params){.length = c.length,
                                .width = c.width,
                                .dims = c.dims ? c.dims : c.width,
                                .offset = c.offset,
                                .offsets = c.offsets ? list : NULL,
                                .base = 10000.0,
                                .scale = 1.0,
                                .interleaved = c.interleaved};
    op->n_in = op->n_out = 1;
    int64_t shape[] = {c.rows, c.length, c.width};
    set_shape(&op->in[0], 3, shape);
    set_shape(&op->out[0], 3, shape);
    return read_operand(dict, "x", &op->in[0]) < 0 || read_operand(dict, "out", &op->out[0]) < 0 ? -1 : 0;
}

static int read_op_kind(const char *name, ml_op_kind *out) {
    for (int kind = 0; kind < ML_OP_KIND_COUNT; kind++) {
        if (strcmp(name, ml_op_name((ml_op_kind)kind)) == 0) {
            *out = (ml_op_kind)kind;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown operation %s", name);
    return -1;
}

int mlpy_read_case(const char *op_name, PyObject *dict, ml_op *op) {
    memset(op, 0, sizeof *op);
    if (read_op_kind(op_name, &op->kind) < 0)
        return -1;
    switch (op->kind) {
    case ML_OP_MATMUL:
        return read_matmul(dict, op);
    case ML_OP_SOFTMAX:
        return read_softmax(dict, op);
    case ML_OP_SDPA:
        return read_sdpa(dict, op);
    case ML_OP_BINARY:
    case ML_OP_COPY:
    case ML_OP_FILL:
        return read_simple(dict, op);
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        return read_norm(dict, op);
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        return read_activate(dict, op);
    case ML_OP_ROPE:
        return read_rope(dict, op);
    default:
        PyErr_Format(PyExc_ValueError, "operation %s cannot be made up", op_name);
        return -1;
    }
}

/* ---- devices ---- */

static int read_family(ml_op_kind op, PyObject *dict, int *out) {
    PyObject *value = PyDict_GetItemString(dict, "family");
    const char *const *names = op == ML_OP_MATMUL    ? backend_names
                               : op == ML_OP_SOFTMAX ? softmax_names
                               : op == ML_OP_SDPA    ? sdpa_names
                                                     : NULL;
    *out = 0;
    return value && names ? choose(value, names, out) : 0;
}

/* {name, op = "matmul", family, dtypes = [], supports = [] or "all", isa, sm_min, rank, experimental, mr, nr, max_n} */
static int read_kernel(PyObject *dict, ml_kernel_desc *row) {
#define AT(f) offsetof(ml_kernel_desc, f)
    static const field fields[] = {{"name", FIELD_TEXT, AT(name), NULL},
                                   {"op", FIELD_OTHER, 0, NULL},
                                   {"family", FIELD_OTHER, 0, NULL},
                                   {"dtypes", FIELD_DTYPES, AT(dtypes), NULL},
                                   {"supports", FIELD_OTHER, 0, NULL},
                                   {"isa", FIELD_MASK, AT(isa), NULL},
                                   {"sm_min", FIELD_MASK, AT(sm_min), NULL},
                                   {"rank", FIELD_INT, AT(rank), NULL},
                                   {"experimental", FIELD_BOOL, AT(experimental), NULL},
                                   {"mr", FIELD_INT, AT(mr), NULL},
                                   {"nr", FIELD_INT, AT(nr), NULL},
                                   {"max_n", FIELD_LONG, AT(max_n), NULL}};
#undef AT
    memset(row, 0, sizeof *row);
    row->name = "kernel";
    if (READ(dict, fields, row) < 0)
        return -1;
    PyObject *op = PyDict_GetItemString(dict, "op"), *supports = PyDict_GetItemString(dict, "supports");
    const char *op_name = op ? PyUnicode_AsUTF8(op) : "matmul";
    if (!op_name || read_op_kind(op_name, &row->op) < 0 || read_family(row->op, dict, &row->family) < 0)
        return -1;
    if (supports && PyUnicode_Check(supports))
        row->supports = ML_SUP_ALL;
    else if (supports && read_bits(supports, support_names, &row->supports) < 0)
        return -1;
    return 0;
}

static int read_range(PyObject *dict, const char *key, int64_t *low, int64_t *high) {
    PyObject *range = PyDict_GetItemString(dict, key);
    long long a = 0, b = INT64_MAX;
    if (range && !PyArg_ParseTuple(range, "LL", &a, &b))
        return -1;
    *low = a;
    *high = b;
    return 0;
}

/* {dtypes, m, n, k = (low, high), family, kernel = None, gain} */
static int read_tuning(PyObject *dict, ml_tuning_row *row) {
#define AT(f) offsetof(ml_tuning_row, f)
    static const field fields[] = {{"dtypes", FIELD_DTYPES, AT(dtypes), NULL},
                                   {"m", FIELD_OTHER, 0, NULL},
                                   {"n", FIELD_OTHER, 0, NULL},
                                   {"k", FIELD_OTHER, 0, NULL},
                                   {"family", FIELD_OTHER, 0, NULL},
                                   {"kernel", FIELD_TEXT, AT(kernel), NULL},
                                   {"gain", FIELD_FLOAT, AT(gain), NULL}};
#undef AT
    memset(row, 0, sizeof *row);
    row->op = ML_OP_MATMUL;
    return READ(dict, fields, row) < 0 || read_family(ML_OP_MATMUL, dict, &row->family) < 0 ||
                   read_range(dict, "m", &row->m_min, &row->m_max) < 0 ||
                   read_range(dict, "n", &row->n_min, &row->n_max) < 0 ||
                   read_range(dict, "k", &row->k_min, &row->k_max) < 0
               ? -1
               : 0;
}

/* {device, family, isa, sm, simdgroup_mm, simdgroup_reduce, bfloat, has_mlx, has_gemv, has_mps, mps_dtypes,
 * max_threads_per_threadgroup, threadgroup_memory, threads, l1_bytes, l2_bytes, l3_bytes, read_gbs, flops_f32,
 * dispatch_us, kernels: list, tuning: list} */
int mlpy_read_caps(PyObject *dict, ml_caps *caps, mlpy_rows *rows) {
#define AT(f) offsetof(ml_caps, f)
    static const field fields[] = {{"device", FIELD_CHOICE, AT(device), device_names},
                                   {"family", FIELD_OTHER, 0, NULL},
                                   {"isa", FIELD_MASK, AT(isa), NULL},
                                   {"sm", FIELD_MASK, AT(sm), NULL},
                                   {"simdgroup_mm", FIELD_BOOL, AT(simdgroup_mm), NULL},
                                   {"simdgroup_reduce", FIELD_BOOL, AT(simdgroup_reduce), NULL},
                                   {"bfloat", FIELD_BOOL, AT(bfloat), NULL},
                                   {"has_mlx", FIELD_BOOL, AT(has_mlx), NULL},
                                   {"has_gemv", FIELD_BOOL, AT(has_gemv), NULL},
                                   {"has_mps", FIELD_BOOL, AT(has_mps), NULL},
                                   {"mps_dtypes", FIELD_DTYPES, AT(mps_dtypes), NULL},
                                   {"max_threads_per_threadgroup", FIELD_INT, AT(max_threads_per_threadgroup), NULL},
                                   {"threadgroup_memory", FIELD_LONG, AT(threadgroup_memory), NULL},
                                   {"threads", FIELD_INT, AT(threads), NULL},
                                   {"l1_bytes", FIELD_LONG, AT(l1_bytes), NULL},
                                   {"l2_bytes", FIELD_LONG, AT(l2_bytes), NULL},
                                   {"l3_bytes", FIELD_LONG, AT(l3_bytes), NULL},
                                   {"read_gbs", FIELD_FLOAT, AT(read_gbs), NULL},
                                   {"flops_f32", FIELD_FLOAT, AT(flops_f32), NULL},
                                   {"dispatch_us", FIELD_FLOAT, AT(dispatch_us), NULL},
                                   {"kernels", FIELD_OTHER, 0, NULL},
                                   {"tuning", FIELD_OTHER, 0, NULL}};
#undef AT
    memset(caps, 0, sizeof *caps);
    if (READ(dict, fields, caps) < 0)
        return -1;
    PyObject *kernels = PyDict_GetItemString(dict, "kernels"), *tuning = PyDict_GetItemString(dict, "tuning");
    if ((kernels && !PyList_Check(kernels)) || (tuning && !PyList_Check(tuning))) {
        PyErr_SetString(PyExc_TypeError, "kernels and tuning are lists");
        return -1;
    }
    caps->n_kernels = kernels ? (int)PyList_GET_SIZE(kernels) : 0;
    caps->n_tuning = tuning ? (int)PyList_GET_SIZE(tuning) : 0;
    rows->kernels = PyMem_Calloc((size_t)caps->n_kernels + 1, sizeof *rows->kernels);
    rows->tuning = PyMem_Calloc((size_t)caps->n_tuning + 1, sizeof *rows->tuning);
    if (!rows->kernels || !rows->tuning) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < caps->n_kernels; i++)
        if (read_kernel(PyList_GET_ITEM(kernels, i), &rows->kernels[i]) < 0)
            return -1;
    for (int i = 0; i < caps->n_tuning; i++)
        if (read_tuning(PyList_GET_ITEM(tuning, i), &rows->tuning[i]) < 0)
            return -1;
    caps->kernels = rows->kernels;
    caps->tuning = rows->tuning;
    return 0;
}

void mlpy_rows_free(mlpy_rows *rows) {
    PyMem_Free(rows->kernels);
    PyMem_Free(rows->tuning);
}

/* {family, variant, bucket, tile, panels (numbers of the enums), transposed, simd_reduction, kernel (a number that
 * stands for its row; it is never looked at)} */
int mlpy_read_plan(ml_op_kind op, PyObject *dict, ml_plan *plan) {
#define AT(f) offsetof(ml_plan, f)
    static const field fields[] = {{"family", FIELD_OTHER, 0, NULL},
                                   {"variant", FIELD_INT, AT(variant), NULL},
                                   {"bucket", FIELD_INT, AT(bucket), NULL},
                                   {"tile", FIELD_INT, AT(tile), NULL},
                                   {"panels", FIELD_INT, AT(panels), NULL},
                                   {"transposed", FIELD_BOOL, AT(transposed), NULL},
                                   {"simd_reduction", FIELD_BOOL, AT(simd_reduction), NULL},
                                   {"kernel", FIELD_OTHER, 0, NULL}};
#undef AT
    memset(plan, 0, sizeof *plan);
    plan->op = op;
    PyObject *kernel = PyDict_GetItemString(dict, "kernel");
    size_t number = kernel ? PyLong_AsSize_t(kernel) : 0;
    if (PyErr_Occurred())
        return -1;
    plan->kernel = (const ml_kernel_desc *)number;
    return READ(dict, fields, plan) < 0 || read_family(op, dict, &plan->family) < 0 ? -1 : 0;
}

/* ---- preferences ---- */

int mlpy_read_pref_list(PyObject *dict, mlpy_pref_list *out) {
    Py_ssize_t n = PyDict_GET_SIZE(dict), at = 0;
    out->items = PyMem_Calloc((size_t)n + 1, sizeof *out->items);
    out->hold = PyList_New(0);
    if (!out->items || !out->hold)
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    PyObject *key, *value;
    while (PyDict_Next(dict, &at, &key, &value)) {
        ml_pref *item = &out->items[out->n++];
        item->key = PyUnicode_AsUTF8(key);
        if (!item->key)
            return -1;
        if (value == Py_None)
            continue;
        PyObject *text = PyObject_Str(value);
        int bad = !text || PyList_Append(out->hold, text) < 0;
        Py_XDECREF(text);
        item->value = bad ? NULL : PyUnicode_AsUTF8(text);
        if (!item->value)
            return -1;
    }
    return 0;
}

void mlpy_pref_list_free(mlpy_pref_list *list) {
    PyMem_Free(list->items);
    Py_XDECREF(list->hold);
}

int mlpy_read_prefs(PyObject *dict, ml_prefs *prefs, ml_status *status) {
    PyObject *strict = PyDict_GetItemString(dict, "strict"), *copy = PyDict_Copy(dict);
    mlpy_pref_list list = {0};
    int result = -1;
    if (!copy || (strict && PyDict_DelItemString(copy, "strict") < 0) || mlpy_read_pref_list(copy, &list) < 0)
        goto done;
    ml_pref_set set;
    ml_pref_set_init(&set);
    *status = ml_pref_set_load(&set, list.items, list.n);
    *prefs = set.values.select;
    int truth = strict ? PyObject_IsTrue(strict) : 0;
    prefs->strict = truth > 0;
    result = truth < 0 ? -1 : 0;
done:
    mlpy_pref_list_free(&list);
    Py_XDECREF(copy);
    return result;
}
