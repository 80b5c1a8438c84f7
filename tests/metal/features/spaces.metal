// Address spaces in every place where they may stand, and memory of each kind.
#include <metal_stdlib>
using namespace metal;

struct Pair {
    float a;
    int b;
    float sum() const { return a + float(b); }
    float sum() const device { return a + float(b); }
    float sum() const constant { return a + float(b); }
    float sum() const threadgroup { return a + float(b); }
    void set(float v) thread { a = v; }
    void set(float v) device { a = v; }
    void set(float v) threadgroup { a = v; }
    Pair() thread : a(0), b(0) {}
    Pair() threadgroup = default;
    Pair(float x, int y) thread : a(x), b(y) {}
};

float first(device const float *p) { return p[0]; }
float first(constant float *p) { return p[0]; }
float first(threadgroup const float *p) { return p[0]; }
float first(thread const float *p) { return p[0]; }
float first(const thread float (&p)[2], int) { return p[1]; }

void bump(device float &x) { x += 1; }
void bump(threadgroup float &x) { x += 1; }
void bump(thread float &x) { x += 1; }

template <typename P> float through(P p, int i) { return float(p[i]); }
template <typename T> T load(const device T *const p, const uint i) { return p[i]; }
template <typename T> T load(const threadgroup T *const p, const uint i) { return p[i]; }

constant float numbers[4] = {0.5, 1.5, 2.5, 3.5};
constant static const Pair fixed_pair = {2.0f, 3};
static constant int shift = 4;

struct Pointers {
    device float *d;
    const constant float *c;
    threadgroup float *t;
    thread float *p;
    float all() thread const { return *d + *c + *t + *p; }
};
typedef device float *device_pointer;
using shared_pointer = threadgroup float *;

kernel void spaces(device float *out [[buffer(0)]], const device Pair *pairs [[buffer(1)]],
                   constant Pair &one [[buffer(2)]], device const uchar *bytes [[buffer(3)]],
                   threadgroup float *dynamic [[threadgroup(0)]], threadgroup Pair *more [[threadgroup(1)]],
                   uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[8], other;
    threadgroup Pair shared_pair[2];
    threadgroup float grid[2][4];
    if (i == 0) {
        shared[0] = 3;
        other = 5;
        shared_pair[1].set(9);
        shared_pair[1].b = 1;
        dynamic[0] = 7;
        more[0].a = 1;
        more[0].b = 2;
        for (int r = 0; r < 2; r++)
            for (int c = 0; c < 4; c++)
                grid[r][c] = r * 10 + c;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i != 0)
        return;
    float local[2] = {11, 13};
    out[0] = first(out + 20);
    out[1] = first(numbers);
    out[2] = first(shared);
    out[3] = first(local);
    out[4] = first(local, 0);
    out[5] = pairs[0].sum() + one.sum() + shared_pair[1].sum() + Pair(1, 2).sum() + fixed_pair.sum();
    bump(out[21]);
    bump(other);
    bump(local[0]);
    out[6] = out[21] + other + local[0];
    out[7] = through(numbers, 3) + through(shared, 0) + through(out, 22) + through(local, 1);
    out[8] = load(out, 20) + load(shared, 0);
    const Pointers p = {out + 20, numbers, shared, local};
    out[9] = p.all();
    const device float4 *as_vectors = (const device float4 *)(bytes + 16);
    out[10] = as_vectors[0].y + ((device const float *)bytes)[1];
    out[11] = *(const device float *)(const device void *)bytes + float(*reinterpret_cast<const device int *>(bytes));
    device_pointer dp = out + 20;
    shared_pointer sp = &dynamic[0];
    out[12] = *dp + *sp + more->sum() + static_cast<float>(shift);
    out[13] = grid[1][3] + (&grid[0][0])[2];
    threadgroup float(*rows)[4] = grid;
    threadgroup const float(&row)[4] = grid[1];
    out[14] = rows[1][2] + row[0];
    const threadgroup Pair &reference = shared_pair[1];
    device auto &target = out[15];
    target = reference.a;
}

// Static and dynamic threadgroup memory at once, with struct elements and vectors; one block per threadgroup.
struct Item {
    float key;
    uint index;
};
template <typename T, int N> void reverse_in(threadgroup T *data, uint i) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const T v = data[N - 1 - i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    data[i] = v;
    threadgroup_barrier(mem_flags::mem_none | mem_flags::mem_threadgroup);
}
kernel void reverse_items(device const Item *in [[buffer(0)]], device Item *out [[buffer(1)]],
                          threadgroup Item *items [[threadgroup(0)]], uint i [[thread_index_in_threadgroup]],
                          uint at [[thread_position_in_grid]]) {
    threadgroup float4 vectors[32];
    items[i] = in[at];
    vectors[i % 32] = float4(i);
    reverse_in<Item, 64>(items, i);
    out[at] = items[i];
    out[at].key += vectors[(i + 1) % 32].w * 0;
}

// Barriers and fences of every scope and flag.
kernel void fences(device uint *out [[buffer(0)]], volatile device atomic_uint *flag [[buffer(1)]],
                   uint i [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    threadgroup uint shared[64];
    shared[i] = i;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const uint near = shared[i ^ 1];
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    const uint far = shared[63 - i];
    threadgroup_barrier(mem_flags::mem_none);
    simdgroup_barrier(mem_flags::mem_none);
    threadgroup_barrier(mem_flags::mem_texture);
    threadgroup_barrier(mem_flags::mem_device_and_threadgroup);
    out[i] = near + 100 * far;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    atomic_thread_fence(mem_flags::mem_threadgroup, memory_order_acq_rel, thread_scope_threadgroup);
    atomic_thread_fence(mem_flags::mem_threadgroup, memory_order_seq_cst, thread_scope_simdgroup);
    atomic_thread_fence(mem_flags::mem_device, memory_order_relaxed);
    if (lane == 0)
        atomic_fetch_add_explicit(flag, 1, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_device);
    out[64 + i] = atomic_load_explicit(flag, memory_order_relaxed);
}

// metal::array in every address space.
struct Params {
    array<int, 3> sizes;
    array<float, 2> weights;
};
kernel void arrays(constant Params &params [[buffer(0)]], device array<float, 4> *out [[buffer(1)]],
                   uint i [[thread_index_in_threadgroup]]) {
    threadgroup array<float, 4> shared;
    shared[i % 4] = float(i % 4);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    array<float, 4> mine = {1, 2, 3, 4};
    array<array<int, 2>, 2> nested = {{{{1, 2}}, {{3, 4}}}};
    mine.fill(mine.front() + mine.back());
    float total = 0;
    for (auto v : mine)
        total += v;
    constexpr array<int, 3> fixed = {7, 8, 9};
    if (i == 0) {
        out[0] = mine;
        out[1] = array<float, 4>{total, float(params.sizes[2]), params.weights[1], float(mine.size())};
        for (size_t k = 0; k < shared.size(); k++)
            out[2][k] = shared[k] + float(nested[1][0]) + float(fixed[2]);
    }
}
