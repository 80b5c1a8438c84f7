"""How Python values become what an MSL kernel's parameters take."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ._core import DType, Tensor, _is_read_only, array, from_dlpack
from ._errors import DTypeError

# MSL scalar: (format of struct, kinds of array elements that may be bound to a pointer to it)
_SIGNED = {1: "b", 2: "h", 4: "i", 8: "q"}
_INTEGERS = {
    "char": 1, "int8_t": 1, "short": 2, "int16_t": 2, "int": 4, "int32_t": 4, "long": 8, "int64_t": 8, "ptrdiff_t": 8,
    "uchar": -1, "uint8_t": -1, "ushort": -2, "uint16_t": -2, "uint": -4, "uint32_t": -4, "ulong": -8, "uint64_t": -8,
    "size_t": -8,
}  # fmt: skip
_BYTES = ("char", "uchar", "int8_t", "uint8_t")
_FLOATS = {"float": "float32", "half": "float16", "bfloat": "bfloat16"}
_NAME = re.compile(r"^(?:metal::)?(?:packed_)?(?:atomic_|_atomic<|atomic<)?(\w+?)>?([234])?$")
_MSL = {
    "float32": "float", "float16": "half", "bfloat16": "bfloat", "int8": "int8_t", "int16": "int16_t", "int32": "int",
    "int64": "int64_t", "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint", "uint64": "uint64_t",
    "bool": "bool", "bool_": "bool",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter of a compiled kernel."""

    kind: str
    index: int
    name: str
    type: str
    size: int
    writable: bool
    reference: bool


def _scalar_of(type_name: str) -> str | None:
    """The scalar that an MSL type is made of; None for structs and what is not known here."""
    match = _NAME.match(type_name.removeprefix("const ").strip())
    name = match[1] if match else ""
    return name if name in _INTEGERS or name in _FLOATS or name == "bool" else None


def pack_number(what: str, type_name: str, value: Any) -> bytes:
    """A Python or NumPy number as the bytes of an MSL scalar. Errors: TypeError, ValueError (out of range)."""
    scalar = _scalar_of(type_name)
    if scalar is None or _NAME.match(type_name)[2]:
        raise TypeError(f"{what}: a number cannot be a {type_name}; give its bytes")
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{what}: {value!r} is no number, as {type_name} is")
    if scalar == "bool":
        return struct.pack("?", bool(value))
    if scalar in _FLOATS:
        try:
            if scalar != "bfloat":
                return struct.pack("<f" if scalar == "float" else "<e", float(value))
            (bits,) = struct.unpack("<I", struct.pack("<f", float(value)))
        except OverflowError:
            raise ValueError(f"{what}: {value} does not fit into {type_name}") from None
        quiet = 0x40 if bits & 0x7FFFFFFF > 0x7F800000 else 0
        return struct.pack("<H", bits >> 16 | quiet if quiet else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    if not math.isfinite(value) or int(value) != value:
        raise TypeError(f"{what}: {value!r} is not a whole number, as {type_name} is")
    size = _INTEGERS[scalar]
    code = _SIGNED[abs(size)]
    try:
        return struct.pack("<" + (code if size > 0 else code.upper()), int(value))
    except struct.error:
        raise ValueError(f"{what}: {value} does not fit into {type_name}") from None


def constant(function: str, key: int | str, value: Any, known: list[tuple]) -> tuple | None:
    """A function constant as _MetalLibrary.load takes it; None for an index the kernel does not reach (as in Metal)."""
    for name, index, type_name, _ in known:
        if key in (name, index):
            return (None, index, pack_number(f"{function}: constant {name}", type_name, value))
    if isinstance(key, str):
        there = ", ".join(row[0] for row in known) or "none"
        raise ValueError(f"{function}: no function constant {key!r}; there are {there}")
    return None


def macro(name: Any, value: Any) -> tuple[str, str]:
    """A macro as text. True and False are 1 and 0."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*(\([\w\s,.]*\))?", name):
        raise ValueError(f"Library: {name!r} is no name of a macro")
    if not isinstance(value, (str, int, float)):
        raise TypeError(f"Library: macro {name}: {value!r} is neither a string nor a number")
    text = str(int(value)) if isinstance(value, bool) else str(value)
    if any(c in text for c in "\r\n\0"):
        raise ValueError(f"Library: macro {name}: its value has more than one line")
    return name, text


def extents(function: str, what: str, value: Any) -> tuple[int, int, int]:
    """Up to three extents as three."""
    try:
        extents = tuple(map(operator.index, value if hasattr(value, "__iter__") else (value,)))
    except TypeError:
        raise TypeError(f"{function}: {what} {value!r} is not one to three positive integers") from None
    if not 1 <= len(extents) <= 3 or any(not 0 < v < 1 << 32 for v in extents):
        raise ValueError(f"{function}: {what} {value!r} is not one to three positive integers")
    return (*extents, 1, 1)[:3]


def threadgroup_memory(function: str, sizes: Mapping[int, int]) -> list[tuple[int, int]]:
    """[(index, bytes)]"""
    try:
        rows = [(operator.index(index), operator.index(size)) for index, size in sizes.items()]
    except (AttributeError, TypeError):
        raise TypeError(f"{function}: threadgroup_memory {sizes!r} is no mapping of indices to bytes") from None
    if any(not 0 <= size < 1 << 32 for _, size in rows):
        raise ValueError(f"{function}: threadgroup_memory {sizes!r}: bytes of 0 to 4294967295")
    return rows


# ---- arrays -----------------------------------------------------------------------------------------------------


def dtype_name(x: Any) -> str:
    """The name of the dtype of a tensor or NumPy array."""
    return x.dtype.name


def msl_name(x: Any) -> str:
    try:
        return _MSL[dtype_name(x)]
    except KeyError:
        raise DTypeError(f"no Metal type for arrays of {dtype_name(x)}") from None


def size(x: Any) -> int:
    return int(x.size)


def element_strides(x: Any) -> list[int]:
    return [s // (x.nbytes // x.size if x.size else 1) for s in x.strides]


def packed(code: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def _is_contiguous(x: Any) -> bool:
    step = x.nbytes // x.size if x.size else 0
    for extent, stride in zip(reversed(x.shape), reversed(x.strides), strict=True):
        if extent > 1 and stride != step:
            return x.size == 0
        step *= extent
    return True


def contiguous(x: Any) -> Any:
    if _is_contiguous(x):
        return x
    return array(x, copy=True) if isinstance(x, Tensor) else x.copy()


def flat_memory(x: Any) -> Any:
    """What a kernel sees of x: itself; of a strided array the memory from its first element on."""
    if _is_contiguous(x) or isinstance(x, Tensor):
        return x
    import numpy as np

    if any(s < 0 for s in x.strides):
        return x
    span = 1 + sum((n - 1) * s // x.itemsize for n, s in zip(x.shape, x.strides, strict=True)) if x.size else 0
    return np.lib.stride_tricks.as_strided(x, (span,), (x.itemsize,), writeable=False)


def readable(function: str, name: str, value: Any) -> Any:
    """A tensor or NumPy array of what is given as an input."""
    import numpy as np

    found = _array(f"{function}: {name}", value)
    if found is None:
        found = np.asarray(value, dtype=_weak(value))
    return found


def _weak(value: Any) -> str | None:
    """Python numbers are float32 and int32, as everywhere here."""
    return "float32" if isinstance(value, float) else "int32" if type(value) is int else None


def _array(what: str, value: Any) -> Any:
    """A tensor or a NumPy array over the memory of value; None when it is a number or bytes."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float, bytes, bytearray)):
        return None
    import numpy as np

    if isinstance(value, np.generic):
        return None
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__"):
            try:
                return from_dlpack(value)
            except (DTypeError, TypeError):
                return np.from_dlpack(value)
        try:
            value = np.asarray(memoryview(value))
        except TypeError:
            raise TypeError(f"{what}: {type(value).__name__} is neither an array nor a number nor bytes") from None
    if not value.dtype.isnative or value.dtype.hasobject:
        raise DTypeError(f"{what}: elements of {value.dtype} have no place on a device")
    return value


def _fits(type_name: str, name: str, itemsize: int) -> bool:
    scalar = _scalar_of(type_name)
    if scalar is None:
        return True
    if scalar in _FLOATS:
        return name == _FLOATS[scalar] or (scalar == "bfloat" and name == "uint16")
    if name.startswith(("float", "complex", "bfloat")):
        return False
    return itemsize == (1 if scalar == "bool" else abs(_INTEGERS[scalar]))


@dataclasses.dataclass
class Bound:
    """One buffer of a call: a row for _MetalFunction.dispatch, and what is to be copied back after it."""

    row: tuple[int, Any, bool, bool]
    copy: Any = None
    original: Any = None

    def finish(self) -> None:
        if self.original is not None:
            self.original[...] = self.copy


def bind(function: str, argument: Argument, value: Any, *, keep: bool) -> Bound:
    """keep: bind read-only arrays as they are, for the checker to see; else the kernel gets a copy to write on."""
    what = f"{function}: {argument.name} (buffer {argument.index})"
    x = _array(what, value)
    if x is None:
        data = value if isinstance(value, (bytes, bytearray)) else pack_number(what, argument.type, value)
        if len(data) < argument.size and argument.reference:
            raise ValueError(f"{what}: {len(data)} bytes, but a {argument.type} has {argument.size}")
        if argument.writable and not isinstance(value, bytearray):
            return Bound((argument.index, bytearray(data), True, False))
        return Bound((argument.index, data, argument.writable, False))
    itemsize = x.nbytes // x.size if x.size else 0
    if x.size and not _fits(argument.type, dtype_name(x), itemsize):
        hint = " (a view as int8 or uint8 has its bytes)" if _scalar_of(argument.type) in _BYTES else ""
        raise DTypeError(f"{what}: an array of {dtype_name(x)} for {argument.type}{hint}")
    if argument.reference and x.nbytes < argument.size:
        raise ValueError(f"{what}: {x.nbytes} bytes, but a {argument.type} has {argument.size}")
    read_only = not writable(x)
    use, original = x, None
    if not _is_contiguous(x):
        use = contiguous(x)
        original = x if argument.writable and not read_only else None
    elif read_only and argument.writable and not keep:
        use = array(x, copy=True) if isinstance(x, Tensor) else x.copy()
    memory = memory_of(use)
    asks = argument.writable and not (read_only and use is x)
    return Bound((argument.index, memory, asks, read_only and use is x), use, original)


def memory_of(x: Any) -> Any:
    """A contiguous tensor or array as something whose bytes the binding can reach, whatever its dtype."""
    return x if isinstance(x, Tensor) else x.reshape(-1).view("uint8") if x.size else bytearray()


def writable(x: Any) -> bool:
    return not _is_read_only(x) if isinstance(x, Tensor) else bool(x.flags.writeable)


def template_argument(function: str, name: str, value: Any) -> tuple[str, str, str]:
    """(name, "type" or the type of a value, text)."""
    if isinstance(value, bool):
        return name, "bool", "true" if value else "false"
    if isinstance(value, int):
        return name, "int", str(value)
    text = value.name if isinstance(value, DType) else getattr(value, "__name__", None) or str(value)
    if text not in _MSL:
        raise TypeError(f"{function}: template argument {name}: {value!r} is neither a dtype nor an int nor a bool")
    return name, "type", _MSL[text]
