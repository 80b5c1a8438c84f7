"""The page of benches/peers.py, from rows made up here."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent / "benches" / "peers.py"
spec = importlib.util.spec_from_file_location("bench_peers", PATH)
peers = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)

GROUP = peers.GROUPS[0]


def row(case, library, us, mode="warm", **more):
    return {
        "suite": GROUP.name, "case": case.label, "dtype": "float32", "mode": mode, "library": library, "status": "ok",
        "backend": "auto" if library == "metallic" else "", "median_us": us, "fraction": 0.5, "ceiling": "fma",
        "impl": "cpu/x", "library_version": "1", "date": "2026-01-01T00:00:00",
    } | more  # fmt: skip


def test_a_cell_is_the_fastest_peer_over_ours():
    a, b = GROUP.cases[:2]
    rows = [row(a, "metallic", 10.0), row(a, "numpy", 20.0), row(a, "torch", 15.0), row(a, "mlx", 1.0, status="gap")]
    rows += [row(b, "metallic", 10.0), row(b, "numpy", 6.0), row(b, "numpy", 1.0, mode="cold")]
    found = peers.cells(rows, GROUP, "float32")
    assert [(cell["best"], cell["ratio"]) for cell in found] == [("torch", 1.5), ("numpy", 0.6)]
    assert peers.mean(found) == pytest.approx((1.5 * 0.6) ** 0.5)
    assert peers.cells(rows, GROUP, "float16") == []


def test_what_exceeds_the_cache_counts_as_cold():
    cold = next(group for group in peers.GROUPS if group.mode == "cold")
    case = cold.cases[0]
    rows = [row(case, name, us, mode="both", suite=cold.name) for name, us in (("metallic", 5.0), ("torch", 10.0))]
    assert [cell["ratio"] for cell in peers.cells(rows, cold, "float32")] == [2.0]


def test_the_page_names_machine_command_goals_and_disturbance():
    case = GROUP.cases[0]
    rows = [row(case, "metallic", 10.0), row(case, "numpy", 9.0, warning="other processes used 50% of a CPU")]
    about = {"cpu": "a cpu", "cpus": 2, "system": "a system", "commit": "abc"}
    page = peers.report({"machine": about, "rows": rows})
    least, average = GROUP.goals["float32"]
    assert f"| {GROUP.name} | f32 | 1 | 0.90 | {least:g} | 0.90 | {average:g} |" in page
    assert "a cpu, 2 CPUs" in page and "commit abc" in page and "busy during 1 of 2 rows" in page
    assert "python benches/peers.py" in page
