/* What every matmul backend of the CPU device starts from: one problem of the batch, and the scalar activations. */
#include "device/cpu/cpu.h"

#include <math.h>

static ml_mat matrix_at(const ml_view *v, int64_t element_offset, bool swap) {
    int row = v->ndim - 2, col = v->ndim - 1;
    char *data = ml_view_data(v);
    return (ml_mat){.data = data + element_offset * (int64_t)ml_dtype_size_of(v->dtype),
                    .rs = v->strides[swap ? col : row],
                    .cs = v->strides[swap ? row : col],
                    .dtype = v->dtype};
}

void ml_gemm_problem_at(const ml_op *op, const ml_plan *plan, int64_t batch, ml_gemm_problem *out) {
    const ml_matmul_params *p = &op->matmul;
    const ml_view *a = &op->in[ML_IN_A], *b = &op->in[ML_IN_B], *c = &op->in[ML_IN_C], *bias = &op->in[ML_IN_BIAS];
    const ml_view *o = &op->out[0];
    int64_t at_a = 0, at_b = 0, at_c = 0, at_bias = 0, at_o = 0;
    for (int d = o->ndim - 3; d >= 0; d--) {
        int64_t index = batch % o->shape[d];
        batch /= o->shape[d];
        at_a += index * a->strides[d];
        at_b += index * b->strides[d];
        at_o += index * o->strides[d];
        if (p->has_c)
            at_c += index * c->strides[d];
        if (p->has_bias)
            at_bias += index * bias->strides[d];
    }
    bool swap = plan->transposed;
    ml_mat left = matrix_at(a, at_a, swap), right = matrix_at(b, at_b, swap);
    *out = (ml_gemm_problem){.m = swap ? p->n : p->m,
                             .n = swap ? p->m : p->n,
                             .k = p->k,
                             .a = swap ? right : left,
                             .b = swap ? left : right,
                             .out = matrix_at(o, at_o, swap),
                             .alpha = p->alpha,
                             .beta = p->has_c ? p->beta : 0.0f,
                             .activation = p->activation};
    if (p->has_c)
        out->c_in = matrix_at(c, at_c, swap);
    if (p->has_bias)
        out->bias = matrix_at(bias, at_bias, swap);
}

/* In double, so that the result is within an ulp of the function. Each form is chosen such that large negative x gives
 * -0 instead of a difference of nearly equal numbers; -inf, where it would be -inf * 0, is taken out. */
float ml_activate(ml_activation act, float x) {
    const double z = x;
    const double sqrt_half = 0.70710678118654752440;       /* sqrt(1/2) */
    const double two_sqrt_2_pi = 1.5957691216057307117597; /* 2 sqrt(2/pi) */
    switch (act) {
    case ML_ACT_RELU:
        return x < 0.0f ? 0.0f : x;
    case ML_ACT_GELU:
        return x == -INFINITY ? -0.0f : (float)(0.5 * z * erfc(-z * sqrt_half));
    case ML_ACT_GELU_TANH: /* (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)) */
        return x == -INFINITY ? -0.0f : (float)(z / (1.0 + exp(-two_sqrt_2_pi * (z + 0.044715 * z * z * z))));
    case ML_ACT_SILU:
        return x == -INFINITY ? -0.0f : (float)(z / (1.0 + exp(-z)));
    case ML_ACT_NONE:
        break;
    }
    return x;
}
