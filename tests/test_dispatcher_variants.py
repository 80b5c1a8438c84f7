"""Selection of the softmax and attention variants, and of the operations with one policy only."""

from __future__ import annotations

import itertools

import pytest

from metallic import _core

FLOATS = ["float32", "float16", "bfloat16"]
VECTOR_ISA = 1


# ---- softmax ---------------------------------------------------------------------------------------------------------


def softmax_device(vec="all", block="all", **kw):
    kernels = [
        {"op": "softmax", "family": "vec", "name": "v", "dtypes": FLOATS, "supports": vec},
        {"op": "softmax", "family": "block", "name": "b", "dtypes": FLOATS, "supports": block},
    ]
    return {"max_threads_per_threadgroup": 1024, "simdgroup_reduce": True, "kernels": kernels, **kw}


def softmax(caps=None, prefs=None, **case):
    return _core._select("softmax", {"rows": 6, **case}, caps or softmax_device(), prefs or {})


def test_softmax_table():
    for seq_k, max_k, pref, arg, ops in itertools.product(
        [0, 1, 2, 31, 127, 128, 1023, 1024, 1025, 4096],
        [None, 0, 128, 4096],
        ["auto", "vec", "block"],
        ["auto", "vec", "block"],
        ["all", "none", "softmax", "matmul"],
    ):
        prefs = {"softmax_variant": pref, "softmax_vec_max_k": max_k, "dispatch": ops}
        plan = softmax(prefs=prefs, seq_k=seq_k, variant=arg)
        limit = 1024 if max_k is None else max_k
        if arg != "auto":
            want = arg
        elif ops in ("none", "matmul"):
            want = "block"
        elif pref != "auto":
            want = pref
        else:
            want = "vec" if seq_k <= limit else "block"
        assert plan["variant"] == plan["family"] == want, (prefs, seq_k, arg)
        threads = plan["geometry"][1][0]
        assert threads == max(p for p in (2**i for i in range(11)) if p <= max(seq_k, 1))


@pytest.mark.parametrize("limit", [32, 256, 896, 1024])
def test_softmax_threadgroup_is_bounded_by_the_device(limit):
    caps = softmax_device(max_threads_per_threadgroup=limit)
    for seq_k in (1, 31, 32, 33, 255, 800, 5000):
        threads = softmax(caps, seq_k=seq_k)["geometry"][1][0]
        assert threads & (threads - 1) == 0 and threads <= min(seq_k, limit) < 2 * max(threads, limit // 2 + 1)


def test_softmax_reduction():
    assert softmax(seq_k=512)["simd_reduction"]
    plan = softmax(softmax_device(simdgroup_reduce=False), seq_k=512)
    assert not plan["simd_reduction"] and plan["geometry"][2] == 512 * 4


def test_softmax_gaps_fall_back():
    caps = softmax_device(vec=[])
    for case, why in (
        ({"causal": True}, "UNSUPPORTED_OTHER"),
        ({"mask": "bool"}, "UNSUPPORTED_MASK"),
        ({"mask": "additive"}, "UNSUPPORTED_MASK"),
        ({"strides": {"x": (64, 2)}}, "UNSUPPORTED_STRIDES"),
        ({"dtypes": {"out": "float16"}}, "UNSUPPORTED_MIXED"),
    ):
        plan = softmax(caps, seq_k=32, **case)
        assert plan["variant"] == "block" and plan["why"] == ["VEC", why, "FELL_BACK_GENERIC"]
        plan = softmax(caps, {"strict": True}, seq_k=32, **case)
        assert plan["variant"] == "block", "strict concerns what is forced"
        plan = softmax(caps, {"strict": True}, seq_k=32, variant="vec", **case)
        assert "UNSUPPORTED" in plan["error"].upper() and "softmax" in plan["message"] and "vec" in plan["message"]
    assert softmax(softmax_device(block=[]), seq_k=5000, causal=True)["variant"] == "vec"
    assert "error" in softmax({"kernels": []}, seq_k=3)


# ---- attention -------------------------------------------------------------------------------------------------------


def sdpa_device(vector="all", tiled="all", **kw):
    kernels = [
        {"op": "sdpa", "family": "vector", "name": "v", "dtypes": FLOATS, "supports": vector, "max_n": 256},
        {"op": "sdpa", "family": "tiled", "name": "t", "dtypes": FLOATS, "supports": tiled, "max_n": 128},
    ]
    return {"kernels": kernels, **kw}


def sdpa(caps=None, prefs=None, **case):
    return _core._select(
        "sdpa", {"heads_q": 14, "heads_kv": 2, "len_k": 64, **case}, caps or sdpa_device(), prefs or {}
    )


def test_sdpa_table():
    for len_q, pref, arg, ops in itertools.product(
        [0, 1, 7, 8, 9, 64],
        ["auto", "composed", "vector", "tiled"],
        ["auto", "composed", "vector", "tiled"],
        ["all", "none", "sdpa", "softmax"],
    ):
        plan = sdpa(prefs={"sdpa_variant": pref, "dispatch": ops}, len_q=len_q, variant=arg)
        if arg != "auto":
            want = arg
        elif ops in ("none", "softmax"):
            want = "composed"
        elif pref != "auto":
            want = pref
        else:
            want = "vector" if len_q <= 8 else "tiled"
        assert plan["variant"] == want and plan["composed"] == (want == "composed")
        assert (plan["kernel"] is None) == plan["composed"]


@pytest.mark.parametrize(
    ("case", "support"),
    [
        ({"causal": True}, "causal"),
        ({"mask": "bool"}, "mask"),
        ({"mask": "additive"}, "mask"),
        ({"window": 4}, "window"),
        ({"sinks": True}, "sinks"),
        ({"softcap": 30.0}, "softcap"),
        ({"strides": {"k": (64 * 64, 64 * 64, 1, 64)}}, "any_strides"),
    ],
)
def test_sdpa_gaps(case, support):
    lacking = [
        "alpha_beta",
        *(s for s in ("causal", "mask", "window", "sinks", "softcap", "any_strides") if s != support),
    ]
    assert sdpa(sdpa_device(vector=lacking), **case)["variant"] == "tiled"
    assert sdpa(sdpa_device(tiled=lacking), len_q=64, **case)["variant"] == "vector"
    plan = sdpa(sdpa_device(vector=lacking, tiled=lacking), **case)
    assert plan["composed"] and plan["why"][-1] == "COMPOSED"
    plan = sdpa(sdpa_device(vector=lacking), {"strict": True}, variant="vector", **case)
    assert "UNSUPPORTED" in plan["error"].upper() and "vector" in plan["message"]
    assert sdpa(sdpa_device(vector=lacking), {"strict": True}, **case)["variant"] == "tiled"


def test_sdpa_head_size():
    assert sdpa(len_q=64, dim_qk=128, dim_v=128)["variant"] == "tiled"
    assert sdpa(len_q=64, dim_qk=128, dim_v=130)["variant"] == "vector"
    assert sdpa(len_q=64, dim_qk=300)["composed"]
    assert sdpa({"kernels": []})["composed"], "composed needs no kernel of its own"


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["binary", "copy", "fill"])
def test_simple_operations_take_the_best_row(op):
    kernels = [
        {"op": op, "name": "scalar", "dtypes": [*FLOATS, "bool"], "supports": "all"},
        {"op": op, "name": "vector", "dtypes": FLOATS, "supports": [], "rank": 10, "isa": VECTOR_ISA},
    ]
    case = {"rows": 4, "cols": 8}
    assert _core._select(op, case, {"kernels": kernels, "isa": VECTOR_ISA}, {"dispatch": "none"})["kernel"] == "vector"
    assert _core._select(op, case, {"kernels": kernels}, {})["kernel"] == "scalar"
    strided = {**case, "strides": {"out": (16, 2)}}
    assert _core._select(op, strided, {"kernels": kernels, "isa": VECTOR_ISA}, {})["kernel"] == "scalar"
    assert "error" in _core._select(op, {**case, "dtype": "int32"}, {"kernels": kernels}, {})
