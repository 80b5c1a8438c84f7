/* What packing into panels of f32 (gemm_pack.h) and of pairs (gemm_pack_pairs.h) share: rows that run along k are
 * transposed in registers, and elements at other strides are collected first. */
#ifndef ML_CPU_GEMM_PACK_PARTS_H
#define ML_CPU_GEMM_PACK_PARTS_H

/* The wider of the two kinds of panels. */
#define PACK_WIDTH (MR > NR ? MR : NR)

/* How far ahead of the packing a row is fetched: measured, 256 and 1024 are no better. */
#define PREFETCH_BYTES 512

/* `steps` steps along k of up to VW rows that lie `step` bytes apart, k along memory, transposed in registers. `last`:
 * the last row written is the last of the panel. */
ALWAYS_INLINE void pack_block(float *to, const char *at, int64_t step, int64_t rows, int steps, bool last,
                              const int width, const ml_dtype dtype) {
    vf r[VW];
#ifdef V_TRANSPOSE_ROWS
    const bool at_once = dtype == ML_F32 && steps == VW;
    if (at_once)
        v_transpose_rows(r, at, step, rows);
#else
    const bool at_once = false;
#endif
    if (!at_once) {
        ML_UNROLL for (int i = 0; i < VW; i++) r[i] = i < rows ? load_lanes(dtype, at + i * step, steps) : v_zero();
        v_transpose(r);
    }
    ML_UNROLL for (int i = 0; i < VW; i++) {
        if (i < steps && !(last && i == steps - 1))
            v_store(to + i * width, r[i]);
        else if (i < steps)
            v_store_n(to + i * width, r[i], width);
    }
}

/* Rows that lie `step` bytes apart, each with its k elements side by side. */
typedef struct pack_rows {
    const char *data;
    int64_t step;
} pack_rows;

/* k runs along memory: blocks of VW x VW. A narrow width stores whole vectors as pack_along_width does. */
ALWAYS_INLINE void pack_along_k(float *dst, const pack_rows *x, int64_t count, int64_t k, const int width,
                                const ml_dtype dtype) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), step = x->step;
    const int block = width < VW ? width : VW;
    for (int64_t p = 0; p < k; p += VW) {
        int steps = k - p < VW ? (int)(k - p) : VW;
        bool last = width % VW != 0 && p + VW >= k;
        for (int j = 0; j < width; j += VW) {
            const char *at = x->data + p * size + j * step;
            float *to = dst + p * width + j;
            /* More streams than hardware prefetchers follow. */
            ML_UNROLL
            for (int i = 0; i < VW; i++)
                __builtin_prefetch(at + i * step + PREFETCH_BYTES);
            if (steps == VW && count - j >= block && !last)
                pack_block(to, at, step, block, VW, false, width, dtype);
            else
                pack_block(to, at, step, count - j, steps, last, width, dtype);
        }
    }
}

/* n elements, `stride` apart, side by side. The usual strides are constants where the copy is made, so that it becomes
 * shuffles. */
#define DEFINE_COLLECT(name, type)                                                                                     \
    ALWAYS_INLINE void name(void *to, const void *from, int64_t n, int64_t stride) {                                   \
        type *dst = to;                                                                                                \
        const type *src = from;                                                                                        \
        if (stride == 2) {                                                                                             \
            for (int64_t i = 0; i < n; i++)                                                                            \
                dst[i] = src[2 * i];                                                                                   \
        } else if (stride == -1) {                                                                                     \
            for (int64_t i = 0; i < n; i++)                                                                            \
                dst[i] = src[-i];                                                                                      \
        } else {                                                                                                       \
            for (int64_t i = 0; i < n; i++)                                                                            \
                dst[i] = src[i * stride];                                                                              \
        }                                                                                                              \
    }
DEFINE_COLLECT(collect_32, uint32_t)
DEFINE_COLLECT(collect_16, uint16_t)

/* `usual` is the n of almost every call. */
ALWAYS_INLINE void collect(void *to, const void *from, int64_t n, int64_t stride, const int usual,
                           const ml_dtype dtype) {
    if (dtype == ML_F32)
        n == usual ? collect_32(to, from, usual, stride) : collect_32(to, from, n, stride);
    else
        n == usual ? collect_16(to, from, usual, stride) : collect_16(to, from, n, stride);
}

#endif
