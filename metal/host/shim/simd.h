// <metal_simdgroup>, <metal_quadgroup>: the lanes of a simdgroup (or quad) meet in the executor, the last one to come
// computes for all. Lanes that take no part contribute nothing; reading from one gives all bits set (a NaN), because Metal
// leaves it undefined and a kernel that depends on it should show.
#pragma once

#include "atomic.h"
#include "math.h"

#define SM_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))

namespace metal {
namespace sm {
template <typename Out, typename In>
SM_INLINE Out meet(const char *operation, sm_scope scope, sm_combine combine, const In &in, const char *file, uint line) {
    const sm_place place = {operation, file, line};
    union {
        Out value;
        char bytes[sizeof(Out)];
    } out;
    host->meet(&place, scope, combine, &in, &out.value);
    self()->mark = 0;
    return out.value;
}

// Half and bfloat accumulate in float, small integers in themselves.
template <typename T> struct sum_type {
    typedef conditional_t<is_same_v<T, half> || is_same_v<T, bfloat>, float, T> type;
};
template <typename T, int N> struct sum_type<vec<T, N>> {
    typedef vec<typename sum_type<T>::type, N> type;
};

struct op_sum {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return (T)(a + b);
    }
    static constexpr int identity = 0;
};
struct op_product {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return (T)(a * b);
    }
    static constexpr int identity = 1;
};
struct op_min {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return metal::min(a, b);
    }
};
struct op_max {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return metal::max(a, b);
    }
};
struct op_and {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return (T)(a & b);
    }
};
struct op_or {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return (T)(a | b);
    }
};
struct op_xor {
    template <typename T> static SM_INLINE T of(T a, T b) {
        return (T)(a ^ b);
    }
};

// A float sum that is pairwise over the lane numbers, as a shuffle tree would do it.
template <typename T, typename Op> SM_UNCHECKED void reduce(const sm_lanes *lanes) {
    typedef typename sum_type<T>::type S;
    S value[SM_SIMD_WIDTH];
    uint32_t present = lanes->active;
    for (uint i = 0; i < lanes->width; i++)
        if (present >> i & 1)
            value[i] = (S)*(const T *)lanes->in[i];
    for (uint step = 1; step < lanes->width; step *= 2)
        for (uint i = 0; i < lanes->width; i += 2 * step) {
            const uint j = i + step;
            if (!(present >> j & 1))
                continue;
            value[i] = present >> i & 1 ? Op::of(value[i], value[j]) : value[j];
            present |= 1u << i;
        }
    const T result = (T)value[0];
    for (uint i = 0; i < lanes->width; i++)
        if (lanes->active >> i & 1)
            *(T *)lanes->out[i] = result;
}

template <typename T, typename Op, bool Inclusive> SM_UNCHECKED void scan(const sm_lanes *lanes) {
    typedef typename sum_type<T>::type S;
    S running = (S)(T)Op::identity;
    for (uint i = 0; i < lanes->width; i++) {
        if (!(lanes->active >> i & 1))
            continue;
        const S next = Op::of(running, (S)*(const T *)lanes->in[i]);
        *(T *)lanes->out[i] = (T)(Inclusive ? next : running);
        running = next;
    }
}

// What a lane brings to a shuffle.
template <typename T> struct shuffled {
    T data, fill;
    uint lane, modulo;
};
enum shuffle_kind { shuffle_to, shuffle_xor_, shuffle_up_, shuffle_down_, rotate_up_, rotate_down_, fill_up_, fill_down_, first_ };

template <typename T, int Kind> SM_UNCHECKED void shuffle(const sm_lanes *lanes) {
    for (uint i = 0; i < lanes->width; i++) {
        if (!(lanes->active >> i & 1))
            continue;
        const shuffled<T> &mine = *(const shuffled<T> *)lanes->in[i];
        const uint width = lanes->width, d = mine.lane;
        uint from = i;
        bool filling = false;
        if (Kind == shuffle_to)
            from = d;
        else if (Kind == shuffle_xor_)
            from = i ^ d;
        else if (Kind == shuffle_up_)
            from = d <= i ? i - d : i;
        else if (Kind == shuffle_down_)
            from = d < width - i ? i + d : i;
        else if (Kind == rotate_up_)
            from = (i - d) & (width - 1);
        else if (Kind == rotate_down_)
            from = (i + d) & (width - 1);
        else if (Kind == fill_up_ || Kind == fill_down_) {
            const uint base = i / mine.modulo * mine.modulo, at = i - base;
            filling = Kind == fill_up_ ? d > at : at + d >= mine.modulo;
            from = base + (Kind == fill_up_ ? at - d : at + d) % mine.modulo;
        } else
            from = (uint)__builtin_ctz(lanes->active);
        T &out = *(T *)lanes->out[i];
        if (from >= width || !(lanes->active >> from & 1))
            __builtin_memset((void *)&out, 0xff, sizeof out);
        else
            out = filling ? ((const shuffled<T> *)lanes->in[from])->fill : ((const shuffled<T> *)lanes->in[from])->data;
    }
}

SM_UNCHECKED inline void ballot(const sm_lanes *lanes) {
    uint64_t mask = 0;
    for (uint i = 0; i < lanes->width; i++)
        if ((lanes->active >> i & 1) && *(const bool *)lanes->in[i])
            mask |= 1ull << i;
    for (uint i = 0; i < lanes->width; i++)
        if (lanes->active >> i & 1)
            *(uint64_t *)lanes->out[i] = mask;
}
// As ballot, with the active lanes in the upper half.
SM_UNCHECKED inline void ballot_active(const sm_lanes *lanes) {
    ballot(lanes);
    for (uint i = 0; i < lanes->width; i++)
        if (lanes->active >> i & 1)
            *(uint64_t *)lanes->out[i] |= (uint64_t)lanes->active << 32;
}
} // namespace sm

// A set of lanes.
struct simd_vote {
    typedef ulong vote_t;
    vote_t sm_mask;
    explicit constexpr simd_vote(vote_t mask = 0) : sm_mask(mask) {}
    explicit constexpr operator vote_t() const {
        return sm_mask;
    }
    constexpr bool all() const {
        return sm_mask == 0xffffffffu;
    }
    constexpr bool any() const {
        return sm_mask != 0;
    }
};
struct quad_vote {
    typedef ushort vote_t;
    vote_t sm_mask;
    explicit constexpr quad_vote(vote_t mask = 0) : sm_mask(mask) {}
    explicit constexpr operator vote_t() const {
        return sm_mask;
    }
    constexpr bool all() const {
        return sm_mask == 0xfu;
    }
    constexpr bool any() const {
        return sm_mask != 0;
    }
};
constexpr simd_vote operator&(simd_vote a, simd_vote b) {
    return simd_vote(a.sm_mask & b.sm_mask);
}
constexpr simd_vote operator|(simd_vote a, simd_vote b) {
    return simd_vote(a.sm_mask | b.sm_mask);
}
constexpr simd_vote operator^(simd_vote a, simd_vote b) {
    return simd_vote(a.sm_mask ^ b.sm_mask);
}
constexpr simd_vote operator~(simd_vote a) {
    return simd_vote(~a.sm_mask & 0xffffffffu);
}

#define SM_REDUCTION(P, SCOPE, NAME)                                                                                           \
    template <typename T> SM_INLINE T P##_##NAME(T data, SM_AT) {                                                              \
        return sm::meet<T>(#P "_" #NAME, SCOPE, sm::reduce<T, sm::op_##NAME>, data, sm_file, sm_line);                         \
    }
#define SM_SCAN(P, SCOPE, NAME)                                                                                                \
    template <typename T> SM_INLINE T P##_prefix_inclusive_##NAME(T data, SM_AT) {                                             \
        return sm::meet<T>(#P "_prefix_inclusive_" #NAME, SCOPE, sm::scan<T, sm::op_##NAME, true>, data, sm_file, sm_line);    \
    }                                                                                                                          \
    template <typename T> SM_INLINE T P##_prefix_exclusive_##NAME(T data, SM_AT) {                                             \
        return sm::meet<T>(#P "_prefix_exclusive_" #NAME, SCOPE, sm::scan<T, sm::op_##NAME, false>, data, sm_file, sm_line);   \
    }
#define SM_SHUFFLE(P, SCOPE, NAME, KIND)                                                                                       \
    template <typename T> SM_INLINE T P##_##NAME(T data, ushort lane, SM_AT) {                                                 \
        const sm::shuffled<T> in = {data, data, lane, SCOPE == SM_SCOPE_QUAD ? SM_QUAD_WIDTH : SM_SIMD_WIDTH};                 \
        return sm::meet<T>(#P "_" #NAME, SCOPE, sm::shuffle<T, sm::KIND>, in, sm_file, sm_line);                               \
    }
#define SM_FILL(P, SCOPE, NAME, KIND, WIDTH)                                                                                   \
    template <typename T> SM_INLINE T P##_##NAME(T data, sm::same_t<T> filling, ushort delta, SM_AT) {                         \
        const sm::shuffled<T> in = {data, filling, delta, WIDTH};                                                              \
        return sm::meet<T>(#P "_" #NAME, SCOPE, sm::shuffle<T, sm::KIND>, in, sm_file, sm_line);                               \
    }                                                                                                                          \
    template <typename T> SM_INLINE T P##_##NAME(T data, sm::same_t<T> filling, ushort delta, ushort modulo, SM_AT) {          \
        const sm::shuffled<T> in = {data, filling, delta, modulo ? (uint)modulo : WIDTH};                                      \
        return sm::meet<T>(#P "_" #NAME, SCOPE, sm::shuffle<T, sm::KIND>, in, sm_file, sm_line);                               \
    }
#define SM_LANES(P, SCOPE, WIDTH, VOTE)                                                                                        \
    SM_REDUCTION(P, SCOPE, sum)                                                                                                \
    SM_REDUCTION(P, SCOPE, product)                                                                                            \
    SM_REDUCTION(P, SCOPE, min)                                                                                                \
    SM_REDUCTION(P, SCOPE, max)                                                                                                \
    SM_REDUCTION(P, SCOPE, and)                                                                                                \
    SM_REDUCTION(P, SCOPE, or)                                                                                                 \
    SM_REDUCTION(P, SCOPE, xor)                                                                                                \
    SM_SCAN(P, SCOPE, sum)                                                                                                     \
    SM_SCAN(P, SCOPE, product)                                                                                                 \
    SM_SHUFFLE(P, SCOPE, shuffle, shuffle_to)                                                                                  \
    SM_SHUFFLE(P, SCOPE, shuffle_xor, shuffle_xor_)                                                                            \
    SM_SHUFFLE(P, SCOPE, shuffle_up, shuffle_up_)                                                                              \
    SM_SHUFFLE(P, SCOPE, shuffle_down, shuffle_down_)                                                                          \
    SM_SHUFFLE(P, SCOPE, shuffle_rotate_up, rotate_up_)                                                                        \
    SM_SHUFFLE(P, SCOPE, shuffle_rotate_down, rotate_down_)                                                                    \
    SM_SHUFFLE(P, SCOPE, broadcast, shuffle_to)                                                                                \
    SM_FILL(P, SCOPE, shuffle_and_fill_up, fill_up_, WIDTH)                                                                    \
    SM_FILL(P, SCOPE, shuffle_and_fill_down, fill_down_, WIDTH)                                                                \
    template <typename T> SM_INLINE T P##_broadcast_first(T data, SM_AT) {                                                     \
        const sm::shuffled<T> in = {data, data, 0, WIDTH};                                                                     \
        return sm::meet<T>(#P "_broadcast_first", SCOPE, sm::shuffle<T, sm::first_>, in, sm_file, sm_line);                    \
    }                                                                                                                          \
    SM_INLINE VOTE P##_ballot(bool yes, SM_AT) {                                                                               \
        return VOTE((VOTE::vote_t)sm::meet<uint64_t>(#P "_ballot", SCOPE, sm::ballot, yes, sm_file, sm_line));                 \
    }                                                                                                                          \
    SM_INLINE VOTE P##_active_threads_mask(SM_AT) {                                                                            \
        return VOTE((VOTE::vote_t)sm::meet<uint64_t>(#P "_active_threads_mask", SCOPE, sm::ballot, true, sm_file, sm_line));   \
    }                                                                                                                          \
    SM_INLINE bool P##_all(bool yes, SM_AT) {                                                                                  \
        const uint64_t m = sm::meet<uint64_t>(#P "_all", SCOPE, sm::ballot_active, yes, sm_file, sm_line);                     \
        return (uint32_t)m == (uint32_t)(m >> 32);                                                                             \
    }                                                                                                                          \
    SM_INLINE bool P##_any(bool yes, SM_AT) {                                                                                  \
        return sm::meet<uint64_t>(#P "_any", SCOPE, sm::ballot, yes, sm_file, sm_line) != 0;                                   \
    }
SM_LANES(simd, SM_SCOPE_SIMDGROUP, SM_SIMD_WIDTH, simd_vote)
SM_LANES(quad, SM_SCOPE_QUAD, SM_QUAD_WIDTH, quad_vote)

SM_INLINE bool simd_is_first(SM_AT) {
    const uint64_t m = sm::meet<uint64_t>("simd_is_first", SM_SCOPE_SIMDGROUP, sm::ballot, true, sm_file, sm_line);
    return (uint)__builtin_ctzll(m) == sm::self()->index_in_simdgroup;
}
SM_INLINE bool quad_is_first(SM_AT) {
    const uint64_t m = sm::meet<uint64_t>("quad_is_first", SM_SCOPE_QUAD, sm::ballot, true, sm_file, sm_line);
    return (uint)__builtin_ctzll(m) == sm::self()->index_in_quadgroup;
}
SM_INLINE bool simd_is_helper_thread() {
    return false;
}
} // namespace metal
