/* Packing of a vector GEMM tier into panels of f32, from any strides and float dtype. Defines pack_a and pack_b;
 * included by gemm_<isa>.c after gemm_vector.h. */
#include "device/cpu/gemm_pack_parts.h"

/* Element i runs along memory: copy (and convert) `width` elements per k. */
ALWAYS_INLINE void pack_along_width(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width,
                                    const ml_dtype dtype) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), step = x->cs * size;
    const char *src = x->data;
    if (count == width) {
        /* A narrow width stores whole vectors too: the next row overwrites what is too much. The last row must not. */
        int64_t last = width % VW ? k - 1 : k;
        for (int64_t p = 0; p < last; p++, src += step, dst += width)
            ML_UNROLL for (int j = 0; j < width; j += VW)
                v_store(dst + j, load_lanes(dtype, src + j * size, width - j < VW ? width - j : VW));
        if (last < k)
            v_store_n(dst, load_lanes(dtype, src, width), width);
        return;
    }
    for (int64_t p = 0; p < k; p++, src += step, dst += width) {
        for (int j = 0; j < width; j += VW) {
            int lanes = count - j > VW ? VW : count > j ? (int)(count - j) : 0;
            vf v = lanes > 0 ? load_lanes(dtype, src + j * size, lanes) : v_zero();
            if (width % VW == 0)
                v_store(dst + j, v);
            else
                v_store_n(dst + j, v, width - j);
        }
    }
}

/* Any strides: VW steps at a time are collected as they are, along the smaller stride, so that a cache line is read
 * once however the others alias with it; then widened, and transposed where k was the inner one. */
ALWAYS_INLINE void pack_gather(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width,
                               const ml_dtype dtype) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), rs = x->rs * size, cs = x->cs * size;
    const bool along_k = llabs(x->rs) > llabs(x->cs);
    char raw[VW * PACK_WIDTH * sizeof(float)] __attribute__((aligned(64)));
    if (!along_k && count < width)
        memset(raw, 0, sizeof raw);
    for (int64_t p = 0; p < k; p += VW) {
        const int steps = k - p < VW ? (int)(k - p) : VW;
        const char *src = (const char *)x->data + p * cs;
        float *to = dst + p * width;
        if (along_k) {
            for (int64_t i = 0; i < count; i++)
                collect(raw + i * VW * size, src + i * rs, steps, x->cs, VW, dtype);
            for (int j = 0; j < width; j += VW)
                pack_block(to + j, raw + j * VW * size, VW * size, count - j, steps, width % VW != 0 && p + VW >= k,
                           width, dtype);
            continue;
        }
        for (int64_t s = 0; s < steps; s++)
            collect(raw + s * width * size, src + s * cs, count, x->rs, width, dtype);
        for (int t = 0, total = steps * width; t < total; t += VW)
            store_lanes(ML_F32, to + t, load_lanes(dtype, raw + t * size, VW), total - t < VW ? total - t : VW);
    }
}

ALWAYS_INLINE void pack_dtype(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width,
                              const ml_dtype dtype) {
    if (x->rs == 1 || count == 1)
        pack_along_width(dst, x, count, k, width, dtype);
    else if (x->cs == 1 || k == 1)
        pack_along_k(dst, &(pack_rows){x->data, x->rs * (int64_t)ml_dtype_size_of(dtype)}, count, k, width, dtype);
    else
        pack_gather(dst, x, count, k, width, dtype);
}

ALWAYS_INLINE void pack(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width) {
    if (k == 0)
        return;
    switch (x->dtype) {
    case ML_F16:
        pack_dtype(dst, x, count, k, width, ML_F16);
        break;
    case ML_BF16:
        pack_dtype(dst, x, count, k, width, ML_BF16);
        break;
    default:
        pack_dtype(dst, x, count, k, width, ML_F32);
        break;
    }
}

static void pack_a(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    pack(dst, x, count, k, MR);
}

static void pack_b(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    pack(dst, x, count, k, NR);
}
