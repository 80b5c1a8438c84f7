"""What every parity test shares: routes, layouts, float64 references and error bounds from the arithmetic.

A *route* is one way a matmul can run: (device, ISA tier, backend). Routes are enumerated from what the machine offers,
so a new tier, device or backend is tested without editing a test.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

import metallic as ml

try:
    import ml_dtypes

    BF16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:  # the bf16 half of the suite is then skipped, visibly
    BF16 = None

F32, F16 = np.dtype(np.float32), np.dtype(np.float16)
DTYPES = [F32, F16] + ([BF16] if BF16 is not None else [])
DTYPE_IDS = [d.name for d in DTYPES]

U32 = 2.0**-24  # unit roundoff of f32
ROUND = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}  # smallest subnormal
LARGEST = {"float32": 3.4028234663852886e38, "float16": 65504.0, "bfloat16": 3.3895313892515355e38}


@dataclasses.dataclass(frozen=True)
class Route:
    device: str
    isa: str
    backend: str

    @property
    def id(self) -> str:
        return "-".join(filter(None, (self.device, self.isa, self.backend)))

    def context(self, **prefs) -> ml.Context:
        return _context(self, tuple(sorted(prefs.items())))

    def share(self, x: np.ndarray) -> ml.Tensor:
        """A tensor of this device over the array's own memory."""
        return ml.array(x, device=self.device, copy=False)

    def copy(self, x: np.ndarray) -> ml.Tensor:
        """A tensor in the device's memory."""
        return ml.array(x, device=self.device, copy=True)


@functools.cache
def _context(route: Route, prefs: tuple) -> ml.Context:
    extra = {"isa": route.isa} if route.isa else {}
    extra["check"] = True  # results and scratch memory are NaN before they are written
    return ml.Context(route.device, matmul_backend=route.backend, **extra, **dict(prefs))


def tiers(op: str, device: dict) -> list[str]:
    """ISA tiers on which op has a kernel of its own on this device; [""] where the device has no tiers."""
    rows = [row for row in ml.kernels(op, device["name"]) if row["available"]]
    return list(dict.fromkeys(row["isa"].split()[0] for row in rows)) if device["kind"] == "cpu" else [""]


@functools.cache
def routes() -> list[Route]:
    found = []
    for device in ml.devices():
        if not device["available"]:
            continue
        backends = list(
            dict.fromkeys(row["backend"] for row in ml.kernels("matmul", device["name"]) if row["available"])
        )
        own = [name for name in backends if name != "mps"]
        found += [Route(device["name"], tier, name) for tier in tiers("matmul", device) for name in own]
        # the vendor library and the dispatcher's own choice do not depend on the tier
        found += [Route(device["name"], "", name) for name in ("mps", "auto") if name == "auto" or name in backends]
    return found


def route_ids() -> list[str]:
    return [r.id for r in routes()]


# ---- data and layouts ----------------------------------------------------------------------------------------------


def random_array(rng: np.random.Generator, shape, dtype, scale=1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32).astype(dtype)


LAYOUTS = ["row", "col", "padded", "sliced", "negative", "odd_offset", "step2", "repeat_row", "repeat_col"]


def lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    """A view with x's shape (and, but for the repeat_ layouts, x's values) in the given memory layout of the last two
    dims.

    repeat_row and repeat_col repeat x's first row or column with stride 0.
    """
    if x.ndim < 2:
        x2 = lay_out(x.reshape(1, -1) if layout != "col" else x.reshape(-1, 1), layout)
        return x2[0] if layout != "col" else x2[:, 0]
    *batch, m, n = x.shape
    if layout == "row":
        return np.ascontiguousarray(x)
    if layout == "col":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "padded":
        big = np.full((*batch, m, n + 5), 7, x.dtype)
        view = big[..., :n]
    elif layout == "sliced":
        big = np.full((*batch, m + 3, n + 7), 7, x.dtype)
        view = big[..., 1 : 1 + m, 3 : 3 + n]
    elif layout == "negative":
        big = np.empty((*batch, m, n), x.dtype)
        view = big[..., ::-1, ::-1]
    elif layout == "odd_offset":
        flat = np.full(x.size + 1, 7, x.dtype)
        view = flat[1:].reshape(x.shape)
    elif layout == "step2":
        big = np.full((*batch, 2 * m, 3 * n), 7, x.dtype)
        view = big[..., ::2, ::3]
    elif layout == "repeat_row":
        return np.broadcast_to(np.ascontiguousarray(x[..., :1, :]), x.shape) if m else x
    elif layout == "repeat_col":
        return np.broadcast_to(np.ascontiguousarray(x[..., :1]), x.shape) if n else x
    else:
        raise ValueError(layout)
    view[...] = x
    return view


class Guarded:
    """An output array inside a larger one filled with a pattern; check() fails when anything beside the view
    changed."""

    def __init__(self, shape, dtype, layout: str = "row", fill=np.nan):
        pattern = np.zeros(shape, dtype)
        spread = lay_out(pattern, layout)
        base = spread
        while base.base is not None and isinstance(base.base, np.ndarray):
            base = base.base
        pad = 64 * spread.dtype.itemsize
        raw = np.full(base.nbytes + 2 * pad, 0xA5, np.uint8)
        start = (spread.__array_interface__["data"][0] - base.__array_interface__["data"][0]) if base.size else 0
        self.raw = raw
        self.array = np.ndarray(shape, dtype, raw.data, pad + start, spread.strides)
        self.array[...] = fill
        written = np.zeros(raw.nbytes, bool)
        probe = np.ndarray((*shape, spread.dtype.itemsize), bool, written.data, pad + start, (*spread.strides, 1))
        probe[...] = True
        self.outside = ~written

    def check(self):
        assert (self.raw[self.outside] == 0xA5).all(), "memory beside the output was overwritten"


# ---- references ------------------------------------------------------------------------------------------------------


def wide(x) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def reference_matmul(a, b, *, alpha=1.0, beta=0.0, c=None, bias=None, activation=None):
    """(result, error magnitude): float64 value, and the bound on f32 accumulation before the result's own rounding.

    A sum of k products in f32, in any order, errs by at most (k - 1) roundings of |a||b| (Higham, Accuracy and
    Stability, 3.1); alpha, beta * c, bias and their two additions add at most five more of the magnitudes involved.
    """
    a, b = wide(a), wide(b)
    k = a.shape[-1]
    if alpha == 0 or k == 0:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim > 1 and b.ndim > 1 else ()
        product = np.zeros(np.matmul(np.zeros_like(a), np.zeros_like(b)).shape) if k else None
        if product is None:
            product = np.zeros(lead + a.shape[-2:-1] + b.shape[-1:])
        magnitude = np.zeros_like(product)
    else:
        product, magnitude = alpha * (a @ b), abs(alpha) * (np.abs(a) @ np.abs(b))
    value, total = product, magnitude.copy()
    if beta != 0:
        value, total = value + beta * wide(c), total + np.abs(beta * wide(c))
    if bias is not None:
        value, total = value + wide(bias), total + np.abs(wide(bias))
    error = (k * U32) * magnitude + 5 * U32 * total
    result = ACTIVATIONS[activation](value)
    if activation is not None:  # slopes are below 1.13; evaluation in f32 within 2^-20 of the result's scale
        error = 1.13 * error + 2.0**-20 * (np.abs(result) + 2.0**-20)
    return result, error


def assert_close(got, reference, error, dtype=None):
    """got is reference, within the accumulation error and one rounding to dtype."""
    dtype = np.dtype(dtype if dtype is not None else np.asarray(got).dtype).name
    got = wide(got)
    reference = np.broadcast_to(reference, got.shape)
    assert got.shape == reference.shape
    with np.errstate(invalid="ignore", over="ignore"):
        # one rounding of a value that may itself be off by `error`
        bound = error + ROUND[dtype] * (np.abs(reference) + error) + TINY[dtype] / 2
        overflow = (np.abs(reference) + bound >= LARGEST[dtype]) & np.isinf(got) & (np.sign(got) == np.sign(reference))
        good = (
            (np.abs(got - reference) <= bound) | (got == reference) | (np.isnan(got) & np.isnan(reference)) | overflow
        )
    if not good.all():
        worst = tuple(int(i[0]) for i in np.nonzero(~good))
        raise AssertionError(
            f"{(~good).sum()} of {good.size} elements differ; first at {worst}: got {got[worst]!r}, "
            f"expected {reference[worst]!r} +- {np.broadcast_to(bound, got.shape)[worst]:.3g}"
        )
