/* The arithmetic of MPS: matrices of f32 or f16 of any layout, f32 products and sums, one rounding at the end. */
#include "core/half.h"
#include "core/pool.h"
#include "softmetal/objc_classes.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, COLUMNS = 256, ROWS_PER_TASK = 16 };

typedef struct item {
    const sm_gemm *gemm;
    size_t index;
    const float *b; /* op(b): k x n */
    float *a;       /* op(a): m x k */
} item;

static unsigned char *at(const sm_matrix *m, size_t index, size_t row) {
    return m->buffer->bytes + m->offset + index * m->matrix_bytes + row * m->row_bytes;
}

/* rows x columns of op(m) as floats. */
static void read_matrix(const sm_matrix *m, size_t index, bool transposed, const size_t size[2], float *out) {
    const size_t rows = transposed ? size[1] : size[0], columns = transposed ? size[0] : size[1];
    const size_t down = transposed ? 1 : columns, across = transposed ? rows : 1;
    for (size_t i = 0; i < rows; i++) {
        const unsigned char *row = at(m, index, i);
        for (size_t j = 0; j < columns; j++) {
            float value;
            if (m->half) {
                uint16_t bits;
                memcpy(&bits, row + 2 * j, sizeof bits);
                value = ml_half_to_float(bits);
            } else {
                memcpy(&value, row + 4 * j, sizeof value);
            }
            out[i * down + j * across] = value;
        }
    }
}

static void store(const item *t, size_t i, size_t j, float sum) {
    const sm_gemm *g = t->gemm;
    unsigned char *p = at(&g->out, t->index, i) + j * (g->out.half ? 2 : 4);
    float value = (float)g->alpha * sum, old;
    uint16_t bits;
    if (g->beta != 0.0) { /* else what was there is not read: it may be NaN */
        if (g->out.half) {
            memcpy(&bits, p, sizeof bits);
            old = ml_half_to_float(bits);
        } else {
            memcpy(&old, p, sizeof old);
        }
        value += (float)g->beta * old;
    }
    bits = ml_float_to_half(value);
    memcpy(p, g->out.half ? (const void *)&bits : (const void *)&value, g->out.half ? 2 : 4);
}

static void multiply_rows(const item *t, size_t first, size_t rows) {
    const size_t n = t->gemm->n, k = t->gemm->k;
    float sum[ROWS][COLUMNS];
    for (size_t j = 0; j < n; j += COLUMNS) {
        const size_t columns = n - j < COLUMNS ? n - j : COLUMNS;
        memset(sum, 0, sizeof sum);
        for (size_t p = 0; p < k; p++) {
            const float *b = t->b + p * n + j;
            for (size_t i = 0; i < rows; i++) {
                const float a = t->a[(first + i) * k + p];
                for (size_t q = 0; q < columns; q++)
                    sum[i][q] += a * b[q];
            }
        }
        for (size_t i = 0; i < rows; i++)
            for (size_t q = 0; q < columns; q++)
                store(t, first + i, j + q, sum[i][q]);
    }
}

static void run_task(void *arg, int64_t task, int worker) {
    (void)worker;
    const item *t = arg;
    const size_t m = t->gemm->m, begin = (size_t)task * ROWS_PER_TASK;
    const size_t end = begin + ROWS_PER_TASK < m ? begin + ROWS_PER_TASK : m;
    for (size_t i = begin; i < end; i += ROWS)
        multiply_rows(t, i, end - i < ROWS ? end - i : ROWS);
}

ml_status sm_gemm_run(const sm_gemm *g) {
    float *a = malloc(g->m * g->k * sizeof *a), *b = malloc(g->k * g->n * sizeof *b);
    ml_status status = ML_OK;
    if (!a || !b)
        status = ml_fail(ML_ERR_MEMORY, "out of memory for a matrix multiplication");
    for (size_t i = 0; i < g->batch && status == ML_OK; i++) {
        item t = {.gemm = g, .index = i, .a = a, .b = b};
        read_matrix(&g->a, i, g->transpose_a, (const size_t[2]){g->m, g->k}, a);
        read_matrix(&g->b, i, g->transpose_b, (const size_t[2]){g->k, g->n}, b);
        ml_parallel((int64_t)((g->m + ROWS_PER_TASK - 1) / ROWS_PER_TASK), run_task, &t);
    }
    free(a);
    free(b);
    return status;
}
