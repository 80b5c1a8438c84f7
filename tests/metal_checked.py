"""Small cases of every kernel family, for the checker of the software Metal (test_metal_orders.py runs this file with
METALLIC_CHECK=1, under which a finding fails the command buffer). One dtype for most: each kernel is compiled anew."""

from __future__ import annotations

import numpy as np
import pytest

import metallic as ml
from attention_parity import sdpa_reference, softmax_error, softmax_reference
from parity import BF16, F16, F32, LAYOUTS, assert_close, lay_out, random_array, reference_matmul

CTX = {name: ml.Context("metal", matmul_backend=name) for name in ("auto", "mlx", "gemv", "mps")}
METAL = CTX["auto"]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def there(x: np.ndarray) -> ml.Tensor:
    """On the device, in x's own layout."""
    return ml.array(x, device="metal", copy=False)


def multiply(rng, backend, shape, layouts=("row", "row"), dtype=F16, **kw):
    m, n, k = shape
    a, b = lay_out(random_array(rng, (m, k), dtype), layouts[0]), lay_out(random_array(rng, (k, n), dtype), layouts[1])
    got = ml.matmul(there(a), there(b), ctx=CTX[backend], **{k: there(v) if isinstance(v, np.ndarray) else v
                                                              for k, v in kw.items()})  # fmt: skip
    assert_close(np.asarray(got), *reference_matmul(a, b, **kw))


@pytest.mark.parametrize("backend", ["mlx", "mps"])
@pytest.mark.parametrize("shape", [(66, 70, 20), (65, 33, 17), (5, 3, 7)], ids=str)
def test_gemm(rng, backend, shape):
    multiply(rng, backend, shape)
    multiply(rng, backend, shape, ("col", "col"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rng, layout):
    multiply(rng, "mlx", (65, 33, 17), (layout, "row"))
    multiply(rng, "mlx", (65, 33, 17), ("col", layout))
    multiply(rng, "gemv", (37, 1, 70), (layout, layout))
    multiply(rng, "gemv", (37, 3, 70), (layout, "col"))


@pytest.mark.parametrize("backend", ["mlx", "gemv"])
def test_epilogue(rng, backend):
    shape = (35, 33, 20) if backend == "mlx" else (35, 4, 20)
    bias = random_array(rng, (shape[1],), F16)
    multiply(rng, backend, shape, bias=bias, activation="gelu", alpha=0.5)
    a, b, c = (random_array(rng, s, F16) for s in ((shape[0], shape[2]), (shape[2], shape[1]), shape[:2]))
    out = ml.zeros((2 * shape[0], 2 * shape[1]), ml.float16, device="metal")[::2, 1::2]
    ml.matmul(there(a), there(b), c=there(c), alpha=2.0, beta=0.5, out=out, ctx=CTX[backend])
    assert_close(np.asarray(out), *reference_matmul(a, b, alpha=2.0, beta=0.5, c=c))


def test_batches_and_other_dtypes(rng):
    a, b = random_array(rng, (3, 9, 20), F16), random_array(rng, (1, 20, 33), F16)
    assert_close(np.asarray(ml.matmul(there(a), there(b), ctx=CTX["mlx"])), *reference_matmul(a, b))
    a, b = random_array(rng, (9, 20), F32), random_array(rng, (20, 33), F16)
    assert_close(np.asarray(ml.matmul(there(a), there(b), ctx=CTX["mlx"])), *reference_matmul(a, b))


@pytest.mark.parametrize("variant", ["vec", "block"])
@pytest.mark.parametrize("keys", [1, 31, 100, 1029])
def test_softmax(rng, variant, keys):
    x, mask = random_array(rng, (2, 3, keys), F16), rng.random((3, keys)) < 0.7
    for kw in ({}, {"causal": True}, {"mask": mask}):
        got = np.asarray(ml.softmax(there(x), variant=variant, ctx=METAL, **kw))
        exact = softmax_reference(x, **kw)
        assert_close(got, exact, softmax_error(x, exact), F16)
    strided = lay_out(x, "step2")
    got = np.asarray(ml.softmax(there(strided), variant=variant, ctx=METAL))
    exact = softmax_reference(strided)
    assert_close(got, exact, softmax_error(strided, exact), F16)


@pytest.mark.parametrize("variant", ["vector", "tiled", "composed"])
@pytest.mark.parametrize("case", ["plain", "causal", "mask", "window", "sinks", "softcap", "sliced", "long"])
def test_attention(rng, variant, case):
    length, keys = (2, 37) if variant == "vector" else (19, 37)
    if case == "long":
        length, keys = 1, 1100
    q, k, v = (random_array(rng, s, F16) for s in ((1, 4, length, 64), (1, 2, keys, 64), (1, 2, keys, 40)))
    kw = {}
    if case in ("causal", "window"):
        kw["is_causal"] = True
    if case == "mask":
        kw["attn_mask"] = rng.random((length, keys)) < 0.7
    if case == "window":
        kw["window"] = 9
    if case == "sinks":
        kw["sinks"] = random_array(rng, (4,), F16)
    if case == "softcap":
        kw["softcap"] = 3.0
    if case == "sliced":
        k, v = lay_out(k, "sliced"), lay_out(v, "step2")
    got = np.asarray(ml.scaled_dot_product_attention(there(q), there(k), there(v), variant=variant, ctx=METAL, **kw))
    exact, error = sdpa_reference(q, k, v, **kw)
    assert_close(got, exact, error, F16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_elementwise_and_copies(rng, layout):
    x, y = lay_out(random_array(rng, (33, 41), F16), layout), random_array(rng, (41,), F16)
    wide = x.astype(F32)
    assert np.array_equal(np.asarray(ml.add(there(x), there(y), ctx=METAL)), (wide + y).astype(F16))
    assert np.array_equal(np.asarray(ml.multiply(there(x), 0.5, ctx=METAL)), (wide * 0.5).astype(F16))
    assert np.array_equal(np.asarray(there(x).copy()), x)
    assert np.array_equal(np.asarray(there(x).T.copy()), x.T)
    assert np.array_equal(np.asarray(there(x).astype("float32")), wide)
    whole = np.arange(33 * 41, dtype=np.int32).reshape(33, 41)
    whole = lay_out(whole, layout)
    assert np.array_equal(np.asarray(there(whole) + 1), whole + 1)
    assert np.array_equal(np.asarray(there(whole) == 40), whole == 40)
    if BF16 is not None:
        assert np.array_equal(np.asarray(there(x).astype("bfloat16")), wide.astype(BF16))


def test_fills():
    for dtype, value in (("float16", 1.5), ("int32", -3), ("uint8", 200), ("bool", True)):
        assert ml.full((37,), value, dtype=dtype, device="metal").tolist() == [value] * 37


def test_a_batch_of_dependent_operations(rng):
    a = random_array(rng, (33, 33), F16, 0.2)
    with METAL.batch():
        x = there(a)
        for _ in range(4):
            x = ml.softmax(ml.matmul(x, there(a), ctx=METAL), ctx=METAL)
            x = ml.add(x, there(a), ctx=METAL)
    assert np.isfinite(np.asarray(x)).all()
