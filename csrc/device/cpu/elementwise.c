/* Binary operations, copies with a cast, and fills. */
#include "device/cpu/elementwise.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 512 };

static const ml_elementwise_impl *impl_of(const ml_encode_args *args) {
    return args->plan && args->plan->kernel ? args->plan->kernel->impl : &ml_elementwise_scalar;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static char *element(const ml_ew_vec *v, int64_t i) {
    return (char *)v->data + i * v->stride * (int64_t)ml_dtype_size_of(v->dtype);
}

/* ---- binary ---- */

typedef struct operand {
    int view; /* index into the tile; 0: a number */
    double number;
    float value; /* the number in the dtype it takes, as f32 */
} operand;

typedef struct binary_job {
    const ml_elementwise_impl *impl;
    ml_binary_kind kind;
    bool integer; /* computed in i32 */
    bool uniform; /* one float dtype throughout: the row kernels apply as they are */
    ml_dtype dtypes[ML_EW_MAX_VIEWS];
    operand a, b;
    atomic_int out_of_range;
} binary_job;

typedef struct binary_row {
    ml_ew_vec out, a, b; /* a.data, b.data NULL: a number */
    int64_t n;
} binary_row;

/* f32 operands of one chunk: the row's own memory where it is unit-stride f32, else converted into buf. */
static const float *as_f32(const binary_job *job, const ml_ew_vec *v, int64_t first, int64_t n, float *buf) {
    if (v->dtype == ML_F32 && v->stride == 1)
        return (const float *)v->data + first;
    ml_ew_vec part = {element(v, first), v->stride, v->dtype};
    ml_ew_load_f32(job->impl, buf, &part, n);
    return buf;
}

static const float *splat(float *buf, float value, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        buf[i] = value;
    return buf;
}

static bool compare_chunk(const binary_job *job, const float *a, const float *b, const ml_ew_vec *out, int64_t n) {
    uint8_t flags[CHUNK];
    uint8_t *to = out->stride == 1 && out->dtype == ML_BOOL ? out->data : flags;
    uint8_t if_equal = job->kind == ML_EQUAL;
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint8_t)((a[i] == b[i]) == if_equal);
    if (to != flags)
        return true;
    int32_t wide[CHUNK];
    ml_ew_load_i32(wide, &(ml_ew_vec){flags, 1, ML_U8}, n);
    return ml_ew_store_i32(job->impl, out, wide, n);
}

static void float_row(binary_job *job, const binary_row *r) {
    _Alignas(64) float a[CHUNK], b[CHUNK], out[CHUNK];
    bool direct = r->out.dtype == ML_F32 && r->out.stride == 1;
    for (int64_t first = 0; first < r->n; first += CHUNK) {
        int64_t n = least(CHUNK, r->n - first);
        ml_ew_vec part = {element(&r->out, first), r->out.stride, r->out.dtype};
        ml_ew_row row = {.n = n, .a_value = job->a.value, .b_value = job->b.value};
        row.a = r->a.data ? as_f32(job, &r->a, first, n, a) : NULL;
        row.b = r->b.data ? as_f32(job, &r->b, first, n, b) : NULL;
        bool ok;
        if (job->kind >= ML_EQUAL) {
            ok = compare_chunk(job, row.a ? row.a : splat(a, row.a_value, n), row.b ? row.b : splat(b, row.b_value, n),
                               &part, n);
        } else {
            row.out = direct ? (void *)part.data : out;
            job->impl->rows[ML_F32][job->kind](&row);
            ok = direct || ml_ew_store_f32(job->impl, &part, out, n);
        }
        if (!ok)
            atomic_store_explicit(&job->out_of_range, 1, memory_order_relaxed);
    }
}

/* Two's complement throughout: unsigned arithmetic wraps. */
static void integer_chunk(const binary_job *job, int32_t *out, const int32_t *a, const int32_t *b, int64_t n) {
    switch (job->kind) {
    case ML_ADD:
        for (int64_t i = 0; i < n; i++)
            out[i] = (int32_t)((uint32_t)a[i] + (uint32_t)b[i]);
        break;
    case ML_SUB:
        for (int64_t i = 0; i < n; i++)
            out[i] = (int32_t)((uint32_t)a[i] - (uint32_t)b[i]);
        break;
    case ML_MUL:
        for (int64_t i = 0; i < n; i++)
            out[i] = (int32_t)((uint32_t)a[i] * (uint32_t)b[i]);
        break;
    case ML_EQUAL:
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] == b[i];
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] != b[i];
        break;
    }
    if (job->dtypes[0] == ML_U8 && job->kind < ML_EQUAL) {
        for (int64_t i = 0; i < n; i++)
            out[i] &= 0xff; /* u8 wraps too */
    }
}

static void integer_operand(const operand *o, const ml_ew_vec *v, int64_t first, int64_t n, int32_t *buf) {
    if (v->data) {
        ml_ew_load_i32(buf, &(ml_ew_vec){element(v, first), v->stride, v->dtype}, n);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        buf[i] = (int32_t)o->number;
}

static void integer_row(binary_job *job, const binary_row *r) {
    _Alignas(64) int32_t a[CHUNK], b[CHUNK];
    for (int64_t first = 0; first < r->n; first += CHUNK) {
        int64_t n = least(CHUNK, r->n - first);
        integer_operand(&job->a, &r->a, first, n, a);
        integer_operand(&job->b, &r->b, first, n, b);
        integer_chunk(job, a, a, b, n);
        ml_ew_vec part = {element(&r->out, first), r->out.stride, r->out.dtype};
        if (!ml_ew_store_i32(job->impl, &part, a, n))
            atomic_store_explicit(&job->out_of_range, 1, memory_order_relaxed);
    }
}

static float load_one(const binary_job *job, const ml_ew_vec *v) {
    float value;
    ml_ew_load_f32(job->impl, &value, v, 1);
    return value;
}

/* The whole row in one call where every operand is unit-stride, or the same element throughout (at most one). */
static bool uniform_row(const binary_job *job, const binary_row *r) {
    if (!job->uniform || r->out.stride != 1)
        return false;
    ml_ew_row row = {.out = r->out.data, .n = r->n, .a_value = job->a.value, .b_value = job->b.value};
    if (r->a.data && r->a.stride == 0)
        row.a_value = load_one(job, &r->a);
    else if (r->a.data && r->a.stride != 1)
        return false;
    else
        row.a = r->a.data;
    if (r->b.data && r->b.stride == 0)
        row.b_value = load_one(job, &r->b);
    else if (r->b.data && r->b.stride != 1)
        return false;
    else
        row.b = r->b.data;
    if (!row.a && !row.b)
        return false;
    job->impl->rows[job->dtypes[0]][job->kind](&row);
    return true;
}

static ml_ew_vec tile_row(const ml_ew_tile *tile, const binary_job *job, int view, int64_t i) {
    ml_dtype dt = job->dtypes[view];
    char *data = tile->data[view] + i * tile->rs[view] * (int64_t)ml_dtype_size_of(dt);
    return (ml_ew_vec){data, tile->cols > 1 ? tile->cs[view] : 1, dt};
}

static void binary_tile(void *arg, const ml_ew_tile *tile) {
    binary_job *job = arg;
    for (int64_t i = 0; i < tile->rows; i++) {
        binary_row row = {.out = tile_row(tile, job, 0, i), .n = tile->cols};
        if (job->a.view)
            row.a = tile_row(tile, job, job->a.view, i);
        if (job->b.view)
            row.b = tile_row(tile, job, job->b.view, i);
        if (job->integer)
            integer_row(job, &row);
        else if (!uniform_row(job, &row))
            float_row(job, &row);
    }
}

static bool fits_i32(double x) {
    return x >= -2147483648.0 && x <= 2147483647.0 && x == trunc(x);
}

ml_status ml_cpu_binary(const ml_encode_args *args) {
    const ml_op *op = args->op;
    const ml_binary_params *p = &op->binary;
    const ml_view *a = p->a_is_value ? NULL : &op->in[0], *b = p->b_is_value ? NULL : &op->in[1];
    if (!a && !b)
        return ml_fail(ML_ERR_VALUE, "binary operation of two numbers");
    ml_view views[ML_EW_MAX_VIEWS] = {op->out[0]};
    int n = 1;
    binary_job job = {.impl = impl_of(args), .kind = p->kind};
    job.dtypes[0] = op->out[0].dtype;
    if (a) {
        job.a.view = n;
        job.dtypes[n] = a->dtype;
        views[n++] = *a;
    }
    if (b) {
        job.b.view = n;
        job.dtypes[n] = b->dtype;
        views[n++] = *b;
    }
    bool compares = p->kind >= ML_EQUAL;
    job.integer = p->kind != ML_DIV && (compares || !ml_dtype_is_float(job.dtypes[0]));
    job.uniform = !compares && ml_dtype_is_float(job.dtypes[0]);
    for (int v = 1; v < n; v++) {
        job.integer = job.integer && !ml_dtype_is_float(job.dtypes[v]);
        job.uniform = job.uniform && job.dtypes[v] == job.dtypes[0];
    }
    job.a.number = p->a_value;
    job.b.number = p->b_value;
    job.a.value = (float)p->a_value;
    job.b.value = (float)p->b_value;
    if (compares && ((!a && isnan(p->a_value)) || (!b && isnan(p->b_value))))
        job.integer = false; /* equals nothing, which floats know */
    if (job.integer && ((!a && !fits_i32(p->a_value)) || (!b && !fits_i32(p->b_value))))
        return ml_fail(ML_ERR_DTYPE, "binary operation: %g does not fit an integer operand's dtype",
                       a ? p->b_value : p->a_value);
    ml_ew_run(job.impl, views, n, &(ml_ew_work){binary_tile, &job, 1});
    if (atomic_load(&job.out_of_range))
        return ml_fail(ML_ERR_DTYPE, "binary operation: a result does not fit %s", ml_dtype_name(job.dtypes[0]));
    return ML_OK;
}

/* ---- copy ---- */

typedef struct copy_job {
    const ml_elementwise_impl *impl;
    ml_dtype to, from;
    atomic_int out_of_range;
} copy_job;

static void move_row(const ml_ew_vec *dst, const ml_ew_vec *src, int64_t n) {
    size_t size = ml_dtype_size_of(dst->dtype);
    if (dst->stride == 1 && src->stride == 1) {
        if (dst->data != src->data)
            memcpy(dst->data, src->data, (size_t)n * size);
    } else if (size == 4) {
        uint32_t *d = dst->data;
        const uint32_t *s = src->data;
        for (int64_t i = 0; i < n; i++)
            d[i * dst->stride] = s[i * src->stride];
    } else if (size == 2) {
        uint16_t *d = dst->data;
        const uint16_t *s = src->data;
        for (int64_t i = 0; i < n; i++)
            d[i * dst->stride] = s[i * src->stride];
    } else {
        uint8_t *d = dst->data;
        const uint8_t *s = src->data;
        for (int64_t i = 0; i < n; i++)
            d[i * dst->stride] = s[i * src->stride];
    }
}

static bool cast_row(const copy_job *job, const ml_ew_vec *dst, const ml_ew_vec *src, int64_t n) {
    if (job->from == ML_F32 && src->stride == 1)
        return ml_ew_store_f32(job->impl, dst, src->data, n);
    if (job->to == ML_F32 && dst->stride == 1 && ml_dtype_is_float(job->from)) {
        ml_ew_load_f32(job->impl, dst->data, src, n);
        return true;
    }
    _Alignas(64) union {
        float f[CHUNK];
        int32_t i[CHUNK];
    } buf;
    bool ok = true;
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t count = least(CHUNK, n - first);
        ml_ew_vec from = {element(src, first), src->stride, src->dtype};
        ml_ew_vec to = {element(dst, first), dst->stride, dst->dtype};
        if (ml_dtype_is_float(job->from)) {
            ml_ew_load_f32(job->impl, buf.f, &from, count);
            ok = ml_ew_store_f32(job->impl, &to, buf.f, count) && ok;
        } else {
            ml_ew_load_i32(buf.i, &from, count);
            ok = ml_ew_store_i32(job->impl, &to, buf.i, count) && ok;
        }
    }
    return ok;
}

static void copy_tile(void *arg, const ml_ew_tile *tile) {
    copy_job *job = arg;
    int64_t dst_size = (int64_t)ml_dtype_size_of(job->to), src_size = (int64_t)ml_dtype_size_of(job->from);
    for (int64_t i = 0; i < tile->rows; i++) {
        ml_ew_vec dst = {tile->data[0] + i * tile->rs[0] * dst_size, tile->cols > 1 ? tile->cs[0] : 1, job->to};
        ml_ew_vec src = {tile->data[1] + i * tile->rs[1] * src_size, tile->cols > 1 ? tile->cs[1] : 1, job->from};
        if (job->to == job->from)
            move_row(&dst, &src, tile->cols);
        else if (!cast_row(job, &dst, &src, tile->cols))
            atomic_store_explicit(&job->out_of_range, 1, memory_order_relaxed);
    }
}

ml_status ml_cpu_copy(const ml_encode_args *args) {
    const ml_view views[2] = {args->op->out[0], args->op->in[0]};
    copy_job job = {.impl = impl_of(args), .to = views[0].dtype, .from = views[1].dtype};
    ml_ew_run(job.impl, views, 2, &(ml_ew_work){copy_tile, &job, 1});
    if (atomic_load(&job.out_of_range))
        return ml_fail(ML_ERR_DTYPE, "copy: a value is NaN or out of the range of %s", ml_dtype_name(job.to));
    return ML_OK;
}

/* ---- fill ---- */

typedef struct fill_job {
    ml_dtype dtype;
    union {
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
    } element;
} fill_job;

static void fill_tile(void *arg, const ml_ew_tile *tile) {
    const fill_job *job = arg;
    size_t size = ml_dtype_size_of(job->dtype);
    int64_t stride = tile->cols > 1 ? tile->cs[0] : 1;
    for (int64_t i = 0; i < tile->rows; i++) {
        void *row = tile->data[0] + i * tile->rs[0] * (int64_t)size;
        if (stride == 1 && size == 1) {
            memset(row, job->element.u8, (size_t)tile->cols);
        } else if (size == 4) {
            for (int64_t j = 0; j < tile->cols; j++)
                ((uint32_t *)row)[j * stride] = job->element.u32;
        } else if (size == 2) {
            for (int64_t j = 0; j < tile->cols; j++)
                ((uint16_t *)row)[j * stride] = job->element.u16;
        } else {
            for (int64_t j = 0; j < tile->cols; j++)
                ((uint8_t *)row)[j * stride] = job->element.u8;
        }
    }
}

ml_status ml_cpu_fill(const ml_encode_args *args) {
    const ml_view *out = &args->op->out[0];
    double value = args->op->fill.value;
    bool fits =
        out->dtype == ML_I32 ? fits_i32(value) : out->dtype != ML_U8 || (fits_i32(value) && value >= 0 && value <= 255);
    if (!fits)
        return ml_fail(ML_ERR_DTYPE, "fill: %s cannot hold %g", ml_dtype_name(out->dtype), value);
    fill_job job = {.dtype = out->dtype};
    if (out->dtype == ML_BOOL)
        job.element.u8 = value != 0;
    else
        ml_store_element(out->dtype, &job.element, value);
    ml_ew_run(impl_of(args), out, 1, &(ml_ew_work){fill_tile, &job, 1});
    return ML_OK;
}
