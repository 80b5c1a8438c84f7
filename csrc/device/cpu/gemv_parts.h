/* How the columns of a block are shared out to kernels that are made for a number of them each. */
#ifndef ML_GEMV_PARTS_H
#define ML_GEMV_PARTS_H

#include "device/cpu/cpu.h"

#define ML_INLINE static inline __attribute__((always_inline))

/* One kernel of a number of columns: rows [row, end) of the block and its columns from `col` on. */
typedef void (*part_fn)(const ml_gemv_block *b, int64_t row, int64_t end, int col);

/* All columns of a block, at most `cols` at once, in parts that differ by one at most; `group` rows stay in a near
 * cache while the parts pass over them. */
ML_INLINE void all_columns(const ml_gemv_block *b, const part_fn *by_n, int cols, int64_t group) {
    if (b->n <= cols) {
        by_n[b->n](b, 0, b->rows, 0);
        return;
    }
    const int parts = (b->n + cols - 1) / cols;
    for (int64_t row = 0; row < b->rows; row += group) {
        const int64_t end = row + group < b->rows ? row + group : b->rows;
        for (int i = 0, col = 0; i < parts; i++) {
            const int n = (b->n - col + parts - i - 1) / (parts - i);
            by_n[n](b, row, end, col);
            col += n;
        }
    }
}

#endif
