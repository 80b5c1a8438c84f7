/* Norms on the CPU: kernels per ISA tier over contiguous rows, called by norm.c block by block. */
#ifndef ML_CPU_NORM_H
#define ML_CPU_NORM_H

#include "device/cpu/elementwise.h"
#include "dispatch/norm_layout.h"

/* y = ((x - pivot) - rest) * scale * weight + offset: mean = pivot + rest, pivot close to it, so that the first
 * difference is exact where the mean is large beside the deviations. The rms norm has no mean, weight and offset may be
 * NULL. */
typedef struct ml_norm_map {
    float pivot, rest, scale;
    const float *weight, *offset;
} ml_norm_map;

/* Arrays are contiguous, n >= 0, by dtype of x. An output may be exactly an input. Sums run in lanes and are folded in
 * a fixed order. */
typedef struct ml_norm_impl {
    float (*sum[3])(const void *x, int64_t n);
    float (*squares[3])(const void *x, int64_t n); /* sum of x^2 */
    /* s[i] = x[i] + r[i], rounded to the dtype; returns the sum of the rounded values' squares. */
    float (*add_squares[3])(void *s, const void *x, const void *r, int64_t n);
    /* Sums of d and d^2 with d = x - pivot. */
    void (*moments[3])(float out[2], const void *x, int64_t n, float pivot);
    void (*scale[3])(void *y, const void *x, int64_t n, const ml_norm_map *map); /* pivot and rest taken as 0 */
    void (*normalise[3])(void *y, const void *x, int64_t n, const ml_norm_map *map);
    const ml_elementwise_impl *convert; /* loads and stores of any dtype and stride */
} ml_norm_impl;

#endif
