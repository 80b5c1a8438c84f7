"""Right or wrong: a result against float64, within the error that its arithmetic allows.

The bound of one element is one rounding of the result in its dtype, 2^-24 |ref| (f32), 2^-11 |ref| (f16) or
2^-8 |ref| (bf16), plus c K 2^-24 (|A| |B|) for a sum of K products in f32 in any order, with c = 1 (Higham, Accuracy
and Stability of Numerical Algorithms, section 3.1). Scaling by alpha and adding beta * c and bias make up to four
roundings more.
"""

from __future__ import annotations

import numpy as np

from . import op_blocks, op_sdpa, op_softmax

U32 = 2.0**-24
ROUND = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = {"float32": 2.0**-150, "float16": 2.0**-25, "bfloat16": 2.0**-134}  # half the smallest subnormal
CHUNK = 1 << 22  # elements widened to float64 at a time


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a @ b and |a| @ |b| in float64, widening b a few columns at a time."""
    a = _wide(a)
    n = b.shape[-1]
    value = np.empty((*a.shape[:-1], n))
    magnitude = np.empty_like(value)
    step = max(1, CHUNK * n // max(1, b.size))
    for j in range(0, n, step):
        part = _wide(b[..., j : j + step])
        value[..., j : j + step] = a @ part
        magnitude[..., j : j + step] = np.abs(a) @ np.abs(part)
    return value, magnitude


def reference(case, dtype: str, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(result in float64, bound on the error of each element)."""
    if case.op == "softmax":
        value, error = op_softmax.reference(case, _wide(inputs["x"]))
        return value, error + ROUND[dtype] * (value + error) + TINY[dtype]
    if case.op == "block":
        value, error = op_blocks.reference(case, {name: _wide(x) for name, x in inputs.items()}, dtype)
        return value, error + ROUND[dtype] * (np.abs(value) + error) + TINY[dtype]
    if case.op == "sdpa":
        value, error = op_sdpa.reference(case, inputs)
        return value, error + ROUND[dtype] * (np.abs(value) + error) + TINY[dtype]
    a, b = case.views(inputs)
    value, magnitude = _product(a, b)
    value, magnitude = case.alpha * value, abs(case.alpha) * magnitude
    error = case.k * U32 * magnitude
    extra = 0
    if case.alpha != 1:
        extra += 1
    if case.beta != 0:
        c = _wide(inputs["c"])
        value, magnitude, extra = value + case.beta * c, magnitude + np.abs(case.beta * c), extra + 2
    if case.bias:
        bias = _wide(inputs["bias"])
        value, magnitude, extra = value + bias, magnitude + np.abs(bias), extra + 1
    error += extra * U32 * magnitude
    return value, error + ROUND[dtype] * (np.abs(value) + error) + TINY[dtype]


def judge(got: np.ndarray, value: np.ndarray, bound: np.ndarray) -> dict[str, float]:
    """How far got is from value: parity (largest error / its bound: right up to 1), and the largest relative error."""
    error = np.abs(_wide(got) - value)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = error / np.abs(value)
        parity = error / bound
    if not np.isfinite(parity).all():
        return {"parity": float("inf"), "max_rel_error": float("inf")}
    known = relative[np.isfinite(relative)]
    return {
        "parity": float(parity.max(initial=0.0)),
        "max_rel_error": float(known.max(initial=0.0)),
    }
