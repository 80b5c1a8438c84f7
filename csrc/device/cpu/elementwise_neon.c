/* Element-wise row kernels with NEON. */
#include "device/cpu/elementwise_blocks.h"
#include "device/cpu/vector_neon.h"

static inline vf quiet(vf v) {
    const uint32x4_t bits = vreinterpretq_u32_f32(v);
    return v_select(v_equal(v, v), v, vreinterpretq_f32_u32(vorrq_u32(bits, vdupq_n_u32(0x400000))));
}

static inline void transpose4_4x4(uint32_t *dst, int64_t dst_ld, const uint32_t *src, int64_t src_ld) {
    vf r[4];
    for (int j = 0; j < 4; j++)
        r[j] = v_load(src + j * src_ld);
    v_transpose(r);
    for (int i = 0; i < 4; i++)
        v_store(dst + i * dst_ld, r[i]);
}

/* A quarter of a line of every source line at a time: all of it is read before it leaves the cache. */
static inline void transpose4_8x8(uint32_t *dst, int64_t dst_ld, const uint32_t *src, int64_t src_ld) {
    for (int j = 0; j < 8; j += 4) {
        for (int i = 0; i < 8; i += 4)
            transpose4_4x4(dst + i * dst_ld + j, dst_ld, src + j * src_ld + i, src_ld);
    }
}

/* Rows j and j + 4 are interleaved, three times over. */
static inline void transpose2_8x8(uint16_t *dst, int64_t dst_ld, const uint16_t *src, int64_t src_ld) {
    uint16x8_t r[8], t[8];
    for (int j = 0; j < 8; j++)
        memcpy(&r[j], src + j * src_ld, sizeof r[j]);
    for (int j = 0; j < 4; j++) {
        t[2 * j] = vzip1q_u16(r[j], r[j + 4]);
        t[2 * j + 1] = vzip2q_u16(r[j], r[j + 4]);
    }
    for (int j = 0; j < 4; j++) {
        r[2 * j] = vzip1q_u16(t[j], t[j + 4]);
        r[2 * j + 1] = vzip2q_u16(t[j], t[j + 4]);
    }
    for (int j = 0; j < 4; j++) {
        const uint16x8_t even = vzip1q_u16(r[j], r[j + 4]), odd = vzip2q_u16(r[j], r[j + 4]);
        memcpy(dst + 2 * j * dst_ld, &even, sizeof even);
        memcpy(dst + (2 * j + 1) * dst_ld, &odd, sizeof odd);
    }
}

DEFINE_TRANSPOSE_BLOCKS(transpose4_neon, uint32_t, transpose4_8x8)
DEFINE_TRANSPOSE_BLOCKS(transpose2_neon, uint16_t, transpose2_8x8)

#define VEC vf
#define WIDTH VW
#define SPLAT(x) v_set1(x)
#define ADD(a, b) v_add(a, b)
#define SUB(a, b) v_sub(a, b)
#define MUL(a, b) v_mul(a, b)
#define DIV(a, b) v_div(a, b)
#define QUIET(v) quiet(v)
#define LOAD_F32(p) v_load(p)
#define STORE_F32(p, v) v_store(p, v)
#define LOAD_F16(p) v_from_f16(p)
#define STORE_F16(p, v) v_to_f16(p, v)
#define LOAD_BF16(p) v_from_bf16(p)
#define STORE_BF16(p, v) v_to_bf16(p, v)
#define TABLE ml_elementwise_neon
#define TRANSPOSE4 transpose4_neon
#define TRANSPOSE2 transpose2_neon
extern const ml_elementwise_impl TABLE;

#include "device/cpu/elementwise_rows.h"
