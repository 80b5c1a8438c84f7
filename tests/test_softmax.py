"""Softmax against float64 on every variant, dtype, axis, layout and mask; one test per rule of the semantics page."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from attention_parity import softmax_error, softmax_reference, variants
from parity import DTYPE_IDS, DTYPES, F16, F32, LAYOUTS, U32, Guarded, assert_close, lay_out, random_array

VARIANTS = variants("softmax")
every_variant = pytest.mark.parametrize(("route", "variant"), VARIANTS, ids=[f"{r.id}-{v}" for r, v in VARIANTS])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 513, 1000, 1024, 1025, 4097]


def check(route, variant, x, *, out=None, **kw):
    got = ml.softmax(x, variant=variant, out=out, ctx=route.context(), **kw)
    array = np.asarray(got)
    assert array.dtype == x.dtype
    result = softmax_reference(x, **kw)
    error = softmax_error(x, result, scale=kw.get("scale", 1.0), mask=kw.get("mask"), axis=kw.get("axis", -1))
    assert_close(array, result, error)
    return array


@every_variant
@every_dtype
def test_lengths(route, variant, dtype):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        check(route, variant, random_array(rng, (3, n), dtype, 4.0))
        check(route, variant, random_array(rng, (2, n), dtype, 4.0), scale=0.3)


@every_variant
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes_and_layouts(route, variant, dtype, layout):
    rng = np.random.default_rng(2)
    x = lay_out(random_array(rng, (3, 5, 37, 41), dtype, 3.0), layout)
    for axis in (-1, 0, 1, 2, -2):
        check(route, variant, x, axis=axis)
    out = Guarded(x.shape, dtype, "step2")
    check(route, variant, x, out=route.share(out.array))
    out.check()


@every_variant
@every_dtype
def test_causal_with_every_alignment(route, variant, dtype):
    rng = np.random.default_rng(3)
    for q, s in [(1, 9), (9, 9), (5, 40), (40, 5), (33, 130)]:
        x = random_array(rng, (2, q, s), dtype, 3.0)
        for offset in (None, 0, 1, s - q, -2, s + 3):
            check(route, variant, x, causal=True, query_offset=offset)


@every_variant
@every_dtype
def test_masks_broadcast_in_some_dims_only(route, variant, dtype):
    rng = np.random.default_rng(4)
    x = random_array(rng, (2, 3, 7, 50), dtype, 3.0)
    for shape in [(50,), (7, 50), (1, 1, 7, 50), (2, 1, 1, 50), (2, 3, 7, 1), (1, 3, 1, 50), (2, 3, 7, 50), (7, 1)]:
        boolean = rng.random(shape) < 0.6
        check(route, variant, x, mask=boolean)
        additive = random_array(rng, shape, dtype)
        check(route, variant, x, mask=additive, scale=0.5)
        check(route, variant, x, mask=np.where(boolean, additive, -np.inf).astype(dtype))
        check(route, variant, x, mask=boolean, causal=True, query_offset=20)
    check(route, variant, x, mask=lay_out(random_array(rng, (7, 50), dtype), "step2"))


@every_variant
@every_dtype
def test_scales_that_cannot_be_folded_with_every_mask(route, variant, dtype):
    rng = np.random.default_rng(12)
    for shape, axis in [((3, 50), -1), ((40, 37), 0)]:
        x = random_array(rng, shape, dtype, 1.0)
        for scale in (0.0, -0.0, 1e-38, 2.5e38):
            if scale > 1 and dtype != F32:
                continue  # their values are too coarse for a product within f32
            some = x * (2e-38 if scale > 1 else 1)
            for mask_shape in (None, shape, (1, shape[1]), (shape[0], 1)):
                mask = None if mask_shape is None else rng.random(mask_shape) < 0.6
                check(route, variant, some.astype(dtype), axis=axis, scale=scale, mask=mask)


@every_variant
@every_dtype
@pytest.mark.parametrize("n", [1, 5, 16, 127, 128, 129, 1024, 2000])
def test_rows_with_nothing_to_see_are_zero(route, variant, dtype, n):
    x = np.full((4, n), -np.inf, dtype)
    assert (np.asarray(ml.softmax(x, variant=variant, ctx=route.context())) == 0).all()
    x = np.full((4, n), np.nan, dtype)
    off = np.zeros(n, bool)
    assert (np.asarray(ml.softmax(x, variant=variant, mask=off, ctx=route.context())) == 0).all()
    got = np.asarray(ml.softmax(x, variant=variant, causal=True, query_offset=-4, ctx=route.context()))
    assert (got == 0).all()
    additive = np.full((4, n), -np.inf, dtype)
    assert (np.asarray(ml.softmax(x, variant=variant, mask=additive, ctx=route.context())) == 0).all()


@every_variant
@every_dtype
def test_nan_and_inf_reach_their_own_row_only(route, variant, dtype):
    rng = np.random.default_rng(5)
    for n in (5, 40, 300, 1500):
        for bad in (np.nan, np.inf):
            x = random_array(rng, (5, n), dtype)
            mask = np.ones((5, n), bool)
            x[1, n // 2] = bad  # visible: its row is NaN at the visible columns
            mask[1, 0] = False
            x[3, n - 1] = bad  # invisible: no effect
            mask[3, n - 1] = False
            got = np.asarray(ml.softmax(x, variant=variant, mask=mask, ctx=route.context())).astype(np.float64)
            assert np.isnan(got[1, 1:]).all() and got[1, 0] == 0
            assert not np.isnan(got[[0, 2, 3, 4]]).any() and got[3, n - 1] == 0
            assert_close(got[3].astype(dtype), softmax_reference(x, mask=mask)[3], softmax_error(x, got, axis=-1)[3])


@every_variant
@every_dtype
def test_large_scores_do_not_overflow(route, variant, dtype):
    for top in (80.0, 1000.0, 60000.0):
        x = np.zeros((2, 200), dtype)
        x[0, 17], x[1, 100:102] = top, top
        check(route, variant, x)
        check(route, variant, (-x).astype(dtype))


@every_variant
@pytest.mark.parametrize("scale", [1.0, -1.0, 0.25])
def test_scores_far_from_zero(route, variant, scale):
    """Only differences count: blocks of one row lie on both sides of where exponents are made otherwise."""
    rng = np.random.default_rng(16)
    for base in (700.0, 20_000.0, 45_425.5, -45_425.5, 726_810.0, -726_810.0, 2_907_250.0, 1e7, -3e30, 3e38):
        step = max(np.spacing(F32.type(abs(base))), 1 / 16)
        x = (base + step * rng.integers(-8, 9, (3, 5000))).astype(F32)
        x[1] = np.sort(x[1])  # what leads changes from block to block
        x[2] = -np.sort(-x[2])
        got = np.asarray(ml.softmax(x, scale=scale, variant=variant, ctx=route.context()))
        value = softmax_reference(x, scale=scale)
        argument = np.minimum(np.abs(x.astype(np.float64) - x.max(-1, keepdims=True)) * abs(scale), 200)
        if scale < 0:
            argument = np.minimum(np.abs(x.astype(np.float64) - x.min(-1, keepdims=True)) * abs(scale), 200)
        assert_close(got, value, U32 * (40 + 2048 / 2 + 4 * argument) * value)  # additions of a block in two chains


@every_variant
@every_dtype
@pytest.mark.parametrize("n", [65, 300, 5000])
def test_a_row_rises_above_its_head(route, variant, dtype, n):
    """The head of a row is no measure of the rest: far below it, hidden, far above, or all that counts."""
    rng = np.random.default_rng(23)
    x = np.zeros((8, n), F32)
    x[0] = np.linspace(-700, 700, n)
    x[1] = np.linspace(700, -700, n)
    x[2, :64], x[2, 64:] = -np.inf, 3.0
    x[3, -1] = 60_000.0
    x[4, :64] = 60_000.0
    x[5, :-1] = -60_000.0
    x[6, 64:] = 44.5  # around where the head's exponents end
    x[7, ::3] = -np.inf
    x = (x + rng.standard_normal(x.shape)).astype(dtype)
    for scale in (1.0, -1.0, 40.0):
        signed = x if scale > 0 else (-x).astype(dtype)
        got = check(route, variant, signed, scale=scale)
        t = route.copy(signed)
        ml.softmax(t, scale=scale, variant=variant, out=t, ctx=route.context())
        assert np.asarray(t).tobytes() == got.tobytes()
    for bad in (np.nan, -np.nan, np.inf):
        for at in (0, n - 1):
            spoilt = x.copy()
            spoilt[2, at] = bad
            got = np.asarray(ml.softmax(spoilt, variant=variant, ctx=route.context())).astype(F32)
            assert np.isnan(got[2]).all() and not np.isnan(np.delete(got, 2, 0)).any()


@pytest.mark.parametrize(
    ("route", "variant"), [v for v in VARIANTS if v[0].device == "cpu"], ids=lambda part: getattr(part, "id", part)
)
def test_operands_beyond_the_caches(route, variant):
    """More than 20 MiB read and written: the maxima of rows are found in a pass of their own."""
    rng = np.random.default_rng(24)
    x = rng.standard_normal((700, 4096)).astype(F32)
    x[3] = np.linspace(-700, 700, 4096)
    x[5, :64], x[7] = -np.inf, -np.inf
    check(route, variant, x)


@every_variant
@every_dtype
@pytest.mark.parametrize("n", [5000, 40_000])
def test_weights_of_a_former_head_stay(route, variant, dtype, n):
    """A block is weighed relative to its time's reference and rises above it; a later block moves the reference by more
    than f32 holds. What is left of the first block is an ordinary number of f32 and of bf16."""
    x = np.zeros((4, n), F32)
    x[:, 100] = 44, 50, 80, 44  # up to 2^64, and 2^116
    x[:, n // 2] = 104, 104, 104, 95  # their ratios: 2^-150, or within what is gradual underflow
    x = np.concatenate([x, x[:1]])
    x[4, n // 2 :] = 104
    for scale in (1.0, -1.0):
        got = check(route, variant, (x if scale > 0 else -x).astype(dtype), scale=scale)
        assert dtype == F16 or (got[:, 100] > 0).all()


@every_variant
def test_sums_of_many_blocks_above_their_heads(route, variant):
    """Each block's sum is a number of f32, and with weights relative to the heads all blocks' sum would not be."""
    x = np.full((40, 16384), 75.5, F32)
    x[:, :64] = 0.0
    check(route, variant, x.reshape(1, -1))


@every_variant
@every_dtype
def test_in_place_and_empty(route, variant, dtype):
    rng = np.random.default_rng(6)
    x = random_array(rng, (4, 70), dtype)
    expected = np.asarray(ml.softmax(x, variant=variant, ctx=route.context())).tobytes()
    t = route.copy(x)
    assert ml.softmax(t, variant=variant, out=t, ctx=route.context()) is t
    assert np.asarray(t).tobytes() == expected
    for shape in [(0, 5), (5, 0), (0,), (2, 0, 3)]:
        assert np.asarray(ml.softmax(np.zeros(shape, dtype), ctx=route.context())).shape == shape
    with pytest.raises(ml.ShapeError, match="out"):
        ml.softmax(t[:2], out=t[1:3], variant=variant, ctx=route.context())


@every_variant
@settings(max_examples=60)
@given(data=st.data())
def test_any_case(route, variant, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    rows = data.draw(st.integers(1, 20))
    columns = data.draw(st.one_of(st.integers(0, 70), st.sampled_from([1024, 1030])))
    shape = (*data.draw(st.lists(st.integers(1, 6), max_size=2)), rows, columns)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = lay_out(random_array(rng, shape, dtype, 3.0), data.draw(st.sampled_from(LAYOUTS)))
    mask_shape = [d if data.draw(st.booleans()) else 1 for d in shape]
    kind = data.draw(st.sampled_from(["none", "bool", "additive"]))
    mask = None
    if kind != "none":
        mask = rng.random(mask_shape) < 0.7
        if kind == "additive":
            mask = np.where(mask, random_array(rng, mask_shape, dtype), -np.inf).astype(dtype)
    causal = data.draw(st.booleans())
    kw = {"causal": True, "query_offset": data.draw(st.sampled_from([None, 0, 3, -3]))} if causal else {}
    check(route, variant, x, mask=mask, scale=data.draw(st.sampled_from([1.0, 0.125, -0.5])), **kw)


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("n", [3, 100, 1025])
def test_log_softmax(dtype, n):
    rng = np.random.default_rng(7)
    x = random_array(rng, (4, n), dtype, 5.0)
    wide = x.astype(np.float64)
    expected = wide - wide.max(-1, keepdims=True)
    expected = expected - np.log(np.exp(expected).sum(-1, keepdims=True))
    got = np.asarray(ml.log_softmax(x))
    assert got.dtype == dtype
    assert_close(got, expected, 2.0**-24 * (8 * np.abs(expected) + 4 * np.abs(wide).max() + n + 16))


def test_arguments_are_checked():
    x = np.zeros((3, 4), F32)
    with pytest.raises(ml.ShapeError, match="axis"):
        ml.softmax(x, axis=2)
    with pytest.raises(ml.ShapeError, match="causal"):
        ml.softmax(x, axis=0, causal=True)
    with pytest.raises(ml.ShapeError, match="mask"):
        ml.softmax(x, mask=np.zeros((5,), bool))
    with pytest.raises(ml.DTypeError):
        ml.softmax(np.zeros((3, 4), np.int32))
    with pytest.raises(ml.DTypeError, match="out"):
        ml.softmax(x, out=ml.empty((3, 4), ml.float16))


def test_selection_by_length_and_preference():
    short, long = np.zeros((2, 1024), F16), np.zeros((2, 1025), F16)
    assert ml.explain(ml.softmax, short).variant == "vec"
    assert ml.explain(ml.softmax, long).variant == "block"
    with ml.prefs(softmax_variant="block"):
        assert ml.explain(ml.softmax, short).variant == "block"
        assert ml.explain(ml.softmax, short, variant="vec").variant == "vec"
    with ml.prefs(softmax_vec_max_k=8):
        assert ml.explain(ml.softmax, short).variant == "block"


@every_variant
@every_dtype
def test_bit_identical_for_any_number_of_threads(route, variant, dtype):
    rng = np.random.default_rng(8)
    try:
        for shape in [(500, 700), (3, 40_000), (1, 300_000)]:
            x = random_array(rng, shape, dtype, 3.0)
            results = set()
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                results.add(np.asarray(ml.softmax(x, variant=variant, ctx=route.context())).tobytes())
            assert len(results) == 1, shape
    finally:
        ml.set_num_threads(0)
