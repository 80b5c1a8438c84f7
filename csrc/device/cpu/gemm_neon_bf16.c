/* NEON + BF16 GEMM tier: BFDOT multiplies two steps along k at once, twice the multiply-adds of f32.
 *
 * A lane adds the sum of its two products to the accumulator; both additions round to odd, operands and results below
 * 2^-126 count as zero, and any NaN is the default one, whatever FPCR says (Arm ARM, BFDotAdd). docs/gemm.md states the
 * error bound. The tile is that of f32: a word of A is a lane, a word of B has its own lane. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_neon.h"

#define MR 12
#define NV 2
#define K_PACK 2

V_FN vf v_madd(vf x, vf b, vf acc) {
    return vbfdotq_f32(acc, vreinterpretq_bf16_f32(b), vreinterpretq_bf16_f32(x));
}
V_FN vf v_madd_lane(vf a, int i, vf b, vf acc) {
    const bfloat16x8_t x = vreinterpretq_bf16_f32(a), y = vreinterpretq_bf16_f32(b);
    return i == 0   ? vbfdotq_laneq_f32(acc, y, x, 0)
           : i == 1 ? vbfdotq_laneq_f32(acc, y, x, 1)
           : i == 2 ? vbfdotq_laneq_f32(acc, y, x, 2)
                    : vbfdotq_laneq_f32(acc, y, x, 3);
}
V_FN vf v_pairs(const void *lo, const void *hi, int n) {
    const uint16x4_t even = n == VW ? v_load_halves(lo) : v_load_halves_n(lo, n);
    const uint16x4_t odd = n == VW ? v_load_halves(hi) : v_load_halves_n(hi, n);
    return vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(even, odd), vzip2_u16(even, odd)));
}

#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack_pairs.h"

const ml_gemm_impl ml_gemm_neon_bf16 = {
    .ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = K_PACK};
