/* Vector and small-N kernels in plain C: the reference of the vector tiers and what runs where there is none. */
#include "device/cpu/gemv_parts.h"

#include <string.h>

enum { LANES = 8 }; /* independent sums of a dot product, so that a compiler can vectorise it */

static inline float load(const void *p, ml_dtype dt, int64_t i) {
    return dt == ML_F32   ? ((const float *)p)[i]
           : dt == ML_F16 ? ml_half_to_float(((const uint16_t *)p)[i])
                          : ml_bfloat_to_float(((const uint16_t *)p)[i]);
}

static void load_run(float *dst, const void *src, ml_dtype dt, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = load(src, dt, i * stride);
}

static void store_run(void *dst, const float *src, ml_dtype dt, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (dt == ML_F32)
            ((float *)dst)[i * stride] = src[i];
        else
            ((uint16_t *)dst)[i * stride] = dt == ML_F16 ? ml_float_to_half(src[i]) : ml_float_to_bfloat(src[i]);
    }
}

#include "device/cpu/gemv_store.h"

static inline void dot(const ml_gemv_block *b, ml_dtype dt) {
    const char *w = b->w;
    const int64_t row_bytes = b->ldw * (int64_t)ml_dtype_size_of(dt);
    for (int64_t i = 0; i < b->rows; i++, w += row_bytes) {
        for (int j = 0; j < b->n; j++) {
            float lanes[LANES] = {0};
            const float *x = b->x + j * ML_GEMV_X_BLOCK;
            for (int64_t p = 0; p < b->k; p += ML_GEMV_X_BLOCK, x += ML_GEMV_X_BLOCK * b->n) {
                int64_t count = b->k - p < ML_GEMV_X_BLOCK ? b->k - p : ML_GEMV_X_BLOCK, q = 0;
                for (; q + LANES <= count; q += LANES) {
                    for (int l = 0; l < LANES; l++)
                        lanes[l] += load(w, dt, p + q + l) * x[q + l];
                }
                for (int l = 0; q < count; q++, l++)
                    lanes[l] += load(w, dt, p + q) * x[q];
            }
            float sum =
                ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
            float *y = &b->y[i * b->n + j];
            *y = b->accumulate ? *y + sum : sum;
        }
    }
}

static inline void axpy(const ml_gemv_block *b, ml_dtype dt) {
    for (int j = 0; j < b->n && !b->accumulate; j++)
        memset(b->y + j * b->ldy, 0, (size_t)b->rows * sizeof(float));
    const char *w = b->w;
    const int64_t step_bytes = b->ldw * (int64_t)ml_dtype_size_of(dt);
    for (int64_t p = 0; p < b->k; p++, w += step_bytes) {
        for (int j = 0; j < b->n; j++) {
            const float x = b->x[p * b->x_rs + j * b->x_cs];
            float *y = b->y + j * b->ldy;
            for (int64_t i = 0; i < b->rows; i++)
                y[i] += load(w, dt, i) * x;
        }
    }
}

#define KERNELS(suffix, dt)                                                                                            \
    static void dot_##suffix(const ml_gemv_block *b) {                                                                 \
        dot(b, dt);                                                                                                    \
    }                                                                                                                  \
    static void axpy_##suffix(const ml_gemv_block *b) {                                                                \
        axpy(b, dt);                                                                                                   \
    }
KERNELS(f32, ML_F32)
KERNELS(f16, ML_F16)
KERNELS(bf16, ML_BF16)

static void pack_x(float *dst, const ml_mat *src, int64_t k, ml_gemv_x_layout to) {
    for (int64_t p = 0; p < k; p += ML_GEMV_X_BLOCK, dst += ML_GEMV_X_BLOCK * to.total) {
        for (int j = 0; j < to.n; j++) {
            for (int64_t i = 0; i < ML_GEMV_X_BLOCK; i++)
                dst[j * ML_GEMV_X_BLOCK + i] =
                    p + i < k ? load(src->data, src->dtype, (p + i) * src->rs + j * src->cs) : 0.0f;
        }
    }
}

static void pack_w(float *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    const char *data = src->data;
    for (int64_t i = 0; i < rows; i++)
        load_run(dst + i * ld, data + i * src->rs * (int64_t)ml_dtype_size_of(src->dtype), src->dtype, src->cs, k);
}

static void collect(void *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    ml_collect(dst, ld, src, rows, k);
}

const ml_gemv_impl ml_gemv_scalar = {
    .dot = {dot_f32, dot_f16, dot_bf16},
    .axpy = {axpy_f32, axpy_f16, axpy_bf16},
    .pack_x = pack_x,
    .pack_w = pack_w,
    .collect = collect,
    .store = store_block,
};
