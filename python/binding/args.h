/* A small parser of vectorcall arguments: keywords are compared with interned names by identity, so a call that names
 * its arguments costs a few nanoseconds more than one that does not. */
#ifndef MLPY_ARGS_H
#define MLPY_ARGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "metallic.h"

#define MLPY_NAMES(X)                                                                                                  \
    X(a)                                                                                                               \
    X(activation)                                                                                                      \
    X(alpha)                                                                                                           \
    X(array2string)                                                                                                    \
    X(asarray)                                                                                                         \
    X(astype)                                                                                                          \
    X(approximate)                                                                                                     \
    X(attn_mask)                                                                                                       \
    X(axis)                                                                                                            \
    X(b)                                                                                                               \
    X(backend)                                                                                                         \
    X(base)                                                                                                            \
    X(beta)                                                                                                            \
    X(bfloat16)                                                                                                        \
    X(bias)                                                                                                            \
    X(c)                                                                                                               \
    X(cache)                                                                                                           \
    X(cached_only)                                                                                                     \
    X(causal)                                                                                                          \
    X(copy)                                                                                                            \
    X(ctx)                                                                                                             \
    X(device)                                                                                                          \
    X(dims)                                                                                                            \
    X(dl_device)                                                                                                       \
    X(dtype)                                                                                                           \
    X(eps)                                                                                                             \
    X(gate)                                                                                                            \
    X(interleaved)                                                                                                     \
    X(is_causal)                                                                                                       \
    X(key)                                                                                                             \
    X(mask)                                                                                                            \
    X(max_version)                                                                                                     \
    X(ml_dtypes)                                                                                                       \
    X(n)                                                                                                               \
    X(name)                                                                                                            \
    X(numpy)                                                                                                           \
    X(obj)                                                                                                             \
    X(offset)                                                                                                          \
    X(op)                                                                                                              \
    X(out)                                                                                                             \
    X(query)                                                                                                           \
    X(query_offset)                                                                                                    \
    X(residual)                                                                                                        \
    X(row_counts)                                                                                                      \
    X(scale)                                                                                                           \
    X(shape)                                                                                                           \
    X(sinks)                                                                                                           \
    X(softcap)                                                                                                         \
    X(stream)                                                                                                          \
    X(strict)                                                                                                          \
    X(transpose)                                                                                                       \
    X(transpose_a)                                                                                                     \
    X(transpose_b)                                                                                                     \
    X(up)                                                                                                              \
    X(value)                                                                                                           \
    X(variant)                                                                                                         \
    X(view)                                                                                                            \
    X(weight)                                                                                                          \
    X(window)                                                                                                          \
    X(x)                                                                                                               \
    X(_rebuild)                                                                                                        \
    X(__array__)                                                                                                       \
    X(__dlpack__)                                                                                                      \
    X(__dlpack_device__)                                                                                               \
    X(__name__)

#define MLPY_NAME_ENUM(n) MLPY_S_##n,
typedef enum mlpy_name { MLPY_NAMES(MLPY_NAME_ENUM) MLPY_NAME_COUNT } mlpy_name;
#undef MLPY_NAME_ENUM

typedef struct mlpy_state mlpy_state;

#define MLPY_MAX_PARAMS 16

/* The parameters of one function in order. */
typedef struct mlpy_signature {
    const char *function;
    int n;                          /* parameters */
    int positional_only;            /* the first so many have no keyword */
    int positional;                 /* the first so many may be given by position */
    int required;                   /* the first so many must be given */
    uint8_t names[MLPY_MAX_PARAMS]; /* mlpy_name */
} mlpy_signature;

/* values[i]: borrowed reference, or NULL when not given. TypeError in CPython's words when the call does not fit. */
int mlpy_parse(const mlpy_state *st, const mlpy_signature *sig, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, PyObject **values);

/* Conversions; NULL leaves *out as it is (the default). Return 0, or -1 with an exception that names the parameter. */
int mlpy_arg_bool(PyObject *o, bool *out);
int mlpy_arg_float(PyObject *o, const char *name, float *out);
int mlpy_arg_double(PyObject *o, const char *name, double *out);
int mlpy_arg_int64(PyObject *o, const char *name, int64_t *out);
int mlpy_arg_copy(PyObject *o, int *out);               /* None: -1, else 0 or 1 */
int mlpy_arg_approximate(PyObject *o, bool *tanh_form); /* "none" or "tanh" */
int mlpy_arg_activation(PyObject *o, ml_activation *out);
int mlpy_arg_backend(PyObject *o, ml_matmul_backend *out);
int mlpy_arg_variant(PyObject *o, ml_variant_force *out);
int mlpy_arg_softmax_variant(PyObject *o, ml_softmax_variant *out);
int mlpy_arg_sdpa_variant(PyObject *o, ml_sdpa_variant *out);

#endif
