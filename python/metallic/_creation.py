"""Tensors that are made rather than taken."""

from __future__ import annotations

from typing import Any

from ._core import Tensor, _empty, array, float32


def empty(shape, dtype=float32, *, device=None) -> Tensor:
    """A tensor with undefined elements, contiguous, in memory that every device can use in place.

    shape: an integer or a sequence of integers (at most 8). Errors: ShapeError, DTypeError, DeviceError.

    >>> import metallic as ml
    >>> ml.empty((2, 0, 3), ml.float16).shape
    (2, 0, 3)
    """
    return _empty(shape, dtype, device)


def zeros(shape, dtype=float32, *, device=None) -> Tensor:
    """A tensor of zeros; arguments as empty().

    >>> import metallic as ml
    >>> ml.zeros(2, ml.int32)
    Tensor([0, 0], dtype=int32)
    """
    return _empty(shape, dtype, device).fill(0)


def ones(shape, dtype=float32, *, device=None) -> Tensor:
    """A tensor of ones; arguments as empty().

    >>> import metallic as ml
    >>> ml.ones((1, 2))
    Tensor([[1., 1.]], dtype=float32)
    """
    return _empty(shape, dtype, device).fill(1)


def full(shape, value, dtype=float32, *, device=None) -> Tensor:
    """A tensor with every element equal to value; DTypeError when an integer dtype cannot hold it.

    >>> import metallic as ml
    >>> ml.full(2, 0.5)
    Tensor([0.5, 0.5], dtype=float32)
    """
    return _empty(shape, dtype, device).fill(value)


def _like(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else array(x)
    return _empty(x.shape, x.dtype, x.device)


def empty_like(x) -> Tensor:
    """empty() with the shape, dtype and device of x, a tensor or array.

    >>> import metallic as ml
    >>> ml.empty_like(ml.zeros((3, 2), ml.uint8)).dtype
    metallic.uint8
    """
    return _like(x)


def zeros_like(x) -> Tensor:
    """zeros() with the shape, dtype and device of x.

    >>> import metallic as ml, numpy as np
    >>> ml.zeros_like(np.ones(2))
    Tensor([0., 0.], dtype=float32)
    """
    return _like(x).fill(0)


def ones_like(x) -> Tensor:
    """ones() with the shape, dtype and device of x.

    >>> import metallic as ml
    >>> ml.ones_like(ml.zeros(2))
    Tensor([1., 1.], dtype=float32)
    """
    return _like(x).fill(1)


def full_like(x, value) -> Tensor:
    """full() with the shape, dtype and device of x.

    >>> import metallic as ml
    >>> ml.full_like(ml.zeros(2), 7)
    Tensor([7., 7.], dtype=float32)
    """
    return _like(x).fill(value)
