"""Simdgroup, quad and simdgroup-matrix operations of MSL, against NumPy, in all three lane orders."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from msl_features import compile_all, from_bfloat, function, listed, to_bfloat

from metallic import metal

REDUCTIONS, BITWISE, MOVES = (listed("lanes", name) for name in ("REDUCTIONS", "BITWISE", "MOVES"))
DTYPES = {"float": np.float32, "half": np.float16, "int": np.int32, "ushort": np.uint16, "uchar": np.uint8,
          "bfloat": np.uint16}  # fmt: skip
UNDEFINED = None  # a lane that is not there is read: the result is not looked at


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    if len(request.session.items) > 20:
        compile_all(("lanes", "fragments"))


@pytest.fixture(autouse=True, params=metal.ORDERS)
def order(request):
    with metal._running(order=request.param, seed=3), np.errstate(all="ignore"):
        yield request.param


def reduced(name: str, v: np.ndarray) -> np.ndarray:
    """What each lane gets of an operation over the lanes v (float64 or Python integers), before rounding."""
    n = len(v)
    if name in ("sum", "product", "min", "max"):
        one = {"sum": v.sum(), "product": v.prod(), "min": v.min(), "max": v.max()}[name]
        return np.array([one] * n)
    total = np.cumsum(v) if name.endswith("sum") else np.cumprod(v)
    if "inclusive" in name:
        return total
    return np.concatenate([np.array([0 if name.endswith("sum") else 1], v.dtype), total[:-1]])


def moved(name: str, v: np.ndarray, delta: int, fill: int = 9, modulo: int | None = None) -> list:
    n = len(v)
    width = modulo or n
    result: list = []
    for i in range(n):
        base = i // width * width
        at = {
            "shuffle": delta, "broadcast": delta, "shuffle_xor": i ^ delta,
            "shuffle_up": i - delta if delta <= i else i,
            "shuffle_down": i + delta if i + delta < n else i, "shuffle_rotate_up": (i - delta) % n,
            "shuffle_rotate_down": (i + delta) % n, "reverse": n - 1 - i, "broadcast_first": 0,
            "shuffle_and_fill_up": base + (i - base - delta) % width,
            "shuffle_and_fill_down": base + (i - base + delta) % width,
        }[name]  # fmt: skip
        filled = (name == "shuffle_and_fill_up" and i - base < delta) or (
            name == "shuffle_and_fill_down" and i - base + delta >= width
        )
        undefined = name in ("shuffle", "broadcast", "shuffle_xor") and at >= n
        result.append(UNDEFINED if undefined else fill if filled else v[at])
    return result


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        *(("simd", k) for k in ("float", "half", "int", "ushort", "uchar")),
        *(("quad", k) for k in ("float", "int", "bfloat")),
    ],
)
@pytest.mark.parametrize("delta", [1, 3])
def test_operations(scope, kind, delta, rng):
    width, n, dtype = (32 if scope == "simd" else 4), 64, DTYPES[kind]
    if kind in ("float", "half", "bfloat"):
        values = rng.integers(-2, 3, n).astype(np.float32) / 2
        x = to_bfloat(values) if kind == "bfloat" else values.astype(dtype)
    else:
        values = rng.integers(0, 6, n)
        x = values.astype(dtype)
    rows = [*REDUCTIONS, *MOVES, "reverse", "broadcast_first", "shuffle_and_fill_up", "shuffle_and_fill_down",
            "shuffle_and_fill_up", "shuffle_and_fill_down"]  # fmt: skip
    out = np.zeros((len(rows), n), dtype)
    function("lanes", f"lanes_{scope}_{kind}")(x, out, delta, grid=(n,), threadgroup=(n,))
    got = from_bfloat(out) if kind == "bfloat" else out
    for row, name in enumerate(rows):
        for first in range(0, n, width):
            v = values[first : first + width]
            if name in REDUCTIONS:
                want = reduced(name, v.astype(np.float64 if v.dtype.kind == "f" else object))
                if v.dtype.kind != "f":
                    want = np.array([int(w) % (1 << 8 * np.dtype(dtype).itemsize) for w in want], object)
                    want = want.astype(np.uint64).astype(dtype)
            else:
                modulo = None if row < len(rows) - 2 else 8 if scope == "simd" else 2
                want = moved(name, v, delta, modulo=modulo)
            lanes = got[row, first : first + width]
            for lane, (a, b) in enumerate(zip(lanes, want, strict=True)):
                assert b is UNDEFINED or float(a) == float(b), (name, first, lane)


def test_bits_and_votes(rng):
    n = 64
    v = rng.integers(1, 256, n).astype(np.uint32)
    out = np.zeros((19, n), np.uint32)
    function("lanes", "lanes_bits")(v, out, grid=(n,), threadgroup=(n,))
    fold = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    for i in range(n):
        simd, quad = v[i // 32 * 32 : i // 32 * 32 + 32], v[i // 4 * 4 : i // 4 * 4 + 4]
        ballot = sum(int(x & 1) << k for k, x in enumerate(simd))
        quad_ballot = sum(int(x & 1) << k for k, x in enumerate(quad))
        want = [*(int(fold[k].reduce(simd)) for k in BITWISE), *(int(fold[k].reduce(quad)) for k in BITWISE)]
        want += [ballot, 0xFFFFFFFF, 1, int(any(simd > 250)), int(i % 32 == 0), quad_ballot, int(quad_ballot == 15),
                 int(quad_ballot != 0), int(i % 4 == 0), int(ballot != 0) | 2, int(simd.sum()) + 96,
                 i + 1 if i % 32 != 31 else i, int(simd.max())]  # fmt: skip
        assert out[:, i].tolist() == want, i


def test_diverged_lanes():
    n = 32
    v = np.arange(n, dtype=np.uint32) + 1
    out = np.zeros((n, 2), np.uint32)
    function("lanes", "lanes_diverged")(v, out, grid=(n,), threadgroup=(n,))
    i = np.arange(n)
    branch = np.where(i % 2 == 1, v[1::2].sum(), 1000 + v[::2].max())
    turns = [(i % 4 + 1 > k) & ~((k == 1) & (i & 4 > 0)) for k in range(4)]
    loops = sum(np.where(t, t.sum(), 0) for t in turns)
    np.testing.assert_array_equal(out[:, 0], branch + 10000 * loops)
    later = (i % 3 != 0).sum()
    want = (v.sum() + 1) * 100 + i + np.where(i % 3 == 0, 0, 1000000 * later)
    np.testing.assert_array_equal(out[:, 1], want)


def test_trees_functions_and_lambdas(rng):
    n = 96
    x = rng.integers(-50, 50, n).astype(np.float32)
    out = np.zeros((n, 3), np.float32)
    function("lanes", "lanes_tree")(x, out, grid=(n,), threadgroup=(n,))
    groups = x.reshape(-1, 32)
    np.testing.assert_array_equal(out[:, 0], np.cumsum(groups, 1).ravel())
    np.testing.assert_array_equal(out[:, 1:], np.repeat(groups.sum(1), 32)[:, None] * np.ones(2))


def test_bfloat_lanes(rng):
    x = rng.integers(-8, 9, 32).astype(np.float32)
    out = np.zeros(128, np.uint16)
    function("lanes", "lanes_bfloat")(to_bfloat(x), out, grid=(32,), threadgroup=(32,))
    i = np.arange(32)
    want = np.concatenate([np.full(32, x.sum()), np.full(32, x.max()), x[i ^ 3], np.cumsum(x)])
    np.testing.assert_array_equal(from_bfloat(out), from_bfloat(to_bfloat(want)))


def test_internals_that_libraries_build_on(rng):
    """Overloads of the library's functions for bfloat, in namespace metal, from __metal_exp and its kin."""
    x = rng.integers(-4, 5, 32).astype(np.float32)
    out = np.zeros(128, np.uint16)
    function("lanes", "lanes_internals")(to_bfloat(x), out, grid=(32,), threadgroup=(32,))
    exp = from_bfloat(to_bfloat(np.exp(x.astype(np.float64)).astype(np.float32)))
    shifted = np.concatenate([np.full(2, 7), x[:-2]])
    want = np.concatenate([np.full(32, x.min() + 3), shifted, 2 * exp, np.arange(32)])
    np.testing.assert_array_equal(from_bfloat(out), want.astype(np.float32))


# ---- simdgroup matrices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float", "half", "half_float", "bfloat_float"])
@pytest.mark.parametrize("flip", range(8))
def test_matrix_load_multiply_store(kind, flip, rng):
    """a and b are 8x8 windows of larger matrices, each perhaps transposed; so is the result."""
    flips = [flip >> k & 1 for k in range(3)]
    values = rng.integers(-4, 5, (2, 20, 24)).astype(np.float32)
    to = {"float": lambda v: v, "half": lambda v: v.astype(np.float16), "bfloat": to_bfloat}[kind.split("_")[0]]
    (ax, ay), (bx, by), (ox, oy) = (3, 5), (16, 12), (1, 7)
    windows = [v[y : y + 8, x : x + 8] for v, x, y in ((values[0], ax, ay), (values[1], bx, by))]
    a, b = (w.T if f else w for w, f in zip(windows, flips[:2], strict=True))
    want = a @ b + 1
    out = np.full((20, 16), -99, np.float16 if kind == "half" else np.float32)
    geometry = struct.pack("<3Q9I4x", 24, 24, 16, ax, ay, bx, by, ox, oy, *flips)
    function("fragments", f"fragments_{kind}")(
        to(values[0]), to(values[1]), out, geometry, grid=(32,), threadgroup=(32,)
    )
    np.testing.assert_array_equal(out[oy : oy + 8, ox : ox + 8], want.T if flips[2] else want)
    outside = np.ones_like(out, bool)
    outside[oy : oy + 8, ox : ox + 8] = False
    assert (out[outside] == -99).all()


def test_matrix_forms(rng):
    x = rng.integers(-4, 5, (8, 8)).astype(np.float32)
    h = rng.integers(-4, 5, (8, 8)).astype(np.float16)
    out = np.zeros((12, 8, 8), np.float32)
    function("fragments", "fragment_forms")(x, out, h, grid=(32,), threadgroup=(32,))
    lanes = np.arange(32)
    rows, columns = (lanes >> 4) * 4 + (lanes >> 1 & 3), (lanes >> 3 & 1) * 4 + (lanes & 1) * 2
    changed, where = x.copy(), np.zeros((8, 8), np.float32)
    changed[rows, columns] *= 2
    changed[rows, columns + 1] += 1
    where[rows, columns], where[rows, columns + 1] = lanes, lanes + 0.5
    product = x @ x.T
    want = [x, x.T, 2.5 * np.eye(8), np.full((8, 8), 3), product, 2 * product, changed,
            (2 * h.astype(np.float32) @ x.T).T,
            where, where, product, 4 * np.eye(8)]  # fmt: skip
    for k, matrix in enumerate(want):
        np.testing.assert_array_equal(out[k], matrix, err_msg=str(k))
