/* Transposes by blocks of 8 x 8, which a tier's file has a function for. */
#ifndef ML_CPU_ELEMENTWISE_BLOCKS_H
#define ML_CPU_ELEMENTWISE_BLOCKS_H

#include "device/cpu/elementwise.h"

/* Eight source lines at a time, each read to its end, so that every cache line is read once. */
#define DEFINE_TRANSPOSE_BLOCKS(name, T, block)                                                                        \
    static void name(const ml_ew_transpose *t) {                                                                       \
        T *dst = t->dst;                                                                                               \
        const T *src = t->src;                                                                                         \
        int64_t j = 0;                                                                                                 \
        for (; j + 8 <= t->cols; j += 8) {                                                                             \
            const T *from = src + j * t->src_ld;                                                                       \
            int64_t i = 0;                                                                                             \
            for (; i + 8 <= t->rows; i += 8)                                                                           \
                block(dst + i * t->dst_ld + j, t->dst_ld, from + i, t->src_ld);                                        \
            for (; i < t->rows; i++) {                                                                                 \
                for (int l = 0; l < 8; l++)                                                                            \
                    dst[i * t->dst_ld + j + l] = from[l * t->src_ld + i];                                              \
            }                                                                                                          \
        }                                                                                                              \
        for (; j < t->cols; j++) {                                                                                     \
            for (int64_t i = 0; i < t->rows; i++)                                                                      \
                dst[i * t->dst_ld + j] = src[j * t->src_ld + i];                                                       \
        }                                                                                                              \
    }

#endif
