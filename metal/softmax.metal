// Softmax and its logarithm, a threadgroup per row.
//
//   vec     each thread holds its elements, one maximum and one sum over the row: rows up to a few elements a thread
//   block   each thread walks groups of four with a running maximum and sum (M. Milakov and N. Gimelshein, Online
//   normalizer
//           calculation for softmax, 2018), merged over the threadgroup at the end
//
// Both keep what they have read in registers, so that a row is read once; rows too long for that are read twice.
//
// What is hidden takes no part whatever it holds, and becomes 0 (its logarithm: -inf; in the scores of an attention:
// -0). So does what is visible where all of it is -inf. A visible NaN or +inf makes the sum NaN and with it every visible
// element.
#include "common/reduce.h"
#include "common/visibility.h"

constant bool logarithm [[function_constant(ML_GPU_FC_LOG)]];
constant bool scores [[function_constant(ML_GPU_FC_SCORES)]];
constant bool unit_step [[function_constant(ML_GPU_FC_UNIT_STEP)]];
constant bool vectors [[function_constant(ML_GPU_FC_VECTOR)]];

// A row and its reading and writing.
template <typename T> struct Row {
    device const T *x;
    device const void *mask;
    device T *out;
    long x_step, mask_step, out_step, mask_offset;
    float scale, softcap;
    KeyRange range;
    int keys;

    Row(constant ml_gpu_softmax &p, uint index, device const T *x_, device const void *mask_, device T *out_)
        : x(x_ + p.x_offset), mask(mask_), out(out_ + p.out_offset), x_step(unit_step ? 1 : p.x_step),
          mask_step(unit_step ? 1 : p.mask_step), out_step(unit_step ? 1 : p.out_step), mask_offset(p.mask_offset),
          scale(p.scale), softcap(p.softcap), keys(p.seq_k) {
        range = visible_range(int(index % uint(p.seq_q)), p.seq_k, p.query_offset, p.window);
        for (int d = p.ndim - 1; d >= 0; d--) {
            const uint size = uint(p.shape[d]);
            const long i = long(index % size);
            index /= size;
            x += i * p.x_strides[d];
            out += i * p.out_strides[d];
            mask_offset += i * p.mask_strides[d];
        }
    }
    // j within range.
    Score score(int j) const {
        return masked_score(scale * float(x[j * x_step]), mask, mask_offset + j * mask_step, softcap);
    }
    void store(int j, float value) const {
        out[j * out_step] = T(value);
    }
};

// How a row ends: from the largest visible score and the sum of exponentials relative to it, the sink's included. A row
// whose visible scores are all -inf is empty, whatever the sink is.
struct Finish {
    float base, factor, log_sum;
    bool is_nan, is_empty;

    Finish(float top, float sum, bool empty) : is_empty(empty) {
        base = base_of(top);
        factor = 1.0f / sum;
        log_sum = logarithm ? precise::log(sum) : 0.0f;
        is_nan = isnan(sum);
    }
    static float hidden() {
        return logarithm ? -INFINITY : scores ? -0.0f : 0.0f;
    }
    float value(Score s) const {
        if (!s.visible || is_empty)
            return hidden();
        if (is_nan)
            return NAN;
        return logarithm ? s.value - base - log_sum : precise::exp(s.value - base) * factor;
    }
};

inline float sink_of(constant ml_gpu_softmax &p, device const void *sinks, uint row) {
    return load_float(sinks, p.sink_offset + (row / uint(p.seq_q) % uint(p.heads)) * p.sink_step, sink_dtype);
}

template <typename T>
[[kernel]] void
softmax_vec(device const T *x [[buffer(0)]], device const void *mask [[buffer(1), function_constant(has_mask)]],
            device T *out [[buffer(2)]], constant ml_gpu_softmax &p [[buffer(3)]],
            device const void *sinks [[buffer(4), function_constant(has_sinks)]],
            uint index [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
            uint threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
            uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    constexpr int held = 4; // elements of a thread that stay in registers
    threadgroup float scratch[1024];
    const Place at = {thread_index, threads, simdgroup, simdgroups, lane};
    const Row<T> row(p, index, x, mask, out);
    const int begin = row.range.first + int(thread_index), end = row.range.end, step = int(threads);
    Score s[held];

    float top = -INFINITY;
    for (int i = 0; i < held; i++) {
        const int j = begin + i * step;
        s[i].visible = false;
        if (j < end)
            s[i] = row.score(j);
        if (s[i].visible)
            top = max(top, s[i].value);
    }
    for (int j = begin + held * step; j < end; j += step) {
        const Score more = row.score(j);
        if (more.visible)
            top = max(top, more.value);
    }
    top = reduce_threads<MaxOf>(top, scratch, at);
    const float own_top = top;
    const float sink = has_sinks ? sink_of(p, sinks, index) : 0.0f;
    if (has_sinks)
        top = max(top, sink);

    float sum = 0.0f;
    const float base = base_of(top);
    for (int i = 0; i < held; i++)
        if (s[i].visible)
            sum += precise::exp(s[i].value - base);
    for (int j = begin + held * step; j < end; j += step) {
        const Score more = row.score(j);
        if (more.visible)
            sum += precise::exp(more.value - base);
    }
    sum = reduce_threads<SumOf>(sum, scratch, at);
    const bool empty = own_top == -INFINITY && !isnan(sum);
    if (has_sinks)
        sum += precise::exp(sink - base);

    const Finish finish(top, sum, empty);
    for (int i = 0; i < held; i++)
        if (begin + i * step < end)
            row.store(begin + i * step, finish.value(s[i]));
    for (int j = begin + held * step; j < end; j += step)
        row.store(j, finish.value(row.score(j)));
    for (int j = int(thread_index); j < row.range.first; j += step)
        row.store(j, Finish::hidden());
    for (int j = end + int(thread_index); j < row.keys; j += step)
        row.store(j, Finish::hidden());
}

// Four neighbours, those outside [first, end) hidden.
template <typename T> struct Four {
    float4 value;
    bool4 visible;

    void load(Row<T> row, int j) {
        const bool inside = j >= row.range.first && j + 4 <= row.range.end;
        if (vectors && inside && !has_mask && !has_softcap) {
            value = row.scale * float4(*(device const vec<T, 4> *)(row.x + j));
            visible = bool4(true);
            return;
        }
        for (int e = 0; e < 4; e++) {
            Score s = {0.0f, false};
            if (j + e >= row.range.first && j + e < row.range.end)
                s = row.score(j + e);
            value[e] = s.value;
            visible[e] = s.visible;
        }
    }
    void store(Row<T> row, int j, Finish finish) const {
        float4 result;
        for (int e = 0; e < 4; e++) {
            const Score s = {value[e], visible[e]};
            result[e] = finish.value(s);
        }
        if (vectors && j + 4 <= row.keys) {
            *(device vec<T, 4> *)(row.out + j) = vec<T, 4>(result);
            return;
        }
        for (int e = 0; e < 4; e++)
            if (j + e < row.keys)
                row.store(j + e, result[e]);
    }
    // Adds the visible ones to a running maximum and sum.
    void measure(thread float &top, thread float &sum) const {
        float larger = top;
        for (int e = 0; e < 4; e++)
            if (visible[e])
                larger = max(larger, value[e]);
        sum *= rescale(top, larger);
        top = larger;
        const float base = base_of(top);
        for (int e = 0; e < 4; e++)
            if (visible[e])
                sum += precise::exp(value[e] - base);
    }
};

template <typename T>
[[kernel]] void
softmax_block(device const T *x [[buffer(0)]], device const void *mask [[buffer(1), function_constant(has_mask)]],
              device T *out [[buffer(2)]], constant ml_gpu_softmax &p [[buffer(3)]],
              device const void *sinks [[buffer(4), function_constant(has_sinks)]],
              uint index [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
              uint threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
              uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    constexpr int held = 8; // groups of a thread that stay in registers
    threadgroup float scratch[1024];
    const Place at = {thread_index, threads, simdgroup, simdgroups, lane};
    const Row<T> row(p, index, x, mask, out);
    const int begin = 4 * int(thread_index), step = 4 * int(threads);
    Four<T> s[held], more;

    float top = -INFINITY, sum = 0.0f;
    for (int i = 0; i < held; i++) {
        if (begin + i * step >= row.keys)
            break;
        s[i].load(row, begin + i * step);
        s[i].measure(top, sum);
    }
    for (int j = begin + held * step; j < row.keys; j += step) {
        more.load(row, j);
        more.measure(top, sum);
    }
    const float own = top;
    top = reduce_threads<MaxOf>(top, scratch, at);
    sum = reduce_threads<SumOf>(sum * rescale(own, top), scratch, at);
    const bool empty = top == -INFINITY && !isnan(sum);
    if (has_sinks) {
        const float sink = sink_of(p, sinks, index), larger = max(top, sink);
        sum = sum * rescale(top, larger) + precise::exp(sink - base_of(larger));
        top = larger;
    }

    const Finish finish(top, sum, empty);
    for (int i = 0; i < held; i++)
        if (begin + i * step < row.keys)
            s[i].store(row, begin + i * step, finish);
    for (int j = begin + held * step; j < row.keys; j += step) {
        more.load(row, j);
        more.store(row, j, finish);
    }
}

#define INSTANTIATE(KERNEL, NAME, T) template [[host_name(#KERNEL "_" #NAME)]] [[kernel]] decltype(KERNEL<T>) KERNEL<T>;

#ifdef ML_BFLOAT
INSTANTIATE(softmax_vec, bf16, bfloat)
INSTANTIATE(softmax_block, bf16, bfloat)
#else
INSTANTIATE(softmax_vec, f32, float)
INSTANTIATE(softmax_vec, f16, half)
INSTANTIATE(softmax_block, f32, float)
INSTANTIATE(softmax_block, f16, half)
#endif
