/* Vector and small-N kernels for NEON + FP16 FML: FMLAL multiplies f16 and adds the exact products to f32 sums, so
 * results err as those of the NEON tier do. Half its instructions, and not those that convert: docs/experiments.md. */
#include "device/cpu/vector_neon.h"

typedef uint16x8_t vh;

V_FN void v_dot(vf *acc, const int chains, const int u, vh w, vh x) {
    const float16x8_t a = vreinterpretq_f16_u16(w), b = vreinterpretq_f16_u16(x);
    (void)u; /* each eight has a lower and an upper half */
    acc[0] = vfmlalq_low_f16(acc[0], a, b);
    acc[chains - 1] = vfmlalq_high_f16(acc[chains - 1], a, b);
}
V_FN void v_rows(vf *acc, vh w0, vh w1, vh x) {
    const float16x8_t a = vreinterpretq_f16_u16(w0), b = vreinterpretq_f16_u16(w1), y = vreinterpretq_f16_u16(x);
    acc[0] = vfmlalq_laneq_low_f16(vfmlalq_laneq_low_f16(acc[0], a, y, 0), b, y, 1);
    acc[1] = vfmlalq_laneq_high_f16(vfmlalq_laneq_high_f16(acc[1], a, y, 0), b, y, 1);
}

#include "device/cpu/gemv_neon_pairs.h"

extern const ml_gemv_impl ml_gemv_neon;
const ml_gemv_impl ml_gemv_neon_fp16 = {
    .dot = {[ML_F16] = dot}, .axpy = {[ML_F16] = axpy}, .pack_pairs = pack_pairs, .base = &ml_gemv_neon};
