/* Attention kernels in plain C. */
#include "device/cpu/vector_scalar.h"

#define MR 4
#define NV 8
#define DIRECT_ROWS 4
#define TABLE ml_sdpa_scalar
#define GEMM ml_gemm_scalar

V_FN vm v_mask(uint64_t bits) {
    return bits & 1;
}
V_FN uint64_t v_bits(vm m) {
    return m;
}
V_FN void v_transpose(vf *r) {
    (void)r;
}

#include "device/cpu/sdpa_simd.h"
