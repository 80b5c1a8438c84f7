"""Kernels that multiply pairs of 16 bits: when they are chosen, and what those of bfloat16 may do to denormals."""

from __future__ import annotations

import numpy as np
import pytest

import metallic as ml
from attention_parity import sdpa_reference
from metallic import _core
from parity import BF16, assert_close, random_array, reference_matmul, wide

pytestmark = pytest.mark.skipif(BF16 is None, reason="ml_dtypes is not installed: no bfloat16 arrays")

SUPPORTS = ["bias", "activation", "alpha_beta", "any_strides", "mixed_dtypes"]


def choose(prefs=None, **case):
    row = {"op": "matmul", "family": "mlx", "dtypes": ["float32", "float16", "bfloat16"], "supports": SUPPORTS}
    f32 = {**row, "name": "f32", "rank": 20, "isa": 1}
    dot = {**row, "name": "dot", "rank": 30, "isa": 3, "supports": [*SUPPORTS, "bf16_dot"]}
    device = {"device": "cpu", "isa": 3, "simdgroup_mm": True, "has_mlx": True, "kernels": [f32, dot]}
    return _core._select("matmul", {"m": 128, "n": 128, "k": 128, **case}, device, prefs or {})["kernel"]


def test_only_for_bfloat16_operands():
    assert choose(dtype="bfloat16") == "dot"
    assert choose(dtype="float32") == "f32"
    assert choose(dtype="float16") == "f32"
    assert choose(dtypes={"a": "bfloat16", "b": "bfloat16", "out": "float32"}) == "dot"
    assert choose(dtypes={"a": "bfloat16", "b": "bfloat16", "bias": "float32", "out": "bfloat16"}, bias="n") == "dot"
    for a, b in [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")]:
        assert choose(dtypes={"a": a, "b": b, "out": "bfloat16"}) == "f32"


def test_float16_kernels_only_for_float16_operands():
    """Their products are exact, so precision does not matter; the case of bfloat16 is another row's."""
    row = {"op": "matmul", "family": "mlx", "dtypes": ["float32", "float16", "bfloat16"], "rank": 20, "isa": 1}
    dots = [{**row, "name": n, "supports": [*SUPPORTS, n], "rank": 30} for n in ("f16_dot", "bf16_dot")]
    kernels = [{**row, "name": "f32", "supports": SUPPORTS}, *dots]
    device = {"device": "cpu", "isa": 1, "simdgroup_mm": True, "has_mlx": True, "kernels": kernels}

    def chosen(a, b, precision="fast"):
        case = {"m": 128, "n": 128, "k": 128, "dtypes": {"a": a, "b": b, "out": "float32"}}
        return _core._select("matmul", case, device, {"precision": precision})["kernel"]

    assert chosen("float16", "float16") == chosen("float16", "float16", "high") == "f16_dot"
    assert chosen("bfloat16", "bfloat16") == "bf16_dot"
    for a, b in [("float16", "float32"), ("float32", "float16"), ("float16", "bfloat16"), ("float32", "float32")]:
        assert chosen(a, b) == "f32"


def test_high_precision_keeps_f32():
    assert choose({"precision": "high"}, dtype="bfloat16") == "f32"
    assert choose({"precision": "fast"}, dtype="bfloat16") == "dot"


def dot_kernels():
    return [r["name"] for r in ml.kernels("matmul", "cpu") if "bf16_dot" in r["supports"] and r["available"]]


needs_dot = pytest.mark.skipif(not dot_kernels(), reason="this CPU has no dot products of bfloat16")


def run(a, b, precision, backend):
    with ml.profile() as profile:
        got = np.asarray(ml.matmul(a, b, ctx=ml.Context("cpu", precision=precision, matmul_backend=backend)))
    return got, profile.records[-1]["impl"].split("/")[1]


backends = pytest.mark.parametrize("backend", ["mlx", "gemv"])


@needs_dot
@backends
def test_runs_what_was_planned(backend):
    rng = np.random.default_rng(1)
    for m, n, k in [(64, 64, 33), (70, 45, 257), (130, 200, 1200), (5, 300, 1), (1, 1, 1), (33, 70, 20001)]:
        a, b = random_array(rng, (m, k), BF16), random_array(rng, (k, n), BF16)
        value, error = reference_matmul(a, b)
        for precision in ("fast", "high"):
            got, impl = run(a, b, precision, backend)
            assert (impl in dot_kernels()) == (precision == "fast")
            assert_close(got, value, error)


@needs_dot
@backends
def test_denormals(backend):
    """Flushed operands and results of the fast kernels err by what they lose; with high precision they count."""
    rng = np.random.default_rng(2)
    a = (rng.standard_normal((40, 50)) * 2.0**-128).astype(np.float32).astype(BF16)  # about half are denormal
    b = (rng.standard_normal((50, 60)) * 2.0**40).astype(np.float32).astype(BF16)
    value, error = reference_matmul(a, b)
    exact, _ = run(a, b, "high", backend)
    assert_close(exact, value, error)
    lost = np.where(np.abs(wide(a)) < 2.0**-126, np.abs(wide(a)), 0) @ np.abs(wide(b))
    assert (lost > 100 * error).any(), "the data must tell the two apart"
    fast, _ = run(a, b, "fast", backend)
    assert_close(fast, value, error + lost)
    # Products of normal numbers, sums below 2^-126.
    a, b = np.full((64, 3), 2.0**-70, np.float32).astype(BF16), np.full((3, 64), 2.0**-58, np.float32).astype(BF16)
    fast, _ = run(a, b, "fast", backend)
    assert (np.abs(wide(fast) - 3 * 2.0**-128) <= 3 * 2.0**-126).all()
    assert (wide(run(a, b, "high", backend)[0]) == 3 * 2.0**-128).all()


# ---- attention: the product of queries and keys ----------------------------------------------------------------------


def choose_attention(prefs=None, **case):
    row = {"op": "sdpa", "family": "tiled", "dtypes": ["float32", "float16", "bfloat16"], "supports": "all"}
    rows = [
        {**row, "name": "f32", "rank": 20},
        {**row, "name": "dot", "rank": 30, "supports": [*ATTENTION, "bf16_dot"]},
    ]
    case = {"heads_q": 14, "heads_kv": 2, "len_q": 64, "len_k": 64, **case}
    return _core._select("sdpa", case, {"device": "cpu", "kernels": rows}, prefs or {})["kernel"]


ATTENTION = ["any_strides", "mixed_dtypes", "causal", "mask", "window", "sinks", "softcap"]


def test_attention_multiplies_pairs_only_of_bfloat16():
    assert choose_attention(dtype="bfloat16") == "dot"
    assert choose_attention({"precision": "high"}, dtype="bfloat16") == "f32"
    assert choose_attention(dtype="float16") == choose_attention(dtype="float32") == "f32"
    assert choose_attention(dtypes={"q": "bfloat16", "k": "bfloat16", "v": "float32", "out": "float32"}) == "dot"
    for q, k in [("bfloat16", "float16"), ("float16", "bfloat16"), ("bfloat16", "float32")]:
        assert choose_attention(dtypes={"q": q, "k": k, "v": "bfloat16", "out": "float32"}) == "f32"


def attention_dots():
    return [r["name"] for r in ml.kernels("sdpa", "cpu") if "bf16_dot" in r["supports"] and r["available"]]


@pytest.mark.skipif(not attention_dots(), reason="this CPU has no attention by dot products of bfloat16")
def test_attention_keeps_f32_with_high_precision():
    """Denormal queries count as zero in the fast kernel, and as what they are with high precision."""
    rng = np.random.default_rng(3)
    scale = 2.0**88
    q = random_array(rng, (1, 4, 40, 33), BF16, 2.0**-128)
    k = random_array(rng, (1, 2, 70, 33), BF16, 2.0**40)
    v = random_array(rng, (1, 2, 70, 64), BF16)
    flushed = np.where(np.abs(wide(q)) < 2.0**-126, 0, wide(q)).astype(BF16)
    results = []
    for precision, queries in (("high", q), ("fast", flushed)):
        context = ml.Context("cpu", precision=precision)
        with ml.profile() as profile:
            got = ml.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, variant="tiled", ctx=context)
        assert (profile.records[-1]["impl"].split("/")[1] in attention_dots()) == (precision == "fast")
        value, error = sdpa_reference(queries, k, v, is_causal=True, scale=scale)
        assert_close(np.asarray(got), value, error)
        results.append(value)
    assert np.abs(results[0] - results[1]).max() > 0.01, "the data must tell the two apart"
