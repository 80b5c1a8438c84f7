/* Matrices of every layout in guarded memory, for the checkers. */
#ifndef CHECKASM_MATRIX_H
#define CHECKASM_MATRIX_H

#include "checkasm.h"

extern const ml_dtype check_dtypes[3]; /* f32, f16, bf16 */

/* ROWS_PITCHED: all rows begin at the same place of a cache line. */
typedef enum layout { ROWS, COLUMNS, ROWS_APART, ROWS_PITCHED, COLUMNS_APART, STEPS, BACKWARDS, LAYOUT_COUNT } layout;
extern const char *const layout_names[LAYOUT_COUNT];

typedef struct matrix {
    check_buffer buffer; /* ends with the last element */
    ml_mat mat;
    int64_t m, n;
} matrix;

void matrix_alloc(matrix *x, ml_dtype dtype, int64_t m, int64_t n, layout kind);
void matrix_fill(matrix *x, check_values values);
void *matrix_at(const ml_mat *x, int64_t i, int64_t j);
double matrix_value(const ml_mat *x, int64_t i, int64_t j);
/* Overwrites the elements with CHECK_PATTERN; what is still different then was written beside them. */
void matrix_erase(matrix *x);
/* Fails the case when a byte of the buffer, or around it, is not CHECK_PATTERN. */
void matrix_check_erased(const matrix *x, const char *what);

#endif
