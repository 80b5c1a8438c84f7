// Matrix times few columns: a [m, k] is read once, in its own order; b holds at most N columns, which each threadgroup
// stages in threadgroup memory as float, a block of k at a time, so that its simdgroups share them.
//
//   nt  rows of a lie along k: a simdgroup takes RM rows, its lanes walk k in groups of four, and simd_sum adds them up
//   nn  columns of a lie along m: a lane takes four neighbouring rows, the simdgroups share out k and add up through
//   threadgroup
//       memory
//
// Groups of four load as vectors where vector_a says they are aligned; else lane by lane, which stays coalesced.
#include "common/matmul.h"

constant bool strided_a [[function_constant(ML_GPU_FC_STRIDED_A)]];
constant bool vector_a [[function_constant(ML_GPU_FC_VECTOR_A)]];
constant int b_dtype [[function_constant(ML_GPU_FC_B_DTYPE)]];

constant constexpr int simds = 8, threads = 32 * simds;

// weight * value for the sum, where a hidden weight leaves out whatever the value is.
inline float product(float a, float b, float sum) {
    if ((skip_hidden == ML_GPU_SKIP_A && is_hidden(a)) || (skip_hidden == ML_GPU_SKIP_B && is_hidden(b)))
        return sum;
    return fma(a, b, sum);
}

inline float product4(float4 a, float4 b, float sum) {
    for (int e = 0; e < 4; e++)
        sum = product(a[e], b[e], sum);
    return sum;
}

// Columns [0, N) of b, rows [first, first + count), to tile[n][i]; zeros beyond n. Hidden weights stay what they are:
// beyond k nothing is read from the tile.
template <int N, int BLOCK>
void stage_columns(threadgroup float *tile, device const void *b, constant ml_gpu_matmul &p, long offset, int columns,
                   int first, int count, uint thread_index) {
    for (int i = int(thread_index); i < N * count; i += threads) {
        const int n = i / count, k = i % count;
        tile[n * BLOCK + k] = n < columns ? load_float(b, offset + (first + k) * p.b.rs + n * p.b.cs, b_dtype) : 0.0f;
    }
}

template <typename T, int N, int RM, int BLOCK>
[[kernel, max_total_threads_per_threadgroup(256)]] void
gemv_nt(device const T *a [[buffer(0)]], device const void *b [[buffer(1)]],
        device const void *c [[buffer(2), function_constant(use_out_source)]],
        device const void *bias [[buffer(3), function_constant(has_bias)]], device void *out [[buffer(4)]],
        constant ml_gpu_matmul &p [[buffer(5)]], uint3 group [[threadgroup_position_in_grid]],
        uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
        uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float4 tile4[N * BLOCK / 4];
    threadgroup float *tile = (threadgroup float *)tile4;
    const BatchOffsets at = batch_offsets(p, group.z);
    const int first_n = int(group.y) * N, columns = min(N, p.n - first_n);
    const int first_m = (int(group.x) * simds + int(simdgroup)) * RM, rows = min(RM, p.m - first_m);
    const long step = strided_a ? p.a.cs : 1;
    a += at.a;
    float sum[RM][N] = {{0.0f}};

    for (int k = 0; k < p.k; k += BLOCK) {
        const int count = min(BLOCK, p.k - k), groups = count / 4;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage_columns<N, BLOCK>(tile, b, p, at.b + first_n * p.b.cs, columns, k, count, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (vector_a) {
            for (int g = int(lane); g < groups; g += 32)
                for (int r = 0; r < RM; r++) {
                    if (r >= rows)
                        break;
                    const float4 x = float4(*(device const vec<T, 4> *)(a + (first_m + r) * p.a.rs + k + 4 * g));
                    for (int n = 0; n < N; n++)
                        sum[r][n] = product4(x, tile4[(n * BLOCK) / 4 + g], sum[r][n]);
                }
        }
        for (int i = (vector_a ? 4 * groups : 0) + int(lane); i < count; i += 32)
            for (int r = 0; r < RM; r++) {
                if (r >= rows)
                    break;
                const float x = float(a[(first_m + r) * p.a.rs + (k + i) * step]);
                for (int n = 0; n < N; n++)
                    sum[r][n] = product(x, tile[n * BLOCK + i], sum[r][n]);
            }
    }

    const Epilogue epilogue = {c, bias, out, at.c, at.out};
    for (int r = 0; r < RM; r++)
        for (int n = 0; n < N; n++) {
            const float total = simd_sum(sum[r][n]);
            if (int(lane) == (r * N + n) % 32 && r < rows && n < columns)
                epilogue.store(p, total, first_m + r, first_n + n);
        }
}

template <typename T, int N, int BLOCK>
[[kernel, max_total_threads_per_threadgroup(256)]] void
gemv_nn(device const T *a [[buffer(0)]], device const void *b [[buffer(1)]],
        device const void *c [[buffer(2), function_constant(use_out_source)]],
        device const void *bias [[buffer(3), function_constant(has_bias)]], device void *out [[buffer(4)]],
        constant ml_gpu_matmul &p [[buffer(5)]], uint3 group [[threadgroup_position_in_grid]],
        uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
        uint lane [[thread_index_in_simdgroup]]) {
    constexpr int bm = 128; // rows of a threadgroup
    threadgroup float tile[N * BLOCK];
    threadgroup float partial[simds * bm];
    const BatchOffsets at = batch_offsets(p, group.z);
    const int first_n = int(group.y) * N, columns = min(N, p.n - first_n);
    const int first_m = int(group.x) * bm, rows = min(bm, p.m - first_m);
    a += at.a + first_m;
    float sum[4][N] = {{0.0f}};

    for (int k = 0; k < p.k; k += BLOCK) {
        const int count = min(BLOCK, p.k - k);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage_columns<N, BLOCK>(tile, b, p, at.b + first_n * p.b.cs, columns, k, count, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int i = int(simdgroup); i < count; i += simds) {
            device const T *from = a + (k + i) * p.a.cs;
            float4 x = float4(0.0f);
            if (vector_a && 4 * int(lane) + 4 <= rows) {
                x = float4(*(device const vec<T, 4> *)(from + 4 * lane));
            } else {
                for (int e = 0; e < 4; e++) {
                    const int m = vector_a ? 4 * int(lane) + e : int(lane) + 32 * e;
                    if (m < rows)
                        x[e] = float(from[m]);
                }
            }
            for (int n = 0; n < N; n++)
                for (int e = 0; e < 4; e++)
                    sum[e][n] = product(x[e], tile[n * BLOCK + i], sum[e][n]);
        }
    }

    const Epilogue epilogue = {c, bias, out, at.c, at.out};
    for (int n = 0; n < N; n++) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int e = 0; e < 4; e++)
            partial[int(simdgroup) * bm + (vector_a ? 4 * int(lane) + e : int(lane) + 32 * e)] = sum[e][n];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (int(thread_index) < rows && n < columns) {
            float total = 0.0f;
            for (int s = 0; s < simds; s++)
                total += partial[s * bm + int(thread_index)];
            epilogue.store(p, total, first_m + int(thread_index), first_n + n);
        }
    }
}

#define INSTANTIATE(NAME, T, N, RM, BLOCK)                                                                             \
    template [[host_name("gemv_nt_" #NAME                                                                              \
                         "_n" #N)]] [[kernel]] decltype(gemv_nt<T, N, RM, BLOCK>) gemv_nt<T, N, RM, BLOCK>;            \
    template [[host_name("gemv_nn_" #NAME "_n" #N)]] [[kernel]] decltype(gemv_nn<T, N, BLOCK>) gemv_nn<T, N, BLOCK>;
#define INSTANTIATE_BUCKETS(NAME, T)                                                                                   \
    INSTANTIATE(NAME, T, 1, 4, 1024)                                                                                   \
    INSTANTIATE(NAME, T, 2, 4, 1024)                                                                                   \
    INSTANTIATE(NAME, T, 4, 4, 512)                                                                                    \
    INSTANTIATE(NAME, T, 8, 4, 512)                                                                                    \
    INSTANTIATE(NAME, T, 16, 4, 256)

#ifdef ML_BFLOAT
INSTANTIATE_BUCKETS(bf16, bfloat)
#else
INSTANTIATE_BUCKETS(f32, float)
INSTANTIATE_BUCKETS(f16, half)
#endif
