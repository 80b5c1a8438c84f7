"""The Metal device: command buffers, barriers, borrowed memory, pending results, failures."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import metallic as ml
from attention_parity import sdpa_reference
from parity import F16, F32, LAYOUTS, assert_close, lay_out, random_array, reference_matmul

ROOT = Path(__file__).resolve().parent.parent
DEVICE = next(d for d in ml.devices() if d["name"] == "metal")
pytestmark = pytest.mark.skipif(not DEVICE["available"], reason=f"no Metal device: {DEVICE['reason']}")


@pytest.fixture(scope="module")
def ctx():
    return ml.Context("metal")


def on_device(*arrays):
    return [ml.array(a, device="metal", copy=True) for a in arrays]


def settle(ctx):
    """What array() copied is counted with the next dispatch: this one."""
    ml.add(*on_device(np.ones(3, F32), np.ones(3, F32)), ctx=ctx)


def square(seed=0, n=32, dtype=F32):
    return random_array(np.random.default_rng(seed), (n, n), dtype, 0.2)


def test_it_is_never_the_default_off_apple():
    if sys.platform != "darwin":
        assert ml.array([1.0]).device == "cpu"
    assert ml.array([1.0], device="metal").device == "metal"


def test_description_and_kernels():
    assert DEVICE["max_threads_per_threadgroup"] >= 256 and DEVICE["threadgroup_memory"] >= 16384
    manifest = json.loads((ROOT / "metal" / "variants.json").read_text())
    names = {row["name"] for row in ml.kernels(device="metal")}
    assert {row["name"] for row in manifest["kernels"] if row["enabled"]} <= names


def test_ten_dependent_operations_are_one_command_buffer_with_nine_barriers(ctx):
    (a,) = on_device(square())
    settle(ctx)
    with ml.profile() as prof:
        with ctx.batch():
            x = a
            for _ in range(10):
                x = ml.matmul(x, a, ctx=ctx)
            y = ml.matmul(a, a, ctx=ctx)  # depends on nothing that was recorded
        got = np.asarray(x)
    assert len({r["command_buffer"] for r in prof.records}) == 1
    assert [r["barriers"] for r in prof.records] == [0] + [1] * 9 + [0]
    assert all(r["copied_bytes"] == 0 for r in prof.records)
    np.testing.assert_allclose(got, np.linalg.matrix_power(square().astype(np.float64), 11), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.asarray(y), square() @ square(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "dispatches"), [("composed", [1, 1, 1]), ("vector", [2]), ("tiled", [1])])
def test_dispatches_of_attention(ctx, variant, dispatches):
    rng = np.random.default_rng(1)
    q, k, v = on_device(*(random_array(rng, (1, h, n, 64), F16) for h, n in ((4, 1), (2, 1100), (2, 1100))))
    settle(ctx)
    with ml.profile() as prof:
        with ctx.batch():
            out = ml.scaled_dot_product_attention(q, k, v, variant=variant, ctx=ctx)
        np.asarray(out)
    assert [r["dispatches"] for r in prof.records] == dispatches
    assert len({r["command_buffer"] for r in prof.records}) == 1
    assert all(r["copied_bytes"] == 0 for r in prof.records)


def test_plans_name_the_metal_kernels(ctx):
    w, x = on_device(square(0, 256, F16), square(1, 256, F16)[:1])
    assert ml.explain(ml.matmul, w, w, ctx=ctx).impl == "metal/gemm/simd_64x64"
    plan = ml.explain(ml.matmul, x, w.T, ctx=ctx)
    if DEVICE["emulated"]:  # nobody measured it: what Apple's table says is about Apple's chips
        assert plan.impl == "metal/gemv/nt_bm32_n1_tg256" and "table" not in str(plan)
    else:
        assert plan.impl.startswith("MPS") and "table" in str(plan)
    with ml.prefs(matmul_backend="gemv"):
        assert ml.explain(ml.matmul, x, w.T, ctx=ctx).impl == "metal/gemv/nt_bm32_n1_tg256"
        assert ml.explain(ml.matmul, x, w, ctx=ctx).impl == "metal/gemv/nn_bm128_n1_tg256"


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_vendors_multiplication(ctx, dtype, transposed):
    rng = np.random.default_rng(4)
    for a, b in (((1, 96), (96, 40)), ((33, 96), (96, 40)), ((3, 33, 96), (3, 96, 40)), ((7, 96), (96, 1))):
        x, y = random_array(rng, a, dtype, 0.2), random_array(rng, b, dtype, 0.2)
        dx, dy = on_device(x, np.ascontiguousarray(y.swapaxes(-1, -2)) if transposed else y)
        dy = dy.mT if transposed else dy
        with ml.prefs(matmul_backend="mps"):
            assert ml.explain(ml.matmul, dx, dy, ctx=ctx).impl.startswith("MPS")
            got = np.asarray(ml.matmul(dx, dy, ctx=ctx))
        exact = x.astype(np.float64) @ y.astype(np.float64)
        np.testing.assert_allclose(got, exact, rtol=2**-10 if dtype == F16 else 1e-5, atol=1e-5)


def test_one_command_buffer_per_item():
    per_item = ml.Context("metal", submit="per_item")
    (a,) = on_device(random_array(np.random.default_rng(2), (5, 9, 9), F32))
    with ml.profile() as prof:
        got = ml.matmul(a, a, ctx=per_item)
    assert len({r["command_buffer"] for r in prof.records}) == 5
    np.testing.assert_allclose(np.asarray(got), np.asarray(a) @ np.asarray(a), rtol=1e-4, atol=1e-5)


def test_pipelines_are_cached_per_context():
    one = ml.Context("metal")
    (a,) = on_device(square())
    with ml.profile() as prof:
        for _ in range(2):
            ml.matmul(a, a, ctx=one)
    assert [r["cache_hit"] for r in prof.records] == [False, True]


def test_results_are_read_from_another_thread(ctx):
    (a,) = on_device(square())
    result = ml.matmul(a, a, ctx=ctx)
    seen = []
    reader = threading.Thread(target=lambda: seen.append(np.asarray(result).copy()))
    reader.start()
    reader.join()
    np.testing.assert_allclose(seen[0], square() @ square(), rtol=1e-4, atol=1e-5)


def test_shared_outputs_are_complete_when_the_call_returns(ctx):
    (a,) = on_device(square())
    target = np.zeros((64, 64), F32)
    ml.matmul(a, a, out=ml.array(target, device="metal", copy=False)[::2, 1::2], ctx=ctx)
    np.testing.assert_allclose(target[::2, 1::2], square() @ square(), rtol=1e-4, atol=1e-5)
    assert (target[1::2] == 0).all() and (target[:, ::2] == 0).all()


def test_borrowed_inputs_of_a_batch_are_copied_and_shared_outputs_refused(ctx):
    lent = square()
    borrowed = ml.array(lent, device="metal", copy=False)
    (a,) = on_device(square())
    with ml.profile() as prof, ctx.batch():
        result = ml.matmul(borrowed, a, ctx=ctx)
        lent[:] = np.nan
        with pytest.raises(ValueError, match="batch"):
            ml.matmul(a, a, out=borrowed, ctx=ctx)
    assert prof.records[0]["copied_bytes"] >= lent.nbytes
    np.testing.assert_allclose(np.asarray(result), square() @ square(), rtol=1e-4, atol=1e-5)


def test_between_devices():
    x = random_array(np.random.default_rng(3), (6, 7), F16)[:, ::-2]
    there = ml.array(x).to("metal")
    assert there.device == "metal" and (np.asarray(there) == x).all()
    back = there.T.to("cpu")
    assert back.device == "cpu" and (np.asarray(back) == x.T).all()
    with pytest.raises(ml.DeviceError, match="device"):
        ml.add(there, back.T)


def test_values_out_of_range(ctx):
    good, bad = on_device(np.array([1.5, -2, 300], F32), np.array([1, np.nan], F32))
    assert np.asarray(good.astype("int32")).tolist() == [1, -2, 300]
    for batch in (False, True):
        with pytest.raises(ml.DTypeError, match="range"):
            if batch:
                with ctx.batch():
                    bad.astype("int32")
            else:
                bad.astype("int32")


def _use_in_child(queue):
    try:
        ml.add(ml.array([1.0], device="metal"), 1.0)
        queue.put("worked")
    except ml.DeviceError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told(ctx):
    np.asarray(ml.add(*on_device(np.ones(3, F32), np.ones(3, F32)), ctx=ctx))
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=_use_in_child, args=(queue,))
    child.start()
    assert "forked" in queue.get(timeout=60)
    child.join(timeout=60)


def test_another_manifest(tmp_path):
    manifest = json.loads((ROOT / "metal" / "variants.json").read_text())
    for row in manifest["kernels"]:
        row["enabled"] = row["name"] != "gemm/simd_64x64"
    path = tmp_path / "variants.json"
    path.write_text(json.dumps(manifest, indent=1))
    a, b = on_device(square(0, 80), square(1, 80))
    reduced = ml.Context("metal", variants=str(path))
    assert ml.explain(ml.matmul, a, b, ctx=reduced).impl != "metal/gemm/simd_64x64"
    np.testing.assert_allclose(np.asarray(ml.matmul(a, b, ctx=reduced)), square(0, 80) @ square(1, 80), rtol=1e-4,
                               atol=1e-5)  # fmt: skip
    for text, message in [
        ("{", "expected"),
        ('{"version": 2, "kernels": []}', "version"),
        ('{"version": 1, "kernels": [\n{"name": "x", "nonsense": 1}]}', ":2: .*nonsense"),
        ('{"version": 1, "kernels": [{"name": "x"}]}', "lacks"),
        ('{"version": 1, "kernels": [{"source": "none.metal"}]}', "none.metal"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ml.Context("metal", variants=str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        ml.Context("metal", variants=str(tmp_path / "absent.json"))


def test_out_of_memory_leaves_the_device_usable(ctx):
    with pytest.raises((MemoryError, ml.MetallicError) if hasattr(ml, "MetallicError") else MemoryError):
        ml.empty((1 << 22, 1 << 22), device="metal")
    (a,) = on_device(square())
    np.testing.assert_allclose(np.asarray(ml.matmul(a, a, ctx=ctx)), square() @ square(), rtol=1e-4, atol=1e-5)


def test_labels_become_debug_groups_without_harm(ctx):
    (a,) = on_device(square())
    with ctx.batch():
        x = a
        for name in ("one", "two"):
            with ml.scope(name):
                x = ml.matmul(x, a, ctx=ctx)
        x = ml.add(x, a, ctx=ctx)
    expected = np.linalg.matrix_power(square().astype(np.float64), 3) + square()
    np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-4, atol=1e-5)


def test_as_the_default_device_of_a_process():
    code = (
        "import metallic as ml, numpy as np; a = np.ones((3, 4), 'f4'); r = ml.matmul(a, a.T); "
        "print(r.device, np.asarray(r).sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "METALLIC_DEVICE": "metal"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["metal", "36.0"], done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernels of the package are files on Linux only")
def test_our_kernels_run_without_a_compiler_and_with_nowhere_to_write():
    code = (
        "import metallic as ml, numpy as np; x = ml.array(np.ones((70, 70), 'f2'), device='metal'); "
        "print([np.asarray(ml.matmul(x, x[:, :n], backend=b)).max().item() for b in ('mlx', 'gemv') for n in (1, 70)], "
        "ml.softmax(x).tolist()[0][0] > 0, ml.add(x, 1.0).tolist()[0][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": "/nonexistent", "METALLIC_CACHE_DIR": "/proc/none"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "no C++ compiler" in done.stderr:
        pytest.skip("the build packed no kernels")
    assert done.stdout.strip() == "[70.0, 70.0, 70.0, 70.0] True 2.0", done.stderr


def test_a_capture_that_cannot_be_is_a_warning(tmp_path):
    if not DEVICE["emulated"]:
        pytest.skip("a Mac captures")
    code = "import metallic as ml; print(ml.add(ml.array([1.0], device='metal'), 1.0).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "METALLIC_CAPTURE": str(tmp_path / "all.gputrace")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["[2.0]"] and done.stderr.count("METALLIC_CAPTURE") == 1, done.stderr


def test_the_vendors_plans_are_kept():
    """What the plan takes for a case of the vendor's runs on it, strictly; the rest is refused in the plan."""
    strict = ml.Context("metal", matmul_backend="mps", strict=True)
    rng = np.random.default_rng(7)
    windows = np.lib.stride_tricks.sliding_window_view(random_array(rng, (40, 20), F32), (9, 20), axis=(0, 1))[:, 0]
    operands = [windows, windows.swapaxes(-1, -2)]
    operands += [lay_out(random_array(rng, (32, 9, 20), F32), layout) for layout in LAYOUTS]
    operands += [lay_out(random_array(rng, (32, 9, 20), F32), layout)[:, :1] for layout in LAYOUTS]
    ran = 0
    for a in operands:
        b = random_array(rng, (32, a.shape[-1], 6), F32)
        for kw in ({}, {"alpha": 0.5}, {"bias": b[0, 0]}, {"activation": "relu"}, {"alpha": 0.0}):
            x, y = (ml.array(v, device="metal", copy=False) for v in (a, b))
            if "bias" in kw:
                kw = {"bias": ml.array(kw["bias"], device="metal")}
            try:
                ml.explain(ml.matmul, x, y, ctx=strict, **kw)
            except ml.UnsupportedError:
                with pytest.raises(ml.UnsupportedError):
                    ml.matmul(x, y, ctx=strict, **kw)
                continue
            assert not kw.keys() & {"bias", "activation"} and kw.get("alpha") != 0
            assert_close(np.asarray(ml.matmul(x, y, ctx=strict, **kw)), *reference_matmul(a, b, **kw))
            ran += 1
    assert ran > 20


def test_a_fused_attention_is_one_dispatch_and_a_composed_one_is_three_operations(ctx):
    rng = np.random.default_rng(8)
    q, k, v = on_device(*(random_array(rng, (1, h, n, 64), F16) for h, n in ((4, 3), (2, 65), (2, 65))))
    settle(ctx)
    for variant, operations in (("composed", 3), ("vector", 1), ("tiled", 1)):
        with ml.profile() as prof:
            np.asarray(ml.scaled_dot_product_attention(q, k, v, variant=variant, ctx=ctx))
        assert [r["dispatches"] for r in prof.records] == [1] * operations
        assert len({r["command_buffer"] for r in prof.records}) == 1
        assert [r["barriers"] for r in prof.records] == [0, 1, 1][:operations]
        assert all(r["copied_bytes"] == 0 for r in prof.records)
        assert not {"copy", "binary"} & {r["op"] for r in prof.records}


def test_beta_on_sliced_operands_is_one_dispatch(ctx):
    a, b, c = (ml.array(random_array(np.random.default_rng(i), (140, 140), F32), device="metal") for i in range(3))
    exact = reference_matmul(np.asarray(a)[3:73, 1:41], np.asarray(b)[::2, ::-1][:40, :66], alpha=0.5, beta=2.0,
                             c=np.asarray(c)[:70, 5:71])  # fmt: skip
    settle(ctx)
    with ml.profile() as prof:
        got = ml.addmm(c[:70, 5:71], a[3:73, 1:41], b[::2, ::-1][:40, :66], alpha=0.5, beta=2.0, ctx=ctx)
        np.asarray(got)
    assert [(r["dispatches"], r["copied_bytes"]) for r in prof.records] == [(1, 0)]
    assert_close(np.asarray(got), *exact)


def test_a_composed_attention_on_memory_that_is_lent(ctx):
    """Complete when the call returns: the caller may change the operands at once, and finds the result in its array."""
    rng = np.random.default_rng(9)
    q, k, v = (random_array(rng, (1, h, n, 64), F32) for h, n in ((4, 3), (2, 65), (2, 65)))
    exact, error = sdpa_reference(q, k, v)
    page = ml.empty((1, 2, 128, 64))  # aligned as the device takes it without a copy
    lent_k = np.asarray(page)[:, :, :65]
    lent_k[...] = k
    target = np.zeros((1, 4, 3, 128), F32)
    out = ml.array(target, device="metal", copy=False)[..., ::2]
    with ml.profile() as prof:
        shared = ml.array(lent_k, device="metal", copy=False)
        got = ml.scaled_dot_product_attention(q, shared, v, variant="composed", out=out, ctx=ctx)
        lent_k[...] = np.nan
    assert len({r["command_buffer"] for r in prof.records}) == 1 and len(prof.records) == 3
    assert_close(target[..., ::2], exact, error)
    assert_close(np.asarray(got), exact, error)
    assert (target[..., 1::2] == 0).all()


def test_a_composed_attention_that_fails_leaves_nothing_behind(tmp_path, ctx):
    """Its first part is recorded when the second one finds no kernel: none of it runs, and nothing waits for it."""
    manifest = json.loads((ROOT / "metal" / "variants.json").read_text())
    for row in manifest["kernels"]:
        if row["op"] == "softmax":
            row["function"] = "absent_{t}"
    path = tmp_path / "variants.json"
    path.write_text(json.dumps(manifest))
    broken = ml.Context("metal", variants=str(path))
    rng = np.random.default_rng(10)
    q, k, v = on_device(*(random_array(rng, (1, 2, n, 64), F16) for n in (3, 65, 65)))
    for _ in range(2):
        with pytest.raises(ml.CompileError, match="absent_f32"):
            ml.scaled_dot_product_attention(q, k, v, variant="composed", ctx=broken)
    got = ml.scaled_dot_product_attention(q, k, v, variant="tiled", ctx=broken)
    assert_close(np.asarray(got), *sdpa_reference(*map(np.asarray, (q, k, v))))
    broken.synchronize()


@pytest.mark.parametrize("backend", ["mlx", "gemv", "mps"])
def test_nothing_to_sum_over_in_memory_that_is_lent(ctx, backend):
    """Operands without elements have no memory on the device, or lie at its very end."""
    bias, c = np.arange(6, dtype=F32), np.full((5, 6), 2, F32)
    lent = np.asarray(ml.empty((4096,)))  # a page that the device takes as it is
    for a, b in ((np.ones((5, 0), F32), np.ones((0, 6), F32)), (lent[4096:].reshape(5, 0), lent[:0].reshape(0, 6))):
        x, y = (ml.array(v, device="metal", copy=False) for v in (a, b))
        got = ml.matmul(x, y, bias=bias, c=c, beta=0.5, backend=backend, ctx=ctx)
        np.testing.assert_array_equal(np.asarray(got), 1 + np.broadcast_to(bias, (5, 6)))
    q = random_array(np.random.default_rng(11), (1, 4, 3, 64), F16)
    none = ml.array(np.ones((1, 2, 0, 64), F16), device="metal", copy=False)
    for variant in ("vector", "tiled", "composed"):
        got = ml.scaled_dot_product_attention(q, none, none, variant=variant, ctx=ctx)
        assert got.shape == q.shape and (np.asarray(got) == 0).all()


def test_the_vendor_steps_along_whole_rows_only():
    """MPSMatrixDescriptor wants the distance of matrices to be a multiple of the distance of rows."""
    vendor = ml.Context("metal", matmul_backend="mps", strict=True)
    rng = np.random.default_rng(12)
    for rows, step, dispatches in ((9, 204, 3), (9, 200, 1), (1, 204, 1)):
        flat = random_array(rng, (3 * 204,), F32)
        a = np.lib.stride_tricks.as_strided(flat, (3, rows, 20), (4 * step, 80, 4))
        b = random_array(rng, (3, 20, 8), F32)
        x, y = ml.array(flat, device="metal"), ml.array(b, device="metal")
        x = x[: 3 * step].reshape(3, step)[:, : rows * 20].reshape(3, rows, 20)
        with ml.profile() as prof:
            got = np.asarray(ml.matmul(x, y, ctx=vendor))
        assert_close(got, *reference_matmul(a, b))
        assert [r["dispatches"] for r in prof.records if r["op"] == "matmul"] == [dispatches]


def test_a_long_batch_has_no_barrier_that_it_does_not_need(ctx):
    (a,) = on_device(np.arange(8, dtype=F32))
    others = on_device(*(np.full(8, i, F32) for i in range(300)))
    with ml.profile() as prof:
        with ctx.batch():
            sums = [ml.add(a, other, ctx=ctx) for other in others]
            last = ml.add(sums[0], sums[-1], ctx=ctx)
        got = [np.asarray(s) for s in sums]
    assert [r["barriers"] for r in prof.records] == [0] * 300 + [1]
    assert len({r["command_buffer"] for r in prof.records}) == 1
    assert all((s == np.arange(8) + i).all() for i, s in enumerate(got))
    assert (np.asarray(last) == 2 * np.arange(8) + 299).all()
