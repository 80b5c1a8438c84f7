// Matrix types and their operators.
#include <metal_stdlib>
using namespace metal;

template <typename T> struct Out {
    device T *p;
    uint n;
    template <int R> void put(vec<T, R> v) thread {
        for (int r = 0; r < R; r++)
            p[n++] = v[r];
    }
    template <int C, int R> void put(matrix<T, C, R> m) thread {
        for (int c = 0; c < C; c++)
            put(m[c]);
    }
    void put(T v) thread { p[n++] = v; }
};

// a is 4 columns of 4, b is 3 columns of 4 (rows), c is 2x3.
template <typename T>
kernel void matrices(device const matrix<T, 4, 4> &a [[buffer(0)]], device const matrix<T, 3, 4> &b [[buffer(1)]],
                     constant matrix<T, 4, 3> *c [[buffer(2)]], device T *out [[buffer(3)]]) {
    Out<T> o = {out, 0};
    const matrix<T, 4, 4> m = a, n = transpose(a);
    o.put(m * n);
    o.put(m * matrix<T, 3, 4>(b));
    o.put(c[0] * m);
    o.put(m * b[1]);
    o.put(b[0] * m);
    o.put(m + n);
    o.put(m - n);
    o.put(-m);
    o.put(m * T(2));
    o.put(T(0.5f) * m);
    o.put(matrix<T, 4, 4>(T(3)));
    o.put(transpose(c[0]));
    o.put(determinant(m));
    o.put(determinant(matrix<T, 2, 2>(m[0].xy, m[1].xy)));
    matrix<T, 4, 4> k = m;
    k *= n;
    k += m;
    k -= n;
    k *= T(0.5f);
    k[2][1] = 7;
    k[3].zw = k[3].wz;
    k.columns[0] = vec<T, 4>(1, 2, 3, 4);
    o.put(k);
    o.put(matrix<T, 2, 3>(1, 2, 3, 4, 5, 6));
    o.put(matrix<T, 2, 2>(vec<T, 2>(1, 2), vec<T, 2>(3, 4)));
    o.put(T(all(m[0] == a[0])) + T(2) * T(m == a));
}
template [[host_name("matrices_float")]] [[kernel]] void matrices<float>(device const float4x4 &, device const float3x4 &,
                                                                         constant float4x3 *, device float *);
template [[host_name("matrices_half")]] [[kernel]] void matrices<half>(device const half4x4 &, device const half3x4 &,
                                                                       constant half4x3 *, device half *);

kernel void matrix_convert(device const float4x4 *a [[buffer(0)]], device half4x4 *b [[buffer(1)]],
                           device float3x3 *c [[buffer(2)]], device float *sizes [[buffer(3)]]) {
    b[0] = half4x4(a[0]);
    const float4x4 back(b[0]);
    c[0] = float3x3(back[0].xyz, back[1].xyz, back[2].xyz);
    const float4x4 m = {float4(1), float4(2), float4(3), float4(4)};
    const simd::float4x4 same = m;
    sizes[0] = sizeof(float4x4);
    sizes[1] = sizeof(float3x3);
    sizes[2] = sizeof(half3x2);
    sizes[3] = sizeof(float2x2);
    sizes[4] = same[3][0];
}
