"""Numbers as operands of element-wise operations, and fills, on every device: rounded once, compared exactly."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import metallic as ml
from parity import BF16, F16, F32

DEVICES = [d["name"] for d in ml.devices() if d["available"]]
pytestmark = pytest.mark.parametrize("device", DEVICES)
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_a_number_takes_its_partners_dtype(device, dtype, op):
    x = np.array([0.3, -1.7, 20, 3, 0.5], F32).astype(dtype)
    there = ml.array(x, device=device)
    for number in (0.1, 1 / 3, 2049.0, 1.0000001):
        weak = np.array(number).astype(dtype)
        for got, exact in (
            (op(there, number), op(x.astype(F32), weak.astype(F32))),
            (op(number, there), op(weak.astype(F32), x.astype(F32))),
        ):
            np.testing.assert_array_equal(np.asarray(got).astype(F32), exact.astype(dtype).astype(F32))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_compare_exactly(device, dtype):
    values = {"int32": [0, 1, 2, 16777216, 16777217, 2**31 - 1, -(2**31)], "uint8": [0, 1, 2, 255], "bool": [0, 1]}
    x = np.array(values[dtype], dtype)
    there = ml.array(x, device=device)
    for number in (0, 1, 1.5, 2, 255, 256, 300.0, 16777217, 2**31 - 1, -(2**31), 2.0**31, 1e10, -1e10, 1e300, np.inf):
        for sign in (1, -1):
            expected = x.astype(np.float64) == sign * number
            assert (there == sign * number).tolist() == expected.tolist(), number
            assert (sign * number != there).tolist() == (~expected).tolist(), number
    assert not any((there == np.nan).tolist()) and all((there != np.nan).tolist())


def test_floats_compare_as_their_dtype(device):
    x = ml.array(np.array([0.1, 1, np.nan], F16), device=device)
    assert (x == 0.1).tolist() == [True, False, False]
    assert (x != 1.0).tolist() == [True, False, True]


def test_integer_numbers_that_do_not_fit_are_refused(device):
    x = ml.array(np.array([1, 2], np.int32), device=device)
    for number in (1.5, 1e10, np.nan):
        with pytest.raises(ml.DTypeError, match="cannot hold"):
            x + number
    assert (x / 1.5).tolist() == [float(np.float32(1) / np.float32(1.5)), float(np.float32(2) / np.float32(1.5))]


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("int32", [0, -1, 2**31 - 1, -(2**31)], [0.5, 2.0**31, -(2.0**31) - 1, np.nan, np.inf]),
        ("uint8", [0, 255], [-1, 256, 1.5, np.nan]),
    ],
)
def test_fills_are_checked(device, dtype, good, bad):
    for value in good:
        assert ml.full((3,), value, dtype=dtype, device=device).tolist() == [value] * 3
    for value in bad:
        with pytest.raises((ml.DTypeError, ValueError, OverflowError)):
            ml.full((3,), value, dtype=dtype, device=device)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.25, 256, -1, np.nan])
def test_a_boolean_fill_is_true_for_all_but_zero(device, value):
    made = ml.full((5,), value, dtype="bool", device=device)
    assert np.asarray(made).view(np.uint8).tolist() == [int(value != 0)] * 5
