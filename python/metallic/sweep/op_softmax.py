"""Softmax in each library that a sweep can time, and its float64 reference."""

from __future__ import annotations

import functools

import numpy as np

from . import data, onnx_model

U32 = 2.0**-24


def _seen(case) -> np.ndarray | None:
    """Which keys each query sees: the last query sees the last key."""
    if not case.queries:
        return None
    return np.arange(case.seq_k) <= np.arange(case.queries)[:, None] + (case.seq_k - case.queries)


def reference(case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(result, error of f32 arithmetic): each weight errs as its score (two roundings of it and of the maximum), the
    exponential and the sum of n weights do."""
    seen = _seen(case)
    score = x if seen is None else np.where(seen, x, -np.inf)
    weight = np.exp(score - score.max(axis=case.axis, keepdims=True))
    value = weight / weight.sum(axis=case.axis, keepdims=True)
    relative = U32 * (6 * np.abs(x).max(initial=0.0) + 8 + case.seq_k)
    return value, relative * value + 2.0**-126


def _peers():
    from . import peers

    return peers


def metallic(library, case, dtype: str, inputs: dict[str, np.ndarray], choice):
    peers, ml = _peers(), library.ml
    forced = choice.backend not in ("", "auto")
    ctx = library._context(choice.prefs, forced)
    x = ml.array(inputs["x"], dtype=library.dtypes[dtype], device=library.device)
    out = ml.empty(case.out_shape(), library.dtypes[dtype], device=library.device)
    kwargs = {"axis": case.axis, "causal": bool(case.queries), "out": out, "ctx": ctx}
    if forced:
        kwargs["variant"] = choice.backend
    try:
        plan = ml.explain(ml.softmax, x, **kwargs).to_dict()
    except (ml.UnsupportedError, ml.DeviceError) as error:
        raise peers.Gap(str(error)) from None
    return peers.Run(
        call=functools.partial(ml.softmax, x, **kwargs),
        result=lambda: out.astype(ml.float32).numpy(),
        wait=ctx.synchronize,
        plan=plan,
    )


def _plain_only(case, library: str) -> None:
    if case.queries:
        raise _peers().Gap(f"{library} has no causal softmax in one call")


def numpy(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    _plain_only(case, "NumPy")
    x = inputs["x"]
    out = np.empty_like(x)

    def call() -> None:
        np.subtract(x, x.max(axis=case.axis, keepdims=True), out=out)
        np.exp(out, out=out)
        np.divide(out, out.sum(axis=case.axis, keepdims=True), out=out)

    return _peers().Run(call=call, result=lambda: out, note="five calls" if dtype == "float32" else "rounds each step")


def torch(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    _plain_only(case, "PyTorch")
    x = library._tensor(inputs["x"], dtype)
    out = library.torch.empty_like(x)
    call = functools.partial(library.torch.softmax, x, case.axis, out=out)
    return _peers().Run(call=call, result=lambda: out.float().numpy())


def onnxruntime(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    _plain_only(case, "ONNX")
    if dtype == "bfloat16":
        raise _peers().Gap("ONNX Runtime's CPU provider has no bfloat16 softmax")
    x = inputs["x"]
    model = onnx_model.build_softmax(x.shape, case.axis % x.ndim, x.dtype)
    try:
        session = library.ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are private
        raise _peers().Gap(str(error).splitlines()[0]) from None
    out = np.empty_like(x)
    binding = session.io_binding()
    fed = library.ort.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input("x", fed)
    binding.bind_output("out", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
    return _peers().Run(call=functools.partial(session.run_with_iobinding, binding), result=lambda: (fed, out)[1])


def mlx(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    _plain_only(case, "MLX")
    mx = library.mx
    array = inputs["x"]
    x = mx.array(array if array.dtype != data.BFLOAT16 else array.astype(np.float32)).astype(getattr(mx, dtype))
    mx.eval(x)
    latest = []

    def call() -> None:
        out = mx.softmax(x, axis=case.axis)
        mx.eval(out)
        latest[:] = [out]

    return _peers().Run(call=call, result=lambda: np.array(latest[0].astype(mx.float32)))
