"""Attention against float64 on every variant and dtype; one test per rule of the semantics page and per trap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from attention_parity import sdpa_reference, variants, visible
from parity import DTYPE_IDS, DTYPES, F32, U32, Guarded, assert_close, lay_out, random_array

sdpa = ml.scaled_dot_product_attention
VARIANTS = variants("sdpa")
every_variant = pytest.mark.parametrize(("route", "variant"), VARIANTS, ids=[f"{r.id}-{v}" for r, v in VARIANTS])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)


def qkv(rng, dtype, *, batch=1, heads=4, kv_heads=2, length=5, keys=40, dim=64, value_dim=None):
    return (
        random_array(rng, (batch, heads, length, dim), dtype),
        random_array(rng, (batch, kv_heads, keys, dim), dtype),
        random_array(rng, (batch, kv_heads, keys, value_dim or dim), dtype),
    )


def check(route, variant, q, k, v, attn_mask=None, *, out=None, **kw):
    got = np.asarray(sdpa(q, k, v, attn_mask, variant=variant, out=out, ctx=route.context(), **kw))
    assert got.dtype == q.dtype
    result, error = sdpa_reference(q, k, v, attn_mask, **kw)
    assert_close(got, result, error)
    return got


@every_variant
@every_dtype
def test_lengths_with_and_without_causal(route, variant, dtype):
    rng = np.random.default_rng(1)
    for length, keys in [(1, 1), (1, 64), (1, 257), (3, 100), (8, 65), (9, 9), (17, 130), (70, 70), (40, 5), (65, 129)]:
        q, k, v = qkv(rng, dtype, length=length, keys=keys)
        check(route, variant, q, k, v)
        for offset in (None, 0, keys - length + 1, -2):
            check(route, variant, q, k, v, is_causal=True, query_offset=offset)


@every_variant
@every_dtype
@pytest.mark.parametrize(
    "dims", [(32, 32), (80, 80), (128, 128), (256, 256), (33, 33), (61, 47), (64, 128), (100, 7), (1, 1)], ids=str
)
def test_head_sizes(route, variant, dtype, dims):
    rng = np.random.default_rng(2)
    for length in (1, 20):
        check(route, variant, *qkv(rng, dtype, length=length, keys=50, dim=dims[0], value_dim=dims[1]), is_causal=True)


@every_variant
@every_dtype
@pytest.mark.parametrize("heads", [(1, 1), (14, 2), (8, 1), (6, 6), (6, 3)], ids=str)
def test_grouped_heads(route, variant, dtype, heads):
    rng = np.random.default_rng(3)
    for length in (1, 4, 19):
        q, k, v = qkv(rng, dtype, batch=2, heads=heads[0], kv_heads=heads[1], length=length, keys=45)
        check(route, variant, q, k, v, is_causal=True)
        check(route, variant, q[0], k[0], v[0])


@every_variant
@every_dtype
def test_masks_broadcast_in_some_dims_only(route, variant, dtype):
    rng = np.random.default_rng(4)
    for length in (1, 6, 20):
        q, k, v = qkv(rng, dtype, batch=2, heads=4, kv_heads=2, length=length, keys=33)
        full = (2, 4, length, 33)
        for shape in [(33,), (length, 33), (1, 1, length, 33), (2, 1, 1, 33), (1, 4, 1, 33), (2, 4, length, 1), full]:
            boolean = rng.random(shape) < 0.6
            check(route, variant, q, k, v, boolean)
            check(route, variant, q, k, v, random_array(rng, shape, dtype))
            check(route, variant, q, k, v, np.where(boolean, 0, -np.inf).astype(dtype), is_causal=True)
        check(route, variant, q, k, v, lay_out(random_array(rng, full, dtype), "step2"))


@every_variant
def test_sinks_of_the_largest_numbers(route, variant):
    """A sink counts against the scores however large it is: all of the weight, or none."""
    rng = np.random.default_rng(31)
    q, k, v = (random_array(rng, (1, 2, 5, 8), F32) for _ in range(3))
    limits = np.finfo(F32)
    got = np.asarray(
        ml.scaled_dot_product_attention(
            q, k, v, sinks=np.array([limits.max, limits.min]), variant=variant, ctx=route.context()
        )
    )
    plain = np.asarray(ml.scaled_dot_product_attention(q, k, v, variant=variant, ctx=route.context()))
    assert (got[0, 0] == 0).all()
    np.testing.assert_array_equal(got[0, 1], plain[0, 1])


@every_variant
@every_dtype
def test_window_sinks_softcap_scale(route, variant, dtype):
    rng = np.random.default_rng(5)
    for length in (1, 7, 30):
        q, k, v = qkv(rng, dtype, length=length, keys=70)
        sinks = random_array(rng, (4,), dtype)
        for window in (1, 2, 16, 33, 500):
            check(route, variant, q, k, v, is_causal=True, window=window)
            check(route, variant, q, k, v, window=window, query_offset=3)
        check(route, variant, q, k, v, sinks=sinks)
        check(route, variant, q, k, v, sinks=sinks, is_causal=True, query_offset=-3)
        check(route, variant, q, k, v, softcap=2.0, scale=0.7)
        check(
            route, variant, q, k, v, rng.random((length, 70)) < 0.5, softcap=1.5, sinks=sinks, window=20, is_causal=True
        )


@every_variant
@every_dtype
def test_views_of_a_larger_cache(route, variant, dtype):
    rng = np.random.default_rng(6)
    cache_k = np.full((1, 128, 2, 72), np.nan, dtype)  # [B, S, H, D], the unused tail full of NaN
    cache_v = np.full((1, 128, 2, 72), np.inf, dtype)
    for length in (1, 5, 20):
        q = random_array(rng, (1, length, 4, 64), dtype).transpose(0, 2, 1, 3)
        k = cache_k[:, :50, :, 4:68].transpose(0, 2, 1, 3)
        v = cache_v[:, :50, :, 4:68].transpose(0, 2, 1, 3)
        k[...] = random_array(rng, k.shape, dtype)
        v[...] = random_array(rng, v.shape, dtype)
        check(route, variant, q, k, v, is_causal=True)
        whole_k, whole_v = cache_k[..., 4:68].transpose(0, 2, 1, 3), cache_v[..., 4:68].transpose(0, 2, 1, 3)
        live = np.arange(128) < 50
        check(route, variant, q, whole_k, whole_v, np.broadcast_to(live, (length, 128)))
        check(route, variant, q[..., ::-1], k[..., ::-1], v[:, :, ::-1])
        out = Guarded((1, 4, length, 64), dtype, "step2")
        check(route, variant, q, k, v, out=route.share(out.array))
        out.check()


@every_variant
@every_dtype
def test_nothing_to_see_gives_zeros(route, variant, dtype):
    rng = np.random.default_rng(7)
    for length in (1, 9, 20):
        for keys in (1, 16, 127, 128, 129):
            q, k, v = qkv(rng, dtype, length=length, keys=keys)
            v[...] = np.nan
            k[...] = np.nan
            off = np.zeros((length, keys), bool)
            kw = {"variant": variant, "ctx": route.context()}
            assert (np.asarray(sdpa(q, k, v, off, **kw)) == 0).all()
            assert (np.asarray(sdpa(q, k, v, np.where(off, 0, -np.inf).astype(dtype), **kw)) == 0).all()
            assert (np.asarray(sdpa(q, k, v, is_causal=True, query_offset=-length, **kw)) == 0).all()
            assert (np.asarray(sdpa(q, k, v, off, sinks=np.zeros(4, dtype), **kw)) == 0).all()
        q, k, v = qkv(rng, dtype, length=length, keys=0)
        assert (np.asarray(sdpa(q, k, v, **kw)) == 0).all()


@every_variant
def test_masks_of_the_largest_numbers_hide_nothing(route, variant):
    """What a mask adds stays finite, whatever base the weights are computed to: equal scores, equal weights."""
    rng = np.random.default_rng(20)
    for length, keys in [(1, 5), (20, 129)]:
        q, k, v = qkv(rng, F32, length=length, keys=keys)
        mask = np.full((length, keys), np.finfo(F32).min, F32)
        got = np.asarray(sdpa(q, k, v, mask, variant=variant, ctx=route.context()))
        mean = np.repeat(v.astype(np.float64).mean(2, keepdims=True), 2, 1)
        assert np.abs(got - mean).max() < U32 * (2 * keys + 8) * np.abs(v).max()


@every_variant
@every_dtype
def test_visible_scores_that_are_all_minus_infinity_give_zeros(route, variant, dtype):
    kw = {"variant": variant, "ctx": route.context()}
    for length, keys in [(1, 5), (2, 70), (20, 129), (1, 3000)]:
        q, k = np.ones((1, 4, length, 64), dtype), np.full((1, 2, keys, 64), -np.inf, dtype)
        v = np.full((1, 2, keys, 40), np.nan, dtype)
        assert (np.asarray(sdpa(q, k, v, **kw)) == 0).all()
        assert (np.asarray(sdpa(q, k, v, sinks=np.zeros(4, dtype), **kw)) == 0).all()
        k[0, 0, 3] = 0  # for the first two heads: an ordinary row, in which values of weight 0 count
        got = np.asarray(sdpa(q, k, v, **kw)).astype(np.float64)
        assert np.isnan(got[0, :2]).all() and (got[0, 2:] == 0).all()


@every_variant
@every_dtype
def test_masked_nan_and_inf_have_no_effect(route, variant, dtype):
    rng = np.random.default_rng(8)
    for length in (1, 8, 33):
        q, k, v = qkv(rng, dtype, length=length, keys=64)
        mask = np.ones((length, 64), bool)
        mask[:, [0, 5, 31, 32, 63]] = False
        expected = np.asarray(sdpa(q, k, v, mask, variant=variant, ctx=route.context())).tobytes()
        for bad in (np.nan, np.inf, -np.inf):
            k2, v2 = k.copy(), v.copy()
            k2[:, :, [0, 5, 31, 32, 63]] = bad
            v2[:, :, [0, 5, 31, 32, 63]] = bad
            assert np.asarray(sdpa(q, k2, v2, mask, variant=variant, ctx=route.context())).tobytes() == expected
        # later keys under causal
        k2, v2 = k.copy(), v.copy()
        k2[:, :, -1], v2[:, :, -1] = np.nan, np.nan
        got = np.asarray(sdpa(q, k2, v2, is_causal=True, variant=variant, ctx=route.context())).astype(np.float64)
        assert not np.isnan(got[:, :, :-1]).any() and np.isnan(got[:, :, -1]).all()


@every_variant
@every_dtype
def test_visible_nan_travels_by_the_rule(route, variant, dtype):
    rng = np.random.default_rng(9)
    for length in (1, 4, 20):
        q, k, v = qkv(rng, dtype, length=length, keys=40)
        kw = {"variant": variant, "ctx": route.context()}
        bad_v = v.copy()
        bad_v[0, 0, 7, 3] = np.nan  # reaches its own output column of the heads that read it
        got = np.isnan(np.asarray(sdpa(q, k, bad_v, **kw)).astype(np.float64))
        assert got[0, :2, :, 3].all() and got.sum() == 2 * length
        bad_k = k.copy()
        bad_k[0, 1, 3] = np.nan  # a visible NaN score: the whole output row
        got = np.isnan(np.asarray(sdpa(q, bad_k, v, **kw)).astype(np.float64))
        assert got[0, 2:].all() and not got[0, :2].any()
        mask = np.zeros((length, 40), dtype)
        mask[0, 3] = np.inf
        got = np.isnan(np.asarray(sdpa(q, k, v, mask, **kw)).astype(np.float64))
        assert got[0, :, 0].all() and not got[0, :, 1:].any()
        sinks = np.zeros(4, dtype)
        sinks[2] = np.nan
        got = np.isnan(np.asarray(sdpa(q, k, v, sinks=sinks, **kw)).astype(np.float64))
        assert got[0, 2].all() and not got[0, [0, 1, 3]].any()


@every_variant
@every_dtype
def test_a_scale_of_zero_keeps_nan(route, variant, dtype):
    rng = np.random.default_rng(14)
    for length in (3, 20):
        q, k, v = qkv(rng, dtype, length=length, keys=70)
        check(route, variant, q, k, v, scale=0.0, is_causal=True)
        q[0, 0, 1] = np.nan
        q[0, 1, 2, 0] = np.inf
        check(route, variant, q, k, v, scale=0.0, is_causal=True)
        check(route, variant, q, k, v, scale=0.0, softcap=20.0)


@every_variant
@every_dtype
def test_every_pair_near_the_diagonal(route, variant, dtype):
    # one-hot values make the output show exactly which keys were seen
    length = keys = 36
    q = np.zeros((1, 6, length, 32), dtype)
    k = np.zeros((1, 2, keys, 32), dtype)
    v = np.broadcast_to(np.eye(keys, dtype=dtype), (1, 2, keys, keys)).copy()
    for offset in (-1, 0, 1, 5):
        for window in (None, 3):
            kw = {"is_causal": True, "query_offset": offset, "window": window}
            got = np.asarray(sdpa(q, k, v, variant=variant, ctx=route.context(), **kw)).astype(np.float64)
            seen = visible(length, keys, causal=True, query_offset=offset, window=window)
            assert ((got != 0) == seen).all()


@every_variant
@settings(max_examples=50)
@given(data=st.data())
def test_any_case(route, variant, data):
    draw = data.draw
    dtype = draw(st.sampled_from(DTYPES))
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, k, v = qkv(
        rng,
        dtype,
        batch=draw(st.integers(0, 2)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        length=draw(st.integers(0, 40)),
        keys=draw(st.integers(0, 80)),
        dim=draw(st.integers(1, 96)),
        value_dim=draw(st.integers(1, 96)),
    )
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    mask_shape = [d if draw(st.booleans()) else 1 for d in shape]
    kind = draw(st.sampled_from(["none", "bool", "additive"]))
    mask = None
    if kind != "none":
        mask = rng.random(mask_shape) < 0.7
        if kind == "additive":
            mask = np.where(mask, random_array(rng, mask_shape, dtype), -np.inf).astype(dtype)
    kw = {
        "is_causal": draw(st.booleans()),
        "query_offset": draw(st.sampled_from([None, 0, 5, -3])),
        "window": draw(st.sampled_from([None, None, 1, 7])),
        "softcap": draw(st.sampled_from([None, 3.0])),
        "sinks": random_array(rng, (q.shape[1],), dtype) if draw(st.booleans()) else None,
    }
    check(route, variant, q, k, v, mask, **kw)


@every_variant
@every_dtype
def test_long_caches_are_split_over_keys(route, variant, dtype):
    rng = np.random.default_rng(14)
    for length, keys, heads in [(1, 3000, (4, 1)), (3, 1100, (7, 1)), (12, 2000, (1, 1))]:
        q, k, v = qkv(rng, dtype, heads=heads[0], kv_heads=heads[1], length=length, keys=keys)
        check(route, variant, q, k, v, is_causal=True)
        check(route, variant, q, k, v, window=700, query_offset=keys - 500, sinks=random_array(rng, heads[:1], dtype))
        k[:, :, 900:], v[:, :, 900:] = np.nan, np.inf  # the later chunks see nothing
        check(route, variant, q, k, v, np.arange(keys) < 900)


@every_variant
def test_operands_of_different_dtypes(route, variant):
    rng = np.random.default_rng(15)
    for dtypes in itertools.product(DTYPES, repeat=3):
        operands = [x.astype(dtype) for x, dtype in zip(qkv(rng, F32, length=6), dtypes, strict=True)]
        got = sdpa(*operands, random_array(rng, (6, 40), DTYPES[-1]), variant=variant, ctx=route.context())
        assert got.dtype == (ml.float32 if len(set(dtypes)) > 1 else ml.array(operands[0]).dtype)
    q, k, v = (x.astype(dtype) for x, dtype in zip(qkv(rng, F32, length=6), (F32, DTYPES[1], DTYPES[-1]), strict=True))
    check(route, variant, q, k, v, is_causal=True)


@every_variant
def test_weights_that_underflow_are_no_masks(route, variant):
    q, k, v = qkv(np.random.default_rng(16), F32, length=3, keys=20)
    mask = np.zeros(20, F32)
    mask[4] = -1e4  # visible: its weight is zero, but its NaN counts
    bad = v.copy()
    bad[0, 0, 4, 7] = np.nan
    kw = {"variant": variant, "ctx": route.context()}
    got = np.isnan(np.asarray(sdpa(q, k, bad, mask, **kw)))
    assert got[0, :2, :, 7].all() and got.sum() == 6
    mask[4] = -np.inf
    assert np.asarray(sdpa(q, k, bad, mask, **kw)).tobytes() == np.asarray(sdpa(q, k, v, mask, **kw)).tobytes()


@every_variant
def test_scores_beyond_f16_in_between(route, variant):
    q, k, v = (np.full((1, 1, n, 64), 200, np.float16) for n in (2, 5, 5))
    k[..., 3, :] = 199
    got = np.asarray(sdpa(q, k, v, scale=1.0, variant=variant, ctx=route.context()))  # scores of 2.56e6
    assert (got == 200).all()


def test_composed_is_three_dispatches_without_a_copy():
    rng = np.random.default_rng(10)
    q, k, v = qkv(rng, np.float32, length=20, keys=60)
    for operands in [(q, k, v), tuple(lay_out(x, "sliced") for x in (q, k, v))]:
        with ml.profile() as prof:
            sdpa(*operands, is_causal=True, variant="composed")
        ops = [r["op"] for r in prof.records if r["dispatches"]]
        assert sorted(ops) == ["matmul", "matmul", "softmax"]
        assert sum(r["copied_bytes"] for r in prof.records) == 0
    v[..., -1, :] = np.nan  # hidden from all but the last query: the product is done again without it
    with ml.profile() as prof:
        sdpa(q, k, v, is_causal=True, variant="composed")
    assert sum(r["copied_bytes"] for r in prof.records) == v.nbytes
    for variant in ("vector", "tiled"):
        with ml.profile() as prof:
            sdpa(q, k, v, is_causal=True, variant=variant)
        assert len(prof.records) == 1 and prof.records[0]["copied_bytes"] == 0


def test_selection():
    q, k, v = qkv(np.random.default_rng(11), np.float32, length=8)
    assert ml.explain(sdpa, q, k, v).variant == "vector"
    q9 = np.concatenate([q, q[:, :, :1]], axis=2)
    assert ml.explain(sdpa, q9, k, v).variant == "tiled"
    with ml.prefs(sdpa_variant="composed"):
        assert ml.explain(sdpa, q, k, v).variant == "composed"
        assert ml.explain(sdpa, q, k, v, variant="tiled").variant == "tiled"


def test_arguments_are_checked():
    q, k, v = qkv(np.random.default_rng(12), F32)
    with pytest.raises(ml.ShapeError, match="head"):
        sdpa(q[:, :3], k, v)
    with pytest.raises(ml.ShapeError, match="key"):
        sdpa(q, k[..., :32], v)
    with pytest.raises(ml.ShapeError, match="value"):
        sdpa(q, k, v[:, :, :10])
    with pytest.raises(ml.ShapeError, match="window"):
        sdpa(q, k, v, window=0)
    with pytest.raises(ml.ShapeError, match="mask"):
        sdpa(q, k, v, np.zeros((3, 3), bool))
    with pytest.raises(ml.ShapeError, match="sinks"):
        sdpa(q, k, v, sinks=np.zeros(3, F32))
    with pytest.raises(ml.DTypeError):
        sdpa(q.astype(np.int32), k, v)
    with pytest.raises(ValueError, match="softcap"):
        sdpa(q, k, v, softcap=0)
    with pytest.raises(ml.ShapeError, match="batch"):
        sdpa(q, k[:0], v)
    with pytest.raises(ml.ShapeError, match="dimensions"):
        sdpa(q, k[0], v)
    with pytest.raises(ml.ShapeError, match="lacks the batch"):
        sdpa(q[0, 0], k, v)
    t = ml.array(q, copy=True)
    for variant in ("composed", "vector", "tiled"):
        with pytest.raises(ml.ShapeError, match="out"):
            sdpa(t, k, v, out=t, variant=variant)


@every_variant
@every_dtype
def test_bit_identical_for_any_number_of_threads(route, variant, dtype):
    rng = np.random.default_rng(13)
    try:
        for length, keys in [(1, 3000), (4, 700), (150, 400)]:
            q, k, v = qkv(rng, dtype, heads=14, kv_heads=2, length=length, keys=keys)
            results = set()
            for threads in (1, 2, 7):
                ml.set_num_threads(threads)
                got = sdpa(q, k, v, is_causal=True, variant=variant, ctx=route.context())
                results.add(np.asarray(got).tobytes())
            assert len(results) == 1
    finally:
        ml.set_num_threads(0)
