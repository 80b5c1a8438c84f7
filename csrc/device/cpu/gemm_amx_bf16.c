/* AMX GEMM tier: TDPBF16PS multiplies a tile of 16 rows by a tile of 16 columns, 32 steps along k at once, in 16
 * cycles: eight times the peak of VDPBF16PS.
 *
 * Of the eight tiles four hold the sums of 32 x 32 elements of C, two a strip of A and two a panel of B, so that each
 * tile that is loaded is used twice. A tile of A is 16 rows of 32 steps; a tile of B has 16 rows of pairs, which is how
 * gemm_pack_pairs.h packs a panel, row by row. The last steps of k are filled up with zeros in both.
 *
 * For each element the even and the odd steps of 32 are summed apart, from zero, in fused multiply-adds; the two sums
 * are added, then added to the tile. All of it rounds to nearest even, operands and results below 2^-126 count as zero
 * and nothing traps, whatever MXCSR says (Intel SDM volume 2, TDPBF16PS). docs/gemm.md states the error bound.
 *
 * The tile registers and their configuration belong to whoever runs (System V psABI: not preserved across calls). A
 * thread has them loaded during a task only: outside, context switches would save 8 KiB, and code that follows would
 * run in a state from which some processors do not sleep as deeply. Signal handlers start with clear ones, and the
 * kernel brings ours back afterwards; a forked child begins without. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_avx512.h"
#include "device/cpu/pairs_avx512.h"
#include "device/cpu/tiles_amx.h"
#include "device/cpu/transpose_avx512.h"

#define MR 32
#define NR 32
#define STEPS 32         /* of k in a tile */
#define SIDE (STEPS / 2) /* rows of a tile, and words of its rows */
#define ROW_BYTES 64     /* of a tile */

#include "device/cpu/gemm_epilogue.h"
#define OWN_PANELS
#include "device/cpu/gemm_pack_pairs.h"

/* ---- micro-kernel ---- */

#define C_00 0
#define C_01 1
#define C_10 2
#define C_11 3
#define A_0 4
#define A_1 5
#define B_0 6
#define B_1 7

/* Palette 1 with all eight tiles at their full size (Intel SDM volume 1, 18.2). */
static const struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} config __attribute__((aligned(64))) = {.palette = 1,
                                         .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                         .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE}};

static void enter(void) {
    tile_load_config(&config);
}

static void leave(void) {
    tile_release();
}

/* m x n tiles of sums, each 1 or 2. */
ALWAYS_INLINE void kernel(const int m, const int n, const kernel_in *in, const kernel_out *out) {
    const float *a = in->a, *b = in->b;
    char *c = out->c;
    const int64_t c_bytes = out->ldc, add_bytes = out->add_ld * (int64_t)sizeof(float);
    const char *ahead = out->ahead;
    /* GCC's intrinsics do not say that tile loads read memory. */
    __asm__ volatile("" ::: "memory");
    if (out->add) {
        const char *add = (const char *)out->add;
        tile_load(C_00, add, add_bytes);
        if (n == 2)
            tile_load(C_01, add + ROW_BYTES, add_bytes);
        if (m == 2)
            tile_load(C_10, add + SIDE * add_bytes, add_bytes);
        if (m == 2 && n == 2)
            tile_load(C_11, add + SIDE * add_bytes + ROW_BYTES, add_bytes);
    } else {
        tile_zero(C_00);
        tile_zero(C_01);
        tile_zero(C_10);
        tile_zero(C_11);
    }
    for (int64_t p = 0; p < in->k; p += SIDE) {
        if (out->ahead_step != 0) {
            ML_UNROLL for (int i = 0; i < SIDE; i++) {
                __builtin_prefetch(ahead, 0, 2);
                ahead += out->ahead_step;
            }
        }
        tile_load(B_0, b, NR * sizeof(float));
        tile_load(A_0, a, ROW_BYTES);
        tile_dot_bf16(C_00, A_0, B_0);
        if (n == 2) {
            tile_load(B_1, b + SIDE, NR * sizeof(float));
            tile_dot_bf16(C_01, A_0, B_1);
        }
        if (m == 2) {
            tile_load(A_1, a + SIDE * SIDE, ROW_BYTES);
            tile_dot_bf16(C_10, A_1, B_0);
        }
        if (m == 2 && n == 2)
            tile_dot_bf16(C_11, A_1, B_1);
        a += MR * SIDE;
        b += NR * SIDE;
    }
    tile_store(C_00, c, c_bytes);
    if (n == 2)
        tile_store(C_01, c + ROW_BYTES, c_bytes);
    if (m == 2)
        tile_store(C_10, c + SIDE * c_bytes, c_bytes);
    if (m == 2 && n == 2)
        tile_store(C_11, c + SIDE * c_bytes + ROW_BYTES, c_bytes);
}

#define KERNEL(m, n)                                                                                                   \
    static void kernel_##m##_##n(const kernel_in *in, const kernel_out *out) {                                         \
        kernel(m, n, in, out);                                                                                         \
    }
KERNEL(1, 1)
KERNEL(1, 2)
KERNEL(2, 1)
KERNEL(2, 2)

static void ukr(int64_t k, const float *a, const float *b, const ml_ukr_tile *t) {
    static const kernel_fn kernels[2][2] = {{kernel_1_1, kernel_1_2}, {kernel_2_1, kernel_2_2}};
    /* Whole tiles of f32 are stored, and what they are added to loses denormals: partial sums have none, but C may. */
    const bool straight = t->m == MR && t->n == NR && !t->c_in.data && t->out.dtype == ML_F32;
    const kernel_in in = {(k + STEPS - 1) / STEPS * SIDE, a, 0, b, NR};
    run_tile(kernels[(t->m - 1) / SIDE][(t->n - 1) / SIDE], &in, straight, t);
}

/* ---- packing ---- */

/* Elements i of a step lie side by side, steps `step` bytes apart: pairs are woven, and words of 16 rows turned. */
ALWAYS_INLINE void weave(float *dst, const char *src, int64_t step, int64_t count, int steps) {
    static const uint16_t zeros[MR];
    for (int i = 0; i < MR; i += VW) {
        const int lanes = count - i > VW ? VW : count > i ? (int)(count - i) : 0;
        for (int w = 0; w < SIDE; w += VW) {
            vf r[VW];
            ML_UNROLL for (int t = 0; t < VW; t++) {
                const int s = 2 * (w + t);
                const char *lo = s < steps ? src + s * step : (const char *)zeros;
                const char *hi = s + 1 < steps ? src + (s + 1) * step : (const char *)zeros;
                r[t] = lanes > 0 ? v_pairs(lo + i * 2, hi + i * 2, lanes) : v_zero();
            }
            v_transpose(r);
            ML_UNROLL for (int t = 0; t < VW; t++) v_store(dst + (i + t) * SIDE + w, r[t]);
        }
    }
}

/* For each 32 steps the rows one after the other. */
static void pack_a(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    const int64_t rs = x->rs * 2, cs = x->cs * 2;
    const bool along_k = x->cs == 1 || count == 1 || llabs(x->cs) < llabs(x->rs);
    for (int64_t p = 0; p < k; p += STEPS, dst += MR * SIDE) {
        const char *src = (const char *)x->data + p * cs;
        const int steps = k - p < STEPS ? (int)(k - p) : STEPS;
        if (!along_k && x->rs == 1) {
            weave(dst, src, cs, count, steps);
            continue;
        }
        if (!along_k) {
            uint16_t raw[STEPS][MR];
            for (int s = 0; s < steps; s++)
                collect(raw[s], src + s * cs, count, x->rs, MR, ML_BF16);
            weave(dst, (const char *)raw, sizeof raw[0], count, steps);
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            float *row = dst + i * SIDE;
            if (x->cs == 1 && steps == STEPS) {
                __builtin_prefetch(src + i * rs + PREFETCH_BYTES);
                memcpy(row, src + i * rs, ROW_BYTES);
            } else {
                uint16_t raw[STEPS] = {0};
                collect(raw, src + i * rs, steps, x->cs, STEPS, ML_BF16);
                memcpy(row, raw, ROW_BYTES);
            }
        }
        memset(dst + count * SIDE, 0, (size_t)(MR - count) * ROW_BYTES);
    }
}

static void pack_b(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    const int64_t words = (k + 1) / 2, all = (k + STEPS - 1) / STEPS * SIDE;
    pack_pairs(dst, x, count, k, NR);
    memset(dst + words * NR, 0, (size_t)(all - words) * NR * sizeof(float));
}

const ml_gemm_impl ml_gemm_amx_bf16 = {.ukr = ukr,
                                       .pack_a = pack_a,
                                       .pack_b = pack_b,
                                       .mr = MR,
                                       .nr = NR,
                                       .k_pack = 2,
                                       .k_unit = STEPS,
                                       .enter = enter,
                                       .leave = leave,
                                       .words_per_ns = 500};
