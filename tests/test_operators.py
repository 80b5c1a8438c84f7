"""Operators and the element-wise functions: broadcasting, promotion, weak scalars, NumPy on either side."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metallic as ml

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv]
FUNCTIONS = [ml.add, ml.subtract, ml.multiply, ml.divide]
FLOATS = [ml.float32, ml.float16, ml.bfloat16]
INTEGERS = [ml.int32, ml.uint8, ml.bool_]


def name(value):
    return getattr(value, "name", None) or getattr(value, "__name__", repr(value))


def values(x) -> np.ndarray:
    return np.array(x.tolist())


def f32(*shape, start=1):
    return np.arange(start, start + int(np.prod(shape)), dtype=np.float32).reshape(shape)


# ---- results


@pytest.mark.parametrize("op", OPERATORS, ids=name)
def test_tensors_arrays_and_scalars(op):
    a, b = f32(2, 3), f32(2, 3, start=3)
    x, y = ml.array(a), ml.array(b)
    for left, right in itertools.product((a, x, 2, 2.5, np.float64(2), np.float32(2), True), (b, y, 4, np.int64(3))):
        if not isinstance(left, ml.Tensor) and not isinstance(right, ml.Tensor):
            continue
        result = op(left, right)
        assert isinstance(result, ml.Tensor) and result.dtype is ml.float32
        first, second = (np.asarray(o, np.float32) for o in (left, right))
        np.testing.assert_array_equal(np.asarray(result), op(first, second))


@pytest.mark.parametrize("op, function", list(zip(OPERATORS, FUNCTIONS, strict=True)), ids=name)
def test_functions_and_methods_are_the_operators(op, function):
    x, y = ml.array(f32(3, 1)), ml.array(f32(1, 4))
    expected = values(op(x, y))
    out = ml.zeros((3, 4))
    assert function(x, y, out=out) is out
    for result in (function(x, y), getattr(ml.Context("cpu"), function.__name__)(x, y), out):
        np.testing.assert_array_equal(values(result), expected)
    np.testing.assert_array_equal(values(function(2, x)), values(op(2, x)))
    assert function(6, 2).tolist() == op(6, 2)


@given(st.data())
def test_broadcasting_is_numpys(data):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    shapes = [
        tuple(data.draw(st.sampled_from([n, 1])) for n in shape[data.draw(st.integers(0, len(shape))) :])
        for _ in range(2)
    ]
    a, b = f32(*shapes[0]), f32(*shapes[1])
    result = ml.array(a) + b
    expected = a + b
    assert result.shape == expected.shape and values(result).tolist() == expected.tolist()


@pytest.mark.parametrize("a, b", list(itertools.product(FLOATS + INTEGERS, repeat=2)), ids=name)
def test_promotion(a, b):
    if a is b:
        expected = a
    elif a in FLOATS and b in FLOATS:
        expected = ml.float32
    elif a in FLOATS or b in FLOATS:
        expected = a if a in FLOATS else b
    else:
        expected = max((a, b), key=[ml.bool_, ml.uint8, ml.int32].index)
    x, y = ml.ones(2, a), ml.ones(2, b)
    for op in OPERATORS[:3]:
        if expected is ml.bool_:
            continue
        assert op(x, y).dtype is expected
    assert (x / y).dtype is (expected if expected in FLOATS else ml.float32)
    assert (x == y).dtype is ml.bool_ and (x == y).tolist() == [True, True]


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_scalars_are_weak(dtype):
    x = ml.ones(2, dtype)
    for scalar in (2, 2.5, True, np.float64(2), np.float32(2), np.int64(2)):
        for op in OPERATORS:
            assert op(x, scalar).dtype is dtype and op(scalar, x).dtype is dtype
    assert (x + np.ones(2, np.float32)).dtype is ml.float32  # an array is no scalar


def test_integers_take_integer_scalars():
    x = ml.array([1, 2, 3], dtype=ml.int32)
    assert (x + 2).dtype is ml.int32 and (x * 3 - 1).tolist() == [2, 5, 8]
    assert (x / 2).dtype is ml.float32 and (x / 2).tolist() == [0.5, 1, 1.5]


@pytest.mark.parametrize("op", [operator.eq, operator.ne], ids=name)
def test_comparisons_are_element_wise(op):
    a = f32(2, 2)
    x = ml.array(a)
    for other in (a.T, ml.array(a.T), 3, 3.0, np.float32(3)):
        for result in (op(x, other), op(other, x)):
            assert isinstance(result, ml.Tensor) and result.dtype is ml.bool_
            np.testing.assert_array_equal(np.asarray(result), op(a, np.asarray(other)))
    nan = ml.array([np.nan])
    assert (nan == nan).tolist() == [False] and (nan != nan).tolist() == [True]
    assert (x == None) is False and (x != "text") is True  # noqa: E711
    with pytest.raises(TypeError):
        x < x  # noqa: B015
    with pytest.raises(ValueError):
        bool(x == x)


def test_matrix_products_on_either_side():
    a, b = f32(2, 3), f32(3, 2)
    expected = (a.astype(np.float64) @ b).tolist()
    for left, right in itertools.product((a, ml.array(a)), (b, ml.array(b))):
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            continue
        result = left @ right
        assert isinstance(result, ml.Tensor) and result.tolist() == expected
    assert (ml.array(a) @ b.astype(np.float64)).tolist() == expected
    with pytest.raises(TypeError):
        ml.array(a) @ 2
    with pytest.raises(TypeError):
        ml.array(a) @ [[1.0]]


def test_numpys_functions_work_on_tensors():
    x = ml.array(f32(2, 2))
    assert isinstance(np.sqrt(x), np.ndarray)
    np.testing.assert_array_equal(np.sqrt(x), np.sqrt(f32(2, 2)))
    assert np.sum(x) == 10 and np.concatenate([x, x]).shape == (4, 2)
    target = f32(2, 2)
    target += x
    np.testing.assert_array_equal(target, 2 * f32(2, 2))
    assert not hasattr(ml.Tensor, "__array_ufunc__") and x.__array_priority__ == 1000


def test_operands_that_are_none():
    x = ml.ones(2)
    for other in (None, "text", [1, 2], {}, object(), 1j, np.complex64(1), np.str_("1")):
        for op in OPERATORS + IN_PLACE:
            with pytest.raises(TypeError):
                op(x, other)
            if not isinstance(other, (list, np.generic)):  # a list takes any iterable as its tail, NumPy any buffer
                with pytest.raises(TypeError):
                    op(other, x)
    for function in FUNCTIONS:
        with pytest.raises(TypeError):
            function(x, None)

    class Other:
        def __radd__(self, left):
            return "reflected"

    assert x + Other() == "reflected"


# ---- in place and out=


@pytest.mark.parametrize("op", IN_PLACE, ids=name)
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_in_place_keeps_the_dtype(op, dtype):
    for other in (
        2,
        2.5,
        np.float64(2),
        ml.full((2,), 3, ml.float32),
        ml.full((1,), 3, ml.float16),
        np.full(2, 3.0),
        ml.ones(2, ml.int32),
    ):
        x = ml.full((3, 2), 6, dtype)
        view = x[1]
        result = op(view, other)
        assert result is view and result.dtype is dtype
        exact = op(np.full(2, 6.0), np.asarray(other if np.isscalar(other) else other.tolist()))
        assert (
            x[1].tolist() == ml.array(exact, dtype=dtype).tolist()
            and x[0].tolist() == [6, 6]
            and x[2].tolist() == [6, 6]
        )


def test_in_place_on_integers():
    x = ml.array([1, 2], dtype=ml.int32)
    x += 1
    x *= ml.array([2, 3], dtype=ml.uint8)
    assert x.dtype is ml.int32 and x.tolist() == [4, 9]
    for other in (ml.ones(2), np.ones(2, np.float16)):
        with pytest.raises(ml.DTypeError):
            x += other
    with pytest.raises(ml.DTypeError):
        x /= 2
    small = ml.ones(2, ml.uint8)
    with pytest.raises(ml.DTypeError):
        small += x
    with pytest.raises(ml.DTypeError, match="uint8"):
        ml.add(small, ml.full(2, 300, ml.int32), out=small)
    assert x.tolist() == [4, 9] and small.tolist() == [1, 1]


def test_in_place_does_not_grow():
    x = ml.ones((1, 2))
    with pytest.raises(ml.ShapeError):
        x += np.ones((3, 2), np.float32)
    with pytest.raises(ml.ShapeError):
        x[0][:1].broadcast_to((4,)).__iadd__(1)


def test_in_place_through_an_index():
    x = ml.array(f32(3, 3))
    x[1] += 10
    x[:, 0] *= 2
    expected = f32(3, 3)
    expected[1] += 10
    expected[:, 0] *= 2
    np.testing.assert_array_equal(np.asarray(x), expected)


def test_in_place_matrix_product():
    x = ml.array(f32(2, 2))
    y = x
    x @= np.eye(2, dtype=np.float32)[::-1]
    assert x is y and x.tolist() == f32(2, 2)[:, ::-1].tolist()
    x @= x
    np.testing.assert_array_equal(np.asarray(x), f32(2, 2)[:, ::-1] @ f32(2, 2)[:, ::-1])
    with pytest.raises(ml.ShapeError):
        x @= np.ones((2, 3), np.float32)
    half = ml.ones((2, 2), ml.float16)
    half @= ml.ones((2, 2))
    assert half.dtype is ml.float16 and half.tolist() == [[2, 2], [2, 2]]


def test_out():
    guard = np.full((5, 6), -1, np.float32)
    out = guard[1:4:2, 4:0:-2]
    result = ml.add(f32(2, 2), 1, out=out)
    assert result is out
    np.testing.assert_array_equal(out, f32(2, 2) + 1)
    out[...] = -1
    assert (guard == -1).all()
    x = ml.array(f32(2, 2))
    assert ml.multiply(x, x, out=x) is x  # exactly an input
    np.testing.assert_array_equal(np.asarray(x), f32(2, 2) ** 2)
    with pytest.raises(ml.ShapeError):  # shares some elements
        ml.add(x[:, :1], 1, out=x[:, ::-1][:, :1].broadcast_to((2, 2)))
    with pytest.raises(ml.ShapeError):
        ml.add(x, 1, out=x.T)
    with pytest.raises(ml.ShapeError):
        ml.add(x, 1, out=ml.empty((3, 2)))
    with pytest.raises(ml.DTypeError):
        ml.add(x, 1, out=ml.empty((2, 2), ml.float16))
    with pytest.raises(ValueError):
        ml.add(x, 1, out=np.empty((2, 2)))  # float64 cannot be written in place
    with pytest.raises(TypeError):
        ml.add(x, 1, out=[[0, 0], [0, 0]])


@pytest.mark.parametrize("op", OPERATORS, ids=name)
@pytest.mark.parametrize("dtype", FLOATS[1:], ids=name)
def test_half_precision_rounds_once(op, dtype, rng):
    a, b = (rng.standard_normal(500).astype(np.float32) for _ in range(2))
    x, y = ml.array(a, dtype=dtype), ml.array(b, dtype=dtype)
    exact = op(values(x), values(y))
    assert op(x, y).tolist() == ml.array(exact, dtype=dtype).tolist()
