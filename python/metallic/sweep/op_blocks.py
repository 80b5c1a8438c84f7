"""Norms, activations and rotary positions in each library that a sweep can time, and their float64 references."""

from __future__ import annotations

import functools
import math

import numpy as np

from . import data, onnx_model

U32 = 2.0**-24
EPS = {"layer_norm": 1e-5, "rms_norm": 1e-6}
GELU_SLOPE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
BASE = 10000.0
CHUNK = 1 << 18  # elements whose error function is taken at a time


def _erfc(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(-1)
    out = np.empty_like(flat)
    for start in range(0, flat.size, CHUNK):
        out[start : start + CHUNK] = [math.erfc(v) for v in flat[start : start + CHUNK].tolist()]
    return out.reshape(x.shape)


def _angles(case) -> np.ndarray:
    return np.arange(case.rows)[:, None] * BASE ** (-np.arange(0, case.cols, 2) / case.cols)


def reference(case, inputs: dict[str, np.ndarray], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """(result, error of f32 arithmetic). Norms: sums of n terms in two chains or more; activations: a few roundings of
    the result and of x, as 1 + erf cancels in every library but this; rotary positions: those of an angle in f32."""
    x = inputs["x"]
    if case.kind in EPS:
        centred = x - x.mean(-1, keepdims=True) if case.kind == "layer_norm" else x
        value = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + EPS[case.kind])
        magnitude = (np.abs(value) + 1.0) * np.abs(inputs["weight"]) + np.abs(inputs.get("bias", 0.0))
        value = value * inputs["weight"] + inputs.get("bias", 0.0)
        return value, U32 * (case.cols / 2 + 8) * magnitude
    if case.kind == "rope":
        half = case.cols // 2
        a, b, angle = x[..., :half], x[..., half:], _angles(case)
        value = np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=-1)
        error = U32 * (8 + 2 * angle) * (np.abs(a) + np.abs(b))
        return value, np.concatenate([error, error], axis=-1)
    if case.kind == "gelu":
        value = 0.5 * x * _erfc(-x / math.sqrt(2))
    elif case.kind == "gelu_tanh":
        value = x / (1 + np.exp(-2 * GELU_SLOPE * (x + GELU_CUBE * x**3)))
    else:
        value = x / (1 + np.exp(-x)) * inputs.get("up", 1.0)
    short = 2.0**-17 if dtype != "float32" else 0.0  # 16-bit results come from shorter polynomials
    return value, (16 * U32 + short) * np.abs(value) + 4 * U32 * np.abs(x)


def _peers():
    from . import peers

    return peers


def metallic(library, case, dtype: str, inputs: dict[str, np.ndarray], choice):
    peers, ml = _peers(), library.ml
    ctx = library._context(choice.prefs, False)
    x = {name: ml.array(array, dtype=library.dtypes[dtype], device=library.device) for name, array in inputs.items()}
    out = ml.empty(case.out_shape(), library.dtypes[dtype], device=library.device)
    function, args = {
        "gelu_tanh": (ml.gelu, (x["x"], "tanh")),
        "rope": (ml.rope, (x["x"],)),
    }.get(case.kind, (getattr(ml, case.kind, None), tuple(x.values())))
    kwargs = {"out": out, "ctx": ctx}
    if case.kind in EPS:
        kwargs["eps"] = EPS[case.kind]
    if case.kind == "rope":
        kwargs["base"] = BASE
    try:
        plan = ml.explain(function, *args, **kwargs).to_dict()
    except (ml.UnsupportedError, ml.DeviceError) as error:
        raise peers.Gap(str(error)) from None
    return peers.Run(
        call=functools.partial(function, *args, **kwargs),
        result=lambda: out.astype(ml.float32).numpy(),
        wait=ctx.synchronize,
        plan=plan,
    )


def numpy(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    x, out = inputs["x"], np.empty_like(inputs["x"])
    one = x.dtype.type(1)
    if case.kind == "gelu":
        raise _peers().Gap("NumPy has no error function")

    def norm() -> None:
        centred = x - x.mean(-1, keepdims=True) if case.kind == "layer_norm" else x
        np.divide(centred, np.sqrt(np.square(centred).mean(-1, keepdims=True) + x.dtype.type(EPS[case.kind])), out=out)
        np.multiply(out, inputs["weight"], out=out)
        if case.kind == "layer_norm":
            np.add(out, inputs["bias"], out=out)

    def logistic() -> None:
        if case.kind == "gelu_tanh":
            np.multiply(x + x.dtype.type(GELU_CUBE) * x * x * x, x.dtype.type(-2 * GELU_SLOPE), out=out)
        else:
            np.negative(x, out=out)
        np.exp(out, out=out)
        np.add(out, one, out=out)
        np.divide(x, out, out=out)
        if case.kind == "swiglu":
            np.multiply(out, inputs["up"], out=out)

    half, angle = case.cols // 2, _angles(case) if case.kind == "rope" else None
    cosine, sine = (f(angle).astype(x.dtype) if angle is not None else None for f in (np.cos, np.sin))

    def rope() -> None:
        a, b = x[..., :half], x[..., half:]
        np.subtract(a * cosine, b * sine, out=out[..., :half])
        np.add(a * sine, b * cosine, out=out[..., half:])

    call = norm if case.kind in EPS else rope if case.kind == "rope" else logistic
    note = "several calls" if dtype == "float32" else "rounds each step"
    return _peers().Run(call=call, result=lambda: out, note=note)


def torch(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    t = library.torch
    x = {name: library._tensor(array, dtype) for name, array in inputs.items()}
    f = t.nn.functional
    latest, note = [], ""
    if case.kind == "layer_norm":
        step = functools.partial(f.layer_norm, x["x"], (case.cols,), x["weight"], x["bias"], EPS[case.kind])
    elif case.kind == "rms_norm":
        step = functools.partial(f.rms_norm, x["x"], (case.cols,), x["weight"], EPS[case.kind])
    elif case.kind in ("gelu", "gelu_tanh"):
        step = functools.partial(f.gelu, x["x"], approximate="tanh" if case.kind == "gelu_tanh" else "none")
    elif case.kind == "silu":
        step = functools.partial(f.silu, x["x"])
    elif case.kind == "swiglu":
        note = "two calls"
        step = lambda: f.silu(x["x"]).mul_(x["up"])  # noqa: E731
    else:
        note = "six calls, factors at hand"
        half, angle = case.cols // 2, t.from_numpy(_angles(case))
        cosine, sine = (g(angle).to(x["x"].dtype) for g in (t.cos, t.sin))
        cosine, sine = t.cat([cosine, cosine], -1), t.cat([-sine, sine], -1)
        step = lambda: x["x"] * cosine + t.roll(x["x"], half, -1) * sine  # noqa: E731

    def call() -> None:
        latest[:] = [step()]

    return _peers().Run(call=call, result=lambda: latest[0].float().numpy(), note=note)


def onnxruntime(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    if dtype == "bfloat16":
        raise _peers().Gap("ONNX Runtime's CPU provider has no bfloat16 kernel for it")
    if case.kind == "swiglu":
        raise _peers().Gap("ONNX has no node that multiplies by a gate")
    held = {name: array for name, array in inputs.items() if name != "x"}
    if case.kind == "rope":
        angle = _angles(case)
        held = {
            "cos": np.cos(angle)[None].astype(inputs["x"].dtype),
            "sin": np.sin(angle)[None].astype(inputs["x"].dtype),
        }
    model = onnx_model.build_block(case, EPS.get(case.kind, 0.0), inputs["x"].dtype, held)
    try:
        session = library.ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are private
        raise _peers().Gap(str(error).splitlines()[0]) from None
    out = np.empty_like(inputs["x"])
    binding = session.io_binding()
    fed = library.ort.OrtValue.ortvalue_from_numpy(inputs["x"])
    binding.bind_ortvalue_input("x", fed)
    binding.bind_output("out", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
    return _peers().Run(call=functools.partial(session.run_with_iobinding, binding), result=lambda: (fed, out)[1])


def mlx(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    mx = library.mx
    import mlx.nn as nn

    x = {
        name: mx.array(array if array.dtype != data.BFLOAT16 else array.astype(np.float32)).astype(getattr(mx, dtype))
        for name, array in inputs.items()
    }
    mx.eval(*x.values())
    latest = []
    step = {
        "layer_norm": lambda: mx.fast.layer_norm(x["x"], x["weight"], x["bias"], EPS[case.kind]),
        "rms_norm": lambda: mx.fast.rms_norm(x["x"], x["weight"], EPS[case.kind]),
        "gelu": lambda: nn.gelu(x["x"]),
        "gelu_tanh": lambda: nn.gelu_approx(x["x"]),
        "silu": lambda: nn.silu(x["x"]),
        "swiglu": lambda: nn.silu(x["x"]) * x["up"],
        "rope": lambda: mx.fast.rope(x["x"], case.cols, traditional=False, base=BASE, scale=1.0, offset=0),
    }[case.kind]

    def call() -> None:
        out = step()
        mx.eval(out)
        latest[:] = [out]

    return _peers().Run(call=call, result=lambda: np.array(latest[0].astype(mx.float32)))
