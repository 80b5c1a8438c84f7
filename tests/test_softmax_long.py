"""Softmax where rows are split over tasks, where the axis is strided, and where both meet masks, causality and NaN."""

from __future__ import annotations

import numpy as np
import pytest

import metallic as ml
from attention_parity import softmax_error, softmax_reference, variants
from parity import DTYPE_IDS, DTYPES, F32, Guarded, assert_close, random_array

VARIANTS = variants("softmax")
every_variant = pytest.mark.parametrize(("route", "variant"), VARIANTS, ids=[f"{r.id}-{v}" for r, v in VARIANTS])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)


def check(route, variant, x, *, out=None, **kw):
    got = np.asarray(ml.softmax(x, variant=variant, out=out, ctx=route.context(), **kw))
    result = softmax_reference(x, **kw)
    error = softmax_error(x, result, scale=kw.get("scale", 1.0), mask=kw.get("mask"), axis=kw.get("axis", -1))
    assert_close(got, result, error)
    return got


def strided_axis(x: np.ndarray) -> np.ndarray:
    """x with its last axis strided and the one before contiguous."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


@every_variant
@every_dtype
def test_rows_split_over_tasks(route, variant, dtype):
    rng = np.random.default_rng(1)
    for shape in [(1, 32768), (3, 40_001), (2, 100_003)]:
        x = random_array(rng, shape, dtype, 4.0)
        x[0, 70 : shape[1] : 20_000] += 3  # the leading score moves from chunk to chunk
        check(route, variant, x)
        check(route, variant, x, scale=-0.7)
        check(route, variant, x, mask=rng.random(shape[1]) < 0.5)
        check(route, variant, x, causal=True, query_offset=16_390)
        step = np.repeat(x, 2, axis=1)[:, ::2]
        check(route, variant, step)
    bad = random_array(rng, (2, 50_000), dtype)
    bad[0, 33_000] = np.nan
    seen = np.ones(bad.shape, bool)
    seen[0, [5, 20_000]] = False
    got = np.asarray(ml.softmax(bad, mask=seen, variant=variant, ctx=route.context())).astype(np.float64)
    assert (got[0, [5, 20_000]] == 0).all() and np.isnan(np.delete(got[0], [5, 20_000])).all()
    assert not np.isnan(got[1]).any()
    nothing = np.full((2, 50_000), -np.inf, dtype)
    assert (np.asarray(ml.softmax(nothing, variant=variant, ctx=route.context())) == 0).all()


@every_variant
@every_dtype
@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 300, 1100])
def test_strided_axis(route, variant, dtype, length):
    rng = np.random.default_rng(2)
    for columns in (7, 8, 15, 16, 64, 70, 131):
        x = strided_axis(random_array(rng, (2, columns, length), dtype, 4.0))
        check(route, variant, x)
        check(route, variant, x, scale=-0.5)
        check(route, variant, x.swapaxes(1, 2), axis=1)
    out = Guarded(x.shape, dtype, "col")
    check(route, variant, x, out=route.share(out.array))
    out.check()


@every_variant
@every_dtype
def test_strided_axis_with_masks_and_causality(route, variant, dtype):
    rng = np.random.default_rng(3)
    for queries, keys in [(20, 33), (70, 150), (150, 40), (16, 260)]:
        x = strided_axis(random_array(rng, (2, queries, keys), dtype, 3.0))
        for offset in (None, 0, -5, 12):
            check(route, variant, x, causal=True, query_offset=offset)
        for shape in [(keys,), (queries, keys), (2, 1, keys), (2, queries, 1)]:
            boolean = rng.random(shape) < 0.6
            additive = np.where(boolean, random_array(rng, shape, dtype), -np.inf).astype(dtype)
            check(route, variant, x, mask=boolean, causal=True, query_offset=7)
            check(route, variant, x, mask=additive, scale=0.3)
        across = np.moveaxis(random_array(rng, (queries, keys, 24), dtype, 3.0), -1, 0)  # columns are no queries
        check(route, variant, across, causal=True)


@every_variant
@every_dtype
def test_strided_axis_nan_and_nothing(route, variant, dtype):
    rng = np.random.default_rng(4)
    for keys in (40, 300):
        x = strided_axis(random_array(rng, (1, 32, keys), dtype))
        x[0, 3, 5] = np.nan
        x[0, 4, :] = -np.inf
        x[0, 5, keys - 1] = np.inf
        x[0, 6, 7] = np.nan
        seen = np.ones((32, keys), bool)
        seen[6, 7] = seen[3, 0] = False
        seen[8] = False
        for axis in (2, 1):
            item = x if axis == 2 else x.swapaxes(1, 2)
            mask = seen if axis == 2 else seen.T
            got = np.asarray(ml.softmax(item, axis, mask=mask, variant=variant, ctx=route.context()))
            got = got.astype(np.float64) if axis == 2 else got.astype(np.float64).swapaxes(1, 2)
            assert np.isnan(got[0, 3, 1:]).all() and got[0, 3, 0] == 0
            assert np.isnan(got[0, 5]).all()
            assert (got[0, [4, 8]] == 0).all()
            assert not np.isnan(got[0, [0, 1, 2, 4, 6, 7, 8]]).any() and got[0, 6, 7] == 0
        causal = np.asarray(ml.softmax(x, causal=True, query_offset=2, variant=variant, ctx=route.context()))
        assert np.isnan(causal[0, 3, :6].astype(np.float64)).all() and (causal[0, 3, 6:] == 0).all()


@every_variant
@every_dtype
def test_in_place_on_a_strided_axis(route, variant, dtype):
    rng = np.random.default_rng(5)
    for shape in [(300, 48), (33, 50)]:
        x = random_array(rng, shape, dtype)
        expected = np.asarray(ml.softmax(x, 0, variant=variant, ctx=route.context())).tobytes()
        t = route.copy(x)
        ml.softmax(t, 0, out=t, variant=variant, ctx=route.context())
        assert np.asarray(t).tobytes() == expected


@every_variant
def test_scales_beyond_f32_and_zero(route, variant):
    x = np.array([[1.0, 2.0, -np.inf, 0.5]], F32)
    ctx = route.context()
    assert np.isnan(np.asarray(ml.softmax(x, scale=0.0, variant=variant, ctx=ctx))).all()  # 0 * -inf
    got = np.asarray(ml.softmax(x[:, :2], scale=0.0, variant=variant, ctx=ctx))
    assert (got == 0.5).all()
    for scale in (1e-40, 3e38, -3e38):
        check(route, variant, x[:, :2] * 1e-3, scale=scale)
    rng = np.random.default_rng(9)
    plain = random_array(rng, (3, 40, 70), F32)
    seen = rng.random((40, 70)) < 0.6
    for scale in (0.0, 1e-40):  # the scale multiplies the scores, and a boolean mask still hides
        for item in (plain, strided_axis(plain)):
            for mask in (seen, np.repeat(seen, 2, axis=1)[:, ::2], seen[:1]):
                check(route, variant, item, mask=mask, scale=scale)
    huge = np.array([[3e38, -3e38, 2e38]], F32)
    assert np.asarray(ml.softmax(huge, variant=variant, ctx=ctx)).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("tier", sorted({r.isa for r, _ in VARIANTS if r.device == "cpu"}))
@every_dtype
def test_log_softmax_everywhere(tier, dtype):
    rng = np.random.default_rng(6)
    ctx = ml.Context("cpu", isa=tier)

    def check_log(x, axis=-1, out=None):
        wide = x.astype(np.float64)
        score = wide - wide.max(axis, keepdims=True)
        expected = score - np.log(np.exp(score).sum(axis, keepdims=True))
        got = np.asarray(ml.log_softmax(x, axis, out=out, ctx=ctx))
        bound = 2.0**-24 * (8 * np.abs(expected) + 4 * np.abs(wide).max() + x.shape[axis] + 16)
        assert_close(got, expected, bound)

    for shape in [(5, 1000), (3, 3000), (2, 70_000)]:
        check_log(random_array(rng, shape, dtype, 5.0))
    x = random_array(rng, (2, 300, 40), dtype, 5.0)
    check_log(x, 1)
    check_log(x.swapaxes(0, 1), 0)
    out = Guarded((4, 90), dtype, "step2")
    check_log(random_array(rng, (4, 90), dtype), out=ml.asarray(out.array))
    out.check()
    x = random_array(rng, (3, 50), dtype)
    x[0] = -np.inf
    x[1, 4] = -np.inf
    x[2, 4] = np.nan
    for case in (x, strided_axis(np.repeat(x[None], 9, 0)).swapaxes(0, 1)[:, 0]):
        got = np.asarray(ml.log_softmax(case, ctx=ctx)).astype(np.float64)
        assert (got[0] == -np.inf).all() and got[1, 4] == -np.inf and np.isfinite(np.delete(got[1], 4)).all()
        assert np.isnan(got[2]).all()


def test_bit_identical_columns_for_any_number_of_threads():
    rng = np.random.default_rng(7)
    x = random_array(rng, (3, 700, 150), F32, 3.0)
    try:
        for variant in ("vec", "block"):
            results = set()
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                results.add(np.asarray(ml.softmax(x, 1, variant=variant)).tobytes())
            assert len(results) == 1
    finally:
        ml.set_num_threads(0)


def test_metrics_show_one_dispatch_without_copies():
    x = random_array(np.random.default_rng(8), (4, 64, 600), F32)
    mask = np.ones((64, 600), bool)
    for item, axis in [(x, -1), (x[:, ::2], -1), (x, 1), (x.swapaxes(1, 2), -1)]:
        with ml.profile() as prof:
            ml.softmax(item, axis)
            ml.softmax(x, mask=mask, causal=True)
        assert [(r["op"], r["dispatches"], r["copied_bytes"]) for r in prof.records] == [("softmax", 1, 0)] * 2
