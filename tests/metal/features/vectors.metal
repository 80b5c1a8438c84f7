// Vector types: constructors, swizzles, operators, packed types, as_type, bool vectors.
#include <metal_stdlib>
using namespace metal;

struct Out {
    device float *p;
    void put(float v) thread { *p++ = v; }
    void put(float2 v) thread {
        put(v.x);
        put(v.y);
    }
    void put(float3 v) thread {
        put(v.xy);
        put(v.z);
    }
    void put(float4 v) thread {
        put(v.xyz);
        put(v.w);
    }
};

#define READ2(a) o.put(v.a##x); o.put(v.a##y); o.put(v.a##z); o.put(v.a##w);
#define READ3(a) READ2(a##x) READ2(a##y) READ2(a##z) READ2(a##w)
#define READ4(a) READ3(a##x) READ3(a##y) READ3(a##z) READ3(a##w)
// All 16 + 64 + 256 swizzles of float4, in the order of x, y, z, w as digits.
kernel void swizzles(device float4 &in [[buffer(0)]], device float *out [[buffer(1)]]) {
    const float4 v = in;
    Out o = {out};
    READ3()
    READ4()
    READ4(x)
    READ4(y)
    READ4(z)
    READ4(w)
}

kernel void swizzle_assign(device float *out [[buffer(0)]], device float4 *memory [[buffer(1)]]) {
    Out o = {out};
    float4 a(1, 2, 3, 4);
    a.xy = float2(5, 6);
    o.put(a);
    a.wzyx = a;
    o.put(a);
    a.yw *= 2.0f;
    o.put(a);
    a.xz = a.zx;
    o.put(a);
    a.rgb += float3(1, 2, 3);
    o.put(a);
    a.ba = 0;
    o.put(a);
    memory[0].zw = a.xy;
    memory[0].x += memory[0].w;
    memory[0].yz -= float2(1, 1);
    o.put(memory[0]);
    float3 b = a.zyx;
    b.zx = b.xy;
    o.put(b);
    float2 c = b.rg;
    c.yx = c;
    o.put(c);
    c.x++;
    --c.y;
    o.put(c);
    o.put(float4(a.xx, a.yy).wzyx.xyzw.xxyy);
    o.put((a + 1).wx);
    int4 k(1, 2, 3, 4);
    k.xw <<= 2;
    k.yz |= int2(8, 16);
    k.x ^= 1;
    o.put(float4(k));
    half4 h(1, 2, 3, 4);
    h.xyz = h.zyx * 2.0h;
    o.put(float4(h));
    device packed_float3 *packed = (device packed_float3 *)(memory + 1);
    packed[0] = float3(1, 2, 3);
    packed[1].xy = float2(4, 5);
    packed[1].z = 6;
    packed[0] += packed[1];
    o.put(float3(packed[0]) + packed[1].zyx);
    o.put(packed[0].x + packed[1][2]);
}

kernel void constructors(device float *out [[buffer(0)]]) {
    Out o = {out};
    const float2 two(1, 2);
    const float3 three(3, 4, 5);
    const int2 ints(6, 7);
    o.put(float4(9));
    o.put(float4(two, two));
    o.put(float4(two, 8, 9));
    o.put(float4(7, two, 8));
    o.put(float4(7, 8, two));
    o.put(float4(three, 6));
    o.put(float4(6, three));
    o.put(float4(1, 2, 3, 4));
    o.put(float3(two, 3));
    o.put(float3(3, two));
    o.put(float3(1));
    o.put(float3(1, 2, 3));
    o.put(float2(5));
    o.put(float2(ints));
    o.put(float4(float2(ints), half2(1, 2)).xyzw);
    const float4 braces = {1, 2, 3, 4};
    o.put(braces);
    const float4 from = 3;
    o.put(from);
    o.put(float4(uint4(1, 2, 3, 4)));
    o.put(float4(bool4(true, false, true, false)));
    o.put(float4(char4(-1, 2, -3, 4)));
    o.put(float3(half3(0.5h)));
    o.put(float2(packed_float2(two)));
    o.put(float4(int4(float4(1.7, -1.7, 2.5, 3.999))));
    o.put(float4(uchar4(uint4(257, 2, 3, 511))));
    vec<float, 3> generic(1, 2, 3);
    o.put(generic);
    float array4[4] = {1, 2, 3, 4};
    o.put(*(thread float4 *)array4);
}

template <typename T> T mixed(T a, T b) {
    T r = a + b * T(2) - -a;
    r = r / (b + T(1));
    return r;
}

kernel void operators(device const float4 *in [[buffer(0)]], device float *out [[buffer(1)]]) {
    Out o = {out};
    float4 a = in[0];
    const float4 b = in[1];
    o.put(a + b);
    o.put(a - b);
    o.put(a * b);
    o.put(a / b);
    o.put(-a);
    o.put(2 * a);
    o.put(a * 0.5h);
    o.put(1.0 / a);
    o.put(float4(a < b));
    o.put(float4(a >= b));
    o.put(float4(a == a.xxyy));
    o.put(float4(a != b && b > 0.0f));
    o.put(float4(!(a < b)));
    a += b;
    a -= 1;
    a *= float4(2);
    a /= 4.0f;
    o.put(a);
    const uint4 u(12, 5, 255, 1024);
    o.put(float4(u & 6));
    o.put(float4(u | 1));
    o.put(float4(u ^ u.yxwz));
    o.put(float4(~u & 0xff));
    o.put(float4(u << 2));
    o.put(float4(u >> uint4(0, 1, 2, 3)));
    o.put(float4(u % 7));
    int4 k(u);
    ++k;
    k++;
    k--;
    o.put(float4(k));
    o.put(mixed(a, b));
    o.put(mixed(float3(1, 2, 3), float3(4, 5, 6)));
    o.put(float2(mixed(half2(1, 2), half2(3, 4))));
    o.put(a[0] + a[3]);
    for (int c = 0; c < 4; c++)
        a[c] = float(c);
    o.put(a);
    o.put(any(a > 2) + 2 * all(a > -1) + 4 * any(isnan(a)));
    o.put(a.x > 1 ? a : b);
    bool4 mask = a > 1;
    mask.x = true;
    o.put(select(a, b, mask));
}

kernel void layouts(device uint *out [[buffer(0)]]) {
#define LAYOUT(T) *out++ = sizeof(T) << 8 | alignof(T);
    LAYOUT(float2) LAYOUT(float3) LAYOUT(float4) LAYOUT(half2) LAYOUT(half3) LAYOUT(half4) LAYOUT(bfloat2)
    LAYOUT(bfloat4) LAYOUT(char2) LAYOUT(char3) LAYOUT(uchar4) LAYOUT(short3) LAYOUT(int2) LAYOUT(uint3) LAYOUT(long2)
    LAYOUT(ulong4) LAYOUT(bool2) LAYOUT(bool4) LAYOUT(packed_float2) LAYOUT(packed_float3) LAYOUT(packed_float4)
    LAYOUT(packed_half3) LAYOUT(packed_char3) LAYOUT(packed_uint2) LAYOUT(packed_bfloat3) LAYOUT(half) LAYOUT(bfloat)
    LAYOUT(bool) LAYOUT(long) LAYOUT(atomic_uint) LAYOUT(simd_float3) LAYOUT(vector_int2)
}

kernel void bits(device const uint4 *in [[buffer(0)]], device uint *out [[buffer(1)]]) {
    const uint4 u = in[0];
    out[0] = as_type<uint>(as_type<float>(u.x));
    const half2 h = as_type<half2>(u.y);
    out[1] = as_type<ushort>(h.x) | uint(as_type<ushort>(h.y)) << 16;
    const float4 f = as_type<float4>(u);
    out[2] = as_type<uint>(f.w);
    const uchar4 bytes = as_type<uchar4>(u.z);
    out[3] = bytes.x + 1000 * bytes.w;
    out[4] = as_type<uint>(bytes.wzyx);
    const ulong l = as_type<ulong>(u.xy);
    out[5] = uint(l >> 32);
    out[6] = as_type<uint2>(l).x;
    out[7] = as_type<uint>(as_type<bfloat2>(u.w));
    out[8] = as_type<uint>(1.0f);
    out[9] = as_type<ushort>(1.0h) | uint(as_type<ushort>(bfloat(1.0f))) << 16;
    const char4 c = as_type<char4>(u.x);
    out[10] = as_type<uint>(int(c.x));
    out[11] = as_type<uint>(as_type<short2>(u.y).yx);
}

kernel void packing(device const float4 *in [[buffer(0)]], device uint *out [[buffer(1)]],
                    device float4 *back [[buffer(2)]]) {
    const float4 v = in[0];
    out[0] = pack_float_to_unorm4x8(v);
    out[1] = pack_float_to_snorm4x8(v);
    out[2] = pack_float_to_unorm2x16(v.xy);
    out[3] = pack_half_to_snorm2x16(half2(v.xy));
    out[4] = pack_float_to_unorm10a2(v);
    back[0] = unpack_unorm4x8_to_float(out[0]);
    back[1] = unpack_snorm4x8_to_float(out[1]);
    back[2] = float4(unpack_unorm2x16_to_float(out[2]), float2(unpack_snorm2x16_to_half(out[3])));
}
