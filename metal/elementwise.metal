// Element-wise operations, copies with and without a cast, fills: any strides, any dtypes. Contiguous operands go four
// elements a thread; else a thread per element, the innermost dimension along x.
#include "common/numbers.h"

constant int a_dtype [[function_constant(ML_GPU_FC_A_DTYPE)]];
constant int b_dtype [[function_constant(ML_GPU_FC_B_DTYPE)]];
constant int out_dtype [[function_constant(ML_GPU_FC_OUT_DTYPE)]];
constant int binary_kind [[function_constant(ML_GPU_FC_BINARY_KIND)]];
constant bool a_is_value [[function_constant(ML_GPU_FC_A_IS_VALUE)]];
constant bool b_is_value [[function_constant(ML_GPU_FC_B_IS_VALUE)]];
constant bool check_range [[function_constant(ML_GPU_FC_CHECK_RANGE)]];
constant bool contiguous [[function_constant(ML_GPU_FC_CONTIGUOUS)]];
constant int element_bytes [[function_constant(ML_GPU_FC_ELEMENT_BYTES)]];
constant bool a_is_tensor = !a_is_value;
constant bool b_is_tensor = !b_is_value;

// Elements of a thread: `count` from out, a and b on.
struct Elements {
    long out, a, b;
    int count;
};

inline Elements elements_at(constant ml_gpu_elementwise &p, uint3 at) {
    Elements e = {p.out_offset, p.a_offset, p.b_offset, 0};
    if (contiguous) {
        const long first = 4 * long(at.x);
        e.out += first;
        e.a += first;
        e.b += first;
        const long left = p.size - first;
        e.count = left < 0 ? 0 : left < 4 ? int(left) : 4;
        return e;
    }
    long index[3] = {long(at.x), long(at.y), long(at.z)};
    for (int d = p.ndim - 1, inner = 0; d >= 0; d--, inner++) {
        long i = inner < 2 ? index[inner] : index[2];
        if (inner >= 2 && d > 0) {
            i = long(uint(index[2]) % uint(p.shape[d]));
            index[2] = long(uint(index[2]) / uint(p.shape[d]));
        }
        if (i >= p.shape[d])
            return e;
        e.out += i * p.out_strides[d];
        e.a += i * p.a_strides[d];
        e.b += i * p.b_strides[d];
    }
    e.count = 1;
    return e;
}

inline float combine(float a, float b) {
    switch (binary_kind) {
    case ML_GPU_ADD:
        return a + b;
    case ML_GPU_SUB:
        return a - b;
    case ML_GPU_MUL:
        return a * b;
    case ML_GPU_DIV:
        return a / b;
    case ML_GPU_EQUAL:
        return a == b ? 1.0f : 0.0f;
    default:
        return a == b ? 0.0f : 1.0f;
    }
}

// Two's complement: unsigned arithmetic wraps, u8 too.
inline int combine(int a, int b) {
    uint result;
    switch (binary_kind) {
    case ML_GPU_ADD:
        result = uint(a) + uint(b);
        break;
    case ML_GPU_SUB:
        result = uint(a) - uint(b);
        break;
    case ML_GPU_MUL:
        result = uint(a) * uint(b);
        break;
    case ML_GPU_EQUAL:
        return a == b;
    default:
        return a != b;
    }
    return out_dtype == ML_GPU_U8 ? int(result & 0xffu) : int(result);
}

inline void report(bool ok, device atomic_uint *status) {
    if (check_range && !ok)
        atomic_fetch_or_explicit(status, 1u, memory_order_relaxed);
}

// Four aligned neighbours of a float dtype.
inline float4 load_four(device const void *p, long i, int dtype) {
    return Operand<any_type>(p, dtype).four(i);
}

inline void store_four(device void *p, long i, float4 x, int dtype) {
    if (dtype == ML_GPU_F32) {
        *(device float4 *)((device float *)p + i) = x;
    } else if (dtype == ML_GPU_F16) {
        *(device half4 *)((device half *)p + i) = half4(x);
    } else {
        const ushort4 bits = ushort4(bf16_bits(x.x), bf16_bits(x.y), bf16_bits(x.z), bf16_bits(x.w));
        *(device ushort4 *)((device ushort *)p + i) = bits;
    }
}

[[kernel]] void binary_float(device void *out [[buffer(0)]],
                             device const void *a [[buffer(1), function_constant(a_is_tensor)]],
                             device const void *b [[buffer(2), function_constant(b_is_tensor)]],
                             constant ml_gpu_elementwise &p [[buffer(3)]],
                             device atomic_uint *status [[buffer(4), function_constant(check_range)]],
                             uint3 at [[thread_position_in_grid]]) {
    const Elements e = elements_at(p, at);
    const bool floats =
        is_float_dtype(out_dtype) && (a_is_value || is_float_dtype(a_dtype)) && (b_is_value || is_float_dtype(b_dtype));
    if (contiguous && floats && e.count == 4) {
        const float4 x = a_is_value ? float4(p.a_value) : load_four(a, e.a, a_dtype);
        const float4 y = b_is_value ? float4(p.b_value) : load_four(b, e.b, b_dtype);
        float4 result;
        for (int i = 0; i < 4; i++)
            result[i] = combine(x[i], y[i]);
        store_four(out, e.out, result, out_dtype);
        return;
    }
    bool ok = true;
    for (int i = 0; i < e.count; i++) {
        const float x = a_is_value ? p.a_value : load_number(a, e.a + i, a_dtype);
        const float y = b_is_value ? p.b_value : load_number(b, e.b + i, b_dtype);
        ok &= store_number(out, e.out + i, combine(x, y), out_dtype);
    }
    report(ok, status);
}

[[kernel]] void binary_integer(device void *out [[buffer(0)]],
                               device const void *a [[buffer(1), function_constant(a_is_tensor)]],
                               device const void *b [[buffer(2), function_constant(b_is_tensor)]],
                               constant ml_gpu_elementwise &p [[buffer(3)]],
                               device atomic_uint *status [[buffer(4), function_constant(check_range)]],
                               uint3 at [[thread_position_in_grid]]) {
    const Elements e = elements_at(p, at);
    bool ok = true;
    for (int i = 0; i < e.count; i++) {
        const int x = a_is_value ? p.a_integer : load_int(a, e.a + i, a_dtype);
        const int y = b_is_value ? p.b_integer : load_int(b, e.b + i, b_dtype);
        ok &= store_int(out, e.out + i, combine(x, y), out_dtype);
    }
    report(ok, status);
}

[[kernel]] void copy_cast(device void *out [[buffer(0)]], device const void *a [[buffer(1)]],
                          constant ml_gpu_elementwise &p [[buffer(3)]],
                          device atomic_uint *status [[buffer(4), function_constant(check_range)]],
                          uint3 at [[thread_position_in_grid]]) {
    const Elements e = elements_at(p, at);
    if (contiguous && is_float_dtype(a_dtype) && is_float_dtype(out_dtype) && e.count == 4) {
        store_four(out, e.out, load_four(a, e.a, a_dtype), out_dtype);
        return;
    }
    bool ok = true;
    for (int i = 0; i < e.count; i++)
        ok &= is_float_dtype(a_dtype) ? store_number(out, e.out + i, load_float(a, e.a + i, a_dtype), out_dtype)
                                      : store_int(out, e.out + i, load_int(a, e.a + i, a_dtype), out_dtype);
    report(ok, status);
}

// Four aligned neighbours of the same size.
template <typename T> void move_four(device void *out, device const void *a, Elements e) {
    *(device vec<T, 4> *)((device T *)out + e.out) = *(device const vec<T, 4> *)((device const T *)a + e.a);
}

[[kernel]] void copy_bytes(device void *out [[buffer(0)]], device const void *a [[buffer(1)]],
                           constant ml_gpu_elementwise &p [[buffer(3)]], uint3 at [[thread_position_in_grid]]) {
    const Elements e = elements_at(p, at);
    if (contiguous && e.count == 4) {
        if (element_bytes == 4)
            move_four<uint>(out, a, e);
        else if (element_bytes == 2)
            move_four<ushort>(out, a, e);
        else
            move_four<uchar>(out, a, e);
        return;
    }
    for (int i = 0; i < e.count; i++)
        store_bits(out, e.out + i, load_bits(a, e.a + i, element_bytes), element_bytes);
}

// Neighbours of out lie far apart in a and the other way round: a square of both goes through threadgroup memory, so
// that reads and writes both run along memory (G. Ruetsch and P. Micikevicius, Optimizing matrix transpose in CUDA,
// 2009).
[[kernel, max_total_threads_per_threadgroup(256)]] void copy_transpose(device void *out [[buffer(0)]],
                                                                       device const void *a [[buffer(1)]],
                                                                       constant ml_gpu_elementwise &p [[buffer(3)]],
                                                                       uint3 group [[threadgroup_position_in_grid]],
                                                                       uint3 at [[thread_position_in_threadgroup]]) {
    constexpr int side = 32, rows = 8;
    threadgroup uint square[side * (side + 1)];
    const int inner = p.ndim - 1, next = p.ndim - 2;
    long from = p.a_offset, to = p.out_offset;
    uint rest = group.z;
    for (int d = next - 1; d >= 0; d--) {
        const uint size = uint(p.shape[d]);
        from += long(rest % size) * p.a_strides[d];
        to += long(rest % size) * p.out_strides[d];
        rest /= size;
    }
    const long first_inner = long(group.x) * side, first_next = long(group.y) * side;
    for (int r = int(at.y); r < side; r += rows) {
        const long i = first_inner + r, n = first_next + at.x;
        if (i < p.shape[inner] && n < p.shape[next])
            square[r * (side + 1) + int(at.x)] =
                load_bits(a, from + i * p.a_strides[inner] + n * p.a_strides[next], element_bytes);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int r = int(at.y); r < side; r += rows) {
        const long i = first_inner + at.x, n = first_next + r;
        if (i < p.shape[inner] && n < p.shape[next])
            store_bits(out, to + i * p.out_strides[inner] + n * p.out_strides[next], square[int(at.x) * (side + 1) + r],
                       element_bytes);
    }
}

[[kernel]] void fill(device void *out [[buffer(0)]], constant ml_gpu_elementwise &p [[buffer(3)]],
                     uint3 at [[thread_position_in_grid]]) {
    const Elements e = elements_at(p, at);
    for (int i = 0; i < e.count; i++)
        store_bits(out, e.out + i, p.fill_bits, element_bytes);
}
