"""Tensors: attributes, creation, views, indexing, assignment, copies, pickling."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metallic as ml

DTYPES = [ml.float32, ml.float16, ml.bfloat16, ml.int32, ml.uint8, ml.bool_]
NUMPY_DTYPES = [np.float32, np.float16, np.int32, np.uint8, np.bool_]


def ids(dtype):
    return getattr(dtype, "name", None) or np.dtype(dtype).name


def arange(*shape, dtype=np.float32):
    return np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape)


# ---- dtypes


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
def test_dtype_objects(dtype):
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert copy.deepcopy(dtype) is dtype
    assert {dtype: 1}[dtype] == 1
    assert dtype == dtype and dtype != next(d for d in DTYPES if d is not dtype)
    assert dtype.itemsize == ml.empty(1, dtype).nbytes
    assert str(dtype) == dtype.name and repr(dtype).startswith("metallic.")
    with pytest.raises(TypeError):
        type(dtype)()
    with pytest.raises(AttributeError):
        dtype.name = "other"


@pytest.mark.parametrize(
    "given, expected",
    [
        ("float16", ml.float16), ("bool", ml.bool_), ("bool_", ml.bool_), ("bfloat16", ml.bfloat16),
        (np.float32, ml.float32), (np.dtype("int32"), ml.int32), (np.dtype(">f2"), ml.float16), (np.bool_, ml.bool_),
        (float, ml.float32), (int, ml.int32), (bool, ml.bool_),
    ],
)  # fmt: skip
def test_dtypes_by_other_names(given, expected):
    assert ml.empty(1, given).dtype is expected


def test_ml_dtypes_names():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    assert ml.empty(1, ml_dtypes.bfloat16).dtype is ml.bfloat16
    assert ml.empty(1, np.dtype(ml_dtypes.bfloat16)).dtype is ml.bfloat16


@pytest.mark.parametrize("wrong", ["float64", np.float64, np.complex64, "no such", None, 3, object()])
def test_wrong_dtypes(wrong):
    with pytest.raises(ml.DTypeError):
        ml.empty(1, wrong)


# ---- creation


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
def test_creation(dtype):
    assert ml.zeros((2, 3), dtype).tolist() == [[0] * 3] * 2
    assert ml.ones(3, dtype).tolist() == [1, 1, 1]
    assert ml.full((2,), 1, dtype).dtype is dtype
    x = ml.full((2, 1), 1, dtype)
    for like in (ml.zeros_like(x), ml.ones_like(x), ml.empty_like(x), ml.full_like(x, 0)):
        assert (like.shape, like.dtype, like.device) == ((2, 1), dtype, x.device)
    assert type(x.tolist()[0][0]) is {ml.int32: int, ml.uint8: int, ml.bool_: bool}.get(dtype, float)


def test_creation_shapes():
    assert ml.empty(3).shape == (3,)
    assert ml.empty(()).shape == () and ml.empty(()).size == 1
    assert ml.empty((2, 0)).size == 0
    assert ml.empty([np.int64(2), 3]).shape == (2, 3)
    assert ml.empty((1,) * 8).ndim == 8
    assert ml.zeros_like(np.ones((2, 2))).dtype is ml.float32


@pytest.mark.parametrize("shape", [-1, (2, -3), (1,) * 9, (2**40, 2**40)])
def test_wrong_shapes(shape):
    with pytest.raises(ml.ShapeError):
        ml.empty(shape)


@pytest.mark.parametrize("shape", ["ab", 1.5, (1.5,), None])
def test_shapes_of_wrong_type(shape):
    with pytest.raises(TypeError):
        ml.empty(shape)


# ---- attributes and views


def test_attributes():
    x = ml.array(arange(2, 3, 4))
    assert (x.shape, x.strides, x.ndim, x.size, x.nbytes) == ((2, 3, 4), (48, 16, 4), 3, 24, 96)
    assert x.device == "cpu" and x.dtype is ml.float32 and len(x) == 2
    assert x.T.shape == (4, 3, 2) and x.T.strides == (4, 16, 48)
    assert x.mT.shape == (2, 4, 3)
    with pytest.raises(ml.ShapeError):
        x[0, 0].mT  # noqa: B018
    with pytest.raises(AttributeError):
        x.shape = (24,)
    with pytest.raises(TypeError):
        ml.Tensor()
    with pytest.raises(TypeError):
        hash(x)


def same(tensor, expected):
    assert tensor.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(tensor), expected)


def test_views_share_memory():
    a = arange(2, 3, 4)
    x = ml.array(a)
    for view, expected in [
        (x.T, a.T), (x.mT, a.swapaxes(1, 2)), (x.transpose(), a.T), (x.transpose(1, 0, 2), a.transpose(1, 0, 2)),
        (x.transpose((2, 0, 1)), a.transpose(2, 0, 1)), (x.transpose(-1, 0, 1), a.transpose(-1, 0, 1)),
        (x.swapaxes(0, -1), a.swapaxes(0, -1)), (x.reshape(6, 4), a.reshape(6, 4)), (x.reshape(-1), a.reshape(-1)),
        (x.reshape((4, 6)), a.reshape(4, 6)), (x.reshape([2, -1]), a.reshape(2, -1)),
        (x.expand_dims(1), a[:, None]), (x.expand_dims(-1), a[..., None]), (x[:1].squeeze(), a[:1].squeeze()),
        (x[:1].squeeze(0), a[0]), (x[:, :1].squeeze(-2), a[:, 0]),
        (x.broadcast_to((5, 2, 3, 4)), np.broadcast_to(a, (5, 2, 3, 4))),
    ]:  # fmt: skip
        same(view, expected)
        assert np.shares_memory(np.asarray(view), a)
    assert x.broadcast_to((5, 2, 3, 4)).strides[0] == 0
    assert x.is_contiguous() and not x.T.is_contiguous()


def test_reshape_copies_where_no_view_exists():
    a = arange(2, 3)
    flat = ml.array(a).T.reshape(6)
    same(flat, a.T.reshape(6))
    assert not np.shares_memory(np.asarray(flat), a)
    same(ml.array(a).T.reshape(3, 2), a.T)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(5), lambda x: x.reshape(-1, -1), lambda x: x.reshape(4, -1), lambda x: x.reshape(2, 3, -2),
        lambda x: x.transpose(0), lambda x: x.transpose(0, 0), lambda x: x.transpose(0, 2), lambda x: x.swapaxes(0, 2),
        lambda x: x.broadcast_to((2, 4)), lambda x: x.broadcast_to((3,)), lambda x: x.squeeze(0),
        lambda x: x.squeeze(5), lambda x: x.expand_dims(3), lambda x: x.expand_dims(-4), lambda x: x.reshape(0, -1),
    ],
)  # fmt: skip
def test_views_that_do_not_fit(call):
    with pytest.raises(ml.ShapeError):
        call(ml.zeros((2, 3)))


# ---- indexing

BOUND = st.one_of(st.none(), st.integers(-6, 6))
INDEX = st.one_of(
    st.integers(-4, 3), st.builds(slice, BOUND, BOUND, st.sampled_from([None, 1, 2, -1, -2, 3]))
)  # fmt: skip


@given(st.lists(INDEX, max_size=3), st.integers(0, 3), st.booleans(), st.integers(0, 3))
def test_indexing_is_numpys(items, at, ellipsis, none_at):
    a = arange(4, 4, 4)
    key = list(items)
    if ellipsis:
        key.insert(min(at, len(key)), ...)
    key.insert(min(none_at, len(key)), None)
    key = tuple(key)
    expected = a[key]
    result = ml.array(a)[key]
    same(result, expected)
    assert expected.size == 0 or np.shares_memory(np.asarray(result), a)


def test_indexing_edges():
    a = arange(3, 2)
    x = ml.array(a)
    same(x[1], a[1])
    same(x[-1, ::-1], a[-1, ::-1])
    same(x[np.int64(1)], a[1])
    same(x[()], a[()])
    same(x[2:0:-1], a[2:0:-1])
    same(x[5:], a[5:])
    same(x[:: 2**60], a[:: 2**60])
    same(x[0, 0], a[0, 0])
    assert x[0, 0].item() == 0
    for key in (3, -4, (0, 2), (0, 0, 0), (..., ...)):
        with pytest.raises(IndexError):
            x[key]
    for key in ("a", 1.0, True, [0, 1], np.array([0, 1]), ml.zeros(1, ml.int32), None.__class__):
        with pytest.raises(TypeError):
            x[key]
    with pytest.raises(IndexError):
        ml.zeros((1,) * 8)[None]
    with pytest.raises(ValueError):
        x[::0]


def test_iteration():
    x = ml.array(arange(3, 2))
    assert [row.tolist() for row in x] == arange(3, 2).tolist()
    assert [r.tolist() for r in reversed(x)] == arange(3, 2)[::-1].tolist()
    for call in (len, iter):
        with pytest.raises(TypeError):
            call(ml.zeros(()))
    assert list(ml.zeros((0, 3))) == []


@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=ids)
@pytest.mark.parametrize(
    "key, value",
    [
        ((0, 1), 1),
        ((0, 1), np.float64(1)),
        (1, np.ones(4, np.float32)),
        ((slice(None), 2), np.array([1, 0, 1], np.int32)),
        ((..., slice(None, None, -2)), True),
        (2, np.ones(1, np.float16)),
        ((slice(None), slice(0, 2)), np.ones((3, 1))),
        ((slice(None, None, -1),), np.eye(3, 4, dtype=np.uint8)),
    ],
)
def test_assignment(dtype, key, value):
    expected = np.zeros((3, 4), dtype)
    x = ml.array(expected, copy=True)
    expected[key] = value
    x[key] = value
    same(x, expected)
    y = ml.zeros((3, 4), dtype)
    y[key] = value if np.isscalar(value) else ml.array(value)
    same(y, expected)


def test_assignment_rules():
    x = ml.zeros((2, 3))
    for value in (np.zeros((3, 2), np.float32), np.zeros((4,), np.float32)):
        with pytest.raises(ml.ShapeError):
            x[...] = value
    with pytest.raises(ml.ShapeError):  # shares elements, but not exactly the same ones
        x[:, 1:] = x[:, :-1]
    x[0] = x[0]
    with pytest.raises(TypeError):
        del x[0]
    with pytest.raises(TypeError):
        x[0] = "text"
    with pytest.raises(ml.DTypeError):
        ml.zeros(2, ml.uint8)[0] = 256
    with pytest.raises(ml.DTypeError):
        ml.zeros(2, ml.int32)[...] = np.array([np.nan, 1], np.float32)
    frozen = np.zeros(2, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ml.array(frozen)[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        ml.array(frozen).fill(1)
    with pytest.raises(ml.ShapeError):
        ml.zeros(1).broadcast_to((3,))[...] = np.ones(3, np.float32)


# ---- values


def test_one_element():
    assert ml.array([2.5]).item() == 2.5 and float(ml.array(2.5)) == 2.5 and int(ml.array([[2.9]])) == 2
    assert ml.array([7], dtype=ml.int32).item() == 7 and type(ml.array(7).item()) is int
    assert ml.array(True).item() is True
    assert bool(ml.array([0.0])) is False and bool(ml.array(3)) is True
    assert int(ml.full((), -(2**31), ml.int32)) == -(2**31)
    for call in (bool, float, int, ml.Tensor.item):
        for x in (ml.zeros(2), ml.zeros(0)):
            with pytest.raises(ValueError, match="one element"):
                call(x)
    with pytest.raises(ValueError):
        int(ml.array([np.nan]))


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
def test_casts(dtype):
    values = [0.0, 1.0, 2.0, 100.0]
    x = ml.array(values).astype(dtype)
    assert x.dtype is dtype
    assert x.tolist() == [bool(v) if dtype is ml.bool_ else v for v in values]
    assert x.astype(dtype) is not x
    assert ml.array(values, dtype=dtype).tolist() == x.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**31, -(2.0**31) - 1])
def test_casts_to_integers_are_checked(value):
    with pytest.raises(ml.DTypeError):
        ml.array([value], dtype=ml.int32)
    with pytest.raises(ml.DTypeError):
        ml.array(np.array([value], np.float32)).astype(ml.uint8)


def test_float64_rounds_once():
    # just above the middle of two halves: by way of float32 it would fall back on the middle and round to even
    value = 1 + 2.0**-11 + 2.0**-30
    assert ml.array(np.array([value]), dtype=ml.float16).tolist() == [np.float16(value)]
    value = 1 + 2.0**-8 + 2.0**-30
    assert ml.array(np.array([value]), dtype=ml.bfloat16).tolist() == [1 + 2.0**-7]


def test_copy_and_to():
    x = ml.array(arange(2, 3)).T
    for y in (x.copy(), copy.copy(x), copy.deepcopy(x), ml.array(x, copy=True)):
        same(y, arange(2, 3).T)
        assert y.is_contiguous() and not np.shares_memory(np.asarray(x), np.asarray(y))
    assert x.to("cpu") is x and ml.asarray(x) is x and ml.array(x) is x
    with pytest.raises(ml.DeviceError):
        x.to("no such device")
    with pytest.raises(TypeError):
        x.to(3)
    frozen = np.zeros(2, np.float32)
    frozen.flags.writeable = False
    ml.array(frozen).copy()[0] = 1
    assert ml.zeros(3).fill(2).tolist() == [2, 2, 2]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
def test_pickling(dtype, protocol):
    for x in (ml.array(arange(2, 3), dtype=dtype).T, ml.empty((0, 2), dtype), ml.ones((), dtype)):
        y = pickle.loads(pickle.dumps(x, protocol))
        assert y.dtype is dtype and y.shape == x.shape and y.tolist() == x.tolist() and y.is_contiguous()
    with pytest.raises(ValueError):
        ml._core._rebuild(b"123", (1,), ml.float32)


def test_repr():
    assert repr(ml.array([[1, 2], [3, 4]], dtype=ml.float32)) == "Tensor([[1., 2.],\n        [3., 4.]], dtype=float32)"
    assert repr(ml.array(1.5, dtype=ml.bfloat16)) == "Tensor(1.5, dtype=bfloat16)"
    assert repr(ml.zeros((0, 3))) == "Tensor([], shape=(0, 3), dtype=float32)"
    assert repr(ml.array([True])) == "Tensor([ True], dtype=bool_)"
    assert "..." in repr(ml.zeros(5000))


def test_weak_references_and_cycles():
    x = ml.zeros(3)
    ref = weakref.ref(x)
    holder = [x]
    holder.append(holder)
    del x, holder
    gc.collect()
    assert ref() is None


def test_views_past_2_to_the_31_elements():
    """Offsets are 64-bit: stride-0 views have so many elements without the memory."""
    x = ml.array(arange(2, 2)).expand_dims(0).broadcast_to((2**31 + 5, 2, 2))
    assert x.size == (2**31 + 5) * 4
    assert x[-1].tolist() == arange(2, 2).tolist()
    assert x[2**31 :].shape == (5, 2, 2)


def test_threads_share_tensors():
    x = ml.array(arange(64, 64))
    expected = np.asarray(x + 1).tobytes()
    failures = []

    def work():
        for _ in range(50):
            if np.asarray(x + 1).tobytes() != expected or x[3:5].T.copy().shape != (64, 2):
                failures.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_long_work_releases_the_gil():
    """While one thread multiplies, another runs: with this switch interval only if the GIL was given up."""
    a = ml.ones((768, 768))
    started, times = threading.Event(), {}

    def work():
        started.set()
        ml.matmul(a, a)
        times["end"] = time.perf_counter()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        times["meanwhile"] = time.perf_counter()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert times["meanwhile"] < times["end"]
