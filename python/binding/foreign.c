/* Foreign memory: whether the core can use it in place, borrowing it, converting it, and giving it back. */
#include "mlpy.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* ---- giving back -------------------------------------------------------------------------------------------------
 * The last tensor over foreign memory may go on a thread that does not hold the GIL (a device's completion, a C++
 * thread of another library that drops a DLPack tensor of ours). Owners are then pushed on a list without locks and
 * released by the next call that enters the binding. */

typedef struct owner {
    struct owner *next;
    mlpy_queue *queue;
    Py_buffer view; /* used when managed is NULL */
    void *managed;
    void (*managed_deleter)(void *managed);
} owner;

struct mlpy_queue {
    atomic_int refs; /* the module and every owner */
    _Atomic(owner *) head;
    PyInterpreterState *interpreter;
};

mlpy_queue *mlpy_queue_create(void) {
    mlpy_queue *queue = PyMem_RawMalloc(sizeof *queue);
    if (!queue) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&queue->refs, 1);
    atomic_init(&queue->head, NULL);
    queue->interpreter = PyInterpreterState_Get();
    return queue;
}

static void queue_release(mlpy_queue *queue) {
    if (atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) == 1)
        PyMem_RawFree(queue);
}

static void owner_drop(owner *o) {
    if (o->managed)
        o->managed_deleter(o->managed);
    else
        PyBuffer_Release(&o->view);
    queue_release(o->queue);
    PyMem_RawFree(o);
}

bool mlpy_queue_pending(const mlpy_queue *queue) {
    return atomic_load_explicit(&queue->head, memory_order_relaxed) != NULL;
}

void mlpy_queue_drain_slow(mlpy_queue *queue) {
    owner *list = atomic_exchange_explicit(&queue->head, NULL, memory_order_acquire);
    if (!list)
        return;
    /* Releasing runs foreign code, which must not see or lose an exception that is on its way. */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    while (list) {
        owner *o = list;
        list = o->next;
        owner_drop(o);
    }
    PyErr_Restore(type, value, traceback);
}

void mlpy_queue_close(mlpy_queue *queue) {
    mlpy_queue_drain_slow(queue);
    queue_release(queue);
}

/* Whether this thread may touch objects of the interpreter now. Before 3.12 the current thread state is one variable of
 * the process, so it must also be the one that belongs to this thread; a subinterpreter's never is, and queues. */
static bool gil_held(const PyInterpreterState *interpreter) {
#if PY_VERSION_HEX >= 0x030D0000
    PyThreadState *ts = PyThreadState_GetUnchecked();
#else
    PyThreadState *ts = _PyThreadState_UncheckedGet();
#if PY_VERSION_HEX < 0x030C0000
    if (ts != PyGILState_GetThisThreadState())
        return false;
#endif
#endif
    return ts && PyThreadState_GetInterpreter(ts) == interpreter;
}

/* ml_release_fn of borrowed memory. */
static void owner_release(void *user) {
    owner *o = user;
    if (gil_held(o->queue->interpreter)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        owner_drop(o);
        PyErr_Restore(type, value, traceback);
        return;
    }
    mlpy_queue *queue = o->queue;
    owner *head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    do {
        o->next = head;
    } while (
        !atomic_compare_exchange_weak_explicit(&queue->head, &head, o, memory_order_release, memory_order_relaxed));
}

ml_status mlpy_foreign_borrow(mlpy_state *st, ml_context *ctx, const mlpy_foreign *f, const mlpy_lender *lender,
                              ml_tensor **out) {
    ml_view view;
    char *low;
    int64_t size;
    owner *o = PyMem_RawMalloc(sizeof *o);
    if (!o || !mlpy_foreign_in_place(f, &view, &low, &size)) {
        PyMem_RawFree(o);
        if (lender->managed)
            lender->managed_deleter(lender->managed);
        else
            PyBuffer_Release(lender->view);
        return o ? ml_fail(ML_ERR_VALUE, "%s: memory cannot be used in place", f->name)
                 : ml_fail(ML_ERR_MEMORY, "%s: out of memory", f->name);
    }
    o->queue = st->queue;
    atomic_fetch_add_explicit(&st->queue->refs, 1, memory_order_relaxed);
    o->managed = lender->managed;
    o->managed_deleter = lender->managed_deleter;
    if (!o->managed)
        o->view = *lender->view;
    const ml_host_memory memory = {
        .data = low, .size = (size_t)size, .read_only = f->read_only, .release = owner_release, .user = o};
    const ml_layout layout = {
        .dtype = view.dtype, .shape = ml_view_shape(&view), .strides = view.strides, .byte_offset = view.offset};
    ml_status status = ml_tensor_from_host(ctx, &memory, &layout, out);
    if (status != ML_OK)
        owner_release(o);
    return status;
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

/* float, half and double must say so; integers go by their size, since 'l' is 4 or 8 bytes. */
static int kind_of_format(const char *format, int64_t itemsize, bool *swapped) {
    const uint16_t one = 1;
    bool little = *(const uint8_t *)&one == 1;
    *swapped = false;
    if (*format == '<' || *format == '>' || *format == '!' || *format == '=' || *format == '@') {
        *swapped = little ? *format == '>' || *format == '!' : *format == '<';
        format++;
    }
    if (format[0] == '\0' || format[1] != '\0')
        return -1;
    switch (format[0]) {
    case 'f':
        return itemsize == 4 ? ML_F32 : -1;
    case 'e':
        return itemsize == 2 ? ML_F16 : -1;
    case 'd':
        return itemsize == 8 ? MLPY_F64 : -1;
    case 'i':
    case 'l':
    case 'q':
    case 'n':
        return itemsize == 4 ? ML_I32 : itemsize == 8 ? MLPY_I64 : -1;
    case 'B':
        return itemsize == 1 ? ML_U8 : -1;
    case '?':
        return itemsize == 1 ? ML_BOOL : -1;
    default:
        return -1;
    }
}

bool mlpy_foreign_from_buffer(const Py_buffer *view, mlpy_foreign *f) {
    f->kind = kind_of_format(view->format ? view->format : "B", view->itemsize, &f->swapped);
    if (f->kind < 0 || view->ndim > ML_MAX_DIMS || view->suboffsets)
        return false;
    f->data = view->buf;
    f->itemsize = view->itemsize;
    f->read_only = view->readonly != 0;
    f->ndim = view->ndim;
    for (int i = 0; i < f->ndim; i++) {
        f->shape[i] = view->shape[i];
        f->strides[i] = view->strides[i];
    }
    return true;
}

static int64_t foreign_size(const mlpy_foreign *f) {
    int64_t size = 1;
    for (int i = 0; i < f->ndim; i++)
        size *= f->shape[i];
    return size;
}

bool mlpy_foreign_in_place(const mlpy_foreign *f, ml_view *view, char **low, int64_t *size) {
    if (f->kind >= ML_DTYPE_COUNT || (f->swapped && f->itemsize > 1) || (uintptr_t)f->data % (uintptr_t)f->itemsize)
        return false;
    view->buf = NULL;
    view->dtype = (ml_dtype)f->kind;
    view->ndim = f->ndim;
    int64_t below = 0, above = 0, contiguous = 1;
    bool empty = false;
    for (int i = f->ndim - 1; i >= 0; i--) {
        int64_t n = f->shape[i], stride = f->strides[i];
        view->shape[i] = n;
        if (n > 1) {
            if (stride % f->itemsize)
                return false;
            view->strides[i] = stride / f->itemsize;
            *(stride < 0 ? &below : &above) += (n - 1) * stride;
        } else {
            view->strides[i] = contiguous; /* never used; NumPy may have left anything there */
        }
        empty |= n == 0;
        contiguous *= n > 1 ? n : 1;
    }
    if (empty)
        below = above = 0;
    *low = (char *)f->data + below;
    *size = empty ? 0 : above - below + f->itemsize;
    view->offset = -below;
    return true;
}

/* ---- converting -------------------------------------------------------------------------------------------------- */

/* One row: n elements at stride bytes into a contiguous row. */
typedef struct row {
    const mlpy_foreign *f;
    ml_dtype dtype;
    const char *src;
    int64_t stride, n;
    char *dst;
} row;

static uint64_t load_bits(const mlpy_foreign *f, const char *p) {
    uint8_t b1;
    uint16_t b2;
    uint32_t b4;
    uint64_t b8;
    switch (f->itemsize) {
    case 1:
        memcpy(&b1, p, 1);
        return b1;
    case 2:
        memcpy(&b2, p, 2);
        return f->swapped ? __builtin_bswap16(b2) : b2;
    case 4:
        memcpy(&b4, p, 4);
        return f->swapped ? __builtin_bswap32(b4) : b4;
    default:
        memcpy(&b8, p, 8);
        return f->swapped ? __builtin_bswap64(b8) : b8;
    }
}

/* The same dtype in another byte order, misaligned or at odd strides. */
static void row_repack(const row *r) {
    for (int64_t i = 0; i < r->n; i++) {
        uint64_t bits = load_bits(r->f, r->src + i * r->stride);
        if (r->f->itemsize == 1)
            r->dst[i] = (char)bits;
        else if (r->f->itemsize == 2)
            ((uint16_t *)(void *)r->dst)[i] = (uint16_t)bits;
        else
            ((uint32_t *)(void *)r->dst)[i] = (uint32_t)bits;
    }
}

static void row_f64_to_f32(const row *r) {
    float *dst = (void *)r->dst;
    if (!r->f->swapped && r->stride == 8) {
        for (int64_t i = 0; i < r->n; i++) {
            double value;
            memcpy(&value, r->src + i * 8, 8);
            dst[i] = (float)value;
        }
        return;
    }
    for (int64_t i = 0; i < r->n; i++) {
        uint64_t bits = load_bits(r->f, r->src + i * r->stride);
        double value;
        memcpy(&value, &bits, 8);
        dst[i] = (float)value;
    }
}

static ml_status does_not_fit(const row *r, double value) {
    return ml_fail(ML_ERR_DTYPE, "%s: %.17g does not fit into %s", r->f->name, value, ml_dtype_name(r->dtype));
}

static ml_status row_i64_to_int(const row *r) {
    int64_t low = r->dtype == ML_I32 ? INT32_MIN : 0, high = r->dtype == ML_I32 ? INT32_MAX : 255;
    for (int64_t i = 0; i < r->n; i++) {
        int64_t value = (int64_t)load_bits(r->f, r->src + i * r->stride);
        if (value < low || value > high)
            return ml_fail(ML_ERR_DTYPE, "%s: %lld does not fit into %s", r->f->name, (long long)value,
                           ml_dtype_name(r->dtype));
        if (r->dtype == ML_I32)
            ((int32_t *)(void *)r->dst)[i] = (int32_t)value;
        else
            ((uint8_t *)r->dst)[i] = (uint8_t)value;
    }
    return ML_OK;
}

static void row_i64_to_f32(const row *r) {
    for (int64_t i = 0; i < r->n; i++)
        ((float *)(void *)r->dst)[i] = (float)(int64_t)load_bits(r->f, r->src + i * r->stride);
}

/* Any other pair, through double. */
static ml_status row_general(const row *r) {
    int64_t size = (int64_t)ml_dtype_size(r->dtype);
    for (int64_t i = 0; i < r->n; i++) {
        uint64_t bits = load_bits(r->f, r->src + i * r->stride);
        double value;
        if (r->f->kind == MLPY_F64) {
            memcpy(&value, &bits, 8);
        } else if (r->f->kind == MLPY_I64) {
            value = (double)(int64_t)bits;
        } else {
            uint8_t b1 = (uint8_t)bits;
            uint16_t b2 = (uint16_t)bits;
            uint32_t b4 = (uint32_t)bits;
            const void *p = r->f->itemsize == 1 ? (const void *)&b1 : r->f->itemsize == 2 ? (const void *)&b2 : &b4;
            value = ml_load_element((ml_dtype)r->f->kind, p);
        }
        if ((r->dtype == ML_I32 && !(value > -2147483649.0 && value < 2147483648.0)) ||
            (r->dtype == ML_U8 && !(value > -1.0 && value < 256.0)))
            return does_not_fit(r, value);
        if (r->dtype == ML_BOOL)
            value = value != 0;
        ml_store_element(r->dtype, r->dst + i * size, value);
    }
    return ML_OK;
}

static ml_status convert_row(const row *r) {
    const mlpy_foreign *f = r->f;
    if (f->kind == (int)r->dtype) {
        row_repack(r);
    } else if (f->kind == MLPY_F64 && r->dtype == ML_F32) {
        row_f64_to_f32(r);
    } else if (f->kind == MLPY_I64 && (r->dtype == ML_I32 || r->dtype == ML_U8)) {
        return row_i64_to_int(r);
    } else if (f->kind == MLPY_I64 && r->dtype == ML_F32) {
        row_i64_to_f32(r);
    } else {
        return row_general(r);
    }
    return ML_OK;
}

static ml_status convert_rows(const mlpy_foreign *f, ml_dtype dtype, char *dst) {
    int inner = f->ndim - 1;
    row r = {.f = f, .dtype = dtype, .src = f->data, .n = 1, .stride = 0, .dst = dst};
    if (inner >= 0) {
        r.n = f->shape[inner];
        r.stride = f->strides[inner];
    }
    int64_t row_bytes = r.n * (int64_t)ml_dtype_size(dtype), index[ML_MAX_DIMS] = {0};
    for (;;) {
        ML_TRY(convert_row(&r));
        r.dst += row_bytes;
        int axis = inner - 1;
        for (; axis >= 0; axis--) {
            r.src += f->strides[axis];
            if (++index[axis] < f->shape[axis])
                break;
            r.src -= f->strides[axis] * f->shape[axis];
            index[axis] = 0;
        }
        if (axis < 0)
            return ML_OK;
    }
}

ml_status mlpy_foreign_convert(ml_context *ctx, const mlpy_foreign *f, ml_dtype dtype, ml_tensor **out) {
    ml_shape shape = {.ndim = f->ndim};
    for (int i = 0; i < f->ndim; i++)
        shape.dims[i] = f->shape[i];
    ml_tensor *t = NULL;
    ML_TRY(ml_tensor_empty(ctx, dtype, &shape, &t));
    void *data = NULL;
    ml_status status = ml_tensor_data(t, &data);
    int64_t size = foreign_size(f);
    if (status == ML_OK && size > 0) {
        if (mlpy_is_long(0, size * f->itemsize)) {
            Py_BEGIN_ALLOW_THREADS
            status = convert_rows(f, dtype, data);
            Py_END_ALLOW_THREADS
        } else {
            status = convert_rows(f, dtype, data);
        }
    }
    if (status != ML_OK) {
        ml_tensor_release(t);
        return status;
    }
    *out = t;
    return ML_OK;
}
