// Tiled matrix multiplication without simdgroup matrices: any strides in both dimensions, any float dtypes. 32 x 32 of
// the result by 256 threads of 2 x 2 each, k in steps of 16.
#include "common/matmul.h"

constant int a_dtype [[function_constant(ML_GPU_FC_A_DTYPE)]];
constant int b_dtype [[function_constant(ML_GPU_FC_B_DTYPE)]];

constant constexpr int BM = 32, BN = 32, BK = 16, TM = 2, TN = 2;
constant constexpr int threads = (BM / TM) * (BN / TN);

// An operand's part that goes into a tile: element (r, c) at offset + r * rs + c * cs.
struct Part {
    device const void *data;
    int dtype;
    long offset, rs, cs;
    int rows, columns;
    bool by_columns; // neighbours in memory are neighbours in a column
};

// rows x columns into threadgroup memory, zeros where nothing exists; true when `clean` took something out that is not
// finite.
inline bool load_part(threadgroup float *tile, int rows, int columns, Part part, bool clean, uint thread_index) {
    bool found = false;
    for (int i = int(thread_index); i < rows * columns; i += threads) {
        const int r = part.by_columns ? i % rows : i / columns, c = part.by_columns ? i / rows : i % columns;
        float value = 0.0f;
        if (r < part.rows && c < part.columns)
            value = load_float(part.data, part.offset + r * part.rs + c * part.cs, part.dtype);
        if (clean && !isfinite(value)) {
            value = 0.0f;
            found = true;
        }
        tile[r * (columns + 1) + c] = value;
    }
    return found;
}

inline bool columns_first(long rs, long cs) {
    return (rs < 0 ? -rs : rs) < (cs < 0 ? -cs : cs);
}

[[kernel, max_total_threads_per_threadgroup(256)]] void
gemm_generic(device const void *a [[buffer(0)]], device const void *b [[buffer(1)]],
             device const void *c [[buffer(2), function_constant(use_out_source)]],
             device const void *bias [[buffer(3), function_constant(has_bias)]], device void *out [[buffer(4)]],
             constant ml_gpu_matmul &p [[buffer(5)]], uint3 group [[threadgroup_position_in_grid]],
             uint thread_index [[thread_index_in_threadgroup]]) {
    threadgroup float a_tile[BM * (BK + 1)], b_tile[BK * (BN + 1)];
    threadgroup bool found[threads];
    const BatchOffsets at = batch_offsets(p, group.z);
    const int first_m = int(group.y) * BM, first_n = int(group.x) * BN;
    const int row = int(thread_index) / (BN / TN), column = int(thread_index) % (BN / TN); // and every 16th on
    const bool clean = skip_hidden == ML_GPU_SKIP_A;
    float sum[TM][TN] = {{0.0f}};
    bool seen = false;

    Part from_a = {
        a, a_dtype, at.a + first_m * p.a.rs, p.a.rs, p.a.cs, p.m - first_m, 0, columns_first(p.a.rs, p.a.cs)};
    Part from_b = {b,      b_dtype, at.b + first_n * p.b.cs, p.b.rs,
                   p.b.cs, 0,       p.n - first_n,           columns_first(p.b.rs, p.b.cs)};
    for (int k = 0; k < p.k; k += BK) {
        from_a.columns = from_b.rows = p.k - k;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        load_part(a_tile, BM, BK, from_a, false, thread_index);
        seen |= load_part(b_tile, BK, BN, from_b, clean, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int e = 0; e < BK; e++) {
            float x[TM], y[TN];
            for (int i = 0; i < TM; i++)
                x[i] = a_tile[(row + i * (BM / TM)) * (BK + 1) + e];
            for (int j = 0; j < TN; j++)
                y[j] = b_tile[e * (BN + 1) + column + j * (BN / TN)];
            for (int i = 0; i < TM; i++)
                for (int j = 0; j < TN; j++)
                    sum[i][j] = fma(x[i], y[j], sum[i][j]);
        }
        from_a.offset += BK * p.a.cs;
        from_b.offset += BK * p.b.rs;
    }

    if (clean) {
        found[thread_index] = seen;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int t = 0; t < threads; t++)
            seen |= found[t];
    }
    const Epilogue epilogue = {c, bias, out, at.c, at.out};
    for (int i = 0; i < TM; i++)
        for (int j = 0; j < TN; j++) {
            const int m = first_m + row + i * (BM / TM), n = first_n + column + j * (BN / TN);
            if (m >= p.m || n >= p.n)
                continue;
            float value = sum[i][j];
            if (clean && seen)
                value = add_visible(value, Operand<any_type>(a, a_dtype), Operand<any_type>(b, b_dtype), p, at, m, n);
            epilogue.store(p, value, m, n);
        }
}
