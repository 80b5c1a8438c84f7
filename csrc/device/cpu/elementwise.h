/* Element-wise operations: row kernels per ISA tier, row conversions, and the loop nest that feeds them. */
#ifndef ML_CPU_ELEMENTWISE_H
#define ML_CPU_ELEMENTWISE_H

#include "device/cpu/cpu.h"

/* ---- row kernels: one table per tier (elementwise_<tier>.c) ---- */

/* out[i] = a[i] op b[i] for n unit-stride elements of one float dtype, computed in f32 and rounded once. a or b (not
 * both) may be NULL: the operand is then the number a_value or b_value. out may be exactly a or b. */
typedef struct ml_ew_row {
    void *out;
    const void *a, *b;
    float a_value, b_value;
    int64_t n;
} ml_ew_row;
typedef void (*ml_ew_row_fn)(const ml_ew_row *row);

/* Unit-stride conversions between f32 and the half types: n elements. */
typedef void (*ml_ew_widen_fn)(float *dst, const uint16_t *src, int64_t n);
typedef void (*ml_ew_narrow_fn)(uint16_t *dst, const float *src, int64_t n);

/* dst[i * dst_ld + j] = src[j * src_ld + i] for i < rows, j < cols; elements of 1, 2 or 4 bytes. */
typedef struct ml_ew_transpose {
    void *dst;
    const void *src;
    int64_t dst_ld, src_ld, rows, cols;
} ml_ew_transpose;
typedef void (*ml_ew_transpose_fn)(const ml_ew_transpose *t);

typedef struct ml_elementwise_impl {
    ml_ew_row_fn rows[3][4]; /* [ML_F32..ML_BF16][ML_ADD..ML_DIV] */
    ml_ew_widen_fn widen[3]; /* [ML_F16], [ML_BF16] */
    ml_ew_narrow_fn narrow[3];
    ml_ew_transpose_fn transpose[3]; /* elements of 1, 2, 4 bytes */
} ml_elementwise_impl;

extern const ml_elementwise_impl ml_elementwise_scalar;

/* ---- row conversions (elementwise_convert.c) ---- */

/* n elements, `stride` elements apart. */
typedef struct ml_ew_vec {
    void *data;
    int64_t stride;
    ml_dtype dtype;
} ml_ew_vec;

/* Any dtype as f32: one rounding for i32 beyond 2^24, else exact. */
void ml_ew_load_f32(const ml_elementwise_impl *impl, float *dst, const ml_ew_vec *src, int64_t n);
/* i32, u8 or bool as i32. */
void ml_ew_load_i32(int32_t *dst, const ml_ew_vec *src, int64_t n);
/* Rounds or truncates into any dtype; bool is "not zero". False when a value is NaN or out of an integer dtype's range;
 * the element is then left as it was. */
bool ml_ew_store_f32(const ml_elementwise_impl *impl, const ml_ew_vec *dst, const float *src, int64_t n);
bool ml_ew_store_i32(const ml_elementwise_impl *impl, const ml_ew_vec *dst, const int32_t *src, int64_t n);

/* ---- loop nest (elementwise_nest.c) ---- */

#define ML_EW_MAX_VIEWS 3

/* A block of the common index space: element (i, j) of operand v is data[v] + (i * rs[v] + j * cs[v]) elements. */
typedef struct ml_ew_tile {
    char *data[ML_EW_MAX_VIEWS];
    int64_t rs[ML_EW_MAX_VIEWS], cs[ML_EW_MAX_VIEWS];
    int64_t rows, cols;
} ml_ew_tile;
typedef void (*ml_ew_tile_fn)(void *arg, const ml_ew_tile *tile);

/* Calls fn for tiles that cover the n views (same shape, views[0] is written, no element of it twice) once; in several
 * threads when there is enough to do. Operands that run across the rows of views[0] come transposed through a small
 * buffer, so that their cache lines are read once. */
typedef struct ml_ew_work {
    ml_ew_tile_fn fn;
    void *arg;
    int64_t cost; /* of an element, in units of a copied one: decides when threads are worth waking */
} ml_ew_work;
void ml_ew_run(const ml_elementwise_impl *impl, const ml_view *views, int n, const ml_ew_work *work);

#endif
