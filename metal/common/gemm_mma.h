// The multiply-accumulate of a tile with simdgroup 8x8 matrices.
#ifndef ML_METAL_GEMM_MMA_H
#define ML_METAL_GEMM_MMA_H

#include <metal_simdgroup_matrix>

#include "common/types.h"

// The first of the two adjacent elements that a lane holds of an 8x8 matrix, as (column, row). Apple does not document
// it; this is the arrangement MLX computes with (mlx/backend/metal/kernels/steel/gemm/mma.h, BaseMMAFrag).
inline short2 fragment_origin(ushort lane) {
    const short quad = short(lane / 4);
    return short2((quad & 2) * 2 + (lane % 2) * 2, (quad & 4) + (lane / 2) % 4);
}

// BM x BN of the result over simdgroups that each hold TM x TN matrices. A tile of a is [BM][lda], or [BK][lda] where
// it is transposed; of b, [BK][ldb] or [BN][ldb].
template <typename S, int BM, int BN, int BK, int TM, int TN> struct BlockMMA {
    static constant constexpr int simds_m = BM / (8 * TM);
    static constant constexpr int simds_n = BN / (8 * TN);
    static constant constexpr int threads = 32 * simds_m * simds_n;

    simdgroup_matrix<float, 8, 8> sum[TM][TN];
    int row, column; // of this simdgroup's part

    explicit BlockMMA(uint simdgroup) {
        row = int(simdgroup) / simds_n * (8 * TM);
        column = int(simdgroup) % simds_n * (8 * TN);
        for (int i = 0; i < TM; i++)
            for (int j = 0; j < TN; j++)
                sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    void multiply(threadgroup const S *a, int lda, bool transpose_a, threadgroup const S *b, int ldb,
                  bool transpose_b) {
        simdgroup_matrix<S, 8, 8> x[TM], y[TN];
        for (int k = 0; k < BK; k += 8) {
            for (int i = 0; i < TM; i++) {
                const int m = row + 8 * i;
                simdgroup_load(x[i], a + (transpose_a ? k * lda + m : m * lda + k), ulong(lda), ulong2(0), transpose_a);
            }
            for (int j = 0; j < TN; j++) {
                const int n = column + 8 * j;
                simdgroup_load(y[j], b + (transpose_b ? n * ldb + k : k * ldb + n), ulong(ldb), ulong2(0), transpose_b);
            }
            for (int i = 0; i < TM; i++)
                for (int j = 0; j < TN; j++) {
                    const int s = i % 2 ? TN - 1 - j : j; // back and forth: one operand of each product was used before
                    simdgroup_multiply_accumulate(sum[i][s], x[i], y[s], sum[i][s]);
                }
        }
    }
};

#endif
