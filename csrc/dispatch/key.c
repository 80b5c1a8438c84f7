/* Resource-cache keys: fixed-width fields, so that equal bytes mean equal facts. docs/DISPATCHER.md lists the fields.
 */
#include "dispatch/dispatch.h"

#include <string.h>

enum {
    NO_DTYPE = 0xff,
    ALIGN_MAX = 16 /* bytes: the widest vector access of a kernel */
};

static void put(ml_cache_key *key, const void *bytes, size_t n) {
    memcpy(key->bytes + key->size, bytes, n);
    key->size = (uint8_t)(key->size + n);
}

static void put8(ml_cache_key *key, unsigned value) {
    uint8_t byte = (uint8_t)value;
    put(key, &byte, 1);
}

static void put64(ml_cache_key *key, int64_t value) {
    put(key, &value, sizeof value);
}

static void put_dtype(ml_cache_key *key, const ml_view *v, bool present) {
    put8(key, present ? (unsigned)v->dtype : NO_DTYPE);
}

/* Which of the last two dims has unit stride: 0 rows are contiguous, 1 columns are, 2 neither. */
static unsigned layout_of(const ml_view *v) {
    int last = v->ndim - 1;
    if (last < 0 || v->shape[last] <= 1 || v->strides[last] == 1)
        return 0;
    return last > 0 && (v->shape[last - 1] <= 1 || v->strides[last - 1] == 1) ? 1 : 2;
}

/* log2 of the largest power of two up to 16 bytes that divides the address of element 0 and the step to every row,
 * column or matrix start: what a vector access may rely on. */
static unsigned alignment_of(const ml_view *v, unsigned layout) {
    uint64_t size = ml_dtype_size_of(v->dtype);
    int unit_dim = layout == 0 ? v->ndim - 1 : layout == 1 ? v->ndim - 2 : -1;
    uint64_t bits = ALIGN_MAX | (uint64_t)v->offset;
    if (v->buf && v->buf->host)
        bits |= (uint64_t)(uintptr_t)v->buf->host;
    for (int i = 0; i < v->ndim; i++)
        if (i != unit_dim && v->shape[i] > 1)
            bits |= (uint64_t)v->strides[i] * size;
    return (unsigned)__builtin_ctzll(bits);
}

/* Alignment class and layout in one byte; an absent operand gives 0xff, which no present one can. */
static void put_placement(ml_cache_key *key, const ml_view *v, bool present) {
    unsigned layout = present ? layout_of(v) : 0;
    put8(key, present ? alignment_of(v, layout) << 2 | layout : 0xffu);
}

static void put_matmul(ml_cache_key *key, const ml_op *op, const ml_plan *plan) {
    const ml_matmul_params *p = &op->matmul;
    const ml_view *out = &op->out[0], *bias = &op->in[ML_IN_BIAS];
    int last = out->ndim - 1;
    bool bias_by_row = p->has_bias && last > 0 && bias->strides[last] == 0 && bias->strides[last - 1] != 0;
    bool scaled = p->alpha != 1.0f || (p->has_c && p->beta != 1.0f);
    int64_t m = plan->transposed ? p->n : p->m, n = plan->transposed ? p->m : p->n;
    put8(key, (unsigned)plan->variant);
    put8(key, (unsigned)plan->bucket);
    put8(key, (unsigned)plan->tile);
    put8(key, (unsigned)plan->transposed | (unsigned)p->transpose_a << 1 | (unsigned)p->transpose_b << 2 |
                  (unsigned)p->has_c << 3 | (unsigned)p->has_bias << 4 | (unsigned)bias_by_row << 5 |
                  (unsigned)scaled << 6 | (unsigned)(p->batch > 1) << 7);
    /* Whole tiles need no edge code: a function constant of the GEMM kernels. */
    put8(key, (unsigned)(m % 64 == 0) | (unsigned)(n % (plan->tile == ML_TILE_64X32 ? 32 : 64) == 0) << 1 |
                  (unsigned)(p->k % 16 == 0) << 2);
    put8(key, (unsigned)p->activation | (unsigned)p->skip_hidden << 4 | (unsigned)plan->panels << 5);
    put_dtype(key, &op->in[ML_IN_A], true);
    put_dtype(key, &op->in[ML_IN_B], true);
    put_dtype(key, &op->in[ML_IN_C], p->has_c);
    put_dtype(key, bias, p->has_bias);
    put_dtype(key, out, true);
    put_placement(key, &op->in[ML_IN_A], true);
    put_placement(key, &op->in[ML_IN_B], true);
    put_placement(key, &op->in[ML_IN_C], p->has_c);
    put_placement(key, out, true);
}

static void put_softmax(ml_cache_key *key, const ml_op *op, const ml_plan *plan) {
    const ml_softmax_params *p = &op->softmax;
    uint64_t seq_k = p->seq_k > 0 ? (uint64_t)p->seq_k : 1;
    put8(key, 63u - (unsigned)__builtin_clzll(seq_k)); /* the threadgroup size follows the same power of two */
    put8(key, (unsigned)p->causal | (unsigned)p->log << 1 | (unsigned)plan->simd_reduction << 2 |
                  (unsigned)p->scores << 3 | (unsigned)p->has_sinks << 4 | (unsigned)(p->softcap != 0.0f) << 5 |
                  (unsigned)(p->window > 0) << 6);
    put8(key, (unsigned)p->mask);
    put_dtype(key, &op->in[0], true);
    put_dtype(key, &op->in[1], p->mask != ML_MASK_NONE);
    put_dtype(key, &op->in[2], p->has_sinks);
    put_dtype(key, &op->out[0], true);
    put_placement(key, &op->in[0], true);
    put_placement(key, &op->in[1], p->mask != ML_MASK_NONE);
    put_placement(key, &op->out[0], true);
}

static void put_sdpa(ml_cache_key *key, const ml_op *op) {
    const ml_sdpa_params *p = &op->sdpa;
    put64(key, p->dim_qk);
    put64(key, p->dim_v);
    put8(key, (unsigned)p->causal | (unsigned)(p->window > 0) << 1 | (unsigned)p->has_sinks << 2 |
                  (unsigned)(p->softcap != 0.0f) << 3);
    put8(key, (unsigned)p->mask);
    for (int i = ML_IN_Q; i <= ML_IN_SINKS; i++) {
        bool present = i <= ML_IN_V || (i == ML_IN_MASK ? p->mask != ML_MASK_NONE : p->has_sinks);
        put_dtype(key, &op->in[i], present);
        put_placement(key, &op->in[i], present);
    }
    put_dtype(key, &op->out[0], true);
    put_placement(key, &op->out[0], true);
}

/* Up to two operands and the result of an operation that treats every element alike. */
static void put_elementwise(ml_cache_key *key, const ml_op *op, unsigned kind, bool a_present, bool b_present) {
    put8(key, kind);
    const ml_view *views[] = {&op->in[0], &op->in[1], &op->out[0]};
    const bool present[] = {a_present && op->n_in > 0, b_present && op->n_in > 1, true};
    for (int i = 0; i < 3; i++) {
        put_dtype(key, views[i], present[i]);
        put_placement(key, views[i], present[i]);
        put8(key, present[i] && ml_view_is_contiguous(views[i]));
    }
}

static void put_simple(ml_cache_key *key, const ml_op *op) {
    if (op->kind == ML_OP_BINARY)
        put_elementwise(key, op, (unsigned)op->binary.kind, !op->binary.a_is_value, !op->binary.b_is_value);
    else
        put_elementwise(key, op, 0, true, true);
}

/* The length of a norm's rows decides the threadgroup, as for softmax. */
static void put_norm(ml_cache_key *key, const ml_op *op) {
    const ml_norm_params *p = &op->norm;
    uint64_t length = p->length > 0 ? (uint64_t)p->length : 1;
    put8(key, 63u - (unsigned)__builtin_clzll(length));
    const bool present[] = {true, p->has_weight, p->has_offset, p->has_residual};
    for (int i = ML_IN_X; i <= ML_IN_RESIDUAL; i++) {
        put_dtype(key, &op->in[i], present[i]);
        put_placement(key, &op->in[i], present[i]);
    }
    put_dtype(key, &op->out[0], true);
    put_placement(key, &op->out[0], true);
    put_placement(key, &op->out[1], p->has_residual); /* of x's dtype */
}

static void put_activate(ml_cache_key *key, const ml_op *op) {
    put_elementwise(key, op, (unsigned)op->activate.activation, true, true);
}

static void put_rope(ml_cache_key *key, const ml_op *op) {
    const ml_rope_params *p = &op->rope;
    put64(key, p->dims);
    put8(key, (unsigned)p->interleaved | (unsigned)(p->offsets != NULL) << 1 | (unsigned)(p->dims < p->width) << 2);
    put_dtype(key, &op->in[0], true);
    put_placement(key, &op->in[0], true);
    put_dtype(key, &op->out[0], true);
    put_placement(key, &op->out[0], true);
}

void ml_plan_key(const ml_op *op, const ml_plan *plan, ml_cache_key *key) {
    key->size = 0;
    put8(key, (unsigned)op->kind);
    put8(key, (unsigned)plan->family);
    put(key, &plan->kernel, sizeof plan->kernel); /* rows live as long as their device: the address is their identity */
    switch (op->kind) {
    case ML_OP_MATMUL:
        put_matmul(key, op, plan);
        break;
    case ML_OP_SOFTMAX:
        put_softmax(key, op, plan);
        break;
    case ML_OP_SDPA:
        put_sdpa(key, op);
        break;
    case ML_OP_MATMUL_RAGGED: /* prepared as its parts are */
        put_dtype(key, &op->in[ML_IN_A], true);
        put_dtype(key, &op->in[ML_IN_B], true);
        put_dtype(key, &op->out[0], true);
        break;
    case ML_OP_BINARY:
    case ML_OP_COPY:
    case ML_OP_FILL:
        put_simple(key, op);
        break;
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        put_norm(key, op);
        break;
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        put_activate(key, op);
        break;
    case ML_OP_ROPE:
        put_rope(key, op);
        break;
    case ML_OP_KIND_COUNT:
        break;
    }
}
