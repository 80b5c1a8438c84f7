"""Matmul against float64 on every route (device, ISA tier, backend), dtype, layout and epilogue."""

from __future__ import annotations

import numpy as np
import pytest

import metallic as ml
from parity import (
    BF16,
    DTYPE_IDS,
    DTYPES,
    F16,
    F32,
    LAYOUTS,
    Guarded,
    assert_close,
    lay_out,
    random_array,
    reference_matmul,
    route_ids,
    routes,
)

all_routes = pytest.mark.parametrize("route", routes(), ids=route_ids())
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)

EDGES = [1, 2, 3, 5, 8, 13, 16, 17, 31, 33]
SHAPES = (
    [(m, n, 7) for m in EDGES for n in EDGES]
    + [(m, 1, k) for m in (1, 4, 63, 130) for k in (1, 15, 64, 257, 1000)]
    + [(1, n, k) for n in (4, 63, 130) for k in (1, 15, 64, 257, 1000)]
    + [(64, 64, 64), (65, 63, 129), (130, 70, 300), (100, 16, 513), (16, 100, 513), (300, 200, 600)]
)


def check(route, a, b, out_dtype, *, prefs=None, out=None, **kw):
    got = ml.matmul(a, b, out=out, ctx=route.context(**(prefs or {})), **kw)
    kw = {k: v for k, v in kw.items() if k in ("alpha", "beta", "c", "bias", "activation")}
    result, error = reference_matmul(a, b, **kw)
    got = np.asarray(got)
    assert got.dtype == out_dtype
    assert_close(got, result, error)
    return got


@all_routes
@all_dtypes
def test_shapes(route, dtype):
    rng = np.random.default_rng(1)
    for m, n, k in SHAPES:
        check(route, random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype), dtype)


@all_routes
@all_dtypes
@pytest.mark.parametrize("layout_b", LAYOUTS)
def test_layouts(route, dtype, layout_b):
    rng = np.random.default_rng(2)
    for layout_a in LAYOUTS:
        for m, n, k in [(1, 67, 131), (67, 1, 131), (5, 7, 33), (70, 45, 90), (20, 6, 70)]:
            a = lay_out(random_array(rng, (m, k), dtype), layout_a)
            b = lay_out(random_array(rng, (k, n), dtype), layout_b)
            check(route, a, b, dtype)


@all_routes
@pytest.mark.parametrize("dtypes", [(F32, F16), (F16, F32), (F32, BF16), (BF16, F16), (F16, BF16)], ids=str)
def test_mixed_dtypes_promote_to_f32(route, dtypes):
    if None in dtypes:
        pytest.skip("ml_dtypes is not installed: no bfloat16 arrays")
    rng = np.random.default_rng(3)
    for m, n, k in [(1, 40, 65), (40, 1, 65), (33, 35, 65)]:
        check(route, random_array(rng, (m, k), dtypes[0]), random_array(rng, (k, n), dtypes[1]), F32)


@all_routes
@all_dtypes
@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "silu", "relu"])
def test_epilogue(route, dtype, activation):
    rng = np.random.default_rng(4)
    for m, n, k in [(1, 50, 40), (50, 1, 40), (4, 4, 4), (37, 41, 300), (70, 15, 20)]:
        a, b = random_array(rng, (m, k), dtype, 0.3), random_array(rng, (k, n), dtype, 0.3)
        for alpha, beta in [(1.0, 0.0), (0.5, 2.0), (-1.25, 1.0), (0.0, 0.5), (0.0, 0.0)]:
            c = random_array(rng, (m, n), dtype)
            for bias in (None, random_array(rng, (n,), dtype), random_array(rng, (m, 1), dtype)):
                check(route, a, b, dtype, alpha=alpha, beta=beta, c=c, bias=bias, activation=activation)


@all_routes
@all_dtypes
@pytest.mark.parametrize("layout", ["row", "col", "padded", "sliced", "negative", "odd_offset", "step2"])
def test_strided_out_and_c_together(route, dtype, layout):
    rng = np.random.default_rng(5)
    for m, n, k in [(1, 19, 30), (19, 1, 30), (6, 5, 4), (33, 47, 50)]:
        a = lay_out(random_array(rng, (m, k), dtype), "sliced")
        b = lay_out(random_array(rng, (k, n), dtype), "col")
        for c_layout in ("row", "col", "sliced", "repeat_row", "negative"):
            c = lay_out(random_array(rng, (m, n), dtype), c_layout)
            out = Guarded((m, n), dtype, layout)
            check(route, a, b, dtype, out=route.share(out.array), beta=0.75, alpha=2.0, c=c)
            out.check()
        for alpha in (1.0, 0.0):  # NaN-filled out: beta == 0 must not read it
            out = Guarded((m, n), dtype, layout)
            check(route, a, b, dtype, out=route.share(out.array), alpha=alpha, c=np.full((m, n), np.nan, dtype))
            out.check()


@all_routes
@all_dtypes
def test_out_is_c(route, dtype):
    rng = np.random.default_rng(6)
    for m, n, k in [(1, 33, 20), (33, 1, 20), (30, 40, 700), (130, 70, 900)]:
        a, b, c = (random_array(rng, s, dtype, 0.5) for s in ((m, k), (k, n), (m, n)))
        result, error = reference_matmul(a, b, alpha=0.5, beta=-2.0, c=c)
        for explicit in (True, False):
            out = route.copy(c)
            got = ml.matmul(
                a, b, alpha=0.5, beta=-2.0, out=out, ctx=route.context(), **({"c": out} if explicit else {})
            )
            assert got is out
            assert_close(np.asarray(out), result, error)


@all_routes
@all_dtypes
def test_alpha_zero_reads_neither_operand(route, dtype):
    for m, n, k in [(1, 20, 5), (20, 1, 5), (40, 50, 60)]:
        a, b = np.full((m, k), np.nan, dtype), np.full((k, n), np.inf, dtype)
        c = np.ones((m, n), dtype)
        got = ml.matmul(a, b, alpha=0.0, beta=2.0, c=c, bias=np.ones(n, dtype), ctx=route.context())
        assert (np.asarray(got) == 3).all()


@all_routes
@all_dtypes
def test_empty_and_k_zero(route, dtype):
    ctx = route.context()
    for m, n, k in [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 5, 0), (5, 1, 0)]:
        a, b = np.zeros((m, k), dtype), np.zeros((k, n), dtype)
        out = np.asarray(ml.matmul(a, b, ctx=ctx))
        assert out.shape == (m, n) and (out == 0).all()
        c, bias = np.full((m, n), 2, dtype), np.full(n, -5, dtype)
        out = np.asarray(ml.matmul(a, b, beta=1.5, c=c, bias=bias, activation="relu", ctx=ctx))
        assert (out == 0).all()
        out = np.asarray(ml.matmul(a, b, beta=3, c=c, bias=bias, ctx=ctx))
        assert (out == 1).all()
        if k == 0:
            for alpha in (np.inf, np.nan):
                out = np.asarray(ml.matmul(a, b, alpha=alpha, beta=3, c=c, bias=bias, ctx=ctx))
                assert (out == 1).all()
    assert np.asarray(ml.matmul(np.zeros((0, 2, 3), dtype), np.zeros((3, 4), dtype), ctx=ctx)).shape == (0, 2, 4)


@all_routes
@all_dtypes
def test_batches_and_vectors(route, dtype):
    rng = np.random.default_rng(7)
    cases = [
        ((3, 5, 6), (3, 6, 4)), ((3, 5, 6), (6, 4)), ((5, 6), (3, 6, 4)), ((2, 1, 5, 6), (1, 3, 6, 4)),
        ((2, 3, 4, 5, 6), (4, 6, 7)), ((6,), (6,)), ((6,), (6, 4)), ((5, 6), (6,)), ((3, 5, 6), (6,)),
        ((6,), (2, 6, 3)), ((7, 1, 40), (40, 30)), ((2, 33, 40), (2, 40, 50)), ((16, 4, 4), (16, 4, 4)),
    ]  # fmt: skip
    for shape_a, shape_b in cases:
        a, b = random_array(rng, shape_a, dtype), random_array(rng, shape_b, dtype)
        check(route, a, b, dtype)
        if a.ndim > 2:  # batch strides of a larger array, reversed, and repeated
            big = np.repeat(a, 2, axis=0)
            check(route, big[::2], b, dtype)
            check(route, a[::-1], b, dtype)
            check(route, np.broadcast_to(a[:1], a.shape), b, dtype)
    a, b = random_array(rng, (4, 9, 8), dtype), random_array(rng, (4, 8, 6), dtype)
    check(route, a, b, dtype, beta=1.5, c=random_array(rng, (9, 6), dtype), bias=random_array(rng, (6,), dtype))
    out = Guarded((4, 9, 6), dtype, "step2")
    check(route, a, b, dtype, out=route.share(out.array))
    out.check()


@all_routes
@all_dtypes
def test_transpose_flags(route, dtype):
    rng = np.random.default_rng(8)
    for m, n, k in [(1, 33, 40), (33, 1, 40), (34, 35, 36)]:
        a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
        result, error = reference_matmul(a, b)
        for ta in (False, True):
            for tb in (False, True):
                got = ml.matmul(
                    np.ascontiguousarray(a.T) if ta else a,
                    np.ascontiguousarray(b.T) if tb else b,
                    transpose_a=ta,
                    transpose_b=tb,
                    ctx=route.context(),
                )
                assert_close(np.asarray(got), result, error, dtype)


@all_routes
@all_dtypes
def test_ragged(route, dtype):
    rng = np.random.default_rng(9)
    counts = [3, 0, 17, 1, 40]
    a, b = random_array(rng, (sum(counts), 24), dtype), random_array(rng, (len(counts), 24, 19), dtype)
    got = np.asarray(ml.matmul_ragged(a, b, counts, ctx=route.context()))
    start = 0
    for g, rows in enumerate(counts):
        assert_close(got[start : start + rows], *reference_matmul(a[start : start + rows], b[g]))
        start += rows


@all_routes
def test_values_beyond_half_range_in_between(route):
    # the sum passes 2.9e5, beyond f16, while operands and result are representable
    a = np.full((4, 32), 300, F16)
    b = np.full((32, 40), 300, F16)
    b[16:] = -300
    assert (np.asarray(ml.matmul(a, b, ctx=route.context())) == 0).all()
    assert np.isinf(np.asarray(ml.matmul(a, np.abs(b), ctx=route.context()))).all()
    small = np.asarray(ml.matmul(a, np.abs(b), alpha=1e-3, ctx=route.context()))
    assert_close(small, *reference_matmul(a, np.abs(b), alpha=float(np.float32(1e-3))))


@all_routes
@all_dtypes
def test_nan_and_inf_travel_like_numpy(route, dtype):
    rng = np.random.default_rng(10)
    for m, n, k in [(1, 40, 30), (40, 1, 30), (20, 21, 22)]:
        a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
        a[0, 3] = np.nan
        b[5, n // 2] = np.inf
        got = np.asarray(ml.matmul(a, b, ctx=route.context())).astype(np.float64)
        with np.errstate(invalid="ignore"):
            expected = a.astype(np.float64) @ b.astype(np.float64)
        assert (np.isnan(got) == np.isnan(expected)).all()
        assert (np.isinf(got) == np.isinf(expected)).all()


@all_routes
def test_many_columns_with_k_one(route):
    n = 40_000
    a, b = np.arange(3, dtype=F32).reshape(3, 1), np.arange(n, dtype=F32).reshape(1, n)
    assert (np.asarray(ml.matmul(a, b, ctx=route.context())) == a * b).all()
    assert (np.asarray(ml.matmul(b.T, a.T, ctx=route.context())) == (a * b).T).all()


@all_routes
def test_offsets_beyond_2_31_elements(route):
    # a sparse array of 2^31 + 4096 halfs: only the pages that are touched exist
    ld = 2**30 + 2048
    big = np.zeros((3, ld), F16)
    rng = np.random.default_rng(11)
    a, b = random_array(rng, (2, 40), F16), random_array(rng, (40, 24), F16)
    view = big[::2, -40:]  # its last row lies beyond 2^31 elements
    view[...] = a
    check(route, view, b, F16)
    check(route, b.T, view.T, F16)
    if route.device == "cpu":  # a GPU writes it through a copy of the whole range
        out = ml.asarray(big)[::-2, -24:]
        ml.matmul(a, b, out=out, ctx=route.context())
        assert_close(big[::-2, -24:], *reference_matmul(a, b))


ours = pytest.mark.parametrize("route", [r for r in routes() if r.backend in ("mlx", "gemv")], ids=lambda r: r.id)


@ours
@all_dtypes
def test_bit_identical_for_any_number_of_threads(route, dtype):
    rng = np.random.default_rng(12)
    shapes = [(1, 900, 700), (900, 1, 700), (3, 40, 20_000), (250, 270, 500), (130, 9, 1200), (40, 2, 40_000)]
    try:
        for m, n, k in shapes:
            a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
            results = []
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                results.append(np.asarray(ml.matmul(a, b, ctx=route.context())).tobytes())
            assert results[0] == results[1] == results[2], (m, n, k)
    finally:
        ml.set_num_threads(0)


@pytest.mark.parametrize(
    "route", [r for r in routes() if r.device == "cpu" and r.backend == "gemv"], ids=lambda r: r.id
)
@all_dtypes
def test_bit_identical_wherever_the_weights_lie(route, dtype):
    rng = np.random.default_rng(14)
    ctx, size = route.context(), np.dtype(dtype).itemsize
    for m, k, gap in [(21, 896, 0), (9, 30, 2), (5, 1, 3), (21, 901, 0), (21, 901, 27), (17, 6500, 0), (19, 6528, 32)]:
        w, x = random_array(rng, (m, k), dtype), random_array(rng, (1, k), dtype)
        results = set()
        for place in (0, 1, 2, 8, 16, 128 // size - 1):  # elements behind the start of a cache line
            memory = np.full(m * (k + gap) + 256, np.nan, np.float32).astype(dtype)
            begin = -memory.ctypes.data % 64 // size + place
            lies = memory[begin : begin + m * (k + gap)].reshape(m, k + gap)[:, :k]
            lies[...] = w
            for x_place in (0, 3, place):
                memory_x = np.full(k + 256, np.nan, np.float32).astype(dtype)
                begin_x = -memory_x.ctypes.data % 64 // size + x_place
                lies_x = memory_x[begin_x : begin_x + k].reshape(1, k)
                lies_x[...] = x
                got = np.asarray(ml.matmul(lies_x, lies, transpose_b=True, ctx=ctx))
                results.add(got.tobytes())
        assert len(results) == 1, (m, k, gap)
        assert_close(got, *reference_matmul(x, w.T))


@pytest.mark.parametrize(
    "route", [r for r in routes() if r.device == "cpu" and r.backend == "gemv"], ids=lambda r: r.id
)
@all_dtypes
def test_many_columns_bit_identical_wherever_they_lie(route, dtype):
    """Columns in rows without gaps, apart, and 4 KiB apart; weights at any place, with gaps of both kinds."""
    rng = np.random.default_rng(15)
    ctx, size = route.context(), np.dtype(dtype).itemsize
    try:
        for m, n, k in [(150, 16, 1100), (270, 16, 300), (43, 14, 515), (37, 13, 9)]:
            w, x = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
            pitched = np.zeros((k, 4096 // size), dtype)[:, :n]
            pitched[...] = x
            results = set()
            for weights in (w, lay_out(w, "odd_offset"), lay_out(w, "sliced"), lay_out(w, "step2")):
                for columns in (x, lay_out(x, "odd_offset"), lay_out(x, "sliced"), pitched):
                    for threads in (1, 2, 7):
                        ml.set_num_threads(threads)
                        results.add(np.asarray(ml.matmul(weights, columns, ctx=ctx)).tobytes())
            assert len(results) == 1, (m, n, k)
            check(route, w, lay_out(x, "negative"), dtype)
            assert_close(np.asarray(ml.matmul(w, x, ctx=ctx)), *reference_matmul(w, x))
    finally:
        ml.set_num_threads(0)


@pytest.mark.parametrize(
    "route", [r for r in routes() if r.device == "cpu" and r.backend in ("mlx", "gemv")], ids=lambda r: r.id
)
@all_dtypes
def test_weights_with_gaps_or_backwards(route, dtype):
    """More than a block of what is collected on the way, both ways; the same bits for any number of threads."""
    rng = np.random.default_rng(13)
    try:
        for m, n, k in [(700, 1, 1100), (410, 6, 1100), (11, 410, 1100)]:
            a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
            for layout in ("step2", "negative"):
                for along_k in (True, False):
                    x, y = (lay_out(v, layout) if along_k else lay_out(v.T, layout).T for v in (a, b))
                    ml.set_num_threads(2)
                    got = check(route, x, y, dtype)
                    for threads in (1, 7):
                        ml.set_num_threads(threads)
                        again = np.asarray(ml.matmul(x, y, ctx=route.context()))
                        assert again.tobytes() == got.tobytes(), (m, n, k, layout, along_k, threads)
    finally:
        ml.set_num_threads(0)


@all_routes
@all_dtypes
def test_one_dispatch_without_copies(route, dtype):
    rng = np.random.default_rng(13)
    a = lay_out(random_array(rng, (70, 50), dtype), "sliced")
    b = lay_out(random_array(rng, (50, 60), dtype), "col")
    c = lay_out(random_array(rng, (70, 60), dtype), "padded")
    with ml.profile() as prof:
        ml.matmul(a, b, beta=0.5, c=c, ctx=route.context())
    (record,) = prof.records
    assert record["op"] == "matmul" and record["dispatches"] == 1
    if route.device == "cpu":
        assert record["copied_bytes"] == 0
    else:  # the arrays went to the device's memory; tensors that are there stay where they are
        a, b, c = (route.copy(x) for x in (a, b, c))
        ml.matmul(a, b, ctx=route.context())  # the copies are counted there
        with ml.profile() as prof:
            ml.matmul(a[1:, 2:], b[2:], beta=0.5, c=c[1:], ctx=route.context())
        assert [(r["dispatches"], r["copied_bytes"]) for r in prof.records] == [(1, 0)]


def test_plan_names_what_ran():
    a, b = np.ones((64, 64), F16), np.ones((64, 64), F16)
    with ml.prefs(matmul_backend="mps"), ml.profile() as prof:
        plan = ml.explain(ml.matmul, a, b)
        ml.matmul(a, b)
    assert plan.backend != "mps" and any("dtype" in reason for reason in plan.why)
    assert prof.records[0]["impl"] == plan.impl
    with pytest.raises(ml.UnsupportedError, match="mps"):
        ml.matmul(a, b, backend="mps", ctx=ml.Context("cpu", strict=True))
