/* Portable GEMM tier: the reference of the vector tiers, and the kernel of machines that have none of them. */
#include "device/cpu/cpu.h"

#include <string.h>

#define MR 4
#define NR 8

static float load_at(const ml_mat *x, int64_t i, int64_t j) {
    const char *p = (const char *)x->data + (i * x->rs + j * x->cs) * (int64_t)ml_dtype_size_of(x->dtype);
    switch (x->dtype) {
    case ML_F16:
        return ml_half_to_float(*(const uint16_t *)(const void *)p);
    case ML_BF16:
        return ml_bfloat_to_float(*(const uint16_t *)(const void *)p);
    default:
        return *(const float *)(const void *)p;
    }
}

static void store_at(const ml_mat *x, int64_t i, int64_t j, float value) {
    char *p = (char *)x->data + (i * x->rs + j * x->cs) * (int64_t)ml_dtype_size_of(x->dtype);
    switch (x->dtype) {
    case ML_F16:
        *(uint16_t *)(void *)p = ml_float_to_half(value);
        break;
    case ML_BF16:
        *(uint16_t *)(void *)p = ml_float_to_bfloat(value);
        break;
    default:
        *(float *)(void *)p = value;
        break;
    }
}

static void pack(float *dst, const ml_mat *src, int64_t count, int64_t k, int64_t width) {
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < width; i++)
            dst[p * width + i] = i < count ? load_at(src, i, p) : 0.0f;
}

static void pack_a(float *dst, const ml_mat *src, int64_t count, int64_t k) {
    pack(dst, src, count, k, MR);
}

static void pack_b(float *dst, const ml_mat *src, int64_t count, int64_t k) {
    pack(dst, src, count, k, NR);
}

/* Expanded for constants, so that the compiler sees vectors. */
static inline __attribute__((always_inline)) void sums(float acc[MR][NR], const float *a, const float *b,
                                                       const int64_t steps[3], const int64_t m, const int64_t row) {
    const int64_t k = steps[0], a_step = steps[1], b_step = steps[2];
    for (int64_t p = 0; p < k; p++, a += a_step, b += b_step)
        for (int64_t i = 0; i < m; i++)
            for (int j = 0; j < NR; j++)
                acc[i][j] += a[i * row] * b[j];
}

static void ukr(int64_t k, const float *a, const float *b, const ml_ukr_tile *tile) {
    float acc[MR][NR] = {{0}};
    const int64_t row = tile->a_rows / (int64_t)sizeof(float);
    if (row == 0)
        sums(acc, a, b, (const int64_t[]){k, MR, tile->b_stride}, MR, 1);
    else if (tile->m == MR)
        sums(acc, a, b, (const int64_t[]){k, 1, tile->b_stride}, MR, row);
    else /* beyond a matrix is nothing to read */
        sums(acc, a, b, (const int64_t[]){k, 1, tile->b_stride}, tile->m, row);

    if (tile->acc_load)
        for (int i = 0; i < MR * NR; i++)
            (&acc[0][0])[i] += tile->acc_io[i];
    if (tile->acc_store) {
        memcpy(tile->acc_io, acc, sizeof acc);
        return;
    }
    for (int64_t i = 0; i < tile->m; i++) {
        for (int64_t j = 0; j < tile->n; j++) {
            float v = tile->alpha * acc[i][j];
            if (tile->c_in.data)
                v += tile->beta * load_at(&tile->c_in, i, j);
            if (tile->bias.data)
                v += load_at(&tile->bias, i, j);
            if (tile->activation != ML_ACT_NONE)
                v = ml_activate(tile->activation, v);
            store_at(&tile->out, i, j, v);
        }
    }
}

const ml_gemm_impl ml_gemm_scalar = {.ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = 1};
