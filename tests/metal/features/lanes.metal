// Operations of simdgroups and quads. The lists of names are read by the tests.
#include <metal_stdlib>
#include <metal_simdgroup>
using namespace metal;

#define REDUCTIONS(X)                                                                                                  \
    X(sum) X(product) X(min) X(max) X(prefix_inclusive_sum) X(prefix_exclusive_sum) X(prefix_inclusive_product)        \
    X(prefix_exclusive_product)
#define BITWISE(X) X(and) X(or) X(xor)
#define MOVES(X)                                                                                                       \
    X(shuffle) X(shuffle_xor) X(shuffle_up) X(shuffle_down) X(shuffle_rotate_up) X(shuffle_rotate_down) X(broadcast)

// out[operation][thread]
template <typename T>
kernel void lanes_simd(device const T *in [[buffer(0)]], device T *out [[buffer(1)]], constant ushort &delta [[buffer(2)]],
                       uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]],
                       ushort lane [[thread_index_in_simdgroup]]) {
    const T v = in[i];
    uint row = 0;
#define REDUCE(NAME) out[row++ * n + i] = simd_##NAME(v);
    REDUCTIONS(REDUCE)
#undef REDUCE
#define MOVE(NAME) out[row++ * n + i] = simd_##NAME(v, delta);
    MOVES(MOVE)
#undef MOVE
    out[row++ * n + i] = simd_shuffle(v, ushort(31 - lane));
    out[row++ * n + i] = simd_broadcast_first(v);
    out[row++ * n + i] = simd_shuffle_and_fill_up(v, T(9), delta);
    out[row++ * n + i] = simd_shuffle_and_fill_down(v, T(9), delta);
    out[row++ * n + i] = simd_shuffle_and_fill_up(v, T(9), delta, 8);
    out[row++ * n + i] = simd_shuffle_and_fill_down(v, T(9), delta, 8);
}
template <typename T>
kernel void lanes_quad(device const T *in [[buffer(0)]], device T *out [[buffer(1)]], constant ushort &delta [[buffer(2)]],
                       uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]],
                       ushort lane [[thread_index_in_quadgroup]]) {
    const T v = in[i];
    uint row = 0;
#define REDUCE(NAME) out[row++ * n + i] = quad_##NAME(v);
    REDUCTIONS(REDUCE)
#undef REDUCE
#define MOVE(NAME) out[row++ * n + i] = quad_##NAME(v, delta);
    MOVES(MOVE)
#undef MOVE
    out[row++ * n + i] = quad_shuffle(v, ushort(3 - lane));
    out[row++ * n + i] = quad_broadcast_first(v);
    out[row++ * n + i] = quad_shuffle_and_fill_up(v, T(9), delta);
    out[row++ * n + i] = quad_shuffle_and_fill_down(v, T(9), delta);
    out[row++ * n + i] = quad_shuffle_and_fill_up(v, T(9), delta, 2);
    out[row++ * n + i] = quad_shuffle_and_fill_down(v, T(9), delta, 2);
}
#define INSTANCE(F, T)                                                                                                 \
    template [[host_name(#F "_" #T)]] kernel void F<T>(device const T *, device T *, constant ushort &, uint, uint, ushort);
INSTANCE(lanes_simd, float)
INSTANCE(lanes_simd, half)
INSTANCE(lanes_simd, int)
INSTANCE(lanes_simd, ushort)
INSTANCE(lanes_simd, uchar)
INSTANCE(lanes_quad, float)
INSTANCE(lanes_quad, int)
INSTANCE(lanes_quad, bfloat)

kernel void lanes_bits(device const uint *in [[buffer(0)]], device uint *out [[buffer(1)]],
                       uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
    const uint v = in[i];
    uint row = 0;
#define REDUCE(NAME) out[row++ * n + i] = simd_##NAME(v);
    BITWISE(REDUCE)
#undef REDUCE
#define REDUCE(NAME) out[row++ * n + i] = quad_##NAME(v);
    BITWISE(REDUCE)
#undef REDUCE
    const bool odd = v & 1;
    out[row++ * n + i] = uint(ulong(simd_ballot(odd)));
    out[row++ * n + i] = static_cast<uint>((simd_vote::vote_t)simd_active_threads_mask());
    out[row++ * n + i] = simd_all(v > 0);
    out[row++ * n + i] = simd_any(v > 250);
    out[row++ * n + i] = simd_is_first();
    out[row++ * n + i] = ushort(quad_vote::vote_t(quad_ballot(odd)));
    out[row++ * n + i] = quad_all(odd);
    out[row++ * n + i] = quad_any(odd);
    out[row++ * n + i] = quad_is_first();
    out[row++ * n + i] = simd_ballot(odd).any() | simd_ballot(true).all() << 1;
    const uint4 wide = simd_sum(uint4(v, 1, 2, 3));
    out[row++ * n + i] = wide.x + wide.w;
    out[row++ * n + i] = simd_shuffle_down(uint2(v, i), 1).y;
    out[row++ * n + i] = uint(simd_max(float2(v, 0)).x);
}

// Lanes that take different ways: only those that are there take part.
kernel void lanes_diverged(device const uint *in [[buffer(0)]], device uint *out [[buffer(1)]],
                           uint i [[thread_index_in_threadgroup]]) {
    const uint v = in[i];
    uint r = 0;
    if (i & 1)
        r = simd_sum(v);
    else
        r = 1000 + simd_max(v);
    for (uint k = 0; k < i % 4 + 1; k++) {
        if (k == 1 && (i & 4))
            continue;
        r += 10000 * simd_sum(1u);
    }
    const uint a = simd_sum(v) + simd_min(v), b = simd_prefix_exclusive_sum(1u);
    out[2 * i] = r;
    out[2 * i + 1] = a * 100 + b;
    if (i % 3 == 0)
        return;
    out[2 * i + 1] += 1000000 * simd_sum(1u);
}

// A tree of shuffles, and simd operations in a function and a lambda.
float tree(float v) {
    for (ushort d = 16; d > 0; d >>= 1)
        v += simd_shuffle_xor(v, d);
    return v;
}
kernel void lanes_tree(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                       uint i [[thread_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
    auto total = [](float x) { return simd_sum(x); };
    float v = in[i];
    for (ushort d = 1; d < 32; d *= 2) {
        const float from = simd_shuffle_up(v, d);
        if (lane >= d)
            v += from;
    }
    out[3 * i] = v;
    out[3 * i + 1] = tree(in[i]);
    out[3 * i + 2] = total(in[i]);
}

// A library's own overloads for bfloat, made of what Apple's headers are made of.
#pragma METAL internals : enable
namespace metal {
METAL_FUNC bfloat exp(bfloat x) { return static_cast<bfloat>(__metal_exp(static_cast<float>(x), __METAL_MAYBE_FAST_MATH__)); }
METAL_FUNC bfloat simd_min(bfloat data) { return static_cast<bfloat>(__metal_simd_min(static_cast<float>(data))); }
METAL_FUNC bfloat simd_shuffle_and_fill_up(bfloat data, bfloat filling, ushort delta) {
    return as_type<bfloat>(__metal_simd_shuffle_and_fill_up(as_type<ushort>(data), as_type<ushort>(filling), delta,
                                                            __metal_get_simdgroup_size(ushort())));
}
namespace fast {
METAL_FUNC bfloat exp(bfloat x) { return static_cast<bfloat>(__metal_exp(static_cast<float>(x), __METAL_FAST_MATH__)); }
} // namespace fast
} // namespace metal
kernel void lanes_internals(device const bfloat *in [[buffer(0)]], device bfloat *out [[buffer(1)]],
                            uint i [[thread_index_in_threadgroup]]) {
    out[i] = simd_min(in[i]) + bfloat(simd_min(3) + simd_min(i));
    out[32 + i] = simd_shuffle_and_fill_up(in[i], bfloat(7), 2);
    out[64 + i] = exp(in[i]) + fast::exp(in[i]);
    out[96 + i] = bfloat(__metal_get_thread_index_in_simdgroup(ushort()));
}
kernel void lanes_bfloat(device const bfloat *in [[buffer(0)]], device bfloat *out [[buffer(1)]],
                         uint i [[thread_index_in_threadgroup]]) {
    const bfloat v = in[i];
    out[i] = simd_sum(v);
    out[32 + i] = simd_max(v);
    out[64 + i] = simd_shuffle_xor(v, 3);
    out[96 + i] = bfloat(simd_prefix_inclusive_sum(float(v)));
}
