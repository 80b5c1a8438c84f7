/* GELU, SiLU and SwiGLU on the CPU: kernels per ISA tier over contiguous rows. */
#ifndef ML_CPU_ACTIVATE_H
#define ML_CPU_ACTIVATE_H

#include "device/cpu/elementwise.h"

/* Largest errors beside the result's own rounding, of y = activation(x) in f32: ML_ACTIVATE_ULP units in the last place
 * of y, and where y is less than the smallest normal number as many of that. */
#define ML_ACTIVATE_ULP_GELU 4.0
#define ML_ACTIVATE_ULP_SILU 4.0

/* y[i] = activation(x[i]), times up[i] unless that is NULL: n contiguous elements of one dtype. y may be exactly x or
 * up. */
typedef struct ml_activate_row {
    void *y;
    const void *x, *up;
    int64_t n;
} ml_activate_row;
typedef void (*ml_activate_fn)(const ml_activate_row *row);

typedef struct ml_activate_impl {
    ml_activate_fn rows[5][3]; /* [ML_ACT_GELU .. ML_ACT_SILU][ML_F32 .. ML_BF16]; the others NULL */
    const ml_elementwise_impl *convert;
} ml_activate_impl;

#endif
