"""Threads, fork and batches: many Python threads at once, children of fork, preferences per thread."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import metallic as ml
from parity import F32, assert_close, reference_matmul


def _problem(seed=0, m=200, n=180, k=160):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, k)).astype(F32), rng.standard_normal((k, n)).astype(F32)


@pytest.mark.parametrize("backend", ["mlx", "gemv", "mps"])
def test_many_threads_call_at_once(backend):
    failures = []

    def work(seed):
        try:
            a, b = _problem(seed)
            expected = np.asarray(ml.matmul(a, b, backend=backend)).tobytes()
            for _ in range(20):
                assert np.asarray(ml.matmul(a, b, backend=backend)).tobytes() == expected
            assert_close(np.frombuffer(expected, F32).reshape(200, 180), *reference_matmul(a, b))
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize(
    "text, same_as", [(" 5\t", "5"), ("99999", ""), ("+5", ""), ("5x", ""), ("0", ""), ("Auto", "")]
)
def test_the_pool_and_the_preference_read_the_number_of_threads_alike(text, same_as):
    code = """
        import os, numpy, metallic as ml
        x = ml.ones((300, 300))
        before = len(os.listdir("/proc/self/task"))
        ml.matmul(x, x, backend="mlx")
        print(len(os.listdir("/proc/self/task")) - before)
    """

    def workers(value):
        env = {**os.environ, "METALLIC_NUM_THREADS": value}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], env=env, check=True, capture_output=True, text=True
        ).stdout

    assert workers(text) == workers(same_as)


def test_preferences_hold_for_their_thread_only():
    a, b = _problem()
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def forced():
        with ml.prefs(matmul_backend="gemv"):
            inside.set()
            done.wait(10)
            seen["forced"] = ml.explain(ml.matmul, a, b).backend

    t = threading.Thread(target=forced)
    t.start()
    inside.wait(10)
    seen["other"] = ml.explain(ml.matmul, a, b).backend
    done.set()
    t.join()
    assert seen == {"forced": "gemv", "other": "mlx"}


def test_a_batch_belongs_to_its_thread():
    a, b = _problem()
    ctx = ml.Context("cpu")
    with ctx.batch():
        first = ctx.matmul(a, b)
        second = ctx.matmul(first, np.ascontiguousarray(b.T))
    ctx.synchronize()
    assert_close(np.asarray(first), *reference_matmul(a, b))
    result, error = reference_matmul(np.asarray(first), b.T)
    assert_close(np.asarray(second), result, error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("backend", ["mlx", "gemv", "mps"])
def test_the_pool_survives_fork(backend):
    # a process of its own: pytest's own threads and warnings stay out of it
    program = f"""
    import os, sys, threading, numpy as np, metallic as ml
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((300, 300)).astype(np.float32) for _ in range(2))
    run = lambda: np.asarray(ml.matmul(a, b, backend="{backend}")).tobytes()
    expected = run()
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [run() for _ in iter(stop.is_set, True)])
    busy.start()
    codes = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if run() == expected and run() == expected else 7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set(); busy.join()
    assert run() == expected
    sys.exit(max(codes))
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], timeout=120, check=False)
    assert done.returncode == 0


def test_number_of_threads():
    try:
        ml.set_num_threads(1)
        a, b = _problem()
        one = np.asarray(ml.matmul(a, b, backend="mlx")).tobytes()
        ml.set_num_threads(5)
        assert np.asarray(ml.matmul(a, b, backend="mlx")).tobytes() == one
    finally:
        ml.set_num_threads(0)


@pytest.mark.parametrize(("text", "threads"), [("3", 3), (" 5 ", 5), ("auto", None), ("0", None), ("99999", None)])
def test_number_of_threads_from_the_environment(text, threads):
    program = "import metallic as ml; ml.default_context(); print(ml._core._get_num_threads())"

    def run(**more):
        env = {key: value for key, value in os.environ.items() if key != "METALLIC_NUM_THREADS"} | more
        return subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
        )

    done = run(METALLIC_NUM_THREADS=text)
    assert done.stdout == (f"{threads}\n" if threads else run().stdout)
    assert ("METALLIC_NUM_THREADS" in done.stderr) == (text in ("0", "99999"))


@pytest.mark.parametrize("backend", ["mlx", "gemv", "mps"])
def test_the_number_of_threads_changes_while_others_multiply(backend):
    # scratch is sized before the work is dealt: more threads must not mean more of it than there is
    shapes = [(200, 180, 160), (1, 900, 700), (64, 31, 500)]
    problems = [_problem(0, *shape) for shape in shapes]
    expected = [np.asarray(ml.matmul(a, b, backend=backend)).tobytes() for a, b in problems]
    stop, wrong = threading.Event(), []

    def work():
        while not stop.is_set():
            for (a, b), right in zip(problems, expected, strict=True):
                if backend != "mps" and np.asarray(ml.matmul(a, b, backend=backend)).tobytes() != right:
                    wrong.append((a.shape, b.shape))
                    return
                ml.matmul(a, b, backend=backend)

    workers = [threading.Thread(target=work) for _ in range(3)]
    try:
        for w in workers:
            w.start()
        for i in range(400):
            ml.set_num_threads(1 + i * 5 % 8)
    finally:
        stop.set()
        for w in workers:
            w.join()
        ml.set_num_threads(0)
    assert not wrong
