/* Attention kernels in NEON: strips of 8 rows, whose 16 sums leave room for a vector of queries or weights of each row;
 * panels of 8 keys, as in the GEMM of this tier. */
#include "device/cpu/vector_neon.h"

#define MR 8
#define NV 2
#define DIRECT_ROWS 8
#define TABLE ml_sdpa_neon
#define GEMM ml_gemm_neon

static const uint32_t lane_bits[4] = {1, 2, 4, 8};

V_FN vm v_mask(uint64_t bits) {
    return vtstq_u32(vdupq_n_u32((uint32_t)bits), vld1q_u32(lane_bits));
}
V_FN uint64_t v_bits(vm m) {
    return vaddvq_u32(vandq_u32(m, vld1q_u32(lane_bits)));
}

#include "device/cpu/sdpa_simd.h"
