/* Shared by the files of the binding: module state, the Python objects, and how C values cross.
 *
 * All state lives in mlpy_state (one per module object, so one per interpreter); the types are heap types made from
 * specs. Nothing here is global, so several interpreters, with or without a GIL of their own, may load the module. */
#ifndef MLPY_H
#define MLPY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/op.h"
#include "runtime/runtime.h"

#include "args.h"

/* Foreign objects whose last user went while no GIL was held; drained at the next entry (SEMANTICS "GIL"). */
typedef struct mlpy_queue mlpy_queue;

struct mlpy_state {
    PyTypeObject *dtype_type, *tensor_type, *raw_type, *context_type, *cache_type, *guard_type, *profile_type;
    PyTypeObject *metal_library_type, *metal_function_type, *metal_hazards_type;
    PyObject *dtypes[ML_DTYPE_COUNT];
    PyObject *errors[ML_STATUS_COUNT]; /* exception class of each status */
    PyObject *names[MLPY_NAME_COUNT];  /* interned strings, by mlpy_name */
    PyObject *np_generic, *np_complex; /* numpy.generic, numpy.complexfloating once NumPy has been seen */
    ml_context *ctx;                   /* the default context, made on first use */
    mlpy_queue *queue;
};

typedef struct mlpy_dtype {
    PyObject_HEAD ml_dtype dtype;
} mlpy_dtype;

/* A tensor is immutable but for its elements and refers to no Python object: foreign memory is owned by the ml_buffer,
 * as NumPy arrays own theirs by `base`. So it takes no part in cyclic garbage collection. */
typedef struct mlpy_tensor {
    PyObject_HEAD ml_tensor *t;
    PyObject *weakrefs;
} mlpy_tensor;

typedef struct mlpy_context {
    PyObject_HEAD ml_context *ctx;
} mlpy_context;

typedef struct mlpy_cache {
    PyObject_HEAD ml_resource_cache *cache;
} mlpy_cache;

/* ---- module.c, dtype.c ------------------------------------------------------------------------------------------- */

/* Sets the Python exception of a failed call from ml_last_error(); returns NULL. */
PyObject *mlpy_raise(mlpy_state *st, ml_status status);
/* Sets the exception class of status with a message of our own (PyErr_Format's formats); returns NULL. */
PyObject *mlpy_fail(mlpy_state *st, ml_status status, const char *format, ...);

/* New reference to the singleton. */
PyObject *mlpy_dtype_object(mlpy_state *st, ml_dtype dtype);
/* A DType, a name, a NumPy or ml_dtypes dtype or scalar type, or float, int, bool. DTypeError otherwise. */
int mlpy_dtype_from(mlpy_state *st, PyObject *obj, ml_dtype *out);

/* ---- context.c --------------------------------------------------------------------------------------------------- */

/* The default context; borrowed; NULL with an exception set. */
ml_context *mlpy_default_context(mlpy_state *st);
/* The default context of a named device (None or NULL: of the default device); a new reference. */
int mlpy_context_of_device(mlpy_state *st, PyObject *device, ml_context **out);
/* The default context of the device that holds t; borrowed. */
ml_context *mlpy_context_of_tensor(mlpy_state *st, const ml_tensor *t);

PyObject *mlpy_default_context_object(PyObject *module, PyObject *ignored);

/* Keyword preferences as C strings; values may be str, bool, numbers or a sequence of str (joined with commas); None
 * leaves a preference alone. mlpy_prefs_free takes whatever mlpy_prefs_from left. */
typedef struct mlpy_prefs {
    ml_pref *items;
    int n;
    PyObject *hold; /* owns the strings */
} mlpy_prefs;
int mlpy_prefs_from(PyObject *dict, mlpy_prefs *out);
void mlpy_prefs_free(mlpy_prefs *prefs);

/* ---- guard.c ----------------------------------------------------------------------------------------------------- */

/* Context managers that open and close something of the calling thread: a scope, overrides of preferences, a batch. */
PyObject *mlpy_guard_scope(PyObject *module, PyObject *label);
PyObject *mlpy_guard_prefs(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *mlpy_guard_batch(PyObject *context, PyObject *ignored);
extern const char mlpy_prefs_doc[];

/* ---- tensor.c ---------------------------------------------------------------------------------------------------- */

void mlpy_tensor_dealloc(PyObject *self);
static inline bool mlpy_is_tensor(PyObject *o) {
    return Py_TYPE(o)->tp_dealloc == mlpy_tensor_dealloc;
}
static inline ml_tensor *mlpy_tensor_of(PyObject *o) {
    return ((mlpy_tensor *)o)->t;
}
/* State of the module that made an object of one of its own types (none of them can be subclassed). */
static inline mlpy_state *mlpy_state_of(PyObject *self) {
    return PyType_GetModuleState(Py_TYPE(self));
}
/* Wraps t, whose reference it takes, also on failure. */
PyObject *mlpy_tensor_wrap(mlpy_state *st, ml_tensor *t);
/* The same for the outcome of a call: wraps t, or raises. */
PyObject *mlpy_tensor_result(mlpy_state *st, ml_status status, ml_tensor *t);
/* A shape from an integer or a sequence of integers, none below `lowest` (0, or -1 where one dim may be inferred). */
int mlpy_shape_from(mlpy_state *st, PyObject *obj, int64_t lowest, ml_shape *out);
PyObject *mlpy_tuple_from(const int64_t *values, int n, int64_t factor);

/* ---- view.c ------------------------------------------------------------------------------------------------------ */

PyObject *mlpy_get_t(PyObject *self, void *closure);
PyObject *mlpy_get_mt(PyObject *self, void *closure);
PyObject *mlpy_reshape(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *mlpy_transpose(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *mlpy_swapaxes(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_broadcast_to(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_squeeze(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_expand_dims(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
extern const char mlpy_reshape_doc[], mlpy_transpose_doc[], mlpy_swapaxes_doc[], mlpy_broadcast_to_doc[],
    mlpy_squeeze_doc[], mlpy_expand_dims_doc[];

/* ---- index.c ----------------------------------------------------------------------------------------------------- */

PyObject *mlpy_subscript(PyObject *self, PyObject *key);
int mlpy_ass_subscript(PyObject *self, PyObject *key, PyObject *value);
int mlpy_assign_all(PyObject *self, PyObject *value); /* self[...] = value */
PyObject *mlpy_item_at(PyObject *self, Py_ssize_t index);
Py_ssize_t mlpy_length(PyObject *self);
PyObject *mlpy_iter(PyObject *self);
PyObject *mlpy_tolist(PyObject *self, PyObject *ignored);

/* ---- import.c ---------------------------------------------------------------------------------------------------- */

typedef struct mlpy_import_options {
    ml_context *ctx;
    const char *name; /* of the argument, for messages */
    int dtype;        /* wanted ml_dtype, or -1: the object's own */
    int copy;         /* -1: only when needed; 0: never (ValueError); 1: always */
} mlpy_import_options;

/* An operand of one call. NumPy arrays and other buffers that the core can use as they are cost no allocation: their
 * tensor lies inside the operand and is valid until mlpy_operand_clear. */
typedef struct mlpy_operand {
    ml_tensor *t; /* NULL: absent or a number */
    bool is_value;
    double value;
    bool owned; /* t is a reference of ours */
    bool has_view;
    Py_buffer view;
    ml_buffer buffer;
    ml_tensor tensor;
} mlpy_operand;
/* SCALARS: numbers stay numbers. LISTS: numbers and nested lists become arrays. WRITABLE: an output, never a copy. */
enum { MLPY_SCALARS = 1 << 0, MLPY_LISTS = 1 << 1, MLPY_WRITABLE = 1 << 2 };
/* obj NULL or None: absent. Returns 0, or -1 with an exception set; the operand is to be cleared either way. */
int mlpy_operand_get(mlpy_state *st, PyObject *obj, const mlpy_import_options *options, int flags, mlpy_operand *out);
void mlpy_operand_clear(mlpy_operand *operand);
static inline void mlpy_operand_init(mlpy_operand *operand) {
    operand->t = NULL;
    operand->is_value = operand->owned = operand->has_view = false;
}
/* A Python or NumPy scalar (weak: takes the other operand's dtype). */
bool mlpy_is_scalar(mlpy_state *st, PyObject *obj);
/* DTypeError: the dtype of array, which is obj or made from it, is none of ours. */
void mlpy_refuse_dtype(mlpy_state *st, PyObject *array, PyObject *obj, const char *name);
/* Something an operator takes as an array. */
bool mlpy_is_array_like(mlpy_state *st, PyObject *obj);

/* A module by its interned name, imported if need be. Names made anew for every look-up would fill Python's method
 * cache. */
PyObject *mlpy_module(const mlpy_state *st, mlpy_name name);
/* numpy.asarray(obj) */
PyObject *mlpy_numpy_asarray(const mlpy_state *st, PyObject *obj);

PyObject *mlpy_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_asarray(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_from_dlpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* _empty(shape, dtype, device) and _rebuild(bytes, shape, dtype), for the package and for pickles. */
PyObject *mlpy_empty(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *mlpy_rebuild(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* ---- foreign.c --------------------------------------------------------------------------------------------------- */

mlpy_queue *mlpy_queue_create(void);
void mlpy_queue_close(mlpy_queue *queue); /* the module goes; owners may outlive it */
void mlpy_queue_drain_slow(mlpy_queue *queue);
bool mlpy_queue_pending(const mlpy_queue *queue);
/* At every entry that may make or release tensors. */
static inline void mlpy_enter(mlpy_state *st) {
    if (mlpy_queue_pending(st->queue))
        mlpy_queue_drain_slow(st->queue);
}

/* Element kinds that foreign memory may hold: the core's, and those that are converted. */
enum { MLPY_F64 = ML_DTYPE_COUNT, MLPY_I64 };

/* Foreign strided memory, not yet judged. Strides in bytes. */
typedef struct mlpy_foreign {
    const char *name; /* of the argument, for messages */
    void *data;       /* element [0, ..., 0] */
    int kind;         /* ml_dtype, MLPY_F64 or MLPY_I64 */
    int ndim;
    bool read_only, swapped; /* swapped: not the machine's byte order */
    int64_t itemsize;
    int64_t shape[ML_MAX_DIMS], strides[ML_MAX_DIMS];
} mlpy_foreign;
/* The core can use it in place: its own dtype and byte order, aligned, strides multiples of the item size. Fills view
 * (buf left NULL, offset from *low) and the range of memory it reaches. */
bool mlpy_foreign_in_place(const mlpy_foreign *f, ml_view *view, char **low, int64_t *size);
/* A new tensor of dtype with its values, one rounding; DTypeError when an integer does not fit. */
ml_status mlpy_foreign_convert(ml_context *ctx, const mlpy_foreign *f, ml_dtype dtype, ml_tensor **out);
/* Borrows it. Takes over the buffer (`managed` NULL) or the DLPack tensor, also on failure. */
typedef struct mlpy_lender {
    Py_buffer *view;
    void *managed; /* DLManagedTensor or DLManagedTensorVersioned */
    void (*managed_deleter)(void *managed);
} mlpy_lender;
ml_status mlpy_foreign_borrow(mlpy_state *st, ml_context *ctx, const mlpy_foreign *f, const mlpy_lender *lender,
                              ml_tensor **out);
/* Borrows or converts, as the options ask; takes over the lender, also on failure. Conversions count as copied bytes.
 */
ml_status mlpy_take_foreign(mlpy_state *st, const struct mlpy_import_options *options, const mlpy_foreign *f,
                            const mlpy_lender *lender, ml_tensor **out);
/* What the buffer holds; false when its format is unknown or has no dtype here. */
bool mlpy_foreign_from_buffer(const Py_buffer *view, mlpy_foreign *f);

/* ---- export.c, dlpack.c ------------------------------------------------------------------------------------------ */

int mlpy_getbuffer(PyObject *self, Py_buffer *view, int flags);
void mlpy_releasebuffer(PyObject *self, Py_buffer *view);
PyObject *mlpy_numpy(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_array_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_reduce(PyObject *self, PyObject *ignored);
PyObject *mlpy_repr(PyObject *self);
extern PyType_Spec mlpy_raw_spec;

/* Whether a tensor's memory must not be written. */
PyObject *mlpy_is_read_only(PyObject *module, PyObject *tensor);

PyObject *mlpy_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *mlpy_dlpack_device(PyObject *self, PyObject *ignored);
/* 1: imported; 0: obj has no usable DLPack export (no exception set); -1: exception set. */
int mlpy_dlpack_import(mlpy_state *st, PyObject *obj, const mlpy_import_options *options, ml_tensor **out);

/* ---- ops.c, operators.c ------------------------------------------------------------------------------------------ */

/* One call of an operation, as a function of the module (ctx NULL) or a method of a context. */
typedef struct mlpy_call {
    mlpy_state *st;
    ml_context *ctx;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *kwnames;
} mlpy_call;

/* The operations of ops_blocks.c. */
#define MLPY_BLOCK_OPS(X) X(layer_norm) X(rms_norm) X(gelu) X(silu) X(swiglu) X(rope) X(prepack)

/* The one list of operations: each is a function of the module and a method of Context. */
#define MLPY_OPS(X)                                                                                                    \
    X(matmul)                                                                                                          \
    X(addmm)                                                                                                           \
    X(linear)                                                                                                          \
    X(matmul_dispatch)                                                                                                 \
    X(matmul_alpha_beta)                                                                                               \
    X(matmul_bias_add)                                                                                                 \
    X(matmul_mlx)                                                                                                      \
    X(matmul_mps)                                                                                                      \
    X(matmul_gemv)                                                                                                     \
    X(matmul_ragged)                                                                                                   \
    X(scaled_dot_product_attention)                                                                                    \
    X(softmax)                                                                                                         \
    X(log_softmax)                                                                                                     \
    X(add)                                                                                                             \
    X(subtract)                                                                                                        \
    X(multiply)                                                                                                        \
    X(divide)                                                                                                          \
    MLPY_BLOCK_OPS(X)

#define MLPY_OP_DECLARE(name)                                                                                          \
    PyObject *mlpy_method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);          \
    extern const char mlpy_doc_##name[], mlpy_method_doc_##name[];
MLPY_OPS(MLPY_OP_DECLARE)
#undef MLPY_OP_DECLARE
#define MLPY_BLOCK_DECLARE(name) PyObject *mlpy_op_##name(const mlpy_call *call);
MLPY_BLOCK_OPS(MLPY_BLOCK_DECLARE)
#undef MLPY_BLOCK_DECLARE
extern PyMethodDef mlpy_op_functions[];

/* The context of a call: that of a method, else the argument ctx. *out stays NULL when neither is given. */
int mlpy_given_context(const mlpy_call *call, PyObject *arg, ml_context **out);

/* The element-wise operation kind of two objects into out (NULL: a new tensor). */
typedef struct mlpy_binary_call {
    ml_binary_kind kind;
    PyObject *a, *b;
    PyObject *out;
    ml_context *ctx;
} mlpy_binary_call;
PyObject *mlpy_binary(mlpy_state *st, const mlpy_binary_call *call);
PyObject *mlpy_matmul_plain(mlpy_state *st, PyObject *a, PyObject *b);
/* The context of a call: the given one, else that of the first tensor among the n objects (NULL and None are skipped),
 * else the default. DeviceError when their devices differ. Borrowed. */
ml_context *mlpy_pick_context(mlpy_state *st, ml_context *given, PyObject *const *objects, int n);
/* Work that is predicted to take longer than about 20 us: 10 GB/s, 20 GFLOP/s. */
static inline bool mlpy_is_long(int64_t flops, int64_t bytes) {
    return flops > 400000 || bytes > 200000;
}

PyObject *mlpy_richcompare(PyObject *a, PyObject *b, int op);
PyObject *mlpy_nb_add(PyObject *a, PyObject *b);
PyObject *mlpy_nb_inplace_add(PyObject *a, PyObject *b);
PyObject *mlpy_nb_subtract(PyObject *a, PyObject *b);
PyObject *mlpy_nb_inplace_subtract(PyObject *a, PyObject *b);
PyObject *mlpy_nb_multiply(PyObject *a, PyObject *b);
PyObject *mlpy_nb_inplace_multiply(PyObject *a, PyObject *b);
PyObject *mlpy_nb_divide(PyObject *a, PyObject *b);
PyObject *mlpy_nb_inplace_divide(PyObject *a, PyObject *b);
PyObject *mlpy_nb_matmul(PyObject *a, PyObject *b);
PyObject *mlpy_nb_inplace_matmul(PyObject *a, PyObject *b);

extern PyType_Spec mlpy_dtype_spec, mlpy_tensor_spec, mlpy_context_spec, mlpy_cache_spec, mlpy_guard_spec,
    mlpy_profile_spec, mlpy_metal_library_spec, mlpy_metal_function_spec, mlpy_metal_hazards_spec;
extern PyMethodDef mlpy_metrics_functions[];

#endif
