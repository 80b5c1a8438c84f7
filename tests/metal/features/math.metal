// The math, common and relational libraries on scalars and vectors. The lists of names are read by the tests.
#include <metal_stdlib>
using namespace metal;

#define UNARY(X)                                                                                                       \
    X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(ceil) X(cos) X(cosh) X(cospi) X(exp) X(exp2) X(exp10)         \
    X(fabs) X(floor) X(fract) X(log) X(log2) X(log10) X(rint) X(round) X(rsqrt) X(sin) X(sinh) X(sinpi) X(sqrt)        \
    X(tan) X(tanh) X(tanpi) X(trunc) X(saturate) X(sign) X(abs)
#define BINARY(X)                                                                                                      \
    X(atan2) X(copysign) X(divide) X(fdim) X(fmax) X(fmin) X(fmod) X(pow) X(powr) X(step) X(max) X(min)
#define TERNARY(X) X(clamp) X(fma) X(mix) X(smoothstep) X(fmax3) X(fmin3) X(fmedian3) X(max3) X(min3) X(median3)

#define FUNCTIONS(SPACE)                                                                                               \
    template <typename T> T SPACE##_unary(uint op, T x) {                                                              \
        uint k = 0;                                                                                                    \
        UNARY(CASE1)                                                                                                   \
        return x;                                                                                                      \
    }                                                                                                                  \
    template <typename T> T SPACE##_binary(uint op, T x, T y) {                                                        \
        uint k = 0;                                                                                                    \
        BINARY(CASE2)                                                                                                  \
        return x;                                                                                                      \
    }                                                                                                                  \
    template <typename T> T SPACE##_ternary(uint op, T x, T y, T z) {                                                  \
        uint k = 0;                                                                                                    \
        TERNARY(CASE3)                                                                                                 \
        return x;                                                                                                      \
    }
#define CASE1(NAME)                                                                                                    \
    if (op == k++)                                                                                                     \
        return USE::NAME(x);
#define CASE2(NAME)                                                                                                    \
    if (op == k++)                                                                                                     \
        return USE::NAME(x, y);
#define CASE3(NAME)                                                                                                    \
    if (op == k++)                                                                                                     \
        return USE::NAME(x, y, z);

#define USE metal
FUNCTIONS(plain)
#undef USE
#define USE metal::fast
FUNCTIONS(quick)
#undef USE
#define USE metal::precise
FUNCTIONS(exact)
#undef USE

struct Job {
    uint count;
    uint arguments;
    uint op;
};

#define KERNEL(NAME, SPACE, TYPE)                                                                                      \
    [[kernel]] void NAME(device const TYPE *x [[buffer(0)]], device const TYPE *y [[buffer(1)]],                       \
                         device const TYPE *z [[buffer(2)]], device TYPE *out [[buffer(3)]],                           \
                         constant Job &job [[buffer(4)]], uint first [[thread_position_in_grid]],                      \
                         uint step [[threads_per_grid]]) {                                                             \
        for (uint i = first; i < job.count; i += step)                                                                 \
            out[i] = job.arguments == 1   ? SPACE##_unary<TYPE>(job.op, x[i])                                          \
                     : job.arguments == 2 ? SPACE##_binary<TYPE>(job.op, x[i], y[i])                                   \
                                          : SPACE##_ternary<TYPE>(job.op, x[i], y[i], z[i]);                           \
    }
KERNEL(math_float, plain, float)
KERNEL(math_fast, quick, float)
KERNEL(math_precise, exact, float)
KERNEL(math_half, plain, half)
KERNEL(math_bfloat, plain, bfloat)
KERNEL(math_float2, plain, float2)
KERNEL(math_float3, plain, float3)
KERNEL(math_half4, plain, half4)

// Functions with a second result or an integer argument, and tests: out has 16 numbers for each x.
template <typename T, typename V2>
kernel void math_others(device const T *x [[buffer(0)]], device const T *y [[buffer(1)]], device float *out [[buffer(2)]],
                        uint i [[thread_position_in_grid]]) {
    const T v = x[i], w = y[i];
    int e;
    T whole, c;
    device float *o = out + 20 * i;
    o[0] = float(frexp(v, e));
    o[1] = float(e);
    o[2] = float(modf(v, whole));
    o[3] = float(whole);
    o[4] = float(sincos(v, c));
    o[5] = float(c);
    o[6] = float(ldexp(v, 3));
    o[7] = float(ilogb(v));
    o[8] = isfinite(v);
    o[9] = isinf(v);
    o[10] = isnan(v);
    o[11] = isnormal(v);
    o[12] = signbit(v);
    o[13] = isordered(v, w);
    o[14] = isunordered(v, w);
    o[15] = float(select(v, w, v < w));
    const V2 pair(v, w);
    o[16] = any(isnan(pair)) + 2 * all(isnan(pair));
    o[17] = float(select(pair, V2(w, v), pair < pair.yx).x);
    o[18] = any(not(isfinite(pair)));
    V2 integral;
    o[19] = float(modf(pair, integral).y) + float(integral.y);
}
template [[host_name("math_others_float")]] kernel void math_others<float, float2>(device const float *,
                                                                                   device const float *, device float *,
                                                                                   uint);
template [[host_name("math_others_half")]] kernel void math_others<half, half2>(device const half *, device const half *,
                                                                                device float *, uint);

// Mixed scalars and vectors, and literals.
kernel void math_mixed(device float *out [[buffer(0)]]) {
    const float4 v(-1, 0.25, 0.5, 2);
    const float4 r[] = {max(v, 0.0f), min(v, 1),           clamp(v, 0.0f, 1.0f), mix(v, float4(1), 0.5f),
                        pow(abs(v), 2.0f), fmax(v, float4(0.5)), step(0.3f, v),       select(v, float4(9), v > 0.4)};
    for (uint i = 0; i < 8; i++)
        for (uint k = 0; k < 4; k++)
            out[4 * i + k] = r[i][k];
    out[32] = M_PI_F;
    out[33] = INFINITY;
    out[34] = MAXFLOAT;
    out[35] = HUGE_VALF;
    out[36] = float(M_E_H);
    out[37] = float(M_SQRT2_F);
    out[38] = FLT_EPSILON;
    out[39] = float(HALF_MAX);
    out[40] = isnan(NAN);
    out[41] = float(numeric_limits<half>::lowest());
    out[42] = numeric_limits<float>::infinity();
    out[43] = float(numeric_limits<int>::max());
    out[44] = float(numeric_limits<bfloat>::epsilon());
    out[45] = nextafter(1.0f, 2.0f);
    out[46] = float(nextafter(1.0h, 2.0h));
}

// <metal_geometric>
template <typename T>
kernel void geometry(device const vec<T, 3> *a [[buffer(0)]], device const vec<T, 3> *b [[buffer(1)]],
                     device float *out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    const vec<T, 3> x = a[i], y = b[i];
    device float *o = out + 24 * i;
    o[0] = float(dot(x, y));
    o[1] = float(length(x));
    o[2] = float(length_squared(x));
    o[3] = float(distance(x, y));
    o[4] = float(distance_squared(x, y));
    const vec<T, 3> parts[] = {cross(x, y), normalize(x), reflect(x, normalize(y)), faceforward(x, y, y),
                               refract(normalize(x), normalize(y), T(0.7f))};
    for (int k = 0; k < 5; k++)
        for (int c = 0; c < 3; c++)
            o[5 + 3 * k + c] = float(parts[k][c]);
    o[20] = float(dot(x.xy, y.xy));
    o[21] = float(length(vec<T, 4>(x, y.x)));
    o[22] = fast::length(float3(x));
    o[23] = precise::normalize(float3(x)).x;
}
#define GEOMETRY(T)                                                                                                    \
    template [[host_name("geometry_" #T)]] kernel void geometry<T>(device const vec<T, 3> *, device const vec<T, 3> *, \
                                                                   device float *, uint);
GEOMETRY(float)
GEOMETRY(half)
