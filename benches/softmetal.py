"""What the software Metal costs: kernels unchecked and checked (best of several runs), and listing a large source.

python benches/softmetal.py [NAME ...]
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from metallic import metal

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "metal")]

import kernel_runs as kernels  # noqa: E402
from large_source import PARTS, large_source  # noqa: E402

from parity import F32  # noqa: E402

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
SIZES = {  # of the kernels of tests/metal/kernels
    "softmax": partial(kernels.softmax, rows=64, columns=1024, threads=256),
    "layer_norm": partial(kernels.layer_norm, rows=64, columns=1024, threads=128),
    "gemv": partial(kernels.gemv, rows=256, columns=1024),
    "gemm": partial(kernels.gemm, m=128, n=128, k=128),
    "sum": partial(kernels.reduce_sum, n=1 << 17, groups=32, threads=256),
    "max": partial(kernels.reduce_max, n=1 << 17, threads=256),
    "argmax": partial(kernels.argmax, n=1 << 17, groups=32, threads=256),
    "scan": partial(kernels.scan, n=1 << 17, threads=256),
    "bitonic": partial(kernels.bitonic, n=1 << 14),
    "attention": partial(kernels.attention, heads=4, queries=64, keys=128),
}


def best_ms(call, runs: int = 7) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def own_kernel(name: str, check: bool):
    grid, group = SHAPES[name]
    x = np.ones(ELEMENTS, np.float32)
    arrays = [x, x.copy(), np.zeros_like(x)] if name == "matmul_tile" else [x, np.zeros_like(x)]
    return partial(metal.Library(SOURCE).function(name), *arrays, grid=grid, threadgroup=group)


def tested_kernel(name: str, check: bool):
    run, case = kernels.RUNS[name], SIZES[name](F32, np.random.default_rng(0))
    functions = {step: kernels.function_for(run, step, F32, check) for step, _, _ in case.steps}
    return lambda: [functions[step](*buffers, **launch) for step, buffers, launch in case.steps]


def main() -> None:
    names = [*SHAPES, *SIZES, "listing"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    wanted = parser.parse_args().names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    print(f"{'kernel':<12} {'unchecked':>10} {'checked':>10} {'factor':>7}   (ms)")
    for name in wanted:
        if name == "listing":
            continue
        times = []
        for check in (False, True):
            with metal._running(check=check):
                times.append(best_ms((own_kernel if name in SHAPES else tested_kernel)(name, check)))
        print(f"{name:<12} {times[0]:>10.2f} {times[1]:>10.2f} {times[1] / times[0]:>7.1f}", flush=True)
    if "listing" in wanted:
        source = large_source()
        metal.Library("").function_names  # noqa: B018 - headers are in the cache folder after this
        spent = best_ms(lambda: metal.Library(source).function_names, 5)
        print(f"listing {3 * PARTS} kernels in {source.count(chr(10))} lines: {spent:.0f} ms")


if __name__ == "__main__":
    main()
