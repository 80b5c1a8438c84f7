"""Matmul over shapes, views, epilogues and outputs that hypothesis makes up; and the aliasing rule of `out`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metallic as ml
from parity import DTYPE_IDS, DTYPES, F32, LAYOUTS, Guarded, assert_close, lay_out, reference_matmul, route_ids, routes

dims = st.one_of(st.integers(0, 5), st.integers(1, 40), st.sampled_from([64, 65, 127, 128, 130]))
scalars = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -0.375])
any_layout = st.sampled_from(LAYOUTS)
out_layouts = st.sampled_from([layout for layout in LAYOUTS if not layout.startswith("repeat")])


@st.composite
def problems(draw):
    dtype = draw(st.sampled_from(DTYPES))
    m, n, k = draw(dims), draw(dims), draw(dims)
    batch = draw(st.lists(st.integers(0, 3), max_size=2))
    # an operand's batch: a suffix of the result's, with some dims replaced by 1
    lead = []
    for _ in range(2):
        own = batch[draw(st.integers(0, len(batch))) :]
        lead.append([1 if draw(st.booleans()) and d != 1 else d for d in own])
    batch = list(np.broadcast_shapes(*map(tuple, lead)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def array(shape, layouts=any_layout):
        return lay_out(rng.standard_normal(shape).astype(F32).astype(dtype), draw(layouts))

    a, b = array((*lead[0], m, k)), array((*lead[1], k, n))
    beta = draw(scalars)
    c_shape = draw(st.sampled_from([(*batch, m, n), (m, n), (1, n), (m, 1), (n,)]))
    c = array(c_shape) if beta != 0 or draw(st.booleans()) else None
    bias = draw(st.sampled_from([None, (n,), (m, 1)]))
    kw = {
        "alpha": draw(scalars),
        "beta": beta,
        "c": c,
        "bias": array(bias) if bias is not None else None,
        "activation": draw(st.sampled_from([None, None, "silu", "gelu", "gelu_tanh", "relu"])),
    }
    return a, b, kw, (*batch, m, n), draw(st.one_of(st.none(), out_layouts))


@pytest.mark.parametrize("route", routes(), ids=route_ids())
@settings(max_examples=120)
@given(problem=problems())
def test_any_problem(route, problem):
    a, b, kw, shape, out_layout = problem
    out = Guarded(shape, a.dtype, out_layout) if out_layout else None
    target = ml.array(out.array, device=route.device, copy=False) if out else None
    before = [x.copy() for x in (a, b)]
    got = ml.matmul(a, b, out=target, ctx=route.context(), **kw)
    result, error = reference_matmul(a, b, **kw)
    assert tuple(got.shape) == shape
    assert_close(out.array if out else np.asarray(got), result, error, a.dtype)
    if out:
        out.check()
    assert all((x == y).all() for x, y in zip(before, (a, b), strict=True)), "an operand was changed"


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
def test_out_that_shares_an_element_with_an_input_is_refused(dtype):
    memory = np.ones((8, 16), dtype)
    t = ml.asarray(memory)
    a, b = np.ones((4, 8), dtype), np.ones((8, 8), dtype)
    cases = {
        "the operand itself": dict(a=t[:4, :8], b=b, out=t[:4, :8]),
        "shifted by one row": dict(a=t[:4, :8], b=b, out=t[1:5, :8]),
        "a transposed view": dict(a=a[:, :4], b=t[:4, :4], out=t[:4, :4].T),
        "part of b": dict(a=a, b=t[:8, :8], out=t[4:8, 4:12]),
        "c shifted": dict(a=a, b=b, c=t[1:5, :8], beta=1.0, out=t[:4, :8]),
        "c unread": dict(a=a, b=b, c=t[1:5, :8], beta=0.0, out=t[:4, :8]),
        "c transposed": dict(a=a, b=b[:, :4], c=t[:4, :4].T, beta=1.0, out=t[:4, :4]),
        "bias inside out": dict(a=a, b=b, bias=t[0, :8], out=t[:4, :8]),
        "out repeats itself": dict(a=a, b=b, out=t[:1, :8].broadcast_to((4, 8))),
    }
    for name, case in cases.items():
        case = dict(case)
        with pytest.raises(ml.ShapeError, match="out"):
            ml.matmul(case.pop("a"), case.pop("b"), **case)
            pytest.fail(f"accepted: {name}")
    assert (memory == 1).all()


def test_interleaved_views_that_share_no_element_are_allowed():
    memory = np.arange(128, dtype=F32).reshape(8, 16)
    t = ml.asarray(memory)
    a, b = t[:, ::2], ml.asarray(np.eye(8, dtype=F32))
    expected = memory[:, ::2].copy()
    ml.matmul(a, b, out=t[:, 1::2])
    assert (memory[:, 1::2] == expected).all() and (memory[:, ::2] == expected).all()


def test_read_only_out_is_refused():
    frozen = np.zeros((2, 2), F32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"out.*read-only"):
        ml.matmul(np.eye(2, dtype=F32), np.eye(2, dtype=F32), out=ml.asarray(frozen))


@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [((2, 3), (4, 5)), ((3,), (4,)), ((2, 2, 3), (3, 3, 4)), ((2, 3), (3, 4, 5)), ((), (3,))]
)
def test_shapes_that_do_not_fit(shape_a, shape_b):
    with pytest.raises(ml.ShapeError) as info:
        ml.matmul(np.zeros(shape_a, F32), np.zeros(shape_b, F32))
    for word in (*map(str, shape_a), "float32", "matmul"):
        assert word in str(info.value)


def test_results_do_not_depend_on_what_the_allocator_left_behind():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((37, 53)).astype(F32), rng.standard_normal((53, 41)).astype(F32)
    results = []
    for poison in (0.0, np.nan, np.inf):
        for backend in ("mlx", "gemv", "mps"):
            junk = [ml.full((64, 64), poison) for _ in range(8)]  # goes back to the pool and is handed out again
            del junk
            results.append((backend, np.asarray(ml.matmul(a, b, backend=backend)).tobytes()))
    for backend in ("mlx", "gemv", "mps"):
        assert len({data for name, data in results if name == backend}) == 1
