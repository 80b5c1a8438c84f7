// Attention of one head per grid row: q [heads, queries, 64], k and v [heads, keys, 64]. A threadgroup takes 16 queries,
// four to a simdgroup, and walks the keys in tiles of 32 with a running maximum and sum (M. Milakov and N. Gimelshein,
// Online normalizer calculation for softmax, 2018). A lane has one key of the tile, then two elements of the result.
#include <metal_stdlib>
using namespace metal;

constant bool causal [[function_constant(0)]];

struct AttentionParams {
    uint queries, keys;
    float scale;
};

template <typename T, uint D = 64>
[[kernel, max_total_threads_per_threadgroup(128)]] void
attention(device const T *q [[buffer(0)]], device const T *k [[buffer(1)]], device const T *v [[buffer(2)]],
          device T *out [[buffer(3)]], constant AttentionParams &p [[buffer(4)]],
          uint2 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
          uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    constexpr uint BQ = 16, BK = 32, THREADS = 128, OWN = 4, PARTS = D / 32;
    threadgroup float q_tile[BQ][D];
    threadgroup T k_tile[BK][D + 2];
    threadgroup T v_tile[BK][D];
    const uint first = group.x * BQ;
    q += group.y * p.queries * D;
    out += group.y * p.queries * D;
    k += group.y * p.keys * D;
    v += group.y * p.keys * D;

    for (uint i = thread_index; i < BQ * D; i += THREADS) {
        const uint r = i / D, d = i % D;
        q_tile[r][d] = first + r < p.queries ? p.scale * float(q[(first + r) * D + d]) : 0.0f;
    }
    float tops[OWN], sums[OWN], results[OWN][PARTS];
    for (uint r = 0; r < OWN; r++) {
        tops[r] = -INFINITY;
        sums[r] = 0.0f;
        for (uint c = 0; c < PARTS; c++)
            results[r][c] = 0.0f;
    }

    // Query i sees the keys up to i + keys - queries.
    const uint end = causal ? min(p.keys, first + BQ + p.keys - p.queries) : p.keys;
    for (uint tile = 0; tile < end; tile += BK) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = thread_index; i < BK * D; i += THREADS) {
            const uint r = i / D, d = i % D;
            const bool inside = tile + r < p.keys;
            k_tile[r][d] = inside ? k[(tile + r) * D + d] : T(0);
            v_tile[r][d] = inside ? v[(tile + r) * D + d] : T(0);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint r = 0; r < OWN; r++) {
            const uint query = first + simdgroup * OWN + r, key = tile + lane;
            float score = 0.0f;
            for (uint d = 0; d < D; d++)
                score = fma(q_tile[simdgroup * OWN + r][d], float(k_tile[lane][d]), score);
            const bool visible = key < p.keys && (!causal || key + p.queries <= query + p.keys);
            score = visible ? score : -INFINITY;
            const float top = max(tops[r], simd_max(score));
            if (top == -INFINITY)
                continue;
            const float weight = exp(score - top), rescale = exp(tops[r] - top);
            tops[r] = top;
            sums[r] = fma(sums[r], rescale, simd_sum(weight));
            for (uint c = 0; c < PARTS; c++)
                results[r][c] *= rescale;
            for (ushort j = 0; j < BK; j++) {
                const float w = simd_shuffle(weight, j);
                for (uint c = 0; c < PARTS; c++)
                    results[r][c] = fma(w, float(v_tile[j][c * 32 + lane]), results[r][c]);
            }
        }
    }

    for (uint r = 0; r < OWN; r++) {
        const uint query = first + simdgroup * OWN + r;
        if (query < p.queries)
            for (uint c = 0; c < PARTS; c++)
                out[query * D + c * 32 + lane] = T(sums[r] > 0.0f ? results[r][c] / sums[r] : 0.0f);
    }
}

#define ATTENTION(name, T)                                                                                             \
    template [[host_name("attention_" name)]] [[kernel]] void attention<T>(                                            \
        device const T *, device const T *, device const T *, device T *, constant AttentionParams &, uint2, uint,     \
        uint, uint);
ATTENTION("float32", float)
ATTENTION("float16", half)
ATTENTION("bfloat16", bfloat)
