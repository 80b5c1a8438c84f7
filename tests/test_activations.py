"""GELU, SiLU and SwiGLU against float64: every 16-bit value, dtypes, layouts, tiers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from blocks_parity import gelu, gelu_tanh, routes, silu
from parity import DTYPE_IDS, DTYPES, F16, F32, LAYOUTS, U32, Guarded, assert_close, lay_out, random_array, wide

ROUTES = routes("gelu")
every_route = pytest.mark.parametrize("route", ROUTES, ids=[r.id for r in ROUTES])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
FUNCTIONS = {
    "gelu": (lambda x, **kw: ml.gelu(x, **kw), gelu, 0.6),
    "gelu_tanh": (lambda x, **kw: ml.gelu(x, "tanh", **kw), gelu_tanh, 3.0),
    "silu": (lambda x, **kw: ml.silu(x, **kw), silu, 0.0),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def error_of(name, x, value):
    """Relative roundings, and those of the exponential's argument, which grow as its square does; what 16-bit results
    allow; and what e^x loses where it is subnormal."""
    x = wide(x)
    with np.errstate(all="ignore"):
        units = 8 + FUNCTIONS[name][2] * np.where(x < 0, np.square(x), 0)
        short = 0 if np.dtype(x.dtype) == F32 else 2.0**-17
        error = (units * U32 + short) * np.maximum(np.abs(value), 2.0**-126) + np.abs(x) * 2.0**-149
    return np.where(np.isfinite(error), error, 0)


def check(route, name, x, **kw):
    function, reference, _ = FUNCTIONS[name]
    got = np.asarray(function(x, ctx=route.context(), **kw))
    assert got.dtype == x.dtype
    value = reference(x)
    assert_close(got, value, error_of(name, x, value))
    return got


@every_route
@every_function
def test_every_16_bit_value_and_many_floats(route, name):
    bits = np.arange(1 << 16, dtype=np.uint16)
    for dtype in DTYPES:
        if dtype == F32:
            x = np.arange(7, 1 << 32, 65537, dtype=np.uint64).astype(np.uint32).view(np.float32)
        else:
            x = bits.view(dtype).copy()
        with np.errstate(invalid="ignore"):
            x[np.isnan(x)] = np.nan  # NumPy complains about signalling ones
        got = check(route, name, x)
        assert (np.isnan(got) == np.isnan(x)).all()


@every_route
@every_dtype
@every_function
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(route, name, dtype, layout):
    rng = np.random.default_rng(1)
    x = lay_out(random_array(rng, (2, 3, 37, 41), dtype, 3.0), layout)
    check(route, name, x)
    out = Guarded(x.shape, dtype, "step2")
    check(route, name, x, out=route.share(out.array))
    out.check()


@every_route
@every_dtype
def test_limits(route, dtype):
    x = np.array([0.0, np.inf, -np.inf, np.nan, 60000.0, -60000.0], dtype)
    for name in FUNCTIONS:
        got = np.asarray(FUNCTIONS[name][0](x, ctx=route.context())).astype(np.float64)
        assert got[0] == 0 and got[1] == np.inf and got[2] == 0 and np.isnan(got[3])
        assert got[4] == float(x[4]) and got[5] == 0
    got = np.asarray(ml.swiglu(x, np.zeros(6, dtype), ctx=route.context())).astype(np.float64)
    assert np.isnan(got[[1, 3]]).all() and (got[[0, 2, 4, 5]] == 0).all()


@every_route
@every_dtype
def test_swiglu(route, dtype):
    rng = np.random.default_rng(2)
    for shape, other in [((3, 100), (3, 100)), ((2, 1, 33), (5, 1)), ((7,), (4, 7)), ((4, 40), ())]:
        gate, up = random_array(rng, shape, dtype, 3.0), random_array(rng, other, dtype)
        got = np.asarray(ml.swiglu(gate, up, ctx=route.context()))
        value = silu(gate)
        error = error_of("silu", gate, value)
        assert got.dtype == dtype and got.shape == np.broadcast_shapes(shape, other)
        product = value * wide(up)
        assert_close(got, product, error * np.abs(wide(up)) + U32 * np.abs(product))
    x = random_array(rng, (5, 70), dtype, 2.0)
    expected = np.asarray(ml.swiglu(x, x, ctx=route.context())).tobytes()
    for k in range(2):  # in place over either operand
        t = route.copy(x)
        operands = (t, x) if k == 0 else (x, t)
        assert ml.swiglu(*operands, out=t, ctx=route.context()) is t
        assert np.asarray(t).tobytes() == expected


@every_route
def test_swiglu_promotes(route):
    rng = np.random.default_rng(3)
    for a in DTYPES:
        for b in DTYPES:
            got = np.asarray(ml.swiglu(random_array(rng, (3, 9), a), random_array(rng, (3, 9), b), ctx=route.context()))
            assert got.dtype == (a if a == b else F32)
    gate, up = random_array(rng, (3, 600), F16), random_array(rng, (3, 1200), F32)[:, ::2]
    value = silu(gate)
    product = value * up
    error = error_of("silu", gate.astype(F32), value) * np.abs(up) + U32 * np.abs(product)
    assert_close(np.asarray(ml.swiglu(gate, up, ctx=route.context())), product, error)


@every_route
@every_dtype
def test_in_place_and_empty(route, dtype):
    rng = np.random.default_rng(4)
    x = random_array(rng, (4, 70), dtype)
    for function, _, _ in FUNCTIONS.values():
        expected = np.asarray(function(x, ctx=route.context())).tobytes()
        t = route.copy(x)
        assert function(t, out=t, ctx=route.context()) is t
        assert np.asarray(t).tobytes() == expected
        for shape in [(0, 5), (0,), (), (1, 1)]:
            assert np.asarray(function(np.zeros(shape, dtype), ctx=route.context())).shape == shape
        with pytest.raises(ml.ShapeError, match="out"):
            function(t[:2], out=t[1:3], ctx=route.context())


@every_route
@settings(max_examples=60)
@given(data=st.data())
def test_any_case(route, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = tuple(data.draw(st.lists(st.integers(0, 40), max_size=4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = lay_out(random_array(rng, shape, dtype, 5.0), data.draw(st.sampled_from(LAYOUTS))) if shape else None
    if x is not None:
        check(route, data.draw(st.sampled_from(list(FUNCTIONS))), x)


@every_route
@every_dtype
def test_bit_identical_for_any_number_of_threads(route, dtype):
    rng = np.random.default_rng(5)
    x = random_array(rng, (300, 1001), dtype, 3.0)
    try:
        for layout in ("row", "col"):
            results = set()
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                y = lay_out(x, layout)
                parts = [ml.gelu(y, ctx=route.context()), ml.swiglu(y, x, ctx=route.context())]
                results.add(b"".join(np.ascontiguousarray(t).tobytes() for t in parts))
            assert len(results) == 1
    finally:
        ml.set_num_threads(0)


def test_arguments_are_checked():
    x = np.zeros((3, 4), F32)
    with pytest.raises(ml.DTypeError, match=r"gelu: x \[3, 4\] int32"):
        ml.gelu(x.astype(np.int32))
    with pytest.raises(ValueError, match="approximate"):
        ml.gelu(x, "sigmoid")
    with pytest.raises(ml.DTypeError, match="silu: out"):
        ml.silu(x, out=ml.empty((3, 4), ml.float16))
    with pytest.raises(ml.ShapeError, match=r"gate \[3, 4\] float32.*up \[3\] float32.*broadcast"):
        ml.swiglu(x, np.zeros(3, F32))
    with pytest.raises(ml.DTypeError, match="up: None"):
        ml.swiglu(x, None)
    with pytest.raises(ml.ShapeError, match=r"out is \[2\] float32"):
        ml.silu(x, out=ml.empty((2,)))


def test_explain_and_profile():
    x = np.zeros((3, 40), F32)
    plan = ml.explain(ml.swiglu, x, x)
    assert plan.op == "swiglu" and plan.impl.startswith("cpu/swiglu_") and plan.bytes == 3 * 480
    assert any("gathered" in why for why in ml.explain(ml.gelu, x[:, ::2]).why)
    with ml.profile() as profile:
        ml.gelu(x, "tanh")
        ml.silu(x)
    assert [r["op"] for r in profile.records] == ["gelu", "silu"]
    assert profile.records[0]["approximate"] == "tanh"
