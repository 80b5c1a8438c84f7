/* A matmul whose A is the weights of an attention: a hidden weight is -0 and adds nothing, whatever B holds there.
 *
 * Any GEMM gets that right as long as B is finite, because -0 * b adds zero. Where it is not, the result has a NaN:
 * then the product is done again with zeros in place of what is not finite, by the same kernel over the same strides,
 * and what was taken out is put back for the rows that do see it. So finite values come out with the same bits whether
 * or not something hidden is not finite. */
#include "device/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Positions in views of one rank, row-major over the first ndim dims. */
static bool next(int64_t *at, const ml_view *v, int ndim) {
    for (int d = ndim - 1; d >= 0; d--) {
        if (++at[d] < v->shape[d])
            return true;
        at[d] = 0;
    }
    return false;
}

static char *address(const ml_view *v, const int64_t *at) {
    int64_t element = 0;
    for (int d = 0; d < v->ndim; d++)
        element += v->shape[d] > 1 ? at[d] * v->strides[d] : 0;
    return (char *)ml_view_data(v) + element * (int64_t)ml_dtype_size_of(v->dtype);
}

static bool has_nan(const ml_view *v) {
    int64_t at[ML_MAX_DIMS] = {0};
    if (ml_view_size(v) == 0)
        return false;
    do {
        if (isnan(ml_load_element(v->dtype, address(v, at))))
            return true;
    } while (next(at, v, v->ndim));
    return false;
}

/* Zero for each element of b that is not finite. */
static void clean(const ml_view *b) {
    int64_t at[ML_MAX_DIMS] = {0};
    do {
        char *p = address(b, at);
        if (!isfinite(ml_load_element(b->dtype, p)))
            ml_store_element(b->dtype, p, 0.0);
    } while (next(at, b, b->ndim));
}

/* Adds what element (.., k, n) of B contributes to the rows that see it; at: its position in B as broadcast to out. */
static void put_back(const ml_op *op, const int64_t *at, double value) {
    const ml_view *a = &op->in[ML_IN_A], *out = &op->out[0];
    const int row = out->ndim - 2;
    int64_t of_a[ML_MAX_DIMS], of_out[ML_MAX_DIMS];
    memcpy(of_a, at, sizeof of_a);
    memcpy(of_out, at, sizeof of_out);
    of_a[row + 1] = at[row];
    for (int64_t m = 0; m < op->matmul.m; m++) {
        of_a[row] = of_out[row] = m;
        const double weight = ml_load_element(a->dtype, address(a, of_a));
        if (weight == 0.0 && signbit(weight))
            continue;
        char *p = address(out, of_out);
        ml_store_element(out->dtype, p, ml_load_element(out->dtype, p) + (double)op->matmul.alpha * weight * value);
    }
}

ml_status ml_cpu_matmul_skip(ml_encode_args *args, ml_cpu_encode_fn run) {
    const ml_op *op = args->op;
    const ml_view *b = &op->in[ML_IN_B];
    ML_TRY(run(args));
    if (ml_view_size(b) == 0 || !has_nan(&op->out[0]))
        return ML_OK;

    /* The copy has the same strides and alignment, so that the kernel goes the same way. */
    int64_t low, high;
    ML_TRY(ml_view_byte_range(b, &low, &high));
    const char *memory = (const char *)b->buf->host + low;
    const size_t slack = (uintptr_t)memory & 63u, bytes = (size_t)(high - low);
    char *copy = aligned_alloc(64, (bytes + slack + 63) & ~(size_t)63);
    if (!copy)
        return ml_fail(ML_ERR_MEMORY, "matmul: out of memory for %zu bytes", bytes);
    memcpy(copy + slack, memory, bytes);
    ml_buffer buffer = {.host = copy + slack, .size = bytes, .device = b->buf->device};
    ml_op cleaned = *op;
    cleaned.in[ML_IN_B].buf = &buffer;
    cleaned.in[ML_IN_B].offset = b->offset - low;
    clean(&cleaned.in[ML_IN_B]);
    args->op = &cleaned;
    ml_status status = run(args);
    args->op = op;
    args->copied_bytes += (int64_t)bytes;
    free(copy);
    if (status != ML_OK)
        return status;

    int64_t at[ML_MAX_DIMS] = {0};
    do {
        const double value = ml_load_element(b->dtype, address(b, at));
        if (!isfinite(value))
            put_back(op, at, value);
    } while (next(at, b, b->ndim));
    return ML_OK;
}
