#include "matrix.h"

#include <stdlib.h>
#include <string.h>

const ml_dtype check_dtypes[3] = {ML_F32, ML_F16, ML_BF16};
const char *const layout_names[LAYOUT_COUNT] = {"rows",          "columns", "rows apart", "rows pitched",
                                                "columns apart", "steps",   "backwards"};

void matrix_alloc(matrix *x, ml_dtype dtype, int64_t m, int64_t n, layout kind) {
    int64_t rs = n, cs = 1, size = (int64_t)ml_dtype_size_of(dtype);
    switch (kind) {
    case COLUMNS:
        rs = 1;
        cs = m;
        break;
    case ROWS_APART:
        rs = n + 3;
        break;
    case ROWS_PITCHED:
        rs = (n + 31) / 32 * 32;
        break;
    case COLUMNS_APART:
        rs = 1;
        cs = m + 5;
        break;
    case STEPS:
        cs = 3;
        rs = 3 * n + 1;
        break;
    case BACKWARDS:
        rs = -n;
        cs = -1;
        break;
    default:
        break;
    }
    int64_t span = m > 0 && n > 0 ? (m - 1) * llabs(rs) + (n - 1) * llabs(cs) + 1 : 0;
    check_alloc(&x->buffer, (size_t)(span * size), (size_t)size);
    int64_t first = (rs < 0 ? -rs * (m - 1) : 0) + (cs < 0 ? -cs * (n - 1) : 0);
    x->mat = (ml_mat){.data = x->buffer.data + first * size, .rs = rs, .cs = cs, .dtype = dtype};
    x->m = m;
    x->n = n;
}

void *matrix_at(const ml_mat *x, int64_t i, int64_t j) {
    return (char *)x->data + (i * x->rs + j * x->cs) * (int64_t)ml_dtype_size_of(x->dtype);
}

double matrix_value(const ml_mat *x, int64_t i, int64_t j) {
    return ml_load_element(x->dtype, matrix_at(x, i, j));
}

void matrix_fill(matrix *x, check_values values) {
    for (int64_t i = 0; i < x->m; i++)
        check_fill(x->mat.dtype, matrix_at(&x->mat, i, 0), x->n, x->mat.cs, values);
}

void matrix_erase(matrix *x) {
    for (int64_t i = 0; i < x->m; i++)
        for (int64_t j = 0; j < x->n; j++)
            memset(matrix_at(&x->mat, i, j), CHECK_PATTERN, ml_dtype_size_of(x->mat.dtype));
}

void matrix_check_erased(const matrix *x, const char *what) {
    for (size_t byte = 0; byte < x->buffer.bytes; byte++) {
        if (x->buffer.data[byte] != CHECK_PATTERN) {
            check_fail("%s: byte %zu, not one of its elements, was written", what, byte);
            break;
        }
    }
    check_guards(&x->buffer, what);
}
