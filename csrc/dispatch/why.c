/* Words for what the policies record as codes. docs/DISPATCHER.md lists them with their meaning. */
#include "dispatch/dispatch.h"

#include <stdio.h>

void ml_plan_because(ml_plan *plan, ml_why why) {
    if (why == ML_WHY_NONE || plan->n_why >= ML_PLAN_MAX_WHY)
        return;
    for (int i = 0; i < plan->n_why; i++)
        if (plan->why[i] == why)
            return;
    plan->why[plan->n_why++] = (uint8_t)why;
}

const char *ml_why_text(ml_why why) {
    static const char *const texts[ML_WHY_COUNT] = {
        [ML_WHY_NONE] = "",
        [ML_WHY_TRANSPOSED] = "M < N: planned as the transposed problem",
        [ML_WHY_SMALL_N] = "N <= METALLIC_MATMUL_SMALLN_MAX_N: small-N",
        [ML_WHY_SIMD] = "M and N reach METALLIC_MATMUL_SIMD_M_MIN and SIMD_N_MIN: tiled GEMM on matrix units",
        [ML_WHY_GENERIC] = "neither small-N nor large enough for matrix units: generic GEMM",
        [ML_WHY_FORCED_BACKEND_ARG] = "backend given as an argument",
        [ML_WHY_FORCED_BACKEND_PREF] = "backend forced by METALLIC_MATMUL_BACKEND",
        [ML_WHY_FORCED_SMALLN] = "small-N forced",
        [ML_WHY_FORCED_GEMM] = "GEMM forced",
        [ML_WHY_SMALLN_IGNORED] = "small-N forced, but N > 16",
        [ML_WHY_BACKEND_DEFAULT] = "default backend of the variant",
        [ML_WHY_BACKEND_ABSENT] = "the backend is not present on this device",
        [ML_WHY_TUNED] = "measured winner of this device's tuning table",
        [ML_WHY_UNSUPPORTED_DTYPE] = "the kernel does not take these dtypes",
        [ML_WHY_UNSUPPORTED_BIAS] = "the kernel has no bias",
        [ML_WHY_UNSUPPORTED_ACTIVATION] = "the kernel has no activation",
        [ML_WHY_UNSUPPORTED_STRIDES] = "the kernel does not take these strides",
        [ML_WHY_UNSUPPORTED_MIXED] = "the kernel does not mix dtypes",
        [ML_WHY_UNSUPPORTED_SIZE] = "the kernel does not take this size",
        [ML_WHY_UNSUPPORTED_MASK] = "the kernel has no mask",
        [ML_WHY_UNSUPPORTED_OTHER] = "the kernel lacks a feature of this case",
        [ML_WHY_FELL_BACK_MLX] = "fell back to mlx",
        [ML_WHY_FELL_BACK_GENERIC] = "fell back to the generic kernel",
        [ML_WHY_NOT_DISPATCHED] = "left out of METALLIC_DISPATCH: plain default",
        [ML_WHY_VEC] = "seq_k <= METALLIC_SOFTMAX_VEC_MAX_K: vec",
        [ML_WHY_BLOCK] = "seq_k > METALLIC_SOFTMAX_VEC_MAX_K: block",
        [ML_WHY_VECTOR] = "at most 8 queries: vector",
        [ML_WHY_TILED] = "more than 8 queries: tiled",
        [ML_WHY_COMPOSED] = "composed of matmul and softmax",
        [ML_WHY_FORCED_VARIANT_ARG] = "variant given as an argument",
        [ML_WHY_FORCED_VARIANT_PREF] = "variant forced by a preference",
        [ML_WHY_TRIVIAL] = "nothing to multiply: an empty result, K = 0 or alpha = 0",
        [ML_WHY_ROW_KEPT] = "a row fits the cache: memory is read once",
        [ML_WHY_ROW_BLOCKS] = "rows beyond the cache: statistics in blocks, then a second reading",
        [ML_WHY_PREPACKED] = "weights prepacked",
        [ML_WHY_GATHERED] = "rows are not contiguous: gathered while computing",
    };
    return why > ML_WHY_NONE && why < ML_WHY_COUNT ? texts[why] : "";
}

const char *ml_backend_name(ml_matmul_backend b) {
    switch (b) {
    case ML_BACKEND_AUTO:
        return "auto";
    case ML_BACKEND_MLX:
        return "mlx";
    case ML_BACKEND_MPS:
        return "mps";
    case ML_BACKEND_GEMV:
        return "gemv";
    }
    return "?";
}

const char *ml_softmax_variant_name(ml_softmax_variant v) {
    switch (v) {
    case ML_SOFTMAX_AUTO:
        return "auto";
    case ML_SOFTMAX_VEC:
        return "vec";
    case ML_SOFTMAX_BLOCK:
        return "block";
    }
    return "?";
}

const char *ml_sdpa_variant_name(ml_sdpa_variant v) {
    switch (v) {
    case ML_SDPA_AUTO:
        return "auto";
    case ML_SDPA_COMPOSED:
        return "composed";
    case ML_SDPA_VECTOR:
        return "vector";
    case ML_SDPA_TILED:
        return "tiled";
    }
    return "?";
}

const char *ml_family_name(ml_op_kind op, int family) {
    switch (op) {
    case ML_OP_MATMUL:
        return ml_backend_name((ml_matmul_backend)family);
    case ML_OP_SOFTMAX:
        return ml_softmax_variant_name((ml_softmax_variant)family);
    case ML_OP_SDPA:
        return ml_sdpa_variant_name((ml_sdpa_variant)family);
    default:
        return "";
    }
}

static const char *bucket_name(ml_smalln_bucket b) {
    static const char *const names[] = {"1", "2", "4", "8", "16", "other"};
    return names[b];
}

static const char *tile_name(ml_gemm_tile t) {
    static const char *const names[] = {"64x32", "64x64", "generic"};
    return names[t];
}

char *ml_plan_variant_format(const ml_plan *plan, char *buf, size_t size) {
    switch (plan->op) {
    case ML_OP_MATMUL:
        if (plan->variant == ML_SMALL_N)
            snprintf(buf, size, "small_n(%s)", bucket_name(plan->bucket));
        else if (plan->variant == ML_GEMM_SIMD)
            snprintf(buf, size, "gemm_simd(%s)", tile_name(plan->tile));
        else
            snprintf(buf, size, "gemm_generic");
        break;
    case ML_OP_SOFTMAX:
        snprintf(buf, size, "%s", ml_softmax_variant_name((ml_softmax_variant)plan->family));
        break;
    case ML_OP_SDPA:
        snprintf(buf, size, "%s", ml_sdpa_variant_name((ml_sdpa_variant)plan->family));
        break;
    case ML_OP_MATMUL_RAGGED:
        snprintf(buf, size, "composed");
        break;
    case ML_OP_BINARY:
    case ML_OP_COPY:
    case ML_OP_FILL:
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
    case ML_OP_ROPE:
    case ML_OP_KIND_COUNT:
        snprintf(buf, size, "default");
        break;
    }
    return buf;
}
