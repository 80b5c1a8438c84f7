// Tiled matrix multiplication with simdgroup matrices: loader, multiply-accumulate and epilogue are the pieces in
// common/.
//
// A threadgroup computes BM x BN of the result and walks k in steps of BK: tiles of a and b go to threadgroup memory in
// the order in which they lie in device memory (so both transposes load along their unit stride), with padded rows
// against bank conflicts. The decomposition is that of MLX's "steel" GEMM (mlx/backend/metal/kernels/steel/gemm).
#include "common/gemm_loader.h"
#include "common/gemm_mma.h"
#include "common/matmul.h"

constant bool transpose_a [[function_constant(ML_GPU_FC_TRANSPOSE_A)]];
constant bool transpose_b [[function_constant(ML_GPU_FC_TRANSPOSE_B)]];
constant bool align_m [[function_constant(ML_GPU_FC_ALIGN_M)]];
constant bool align_n [[function_constant(ML_GPU_FC_ALIGN_N)]];
constant bool align_k [[function_constant(ML_GPU_FC_ALIGN_K)]];
constant bool strided_a [[function_constant(ML_GPU_FC_STRIDED_A)]];
constant bool strided_b [[function_constant(ML_GPU_FC_STRIDED_B)]];
constant bool vector_a [[function_constant(ML_GPU_FC_VECTOR_A)]];
constant bool vector_b [[function_constant(ML_GPU_FC_VECTOR_B)]];
constant int a_dtype [[function_constant(ML_GPU_FC_A_DTYPE)]];
constant int b_dtype [[function_constant(ML_GPU_FC_B_DTYPE)]];

constexpr int larger(int a, int b) {
    return a > b ? a : b;
}

template <typename T, int BM, int BN, int BK, int TM, int TN>
[[kernel, max_total_threads_per_threadgroup(BM / (8 * TM) * (BN / (8 * TN)) * 32)]] void
gemm_simd(device const void *a_data [[buffer(0)]], device const void *b_data [[buffer(1)]],
          device const void *c [[buffer(2), function_constant(use_out_source)]],
          device const void *bias [[buffer(3), function_constant(has_bias)]], device void *out [[buffer(4)]],
          constant ml_gpu_matmul &p [[buffer(5)]], uint3 group [[threadgroup_position_in_grid]],
          uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
          ushort lane [[thread_index_in_simdgroup]]) {
    typedef typename Operand<T>::element S;
    typedef BlockMMA<S, BM, BN, BK, TM, TN> MMA;
    typedef TileLoader<T, S, MMA::threads> Loader;
    constexpr int pad = 16 / int(sizeof(S));
    constexpr int ld_k = BK + pad, ld_m = BM + pad, ld_n = BN + pad;
    threadgroup S a_tile[larger(BM * ld_k, BK * ld_m)];
    threadgroup S b_tile[larger(BN * ld_k, BK * ld_n)];
    threadgroup bool found[MMA::simds_m * MMA::simds_n];

    const BatchOffsets at = batch_offsets(p, group.z);
    const int first_m = int(group.y) * BM, first_n = int(group.x) * BN;
    const int rows = min(BM, p.m - first_m), columns = min(BN, p.n - first_n);
    const Operand<T> a(a_data, a_dtype), b(b_data, b_dtype);
    const Loader load_a = {a_tile, thread_index}, load_b = {b_tile, thread_index};
    const int lda = transpose_a ? ld_m : ld_k, ldb = transpose_b ? ld_k : ld_n;
    const long a_step = strided_a ? (transpose_a ? p.a.rs : p.a.cs) : 1, a_row = transpose_a ? p.a.cs : p.a.rs;
    const long b_step = strided_b ? (transpose_b ? p.b.rs : p.b.cs) : 1, b_row = transpose_b ? p.b.cs : p.b.rs;
    const bool clean = skip_hidden == ML_GPU_SKIP_A;
    MMA mma(simdgroup);
    bool seen = false;

    TileSource from_a = {at.a + first_m * p.a.rs, a_row, a_step, rows, rows, false, strided_a, vector_a};
    TileSource from_b = {at.b + first_n * p.b.cs, b_row, b_step, columns, columns, false, strided_b, vector_b};
    for (int k = 0; k < p.k; k += BK) {
        const int depth = min(BK, p.k - k);
        const bool deep = align_k || depth == BK;
        from_a.whole = deep && (align_m || rows == BM);
        from_b.whole = deep && (align_n || columns == BN);
        if (transpose_a)
            from_a.rows = depth;
        else
            from_a.columns = depth;
        if (transpose_b)
            from_b.columns = depth;
        else
            from_b.rows = depth;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        load_a.load(a, from_a, transpose_a ? BK : BM, transpose_a ? BM : BK, lda, false);
        seen |= load_b.load(b, from_b, transpose_b ? BN : BK, transpose_b ? BK : BN, ldb, clean);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        mma.multiply(a_tile, lda, transpose_a, b_tile, ldb, transpose_b);
        from_a.offset += BK * p.a.cs;
        from_b.offset += BK * p.b.rs;
    }

    if (clean) {
        seen = simd_any(seen);
        if (lane == 0)
            found[simdgroup] = seen;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int s = 0; s < MMA::simds_m * MMA::simds_n; s++)
            seen |= found[s];
    }
    const Epilogue epilogue = {c, bias, out, at.c, at.out};
    const short2 origin = fragment_origin(lane);
    for (int i = 0; i < TM; i++)
        for (int j = 0; j < TN; j++)
            for (int e = 0; e < 2; e++) {
                const int r = mma.row + 8 * i + origin.y, n = mma.column + 8 * j + origin.x + e;
                if ((!align_m && r >= rows) || (!align_n && n >= columns))
                    continue;
                float sum = mma.sum[i][j].thread_elements()[e];
                if (clean && seen)
                    sum = add_visible(sum, a, b, p, at, first_m + r, first_n + n);
                epilogue.store(p, sum, first_m + r, first_n + n);
            }
}

#define INSTANTIATE(NAME, T, BM, BN, BK, TM, TN)                                                                       \
    template [[host_name(                                                                                              \
        #NAME "_" #BM                                                                                                  \
              "x" #BN)]] [[kernel]] decltype(gemm_simd<T, BM, BN, BK, TM, TN>) gemm_simd<T, BM, BN, BK, TM, TN>;
#define INSTANTIATE_TILES(NAME, T)                                                                                     \
    INSTANTIATE(NAME, T, 64, 64, 16, 4, 4)                                                                             \
    INSTANTIATE(NAME, T, 64, 32, 16, 4, 2)                                                                             \
    INSTANTIATE(NAME, T, 32, 32, 16, 2, 2)

#ifdef ML_BFLOAT
INSTANTIATE_TILES(gemm_simd_bf16, bfloat)
#else
INSTANTIATE_TILES(gemm_simd_f32, float)
INSTANTIATE_TILES(gemm_simd_f16, half)
INSTANTIATE_TILES(gemm_simd_any, any_type)
#endif
