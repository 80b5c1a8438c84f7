/* GELU, SiLU and SwiGLU on the CPU: kernels per ISA tier over contiguous rows. */
#ifndef ML_CPU_ACTIVATE_H
#define ML_CPU_ACTIVATE_H

#include "device/cpu/elementwise.h"

/* Errors of y = activation(x) beside the rounding to its dtype, in units of 2^-23 |y| (of the smallest normal number
 * where y is less): ULP, and for negative x TAIL x^2 more, the argument of the exponential being rounded. SiLU's and
 * the tanh form's e^x loses digits below the normal range: |x| 2^-149 more. Results of 16 bits come from shorter
 * polynomials: SHORT |y| more. */
#define ML_ACTIVATE_ULP_GELU 4.0
#define ML_ACTIVATE_TAIL_GELU 0.3
#define ML_ACTIVATE_ULP_GELU_TANH 4.0
#define ML_ACTIVATE_TAIL_GELU_TANH 1.5
#define ML_ACTIVATE_ULP_SILU 4.0
#define ML_ACTIVATE_SHORT 0x1p-17

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
