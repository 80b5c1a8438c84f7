"""What the checker of the software Metal costs: kernels unchecked and checked, best of several runs, in milliseconds.

python benches/softmetal.py
"""

import time

import numpy as np

from metallic import metal

SOURCE = """
#include <metal_stdlib>
using namespace metal;

kernel void scale(device const float *x, device float *y, uint i [[thread_position_in_grid]]) { y[i] = 2 * x[i]; }

kernel void block_sum(device const float *x, device float *y, uint i [[thread_position_in_grid]],
                      uint t [[thread_position_in_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
    threadgroup float part[256];
    part[t] = x[i];
    for (uint n = 128; n > 0; n /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t < n) part[t] += part[t + n];
    }
    if (t == 0) y[g] = part[0];
}

kernel void row_sum(device const float *x, device float *y, uint lane [[thread_index_in_simdgroup]],
                    uint g [[threadgroup_position_in_grid]]) {
    float sum = 0;
    for (uint c = lane; c < 1024; c += 32) sum += x[g * 1024 + c];
    sum = simd_sum(sum);
    if (lane == 0) y[g] = sum;
}

kernel void matmul_tile(device const float *a, device const float *b, device float *c,
                        uint2 g [[threadgroup_position_in_grid]]) {
    simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), x, y;
    for (uint k = 0; k < 128; k += 8) {
        simdgroup_load(x, a + g.y * 8 * 128 + k, 128);
        simdgroup_load(y, b + k * 128 + g.x * 8, 128);
        simdgroup_multiply_accumulate(sum, x, y, sum);
    }
    simdgroup_store(sum, c + g.y * 8 * 128 + g.x * 8, 128);
}
"""
ELEMENTS = 1 << 18
SHAPES = {  # grid in threads, threadgroup
    "scale": ((ELEMENTS,), (256,)),
    "block_sum": ((ELEMENTS,), (256,)),
    "row_sum": ((ELEMENTS // 1024 * 32,), (32,)),
    "matmul_tile": ((16 * 32, 16), (32, 1)),
}


def best_ms(call) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    print(f"{'kernel':<12} {'unchecked':>10} {'checked':>10} {'factor':>7}")
    x = np.ones(ELEMENTS, np.float32)
    for name, (grid, group) in SHAPES.items():
        arrays = [x, x.copy(), np.zeros_like(x)] if name == "matmul_tile" else [x, np.zeros_like(x)]
        times = []
        for check in (False, True):
            with metal._running(check=check):
                kernel = metal.Library(SOURCE).function(name)
                times.append(best_ms(lambda k=kernel, a=arrays, g=grid, t=group: k(*a, grid=g, threadgroup=t)))
        print(f"{name:<12} {times[0]:>10.2f} {times[1]:>10.2f} {times[1] / times[0]:>7.1f}")


if __name__ == "__main__":
    main()
