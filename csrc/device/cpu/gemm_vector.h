/* The micro-kernel of the vector GEMM tiers, written once over a handful of vector primitives. Included by gemm_<isa>.c
 * only, which defines
 *
 *   MR and NV   up to 16 rows of the micro-tile, NV vectors per row (NR = NV * VW)
 *   v_transpose(r)   a VW x VW block in place
 *
 * after vector_<isa>.h, then includes this and gemm_pack.h or gemm_pack_pairs.h. A tier whose panels hold pairs along k
 * (ml_gemm_impl.k_pack 2) also defines
 *
 *   K_PACK      2
 *   v_madd(x, b, acc)   acc with the products of two words' contents added; without it, words are f32
 *
 * and, where vector_<isa>.h has V_LANES, v_madd_lane(a, i, b, acc): the same with lane i of a, for packed rows. */
#define NR (NV * VW)
#include "device/cpu/gemm_epilogue.h"

#ifndef K_PACK
#define K_PACK 1
#define v_madd v_fma
#define v_madd_lane v_fma_lane
#endif

/* A word at any address. */
ALWAYS_INLINE vf broadcast_at(const char *p) {
    float word;
    memcpy(&word, p, sizeof word);
    return v_set1(word);
}

/* Rows that one pointer serves: the addressing modes of x86-64 reach two more than its own. */
enum { ROWS_PER_POINTER = 3 };

ALWAYS_INLINE void store_sums(const int m, const int nv, vf acc[MR][NV], const kernel_out *out, const ml_dtype dtype) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype);
    char *c = out->c;
    const bool whole = out->tail == VW;
    ML_UNROLL for (int i = 0; i < m; i++, c += out->ldc) {
        ML_UNROLL for (int j = 0; j < nv; j++) {
            if (j < nv - 1 || whole)
                store_lanes(dtype, c + j * VW * size, acc[i][j], VW);
            else
                store_lanes(dtype, c + j * VW * size, acc[i][j], out->tail);
        }
    }
}

/* c[i][j] (+)= sum over the k words of A(i, p) * b[p*bs + j] for m rows and nv vectors of columns, where A(i, p) is
 * a[p*MR + i] or, in_place, word p of row i; the first three are constants where this is expanded, and all sums live in
 * registers. */
ALWAYS_INLINE void kernel(const int m, const int nv, const bool in_place, const kernel_in *in, const kernel_out *out) {
    const float *a = in->a, *b = in->b;
    const int64_t k = in->k, bs = in->bs, a_rows = in->a_rows;
    const char *rows[(MR + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER];
    ML_UNROLL for (int i = 0; i < m; i += ROWS_PER_POINTER) rows[i / ROWS_PER_POINTER] = (const char *)a + i * a_rows;
    vf acc[MR][NV];
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_zero();
    }
    const int64_t last = (nv * VW - 1) * (int64_t)ml_dtype_size_of(out->dtype);
    ML_UNROLL for (int i = 0; i < m; i++) {
        __builtin_prefetch(out->c + i * out->ldc, 1);
        __builtin_prefetch(out->c + i * out->ldc + last, 1);
    }
    const char *ahead = out->ahead;
    const int64_t ahead_step = out->ahead_step;
    for (int64_t p = 0; p < k; p++) {
        vf bv[NV];
        __builtin_prefetch(ahead, 0, 2);
        ahead += ahead_step;
        ML_UNROLL for (int j = 0; j < nv; j++) bv[j] = v_load(b + j * VW);
        b += bs;
        if (in_place) {
            ML_UNROLL for (int i = 0; i < m; i++) {
                vf x = broadcast_at(rows[i / ROWS_PER_POINTER] + i % ROWS_PER_POINTER * a_rows);
                ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd(x, bv[j], acc[i][j]);
            }
            ML_UNROLL for (int i = 0; i < m; i += ROWS_PER_POINTER) rows[i / ROWS_PER_POINTER] += sizeof(float);
            continue;
        }
#ifdef V_LANES
        vf av[(MR + VW - 1) / VW];
        ML_UNROLL for (int i = 0; i < m; i += VW) av[i / VW] = v_load(a + i);
        ML_UNROLL for (int i = 0; i < m; i++) {
            ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd_lane(av[i / VW], i % VW, bv[j], acc[i][j]);
        }
#else
        ML_UNROLL for (int i = 0; i < m; i++) {
            vf x = v_set1(a[i]);
            ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd(x, bv[j], acc[i][j]);
        }
#endif
        a += MR;
    }
    if (out->add) {
        ML_UNROLL for (int i = 0; i < m; i++) {
            ML_UNROLL for (int j = 0; j < nv; j++) {
                const float *from = out->add + i * out->add_ld + j * VW;
                acc[i][j] =
                    v_add(acc[i][j], j < nv - 1 || out->tail == VW ? v_load(from) : v_load_n(from, out->tail, 0.0f));
            }
        }
    }
    if (out->dtype == ML_F16)
        store_sums(m, nv, acc, out, ML_F16);
    else if (out->dtype == ML_BF16)
        store_sums(m, nv, acc, out, ML_BF16);
    else
        store_sums(m, nv, acc, out, ML_F32);
}

#define KERNEL(m, nv)                                                                                                  \
    static void kernel_##m##_##nv(const kernel_in *in, const kernel_out *out) {                                        \
        kernel(m, nv, false, in, out);                                                                                 \
    }                                                                                                                  \
    static void kernel_##m##_##nv##_in_place(const kernel_in *in, const kernel_out *out) {                             \
        kernel(m, nv, true, in, out);                                                                                  \
    }
#define KERNELS(m) KERNEL(m, 1) KERNEL(m, 2)
#define KERNEL_ROW(m) {{kernel_##m##_1, kernel_##m##_1_in_place}, {kernel_##m##_2, kernel_##m##_2_in_place}},
/* X(1) ... X(MR) */
#define FOR_ROWS_1(X) X(1)
#define FOR_ROWS_2(X) FOR_ROWS_1(X) X(2)
#define FOR_ROWS_3(X) FOR_ROWS_2(X) X(3)
#define FOR_ROWS_4(X) FOR_ROWS_3(X) X(4)
#define FOR_ROWS_5(X) FOR_ROWS_4(X) X(5)
#define FOR_ROWS_6(X) FOR_ROWS_5(X) X(6)
#define FOR_ROWS_7(X) FOR_ROWS_6(X) X(7)
#define FOR_ROWS_8(X) FOR_ROWS_7(X) X(8)
#define FOR_ROWS_9(X) FOR_ROWS_8(X) X(9)
#define FOR_ROWS_10(X) FOR_ROWS_9(X) X(10)
#define FOR_ROWS_11(X) FOR_ROWS_10(X) X(11)
#define FOR_ROWS_12(X) FOR_ROWS_11(X) X(12)
#define FOR_ROWS_13(X) FOR_ROWS_12(X) X(13)
#define FOR_ROWS_14(X) FOR_ROWS_13(X) X(14)
#define FOR_ROWS_15(X) FOR_ROWS_14(X) X(15)
#define FOR_ROWS_16(X) FOR_ROWS_15(X) X(16)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FOR_ROWS(X) JOIN(FOR_ROWS_, MR)(X)
FOR_ROWS(KERNELS)
static const kernel_fn kernels[MR][NV][2] = {FOR_ROWS(KERNEL_ROW)};

static void ukr(int64_t k, const float *a, const float *b, const ml_ukr_tile *t) {
    const kernel_in in = {(k + K_PACK - 1) / K_PACK, a, t->a_rows, b, t->b_stride};
    run_tile(kernels[t->m - 1][(t->n - 1) / VW][t->a_rows != 0], &in, true, t);
}
