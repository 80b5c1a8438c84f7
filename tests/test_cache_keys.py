"""Resource-cache keys: two different sets of facts never meet, and what is no such fact does not change a key."""

from __future__ import annotations

import itertools

import pytest

from metallic import _core

FLOATS = ["float32", "float16", "bfloat16"]


def nested(operation, **fields):
    """The whole product of the fields' values: (label, case, plan). A field is a list of (case part, plan part)."""
    for combination in itertools.product(*fields.values()):
        case, plan = {}, {}
        for case_part, plan_part in combination:
            for target, part in ((case, case_part), (plan, plan_part)):
                for name, value in part.items():
                    if isinstance(value, dict):
                        target[name] = {**target.get(name, {}), **value}
                    else:
                        target[name] = value
        yield operation, case, plan


def in_case(name, values):
    return [({name: value}, {}) for value in values]


def in_plan(name, values):
    return [({}, {name: value}) for value in values]


def of_operand(what, name, values):
    return [({what: {name: value}}, {}) for value in values]


VARIANTS = [({}, {"variant": 0, "bucket": bucket}) for bucket in range(6)]
VARIANTS += [({}, {"variant": 1, "tile": tile, "bucket": 5}) for tile in range(2)]
VARIANTS += [({}, {"variant": 2, "tile": 2, "bucket": 5})]
MASKS = in_case("mask", ["none", "bool", "additive"])

MATMUL = {
    "dtype": in_case("dtype", FLOATS),
    "backend": in_plan("family", ["mlx", "mps", "gemv"]),
    "variant": VARIANTS,
    "transpose_a": in_case("transpose_a", [False, True]),
    "transpose_b": in_case("transpose_b", [False, True]),
    "transposed": in_plan("transposed", [False, True]),
    "beta": in_case("beta", [0.0, 1.0, 2.0]),
    "bias": in_case("bias", ["none", "n", "m"]),
    "activation": in_case("activation", ["none", "gelu", "gelu_tanh", "silu", "relu"]),
    "batch": in_case("batch", [1, 2]),
}
MATMUL_LAYOUTS = {
    "a": of_operand("strides", "a", [(256, 1), (1, 256), (2048, 8)]),
    "b": of_operand("strides", "b", [(256, 1), (1, 256), (2048, 8)]),
    "out": of_operand("strides", "out", [(256, 1), (1, 256), (2048, 8)]),
    "offset_a": of_operand("offsets", "a", [0, 2, 4, 8]),
    "offset_b": of_operand("offsets", "b", [0, 2, 4, 8]),
    "offset_out": of_operand("offsets", "out", [0, 2, 4, 8]),
    "m": in_case("m", [64, 65]),
    "n": in_case("n", [64, 65]),
    "k": in_case("k", [64, 65]),
}
MATMUL_DTYPES = {name: of_operand("dtypes", name, FLOATS) for name in ("a", "b", "c", "bias", "out")} | {
    "kernel": in_plan("kernel", [0, 1, 2**40]),
    "alpha": in_case("alpha", [1.0, 0.5]),
    "skip_hidden": in_case("skip_hidden", [False, True]),
    "panels": in_plan("panels", [0, 1, 2]),
}
SOFTMAX = {
    "dtype": in_case("dtype", FLOATS),
    "variant": in_plan("family", ["vec", "block"]),
    "seq_k": in_case("seq_k", [1, 2, 4, 8, 64, 512, 1024, 2048, 2**20, 2**40]),
    "causal": in_case("causal", [False, True]),
    "log": in_case("log", [False, True]),
    "mask": MASKS,
    "reduction": in_plan("simd_reduction", [False, True]),
    "kernel": in_plan("kernel", [0, 1]),
    "out": of_operand("dtypes", "out", FLOATS),
    "offset": of_operand("offsets", "x", [0, 2, 4, 8]),
}
SCORES = {
    "dtype": in_case("dtype", FLOATS),
    "scores": in_case("scores", [False, True]),
    "sinks": in_case("sinks", [False, True]),
    "softcap": in_case("softcap", [0.0, 30.0]),
    "window": in_case("window", [0, 128]),
    "causal": in_case("causal", [False, True]),
    "mask": MASKS,
}
SDPA = {
    "dtype": in_case("dtype", FLOATS),
    "variant": in_plan("family", ["composed", "vector", "tiled"]),
    "dim_qk": in_case("dim_qk", [32, 64, 80, 128, 256]),
    "dim_v": in_case("dim_v", [32, 64, 80, 128, 256]),
    "causal": in_case("causal", [False, True]),
    "mask": MASKS,
    "window": in_case("window", [0, 128]),
    "sinks": in_case("sinks", [False, True]),
    "softcap": in_case("softcap", [0.0, 30.0]),
    "offset": of_operand("offsets", "k", [0, 2]),
}
SIMPLE = {
    "kind": in_case("kind", ["add", "sub", "mul", "div", "equal", "not_equal"]),
    "a": of_operand("dtypes", "a", ["float32", "float16", "bfloat16", "int32", "uint8", "bool"]),
    "out": of_operand("dtypes", "out", ["float32", "float16", "bfloat16", "bool"]),
    "a_value": in_case("a_is_value", [False]),
    "b_value": in_case("b_is_value", [False, True]),
    "strides": of_operand("strides", "a", [(16, 1), (32, 1), (256, 16)]),
    "offset": of_operand("offsets", "a", [0, 4, 8]),
}
NORM = {
    "dtype": in_case("dtype", FLOATS),
    "length": in_case("length", [8, 64, 512, 1024, 2**20, 2**40]),
    "weight": in_case("weight", [False, True]),
    "bias": in_case("bias", [False, True]),
    "residual": in_case("residual", [False, True]),
    "kernel": in_plan("kernel", [0, 1]),
    "out": of_operand("dtypes", "out", FLOATS),
    "offset": of_operand("offsets", "x", [0, 2, 4, 8]),
}
NORM_OPERANDS = {
    "weight": of_operand("dtypes", "weight", FLOATS),
    "bias": of_operand("dtypes", "bias", FLOATS),
    "strides": of_operand("strides", "x", [(64, 1), (1, 64), (512, 8)]),
    "weight_at": of_operand("offsets", "weight", [0, 4]),
    "bias_at": of_operand("offsets", "bias", [0, 4]),
    "residual_at": of_operand("offsets", "residual", [0, 4]),
    "sum_at": of_operand("offsets", "sum", [0, 4]),
    "out_at": of_operand("offsets", "out", [0, 4]),
}
ACTIVATE = {
    "activation": in_case("activation", ["gelu", "gelu_tanh", "silu"]),
    "x": of_operand("dtypes", "x", FLOATS),
    "up": of_operand("dtypes", "up", FLOATS),
    "out": of_operand("dtypes", "out", FLOATS),
    "strides": of_operand("strides", "x", [(16, 1), (32, 1), (256, 16)]),
    "up_strides": of_operand("strides", "up", [(16, 1), (32, 1), (256, 16)]),
    "offset": of_operand("offsets", "x", [0, 4, 8]),
    "kernel": in_plan("kernel", [0, 1]),
}
ROPE = {
    "dtype": in_case("dtype", FLOATS),
    "dims": [({"dims": dims, "width": dims * share}, {}) for dims in (2, 32, 64, 128, 2**40) for share in (1, 2)],
    "interleaved": in_case("interleaved", [False, True]),
    "offsets": in_case("offsets", [False, True]),
    "kernel": in_plan("kernel", [0, 1]),
}
ROPE_LAYOUTS = {
    "dtype": in_case("dtype", FLOATS),
    "interleaved": in_case("interleaved", [False, True]),
    "partial": in_case("dims", [64, 32]),
    "strides": of_operand("strides", "x", [(512, 64, 1), (512, 1, 8), (4096, 512, 8)]),
    "out": of_operand("strides", "out", [(512, 64, 1), (512, 1, 8), (4096, 512, 8)]),
}
SHAPE = {"m": 64, "n": 64, "k": 64}


def keys_of(operation, fields, base=None):
    seen = {}
    for name, case, plan in nested(operation, **fields):
        key = _core._plan_key(name, {**(base or {}), **case}, plan)
        assert key not in seen, f"{(case, plan)} and {seen[key]} have one key"
        seen[key] = (case, plan)
    return seen


PRODUCTS = {
    "matmul": ("matmul", MATMUL, SHAPE),
    "matmul_layouts": ("matmul", MATMUL_LAYOUTS, {"dtype": "float16"}),
    "matmul_dtypes": ("matmul", MATMUL_DTYPES, {**SHAPE, "beta": 1.0, "bias": "n"}),
    "softmax": ("softmax", SOFTMAX, {"rows": 1}),
    "scores": ("softmax", SCORES, {"seq_k": 64}),
    "sdpa": ("sdpa", SDPA, {"len_k": 16}),
    "binary": ("binary", SIMPLE, {"rows": 4, "cols": 16}),
    "layer_norm": ("layer_norm", NORM, {"rows": 4}),
    "rms_norm": ("rms_norm", NORM, {"rows": 4}),
    "norm_operands": (
        "rms_norm",
        NORM_OPERANDS,
        {"rows": 8, "length": 64, "weight": True, "bias": True, "residual": True},
    ),
    "swiglu": ("swiglu", ACTIVATE, {"rows": 4, "cols": 16}),
    "rope": ("rope", ROPE, {"length": 8}),
    "rope_layouts": ("rope", ROPE_LAYOUTS, {"rows": 4, "length": 8, "width": 64}),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_no_two_keys_meet(product):
    operation, fields, base = PRODUCTS[product]
    if product == "matmul":
        base = {**base, "alpha": 1.0}
    seen = keys_of(operation, fields, base)
    count = 1
    for values in fields.values():
        count *= len(values)
    assert len(seen) == count
    assert len({len(key) for key in seen}) == 1, "fields are of fixed width"
    assert all(len(key) <= 64 for key in seen)


def test_operations_never_meet():
    operations = ("matmul", "softmax", "sdpa", "binary", "copy", "fill", "layer_norm", "rms_norm")
    operations += ("gelu", "silu", "swiglu", "rope")
    keys = {_core._plan_key(op, {}, {}) for op in operations}
    assert len(keys) == len(operations)


@pytest.mark.parametrize(
    ("operation", "case", "other"),
    [
        ("matmul", {**SHAPE}, {"m": 128, "n": 192, "k": 32}),
        ("matmul", {**SHAPE, "alpha": 0.5}, {**SHAPE, "alpha": 0.7}),
        ("matmul", {**SHAPE, "beta": 2.0}, {**SHAPE, "beta": 3.0}),
        ("matmul", {**SHAPE, "batch": 2}, {**SHAPE, "batch": 7}),
        ("matmul", {**SHAPE, "offsets": {"a": 16}}, {**SHAPE, "offsets": {"a": 1600}}),
        ("matmul", {**SHAPE, "strides": {"a": (256, 1)}}, {**SHAPE, "strides": {"a": (512, 1)}}),
        ("matmul", {**SHAPE, "backend": "mlx"}, {**SHAPE, "variant": "gemm"}),
        ("matmul", {**SHAPE, "dtypes": {"c": "float16"}}, {**SHAPE, "offsets": {"bias": 4}}),
        ("softmax", {"rows": 4, "seq_k": 64}, {"rows": 9, "seq_k": 64}),
        ("softmax", {"seq_k": 128, "scale": 0.5}, {"seq_k": 128, "scale": 2.0}),
        ("softmax", {"seq_k": 1024, "causal": True, "query_offset": 3}, {"seq_k": 1024, "causal": True}),
        ("softmax", {"seq_k": 1024}, {"seq_k": 1040}),
        ("softmax", {"seq_k": 64, "scores": True, "window": 3}, {"seq_k": 64, "scores": True, "window": 9}),
        ("sdpa", {"len_q": 1, "len_k": 7}, {"len_q": 5, "len_k": 900}),
        ("sdpa", {"window": 4}, {"window": 5}),
        ("sdpa", {"softcap": 30.0}, {"softcap": 50.0}),
        ("sdpa", {"causal": True, "query_offset": 3}, {"causal": True, "query_offset": 9}),
        ("sdpa", {"heads_q": 14, "heads_kv": 2, "batch": 3}, {"heads_q": 8}),
        ("copy", {"rows": 4, "cols": 16}, {"rows": 400, "cols": 32}),
        ("rms_norm", {"rows": 4, "length": 896, "eps": 1e-5}, {"rows": 9, "length": 1008, "eps": 1e-6}),
        ("layer_norm", {"length": 64, "offsets": {"weight": 4}}, {"length": 64, "dtypes": {"bias": "float16"}}),
        ("gelu", {"rows": 4, "cols": 16, "activation": "gelu"}, {"rows": 40, "cols": 32, "activation": "gelu"}),
        ("rope", {"length": 8, "width": 64, "offset": 3}, {"length": 700, "width": 64, "rows": 5}),
    ],
)
def test_what_is_no_fact_does_not_matter(operation, case, other):
    assert _core._plan_key(operation, case, {}) == _core._plan_key(operation, other, {})


@pytest.mark.parametrize("dtype", FLOATS)
def test_alignment_class(dtype):
    """The largest power of two up to 16 bytes that divides the start and the step of every row."""
    size = 4 if dtype == "float32" else 2

    def key(offset, row):
        case = {**SHAPE, "dtype": dtype, "offsets": {"a": offset}, "strides": {"a": (row, 1)}}
        return _core._plan_key("matmul", case, {})

    for offset, row in itertools.product([0, 4, 8, 12, 16, 24, 48], [64, 66, 68, 72, 80, 96]):
        divisor = next(p for p in (16, 8, 4, 2) if offset % p == 0 and row * size % p == 0)
        assert key(offset, row) == key(divisor, 64)
