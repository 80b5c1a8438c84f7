/* Rotary positions on the CPU: kernels per ISA tier. */
#ifndef ML_CPU_ROPE_H
#define ML_CPU_ROPE_H

#include "device/cpu/elementwise.h"

/* What an element is multiplied by, and its partner: y = x * own + partner * other. For halves `own` holds a cosine for
 * each pair and `other` a sine; interleaved, both have an entry for each element, and the sines their sign. */
typedef struct ml_rope_factors {
    float *own, *other;
} ml_rope_factors;

typedef struct ml_rope_impl {
    /* Factors of a position: pair i of n turns by position * turns[i] times 2 pi. */
    void (*factors[2])(const ml_rope_factors *to, const double *turns, double position, int64_t n); /* [interleaved] */
    /* y = x turned, n pairs of one dtype, contiguous; y may be exactly x. */
    void (*rotate[2][3])(void *y, const void *x, const ml_rope_factors *f, int64_t n);
    const ml_elementwise_impl *convert;
} ml_rope_impl;

#endif
