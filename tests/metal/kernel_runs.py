"""The kernels of tests/metal/kernels and how each is run: shapes, dispatches, float64 references and error bounds.

U is the unit roundoff of float: a sum of terms in which no term takes part in more than d additions errs by at most
d U sum|term| (Higham, Accuracy and Stability of Numerical Algorithms, 4.2). exp is within 1 ulp = 2 U.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from metallic import metal
from parity import U32, random_array, reference_matmul, wide

FOLDER = Path(__file__).parent / "kernels"
ORDERS = metal.ORDERS


@dataclasses.dataclass
class Case:
    """Arrays of one run, and how it is dispatched: steps are calls of kernels in turn."""

    steps: list[tuple[str, tuple, dict]]  # kernel without the dtype, buffers, how it is launched
    result: np.ndarray
    reference: np.ndarray
    error: np.ndarray | float  # before the rounding to the result's dtype
    exact: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    source: str
    make: Callable[[np.dtype, np.random.Generator], Case]
    constants: tuple = ()


def kernel_name(name: str, dtype: np.dtype) -> str:
    return name if name in UNTYPED else f"{name}_{dtype.name}"


UNTYPED = ("sum_final",)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ---- the kernels -----------------------------------------------------------------------------------------------------


def softmax(dtype, rng, rows=5, columns=203, threads=96) -> Case:
    x = random_array(rng, (rows, columns), dtype, 4.0)
    out = np.zeros_like(x)
    d = wide(x) - wide(x).max(-1, keepdims=True)
    e = np.exp(d)
    p = e / e.sum(-1, keepdims=True)
    of_exp = U32 * np.abs(d) + 2 * U32  # of the subtraction, of exp
    of_sum = (p * of_exp).sum(-1, keepdims=True) + (ceil_div(columns, threads) + 64) * U32
    launch = {"grid": (rows,), "threadgroup": (threads,), "threads": False}
    return Case([("softmax", (x, out, columns), launch)], out, p, p * (of_exp + of_sum + 2 * U32))


def layer_norm(dtype, rng, rows=4, columns=264, threads=64) -> Case:
    x = random_array(rng, (rows, columns), dtype, 2.0) + np.asarray(1, dtype)
    weight, bias = random_array(rng, columns, dtype), random_array(rng, columns, dtype)
    out, eps = np.zeros_like(x), 1e-5
    depth = (ceil_div(columns, 4 * threads) + 4 + 64 + 2) * U32
    mean = wide(x).mean(-1, keepdims=True)
    of_mean = depth * np.abs(wide(x)).mean(-1, keepdims=True)
    d = wide(x) - mean
    of_d = of_mean + U32 * np.abs(d)
    variance = (d * d).mean(-1, keepdims=True)
    of_variance = (2 * np.abs(d) * of_d).mean(-1, keepdims=True) + (depth + U32) * variance
    scale = 1 / np.sqrt(variance + eps)
    of_scale = scale * (0.5 * of_variance / (variance + eps) + 2.1 * U32)
    y = d * scale * wide(weight)
    error = np.abs(wide(weight)) * (of_d * scale + np.abs(d) * of_scale) + 2 * U32 * (np.abs(y) + np.abs(wide(bias)))
    launch = {"grid": (rows,), "threadgroup": (threads,), "threads": False}
    steps = [("layer_norm", (x, weight, bias, out, columns, eps), launch)]
    return Case(steps, out, y + wide(bias), error)


def gemv(dtype, rng, rows=11, columns=611) -> Case:
    a, x = random_array(rng, (rows, columns), dtype), random_array(rng, columns, dtype)
    y = np.zeros(rows, dtype)
    reference, error = reference_matmul(a, x[:, None])
    launch = {"grid": (ceil_div(rows, 4),), "threadgroup": (128,), "threads": False}
    return Case([("gemv", (a, x, y, rows, columns), launch)], y, reference[:, 0], error[:, 0])


def gemm(dtype, rng, m=45, n=37, k=43) -> Case:
    a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
    c = np.zeros((m, n), dtype)
    launch = {"grid": (ceil_div(n, 32), ceil_div(m, 32)), "threadgroup": (128,), "threads": False}
    params = np.array([m, n, k], np.uint32).tobytes()
    return Case([("gemm", (a, b, c, params), launch)], c, *reference_matmul(a, b))


def reduce_sum(dtype, rng, n=3001, groups=5, threads=128) -> Case:
    x = random_array(rng, n, dtype)
    partial, out = np.zeros(groups, np.float32), np.zeros(1, np.float32)
    depth = ceil_div(n, groups * threads) + 7 + 32
    steps = [
        ("sum_partial", (x, partial, n), {"grid": (groups,), "threadgroup": (threads,), "threads": False}),
        ("sum_final", (partial, out, groups), {"grid": (32,), "threadgroup": (32,)}),
    ]
    return Case(steps, out, wide(x).sum(keepdims=True), depth * U32 * np.abs(wide(x)).sum(keepdims=True))


def reduce_max(dtype, rng, n=1000, threads=128) -> Case:
    x = random_array(rng, n, dtype) - np.asarray(5, dtype)  # below zero, mostly
    top = np.zeros(1, np.uint32)
    bits = wide(x).max().astype(np.float32).reshape(1).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    launch = {"grid": (ceil_div(n, threads) * threads,), "threadgroup": (threads,)}
    return Case([("max_atomic", (x, top, n), launch)], top, ordered, 0.0, exact=True)


def argmax(dtype, rng, n=2500, groups=4, threads=96) -> Case:
    x = random_array(rng, n, dtype)
    x[[1234, 77, 2001]] = x.max() + np.asarray(1, dtype)  # the first of equal ones counts
    values, indices = np.zeros(groups, np.float32), np.zeros(groups, np.uint32)
    arrived, out = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
    launch = {"grid": (groups,), "threadgroup": (threads,), "threads": False}
    steps = [("argmax", (x, values, indices, arrived, out, n), launch)]
    return Case(steps, out, np.array([77]), 0.0, exact=True)


def scan(dtype, rng, n=2005, threads=96) -> Case:
    x = random_array(rng, n, dtype)
    block = 4 * threads
    blocks = ceil_div(n, block)
    sums, totals, ends = np.zeros(n, np.float32), np.zeros(blocks, np.float32), np.zeros(blocks, np.float32)
    of_all, out = np.zeros(1, np.float32), np.zeros(n, dtype)
    launch = {"threadgroup": (threads,), "threads": False}
    steps = [
        ("scan_blocks", (x, sums, totals, n), {"grid": (blocks,), **launch}),
        ("scan_blocks:float32", (totals, ends, of_all, blocks), {"grid": (1,), **launch}),
        ("scan_add", (sums, ends, out, n, block), {"grid": (ceil_div(n, threads),), **launch}),
    ]
    depth = 2 * (4 + 32 + 32) + 1  # two levels of: a thread's own, a simdgroup's, the threadgroup's
    return Case(steps, out, np.cumsum(wide(x)), depth * U32 * np.cumsum(np.abs(wide(x))))


def bitonic(dtype, rng, n=1024, block=256) -> Case:
    keys = random_array(rng, n, dtype)
    groups = n // block
    whole = {"grid": (groups,), "threadgroup": (block // 2,), "threads": False}
    pairs = {"grid": (n // 2,), "threadgroup": (64,)}
    steps = [("bitonic_block", (keys, 2, block), whole)]
    size = 2 * block
    while size <= n:
        distance = size // 2
        while distance >= block:
            steps.append(("bitonic_step", (keys, distance, size), pairs))
            distance //= 2
        steps.append(("bitonic_block", (keys, size, size), whole))
        size *= 2
    return Case(steps, keys, np.sort(wide(keys)), 0.0, exact=True)


def attention(dtype, rng, heads=2, queries=19, keys=45, causal=True) -> Case:
    q = random_array(rng, (heads, queries, 64), dtype)
    k, v = (random_array(rng, (heads, keys, 64), dtype) for _ in range(2))
    out, scale = np.zeros_like(q), 0.125
    products = scale * np.einsum("hqd,hkd->hqk", wide(q), wide(k))
    magnitude = scale * np.einsum("hqd,hkd->hqk", np.abs(wide(q)), np.abs(wide(k)))
    hidden = np.arange(keys) > np.arange(queries)[:, None] + keys - queries
    scores = np.where(hidden & causal, -np.inf, products)
    d = scores - scores.max(-1, keepdims=True)
    p = np.exp(d)
    p /= p.sum(-1, keepdims=True)
    tiles = ceil_div(keys, 32)
    # Of a weight: the score (64 terms and its scaling), the subtraction, exp, and as much for every rescaling.
    of_score = (66 * U32 * magnitude).max(-1, keepdims=True)
    of_weight = 2 * of_score + (tiles + 1) * (3 * U32 + U32 * np.abs(products).max(-1, keepdims=True) * 2)
    error = (2 * of_weight + 2 * (keys + tiles + 2) * U32) * np.einsum("hqk,hkd->hqd", p, np.abs(wide(v)))
    params = np.array([(queries, keys, scale)], dtype=[("q", "u4"), ("k", "u4"), ("s", "f4")]).tobytes()
    launch = {"grid": (ceil_div(queries, 16), heads), "threadgroup": (128,), "threads": False}
    return Case([("attention", (q, k, v, out, params), launch)], out, np.einsum("hqk,hkd->hqd", p, wide(v)), error)


RUNS = {
    "softmax": Run("softmax", softmax),
    "layer_norm": Run("layer_norm", layer_norm),
    "gemv": Run("gemv", gemv),
    "gemm": Run("gemm", gemm),
    "sum": Run("reduce", reduce_sum),
    "max": Run("reduce", reduce_max),
    "argmax": Run("reduce", argmax),
    "scan": Run("scan", scan),
    "bitonic": Run("bitonic", bitonic),
    "attention": Run("attention", attention, constants=(("causal", True),)),
}
SOURCES = list(dict.fromkeys(run.source for run in RUNS.values()))


# ---- compiling and running -------------------------------------------------------------------------------------------


@functools.cache
def library(source: str, checked: bool) -> metal.Library:
    with metal._running(check=checked):
        return metal.Library(FOLDER / f"{source}.metal")


@functools.cache
def function(source: str, name: str, checked: bool, constants: tuple = ()) -> metal.Function:
    return library(source, checked).function(name, dict(constants))


def function_for(run: Run, step: str, dtype: np.dtype, checked: bool) -> metal.Function:
    name, _, other = step.partition(":")
    return function(run.source, f"{name}_{other}" if other else kernel_name(name, dtype), checked, run.constants)


def together(jobs: Iterable[Callable[[], object]]) -> None:
    """Compiles on all cores, which fills the cache folder. A library compiles one kernel at a time and libraries do not
    wait for each other, nor do processes: what one of them has compiled the others find. Errors are left to the test
    that asks for the kernel."""

    def run(job: Callable[[], object]) -> None:
        with contextlib.suppress(ValueError, RuntimeError, AssertionError):
            job()

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(run, jobs))


@functools.cache
def compile_all(checked: bool) -> None:
    def compile_file(source: str) -> None:
        constants = next(run.constants for run in RUNS.values() if run.source == source)
        for name in library(source, checked).function_names:
            function(source, name, checked, constants)

    for source in SOURCES:
        library(source, checked)
    together(partial(compile_file, source) for source in SOURCES)


def execute(case: Case, functions: Callable[[str], metal.Function], **settings) -> None:
    """All steps in turn, with settings as metal._running takes them."""
    with metal._running(**settings):
        for name, buffers, launch in case.steps:
            functions(name)(*buffers, **launch)
