/* The kernels of GELU, SiLU and SwiGLU, written once over the primitives of vector_<tier>.h. Included by
 * activate_<tier>.c only, which defines TABLE (the tier's ml_activate_impl) and CONVERT (its ml_elementwise_impl). */
#include "device/cpu/activate.h"
#include "device/cpu/activation_vector.h"
#include "device/cpu/vector_typed.h"

extern const ml_activate_impl TABLE;
extern const ml_elementwise_impl CONVERT;

enum { BLOCK = VW > 8 ? 4 : 2 };

/* n vectors from element i on; with constant act, gated, dtype and n. Several at once, so that the latencies of one
 * hide behind the others. */
V_FN void block_run(ml_activation act, bool gated, ml_dtype dtype, const ml_activate_row *row, int64_t i, int n) {
    vf v[V_ACTIVATE_MOST];
    ML_UNROLL for (int k = 0; k < n; k++) v[k] = load_as(dtype, at(dtype, row->x, i + k * VW));
    v_activate_many(act, v, n, dtype != ML_F32);
    if (gated) {
        ML_UNROLL for (int k = 0; k < n; k++) v[k] = v_mul(v[k], load_as(dtype, at(dtype, row->up, i + k * VW)));
    }
    if (n == 1) {
        store_as(dtype, at_mutable(dtype, row->y, i), v[0]);
        return;
    }
    ML_UNROLL for (int k = 0; k < n; k += 2) {
        store_pair_as(dtype, at_mutable(dtype, row->y, i + k * VW), v[k], v[k + 1]);
    }
}

V_FN void row_run(ml_activation act, bool gated, ml_dtype dtype, const ml_activate_row *row) {
    const int64_t n = row->n;
    int64_t i = 0;
    for (; i + BLOCK * VW <= n; i += BLOCK * VW)
        block_run(act, gated, dtype, row, i, BLOCK);
    for (; i + VW <= n; i += VW)
        block_run(act, gated, dtype, row, i, 1);
    if (VW > 1 && i < n) {
        vf y = load_tail_as(dtype, at(dtype, row->x, i), n - i);
        v_activate_many(act, &y, 1, dtype != ML_F32);
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
