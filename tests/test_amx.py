"""The AMX tier of the tiled GEMM: when it is chosen, and its results where the CPU has it.

tests/checkasm checks the kernel's source on every machine, over a model of the tile instructions.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import metallic as ml
from metallic import _core
from parity import BF16, assert_close, random_array, reference_matmul

NAME = "gemm_amx_bf16_32x32"
SUPPORTS = ["bias", "activation", "alpha_beta", "any_strides", "mixed_dtypes"]
AVX2, AVX512, AVX512_BF16, AMX = 1, 2, 4, 16


def choose(isa, prefs=None, **case):
    row = {"op": "matmul", "family": "mlx", "dtypes": ["float32", "float16", "bfloat16"], "supports": SUPPORTS}
    f32 = {**row, "name": "f32", "rank": 20, "isa": AVX2 | AVX512}
    dot = {**row, "name": "dot", "rank": 30, "isa": AVX2 | AVX512 | AVX512_BF16, "supports": [*SUPPORTS, "bf16_dot"]}
    tiles = {**row, "name": "tiles", "rank": 40, "isa": AVX2 | AVX512 | AMX, "supports": [*SUPPORTS, "bf16_dot"]}
    gemv = {**row, "name": "gemv", "family": "gemv", "rank": 20, "isa": AVX2 | AVX512, "max_n": 16}
    device = {"device": "cpu", "isa": isa, "simdgroup_mm": True, "has_mlx": True, "has_gemv": True}
    device["kernels"] = [f32, dot, tiles, gemv]
    return _core._select("matmul", {"m": 128, "n": 128, "k": 128, **case}, device, prefs or {})["kernel"]


def test_chosen_for_bfloat16_operands():
    all_of_it = AVX2 | AVX512 | AVX512_BF16 | AMX
    assert choose(all_of_it, dtype="bfloat16") == "tiles"
    assert choose(all_of_it, dtypes={"a": "bfloat16", "b": "bfloat16", "out": "float32"}) == "tiles"
    assert choose(all_of_it, dtypes={"a": "bfloat16", "b": "float32", "out": "bfloat16"}) == "f32"
    assert choose(all_of_it, dtype="float16") == "f32"
    assert choose(all_of_it, {"precision": "high"}, dtype="bfloat16") == "f32"
    assert choose(all_of_it, dtype="bfloat16", n=1) == "gemv"
    assert choose(all_of_it, dtype="bfloat16", n=4) == "gemv"
    assert choose(AVX2 | AVX512 | AVX512_BF16, dtype="bfloat16") == "dot"


ROWS = [row for row in ml.kernels("matmul", "cpu") if row["name"] == NAME]
needs_row = pytest.mark.skipif(not ROWS, reason="the build has no AMX tier: another architecture, or an old compiler")
HAS_AMX = bool(ROWS) and ROWS[0]["available"]
needs_amx = pytest.mark.skipif(not HAS_AMX, reason="this CPU has no AMX")
needs_bf16 = pytest.mark.skipif(BF16 is None, reason="ml_dtypes is not installed: no bfloat16 arrays")


@needs_row
def test_listed():
    row = ROWS[0]
    assert row["rank"] == 40 and "bf16_dot" in row["supports"]
    assert row["isa"].split() == ["amx", "avx512", "avx2"]


@needs_row
def test_bound_of_the_isa():
    """A tier that the CPU lacks is no error: it leaves the ones below, and the plan names what runs."""
    code = """
import metallic as ml
a = ml.zeros((64, 64), "bfloat16")
print(ml.explain(ml.matmul, a, a, backend="mlx").impl)
"""
    impls = {}
    for isa in ("amx", "auto", "avx512_bf16"):
        env = os.environ | {"METALLIC_ISA": isa}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert "METALLIC_ISA" not in done.stderr
        impls[isa] = done.stdout.strip()
    assert impls["amx"] == impls["auto"]
    assert (impls["amx"] == f"cpu/{NAME}") == HAS_AMX
    assert impls["avx512_bf16"] != f"cpu/{NAME}"


@needs_bf16
@needs_amx
@pytest.mark.parametrize("out", ["float32", "bfloat16"])
def test_parity(out):
    rng = np.random.default_rng(3)
    shapes = [(32, 32, 32), (33, 65, 31), (17, 300, 77), (300, 40, 1100), (700, 900, 1300), (64, 64, 5000), (20, 20, 1)]
    for m, n, k in shapes:
        for turned in range(4):
            a = random_array(rng, (k, m) if turned & 1 else (m, k), BF16)
            b = random_array(rng, (n, k) if turned & 2 else (k, n), BF16)
            a, b = (a.T if turned & 1 else a), (b.T if turned & 2 else b)
            value, error = reference_matmul(a, b)
            with ml.profile() as profile:
                got = ml.matmul(a, b, backend="mlx", out=ml.empty((m, n), out))
            assert profile.records[-1]["impl"] == f"cpu/{NAME}"
            assert_close(np.asarray(got), value, error)


@needs_bf16
@needs_amx
def test_epilogue_and_threads():
    rng = np.random.default_rng(4)
    a, b = random_array(rng, (500, 600), BF16), random_array(rng, (600, 400), BF16)
    c, bias = random_array(rng, (500, 400), BF16), random_array(rng, (400,), BF16)
    scales = {"alpha": 0.5, "beta": -1.0, "c": c, "bias": bias, "activation": "gelu"}
    value, error = reference_matmul(a, b, **scales)
    results = []
    try:
        for threads in (1, 2, 7):
            ml.set_num_threads(threads)
            results.append(np.asarray(ml.matmul(a, b, backend="mlx", **scales)))
    finally:
        ml.set_num_threads(0)
    assert_close(results[0], value, error)
    assert all((r.view(np.uint16) == results[0].view(np.uint16)).all() for r in results)
