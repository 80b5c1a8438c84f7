/* How the columns of a block are shared out to kernels that are made for a number of them each. */
#ifndef ML_GEMV_PARTS_H
#define ML_GEMV_PARTS_H

#include "device/cpu/cpu.h"

#define ML_INLINE static inline __attribute__((always_inline))

/* One kernel of a number of columns: rows [row, end) of the block and its columns from `col` on. */
typedef void (*part_fn)(const ml_gemv_block *b, int64_t row, int64_t end, int col);

/* Rows that the parts of `cols` columns pass over in turn, so that they stay in a near cache: a multiple of the tiles
 * of both sizes of parts, for no part to be left with rows of its own. */
ML_INLINE int64_t group_rows(const uint8_t *tile_rows, int cols, int parts, int64_t least) {
    const int64_t wide = tile_rows[(cols + parts - 1) / parts], narrow = tile_rows[cols / parts];
    int64_t group = wide;
    while (group % narrow != 0)
        group += wide;
    return (least + group - 1) / group * group;
}

/* All columns of a block, at most `most` at once, in parts that differ by one at most. tile_rows[n]: rows of the tiles
 * that by_n[n] works in. least: rows that are worth a change of columns. */
ML_INLINE void all_columns(const ml_gemv_block *b, const part_fn *by_n, const uint8_t *tile_rows, int most,
                           int64_t least) {
    if (b->n <= most) {
        by_n[b->n](b, 0, b->rows, 0);
        return;
    }
    const int parts = (b->n + most - 1) / most;
    const int64_t group = group_rows(tile_rows, b->n, parts, least);
    for (int64_t row = 0; row < b->rows; row += group) {
        const int64_t end = row + group < b->rows ? row + group : b->rows;
        for (int i = 0, col = 0; i < parts; i++) {
            const int n = (b->n - col + parts - i - 1) / (parts - i);
            by_n[n](b, row, end, col);
            col += n;
        }
    }
}

/* Rows of elements of one size put side by side. The usual step is a constant where the copy is made, so that it
 * becomes shuffles; where a row is short, the rows after it are fetched ahead: they are too many short streams for the
 * hardware. */
#define ML_DEFINE_COLLECT(name, type)                                                                                  \
    ML_INLINE void name(void *to, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {                            \
        enum { AHEAD = 8 };                                                                                            \
        const int64_t rs = src->rs, cs = src->cs, line = 64 / (int64_t)sizeof(type);                                   \
        const type *from = src->data;                                                                                  \
        type *dst = to;                                                                                                \
        for (int64_t i = 0; i < rows; i++, from += rs, dst += ld) {                                                    \
            const type *restrict in = from;                                                                            \
            type *restrict out = dst;                                                                                  \
            for (int64_t p = 0; p < k * cs && cs <= 4 && i + AHEAD < rows; p += line)                                  \
                __builtin_prefetch(in + AHEAD * rs + p);                                                               \
            if (cs == 2) {                                                                                             \
                for (int64_t p = 0; p < k; p++)                                                                        \
                    out[p] = in[2 * p];                                                                                \
            } else if (cs == -1) {                                                                                     \
                for (int64_t p = 0; p < k; p++)                                                                        \
                    out[p] = in[-p];                                                                                   \
            } else {                                                                                                   \
                for (int64_t p = 0; p < k; p++)                                                                        \
                    out[p] = in[p * cs];                                                                               \
            }                                                                                                          \
        }                                                                                                              \
    }
ML_DEFINE_COLLECT(ml_collect_32, uint32_t)
ML_DEFINE_COLLECT(ml_collect_16, uint16_t)

ML_INLINE void ml_collect(void *dst, int64_t ld, const ml_mat *src, int64_t rows, int64_t k) {
    if (src->dtype == ML_F32)
        ml_collect_32(dst, ld, src, rows, k);
    else
        ml_collect_16(dst, ld, src, rows, k);
}

#endif
