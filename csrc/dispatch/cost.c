/* What an operation moves and computes, and how long that takes at the device's nominal speed. */
#include "dispatch/dispatch.h"
#include "dispatch/gemm_layout.h"

static int64_t add_sat(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

static int64_t mul_sat(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

/* Bytes of a view's elements, each counted once: a broadcast dim (stride 0) holds one. */
static int64_t distinct_bytes(const ml_view *v) {
    int64_t bytes = (int64_t)ml_dtype_size_of(v->dtype);
    for (int i = 0; i < v->ndim; i++)
        if (v->shape[i] == 0 || v->strides[i] != 0)
            bytes = mul_sat(bytes, v->shape[i]);
    return bytes;
}

static void read_view(ml_plan *plan, const ml_view *v) {
    plan->bytes_read = add_sat(plan->bytes_read, distinct_bytes(v));
}

/* Panels hold words of f32 or of pairs, whatever the dtype is. */
static void read_factor(ml_plan *plan, const ml_view *v, bool in_panels) {
    const int64_t size = (int64_t)ml_dtype_size_of(v->dtype);
    int64_t bytes = distinct_bytes(v);
    if (in_panels)
        bytes = mul_sat(bytes / size, (int64_t)sizeof(float)) / ml_gemm_k_pack(plan->kernel);
    plan->bytes_read = add_sat(plan->bytes_read, bytes);
}

static void cost_matmul(const ml_op *op, ml_plan *plan) {
    const ml_matmul_params *p = &op->matmul;
    if (p->alpha != 0.0f && p->k > 0) {
        read_factor(plan, &op->in[ML_IN_A], plan->panels == ML_PANELS_OF_A);
        read_factor(plan, &op->in[ML_IN_B], plan->panels == ML_PANELS_OF_B);
        plan->flops = mul_sat(mul_sat(mul_sat(p->batch, p->m), mul_sat(p->n, p->k)), 2);
    }
    if (p->has_c)
        read_view(plan, &op->in[ML_IN_C]);
    if (p->has_bias)
        read_view(plan, &op->in[ML_IN_BIAS]);
}

static void cost_ragged(const ml_op *op, ml_plan *plan) {
    const ml_view *a = &op->in[ML_IN_A], *b = &op->in[ML_IN_B];
    read_view(plan, a);
    read_view(plan, b);
    plan->flops = mul_sat(mul_sat(a->shape[0], a->shape[1]), mul_sat(b->shape[2], 2));
}

/* Scale, maximum, subtraction, exponential, sum and division: five operations for each element. */
static void cost_softmax(const ml_op *op, ml_plan *plan) {
    read_view(plan, &op->in[0]);
    if (op->softmax.mask != ML_MASK_NONE)
        read_view(plan, &op->in[1]);
    plan->flops = mul_sat(mul_sat(op->softmax.rows, op->softmax.seq_k), 5);
}

/* Both products over all keys; what masks hide is not subtracted. Composed, the f32 scores are written and read twice.
 */
static void cost_sdpa(const ml_op *op, ml_plan *plan) {
    const ml_sdpa_params *p = &op->sdpa;
    for (int i = ML_IN_Q; i <= ML_IN_V; i++)
        read_view(plan, &op->in[i]);
    if (p->mask != ML_MASK_NONE)
        read_view(plan, &op->in[ML_IN_MASK]);
    if (p->has_sinks)
        read_view(plan, &op->in[ML_IN_SINKS]);
    int64_t scores = mul_sat(mul_sat(p->batch, p->heads_q), mul_sat(p->len_q, p->len_k));
    plan->flops = mul_sat(scores, add_sat(mul_sat(add_sat(p->dim_qk, p->dim_v), 2), 5));
    if (plan->composed) {
        plan->bytes_read = add_sat(plan->bytes_read, mul_sat(scores, 8));
        plan->bytes_written = add_sat(plan->bytes_written, mul_sat(scores, 8));
    }
}

/* A reduction and a scaling: mean, difference, square, sum, product, weight and offset, as far as they are there. */
static void cost_norm(const ml_op *op, ml_plan *plan) {
    const ml_norm_params *p = &op->norm;
    int64_t each = op->kind == ML_OP_LAYER_NORM ? 5 : 3;
    read_view(plan, &op->in[ML_IN_X]);
    if (p->has_weight) {
        read_view(plan, &op->in[ML_IN_WEIGHT]);
        each++;
    }
    if (p->has_offset) {
        read_view(plan, &op->in[ML_IN_OFFSET]);
        each++;
    }
    if (p->has_residual) {
        read_view(plan, &op->in[ML_IN_RESIDUAL]);
        each++;
    }
    plan->flops = mul_sat(mul_sat(p->rows, p->length), each);
}

/* Operations of the CPU kernels for each element, an exponential and a division among them: of the tiers without a
 * table of powers, as a prediction is no ceiling. */
static void cost_activate(const ml_op *op, ml_plan *plan) {
    int64_t each = op->activate.activation == ML_ACT_GELU ? 40 : op->activate.activation == ML_ACT_GELU_TANH ? 35 : 30;
    for (int i = 0; i < op->n_in; i++)
        read_view(plan, &op->in[i]);
    plan->flops = mul_sat(ml_view_size(&op->out[0]), each + (op->n_in > 1));
}

void ml_plan_cost(const ml_op *op, const ml_caps *caps, ml_plan *plan) {
    plan->bytes_read = plan->flops = plan->bytes_written = 0;
    for (int i = 0; i < op->n_out; i++)
        plan->bytes_written = add_sat(plan->bytes_written, distinct_bytes(&op->out[i]));
    switch (op->kind) {
    case ML_OP_MATMUL:
        cost_matmul(op, plan);
        break;
    case ML_OP_MATMUL_RAGGED:
        cost_ragged(op, plan);
        break;
    case ML_OP_SOFTMAX:
        cost_softmax(op, plan);
        break;
    case ML_OP_SDPA:
        cost_sdpa(op, plan);
        break;
    case ML_OP_BINARY:
        if (!op->binary.a_is_value)
            read_view(plan, &op->in[0]);
        if (!op->binary.b_is_value)
            read_view(plan, &op->in[1]);
        plan->flops = ml_view_size(&op->out[0]);
        break;
    case ML_OP_COPY:
        read_view(plan, &op->in[0]);
        break;
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        cost_norm(op, plan);
        break;
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        cost_activate(op, plan);
        break;
    case ML_OP_ROPE: /* six operations for each pair */
        read_view(plan, &op->in[0]);
        plan->flops = mul_sat(ml_view_size(&op->out[0]), 3);
        break;
    case ML_OP_FILL:
    case ML_OP_KIND_COUNT:
        break;
    }
    double memory_us = 0, compute_us = 0;
    if (caps->read_gbs > 0)
        memory_us = ((double)plan->bytes_read + (double)plan->bytes_written) / ((double)caps->read_gbs * 1e3);
    if (caps->flops_f32 > 0)
        compute_us = (double)plan->flops / ((double)caps->flops_f32 * 1e3);
    if (plan->kernel && (plan->kernel->supports & ML_SUP_BF16_DOT) != 0)
        compute_us *= op->kind == ML_OP_SDPA ? 0.75 : 0.5; /* of attention: one product of two */
    plan->predicted_us = (memory_us > compute_us ? memory_us : compute_us) + (double)caps->dispatch_us;
}
