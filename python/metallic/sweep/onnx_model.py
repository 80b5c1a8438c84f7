"""A one-node ONNX model as bytes, so that ONNX Runtime can be measured without the onnx package.

Only the few messages that such a model needs, in the wire format of protocol buffers: field numbers are those of
onnx.proto (version 3, opset 13; attention: 23).
"""

from __future__ import annotations

import struct

import numpy as np

MAX_BYTES = (1 << 31) - (1 << 20)
_ELEMENT = {"float32": 1, "float16": 10}  # TensorProto.DataType
_INT, _FLOAT, _STRING = 2, 1, 3  # AttributeProto.AttributeType


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _attribute(name: str, value: int | float) -> bytes:
    if isinstance(value, int):
        return _bytes(1, name) + _number(3, value) + _number(20, _INT)
    return _bytes(1, name) + _float(2, value) + _number(20, _FLOAT)


def _node(op: str, inputs: list[str], attributes: dict[str, int | float], domain: str = "") -> bytes:
    parts = [_bytes(1, name) for name in inputs] + [_bytes(2, "out"), _bytes(4, op)]
    parts += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts + ([_bytes(7, domain)] if domain else []))


def _value_info(name: str, shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    dims = b"".join(_bytes(1, _number(1, dim)) for dim in shape)
    tensor_type = _number(1, _ELEMENT[dtype.name]) + _bytes(2, dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor_type))


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_number(1, dim) for dim in array.shape)
    return dims + _number(2, _ELEMENT[array.dtype.name]) + _bytes(8, name) + _bytes(9, array.tobytes())


def _addend(case) -> str | None:
    return "c" if case.beta != 0 else "bias" if case.bias else None


def fed(case) -> list[str]:
    """Names of the inputs that a call feeds; the rest are initializers."""
    return ["a", "c"] if case.beta != 0 else ["a"]


def build(case, inputs: dict[str, np.ndarray]) -> bytes:
    """A model of one Gemm (MatMul for batches) that computes out from a, with b (and bias) as initializers."""
    dtype = inputs["a"].dtype
    if case.batch:
        node = _node("MatMul", ["a", "b"], {})
    else:
        addend = _addend(case)
        attributes: dict[str, int | float] = {"transA": int(case.transpose_a), "transB": int(case.transpose_b)}
        attributes |= {"alpha": float(case.alpha), "beta": float(case.beta if case.beta != 0 else 1.0)}
        node = _node("Gemm", ["a", "b"] + ([addend] if addend else []), attributes)
    held = {name: array for name, array in inputs.items() if name not in fed(case)}
    return _model(node, {name: inputs[name].shape for name in fed(case)}, held, case.out_shape(), dtype)


def build_softmax(shape: tuple[int, ...], axis: int, dtype: np.dtype) -> bytes:
    """A model of one Softmax over axis >= 0 that computes out from x."""
    return _model(_node("Softmax", ["x"], {"axis": axis}), {"x": shape}, {}, shape, dtype)


def build_attention(shapes: dict[str, tuple[int, ...]], causal: bool, out: tuple[int, ...], dtype: np.dtype) -> bytes:
    """A model of one Attention that computes out from q, k and v, all [batch, heads, length, dim]."""
    return _model(_node("Attention", ["q", "k", "v"], {"is_causal": int(causal)}), shapes, {}, out, dtype, opset=23)


BLOCKS = {
    "layer_norm": ("LayerNormalization", 17, ""),
    "rms_norm": ("RMSNormalization", 23, ""),
    "gelu": ("Gelu", 20, ""),
    "gelu_tanh": ("Gelu", 20, ""),
    "silu": ("QuickGelu", 20, "com.microsoft"),  # x / (1 + exp(-alpha x))
    "rope": ("RotaryEmbedding", 23, ""),
}


def build_block(case, eps: float, dtype: np.dtype, held: dict[str, np.ndarray]) -> bytes:
    """A model of one norm, activation or rotary embedding that computes out from x, with `held` as initializers."""
    op, opset, domain = BLOCKS[case.kind]
    attributes: dict[str, int | float] = {}
    if eps:
        attributes = {"epsilon": eps}
    elif domain:
        attributes = {"alpha": 1.0}
    node = _node(op, ["x", *held], attributes, domain)
    if case.kind == "gelu_tanh":
        node += _bytes(5, _bytes(1, "approximate") + _bytes(4, "tanh") + _number(20, _STRING))
    return _model(node, {"x": case.out_shape()}, held, case.out_shape(), dtype, opset=opset, domain=domain)


def _model(
    node: bytes,
    fed: dict[str, tuple[int, ...]],
    held: dict[str, np.ndarray],
    out: tuple[int, ...],
    dtype: np.dtype,
    *,
    opset: int = 13,
    domain: str = "",
) -> bytes:
    """One node; `fed` are the shapes of its inputs, `held` its initializers; all of one dtype."""
    graph = _bytes(1, node) + _bytes(2, "case")
    graph += b"".join(_bytes(5, _tensor(name, array)) for name, array in held.items())
    graph += b"".join(_bytes(11, _value_info(name, shape, dtype)) for name, shape in fed.items())
    graph += _bytes(12, _value_info("out", out, dtype))
    extra = _bytes(8, _bytes(1, domain) + _number(2, 1)) if domain else b""
    version = 8 if opset < 20 else 10 if opset < 23 else 11
    return _number(1, version) + _bytes(7, graph) + _bytes(8, _number(2, opset)) + extra
