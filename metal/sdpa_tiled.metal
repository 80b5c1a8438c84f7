// Attention for many queries: tiles of 32 queries of one head over tiles of BK keys with a running maximum and sum of
// each row (T. Dao et al., FlashAttention, 2022). A simdgroup has eight queries; its scores, weights and results stay
// in the registers of 8x8 matrices, of which each lane holds two neighbours of one row. The key tile and then the value
// tile pass through the same threadgroup memory. Tiles that no query sees are skipped.
//
// The weight of a hidden key is -0, and zero times a value adds nothing, unless that value is not finite. So values
// that are not are staged as zeros; a tile that had some gives them back, row by row, to the queries that see them.
#include "common/attention.h"
#include "common/gemm_loader.h"
#include "common/gemm_mma.h"

constant constexpr int simds = 4, threads = 32 * simds, BQ = 8 * simds;

typedef simdgroup_matrix<float, 8, 8> Fragment;

// The lane's two elements of a matrix in threadgroup memory, whose element (r, c) is at r * row + c * column.
template <typename T> Fragment load_fragment(threadgroup const T *from, int row, int column, short2 origin) {
    Fragment f;
    threadgroup const T *at = from + origin.y * row + origin.x * column;
    f.thread_elements()[0] = float(at[0]);
    f.thread_elements()[1] = float(at[column]);
    return f;
}

// Over the four lanes that share a row of a matrix.
inline float row_max(float x) {
    x = max(x, simd_shuffle_xor(x, ushort(1)));
    return max(x, simd_shuffle_xor(x, ushort(8)));
}
inline float row_sum(float x) {
    x += simd_shuffle_xor(x, ushort(1));
    return x + simd_shuffle_xor(x, ushort(8));
}

template <typename T, int D, int BK>
[[kernel, max_total_threads_per_threadgroup(128)]] void
sdpa_tiled(device const void *q [[buffer(0)]], device const void *k [[buffer(1)]], device const void *v [[buffer(2)]],
           device void *out [[buffer(3)]], constant ml_gpu_sdpa &p [[buffer(4)]],
           device const void *mask [[buffer(5), function_constant(has_mask)]],
           device const void *sinks [[buffer(6), function_constant(has_sinks)]],
           uint3 place [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
           uint simdgroup [[simdgroup_index_in_threadgroup]], ushort lane [[thread_index_in_simdgroup]]) {
    constexpr int pad = 16 / int(sizeof(T)), ld = D + pad, fragments = D / 8, key_fragments = BK / 8;
    threadgroup T tile[BK * ld];
    threadgroup float weights[BQ * BK];
    threadgroup bool flags[simds];
    const int head = int(place.y), batch = int(place.z), kv_head = head / (p.heads_q / p.heads_kv);
    const short2 origin = fragment_origin(lane);
    const int first_query = int(place.x) * BQ, last_query = min(first_query + BQ, p.len_q) - 1;
    const int query = first_query + int(simdgroup) * 8 + origin.y; // of this lane
    const Head queries(p.q, batch, head), keys(p.k, batch, kv_head), values(p.v, batch, kv_head),
        results(p.out, batch, head);
    const Operand<T> key_operand(k, 0), value_operand(v, 0);
    const TileLoader<T, T, threads> loader = {tile, thread_index};

    Fragment query_part[fragments], sum[fragments];
    for (int f = 0; f < fragments; f++)
        for (int e = 0; e < 2; e++) {
            const int d = 8 * f + origin.x + e;
            float value = 0.0f;
            if (query < p.len_q && d < p.dim_qk)
                value = p.scale * load_float(q, queries.at(query, d), q_dtype);
            query_part[f].thread_elements()[e] = value;
            sum[f].thread_elements()[e] = 0.0f;
        }
    Running running = {-INFINITY, 0.0f};
    const KeyRange range = visible_range(query, p.len_k, p.query_offset, p.window);
    const int begin = visible_range(first_query, p.len_k, p.query_offset, p.window).first;
    const int end = visible_range(last_query, p.len_k, p.query_offset, p.window).end;
    const long mask_row = p.mask.offset + batch * p.mask.batch + head * p.mask.head + query * p.mask.row;

    for (int key = begin / BK * BK; key < end; key += BK) {
        // What is visible, and what the mask adds.
        Score extra[key_fragments][2];
        bool any = !has_mask;
        for (int f = 0; f < key_fragments; f++)
            for (int e = 0; e < 2; e++) {
                const int j = key + 8 * f + origin.x + e;
                extra[f][e].value = 0.0f;
                extra[f][e].visible = query < p.len_q && j >= range.first && j < range.end;
                if (has_mask && extra[f][e].visible)
                    extra[f][e] = mask_at(mask, mask_row + j * p.mask.step);
                any |= extra[f][e].visible;
            }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (has_mask) {
            any = simd_any(any);
            if (lane == 0)
                flags[simdgroup] = any;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (int s = 0; s < simds; s++)
                any |= flags[s];
            if (!any)
                continue;
        }

        const int count = min(BK, p.len_k - key);
        TileSource source = {
            keys.offset + key * keys.row, keys.row, keys.step, count, p.dim_qk, false, !unit_step, vectors};
        loader.load(key_operand, source, BK, (p.dim_qk + 7) / 8 * 8, ld, false);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        Fragment score[key_fragments];
        for (int f = 0; f < key_fragments; f++) {
            score[f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
            for (int d = 0; d < fragments; d++) {
                if (8 * d >= p.dim_qk)
                    break;
                const Fragment keys_part = load_fragment(tile + 8 * f * ld + 8 * d, 1, ld, origin);
                simdgroup_multiply_accumulate(score[f], query_part[d], keys_part, score[f]);
            }
        }

        float top = running.top;
        for (int f = 0; f < key_fragments; f++)
            for (int e = 0; e < 2; e++) {
                const float value = cap(score[f].thread_elements()[e], p.softcap) + extra[f][e].value;
                score[f].thread_elements()[e] = value;
                if (extra[f][e].visible)
                    top = max(top, value);
            }
        top = row_max(top);
        const float factor = rescale(running.top, top), base = base_of(top);
        float added = 0.0f;
        for (int f = 0; f < key_fragments; f++)
            for (int e = 0; e < 2; e++) {
                const float weight = extra[f][e].visible ? precise::exp(score[f].thread_elements()[e] - base) : -0.0f;
                score[f].thread_elements()[e] = weight;
                added += weight;
            }
        running.top = top;
        running.sum = running.sum * factor + row_sum(added);
        for (int d = 0; d < fragments; d++)
            for (int e = 0; e < 2; e++)
                sum[d].thread_elements()[e] *= factor;

        threadgroup_barrier(mem_flags::mem_threadgroup); // everybody is done with the keys
        source.offset = values.offset + key * values.row;
        source.row = values.row;
        source.step = values.step;
        source.columns = p.dim_v;
        bool found = simd_any(loader.load(value_operand, source, BK, (p.dim_v + 7) / 8 * 8, ld, true));
        if (lane == 0)
            flags[simdgroup] = found;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int d = 0; d < fragments; d++) {
            if (8 * d >= p.dim_v)
                break;
            for (int f = 0; f < key_fragments; f++) {
                const Fragment values_part = load_fragment(tile + 8 * f * ld + 8 * d, ld, 1, origin);
                simdgroup_multiply_accumulate(sum[d], score[f], values_part, sum[d]);
            }
        }
        for (int s = 0; s < simds; s++)
            found |= flags[s];
        if (!found)
            continue;

        threadgroup float *own = weights + (int(simdgroup) * 8 + origin.y) * BK;
        for (int f = 0; f < key_fragments; f++)
            for (int e = 0; e < 2; e++)
                own[8 * f + origin.x + e] = score[f].thread_elements()[e];
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (int d = 0; d < fragments; d++)
            for (int e = 0; e < 2; e++) {
                const int c = 8 * d + origin.x + e;
                for (int j = 0; c < p.dim_v && j < count; j++) {
                    const float value = float(value_operand.at(values.at(key + j, c)));
                    if (!isfinite(value) && !is_hidden(own[j]))
                        sum[d].thread_elements()[e] += own[j] * value;
                }
            }
    }

    const bool empty = running.is_empty();
    float factor = has_sinks ? running.add_sink(sink_of(p, sinks, head)) : 1.0f;
    factor *= running.normaliser();
    if (query >= p.len_q)
        return;
    for (int d = 0; d < fragments; d++)
        for (int e = 0; e < 2; e++)
            if (8 * d + origin.x + e < p.dim_v)
                store_float(out, results.at(query, 8 * d + origin.x + e),
                            empty ? 0.0f : factor * sum[d].thread_elements()[e], out_dtype);
}

#define INSTANTIATE(NAME, T, D, BK)                                                                                    \
    template [[host_name("sdpa_tiled_" #NAME "_d" #D)]] [[kernel]] decltype(sdpa_tiled<T, D, BK>) sdpa_tiled<T, D, BK>;
#define INSTANTIATE_SIZES(NAME, T)                                                                                     \
    INSTANTIATE(NAME, T, 64, 32)                                                                                       \
    INSTANTIATE(NAME, T, 128, 32)                                                                                      \
    INSTANTIATE(NAME, T, 256, 16)

#ifdef ML_BFLOAT
INSTANTIATE_SIZES(bf16, bfloat)
#else
INSTANTIATE_SIZES(f32, float)
INSTANTIATE_SIZES(f16, half)
#endif
