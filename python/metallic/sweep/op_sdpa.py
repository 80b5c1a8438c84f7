"""Scaled-dot-product attention in each library that a sweep can time, and its float64 reference."""

from __future__ import annotations

import functools

import numpy as np

from . import data, onnx_model

U32 = 2.0**-24
ROWS = 1 << 22  # scores in float64 at a time


def _weights(scores: np.ndarray, first: int) -> np.ndarray:
    """Softmax of scores [rows, keys] of the queries from `first` on; causal where first >= 0."""
    if first >= 0:
        rows, keys = scores.shape
        scores = np.where(np.arange(keys) <= first + np.arange(rows)[:, None], scores, -np.inf)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def reference(case, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(result, error of f32 arithmetic): a score errs by D + 2 roundings of its terms, its weight by that (twice: the
    maximum too) and by the exponential and a sum of S weights, the result by a sum of S products more."""
    q, k, v = (inputs[name] for name in ("q", "k", "v"))
    value = np.empty(case.out_shape())
    error = np.empty_like(value)
    group = case.heads // case.kv_heads
    step = max(1, ROWS // case.seq_k)
    for b in range(case.batch_size):
        for h in range(case.heads):
            keys, values = (x[b, h // group].astype(np.float64) for x in (k, v))
            for row in range(0, case.q_len, step):
                part = slice(row, min(row + step, case.q_len))
                query = q[b, h, part].astype(np.float64) * case.scale
                scores = query @ keys.T
                weight = _weights(scores, row + case.seq_k - case.q_len if case.causal else -1)
                spread = (case.dim + 2) * U32 * (np.abs(query) @ np.abs(keys).T).max(axis=-1, keepdims=True)
                relative = 2 * spread + U32 * (6 * np.abs(scores).max(axis=-1, keepdims=True) + 8 + 2 * case.seq_k)
                value[b, h, part] = weight @ values
                error[b, h, part] = relative * (weight @ np.abs(values))
    return value, error + 2.0**-126


def _peers():
    from . import peers

    return peers


def metallic(library, case, dtype: str, inputs: dict[str, np.ndarray], choice):
    peers, ml = _peers(), library.ml
    forced = choice.backend not in ("", "auto")
    ctx = library._context(choice.prefs, forced)
    x = [ml.array(inputs[name], dtype=library.dtypes[dtype], device=library.device) for name in ("q", "k", "v")]
    out = ml.empty(case.out_shape(), library.dtypes[dtype], device=library.device)
    kwargs = {"is_causal": case.causal, "out": out, "ctx": ctx}
    if forced:
        kwargs["variant"] = choice.backend
    try:
        plan = ml.explain(ml.scaled_dot_product_attention, *x, **kwargs).to_dict()
    except (ml.UnsupportedError, ml.DeviceError) as error:
        raise peers.Gap(str(error)) from None
    return peers.Run(
        call=functools.partial(ml.scaled_dot_product_attention, *x, **kwargs),
        result=lambda: out.astype(ml.float32).numpy(),
        wait=ctx.synchronize,
        plan=plan,
    )


def numpy(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    b, heads, rows = case.batch_size, case.kv_heads, case.heads // case.kv_heads * case.q_len
    q = inputs["q"].reshape(b, heads, rows, case.dim)
    keys, v = inputs["k"].swapaxes(-1, -2), inputs["v"]
    scores = np.empty((b, heads, rows, case.seq_k), q.dtype)
    out = np.empty((b, heads, rows, case.dim), q.dtype)
    scale = q.dtype.type(case.scale)
    hidden = None
    if case.causal:
        seen = np.arange(case.seq_k) <= np.arange(case.q_len)[:, None] + (case.seq_k - case.q_len)
        hidden = np.tile(np.where(seen, 0, -np.inf).astype(q.dtype), (rows // case.q_len, 1))

    def call() -> None:
        np.matmul(q, keys, out=scores)
        np.multiply(scores, scale, out=scores)
        if hidden is not None:
            np.add(scores, hidden, out=scores)
        np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
        np.exp(scores, out=scores)
        np.divide(scores, scores.sum(axis=-1, keepdims=True), out=scores)
        np.matmul(scores, v, out=out)

    note = "a call per step" if dtype == "float32" else "a call per step, rounds each"
    return _peers().Run(call=call, result=lambda: out.reshape(case.out_shape()), note=note)


def torch(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    torch = library.torch
    q, k, v = (library._tensor(inputs[name], dtype) for name in ("q", "k", "v"))
    latest = []

    def call() -> None:
        latest[:] = [
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=case.causal, enable_gqa=case.heads != case.kv_heads
            )
        ]

    return _peers().Run(call=call, result=lambda: latest[0].float().numpy())


def onnxruntime(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    if dtype == "bfloat16":
        raise _peers().Gap("ONNX Runtime's CPU provider has no bfloat16 attention")
    x = {name: inputs[name] for name in ("q", "k", "v")}
    model = onnx_model.build_attention(
        {name: array.shape for name, array in x.items()}, case.causal, case.out_shape(), x["q"].dtype
    )
    try:
        session = library.ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are private
        raise _peers().Gap(str(error).splitlines()[0]) from None
    out = np.empty(case.out_shape(), x["q"].dtype)
    binding = session.io_binding()
    fed = {name: library.ort.OrtValue.ortvalue_from_numpy(array) for name, array in x.items()}
    for name, value in fed.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("out", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
    return _peers().Run(call=functools.partial(session.run_with_iobinding, binding), result=lambda: (fed, out)[1])


def mlx(library, case, dtype: str, inputs: dict[str, np.ndarray]):
    mx = library.mx

    def tensor(array: np.ndarray):
        plain = array if array.dtype != data.BFLOAT16 else array.astype(np.float32)
        return mx.array(plain).astype(getattr(mx, dtype))

    q, k, v = (tensor(inputs[name]) for name in ("q", "k", "v"))
    mx.eval(q, k, v)
    latest = []

    def call() -> None:
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=case.scale, mask="causal" if case.causal else None)
        mx.eval(out)
        latest[:] = [out]

    return _peers().Run(call=call, result=lambda: np.array(latest[0].astype(mx.float32)))
