"""Rotary positions against float64: both pairings, offsets, partial dims, layouts, tiers, far positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from blocks_parity import rope_reference, routes
from parity import DTYPE_IDS, DTYPES, F16, F32, LAYOUTS, Guarded, assert_close, lay_out, random_array

ROUTES = routes("rope")
every_route = pytest.mark.parametrize("route", ROUTES, ids=[r.id for r in ROUTES])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
every_pairing = pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])


def check(route, x, *, out=None, **kw):
    got = np.asarray(ml.rope(x, out=out, ctx=route.context(), **kw))
    assert got.dtype == x.dtype
    assert_close(got, *rope_reference(x, **kw))
    return got


@every_route
@every_dtype
@every_pairing
def test_widths(route, dtype, interleaved):
    rng = np.random.default_rng(1)
    for width in (2, 4, 6, 16, 30, 32, 34, 64, 80, 128, 130):
        x = random_array(rng, (2, 3, 5, width), dtype)
        check(route, x, interleaved=interleaved)
        check(route, x, interleaved=interleaved, offset=100, base=500000.0, scale=0.25)


@every_route
@every_dtype
@every_pairing
def test_only_the_first_dims_turn(route, dtype, interleaved):
    rng = np.random.default_rng(2)
    x = random_array(rng, (2, 7, 41), dtype)
    for dims in (2, 6, 32, 40):
        got = check(route, x, dims=dims, interleaved=interleaved, offset=3)
        assert got[..., dims:].tobytes() == x[..., dims:].tobytes()
        stepped = check(route, lay_out(x, "step2"), dims=dims, interleaved=interleaved, offset=3)
        assert stepped.tobytes() == got.tobytes()


@every_route
@every_dtype
@every_pairing
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(route, dtype, interleaved, layout):
    rng = np.random.default_rng(3)
    x = lay_out(random_array(rng, (2, 3, 37, 20), dtype), layout)
    check(route, x, interleaved=interleaved, offset=9)
    out = Guarded(x.shape, dtype, "step2")
    check(route, x, interleaved=interleaved, out=route.share(out.array))
    out.check()
    tokens_first = random_array(rng, (2, 37, 3, 20), dtype).swapaxes(1, 2)  # [B, L, H, D] in memory
    check(route, tokens_first, interleaved=interleaved)


@every_route
@every_pairing
def test_offsets(route, interleaved):
    rng = np.random.default_rng(4)
    x = random_array(rng, (3, 2, 21, 16), F32)
    for offset in (0, 1, -5, 4095, [0, 7, 1000], (5, 5, 5), np.array([1, 2, 3])):
        got = check(route, x, offset=offset, interleaved=interleaved)
        if not isinstance(offset, int):
            for b in range(3):
                one = ml.rope(x[b : b + 1], offset=int(offset[b]), interleaved=interleaved, ctx=route.context())
                assert np.asarray(one).tobytes() == got[b : b + 1].tobytes()
    # a token with a cache stands where it would in the whole sequence
    whole = check(route, x, interleaved=interleaved)
    last = check(route, x[:, :, 20:], offset=20, interleaved=interleaved)
    assert last.tobytes() == np.ascontiguousarray(whole[:, :, 20:]).tobytes()
    assert np.asarray(ml.rope(x[:0], offset=[], ctx=route.context())).shape == (0, 2, 21, 16)


@every_route
@every_pairing
def test_far_positions_are_as_exact_as_near_ones(route, interleaved):
    rng = np.random.default_rng(5)
    x = random_array(rng, (1, 33, 64), F32)
    for offset in (100_000, 10_000_019, 1 << 31):
        check(route, x, offset=offset, interleaved=interleaved)


@every_route
@every_dtype
@every_pairing
def test_nan_and_inf_stay_in_their_pair(route, dtype, interleaved):
    x = np.ones((3, 16), dtype)
    x[1, 4] = np.nan
    x[2, 5] = np.inf
    got = np.asarray(ml.rope(x, offset=1, interleaved=interleaved, ctx=route.context())).astype(np.float64)
    bad = np.zeros((3, 16), bool)
    partner = {4: 5, 5: 4} if interleaved else {4: 12, 5: 13}
    bad[1, [4, partner[4]]] = True
    bad[2, [5, partner[5]]] = True
    assert (np.isfinite(got) == ~bad).all()


@every_route
@every_dtype
@every_pairing
def test_in_place_and_empty(route, dtype, interleaved):
    rng = np.random.default_rng(6)
    x = random_array(rng, (2, 4, 24), dtype)
    for dims in (None, 16):
        expected = np.asarray(ml.rope(x, dims=dims, interleaved=interleaved, ctx=route.context())).tobytes()
        t = route.copy(x)
        assert ml.rope(t, dims=dims, interleaved=interleaved, out=t, ctx=route.context()) is t
        assert np.asarray(t).tobytes() == expected
    for shape in [(0, 4), (3, 0), (2, 0, 3, 8), (0, 2, 3, 8)]:
        got = ml.rope(np.zeros(shape, dtype), interleaved=interleaved, ctx=route.context())
        assert np.asarray(got).shape == shape
    with pytest.raises(ml.ShapeError, match="out"):
        ml.rope(t[:1], out=t[:1, ::-1], ctx=route.context())


@every_route
@settings(max_examples=60)
@given(data=st.data())
def test_any_case(route, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    lead = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    width = 2 * data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = random_array(rng, (*lead, data.draw(st.integers(1, 40)), width), dtype)
    listed = len(lead) > 0 and data.draw(st.booleans())
    check(
        route,
        lay_out(x, data.draw(st.sampled_from(LAYOUTS))),
        offset=[int(v) for v in rng.integers(-50, 5000, lead[0])] if listed else data.draw(st.integers(-9, 9999)),
        dims=data.draw(st.sampled_from([None, 2, width])),
        interleaved=data.draw(st.booleans()),
        base=data.draw(st.sampled_from([10000.0, 1e6, 2.5])),
        scale=data.draw(st.sampled_from([1.0, 0.125, -1.0])),
    )


@every_route
@every_dtype
def test_bit_identical_for_any_number_of_threads(route, dtype):
    rng = np.random.default_rng(7)
    try:
        for shape in [(2, 14, 300, 64), (64, 14, 1, 64)]:
            x = random_array(rng, shape, dtype)
            results = set()
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                results.add(np.asarray(ml.rope(x, offset=list(range(shape[0])), ctx=route.context())).tobytes())
            assert len(results) == 1, shape
    finally:
        ml.set_num_threads(0)


def test_arguments_are_checked():
    x = np.zeros((2, 3, 4, 6), F32)
    with pytest.raises(ml.DTypeError, match=r"rope: x \[2, 3, 4, 6\] int32"):
        ml.rope(x.astype(np.int32))
    with pytest.raises(ml.ShapeError, match=r"x \[6\] float32"):
        ml.rope(x[0, 0, 0])
    for dims in (0, -2, 3, 8):
        with pytest.raises(ml.ShapeError, match=f"dims {dims}"):
            ml.rope(x, dims=dims)
    with pytest.raises(ml.ShapeError, match="dims 5"):
        ml.rope(x[..., :5])
    with pytest.raises(ml.ShapeError, match=r"3 offsets.*\[2, 3, 4, 6\]"):
        ml.rope(x, offset=[1, 2, 3])
    with pytest.raises(ml.ShapeError, match="2 offsets"):
        ml.rope(x[0, 0], offset=[1, 2])
    with pytest.raises(TypeError, match="offset"):
        ml.rope(x, offset=1.5)
    with pytest.raises(TypeError, match="offset"):
        ml.rope(x, offset=[1, "a"])
    for base in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="base"):
            ml.rope(x, base=base)
    with pytest.raises(ValueError, match="scale"):
        ml.rope(x, scale=np.nan)
    with pytest.raises(ValueError, match="offset"):
        ml.rope(x, offset=1 << 60)
    for offset in (10**30, [0, -(10**30)]):
        with pytest.raises(OverflowError, match=r"offset: -?10+ does not fit 64 bits"):
            ml.rope(x, offset=offset)
    with pytest.raises(ml.DTypeError, match="rope: out"):
        ml.rope(x, out=ml.empty((2, 3, 4, 6), ml.float16))


def test_explain_and_profile():
    x = np.zeros((2, 3, 4, 8), F16)
    plan = ml.explain(ml.rope, x, offset=[1, 2])
    assert plan.op == "rope" and plan.impl.startswith("cpu/rope_") and plan.bytes == 2 * x.nbytes
    with ml.profile() as profile:
        ml.rope(x, offset=5, dims=4, interleaved=True)
    record = profile.records[0]
    assert (record["op"], record["offset"], record["dims"], record["interleaved"]) == ("rope", 5, 4, True)
