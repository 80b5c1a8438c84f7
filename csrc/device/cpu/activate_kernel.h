/* The kernels of GELU, SiLU and SwiGLU, written once over the primitives of vector_<tier>.h. Included by
 * activate_<tier>.c only, which defines TABLE (the tier's ml_activate_impl) and CONVERT (its ml_elementwise_impl). */
#include "device/cpu/activate.h"
#include "device/cpu/activation_vector.h"
#include "device/cpu/vector_typed.h"

extern const ml_activate_impl TABLE;
extern const ml_elementwise_impl CONVERT;

V_FN vf activated(ml_activation act, bool gated, ml_dtype dtype, const ml_activate_row *row, int64_t i) {
    const vf y = v_activate(act, load_as(dtype, at(dtype, row->x, i)));
    return gated ? v_mul(y, load_as(dtype, at(dtype, row->up, i))) : y;
}

/* With constant act, gated and dtype. Two vectors at once, so that the latencies of one hide behind the other. */
V_FN void row_run(ml_activation act, bool gated, ml_dtype dtype, const ml_activate_row *row) {
    const int64_t n = row->n;
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        const vf a = activated(act, gated, dtype, row, i), b = activated(act, gated, dtype, row, i + VW);
        store_pair_as(dtype, at_mutable(dtype, row->y, i), a, b);
    }
    for (; i + VW <= n; i += VW)
        store_as(dtype, at_mutable(dtype, row->y, i), activated(act, gated, dtype, row, i));
    if (VW > 1 && i < n) {
        vf y = v_activate(act, load_tail_as(dtype, at(dtype, row->x, i), n - i));
        if (gated)
            y = v_mul(y, load_tail_as(dtype, at(dtype, row->up, i), n - i));
        store_tail_as(dtype, at_mutable(dtype, row->y, i), y, n - i);
    }
}

#define DEFINE_ROW(name, act, dtype)                                                                                   \
    static void name(const ml_activate_row *row) {                                                                     \
        if (row->up)                                                                                                   \
            row_run(act, true, dtype, row);                                                                            \
        else                                                                                                           \
            row_run(act, false, dtype, row);                                                                           \
    }
#define DEFINE_ROWS(name, act)                                                                                         \
    DEFINE_ROW(name##_f32, act, ML_F32)                                                                                \
    DEFINE_ROW(name##_f16, act, ML_F16)                                                                                \
    DEFINE_ROW(name##_bf16, act, ML_BF16)
DEFINE_ROWS(gelu, ML_ACT_GELU)
DEFINE_ROWS(gelu_tanh, ML_ACT_GELU_TANH)
DEFINE_ROWS(silu, ML_ACT_SILU)

const ml_activate_impl TABLE = {
    .rows = {[ML_ACT_GELU] = {gelu_f32, gelu_f16, gelu_bf16},
             [ML_ACT_GELU_TANH] = {gelu_tanh_f32, gelu_tanh_f16, gelu_tanh_bf16},
             [ML_ACT_SILU] = {silu_f32, silu_f16, silu_bf16}},
    .convert = &CONVERT,
};
