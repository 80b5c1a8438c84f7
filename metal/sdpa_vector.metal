// Attention for few queries. A threadgroup takes up to R rows (queries of all heads that share a key/value head, so
// that K and V are read once for them) and one split of the keys; its simdgroups take every eighth key, with a running
// maximum and sum each, and lanes share the head size. The decomposition over simdgroups is that of MLX's sdpa_vector;
// splits of the keys with a second pass over their partial results are flash-decoding's (T. Dao et al., 2023).
//
// A key that no row sees is not read; one that some rows see adds nothing to the others.
#include "common/attention.h"

constant bool two_pass [[function_constant(ML_GPU_FC_TWO_PASS)]];
constant bool one_pass = !two_pass;

constant constexpr int simds = 8;

// EPL neighbours from element d of a row of `size`, zeros beyond it.
template <typename T, int EPL> void load_lane(thread float *to, device const T *row, long step, int d, int size) {
    constexpr int group = EPL < 4 ? EPL : 4;
    for (int g = 0; g < EPL; g += group) {
        if (vectors && d + g + group <= size) {
            const vec<T, group> v = *(device const vec<T, group> *)(row + d + g);
            for (int e = 0; e < group; e++)
                to[g + e] = float(v[e]);
        } else {
            for (int e = g; e < g + group; e++)
                to[e] = d + e < size ? float(row[(d + e) * step]) : 0.0f;
        }
    }
}

template <typename T, int D, int R>
[[kernel, max_total_threads_per_threadgroup(256)]] void
sdpa_vector(device const void *q [[buffer(0)]], device const T *k [[buffer(1)]], device const T *v [[buffer(2)]],
            device void *out [[buffer(3), function_constant(one_pass)]], constant ml_gpu_sdpa &p [[buffer(4)]],
            device const void *mask [[buffer(5), function_constant(has_mask)]],
            device const void *sinks [[buffer(6), function_constant(has_sinks)]],
            device float *partials [[buffer(7), function_constant(two_pass)]],
            uint3 place [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
            uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    constexpr int epl = D / 32;          // elements of a lane
    threadgroup float shared[simds * D]; // the queries, later the sums of the simdgroups
    threadgroup float all_tops[simds * R], all_sums[simds * R];
    const int group = p.heads_q / p.heads_kv, all_rows = group * p.len_q;
    const int batch = int(place.y) / p.heads_kv, kv_head = int(place.y) % p.heads_kv;
    const int first = int(place.x) * R, rows = min(R, all_rows - first), split = int(place.z);
    const int d = int(lane) * epl;
    const Head keys(p.k, batch, kv_head), values(p.v, batch, kv_head);

    static_assert(R <= simds, "queries fit where sums do");
    for (int c = int(thread_index); c < rows * D; c += 32 * simds) {
        const int r = c / D, e = c % D, i = (first + r) / group, head = kv_head * group + (first + r) % group;
        shared[c] = e < p.dim_qk ? p.scale * load_float(q, Head(p.q, batch, head).at(i, e), q_dtype) : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float query[R][epl], sum[R][epl];
    Running running[R];
    KeyRange range[R];
    int begin = p.len_k, end = 0;
    for (int r = 0; r < R; r++) {
        running[r].top = -INFINITY;
        running[r].sum = 0.0f;
        range[r].first = range[r].end = 0;
        for (int e = 0; e < epl; e++)
            query[r][e] = sum[r][e] = 0.0f;
        if (r >= rows)
            continue;
        range[r] = visible_range((first + r) / group, p.len_k, p.query_offset, p.window);
        begin = min(begin, range[r].first);
        end = max(end, range[r].end);
        for (int e = 0; e < epl; e++)
            query[r][e] = shared[r * D + d + e];
    }
    begin = max(begin, split * p.keys_per_split);
    end = min(end, (split + 1) * p.keys_per_split);

    for (int key = begin + int(simdgroup); key < end; key += simds) {
        Score extra[R];
        bool any = false;
        for (int r = 0; r < R; r++) {
            extra[r].value = 0.0f;
            extra[r].visible = r < rows && key >= range[r].first && key < range[r].end;
            if (has_mask && extra[r].visible) {
                const int i = (first + r) / group, head = kv_head * group + (first + r) % group;
                extra[r] = mask_at(mask, p.mask.offset + batch * p.mask.batch + head * p.mask.head + i * p.mask.row +
                                             key * p.mask.step);
            }
            any |= extra[r].visible;
        }
        if (!any)
            continue;
        float x[epl];
        load_lane<T, epl>(x, k + keys.at(key, 0), keys.step, d, p.dim_qk);
        float score[R];
        for (int r = 0; r < R; r++) {
            float dot = 0.0f;
            for (int e = 0; e < epl; e++)
                dot = fma(query[r][e], x[e], dot);
            score[r] = simd_sum(dot);
        }
        load_lane<T, epl>(x, v + values.at(key, 0), values.step, d, p.dim_v);
        for (int r = 0; r < R; r++) {
            if (!extra[r].visible)
                continue;
            float factor;
            const float weight = running[r].add(cap(score[r], p.softcap) + extra[r].value, factor);
            for (int e = 0; e < epl; e++)
                sum[r][e] = fma(weight, x[e], factor * sum[r][e]);
        }
    }

    // Over the simdgroups.
    if (lane == 0)
        for (int r = 0; r < R; r++) {
            all_tops[int(simdgroup) * R + r] = running[r].top;
            all_sums[int(simdgroup) * R + r] = running[r].sum;
        }
    for (int r = 0; r < R; r++) {
        if (r >= rows)
            break;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        Running total = {-INFINITY, 0.0f};
        for (int s = 0; s < simds; s++)
            total.top = max(total.top, all_tops[s * R + r]);
        for (int s = 0; s < simds; s++)
            total.sum += all_sums[s * R + r] * rescale(all_tops[s * R + r], total.top);
        const float own = rescale(running[r].top, total.top);
        for (int e = 0; e < epl; e++)
            shared[int(simdgroup) * D + d + e] = own * sum[r][e];
        threadgroup_barrier(mem_flags::mem_threadgroup);

        const int i = (first + r) / group, head = kv_head * group + (first + r) % group;
        const bool empty = !two_pass && total.is_empty();
        float factor = 1.0f;
        if (!two_pass) {
            factor = has_sinks ? total.add_sink(sink_of(p, sinks, head)) : 1.0f;
            factor *= total.normaliser();
        }
        const long row = (long(place.y) * all_rows + first + r) * p.splits + split;
        device float *partial = partials + row * (p.dim_v + 2);
        const Head results(p.out, batch, head);
        for (int c = int(thread_index); c < p.dim_v; c += 32 * simds) {
            float value = 0.0f;
            for (int s = 0; s < simds; s++)
                value += shared[s * D + c];
            if (two_pass)
                partial[c] = value;
            else
                store_float(out, results.at(i, c), empty ? 0.0f : factor * value, out_dtype);
        }
        if (two_pass && thread_index == 0) {
            partial[p.dim_v] = total.top;
            partial[p.dim_v + 1] = total.sum;
        }
    }
}

// The second pass: a simdgroup per row adds up its splits, for head sizes up to 256.
[[kernel, max_total_threads_per_threadgroup(32)]] void
sdpa_vector_reduce(device void *out [[buffer(3)]], constant ml_gpu_sdpa &p [[buffer(4)]],
                   device const void *sinks [[buffer(6), function_constant(has_sinks)]],
                   device const float *partials [[buffer(7)]], uint index [[threadgroup_position_in_grid]],
                   uint lane [[thread_index_in_simdgroup]]) {
    const int group = p.heads_q / p.heads_kv, all_rows = group * p.len_q, size = p.dim_v + 2;
    const int row = int(index) % all_rows, pair = int(index) / all_rows;
    const int batch = pair / p.heads_kv, head = pair % p.heads_kv * group + row % group;
    device const float *from = partials + long(index) * p.splits * size;

    float top = -INFINITY, sum = 0.0f;
    for (int s = int(lane); s < p.splits; s += 32)
        top = max(top, from[long(s) * size + p.dim_v]);
    Running total = {simd_max(top), 0.0f};
    for (int s = int(lane); s < p.splits; s += 32)
        sum += from[long(s) * size + p.dim_v + 1] * rescale(from[long(s) * size + p.dim_v], total.top);
    total.sum = simd_sum(sum);
    const float largest = total.top;

    float value[8] = {0.0f}; // every 32nd column
    for (int first = 0; first < p.splits; first += 32) {
        const int count = min(32, p.splits - first);
        const float own = int(lane) < count ? rescale(from[long(first + int(lane)) * size + p.dim_v], largest) : 0.0f;
        for (int s = 0; s < count; s++) {
            const float factor = simd_shuffle(own, ushort(s));
            device const float *partial = from + long(first + s) * size;
            for (int e = 0; e < 8; e++)
                if (int(lane) + 32 * e < p.dim_v)
                    value[e] = fma(factor, partial[int(lane) + 32 * e], value[e]);
        }
    }

    const bool empty = total.is_empty();
    float factor = has_sinks ? total.add_sink(sink_of(p, sinks, head)) : 1.0f;
    factor *= total.normaliser();
    const Head results(p.out, batch, head);
    for (int e = 0; e < 8; e++)
        if (int(lane) + 32 * e < p.dim_v)
            store_float(out, results.at(row / group, int(lane) + 32 * e), empty ? 0.0f : factor * value[e], out_dtype);
}

#define INSTANTIATE(NAME, T, D, R)                                                                                     \
    template [[host_name("sdpa_vector_" #NAME "_d" #D                                                                  \
                         "_r" #R)]] [[kernel]] decltype(sdpa_vector<T, D, R>) sdpa_vector<T, D, R>;
#define INSTANTIATE_ROWS(NAME, T, D) INSTANTIATE(NAME, T, D, 1) INSTANTIATE(NAME, T, D, 4) INSTANTIATE(NAME, T, D, 8)
#define INSTANTIATE_SIZES(NAME, T)                                                                                     \
    INSTANTIATE_ROWS(NAME, T, 64) INSTANTIATE_ROWS(NAME, T, 128) INSTANTIATE_ROWS(NAME, T, 256)

#ifdef ML_BFLOAT
INSTANTIATE_SIZES(bf16, bfloat)
#else
INSTANTIATE_SIZES(f32, float)
INSTANTIATE_SIZES(f16, half)
#endif
