"""The libraries that a sweep can time, one class each. Every class lives in a worker process of its own.

A class offers `prepare(case, dtype, inputs, choice)`, which returns a Run: a call that does the operation once, on
buffers that exist already, and a way to see the result. It raises Gap, with the reason, for what the library cannot
do. A library that is not installed raises ImportError from the constructor. A class of your own is named
`module:Class`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from . import data, op_blocks, op_sdpa, op_softmax

OTHERS = {
    "softmax": op_softmax,
    "sdpa": op_sdpa,
    "block": op_blocks,
}  # operations besides matmul: a function per library


class Gap(Exception):
    """The library cannot do this case; the text says why."""


@dataclasses.dataclass
class Run:
    call: Callable[[], Any]
    result: Callable[[], np.ndarray]  # of the latest call
    wait: Callable[[], Any] | None = None  # until what was called is complete, for libraries that return earlier
    plan: dict | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the library is asked to do it: only this package has a choice. Backend "prepack" is "auto" with b from
    ml.prepack."""

    backend: str = ""
    prefs: tuple[tuple[str, str], ...] = ()


class Metallic:
    """This package. A forced backend runs strictly: what it cannot do is a gap, not another backend's time."""

    name = "metallic"

    def __init__(self, device: str | None = None):
        import metallic

        self.ml = metallic
        self.device = device
        self.dtypes = {name: getattr(metallic, name) for name in ("float32", "float16", "bfloat16")}

    def version(self) -> str:
        return self.ml.__version__

    @functools.lru_cache(maxsize=64)  # noqa: B019  one object per process
    def _context(self, prefs: tuple[tuple[str, str], ...], strict: bool):
        return self.ml.Context(self.device, strict=strict, **dict(prefs))

    def prepare(self, case, dtype: str, inputs: dict[str, np.ndarray], choice: Choice) -> Run:
        if case.op in OTHERS:
            return OTHERS[case.op].metallic(self, case, dtype, inputs, choice)
        ml = self.ml
        forced = choice.backend not in ("", "auto", "prepack")
        ctx = self._context(choice.prefs, forced)
        x = {name: ml.array(array, dtype=self.dtypes[dtype], device=self.device) for name, array in inputs.items()}
        a, b = (x[name][..., :: case.step] if case.step != 1 else x[name] for name in "ab")
        if choice.backend == "prepack":
            b = ml.prepack(b)
        out = ml.empty(case.out_shape(), self.dtypes[dtype], device=self.device)
        kwargs: dict[str, Any] = {"out": out, "ctx": ctx}
        if case.transpose_a:
            kwargs["transpose_a"] = True
        if case.transpose_b:
            kwargs["transpose_b"] = True
        if case.bias:
            kwargs["bias"] = x["bias"]
        if case.alpha != 1:
            kwargs["alpha"] = case.alpha
        if case.beta != 0:
            kwargs.update(beta=case.beta, c=x["c"])
        if forced:
            kwargs["backend"] = choice.backend
        try:
            plan = ml.explain(ml.matmul, a, b, **kwargs).to_dict()
        except (ml.UnsupportedError, ml.DeviceError) as error:
            raise Gap(str(error)) from None
        if forced and plan["backend"] != {"custom": "gemv"}.get(choice.backend, choice.backend):
            raise Gap("; ".join(plan["why"]))
        return Run(
            call=functools.partial(ml.matmul, a, b, **kwargs),
            result=lambda: out.astype(ml.float32).numpy(),
            wait=ctx.synchronize,
            plan=plan,
        )


class NumPy:
    """NumPy, with the OpenBLAS of its wheel. It has no fast float16 and no bfloat16 of its own."""

    name = "numpy"

    def version(self) -> str:
        return np.__version__

    def prepare(self, case, dtype: str, inputs: dict[str, np.ndarray], choice: Choice) -> Run:
        if case.op in OTHERS:
            return OTHERS[case.op].numpy(self, case, dtype, inputs)
        a, b = case.views(inputs)
        out = np.empty(case.out_shape(), a.dtype)
        note = ""
        if dtype == "bfloat16":
            note = "float32 arrays of bfloat16 values: no ml_dtypes" if data.BFLOAT16 is None else "through ml_dtypes"
        plain = functools.partial(np.matmul, a, b, out=out)
        alpha, beta = a.dtype.type(case.alpha), a.dtype.type(case.beta)

        def call() -> None:
            plain()
            if case.alpha != 1:
                np.multiply(out, alpha, out=out)
            if case.beta != 0:
                np.add(out, inputs["c"] * beta, out=out)
            if case.bias:
                np.add(out, inputs["bias"], out=out)

        fused = case.alpha == 1 and case.beta == 0 and not case.bias
        return Run(call=plain if fused else call, result=lambda: out, note=note)


class Torch:
    """PyTorch on the CPU."""

    name = "torch"

    def __init__(self):
        import torch

        self.torch = torch
        torch.set_grad_enabled(False)

    def version(self) -> str:
        return self.torch.__version__

    def _tensor(self, x: np.ndarray, dtype: str):
        if x.dtype == data.BFLOAT16:
            return self.torch.from_numpy(x.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(x).to(getattr(self.torch, dtype))

    def prepare(self, case, dtype: str, inputs: dict[str, np.ndarray], choice: Choice) -> Run:
        if case.op in OTHERS:
            return OTHERS[case.op].torch(self, case, dtype, inputs)
        torch = self.torch
        x = {name: self._tensor(array, dtype) for name, array in inputs.items()}
        a, b = case.views(x)
        out = torch.empty(case.out_shape(), dtype=getattr(torch, dtype))
        if case.bias and case.beta == 0 and not case.batch:
            call = functools.partial(torch.addmm, x["bias"], a, b, alpha=case.alpha, out=out)
        elif case.beta != 0 and not case.bias:
            add = torch.baddbmm if case.batch else torch.addmm
            call = functools.partial(add, x["c"], a, b, alpha=case.alpha, beta=case.beta, out=out)
        elif case.alpha == 1 and case.beta == 0 and not case.bias:
            call = functools.partial(torch.matmul, a, b, out=out)
        else:
            raise Gap("no single PyTorch call does this combination")
        return Run(call=call, result=lambda: out.float().numpy())


class OnnxRuntime:
    """ONNX Runtime's CPU provider: one node with b as an initializer, as exported models have it: packed before
    the first call. Bound buffers."""

    name = "onnxruntime"

    def __init__(self):
        import onnxruntime

        self.ort = onnxruntime
        onnxruntime.set_default_logger_severity(3)

    def version(self) -> str:
        return self.ort.__version__

    def prepare(self, case, dtype: str, inputs: dict[str, np.ndarray], choice: Choice) -> Run:
        if case.op in OTHERS:
            return OTHERS[case.op].onnxruntime(self, case, dtype, inputs)
        from . import onnx_model

        if dtype == "bfloat16":
            raise Gap("ONNX Runtime's CPU provider has no bfloat16 matrix product")
        if inputs["b"].nbytes > onnx_model.MAX_BYTES:
            raise Gap("the model would exceed the 2 GB of a protocol buffer")
        if case.batch and (case.transpose_a or case.transpose_b or case.bias or case.alpha != 1 or case.beta != 0):
            raise Gap("ONNX's MatMul has batches, its Gemm has the rest")
        if case.step != 1:
            raise Gap("ONNX Runtime's operands are contiguous")
        model = onnx_model.build(case, inputs)
        try:
            session = self.ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are private
            raise Gap(str(error).splitlines()[0]) from None
        out = np.empty(case.out_shape(), inputs["a"].dtype)
        binding = session.io_binding()
        keep = [self.ort.OrtValue.ortvalue_from_numpy(inputs[name]) for name in onnx_model.fed(case)]
        for name, value in zip(onnx_model.fed(case), keep, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("out", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        return Run(call=functools.partial(session.run_with_iobinding, binding), result=lambda: (keep, out)[1])


class MLX:
    """Apple's MLX, on its CPU backend."""

    name = "mlx"

    def __init__(self):
        import mlx.core

        self.mx = mlx.core
        self.mx.set_default_device(self.mx.cpu)

    def version(self) -> str:
        return importlib.import_module("importlib.metadata").version("mlx")

    def prepare(self, case, dtype: str, inputs: dict[str, np.ndarray], choice: Choice) -> Run:
        if case.op in OTHERS:
            return OTHERS[case.op].mlx(self, case, dtype, inputs)
        mx = self.mx

        def tensor(array: np.ndarray):
            plain = array if array.dtype != data.BFLOAT16 else array.astype(np.float32)
            return mx.array(plain).astype(getattr(mx, dtype))

        x = {name: tensor(array) for name, array in inputs.items()}
        a, b = case.views(x)
        mx.eval(a, b, *x.values())
        latest = []

        def call() -> None:
            if case.beta != 0:
                out = mx.addmm(x["c"], a, b, alpha=case.alpha, beta=case.beta)
            elif case.bias:
                out = mx.addmm(x["bias"], a, b, alpha=case.alpha)
            else:
                out = mx.matmul(a, b)
                if case.alpha != 1:
                    out = out * case.alpha
            mx.eval(out)
            latest[:] = [out]

        if case.beta != 0 and case.bias:
            raise Gap("no single MLX call does this combination")
        return Run(call=call, result=lambda: np.array(latest[0].astype(mx.float32)))


PEERS = {peer.name: peer for peer in (NumPy, Torch, OnnxRuntime, MLX)}


def load(name: str):
    """The class of a library by its name, or of your own by `module:Class`. Raises ValueError."""
    if name == Metallic.name:
        return Metallic
    if ":" in name:
        module, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module), attribute)
    if name not in PEERS:
        raise ValueError(f"unknown peer {name!r}: one of {', '.join(PEERS)}, or module:Class")
    return PEERS[name]
