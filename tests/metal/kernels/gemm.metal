// C = A B, row-major. A threadgroup of four simdgroups makes a tile of 32 x 32 from 32 x 16 and 16 x 32 tiles in
// threadgroup memory; a simdgroup makes 16 x 16 of it with 8 x 8 matrices, accumulating in float. Edges are filled with
// zeros on the way in and left out on the way out.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

struct GemmParams {
    uint M, N, K;
};

// A tile of ROWS x COLUMNS elements in threadgroup memory, with rows of LD.
template <typename T, ushort ROWS, ushort COLUMNS, ushort LD, ushort THREADS> struct TileLoader {
    device const T *source;
    uint rows, columns, ld; // of the source, from the tile's first row on

    // The tile whose first column is `column`.
    void load(threadgroup T *tile, uint column, ushort thread_index) const thread {
        for (ushort i = thread_index; i < ROWS * COLUMNS; i += THREADS) {
            const ushort r = i / COLUMNS, c = i % COLUMNS;
            const bool inside = r < rows && column + c < columns;
            tile[r * LD + c] = inside ? source[r * ld + column + c] : T(0);
        }
    }
    void next_rows(ushort n) thread {
        source += n * ld;
        rows = rows > n ? rows - n : 0;
    }
};

template <typename T>
[[kernel, max_total_threads_per_threadgroup(128)]] void
gemm(device const T *a [[buffer(0)]], device const T *b [[buffer(1)]], device T *c [[buffer(2)]],
     constant GemmParams &p [[buffer(3)]], uint2 group [[threadgroup_position_in_grid]],
     ushort thread_index [[thread_index_in_threadgroup]], ushort simdgroup [[simdgroup_index_in_threadgroup]]) {
    constexpr ushort BM = 32, BN = 32, BK = 16, PAD = 16 / sizeof(T), THREADS = 128;
    constexpr ushort LDA = BK + PAD, LDB = BN + PAD, LDC = BN;
    threadgroup T a_tile[BM * LDA];
    threadgroup T b_tile[BK * LDB];
    threadgroup float c_tile[BM * LDC];
    const uint row = group.y * BM, column = group.x * BN;
    const ushort own_row = (simdgroup / 2) * 16, own_column = (simdgroup % 2) * 16;

    TileLoader<T, BM, BK, LDA, THREADS> load_a = {a + row * p.K, p.M - row, p.K, p.K};
    TileLoader<T, BK, BN, LDB, THREADS> load_b = {b, p.K, p.N, p.N};
    simdgroup_float8x8 sums[2][2];
    for (ushort i = 0; i < 2; i++)
        for (ushort j = 0; j < 2; j++)
            sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

    for (uint k = 0; k < p.K; k += BK) {
        load_a.load(a_tile, k, thread_index);
        load_b.load(b_tile, column, thread_index);
        load_b.next_rows(BK);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (ushort kk = 0; kk < BK; kk += 8) {
            simdgroup_matrix<T, 8, 8> left[2], right[2];
            for (ushort i = 0; i < 2; i++) {
                simdgroup_load(left[i], a_tile + (own_row + i * 8) * LDA + kk, LDA);
                simdgroup_load(right[i], b_tile + kk * LDB + own_column + i * 8, LDB);
            }
            for (ushort i = 0; i < 2; i++)
                for (ushort j = 0; j < 2; j++)
                    simdgroup_multiply_accumulate(sums[i][j], left[i], right[j], sums[i][j]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    for (ushort i = 0; i < 2; i++)
        for (ushort j = 0; j < 2; j++)
            simdgroup_store(sums[i][j], c_tile + (own_row + i * 8) * LDC + own_column + j * 8, LDC);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (ushort i = thread_index; i < BM * BN; i += THREADS) {
        const ushort r = i / BN, n = i % BN;
        if (row + r < p.M && column + n < p.N)
            c[(row + r) * p.N + column + n] = T(c_tile[r * LDC + n]);
    }
}

#define GEMM(name, T)                                                                                                  \
    template [[host_name("gemm_" name)]] [[kernel]] void gemm<T>(device const T *, device const T *, device T *,       \
                                                                 constant GemmParams &, uint2, ushort, ushort);
GEMM("float32", float)
GEMM("float16", half)
GEMM("bfloat16", bfloat)
