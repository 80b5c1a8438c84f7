/* Packing of a GEMM tier with dot products of pairs: bf16 of any strides into panels whose words hold two steps along
 * k, the even one in the lower half: word[p / 2 * width + i] = src(i, p) | src(i, p + 1) << 16, zero past the last
 * step. No value is converted. Defines pack_pairs and, without OWN_PANELS, pack_a and pack_b; included after
 * gemm_vector.h or gemm_epilogue.h by a tier that has defined
 *
 *   v_pairs(lo, hi, n)   n <= VW words of the bf16 at lo and hi, zeros above; nothing beyond is read
 *
 * and may define, with V_PAIRS_STRIDED, v_pairs_apart and v_pairs_back: the same with every other bf16, and with bf16
 * that lie backwards. */
#include "device/cpu/gemm_pack_parts.h"

typedef struct pair_row {
    int64_t count, stride; /* 1, 2 or -1 */
} pair_row;

/* Element i runs along memory, or at a stride of 2 or -1: two steps are woven into one row of words. hi of a lone last
 * step is a row of zeros. */
ALWAYS_INLINE void pack_pair_row(float *dst, const char *lo, const char *hi, const pair_row *row, const int width,
                                 bool last) {
    const int64_t count = row->count;
    ML_UNROLL for (int j = 0; j < width; j += VW) {
        int lanes = count - j > VW ? VW : count > j ? (int)(count - j) : 0;
        const char *at[2] = {lo + j * row->stride * 2, hi + j * row->stride * 2};
#ifdef V_PAIRS_STRIDED
        vf v = row->stride == 1   ? v_pairs(at[0], at[1], lanes)
               : row->stride == 2 ? v_pairs_apart(at[0], at[1], lanes)
                                  : v_pairs_back(at[0], at[1], lanes);
#else
        vf v = v_pairs(at[0], at[1], lanes);
#endif
        /* A narrow width stores whole vectors too: the next row overwrites what is too much. The last row must not. */
        if (width - j >= VW || !last)
            v_store(dst + j, v);
        else
            v_store_n(dst + j, v, width - j);
    }
}

ALWAYS_INLINE void pack_along_width(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width,
                                    const int stride) {
    static const uint16_t zeros[2 * PACK_WIDTH];
    const char *src = x->data, *none = (const char *)(stride < 0 ? zeros + 2 * PACK_WIDTH - 1 : zeros);
    const int64_t step = x->cs * 2;
    for (int64_t p = 0; p < k; p += 2, src += 2 * step, dst += width) {
        const char *hi = p + 1 < k ? src + step : none;
        if (count == width)
            pack_pair_row(dst, src, hi, &(const pair_row){width, stride}, width, p + 2 >= k);
        else
            pack_pair_row(dst, src, hi, &(const pair_row){count, stride}, width, p + 2 >= k);
    }
}

/* Any strides: collected as they are along the smaller stride, so that a cache line is read once however the others
 * alias with it; 2 * VW steps of each row where k is the inner one, else two steps of all rows. */
ALWAYS_INLINE void pack_gather(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width) {
    const int64_t rs = x->rs * 2, cs = x->cs * 2;
    if (llabs(x->rs) <= llabs(x->cs)) {
        uint16_t both[2][PACK_WIDTH] __attribute__((aligned(64)));
        for (int64_t p = 0; p < k; p += 2, dst += width) {
            const char *src = (const char *)x->data + p * cs;
            if (p + 1 == k)
                memset(both[1], 0, sizeof both[1]);
            for (int64_t s = 0; s < 2 && p + s < k; s++)
                collect(both[s], src + s * cs, count, x->rs, width, ML_BF16);
            pack_pair_row(dst, (const char *)both[0], (const char *)both[1], &(const pair_row){count, 1}, width,
                          p + 2 >= k);
        }
        return;
    }
    uint16_t raw[PACK_WIDTH][2 * VW] __attribute__((aligned(64)));
    for (int64_t p = 0; p < k; p += 2 * VW) {
        const int steps = k - p < 2 * VW ? (int)(k - p) : 2 * VW, words = (steps + 1) / 2;
        const char *src = (const char *)x->data + p * cs;
        for (int64_t i = 0; i < count; i++) {
            collect(raw[i], src + i * rs, steps, x->cs, 2 * VW, ML_BF16);
            if (steps % 2 != 0)
                raw[i][steps] = 0;
        }
        for (int j = 0; j < width; j += VW)
            pack_block(dst + p / 2 * width + j, (const char *)raw[j], sizeof raw[0], count - j, words,
                       width % VW != 0 && p + 2 * VW >= k, width, ML_F32);
    }
}

ALWAYS_INLINE void pack_pairs(float *dst, const ml_mat *x, int64_t count, int64_t k, const int width) {
    if (k == 0)
        return;
    if (x->cs == 1 && x->rs != 1) { /* pairs lie together: words, whose rows need no alignment */
        const int64_t words = k / 2;
        const bool odd = k % 2 != 0;
        pack_along_k(dst, &(pack_rows){x->data, x->rs * 2}, count, words, width, ML_F32);
        if (odd) {
            ml_mat rest = *x;
            rest.data = (char *)x->data + (k - 1) * 2;
            pack_gather(dst + words * width, &rest, count, 1, width);
        }
    } else if (x->rs == 1 || count == 1) {
        pack_along_width(dst, x, count, k, width, 1);
#ifdef V_PAIRS_STRIDED
    } else if (x->rs == 2) {
        pack_along_width(dst, x, count, k, width, 2);
    } else if (x->rs == -1) {
        pack_along_width(dst, x, count, k, width, -1);
#endif
    } else {
        pack_gather(dst, x, count, k, width);
    }
}

#ifndef OWN_PANELS
static void pack_a(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    pack_pairs(dst, x, count, k, MR);
}

static void pack_b(float *dst, const ml_mat *x, int64_t count, int64_t k) {
    pack_pairs(dst, x, count, k, NR);
}
#endif
