// Simdgroup matrices.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

struct Geometry {
    ulong stride_a, stride_b, stride_out;
    uint ax, ay, bx, by, ox, oy;
    uint transpose_a, transpose_b, transpose_out;
};

// out = a b + 1: loads and stores with strides, origins and transposition.
template <typename T, typename A>
kernel void fragments(device const T *a [[buffer(0)]], device const T *b [[buffer(1)]], device A *out [[buffer(2)]],
                      constant Geometry &g [[buffer(3)]]) {
    simdgroup_matrix<T, 8, 8> x, y;
    simdgroup_matrix<A, 8, 8> c = make_filled_simdgroup_matrix<A, 8, 8>(A(1.0f)), d;
    simdgroup_load(x, a, g.stride_a, ulong2(g.ax, g.ay), g.transpose_a);
    simdgroup_load(y, b, g.stride_b, ulong2(g.bx, g.by), g.transpose_b);
    simdgroup_multiply_accumulate(d, x, y, c);
    simdgroup_store(d, out, g.stride_out, ulong2(g.ox, g.oy), g.transpose_out);
}
#define FRAGMENTS(NAME, T, A)                                                                                          \
    template [[host_name("fragments_" NAME)]] kernel void fragments<T, A>(device const T *, device const T *, device A *,   \
                                                                          constant Geometry &);
FRAGMENTS("float", float, float)
FRAGMENTS("half", half, half)
FRAGMENTS("half_float", half, float)
FRAGMENTS("bfloat_float", bfloat, float)

// Every way to make one; loads from threadgroup memory; thread_elements; products; sums over a loop. 12 results of 8 x 8.
kernel void fragment_forms(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                           device const half *in_h [[buffer(2)]], uint i [[thread_index_in_threadgroup]]) {
    threadgroup float tile[8 * 12];
    threadgroup half tile_h[64];
    for (uint k = i; k < 64; k += 32) {
        tile[k / 8 * 12 + k % 8] = in[k];
        tile_h[k] = in_h[k];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 a, b, c(0), d = simdgroup_float8x8(2.5f);
    simdgroup_load(a, tile, 12);
    simdgroup_store(a, out);
    simdgroup_load(b, (const threadgroup float *)tile, 12, 0, true);
    simdgroup_store(b, out + 64, 8);
    simdgroup_store(d, out + 128, 8);
    simdgroup_store(make_filled_simdgroup_matrix<float, 8>(3.f), out + 192, 8);
    c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    simdgroup_multiply(c, a, b);
    simdgroup_store(c, out + 256, 8);
    simdgroup_matrix<float, 8, 8> acc[2] = {simdgroup_matrix<float, 8, 8>(0), simdgroup_matrix<float, 8, 8>(0)};
#pragma unroll
    for (short k = 0; k < 4; k++) {
        simdgroup_barrier(mem_flags::mem_none);
        simdgroup_multiply_accumulate(acc[k & 1], a, b, acc[k & 1]);
    }
    simdgroup_store(acc[1], out + 320, 8);
    thread auto &elements = a.thread_elements();
    elements[0] *= 2;
    reinterpret_cast<thread float2 &>(a.thread_elements()).y += 1;
    simdgroup_store(a, out + 384, 8);
    simdgroup_half8x8 h;
    simdgroup_load(h, tile_h);
    h.thread_elements() = half2(vec<half, 2>(h.thread_elements()) * 2.0h);
    simdgroup_float8x8 mixed(0);
    simdgroup_multiply_accumulate(mixed, h, b, mixed);
    simdgroup_store(mixed, out + 448, 8, ulong2(0, 0), true);
    // Which elements a lane holds.
    simdgroup_float8x8 where;
    where.thread_elements()[0] = float(i);
    where.thread_elements()[1] = float(i) + 0.5;
    simdgroup_store(where, out + 512, 8);
    threadgroup float result[64];
    simdgroup_store(where, result, 8, ulong2(0), false);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = i; k < 64; k += 32)
        out[576 + k] = result[k];
    const simdgroup_float8x8 copy = c;
    simdgroup_store(copy, out + 640, 8);
    simdgroup_store(make_diagonal_simdgroup_matrix<float, 8, 8>(4.f), out + 704, 8);
}
