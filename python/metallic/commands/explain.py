"""Says which kernel an operation would run, why, and what it should cost; runs nothing.

    metallic explain matmul 1x896 @ 896x9728 --dtype float16 --transpose-b

Shapes are those of the product; --transpose-a and --transpose-b say that the operand lies transposed in memory.

Exit codes: 0 there is a plan; 1 there is none (the error is printed); 3 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import re

from ..sweep import suites
from .sweep import BACKENDS, preference

HELP = "say which kernel would run, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("operation", choices=["matmul"])
    add("shapes", nargs="+", metavar="SHAPE", help="two shapes, such as 1x896 @ 896x9728")
    add("--dtype", default="float32", help="float32, float16 or bfloat16 (default float32)")
    add("--transpose-a", action="store_true")
    add("--transpose-b", action="store_true")
    add("--bias", action="store_true")
    add("--activation", choices=["gelu", "gelu_tanh", "silu", "relu"])
    add("--alpha", type=float, default=1.0)
    add("--beta", type=float, default=0.0)
    add("--backend", choices=BACKENDS["matmul"])
    add("--variant", choices=["auto", "smalln", "gemm"])
    add("--device")
    add("--strict", action="store_true", help="what a forced choice cannot do is an error, not a fallback")
    add("--prefs", action="append", default=[], metavar="KEY=VALUE")
    add("--json", action="store_true")


def shapes(words: list[str]) -> list[tuple[int, ...]]:
    """Shapes from the words of "1x896 @ 896x9728", however they are spaced. Raises ValueError."""
    parts = [part for part in re.split(r"[@\s]+", " ".join(words)) if part]
    if len(parts) != 2 or not all(re.fullmatch(r"\d+(x\d+)+", part) for part in parts):
        raise ValueError(f"{' '.join(words)!r} is not two shapes such as 1x896 @ 896x9728")
    return [tuple(map(int, part.split("x"))) for part in parts]


def run(args: argparse.Namespace) -> int:
    import metallic as ml

    try:
        left, right = shapes(args.shapes)
        dtype = getattr(ml, suites.dtype_name(args.dtype))
        prefs = {}
        for text in args.prefs:
            key, values = preference(text)
            if len(values) != 1:
                raise ValueError(f"--prefs {text!r}: one value here")
            prefs[key] = values[0]
        ctx = ml.Context(args.device, strict=args.strict, **prefs)
    except ValueError as error:
        args.parser.error(str(error))
    except ml.MetallicError as error:
        args.parser.error(str(error))
    if args.transpose_a:
        left = (*left[:-2], left[-1], left[-2])
    if args.transpose_b:
        right = (*right[:-2], right[-1], right[-2])
    kwargs = {
        "transpose_a": args.transpose_a, "transpose_b": args.transpose_b, "alpha": args.alpha, "beta": args.beta,
        "activation": args.activation, "backend": args.backend, "variant": args.variant, "ctx": ctx,
    }  # fmt: skip
    try:
        a, b = (ml.empty(shape, dtype, device=args.device) for shape in (left, right))
        columns = right[-2] if args.transpose_b else right[-1]
        if args.bias:
            kwargs["bias"] = ml.empty((columns,), dtype, device=args.device)
        if args.beta != 0:
            kwargs["c"] = ml.empty((columns,), dtype, device=args.device)
        plan = ml.explain(ml.matmul, a, b, **kwargs)
    except (ml.MetallicError, OverflowError) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print(json.dumps(plan.to_dict(), indent=2) if args.json else plan)
    return 0
