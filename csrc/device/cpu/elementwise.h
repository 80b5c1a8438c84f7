/* Row kernels of the element-wise operations: one table per ISA tier. */
#ifndef ML_CPU_ELEMENTWISE_H
#define ML_CPU_ELEMENTWISE_H

#include "device/cpu/cpu.h"

/* out[i] = a[i] op b[i] for n unit-stride elements of one float dtype, computed in f32 and rounded once. a or b may be
 * NULL: the operand is then the number a_value or b_value. out may be exactly a or b. */
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

typedef struct ml_elementwise_impl {
    ml_ew_row_fn rows[3][4]; /* [ML_F32..ML_BF16][ML_ADD..ML_DIV] */
    ml_ew_widen_fn widen[3]; /* [ML_F16], [ML_BF16] */
    ml_ew_narrow_fn narrow[3];
} ml_elementwise_impl;

#endif
