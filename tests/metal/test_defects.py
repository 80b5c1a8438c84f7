"""The checker finds every defect planted into the kernels, names its line, and says nothing that is not so."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import pytest
from defects import DEFECTS, Defect
from kernel_runs import FOLDER, RUNS, execute, function_for, gemv, kernel_name, together

import metallic as ml
from metallic import metal
from parity import F32, assert_close

pytest.importorskip("ml_dtypes")

SEED = 5


def planted(defect: Defect) -> str:
    source = (FOLDER / f"{RUNS[defect.run].source}.metal").read_text()
    assert source.count(defect.old) == 1, f"{defect.name}: the text is there {source.count(defect.old)} times"
    return source.replace(defect.old, defect.new)


def line_of(source: str, text: str) -> int:
    place = max(text.find("»"), 0)
    text = text.replace("»", "")
    assert source.count(text) == 1, f"{text!r} is there {source.count(text)} times"
    return source[: source.index(text) + place].count("\n") + 1


@functools.cache
def library(defect: Defect) -> metal.Library:
    return metal.Library(planted(defect))


def case_of(defect: Defect):
    return (defect.make or RUNS[defect.run].make)(defect.dtype, np.random.default_rng(SEED))


def kernel_of(defect: Defect, step: str) -> str:
    name, _, other = step.partition(":")
    return f"{name}_{other}" if other else kernel_name(name, defect.dtype)


@functools.cache
def compile_all() -> None:
    def compile_one(defect: Defect) -> None:
        name = kernel_of(defect, defect.kernel or defect.run)
        library(defect).function(name, dict(RUNS[defect.run].constants))

    with metal._running(check=True):
        together(partial(compile_one, defect) for defect in DEFECTS)


def findings_of(defect: Defect, order: str) -> list[dict]:
    """What is found until a step of the run raises; the steps before the defective kernel are clean."""
    compile_all()
    constants, notes = dict(RUNS[defect.run].constants), []
    try:
        execute(
            case_of(defect), lambda step: library(defect).function(kernel_of(defect, step), constants),
            check=True, order=order, seed=11, notes=notes,
        )  # fmt: skip
    except ml.CheckError as error:
        return notes + error.findings
    return notes


def fits(defect: Defect, source: str, f: dict) -> bool:
    lines = {line_of(source, defect.at)} | ({line_of(source, defect.other)} if defect.other else set())
    at = {f["line"], f["other_line"]} if defect.other else {f["line"]}
    return (
        f["kind"] == defect.kind
        and f["severity"] == defect.severity
        and f["kernel"] == kernel_of(defect, defect.kernel or defect.run)
        and f["file"] == "program_source"
        and at == lines
        and f["variable"] == defect.variable
        and f["buffer"] == defect.buffer
    )


@pytest.mark.parametrize(
    ("defect", "order"),
    [pytest.param(d, order, id=f"{d.name.replace(' ', '-')}-{order}") for d in DEFECTS for order in d.orders],
)
def test_defect_is_found(defect, order):
    source, found = planted(defect), findings_of(defect, order)
    text = "\n".join(f"{f['severity']} {f['message']} [{f['line']}, {f['other_line']}]" for f in found)
    assert any(fits(defect, source, f) for f in found), text or "nothing was found"
    beside = {f["kind"] for f in found if f["severity"] != "note"} - {defect.kind, *defect.also}
    assert not beside, text
    places = [(f["kind"], f["severity"], f["line"], f["other_line"], f["variable"]) for f in found]
    assert len(places) == len(set(places)), text


def test_the_table():
    assert len(DEFECTS) >= 40
    assert len({d.name for d in DEFECTS}) == len(DEFECTS)
    sources = {RUNS[d.run].source for d in DEFECTS}
    assert sources == {path.stem for path in FOLDER.glob("*.metal")}
    for source in sources:  # a barrier is deleted in each
        races = [d for d in DEFECTS if RUNS[d.run].source == source and d.kind == "race"]
        assert any(d.old.count("barrier(") > d.new.count("barrier(") for d in races)


# ---- what the host does wrong ----------------------------------------------------------------------------------------


def test_too_many_threads():
    source = (FOLDER / "gemv.metal").read_text()
    limit = "max_total_threads_per_threadgroup(SIMDGROUPS * 32)"
    assert source.count(limit) == 1
    case = gemv(F32, np.random.default_rng(SEED))
    for check in (False, True):
        with metal._running(check=check):
            function = metal.Library(source.replace(limit, limit.replace("32", "16"))).function("gemv_float32")
            line = line_of(source, "\n»gemv(device const T *a")
            with pytest.raises(ValueError, match=rf"'gemv_float32' \(program_source:{line}\): 128 x 1 x 1 .* is 64"):
                function(*case.steps[0][1], **case.steps[0][2])


# What the two dispatches without a barrier between them do: (run, how many barriers there are before, the later kernel
# and its line, the earlier one and its line, buffer of the later one).
HAZARDS = [
    ("sum", 0, "sum_final", "sum += partial[i];", "sum_partial", "partial[group] = tree[0];", 0),
    ("scan", 0, "scan_blocks", "float(x[first + k]) : 0.0f", "scan_blocks", "totals[group] = before + own;", 0),
    ("scan", 1, "scan_add", "out[i] = T(before", "scan_blocks", "out[first + k] = before", 1),
    ("bitonic", 0, "bitonic_step", "const auto a = keys[low]|keys[low] = b;|keys[high] = a;", "bitonic_block",
     "keys[first + t] = block[t];|keys[first + t + BLOCK / 2] = block", 0),
    ("bitonic", 1, "bitonic_block", "block[t] = keys[first + t];|keys[first + t] = block[t];", "bitonic_step",
     "const auto a = keys[low]|keys[low] = b;|keys[high] = a;", 0),
]  # fmt: skip


def encode(name: str, missing: int | None, *, check: bool, dtype=F32) -> None:
    """All steps in one encoder, with a barrier between any two but the one called missing."""
    run = RUNS[name]
    case = run.make(dtype, np.random.default_rng(SEED))
    with metal._running(check=check), metal._Encoder() as encoder:
        for i, (step, buffers, launch) in enumerate(case.steps):
            if i > 0 and i - 1 != missing:
                encoder.barrier()
            function_for(run, step, dtype, check)(*buffers, **launch)
    if case.exact:
        np.testing.assert_array_equal(case.result, case.reference)
    else:
        assert_close(case.result, case.reference, case.error)


@pytest.mark.parametrize("row", HAZARDS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_no_barrier_between_dispatches(row):
    name, missing, kernel, line, other_kernel, other_line, buffer = row
    source = (FOLDER / f"{RUNS[name].source}.metal").read_text()
    with pytest.raises(ml.CheckError, match="no barrier between the two") as caught:
        encode(name, missing, check=True)
    (found,) = caught.value.findings
    assert (found["kind"], found["severity"], found["buffer"]) == ("hazard", "error", buffer)
    assert (found["kernel"], found["other_kernel"]) == (kernel_name(kernel, F32), kernel_name(other_kernel, F32))
    assert found["line"] in {line_of(source, text) for text in line.split("|")}
    assert found["other_line"] in {line_of(source, text) for text in other_line.split("|")}
    with pytest.raises(ml.CheckError, match="no barrier between the two"):  # by the buffers' declared access
        encode(name, missing, check=False)


@pytest.mark.parametrize("check", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("name", RUNS)
def test_barriers_between_all_dispatches(name, check):
    encode(name, None, check=check)


@pytest.mark.parametrize("check", [False, True], ids=["plain", "checked"])
def test_barriers_of_resources_and_independent_dispatches(check):
    with metal._running(check=check):
        case, other = (RUNS["sum"].make(F32, np.random.default_rng(SEED)) for _ in range(2))
        partial_sum, total = (function_for(RUNS["sum"], name, F32, check) for name, _, _ in case.steps)
        (_, first, grid), (_, second, one) = case.steps
        with metal._Encoder() as encoder:
            partial_sum(*first, **grid)
            partial_sum(first[0], *other.steps[0][1][1:], **grid)  # both read x
            encoder.barrier(first[1])
            total(*second, **one)
            with pytest.raises(ml.CheckError, match="hazard"):
                total(*other.steps[1][1], **one)
        total(*other.steps[1][1], **one)  # after the encoder
        with metal._Encoder(), pytest.raises(RuntimeError, match="open in this thread"), metal._Encoder():
            pass
