// <metal_integer>, comparisons, shifts and conversions for every integer type and vectors of them. The lists of names are
// read by the tests.
#include <metal_stdlib>
using namespace metal;

#define INTEGER1(X) X(abs) X(clz) X(ctz) X(popcount) X(reverse_bits)
#define INTEGER2(X)                                                                                                    \
    X(absdiff) X(addsat) X(subsat) X(hadd) X(rhadd) X(mulhi) X(rotate) X(max) X(min)
#define INTEGER3(X) X(clamp) X(madhi) X(madsat) X(max3) X(min3) X(median3)

template <typename T> T one(uint op, T x) {
    uint k = 0;
#define CASE(NAME)                                                                                                     \
    if (op == k++)                                                                                                     \
        return T(NAME(x));
    INTEGER1(CASE)
#undef CASE
    return x;
}
template <typename T> T two(uint op, T x, T y) {
    uint k = 0;
#define CASE(NAME)                                                                                                     \
    if (op == k++)                                                                                                     \
        return T(NAME(x, y));
    INTEGER2(CASE)
#undef CASE
    return x;
}
template <typename T> T three(uint op, T x, T y, T z) {
    uint k = 0;
#define CASE(NAME)                                                                                                     \
    if (op == k++)                                                                                                     \
        return T(NAME(x, y, z));
    INTEGER3(CASE)
#undef CASE
    return x;
}

struct Job {
    uint count;
    uint arguments;
    uint op;
};

template <typename T>
[[kernel]] void integers(device const T *x [[buffer(0)]], device const T *y [[buffer(1)]],
                         device const T *z [[buffer(2)]], device T *out [[buffer(3)]], constant Job &job [[buffer(4)]],
                         uint first [[thread_position_in_grid]], uint step [[threads_per_grid]]) {
    for (uint i = first; i < job.count; i += step)
        out[i] = job.arguments == 1   ? one<T>(job.op, x[i])
                 : job.arguments == 2 ? two<T>(job.op, x[i], y[i])
                                      : three<T>(job.op, x[i], y[i], z[i]);
}
#define INSTANCE(T) template [[host_name("integer_" #T)]] kernel decltype(integers<T>) integers<T>;
INSTANCE(char)
INSTANCE(uchar)
INSTANCE(short)
INSTANCE(ushort)
INSTANCE(int)
INSTANCE(uint)
INSTANCE(long)
INSTANCE(ulong)
INSTANCE(int4)
INSTANCE(ushort2)

kernel void integer_others(device const uint *x [[buffer(0)]], device const int *y [[buffer(1)]],
                           device uint *out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    const uint u = x[i];
    const int s = y[i];
    device uint *o = out + 16 * i;
    o[0] = extract_bits(u, 5, 7);
    o[1] = as_type<uint>(extract_bits(s, 5, 7));
    o[2] = insert_bits(u, as_type<uint>(s), 4, 9);
    o[3] = mul24(u & 0xffffff, 77u);
    o[4] = mad24(u & 0xffff, 77u, 5u);
    o[5] = as_type<uint>(mulhi(s, s));
    o[6] = absdiff(s, 1000);
    const uint2 pair(u, u >> 1);
    o[7] = extract_bits(pair, 3, 4).y;
    o[8] = uint(any(pair > uint2(1u << 31))) | uint(all(pair > uint2(16))) << 1;
    o[9] = select(u, 3u, s < 0);
    o[10] = select(pair, uint2(1, 2), pair > 100u).y;
    o[11] = u << 3 ^ u >> 5 | u % 7;
    o[12] = uint(char(s)) + uint(ushort(s));
    o[13] = uint(s / 3) ^ uint(s % 3) ^ uint(s >> 4);
    o[14] = popcount(ulong(u) << 32 | u);
    o[15] = (uint)clz((ushort)u) << 8 | ctz((uchar)u);
}
