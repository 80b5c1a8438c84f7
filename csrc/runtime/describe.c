#include "runtime/describe.h"

#include "dispatch/dispatch.h"

#include <stdio.h>

char *ml_describe_impl(ml_device *dev, const ml_plan *plan, char *buf, size_t size) {
    if (plan->composed || !plan->kernel)
        snprintf(buf, size, "composed");
    else
        dev->vtbl->impl_name(dev, plan, buf, size);
    return buf;
}

const char *ml_describe_family(const ml_plan *plan) {
    const char *name = ml_family_name(plan->op, plan->family);
    return name[0] == '\0' && plan->composed ? "composed" : name;
}

static void describe_geometry(ml_json *j, const char *key, const int32_t values[3]) {
    ml_json_array_begin(j, key);
    for (int i = 0; i < 3; i++)
        ml_json_int(j, NULL, values[i]);
    ml_json_array_end(j);
}

void ml_describe_plan(ml_json *j, ml_device *dev, const ml_plan *plan) {
    static const char *const buckets[] = {"1", "2", "4", "8", "16", "other"};
    static const char *const tiles[] = {"64x32", "64x64", "generic"};
    char text[ML_IMPL_MAX];
    ml_json_string(j, "op", ml_op_name(plan->op));
    ml_json_string(j, "device", dev->name);
    ml_json_string(j, "backend", ml_describe_family(plan));
    ml_json_string(j, "variant", ml_plan_variant_format(plan, text, sizeof text));
    if (plan->op == ML_OP_MATMUL && plan->variant == ML_SMALL_N)
        ml_json_string(j, "bucket", buckets[plan->bucket]);
    if (plan->op == ML_OP_MATMUL && plan->variant != ML_SMALL_N)
        ml_json_string(j, "tile", tiles[plan->tile]);
    ml_json_string(j, "impl", ml_describe_impl(dev, plan, text, sizeof text));
    ml_json_array_begin(j, "why");
    for (int i = 0; i < plan->n_why; i++)
        ml_json_string(j, NULL, ml_why_text((ml_why)plan->why[i]));
    ml_json_array_end(j);
    ml_json_bool(j, "transposed", plan->transposed);
    ml_json_bool(j, "composed", plan->composed);
    ml_json_number(j, "predicted_us", plan->predicted_us);
    ml_json_int(j, "bytes", plan->bytes_read + plan->bytes_written);
    ml_json_int(j, "bytes_read", plan->bytes_read);
    ml_json_int(j, "bytes_written", plan->bytes_written);
    ml_json_int(j, "flops", plan->flops);
    ml_json_int(j, "scratch_bytes", plan->scratch_bytes);
    if (plan->op == ML_OP_MATMUL && plan->block.kc > 0)
        ml_json_ints(j, "blocking", (int64_t[]){plan->block.mc, plan->block.nc, plan->block.kc}, 3);
    if (plan->geometry.threadgroup[0] > 0) {
        describe_geometry(j, "grid", plan->geometry.grid);
        describe_geometry(j, "threadgroup", plan->geometry.threadgroup);
    }
}

/* ---- operations ---- */

static const char *operand_name(const ml_op *op, int i) {
    static const char *const matmul[] = {"a", "b", "c", "bias"}, *const softmax[] = {"x", "mask", "sinks"},
                             *const sdpa[] = {"query", "key", "value", "mask", "sinks"},
                             *const norm[] = {"x", "weight", "bias", "residual"}, *const swiglu[] = {"gate", "up"},
                             *const unnamed[] = {"in0", "in1", "in2", "in3", "in4", "in5"};
    switch (op->kind) {
    case ML_OP_MATMUL:
    case ML_OP_MATMUL_RAGGED:
    case ML_OP_BINARY:
        return matmul[i];
    case ML_OP_SOFTMAX:
        return softmax[i];
    case ML_OP_SDPA:
        return sdpa[i];
    case ML_OP_COPY:
        return "src";
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        return norm[i];
    case ML_OP_SWIGLU:
        return swiglu[i];
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_ROPE:
        return "x";
    default:
        return unnamed[i];
    }
}

typedef void (*describe_view_fn)(ml_json *j, const char *key, const ml_view *v);

static void view_dtype(ml_json *j, const char *key, const ml_view *v) {
    ml_json_string(j, key, ml_dtype_name(v->dtype));
}

static void view_shape(ml_json *j, const char *key, const ml_view *v) {
    ml_json_ints(j, key, v->shape, v->ndim);
}

static void view_strides(ml_json *j, const char *key, const ml_view *v) {
    ml_json_ints(j, key, v->strides, v->ndim);
}

/* One object with a member per operand that is present. */
static void describe_views(ml_json *j, const char *key, const ml_op *op, describe_view_fn describe) {
    ml_json_object_begin(j, key);
    for (int i = 0; i < op->n_in; i++)
        if (op->in[i].buf)
            describe(j, operand_name(op, i), &op->in[i]);
    for (int i = 0; i < op->n_out; i++)
        describe(j, i == 0 ? "out" : "out1", &op->out[i]);
    ml_json_object_end(j);
}

static void describe_matmul(ml_json *j, const ml_matmul_params *p) {
    static const char *const activations[] = {"none", "gelu", "gelu_tanh", "silu", "relu"};
    ml_json_int(j, "m", p->m);
    ml_json_int(j, "n", p->n);
    ml_json_int(j, "k", p->k);
    ml_json_int(j, "batch", p->batch);
    ml_json_number(j, "alpha", (double)p->alpha);
    ml_json_number(j, "beta", (double)p->beta);
    ml_json_bool(j, "has_c", p->has_c);
    ml_json_bool(j, "bias", p->has_bias);
    ml_json_string(j, "activation", activations[p->activation]);
    ml_json_bool(j, "transpose_a", p->transpose_a);
    ml_json_bool(j, "transpose_b", p->transpose_b);
}

static void describe_softmax(ml_json *j, const ml_softmax_params *p) {
    ml_json_int(j, "rows", p->rows);
    ml_json_int(j, "seq_q", p->seq_q);
    ml_json_int(j, "seq_k", p->seq_k);
    ml_json_number(j, "scale", (double)p->scale);
    ml_json_bool(j, "causal", p->causal);
    ml_json_int(j, "query_offset", p->query_offset);
    if (p->scores) {
        ml_json_number(j, "softcap", (double)p->softcap);
        ml_json_int(j, "window", p->window);
    }
}

static void describe_sdpa(ml_json *j, const ml_sdpa_params *p) {
    ml_json_int(j, "batch", p->batch);
    ml_json_int(j, "heads_q", p->heads_q);
    ml_json_int(j, "heads_kv", p->heads_kv);
    ml_json_int(j, "len_q", p->len_q);
    ml_json_int(j, "len_k", p->len_k);
    ml_json_int(j, "dim_qk", p->dim_qk);
    ml_json_int(j, "dim_v", p->dim_v);
    ml_json_number(j, "scale", (double)p->scale);
    ml_json_number(j, "softcap", (double)p->softcap);
    ml_json_bool(j, "causal", p->causal);
    ml_json_int(j, "query_offset", p->query_offset);
    ml_json_int(j, "window", p->window);
}

static void describe_binary(ml_json *j, const ml_binary_params *p) {
    static const char *const kinds[] = {"add", "subtract", "multiply", "divide", "equal", "not_equal"};
    ml_json_string(j, "kind", kinds[p->kind]);
    if (p->a_is_value)
        ml_json_number(j, "a_value", p->a_value);
    if (p->b_is_value)
        ml_json_number(j, "b_value", p->b_value);
}

static void describe_norm(ml_json *j, const ml_norm_params *p) {
    ml_json_int(j, "rows", p->rows);
    ml_json_int(j, "length", p->length);
    ml_json_number(j, "eps", (double)p->eps);
    ml_json_bool(j, "weight", p->has_weight);
    ml_json_bool(j, "bias", p->has_offset);
    ml_json_bool(j, "residual", p->has_residual);
}

static void describe_rope(ml_json *j, const ml_rope_params *p) {
    ml_json_int(j, "length", p->length);
    ml_json_int(j, "width", p->width);
    ml_json_int(j, "dims", p->dims);
    ml_json_bool(j, "offsets", p->offsets != NULL);
    if (!p->offsets)
        ml_json_int(j, "offset", p->offset);
    ml_json_number(j, "base", p->base);
    ml_json_number(j, "scale", p->scale);
    ml_json_bool(j, "interleaved", p->interleaved);
}

void ml_describe_op(ml_json *j, const ml_op *op) {
    ml_json_string(j, "dtype", ml_dtype_name(op->out[0].dtype));
    describe_views(j, "dtypes", op, view_dtype);
    describe_views(j, "shapes", op, view_shape);
    describe_views(j, "strides", op, view_strides);
    switch (op->kind) {
    case ML_OP_MATMUL:
        describe_matmul(j, &op->matmul);
        break;
    case ML_OP_MATMUL_RAGGED:
        ml_json_ints(j, "row_counts", op->ragged.row_counts, (int)op->ragged.groups);
        break;
    case ML_OP_SOFTMAX:
        describe_softmax(j, &op->softmax);
        break;
    case ML_OP_SDPA:
        describe_sdpa(j, &op->sdpa);
        break;
    case ML_OP_BINARY:
        describe_binary(j, &op->binary);
        break;
    case ML_OP_FILL:
        ml_json_number(j, "value", op->fill.value);
        break;
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        describe_norm(j, &op->norm);
        break;
    case ML_OP_GELU:
        ml_json_string(j, "approximate", op->activate.activation == ML_ACT_GELU_TANH ? "tanh" : "none");
        break;
    case ML_OP_ROPE:
        describe_rope(j, &op->rope);
        break;
    default:
        break;
    }
}
