"""Exceptions. Every one is a MetallicError; those for bad arguments are also the built-in kind one would expect."""

from __future__ import annotations

from typing import Any


class MetallicError(RuntimeError):
    """Any failure reported by metallic.

    >>> import metallic as ml
    >>> issubclass(ml.ShapeError, ml.MetallicError)
    True
    """

    __module__ = "metallic"


class ShapeError(MetallicError, ValueError):
    """Shapes, axes or strides that do not fit, or memory shared between an output and an input.

    >>> import metallic as ml
    >>> try:
    ...     ml.zeros((2, 3)) @ ml.zeros((2, 3))
    ... except ml.ShapeError as error:
    ...     print("[2, 3]" in str(error))
    True
    """

    __module__ = "metallic"


class DTypeError(MetallicError, TypeError):
    """A dtype that is not accepted, or a value that an integer dtype cannot hold.

    >>> import metallic as ml
    >>> try:
    ...     ml.array([300], dtype=ml.uint8)
    ... except ml.DTypeError as error:
    ...     print(error)
    array: 300 does not fit into uint8
    """

    __module__ = "metallic"


class DeviceError(MetallicError):
    """A device or library that is absent, memory that ran out, a command that failed.

    >>> import metallic as ml
    >>> try:
    ...     ml.Context("abacus")
    ... except ml.DeviceError:
    ...     print("no such device")
    no such device
    """

    __module__ = "metallic"


class UnsupportedError(MetallicError):
    """A forced choice cannot do the case and the context is strict.

    >>> import metallic as ml
    >>> issubclass(ml.UnsupportedError, ValueError)
    False
    """

    __module__ = "metallic"


class CompileError(MetallicError):
    """Kernel source was rejected; the text holds the compiler's lines, mapped to the source.

    >>> import metallic as ml
    >>> issubclass(ml.CompileError, ml.MetallicError)
    True
    """

    __module__ = "metallic"


class CheckError(MetallicError):
    """METALLIC_CHECK found a defect in a kernel; findings is a list of dicts, one per defect.

    >>> import metallic as ml
    >>> ml.CheckError("1 defect", [{"kind": "out of bounds"}]).findings
    [{'kind': 'out of bounds'}]
    """

    __module__ = "metallic"

    def __init__(self, message: str = "", findings: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.findings: list[dict[str, Any]] = list(findings or [])


class ResourceNotCached(MetallicError):
    """A resource cache with cached_only missed.

    >>> import metallic as ml
    >>> x, out = ml.ones((2, 2)), ml.empty((2, 2))
    >>> cache = ml.ResourceCache(cached_only=True)
    >>> try:
    ...     ml.matmul_alpha_beta(x, x, out, False, False, 1.0, 0.0, cache=cache)
    ... except ml.ResourceNotCached:
    ...     print("not prepared yet")
    not prepared yet
    """

    __module__ = "metallic"
