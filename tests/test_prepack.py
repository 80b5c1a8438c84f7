"""Prepacked weights: every product with one against float64 and against the same product with the plain weight, what
the plan and the metrics say, and that such a weight never changes."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import metallic as ml
from parity import (
    BF16,
    DTYPE_IDS,
    DTYPES,
    F16,
    F32,
    Guarded,
    assert_close,
    lay_out,
    random_array,
    reference_matmul,
    route_ids,
    routes,
    wide,
)

all_routes = pytest.mark.parametrize("route", routes(), ids=route_ids())
TILED = [route for route in routes() if route.device == "cpu" and route.backend == "mlx"]
tiled_routes = pytest.mark.parametrize("route", TILED, ids=[route.id for route in TILED])
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
WHY = "weights prepacked"
# A weight that is repeated, reversed or stepped is read where it is by no kernel of a small product, its copy is: then
# only the values of the two agree, not the order of the sums.
SAME_ORDER = ["row", "col", "padded", "sliced", "odd_offset"]
OTHER_ORDER = ["negative", "step2", "repeat_row", "repeat_col"]


def bits(x) -> bytes:
    return np.ascontiguousarray(np.asarray(x)).tobytes()


def reads_panels(plan) -> bool:
    return WHY in plan.why


# ---- products ------------------------------------------------------------------------------------------------------

SHAPES = [  # m, n, k: rows of the activations, columns and rows of the weight
    (1, 67, 131), (2, 33, 40), (9, 33, 65), (16, 31, 17), (17, 100, 1), (13, 1, 50), (40, 2, 2), (33, 513, 300),
    (20, 70, 1100), (150, 129, 700), (300, 200, 90),
]  # fmt: skip


@all_routes
@all_dtypes
def test_products_are_those_of_the_plain_weight(route, dtype):
    rng, ctx = np.random.default_rng(1), route.context()
    shapes = SHAPES if route in TILED else SHAPES[:3]  # the others read the copy
    for i, (m, n, k) in enumerate(shapes):
        x, w = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
        plain = route.copy(w.T).T if i % 2 else route.copy(w)
        packed = ctx.prepack(plain)
        turned = ctx.prepack(route.copy(w.T), transpose=True)
        result, error = reference_matmul(x, w)
        expected = ml.matmul(x, plain, ctx=ctx)
        assert bits(ml.matmul(x, packed, ctx=ctx)) == bits(expected)
        for got in (
            expected,
            ml.matmul(x, turned, ctx=ctx),
            ml.matmul(x, packed.T, transpose_b=True, ctx=ctx),
            ml.linear(x, packed.T, ctx=ctx),
            ml.linear(x, turned.T, ctx=ctx),
            ml.matmul(packed, np.ascontiguousarray(x.T), transpose_a=True, ctx=ctx).T,
            ml.matmul(turned.T, x.T, ctx=ctx).T,
        ):
            assert_close(np.asarray(got), result, error, dtype)


@tiled_routes
@all_dtypes
@pytest.mark.parametrize("layout", SAME_ORDER + OTHER_ORDER)
def test_layouts_of_the_weight(route, dtype, layout):
    rng, ctx = np.random.default_rng(2), route.context()
    for m, n, k in [(1, 67, 131), (20, 45, 90), (70, 33, 40)]:
        x, w = random_array(rng, (m, k), dtype), lay_out(random_array(rng, (k, n), dtype), layout)
        for packed in (ctx.prepack(route.copy(w)), ctx.prepack(route.copy(w.T), transpose=True)):
            assert packed.shape == w.shape and packed.dtype.name == w.dtype.name
            assert bits(packed) == bits(w)
            assert_close(np.asarray(ml.matmul(x, packed, ctx=ctx)), *reference_matmul(x, w), dtype)


@pytest.mark.parametrize("layout", SAME_ORDER)
@all_dtypes
def test_bits_of_the_call_with_the_array_itself(dtype, layout):
    rng = np.random.default_rng(3)
    for m, n, k in [(1, 67, 131), (4, 300, 200), (12, 45, 90), (70, 133, 1200)]:
        x, w = random_array(rng, (m, k), dtype), lay_out(random_array(rng, (k, n), dtype), layout)
        packed = ml.prepack(w)
        assert bits(x @ packed) == bits(ml.matmul(x, w))
        assert bits(ml.linear(x, packed.T)) == bits(ml.linear(x, w.T))
        assert bits(ml.matmul(packed, x.T, transpose_a=True)) == bits(ml.matmul(w, x.T, transpose_a=True))


@tiled_routes
@all_dtypes
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_epilogue(route, dtype, activation):
    rng, ctx = np.random.default_rng(4), route.context()
    for m, n, k in [(1, 50, 40), (37, 41, 300), (20, 70, 1100), (300, 150, 70)]:
        x, w = random_array(rng, (m, k), dtype, 0.3), random_array(rng, (k, n), dtype, 0.3)
        packed = ctx.prepack(route.copy(w))
        for alpha, beta in [(1.0, 0.0), (0.5, 2.0), (0.0, 0.5)]:
            c = random_array(rng, (m, n), dtype)
            for bias in (None, random_array(rng, (n,), dtype), random_array(rng, (m, 1), dtype)):
                kw = {"alpha": alpha, "beta": beta, "c": c, "bias": bias, "activation": activation}
                got = ml.matmul(x, packed, ctx=ctx, **kw)
                assert_close(np.asarray(got), *reference_matmul(x, w, **kw), dtype)
        c = random_array(rng, (m, n), dtype)
        got = ml.addmm(c, x, packed, alpha=0.5, beta=-2.0, ctx=ctx)
        assert_close(np.asarray(got), *reference_matmul(x, w, alpha=0.5, beta=-2.0, c=c), dtype)


@tiled_routes
@all_dtypes
@pytest.mark.parametrize("layout", ["row", "col", "sliced", "negative", "step2"])
def test_out(route, dtype, layout):
    rng, ctx = np.random.default_rng(5), route.context()
    for m, n, k in [(20, 47, 50), (150, 130, 600)]:
        x, w = lay_out(random_array(rng, (m, k), dtype), "sliced"), random_array(rng, (k, n), dtype)
        packed = ctx.prepack(route.copy(w))
        for left in (False, True):
            out = Guarded((n, m) if left else (m, n), dtype, layout)
            target = route.share(out.array)
            if left:
                assert ml.matmul(packed, x, transpose_a=True, transpose_b=True, out=target, ctx=ctx) is target
            else:
                assert ml.matmul(x, packed, out=target, ctx=ctx) is target
            out.check()
            assert_close(out.array.T if left else out.array, *reference_matmul(x, w), dtype)


@tiled_routes
@all_dtypes
def test_batches_of_weights(route, dtype):
    rng, ctx = np.random.default_rng(6), route.context()
    w = random_array(rng, (2, 3, 40, 50), dtype)
    packed = ctx.prepack(route.copy(w))
    turned = ctx.prepack(route.copy(np.ascontiguousarray(w.swapaxes(-1, -2))), transpose=True)
    for rows in (1, 20):
        for lead in ((2, 3), (3,), (), (4, 1, 1)):
            x = random_array(rng, (*lead, rows, 40), dtype)
            reference = reference_matmul(x, w)
            assert_close(np.asarray(ml.matmul(x, packed, ctx=ctx)), *reference, dtype)
            assert_close(np.asarray(ml.matmul(x, turned, ctx=ctx)), *reference, dtype)
        x = random_array(rng, (rows, 40), dtype)
        for index in ((1, 2), (0,), (slice(None), 1), (slice(None), slice(None, None, 2)), (slice(None, None, -1),)):
            assert_close(np.asarray(ml.matmul(x, packed[index], ctx=ctx)), *reference_matmul(x, w[index]), dtype)
    groups = packed.reshape(6, 40, 50)
    counts, rows = [20, 0, 1, 13, 13, 40], []
    x = random_array(rng, (sum(counts), 40), dtype)
    got = np.asarray(ml.matmul_ragged(x, groups, counts, ctx=ctx))
    for g, (end, count) in enumerate(zip(np.cumsum(counts), counts, strict=True)):
        rows = slice(end - count, end)
        assert_close(got[rows], *reference_matmul(x[rows], w.reshape(6, 40, 50)[g]), dtype)


@tiled_routes
@all_dtypes
def test_parts_of_a_weight_are_ordinary_views(route, dtype):
    rng, ctx = np.random.default_rng(7), route.context()
    w = random_array(rng, (60, 80), dtype)
    packed = ctx.prepack(route.copy(w))
    x = random_array(rng, (20, 60), dtype)
    for part in (np.s_[:, 3:50], np.s_[:, ::2], np.s_[:, ::-1], np.s_[::-1]):
        assert not reads_panels(ml.explain(ml.matmul, x, packed[part], ctx=ctx))
        assert_close(np.asarray(ml.matmul(x, packed[part], ctx=ctx)), *reference_matmul(x, w[part]), dtype)
    assert_close(
        np.asarray(ml.matmul(x[:, :30], packed[10:40], ctx=ctx)), *reference_matmul(x[:, :30], w[10:40]), dtype
    )
    row = packed.reshape(1, 4800)  # the same memory as another matrix
    assert_close(np.asarray(ml.matmul(x[:, :1], row, ctx=ctx)), *reference_matmul(x[:, :1], w.reshape(1, 4800)), dtype)
    squared = ml.matmul(packed, packed, transpose_b=True, ctx=ctx)
    assert_close(np.asarray(squared), *reference_matmul(w, w.T), dtype)


@tiled_routes
@pytest.mark.parametrize("dtypes", [(F32, F16), (F16, F32), (F32, BF16), (BF16, F32), (BF16, F16)], ids=str)
def test_mixed_dtypes(route, dtypes):
    if None in dtypes:
        pytest.skip("ml_dtypes is not installed: no bfloat16 arrays")
    rng, ctx = np.random.default_rng(8), route.context()
    for m, n, k in [(1, 40, 65), (33, 35, 65), (20, 100, 900)]:
        x, w = random_array(rng, (m, k), dtypes[0]), random_array(rng, (k, n), dtypes[1])
        packed = ctx.prepack(route.copy(w))
        got = ml.matmul(x, packed, ctx=ctx)
        assert got.dtype == ml.float32
        assert bits(got) == bits(ml.matmul(x, route.copy(w), ctx=ctx))
        assert_close(np.asarray(got), *reference_matmul(x, w))


@tiled_routes
@all_dtypes
def test_what_is_not_finite(route, dtype):
    rng, ctx = np.random.default_rng(9), route.context()
    x, w = random_array(rng, (20, 50), dtype), random_array(rng, (50, 70), dtype)
    w[3, 4], w[7, 30], w[8, 69] = np.nan, np.inf, -np.inf
    packed = ctx.prepack(route.copy(w))
    got = np.asarray(ml.matmul(x, packed, ctx=ctx))
    bad = np.isin(np.arange(70), (4, 30, 69))
    assert not np.isfinite(wide(got)[:, bad]).any()
    assert_close(got[:, ~bad], *reference_matmul(x, w[:, ~bad]), dtype)
    assert (np.asarray(ml.matmul(x, packed, alpha=0.0, ctx=ctx)) == 0).all()


@all_dtypes
def test_empty_and_thin_weights(dtype):
    for k, n in [(0, 5), (5, 0), (0, 0), (1, 7), (7, 1), (1, 1)]:
        w = np.ones((k, n), dtype)
        packed = ml.prepack(w)
        assert packed.shape == (k, n)
        for m in (1, 20):
            got = np.asarray(ml.matmul(np.ones((m, k), dtype), packed))
            assert got.shape == (m, n) and (got == k).all()


def test_attention_over_prepacked_keys_and_values():
    """A hidden key has no effect whatever its value row holds, though panels hold what the weight holds."""
    rng = np.random.default_rng(10)
    q, k, v = (random_array(rng, (1, 2, 20, 32), F32) for _ in range(3))
    expected = ml.scaled_dot_product_attention(q, k, v, is_causal=True, variant="composed")
    v[0, :, 19] = np.nan
    got = ml.scaled_dot_product_attention(q, ml.prepack(k), ml.prepack(v), is_causal=True, variant="composed")
    assert bits(np.asarray(got)[:, :, :19]) == bits(np.asarray(expected)[:, :, :19])
    assert np.isnan(np.asarray(got)[:, :, 19]).all()


# ---- plans, metrics, memory ------------------------------------------------------------------------------------------


def test_the_record_says_that_nothing_was_packed():
    rng = np.random.default_rng(11)
    w = random_array(rng, (896, 1000), F32)
    for m in (20, 600):
        packed, x = ml.prepack(w), random_array(rng, (m, 896), F32)
        plain = ml.explain(ml.matmul, x, w)
        with ml.profile() as profile:
            x = ml.array(x)
            first, second = x @ packed, x @ packed
        assert bits(first) == bits(second)
        made, found = profile.records
        for record in made, found:
            assert record["impl"] == plain.impl and WHY in record["why"]
        assert WHY not in plain.why
        # what B would take: a panel of one k block for each thread, or the slab of all columns
        assert found["scratch_bytes"] < plain.to_dict()["scratch_bytes"]
        assert not made["cache_hit"] and found["cache_hit"]
        assert made["copied_bytes"] >= 896 * 1000 * 4 and found["copied_bytes"] == 0


def test_small_products_read_the_copy():
    w = ml.prepack(np.ones((300, 200), F32))
    for m in (1, 8):
        plan = ml.explain(ml.matmul, np.ones((m, 300), F32), w)
        assert plan.backend == "gemv" and not reads_panels(plan)
        assert plan.to_dict() == ml.explain(ml.matmul, np.ones((m, 300), F32), np.ones((300, 200), F32)).to_dict()
    with ml.profile() as profile:
        ml.matmul(np.ones((1, 300), F32), w)
    assert profile.records[-1]["copied_bytes"] == 0


def test_either_side_reads_panels():
    w, x = ml.prepack(np.ones((300, 200), F32)), np.ones((20, 300), F32)
    for call in (
        lambda f: f(ml.matmul, x, w),
        lambda f: f(ml.linear, x, w.T),
        lambda f: f(ml.addmm, np.ones(200, F32), x, w),
        lambda f: f(ml.matmul, w, x.T, transpose_a=True),
        lambda f: f(ml.matmul, w.T, x.T),
        lambda f: f(ml.matmul, np.ones((3, 20, 300), F32), w),
        lambda f: f(ml.matmul, np.ones((20, 200), F32), w, transpose_b=True),
    ):
        assert reads_panels(call(ml.explain))
    # a weight that is the short side is packed in no time, and better as rows
    short = ml.prepack(np.ones((300, 20), F32))
    assert not reads_panels(ml.explain(ml.matmul, np.ones((500, 300), F32), short))


@pytest.mark.skipif(BF16 is None, reason="ml_dtypes is not installed: no bfloat16 arrays")
def test_each_kernel_has_its_own_panels():
    """Every tier, both precisions, mixed dtypes, over one weight."""
    rng = np.random.default_rng(12)
    w, x = random_array(rng, (300, 200), BF16), random_array(rng, (30, 300), BF16)
    packed = ml.prepack(w)
    for _ in range(2):
        for route in TILED:
            for precision in ("fast", "high"):
                ctx = route.context(precision=precision)
                for rows in (x, x.astype(F32)):
                    assert reads_panels(ml.explain(ml.matmul, rows, packed, ctx=ctx))
                    got = ml.matmul(rows, packed, ctx=ctx)
                    assert bits(got) == bits(ml.matmul(rows, w, ctx=ctx))
                    assert_close(np.asarray(got), *reference_matmul(rows, w))


def test_measured_rows_of_small_n_kernels_are_about_a_gemm_that_packs():
    x = np.ones((1024, 12), F32)
    plain = {dtype: np.ones((512, 1024), dtype) for dtype in (F32, F16)}
    if ml.explain(ml.matmul, plain[F32], x).backend != "gemv":
        pytest.skip("no tuning table of this CPU gives 512 x 12 x 1024 to the small-N kernels")
    assert reads_panels(ml.explain(ml.matmul, ml.prepack(plain[F32]), x))
    # panels of f16 hold twice the bytes of the weight
    assert ml.explain(ml.matmul, ml.prepack(plain[F16]), x.astype(F16)).backend == "gemv"
    assert ml.explain(ml.matmul, ml.prepack(plain[F32]), x, backend="gemv").backend == "gemv"


def test_memory_goes_with_the_last_view():
    ctx = ml.Context("cpu", isa="scalar")
    in_use = lambda: ctx.memory_stats()["bytes_in_use"]  # noqa: E731
    before = in_use()
    w = ctx.matmul(np.ones((256, 4), F32), np.ones((4, 512), F32))
    packed = ctx.prepack(w)
    del w
    gc.collect()
    assert in_use() - before == 256 * 512 * 4
    x = np.ones((20, 256), F32)
    for _ in range(3):
        ctx.matmul(x, packed)
    assert in_use() - before == 2 * 256 * 512 * 4
    ctx.linear(np.ones((20, 512), F32), packed)
    assert in_use() - before == 3 * 256 * 512 * 4
    view = packed.T
    del packed
    assert (np.asarray(ctx.linear(x, view)) == 4 * 256).all()
    del view
    gc.collect()
    assert in_use() == before


def test_repeated_weights_are_held_once():
    ctx = ml.Context("cpu", isa="scalar")
    w = ml.array(np.ones((64, 32), F32), copy=True).broadcast_to((5, 64, 32))
    before = ctx.memory_stats()["bytes_in_use"]
    packed = ctx.prepack(w)
    assert packed.shape == (5, 64, 32) and ctx.memory_stats()["bytes_in_use"] - before == 64 * 32 * 4
    assert (np.asarray(ctx.matmul(np.ones((5, 20, 64), F32), packed)) == 64).all()


def test_cached_only():
    x, packed = np.ones((20, 64), F32), ml.prepack(np.ones((64, 48), F32))
    cache = ml.ResourceCache(cached_only=True)
    with pytest.raises(ml.ResourceNotCached):
        ml.matmul_alpha_beta(x, packed, None, False, False, 1.0, 0.0, cache=cache)


# ---- a weight that never changes -------------------------------------------------------------------------------------


def test_what_becomes_of_the_source_does_not_matter():
    rng = np.random.default_rng(13)
    w = random_array(rng, (100, 120), F32)
    x, expected = random_array(rng, (20, 100), F32), w.copy()
    packed = ml.prepack(w)
    w[...] = np.nan
    assert bits(x @ packed) == bits(ml.matmul(x, expected))
    w[...] = 7
    assert bits(x @ packed) == bits(ml.matmul(x, expected))
    del w
    gc.collect()
    assert bits(x[:1] @ packed) == bits(ml.matmul(x[:1], expected))


def _assign(t):
    t[0, 0] = 1


def _add(t):
    t += 1


def _multiply(t):
    t @= np.ones((100, 100), F32)


@pytest.mark.parametrize(
    "write",
    [
        _assign, _add, _multiply,
        lambda t: t.fill(0),
        lambda t: t.T.fill(0),
        lambda t: _assign(t[2:, ::2]),
        lambda t: ml.matmul(np.ones((100, 3), F32), np.ones((3, 100), F32), out=t),
        lambda t: ml.softmax(t, out=t),
        lambda t: ml.add(t, 1, out=t),
    ],
)  # fmt: skip
def test_writing_raises(write):
    packed = ml.prepack(np.ones((100, 100), F32))
    with pytest.raises(ValueError, match="prepacked"):
        write(packed)
    assert (np.asarray(packed) == 1).all()


def test_foreign_views_are_read_only():
    packed = ml.prepack(np.ones((4, 6), F32))
    seen = packed.numpy()
    assert np.shares_memory(seen, packed.numpy()) and not seen.flags.writeable
    with pytest.raises(ValueError):
        seen.flags.writeable = True
    assert memoryview(packed).readonly
    with pytest.raises(BufferError):
        packed.__dlpack__()
    assert not np.from_dlpack(packed).flags.writeable if hasattr(np, "from_dlpack") else True
    again = ml.array(seen)
    with pytest.raises(ValueError):
        again.fill(0)


@all_dtypes
def test_copies_are_ordinary_tensors(dtype):
    w = random_array(np.random.default_rng(14), (40, 50), dtype)
    packed = ml.prepack(w)
    x = np.ones((20, 40), dtype)
    for made in (
        packed.copy(), copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)),
        packed.astype(ml.float32).astype(packed.dtype), ml.array(packed, copy=True),
    ):  # fmt: skip
        if made is packed:
            continue
        assert bits(made) == bits(w) and made.dtype == packed.dtype
        assert bits(ml.matmul(x, made)) == bits(ml.matmul(x, packed))
        assert not reads_panels(ml.explain(ml.matmul, x, made))
        made.fill(0)
    assert bits(packed) == bits(w)


def test_prepacking_again_shares():
    packed = ml.prepack(np.arange(600, dtype=F32).reshape(20, 30))
    again, turned = ml.prepack(packed), ml.prepack(packed, transpose=True)
    assert np.shares_memory(again.numpy(), packed.numpy()) and np.shares_memory(turned.numpy(), packed.numpy())
    assert bits(turned) == bits(packed.numpy().T) and bits(ml.prepack(turned, transpose=True)) == bits(packed)
    part = ml.prepack(packed[:, 1:])
    assert not np.shares_memory(part.numpy(), packed.numpy())
    assert bits(part) == bits(packed.numpy()[:, 1:])


def test_other_uses():
    w = np.arange(24, dtype=F32).reshape(4, 6)
    packed = ml.prepack(w, transpose=True)
    assert packed.shape == (6, 4) and packed.tolist() == w.T.tolist()
    assert (np.asarray(packed + 1) == w.T + 1).all()
    assert packed[2, 3].item() == w[3, 2]
    assert np.allclose(np.asarray(ml.softmax(packed)).sum(-1), 1)
    for device in ml.devices():
        if device["available"]:
            there = packed.to(device["name"])
            assert there.device == device["name"] and there.tolist() == w.T.tolist()


def test_float64_becomes_float32():
    assert ml.prepack(np.ones((3, 4))).dtype == ml.float32


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: ml.prepack(np.ones(5, F32)), ml.ShapeError, ["weight", "[5]"]),
        (lambda: ml.prepack(np.ones((2, 3), np.int32)), ml.DTypeError, ["weight", "int32"]),
        (lambda: ml.prepack(None), ml.DTypeError, ["weight"]),
        (lambda: ml.prepack(), TypeError, ["weight"]),
        (lambda: ml.prepack(np.ones((2, 3), F32), True), TypeError, ["prepack"]),
        (lambda: np.ones((5, 4), F32) @ ml.prepack(np.ones((5, 3), F32)), ml.ShapeError, ["[5, 4]", "[5, 3]"]),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error) as info:
        call()
    for word in words:
        assert word in str(info.value)


# ---- threads ---------------------------------------------------------------------------------------------------------


@all_dtypes
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    rng = np.random.default_rng(15)
    w = random_array(rng, (1100, 400), dtype)
    inputs = [random_array(rng, (m, 1100), dtype) for m in (12, 40, 400)]
    expected = [bits(ml.matmul(x, w, variant="gemm")) for x in inputs]  # panels are the GEMM's, however few the rows
    before = ml._core._get_num_threads()
    try:
        for threads in (1, 2, 7):
            ml.set_num_threads(threads)
            packed = ml.prepack(w)
            assert [bits(ml.matmul(x, packed, variant="gemm")) for x in inputs] == expected
    finally:
        ml.set_num_threads(before)


def test_many_threads_want_the_panels_at_once():
    rng = np.random.default_rng(16)
    w, x = random_array(rng, (300, 400), F32), random_array(rng, (20, 300), F32)
    expected = bits(ml.matmul(x, w))
    ctx = ml.Context("cpu")
    for _ in range(5):
        before = ctx.memory_stats()["bytes_in_use"]
        packed, start, wrong = ctx.prepack(w), threading.Barrier(6), []

        def work(packed=packed, start=start, wrong=wrong):
            start.wait(10)
            for _ in range(4):
                if bits(ctx.matmul(x, packed)) != expected:
                    wrong.append(threading.get_ident())

        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong
        gc.collect()
        held = ctx.memory_stats()["bytes_in_use"] - before  # panels: one set, whole panels
        assert 2 * w.nbytes <= held <= 2 * w.nbytes + 300 * 64 * 4
        del packed, work, threads
        gc.collect()
