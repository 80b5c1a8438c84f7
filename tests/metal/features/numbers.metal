// half, bfloat, literals, conversions: every operation rounds once.
#include <metal_stdlib>
using namespace metal;

template <typename T>
kernel void arithmetic(device const T *x [[buffer(0)]], device const T *y [[buffer(1)]], device T *out [[buffer(2)]],
                       device float *wide [[buffer(3)]], device uchar *tests [[buffer(4)]], constant uint &n [[buffer(5)]],
                       uint first [[thread_position_in_grid]], uint step [[threads_per_grid]]) {
    for (uint i = first; i < n; i += step) {
        const T a = x[i], b = y[i];
        out[i] = a + b;
        out[n + i] = a - b;
        out[2 * n + i] = a * b;
        out[3 * n + i] = a / b;
        out[4 * n + i] = -a;
        T c = a;
        c += b;
        c *= a;
        c -= T(1);
        out[5 * n + i] = c;
        out[6 * n + i] = a * b + a;
        out[7 * n + i] = T(float(a) * 1.1f);
        wide[i] = a * 1.5f + float(b);
        wide[n + i] = float(a);
        tests[i] = uchar(a < b) | uchar(a <= b) << 1 | uchar(a == b) << 2 | uchar(a != b) << 3 | uchar(a > b) << 4 |
                   uchar(a >= b) << 5 | uchar(bool(a)) << 6 | uchar(!a) << 7;
    }
}
template [[host_name("arithmetic_half")]] kernel decltype(arithmetic<half>) arithmetic<half>;
template [[host_name("arithmetic_bfloat")]] kernel decltype(arithmetic<bfloat>) arithmetic<bfloat>;
template [[host_name("arithmetic_float")]] kernel decltype(arithmetic<float>) arithmetic<float>;

// Conversions: from float to the small types, and of the small types to integers.
kernel void convert(device const float *x [[buffer(0)]], device half *h [[buffer(1)]], device bfloat *b [[buffer(2)]],
                    device int *k [[buffer(3)]], constant uint &n [[buffer(4)]], uint first [[thread_position_in_grid]],
                    uint step [[threads_per_grid]]) {
    for (uint i = first; i < n; i += step) {
        h[i] = half(x[i]);
        b[i] = bfloat(x[i]);
        k[i] = fabs(x[i]) < 1e6f ? int(x[i]) : 0;
    }
}

kernel void literals(device float *out [[buffer(0)]]) {
    out[0] = 0.1;
    out[1] = 1.0h / 3.0h;
    out[2] = float(0.1h);
    out[3] = float(bfloat(0.1));
    out[4] = 1.5bf;
    out[5] = 1e-3;
    out[6] = 0x1.8p1;
    out[7] = .25f + 2.F;
    out[8] = 16777216.0 + 1.0; // float: the 1 is lost
    out[9] = sizeof(1.0) + 10 * sizeof(1.0h) + 100 * sizeof(1.0 * 1.0h);
    half h = 2.0;
    h += 0.5;
    out[10] = h;
    out[11] = float(half(1) + half(1) / half(3));
    bfloat b(3);
    b += 1.0f;
    b = b * bfloat(2) + bfloat(1);
    out[12] = float(b);
    out[13] = float(bfloat(257)); // rounds to even
    out[14] = float(half(65520.0f));
    out[15] = b > bfloat(2) ? 1 : 0;
    out[16] = float(-b);
    out[17] = float(abs(bfloat(-2.0f)) + max(bfloat(1.0f), bfloat(3.0f)));
    out[18] = half(0.1) == 0.1h;
    out[19] = float(exp(bfloat(1.0f)));
    bfloat4 v(1, 2, 3, 4);
    v *= bfloat(2);
    out[20] = float(v.w) + float(v.yx.x);
    out[21] = float(dot(float4(v), float4(1)));
    out[22] = static_cast<float>(v[2]);
    const ushort raw = 0x3f80;
    out[23] = float(as_type<bfloat>(raw));
}
