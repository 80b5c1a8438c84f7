"""What would run, and what there is to run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from . import _core


class Plan:
    """What the dispatcher decided for one operation; str(plan) is for people, to_dict() for programs.

    op, backend, variant and impl (the implementation that really runs) are names; why is a list of reasons in the order
    they came up; predicted_us is in microseconds; bytes counts what is read and written, flops both operations of a
    multiply-add.

    >>> import metallic as ml
    >>> plan = ml.explain(ml.matmul, ml.ones((1, 64)), ml.ones((64, 32)))
    >>> plan.op, plan.flops
    ('matmul', 4096)
    """

    __module__ = "metallic"
    __slots__ = {
        "_fields": None,
        "backend": "Who computes: 'mlx', 'mps', 'gemv', ...; empty where there is no choice.",
        "bytes": "Bytes read and written.",
        "flops": "Floating-point operations, two per multiply-add.",
        "impl": "The implementation that runs: 'cpu/gemv_avx512', 'OpenBLAS 0.3.34', ...",
        "op": "The operation: 'matmul', ...",
        "predicted_us": "Predicted time in microseconds.",
        "variant": "The shape class or kernel family: 'small_n(1)', 'gemm_simd(64x64)', ...",
        "why": "Reasons as text, in the order they came up.",
    }

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)
        self.op: str = fields["op"]
        self.backend: str = fields.get("backend", "")
        self.variant: str = fields.get("variant", "")
        self.impl: str = fields.get("impl", "")
        self.why: list[str] = list(fields.get("why", ()))
        self.predicted_us: float = float(fields.get("predicted_us", 0.0))
        self.bytes: int = int(fields.get("bytes", 0))
        self.flops: int = int(fields.get("flops", 0))

    def to_dict(self) -> dict[str, Any]:
        """Everything known about the plan as plain data.

        >>> import metallic as ml
        >>> plan = ml.explain(ml.matmul, ml.ones((2, 3)), ml.ones((3, 2)))
        >>> plan.to_dict()["op"]
        'matmul'
        """
        return json.loads(json.dumps(self._fields))

    def __str__(self) -> str:
        choice = " ".join(part for part in (self.backend, self.variant) if part)
        lines = [f"{self.op}: {choice} -> {self.impl}" if choice else f"{self.op} -> {self.impl}"]
        shapes = self._fields.get("shapes")
        if shapes:
            dtypes = self._fields.get("dtypes", {})
            operands = (f"{name} {dtypes.get(name, '')} {shape}".replace("  ", " ") for name, shape in shapes.items())
            lines.append("  operands   " + ", ".join(operands))
        lines += [f"  because    {reason}" for reason in self.why]
        lines.append(f"  predicted  {self.predicted_us:.1f} us, {self.bytes:,} bytes, {self.flops:,} flops")
        scratch = self._fields.get("scratch_bytes")
        if scratch:
            lines.append(f"  scratch    {scratch:,} bytes")
        for step in self._fields.get("steps", ()):
            lines += ["  " + line for line in str(Plan(step)).splitlines()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Plan {self.op} {self.backend} {self.variant} {self.impl}>"


def explain(fn: Callable, *args: Any, **kwargs: Any) -> Plan:
    """The plan of the last operation that fn(*args, **kwargs) would run; nothing is computed.

    Arguments are checked as in a real call and raise the same errors. ValueError when fn runs no operation.

    >>> import metallic as ml
    >>> ml.explain(ml.matmul, ml.ones((64, 64)), ml.ones((64, 64)), backend="mlx").backend
    'mlx'
    """
    _core._explain_begin()
    try:
        fn(*args, **kwargs)
    except BaseException:
        with contextlib.suppress(ValueError):  # nothing had been planned yet
            _core._explain_end()
        raise
    return Plan(json.loads(_core._explain_end()))


def devices() -> list[dict[str, Any]]:
    """The devices metallic knows, each a dict: name, kind, available, reason (why not), isa or features, limits.

    >>> import metallic as ml
    >>> [device["available"] for device in ml.devices() if device["name"] == "cpu"]
    [True]
    """
    return json.loads(_core._devices_json())


def kernels(op: str | None = None, device: str | None = None) -> list[dict[str, Any]]:
    """Every kernel, or those of one operation and one device: name, family, dtypes, what it supports and needs.

    >>> import metallic as ml
    >>> all(kernel["op"] == "matmul" for kernel in ml.kernels("matmul", "cpu"))
    True
    """
    return json.loads(_core._kernels_json(op, device))
