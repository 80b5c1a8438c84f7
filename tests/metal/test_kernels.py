"""Kernels as a Metal engineer writes them, on the software Metal: against float64, in every order of the lanes, without
the checker and with it, which finds nothing in them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from kernel_runs import ORDERS, RUNS, attention, compile_all, execute, function, function_for

from parity import DTYPE_IDS, DTYPES, assert_close

pytest.importorskip("ml_dtypes")

SEED = 20
_first: dict[tuple, bytes] = {}  # results of the unchecked run in forward order


def run_once(name, dtype, order, checked) -> bytes:
    run = RUNS[name]
    case = run.make(dtype, np.random.default_rng(SEED))
    notes = []
    execute(case, lambda step: function_for(run, step, dtype, checked), order=order, seed=7, check=checked, notes=notes)
    assert notes == []
    if case.exact:
        np.testing.assert_array_equal(case.result.astype(np.float64), case.reference.astype(np.float64))
    else:
        assert_close(case.result, case.reference, case.error)
    return case.result.tobytes()


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", RUNS)
def test_kernel(name, dtype, order, checked):
    compile_all(checked)
    got = run_once(name, dtype, order, checked)
    if (name, dtype) not in _first:
        compile_all(False)
        _first[name, dtype] = run_once(name, dtype, "forward", False)
    assert got == _first[name, dtype], "the order of the lanes shows in the bits"


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_two_pipelines_of_one_function_at_the_same_time(checked, rng):
    """Each keeps its own function constants, whatever else is running."""
    dtype = DTYPES[0]
    pipelines = {
        causal: function("attention", "attention_float32", checked, (("causal", causal),)) for causal in (False, True)
    }
    cases = {causal: [attention(dtype, rng, causal=causal) for _ in range(4)] for causal in pipelines}
    start, failures = threading.Barrier(len(cases)), []

    def work(causal: bool) -> None:
        try:
            start.wait(30)
            for _ in range(3):
                for case in cases[causal]:
                    case.result[...] = 0
                    execute_here(case, pipelines[causal])
                    assert_close(case.result, case.reference, case.error)
        except BaseException as error:  # told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(causal,)) for causal in cases]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def execute_here(case, pipeline) -> None:
    """Without changing the settings, which are the whole process's."""
    for _, buffers, launch in case.steps:
        pipeline(*buffers, **launch)
