// Bitonic sort of n = 2^k keys, ascending: blocks in threadgroup memory; steps wider than a block as a dispatch each;
// what is left of every merge in threadgroup memory again.
// K. E. Batcher, Sorting networks and their applications, 1968.
#include <metal_stdlib>
using namespace metal;

constant constexpr uint BLOCK = 256; // keys of a threadgroup of 128 threads

// Compares the pair of thread t at this distance; runs of `size` keys alternate in direction.
template <typename Pointer> inline void exchange(Pointer keys, uint t, uint distance, uint size, uint first) {
    const uint low = 2 * t - (t & (distance - 1)), high = low + distance;
    const bool ascending = ((first + low) & size) == 0;
    const auto a = keys[low], b = keys[high];
    if ((a > b) == ascending) {
        keys[low] = b;
        keys[high] = a;
    }
}

// from: the size of the runs that are sorted already, at most BLOCK / 2 ... to: up to and including this size.
template <typename T>
[[kernel]] void bitonic_block(device T *keys [[buffer(0)]], constant uint &from [[buffer(1)]],
                              constant uint &to [[buffer(2)]], uint t [[thread_index_in_threadgroup]],
                              uint group [[threadgroup_position_in_grid]]) {
    threadgroup T block[BLOCK];
    const uint first = group * BLOCK;
    block[t] = keys[first + t];
    block[t + BLOCK / 2] = keys[first + t + BLOCK / 2];
    for (uint size = from; size <= to; size *= 2)
        for (uint distance = min(size, BLOCK) / 2; distance > 0; distance /= 2) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            exchange((threadgroup T *)block, t, distance, size, first);
        }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    keys[first + t] = block[t];
    keys[first + t + BLOCK / 2] = block[t + BLOCK / 2];
}

template <typename T>
[[kernel]] void bitonic_step(device T *keys [[buffer(0)]], constant uint &distance [[buffer(1)]],
                             constant uint &size [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    exchange(keys, i, distance, size, 0u);
}

#define BITONIC(name, T)                                                                                               \
    template [[host_name("bitonic_block_" name)]] [[kernel]] void bitonic_block<T>(device T *, constant uint &,        \
                                                                                   constant uint &, uint, uint);       \
    template [[host_name("bitonic_step_" name)]] [[kernel]] void bitonic_step<T>(device T *, constant uint &,          \
                                                                                 constant uint &, uint);
BITONIC("float32", float)
BITONIC("float16", half)
BITONIC("bfloat16", bfloat)
