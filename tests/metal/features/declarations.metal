// How kernels are declared, named, parametrised and instantiated.
#include <metal_stdlib>
#include "included.h"
using namespace metal;

// ---- attributes of the kernel and of parameters

kernel void plain(device uint *out, uint i [[thread_position_in_grid]]) { out[i] = i; }
[[kernel]] void attribute(device uint *out, uint i [[thread_position_in_grid]]) { out[i] = i + 1; }
[[kernel, max_total_threads_per_threadgroup(64)]] void limited(device uint *out, uint i [[thread_position_in_grid]]) {
    out[i] = i + 2;
}
[[max_total_threads_per_threadgroup(2 * 48)]] kernel void limited_before(device uint *out,
                                                                         uint i [[thread_position_in_grid]]) {
    out[i] = i + 3;
}
[[host_name("renamed.kernel")]] kernel void before(device uint *out, uint i [[thread_position_in_grid]]) {
    out[i] = i + 4;
}
[[kernel]] [[host_name("with-two")]] void two_lists(device uint *out, uint i [[thread_position_in_grid]]) {
    out[i] = i + 5;
}

// Every built-in, as scalars and as vectors: 44 numbers a thread.
kernel void positions(device uint *out, uint3 grid [[thread_position_in_grid]],
                      ushort3 local [[thread_position_in_threadgroup]], uint flat [[thread_index_in_threadgroup]],
                      uint3 group [[threadgroup_position_in_grid]], uint3 group_size [[threads_per_threadgroup]],
                      uint3 asked [[dispatch_threads_per_threadgroup]], uint3 total [[threads_per_grid]],
                      uint3 groups [[threadgroups_per_grid]], ushort lane [[thread_index_in_simdgroup]],
                      uint simd [[simdgroup_index_in_threadgroup]], uint simds [[simdgroups_per_threadgroup]],
                      uint width [[threads_per_simdgroup]], uint same [[thread_execution_width]],
                      uint quad [[quadgroup_index_in_threadgroup]], uint in_quad [[thread_index_in_quadgroup]],
                      uint quads [[quadgroups_per_threadgroup]], uint asked_simds [[dispatch_simdgroups_per_threadgroup]],
                      uint asked_quads [[dispatch_quadgroups_per_threadgroup]], uint3 origin [[grid_origin]],
                      uint3 size [[grid_size]]) {
    const uint at = grid.x + total.x * (grid.y + total.y * grid.z);
    device uint *o = out + 44 * at;
    const uint3 threes[] = {grid, uint3(local), group, group_size, asked, total, groups, origin, size};
    for (uint k = 0; k < 9; k++)
        for (uint c = 0; c < 3; c++)
            *o++ = threes[k][c];
    const uint ones[] = {flat, lane, simd, simds, width, same, quad, in_quad, quads, asked_simds, asked_quads};
    for (uint k = 0; k < 11; k++)
        *o++ = ones[k];
}
kernel void positions2(device uint *out, ushort2 grid [[thread_position_in_grid]], uint2 total [[threads_per_grid]],
                       uint group [[threadgroup_position_in_grid]]) {
    out[grid.x + total.x * grid.y] = grid.x | uint(grid.y) << 8 | group << 16;
}

// Buffers with and without an index, array parameters, references, pointers to pointers' memory.
struct Scale {
    float by;
    packed_float3 shift;
    uint flags : 4, more : 28;
};
kernel void numbered(device const float *x, constant Scale &scale, constant const int64_t sizes[2],
                     device float *out [[buffer(1)]], device atomic_uint *count [[buffer(7)]],
                     uint i [[thread_position_in_grid]]) {
    out[i] = x[i] * scale.by + scale.shift[i % 3] + float(sizes[i & 1]) + float(scale.flags) + float(scale.more);
    atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);
}

// ---- function constants

constant bool doubled [[function_constant(0)]];
constant int offset [[function_constant(1)]];
constant float factor [[function_constant(2)]];
constant uchar small_number [[function_constant(3)]];
constant float4 four [[function_constant(4)]];
constant half scale_h [[function_constant(9)]];
constant bool has_extra [[function_constant(5)]];
constant int offset_or_seven = is_function_constant_defined(offset) ? offset : 7;
constant bool both = doubled && offset_or_seven > 3;
constant constexpr uint twelve = 12;

kernel void constants(device float *out [[buffer(0)]], device const float *extra [[buffer(1), function_constant(has_extra)]],
                      constant uint &n [[function_constant(doubled)]] [[buffer(2)]],
                      uint i [[thread_position_in_grid]]) {
    float v = float(i);
    if (doubled)
        v = 2 * v + float(n);
    v += float(offset_or_seven);
    if (is_function_constant_defined(factor))
        v *= factor;
    if (is_function_constant_defined(small_number))
        v += small_number;
    if (is_function_constant_defined(four))
        v += four.w;
    if (is_function_constant_defined(scale_h))
        v += float(scale_h);
    if (both)
        v += 1000;
    if (has_extra)
        v += extra[i];
    out[i] = v + twelve;
}

// ---- templates

template <typename T, int N, bool Add = true> struct Step {
    static constant constexpr int kCount = N * 2;
    T value;
    Step(T v) : value(v) {}
    T apply(T x) const thread {
        if constexpr (Add)
            return x + value * T(kCount);
        else
            return x - value * T(kCount);
    }
    template <typename U> static U convert(T x) { return static_cast<U>(x); }
};

template <typename T, int N>
[[kernel]] void instance(device const T *x [[buffer(0)]], device T *out [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
    const Step<T, N> step(T(0.5f));
    out[i] = Step<T, N>::template convert<T>(step.apply(x[i]));
}
template [[host_name("instance_signature")]] kernel void instance<float, 3>(device const float *, device float *, uint);
template [[host_name("instance_decltype")]] kernel decltype(instance<half, 4>) instance<half, 4>;
typedef decltype(instance<float, 5>) instance_t;
template [[host_name("instance_typedef")]] kernel instance_t instance<float, 5>;
template [[host_name("instance_int")]] [[kernel]] void instance<int, 1 + 1>(device const int *x [[buffer(0)]],
                                                                            device int *out [[buffer(1)]],
                                                                            uint i [[thread_position_in_grid]]);
#define MANY(NAME, T, N) template [[host_name(NAME "_" #T "_" #N)]] kernel decltype(instance<T, N>) instance<T, N>;
MANY("many", float, 7)
MANY("many", bfloat, 2)

// Specialisations inside a class, partial specialisation by address space, overloads by type, enable_if, variadic.
struct Holder {
    template <typename T> struct Size {
        static constexpr constant int value = -1;
    };
    template <> struct Size<float> {
        static constexpr constant int value = 4;
    };
    template <> struct Size<half> {
        static constexpr constant int value = 2;
    };
    template <int K> static int pick(int x) { return x; }
    template <> static int pick<3>(int x) { return 30 + x; }
    template <> static int pick<4>(int x) { return 40 + x; }
};
struct Operation {
    template <typename T> enable_if_t<is_integral_v<T>, int> operator()(T x, T y) thread { return int(x / y); }
    template <typename T> enable_if_t<!is_integral_v<T>, int> operator()(T x, T y) thread { return int(floor(x / y)); }
    template <> int operator()(float2 x, float2 y) thread { return int(100 * x.x / y.y); }
    template <typename T> static int kind(T) { return 1; }
    template <> static int kind(half) { return 2; }
};
template <typename T, T a, typename U, U b>
constexpr auto operator+(integral_constant<T, a>, integral_constant<U, b>) {
    constexpr auto sum = a + b;
    using sum_t = metal::remove_addrspace_t<decltype(sum)>;
    return integral_constant<sum_t, sum>{};
}
template <typename T> struct Pointee;
template <typename T> struct Pointee<const device T *> {
    typedef T type;
};
template <typename T> struct Pointee<threadgroup T *> {
    typedef T type;
};
// Four that are one in C++, and a fifth that is not, because constant is const.
template <typename T> struct Element {};
template <typename T> struct Element<thread T *> {
    using type = remove_cv_t<T>;
};
template <typename T> struct Element<device T *> {
    using type = remove_cv_t<T>;
};
template <typename T> struct Element<threadgroup T *> {
    using type = remove_cv_t<T>;
};
template <typename T> struct Element<constant T *> {
    using type = remove_cv_t<T>;
};
template <typename T, enable_if_t<is_floating_point_v<T>, bool> = true> int kind(T) { return 1; }
template <typename T, typename metal::enable_if<metal::is_integral<T>::value, bool>::type = true> int kind(T) { return 2; }
template <typename T> int sum(T x) { return int(x); }
template <typename T, typename... Rest> int sum(T x, Rest... rest) { return int(x) + sum(rest...); }
template <int... I> int folded() { return (I + ... + 0); }

kernel void templates(device int *out [[buffer(0)]]) {
    out[0] = Holder::Size<float>::value;
    out[1] = Holder::Size<half>::value;
    out[2] = Holder::Size<int>::value;
    out[3] = Holder::pick<1>(5);
    out[4] = Holder::pick<3>(5);
    out[5] = Holder::pick<4>(5);
    out[6] = sizeof(Pointee<const device half *>::type) * is_same_v<Element<device int *>::type, int>;
    out[7] = sizeof(Pointee<threadgroup float4 *>::type) * is_same_v<Element<constant int *>::type, int>;
    out[8] = kind(1.5);
    out[9] = kind(3);
    out[10] = sum(1, 2.5f, 3h, 4u);
    out[11] = folded<1, 2, 3, 4>();
    out[12] = is_same_v<decltype(1.0), float> + 2 * is_same_v<decltype(1.0h), half>;
    out[13] = included_value() + included::twice(4);
    out[14] = __LINE__ > 100;
    out[16] = Operation{}(7, 2) + 10 * Operation{}(-3.0, 2.0) + 1000 * Operation{}(float2(3), float2(1));
    out[17] = Operation::kind(1.0) + 10 * Operation::kind(1.0h) + 100 * Operation::kind(1);
    out[18] = (integral_constant<int, 4>{} + integral_constant<short, 5>{}).value;
    out[15] = (is_convertible_v<int, float>)&&(is_signed_v<int>)&&!(is_unsigned_v<long>);
}

// ---- namespaces, enumerations, unions, nested types, static members, lambdas, default arguments, recursion by template

namespace outer::inner {
enum class Mode : uchar { first = 3, second };
enum { anonymous = 17 };
union Bits {
    float f;
    uint u;
};
template <int N> struct Factorial {
    static constexpr constant int value = N * Factorial<N - 1>::value;
};
template <> struct Factorial<0> {
    static constexpr constant int value = 1;
};
constant float table[2][3] = {{1, 2, 3}, {4, 5, 6}};
constant constexpr static const uint primes[] = {2, 3, 5, 7, 11};
inline int with_default(int x, int y = 10) { return x * y; }
} // namespace outer::inner
using namespace outer;

kernel void language(device int *out [[buffer(0)]]) {
    using inner::Mode;
    inner::Bits bits;
    bits.f = 1.0;
    out[0] = int(Mode::second);
    out[1] = inner::anonymous;
    out[2] = int(bits.u >> 23);
    out[3] = inner::Factorial<5>::value;
    out[4] = int(inner::table[1][2]);
    out[5] = inner::primes[4];
    out[6] = inner::with_default(3);
    auto twice = [](int x) { return 2 * x; };
    out[7] = twice(21);
    int total = 0;
    auto add = [&](int x) { total += x; };
    for (int k = 1; k < 4; k++)
        add(k);
    out[8] = total;
    switch (Mode m = Mode::first; m) {
    case Mode::first:
        out[9] = 1;
        break;
    default:
        out[9] = 0;
    }
    const auto [a, b] = int2_pair{5, 6};
    out[10] = a * b;
    out[11] = 0b1011 + 1'000 + 0x1F + 010;
    out[12] = 'a' + sizeof(long) + sizeof(size_t) + alignof(float3);
    out[13] = (int)1e2 + int(.5 * 4.) + int(1.5e1f);
    do
        total--;
    while (total > 0);
    out[14] = total;
    struct Local {
        int v;
        int get() const { return v + 1; }
    } local = {41};
    out[15] = local.get();
}

// Array elements by designator, which compilers for Metal take from C.
template <int N> float designated_sum() {
    float values[N] = {[0 ... N - 1] = 0.5};
    values[1] *= 2;
    const float2 pairs[4] = {float2(1), [2] = float2(3, 4), [3] = {5, 6}};
    float total = 0;
    for (int i = 0; i < N; i++)
        total += values[i];
    return total + pairs[0].x + pairs[1].x + pairs[2].y + pairs[3].x;
}
kernel void designators(device float *out [[buffer(0)]], constant int &n [[buffer(1)]]) {
    int small[6] = {[1 ... 2] = n, [4] = n + 1,};
    half h[2] = {[0] = 1h};
    float a[2]{7, 8}, b[3] = {1.0, a[1]};
    for (int i = 0; i < 6; i++)
        out[i] = small[i];
    out[6] = designated_sum<8>();
    out[7] = float(h[0] + h[1]) + b[1];
}

// What libraries declare in namespace metal because Metal does not, and logging, which goes nowhere.
#include <metal_logging>
namespace metal {
template <typename T> struct is_empty : metal::bool_constant<__is_empty(T)> {};
template <typename T> constexpr constant bool is_empty_v = is_empty<T>::value;
template <typename... Ts> struct make_void {
    typedef void type;
};
template <typename... Ts> using void_t = typename make_void<Ts...>::type;
template <typename T, typename = void> struct has_value : false_type {};
template <typename T> struct has_value<T, void_t<decltype(T::value)>> : true_type {};
} // namespace metal
constant metal::os_log logger("tests", "features");
struct Nothing {};
kernel void additions(device int *out [[buffer(0)]]) {
    logger.log_debug("%d of %s", 1, "several");
    os_log_default.log_error("none");
    static_assert(metal::_disjunction<is_same<int, float>, is_same<int, int>>::value, "any");
    const uniform<int> same = make_uniform(16);
    out[0] = same + is_empty_v<Nothing> + 2 * is_empty_v<Scale> + 4 * has_value<Nothing>::value + 8 * has_value<true_type>::value;
}

// A namespace of the user's that is called metal too, kernels instantiated from outside by their full names, and a kernel
// that is called as a function of Metal's is.
namespace mine { namespace metal {
constant int more [[function_constant(20)]];
constant int even_more = is_function_constant_defined(more) ? more + 1 : 5;
template <typename T> struct Doubled {
    static T of(T x) { return x + x; }
};
template <typename T, typename Op>
kernel void apply(device T *x [[buffer(0)]], constant T *in [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    threadgroup T shared[32];
    T values[2] = {[0 ... 1] = T(1h)};
    shared[i] = in[i];
    for (int k = 0; k < 2; k++)
        values[k] += simd_sum(T(0)) + simd_sum(T(0));
    threadgroup_barrier(::metal::mem_flags::mem_threadgroup);
    x[i] = Op::of(shared[31 - i]) + values[1] + T(even_more);
}
}} // namespace mine::metal
template [[host_name("apply_float")]] kernel void ::mine::metal::apply<float, ::mine::metal::Doubled<float>>(
    device float *x, constant float *in, uint i);
template [[host_name("apply_int")]] [[kernel]] void mine::metal::apply<int, mine::metal::Doubled<int>>(
    device int *x, constant int *in, uint i);
kernel void exp(device float *x, uint i [[thread_position_in_grid]]) { x[i] = metal::exp(x[i]); }
