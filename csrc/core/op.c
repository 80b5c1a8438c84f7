#include "core/op.h"

const char *ml_op_name(ml_op_kind kind) {
    static const char *const names[ML_OP_KIND_COUNT] = {
        [ML_OP_MATMUL] = "matmul",     [ML_OP_MATMUL_RAGGED] = "matmul_ragged",
        [ML_OP_SOFTMAX] = "softmax",   [ML_OP_SDPA] = "sdpa",
        [ML_OP_BINARY] = "binary",     [ML_OP_COPY] = "copy",
        [ML_OP_FILL] = "fill",         [ML_OP_LAYER_NORM] = "layer_norm",
        [ML_OP_RMS_NORM] = "rms_norm", [ML_OP_GELU] = "gelu",
        [ML_OP_SILU] = "silu",         [ML_OP_SWIGLU] = "swiglu",
        [ML_OP_ROPE] = "rope",
    };
    return (unsigned)kind < ML_OP_KIND_COUNT ? names[kind] : "unknown";
}
