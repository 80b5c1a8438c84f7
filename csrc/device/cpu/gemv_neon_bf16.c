/* Vector and small-N kernels for NEON + BF16: BFDOT multiplies pairs along k (what that does to denormals and to the
 * last bit: docs/gemm.md). One instruction where the NEON tier takes four: two that widen eight weights, two
 * multiply-adds. */
#include "device/cpu/vector_neon.h"

typedef uint16x8_t vh;

V_FN vf v_bfdot(vf acc, vh w, vh x) {
    return vbfdotq_f32(acc, vreinterpretq_bf16_u16(w), vreinterpretq_bf16_u16(x));
}
V_FN void v_dot(vf *acc, const int chains, const int u, vh w, vh x) {
    acc[u % chains] = v_bfdot(acc[u % chains], w, x);
}
/* Two steps of eight rows, woven into words. */
V_FN void v_rows(vf *acc, vh w0, vh w1, vh x) {
    acc[0] = v_bfdot(acc[0], vzip1q_u16(w0, w1), x);
    acc[1] = v_bfdot(acc[1], vzip2q_u16(w0, w1), x);
}

#include "device/cpu/gemv_neon_pairs.h"

extern const ml_gemv_impl ml_gemv_neon;
const ml_gemv_impl ml_gemv_neon_bf16 = {
    .dot = {[ML_BF16] = dot}, .axpy = {[ML_BF16] = axpy}, .pack_pairs = pack_pairs, .base = &ml_gemv_neon};
