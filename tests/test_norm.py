"""Layer norm and rms norm against float64: dtypes, layouts, tiers, and what goes wrong elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from blocks_parity import layer_reference, rms_reference, routes
from parity import DTYPE_IDS, DTYPES, F16, F32, LAYOUTS, Guarded, assert_close, lay_out, random_array

ROUTES = routes("rms_norm")
every_route = pytest.mark.parametrize("route", ROUTES, ids=[r.id for r in ROUTES])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 500, 896, 1025, 4096, 4097, 9001]


def check(route, norm, x, *args, **kw):
    function, reference = (ml.layer_norm, layer_reference) if norm == "layer" else (ml.rms_norm, rms_reference)
    got = np.asarray(function(x, *args, ctx=route.context(), **kw))
    assert got.dtype == x.dtype
    kw.pop("out", None)
    value, error = reference(x, *args, **kw)
    assert_close(got, value, error)
    return got


@every_route
@every_dtype
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_lengths(route, norm, dtype):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        x = random_array(rng, (3, n), dtype, 2.0)
        weight, bias = random_array(rng, n, dtype), random_array(rng, n, F32)
        check(route, norm, x)
        check(route, norm, x, weight)
        if norm == "layer":
            check(route, norm, x, weight, bias)
            check(route, norm, x, None, bias)


@every_route
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(route, dtype, layout):
    rng = np.random.default_rng(2)
    x = lay_out(random_array(rng, (2, 3, 37, 41), dtype), layout)
    weight = lay_out(random_array(rng, 41, dtype), layout if layout in ("step2", "odd_offset") else "row")
    for norm in ("layer", "rms"):
        check(route, norm, x, weight)
        out = Guarded(x.shape, dtype, "step2")
        check(route, norm, x, weight, out=route.share(out.array))
        out.check()
    residual = lay_out(random_array(rng, x.shape, dtype), "padded")
    normalised, total = ml.rms_norm(x, weight, residual=residual, ctx=route.context())
    expected = (x.astype(np.float32) + residual.astype(np.float32)).astype(dtype)
    assert (np.asarray(total) == expected).all()
    assert_close(np.asarray(normalised), *rms_reference(expected, weight))


@every_route
@every_dtype
def test_residual(route, dtype):
    rng = np.random.default_rng(3)
    for n in (1, 5, 16, 40, 896, 4100, 9001):
        x, r = random_array(rng, (4, n), dtype), random_array(rng, (4, n), dtype)
        normalised, total = ml.rms_norm(x, residual=r, ctx=route.context())
        expected = (x.astype(np.float32) + r.astype(np.float32)).astype(dtype)
        assert np.asarray(total).tobytes() == expected.tobytes()
        assert_close(np.asarray(normalised), *rms_reference(expected))
        for target in (x, r):  # in place over either
            t = route.share(target.copy())
            operands = (t, r) if target is x else (x, t)
            again, total = ml.rms_norm(operands[0], residual=operands[1], out=t, ctx=route.context())
            assert again is t
            assert np.asarray(t).tobytes() == np.asarray(normalised).tobytes()
            assert np.asarray(total).tobytes() == expected.tobytes()


@every_route
@every_dtype
def test_parameters_of_any_dtype_do_not_promote(route, dtype):
    rng = np.random.default_rng(4)
    x = random_array(rng, (5, 70), dtype)
    for other in DTYPES:
        weight, bias = random_array(rng, 70, other), random_array(rng, 140, other)[::2]
        check(route, "layer", x, weight, bias)
        check(route, "rms", x, weight)


@every_route
@every_dtype
@pytest.mark.parametrize("n", [17, 896, 5000])
def test_a_large_mean_does_not_cancel(route, dtype, n):
    rng = np.random.default_rng(5)
    for offset in (100.0, 1e4, 1e6, -3e7):
        if dtype == F16 and abs(offset) > 6e4:
            continue
        x = (rng.standard_normal((6, n)) + offset).astype(np.float32).astype(dtype)
        check(route, "layer", x)


@every_route
@pytest.mark.parametrize("n", [40, 896, 1100, 5000, 9001])
def test_a_head_unlike_the_rest(route, n):
    """Whatever the first elements say about the mean."""
    rng = np.random.default_rng(15)
    for head, rest, spread in [(0.0, 1e6, 1.0), (1e6, 0.0, 1.0), (1e30, 1.0, 1.0), (-5.0, 3e4, 0.0), (1.0, 1e9, 100.0)]:
        for length in (1, 8, n // 2):
            x = (rest + spread * rng.standard_normal((3, n))).astype(F32)
            x[:, :length] = head
            check(route, "layer", x)
            check(route, "layer", x[:, ::-1])


@every_route
@every_dtype
def test_constant_rows(route, dtype):
    for value in (0.0, 1.0, -2.5, 1000.0):
        got = check(route, "layer", np.full((3, 100), value, dtype))
        assert (np.abs(got.astype(np.float32)) < 1e-3).all()
    got = np.asarray(ml.layer_norm(np.zeros((1, 9), dtype), None, np.arange(9).astype(dtype), ctx=route.context()))
    assert (got == np.arange(9)).all()


@every_route
def test_squares_out_of_range(route):
    """Neither inputs nor results leave the range, only the squares in between."""
    rng = np.random.default_rng(6)
    bf16 = [d for d in DTYPES if d.name == "bfloat16"]
    for dtype in [F32, *bf16]:
        for scale in (1e19, 1e30, 3e37):
            for n in (5, 40, 5000):
                x = random_array(rng, (3, n), dtype, scale)
                check(route, "rms", x)
                check(route, "layer", x, np.linspace(-1, 1, n, dtype=np.float32))
                check(route, "layer", lay_out(x, "step2"))
        tiny = random_array(rng, (3, 40), dtype, 1e-25)
        check(route, "rms", tiny, eps=0.0)
        check(route, "layer", tiny, eps=0.0)
        check(route, "rms", tiny)
    x = random_array(rng, (2, 100), F16, 1.0)
    x[0] = 60000.0
    check(route, "rms", x)
    check(route, "layer", x)
    denormal = np.full((2, 33), 2.0**-149, np.float32)
    check(route, "rms", denormal, eps=0.0)


@every_route
@every_dtype
def test_nan_and_inf_stay_in_their_row(route, dtype):
    rng = np.random.default_rng(7)
    for n in (3, 40, 5000):
        x = random_array(rng, (4, n), dtype)
        x[1, n // 2] = np.nan
        x[2, n - 1] = np.inf
        for norm in ("layer", "rms"):
            got = check(route, norm, x).astype(np.float32)
            assert np.isnan(got[1]).all() and np.isfinite(got[[0, 3]]).all()
        weight = random_array(rng, n, dtype)
        weight[0] = np.nan
        got = check(route, "rms", x, weight).astype(np.float32)
        assert np.isnan(got[0, 0]) and np.isfinite(got[0, 1:]).all()


@every_route
@every_dtype
def test_in_place_and_empty(route, dtype):
    rng = np.random.default_rng(8)
    x = random_array(rng, (4, 70), dtype)
    for function in (ml.layer_norm, ml.rms_norm):
        expected = np.asarray(function(x, ctx=route.context())).tobytes()
        t = route.copy(x)
        assert function(t, out=t, ctx=route.context()) is t
        assert np.asarray(t).tobytes() == expected
        for shape in [(0, 5), (5, 0), (0,), (2, 0, 3)]:
            assert np.asarray(function(np.zeros(shape, dtype), ctx=route.context())).shape == shape
        with pytest.raises(ml.ShapeError, match="out"):
            function(t[:2], out=t[1:3], ctx=route.context())
    vector = route.copy(x[0])  # out may be the weight too
    expected = np.asarray(ml.rms_norm(x[1], x[0], ctx=route.context())).tobytes()
    ml.rms_norm(x[1], vector, out=vector, ctx=route.context())
    assert np.asarray(vector).tobytes() == expected
    matrix = route.copy(x)
    with pytest.raises(ml.ShapeError, match="weight"):
        ml.rms_norm(x, matrix[0], out=matrix, ctx=route.context())


@every_route
@settings(max_examples=60)
@given(data=st.data())
def test_any_case(route, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = (*data.draw(st.lists(st.integers(0, 6), max_size=3)), data.draw(st.integers(0, 90)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = lay_out(random_array(rng, shape, dtype, 3.0), data.draw(st.sampled_from(LAYOUTS)))
    x = x + np.asarray(data.draw(st.sampled_from([0.0, 64.0])), dtype)
    eps = data.draw(st.sampled_from([1e-5, 0.5]))
    weight, bias = (
        random_array(rng, shape[-1], data.draw(st.sampled_from(DTYPES))) if data.draw(st.booleans()) else None
        for _ in range(2)
    )
    check(route, "layer", x, weight, bias, eps=eps)
    check(route, "rms", x, weight, eps=eps)


@every_route
@every_dtype
def test_bit_identical_for_any_number_of_threads(route, dtype):
    rng = np.random.default_rng(9)
    try:
        for shape in [(700, 896), (3, 40_000), (5000, 17)]:
            x, weight = random_array(rng, shape, dtype, 3.0), random_array(rng, shape[-1], dtype)
            for layout in ("row", "col"):
                results = set()
                for threads in (1, 2, 7):
                    ml.set_num_threads(threads)
                    y = ml.layer_norm(lay_out(x, layout), weight, ctx=route.context())
                    z, s = ml.rms_norm(lay_out(x, layout), weight, residual=x, ctx=route.context())
                    results.add(b"".join(np.ascontiguousarray(t).tobytes() for t in (y, z, s)))
                assert len(results) == 1, shape
    finally:
        ml.set_num_threads(0)


def test_arguments_are_checked():
    x = np.zeros((3, 4), F32)
    for function in (ml.layer_norm, ml.rms_norm):
        with pytest.raises(ml.DTypeError, match=r"x \[3, 4\] int32"):
            function(x.astype(np.int32))
        with pytest.raises(ml.ShapeError, match=r"weight \[5\] float32 strides \(1\).*\[3, 4\]"):
            function(x, np.zeros(5, F32))
        with pytest.raises(ml.ShapeError, match="weight"):
            function(x, np.zeros((1, 4), F32))
        with pytest.raises(ml.DTypeError, match="weight"):
            function(x, np.zeros(4, np.int32))
        with pytest.raises(ml.ShapeError, match="no axis"):
            function(np.float32(3.0) * np.ones((), F32))
        with pytest.raises(ml.DTypeError, match="out"):
            function(x, out=ml.empty((3, 4), ml.float16))
        with pytest.raises(ValueError, match="eps -1"):
            function(x, eps=-1.0)
        with pytest.raises(ml.DTypeError, match="x: None"):
            function(None)
    with pytest.raises(ml.ShapeError, match=r"residual \[4\] float32.*x \[3, 4\]"):
        ml.rms_norm(x, residual=np.zeros(4, F32))
    with pytest.raises(ml.DTypeError, match=r"residual \[3, 4\] float16.*x \[3, 4\] float32"):
        ml.rms_norm(x, residual=x.astype(F16))
    with pytest.raises(ml.ShapeError, match="bias"):
        ml.layer_norm(x, None, np.zeros(3, F32))


def test_explain_profile_and_metrics():
    x = np.zeros((3, 40), F32)
    plan = ml.explain(ml.rms_norm, x, np.ones(40, F16), residual=x)
    assert plan.op == "rms_norm" and plan.impl.startswith("cpu/rms_norm_")
    assert plan.bytes == 4 * 3 * 40 * 4 + 80
    assert any("read once" in why for why in plan.why)
    long = np.zeros((1, 70_000), F32)
    assert any("second reading" in why for why in ml.explain(ml.layer_norm, long).why)
    assert any("gathered" in why for why in ml.explain(ml.layer_norm, x.T).why)
    with ml.profile() as profile:
        ml.layer_norm(x)
        ml.rms_norm(x, residual=x)
    assert [r["op"] for r in profile.records] == ["layer_norm", "rms_norm"]
    assert profile.records[1]["residual"] and profile.records[1]["length"] == 40


def test_a_context_has_them_as_methods():
    x = np.ones((2, 3), F32)
    ctx = ml.Context("cpu")
    assert np.asarray(ctx.rms_norm(x, eps=0.0)).tolist() == x.tolist()
    assert np.asarray(ctx.layer_norm(x)).tolist() == (0 * x).tolist()


def test_a_device_without_the_kernel_says_so():
    for device in ml.devices():
        if not device["available"] or ml.kernels("rms_norm", device["name"]):
            continue
        with pytest.raises(ml.UnsupportedError, match="rms_norm: the device has no kernel"):
            ml.rms_norm(ml.ones((2, 3), device=device["name"]))
