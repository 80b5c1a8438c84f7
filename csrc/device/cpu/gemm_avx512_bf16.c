/* AVX-512 BF16 GEMM tier: VDPBF16PS multiplies two steps along k at once, twice the multiply-adds of f32.
 *
 * Each lane takes two fused multiply-adds one after the other, the odd step first, each rounded to nearest even;
 * operands and results below 2^-126 count as zero whatever MXCSR says (Intel SDM volume 2C, VDPBF16PS). docs/gemm.md
 * states the error bound. The tile is that of f32: a word of A is broadcast, a word of B has its own lane. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_avx512.h"
#include "device/cpu/pairs_avx512.h"

#define MR 14
#define NV 2
#define K_PACK 2

V_FN vf v_madd(vf x, vf b, vf acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(x), (__m512bh)_mm512_castps_si512(b));
}

#include "device/cpu/transpose_avx512.h"
#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack_pairs.h"

const ml_gemm_impl ml_gemm_avx512_bf16 = {
    .ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = K_PACK, .in_place_a = true};
