"""The sweep: what it measures, in which processes, and what becomes of it in the files. No test looks at how long it
took."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import metallic as ml
from metallic.__main__ import main
from metallic.commands import sweep as command
from metallic.sweep import data, machine, output, parity, peers, runner, show, stats, suites, workers

TINY = suites.Matmul(4, 8, 16)
BIASED = suites.Matmul(1, 24, 16, transpose_b=True, bias=True)


@pytest.fixture(autouse=True)
def peers_on_path(monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.getenv("PYTHONPATH")])])
    )


class Quiet(show.Plain):
    """Says nothing; remembers what was said and begun."""

    def __init__(self, stop_after: int | None = None):
        self.said, self.begun, self.stop_after = [], [], stop_after

    def say(self, text):
        self.said.append(text)

    def begin(self, number, total, case, dtype):
        self.begun.append((case.label, dtype))

    def end(self, rows):
        if self.stop_after is not None and len(self.begun) == self.stop_after:
            raise KeyboardInterrupt


def plan(cases, *peers, backends=("auto",), prefs=((),), **kwargs):
    ours = [runner.Contender("metallic", backend, combination) for combination in prefs for backend in backends]
    kwargs = {"dtypes": ["float32"], "warmup": 0.0, "settle": 1e-4, "budget": 0.05, "modes": ("warm",)} | kwargs
    return runner.Plan("test", cases, contenders=ours + [runner.Contender(peer) for peer in peers], **kwargs)


@pytest.fixture(scope="module")
def base():
    return machine.describe(None)


def run(what, base, out=None, screen=None):
    # A budget limits how many cases are begun; here every case is wanted, each as briefly as can be.
    out = out or output.Output(None, None, base)
    what.budget = None
    runner_seconds, runner.ROW_SECONDS = runner.ROW_SECONDS, 0.0
    try:
        return runner.Sweep(what, out, base, screen or Quiet()).run()
    finally:
        runner.ROW_SECONDS = runner_seconds


def by_library(rows):
    return {(row["library"], row["backend"], row["case"]): row for row in rows}


# ---- what is measured ----


def test_suites_list_the_shapes_they_promise():
    qwen = [(c.m, c.n, c.k, c.transpose_b, c.bias) for c in suites.SUITES["qwen25"].cases()]
    assert qwen == [
        (1, 9728, 896, True, False),
        (1, 896, 4864, True, False),
        (1, 896, 896, True, False),
        (1, 1152, 896, True, True),
        (1, 151936, 896, True, False),
        (1, 4864, 896, True, False),
    ]
    small = {(c.m, c.k, c.n) for c in suites.SUITES["matmul_dispatcher_smalln"].cases()}
    assert small == {(m, k, n) for m in (128, 512, 2048) for k in (1024, 2048, 4096) for n in range(1, 33)}


@pytest.mark.parametrize("name", suites.SUITES)
def test_labels_are_unique_within_a_suite(name):
    labels = [case.label for case in suites.SUITES[name].cases()]
    assert len(labels) == len(set(labels)) > 0


def test_bytes_and_flops_count_every_operand_once():
    case = suites.Matmul(3, 5, 7, batch=2, bias=True, alpha=0.5, beta=2.0)
    elements = 2 * (3 * 7 + 7 * 5 + 3 * 5 + 3 * 5) + 5  # a, b, c, out, bias
    assert case.bytes("float32") == 4 * elements and case.bytes("bfloat16") == 2 * elements
    assert case.flops() == 2 * 2 * 3 * 5 * 7


def test_a_step_takes_every_other_column_of_what_lies_in_memory():
    case = suites.Matmul(6, 5, 33, transpose_a=True, step=3)
    x = data.make_inputs(case, "float32")
    a, b = case.views(x)
    assert a.base is x["a"] and a.shape == (6, 33) and b.shape == (33, 5)
    assert a[4, 7] == x["a"][7, 12] and b[8, 2] == x["b"][8, 6]
    value, _ = parity.reference(case, "float32", x)
    assert np.allclose(value, x["a"][:, ::3].astype(float).T @ x["b"][:, ::3].astype(float), rtol=1e-12)


@pytest.mark.parametrize("dtype", suites.DTYPES)
def test_inputs_are_the_same_every_time_and_representable(dtype):
    first, second = data.make_inputs(BIASED, dtype), data.make_inputs(BIASED, dtype)
    assert first.keys() == {"a", "b", "bias"} and first["b"].shape == (24, 16)
    for name, array in first.items():
        assert np.array_equal(array, second[name])
        wide = array.astype(np.float32)
        assert wide.min() >= -0.5 and wide.max() <= 1.0 and len(np.unique(wide)) > 10
        if dtype == "bfloat16":
            assert not (wide.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize("dtype", suites.DTYPES)
def test_memory_in_huge_pages_holds_the_same_inputs(dtype):
    plain = data.make_inputs(BIASED, dtype)
    size, number = sum(array.nbytes for array in plain.values()), len(plain)
    allocate = data.huge_pages(3 * size, 3 * number)
    sets = [data.make_inputs(BIASED, dtype, allocate)]
    sets += [data.copy_inputs(sets[0], allocate) for _ in range(2)]
    arrays = [array for inputs in sets for array in inputs.values()]
    for array in arrays:
        array[...] += 0  # all of it can be written
    for i, array in enumerate(arrays):
        assert array.flags.c_contiguous and array.flags.aligned
        assert not any(np.shares_memory(array, other) for other in arrays[:i])
    for inputs in sets:
        assert all(np.array_equal(inputs[name], plain[name]) for name in plain)


@pytest.mark.parametrize("name", suites.SUITES)
def test_shapes_are_reduced_for_a_device_that_is_software(name):
    for case in suites.SUITES[name].cases():
        small = suites.reduced(case)
        assert small.flops() <= max(suites.SOFTWARE_FLOPS, 64 * 64 * 64)
        assert small.op == case.op and (small == case) == (case.flops() <= suites.SOFTWARE_FLOPS)
        if case.op == "matmul" and 1 in (case.m, case.n):  # a token's product stays one, with all of k
            assert (small.m == 1 or small.n == 1) and small.k == case.k and small.bias == case.bias
        if case.op == "sdpa":
            assert (small.q_len == small.seq_k) == (case.q_len == case.seq_k) and small.heads == case.heads


def test_a_sweep_of_the_software_device_says_what_it_reduced(tmp_path, monkeypatch, capsys):
    device = next(d for d in ml.devices() if d["name"] == "metal")
    if not (device["available"] and device["emulated"]):
        pytest.skip("metal is no software here")
    out = tmp_path / "rows.json"
    monkeypatch.setattr(suites, "SOFTWARE_FLOPS", 1 << 20)
    arguments = ["sweep", "--suite", "qwen25", "--filter", "1x[81]*x896*", "--dtype", "f16", "--backends", "auto,gemv"]
    assert main([*arguments, "--device", "metal", "--json", str(out)]) == 0
    assert "is software here" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert {row["device"] for row in rows} == {"metal"} and all(row["status"] == "ok" for row in rows)
    assert all(row["parity"] <= 1 and row["impl"].startswith(("metal/", "MPS")) for row in rows)
    assert {row["note"] for row in rows} >= {"reduced from 1x151936x896 nt: the device is software"}


def test_rounding_to_bfloat16_agrees_with_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.arange(0, 0x7F800000, 4099, dtype=np.uint32)
    values = np.concatenate([bits, bits | 0x80000000, (bits & 0xFFFF0000) | 0x8000]).astype(np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    assert np.array_equal(data.round_to_bfloat16(values), values.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_preferences_make_every_combination():
    texts = ["METALLIC_MATMUL_SMALLN_MAX_N=4,8", "matmul_variant_force=gemm,auto"]
    assert command.combinations(texts) == [
        (("matmul_smalln_max_n", n), ("matmul_variant_force", force)) for n in "48" for force in ("gemm", "auto")
    ]
    assert command.combinations([]) == [()]
    for bad in ("smalln", "a=", "=", "a=,"):
        with pytest.raises(ValueError, match="KEY=VALUE"):
            command.preference(bad)


# ---- verdicts ----


@pytest.mark.parametrize("dtype", suites.DTYPES)
@pytest.mark.parametrize("case", [TINY, BIASED, suites.Matmul(6, 5, 33, batch=3, alpha=0.5, beta=2.0)])
def test_parity_passes_right_results_and_fails_wrong_ones(case, dtype):
    inputs = data.make_inputs(case, dtype)
    value, bound = parity.reference(case, dtype, inputs)
    a, b = (inputs[name].astype(np.float64) for name in "ab")
    direct = case.alpha * (a @ (b.swapaxes(-1, -2) if case.transpose_b else b))
    if case.beta:
        direct += case.beta * inputs["c"].astype(np.float64)
    if case.bias:
        direct += inputs["bias"].astype(np.float64)
    assert np.allclose(value, direct, rtol=1e-12)
    assert parity.judge(value, value, bound)["parity"] == 0
    assert parity.judge(value.astype(data.storage(dtype)), value, bound)["parity"] <= 1
    off = value.copy()
    off.flat[-1] += 1.5 * bound.flat[-1]
    assert parity.judge(off, value, bound)["parity"] == pytest.approx(1.5)
    off.flat[0] = np.nan
    assert parity.judge(off, value, bound)["parity"] == float("inf")


def measured(samples, gbs=10.0, gflops=100.0, **row):
    row = {"bytes": 10_000, "flops": 1000, "status": "ok"} | row
    output.measured(row, samples, {"gbs": gbs, "gflops": gflops})
    return row


def test_a_row_states_rates_and_the_ceiling_that_binds():
    row = measured([4.0, 5.0, 6.0])
    assert (row["median_us"], row["min_us"], row["rounds"]) == (5.0, 4.0, 3)
    assert row["gbs"] == pytest.approx(2.0) and row["gflops"] == pytest.approx(0.2)
    assert row["ceiling"] == "read" and row["ceiling_us"] == pytest.approx(1.0)
    assert row["fraction"] == pytest.approx(0.2) and row["status"] == "ok"
    assert measured([100.0], flops=10**7)["ceiling"] == "fma"


@pytest.mark.parametrize("samples", [[0.0, 0.0], [0.9, 0.9], [0.94]])
def test_times_that_the_machine_cannot_reach_are_suspect(samples):
    assert measured(samples)["status"] == "suspect"


def test_a_row_at_the_ceiling_is_not_suspect():
    assert measured([0.96])["status"] == "ok"


def test_noise_is_reported():
    assert "warning" not in measured([10.0, 10.1, 10.2, 10.3, 10.4])
    assert measured([10.0, 10.0, 11.0, 12.0, 12.0])["warning"] == "spread 18% of the median"


def test_disturbance_by_other_processes_is_reported(base):
    case_run = runner.CaseRun(plan([TINY]), None, TINY, "float32", {"metallic": "0"}, base)
    case_run.ceilings["warm"] = {"gbs": 1.0, "gflops": 1.0}
    answer = {"plan": None, "note": "", "parity": 0.5, "max_rel_error": 0.1}
    for disturbance, expected in ((0.01, ""), (0.9, "other processes used 90% of a CPU")):
        case_run.disturbance = disturbance
        row = case_run.base | {"library": "metallic", "mode": "warm"}
        case_run._fill(row, answer, "", [500.0, 500.0])
        assert row.get("warning", "") == expected
    assert show.notes([row]) == ["noise: other processes were busy during 1 of 1 rows: do not trust their times"]


def test_suspect_and_wrong_rows_win_nothing():
    fast = {"status": "suspect", "median_us": 1.0, "backend": "mlx", "library": "metallic"}
    wrong = fast | {"status": "wrong"}
    slow = fast | {"status": "ok", "median_us": 9.0, "backend": "gemv"}
    assert show.headline([fast, wrong, slow]) is slow and show.headline([fast, wrong]) is None
    assert show.ratio(fast | {"library": "numpy"}, slow) == "-"


def test_statistics():
    assert stats.quantile([3, 1, 2], 0.5) == 2 and stats.quantile([1, 2], 0.2) == pytest.approx(1.2)
    assert stats.quantile([7], 0.8) == 7
    assert stats.mann_whitney([1, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
    assert stats.mann_whitney([5, 5], [5, 5]) == 1.0 and stats.mann_whitney([], [1]) == 1.0
    # Worked by hand: U = 0, mean 12.5, variance 25 * 11 / 12, continuity 0.5 -> z = 2.507
    assert stats.mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(0.01219, abs=1e-4)


# ---- the runner ----


def test_rows_of_ours_and_numpy(base):
    cases = [TINY, BIASED, suites.Matmul(6, 5, 33, transpose_b=True, step=3)]
    rows = run(plan(cases, "numpy", backends=("auto", "mlx", "gemv"), dtypes=["float32", "float16"]), base)
    assert len(rows) == len(cases) * 2 * 4
    for row in rows:
        assert row["status"] in ("ok", "suspect"), row
        assert row["rounds"] >= 3 and len(row["samples_us"]) == row["rounds"]
        assert row["ceiling_gbs"] > 0 and row["ceiling_gflops"] > 0
        assert {"device", "cpu", "version", "commit", "environment", "date"} <= row.keys()
        if row["library"] == "metallic":
            assert row["parity"] <= 1  # NumPy rounds to float16 again when it adds the bias
            assert row["impl"] and row["why"] and row["variant"]
            assert row["backend"] in ("auto", row["plan_backend"])


@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != "numpy"])
def test_peers_compute_the_same_cases(base, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    cases = [
        TINY,
        BIASED,
        suites.Matmul(6, 5, 33, batch=3),
        suites.Matmul(6, 5, 33, transpose_a=True, alpha=0.5, beta=2.0),
        suites.Matmul(6, 5, 33, transpose_b=True, step=3),
    ]
    rows = [r for r in run(plan(cases, name, dtypes=list(suites.DTYPES)), base) if r["library"] == name]
    assert len(rows) == len(cases) * len(suites.DTYPES)
    for row in rows:
        if row["dtype"] == "float32" and not (name == "onnxruntime" and "step" in row["case"]):
            assert row["status"] in ("ok", "suspect"), row
        else:
            assert row["status"] in ("ok", "suspect", "gap"), row
        if row["status"] != "gap":  # a library may round after each step
            assert row["max_rel_error"] < 4 * parity.ROUND[row["dtype"]] * (16 if row["dtype"] == "float32" else 1), row


def test_preferences_reach_the_plan(base):
    prefs = [(("matmul_variant_force", "smalln"),), (("matmul_variant_force", "gemm"),)]
    rows = run(plan([suites.Matmul(64, 8, 64)], prefs=prefs), base)
    variants = {row["prefs"]: row["variant"] for row in rows}
    assert variants["matmul_variant_force=smalln"].startswith("small_n")
    assert variants["matmul_variant_force=gemm"].startswith("gemm")


def test_what_a_forced_backend_cannot_do_is_a_gap(base):
    rows = by_library(run(plan([BIASED], backends=("mps", "auto")), base))
    gap = rows["metallic", "mps", BIASED.label]
    assert gap["status"] == "gap" and gap["reason"] and "median_us" not in gap
    assert rows["metallic", "auto", BIASED.label]["status"] in ("ok", "suspect")


def test_gaps_suspects_crashes_and_absent_peers_are_rows(base):
    rivals = [f"sweep_peers:{name}" for name in ("Choosy", "Impossible", "Mortal", "Absent", "Sloppy")]
    screen = Quiet()
    large, biased = suites.Matmul(64, 256, 256), dataclasses.replace(BIASED, m=64, n=256, k=256)
    rows = by_library(run(plan([large, biased], *rivals), base, screen=screen))
    for case in (large.label, biased.label):
        assert rows["metallic", "auto", case]["status"] in ("ok", "suspect")
        suspect = rows["sweep_peers:Impossible", "", case]
        assert suspect["status"] == "suspect" and suspect["reason"]
        absent = rows["sweep_peers:Absent", "", case]
        assert absent["status"] == "gap" and "not installed" in absent["reason"]
        dead = rows["sweep_peers:Mortal", "", case]
        assert dead["status"] == "error" and "exit code 7" in dead["reason"]
        assert rows["sweep_peers:Sloppy", "", case]["parity"] > 1
    assert rows["sweep_peers:Choosy", "", biased.label]["reason"] == "choosy about bias"
    assert rows["sweep_peers:Choosy", "", large.label]["status"] in ("ok", "suspect")
    assert any("not installed" in line for line in screen.said)


def test_a_wrong_result_of_ours_is_a_wrong_row(base, monkeypatch):
    case_run = runner.CaseRun(plan([TINY]), None, TINY, "float32", {"metallic": "0"}, base)
    answer = {"plan": None, "note": "", "parity": 1.2, "max_rel_error": 0.1}
    row = case_run.base | {"library": "metallic", "mode": "warm"}
    case_run._fill(row, answer, "", [5.0, 5.0])
    assert row["status"] == "wrong" and "1.2 times" in row["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the states of processes from /proc")
def test_everybody_else_is_stopped_while_one_is_timed(base, monkeypatch, tmp_path):
    log = tmp_path / "states"
    monkeypatch.setenv("SPY_LOG", str(log))
    run(plan([TINY], "numpy", "sweep_peers:Spy"), base)
    states = [line.split() for line in log.read_text().splitlines()]
    assert len({name for name, _ in states}) >= 3  # reference, metallic, numpy
    assert {state for _, state in states} == {"T"}


def test_rounds_rotate_among_our_processes(base, monkeypatch):
    asked = []
    ask = workers.Team.ask

    def spy(self, library, command, *, number=0, **request):
        if command in ("prepare", "sample"):
            asked.append((library, command, number))
        return ask(self, library, command, number=number, **request)

    monkeypatch.setattr(workers.Team, "ask", spy)
    rows = run(plan([TINY], "numpy", processes=2), base)
    assert all(row["status"] in ("ok", "suspect") for row in rows)
    samples = [number for library, command, number in asked if (library, command) == ("metallic", "sample")]
    assert samples == [i % 2 for i in range(len(samples))] and len(samples) == rows[0]["rounds"]
    assert [a[2] for a in asked if a[:2] == ("metallic", "prepare")] == [0, 1]
    assert {a[2] for a in asked if a[0] == "numpy"} == {0}


def test_no_process_outlives_a_team():
    with workers.Team() as team:
        assert team.ask("numpy", "hello")["version"] == np.__version__
        team.ask("reference", "hello")
        pids = [process.child.pid for process in team.processes.values()]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_peers_process_does_not_load_this_library():
    with workers.Team() as team:
        team.ask("numpy", "hello")
        maps = Path(f"/proc/{team.processes['numpy', 0].child.pid}/maps")
        if not maps.exists():
            pytest.skip("no /proc: what a process has loaded is not visible")
        assert "_core" not in [part.partition(".")[0] for part in Path(maps).read_text().split() if "metallic" in part]
        assert "metallic/_core" not in maps.read_text()


def test_a_worker_that_does_not_answer_is_given_up(base):
    with workers.Team(timeout=0.2) as team, pytest.raises(workers.WorkerDied, match="no answer to hello"):
        team.ask("sweep_peers:Hanging", "hello")


def test_modes_and_copies():
    both = plan([TINY], modes=("warm", "cold"))
    llc = 32 << 20
    assert runner._modes(both, llc + 1, llc) == ({"both": ""}, 1)
    modes, copies = runner._modes(both, 1 << 20, llc)
    assert modes == {"warm": "", "cold": ""} and (copies - 1) * (1 << 20) >= llc
    modes, copies = runner._modes(both, 64, llc)
    assert modes["warm"] == "" and "buffers" in modes["cold"] and copies == 1
    assert runner._modes(plan([TINY]), 1 << 20, llc) == ({"warm": ""}, 1)


# ---- files ----


def test_files_hold_the_same_rows(base, tmp_path):
    out = output.Output(tmp_path / "a.csv", tmp_path / "a.json", base)
    rows = run(plan([TINY, BIASED], "numpy", "sweep_peers:Absent"), base, out)
    with open(tmp_path / "a.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    content = json.loads((tmp_path / "a.json").read_text())
    assert len(lines) == len(content["rows"]) == len(rows) == 6
    assert content["machine"]["cpu"] == base["cpu"]
    for line, row in zip(lines, content["rows"], strict=True):
        assert list(line) == list(output.FIELDS)
        assert output.key(line) == output.key(row)
        assert line["status"] == row["status"] and line["cpu"] == base["cpu"]
    assert all("samples_us" in row for row in content["rows"] if row["library"] != "sweep_peers:Absent")


@pytest.mark.parametrize("with_json", [True, False])
def test_an_interrupted_sweep_goes_on_where_it_stopped(base, tmp_path, with_json):
    csv_path, json_path = tmp_path / "a.csv", tmp_path / "a.json" if with_json else None
    cases = [TINY, BIASED, suites.Matmul(5, 6, 7)]
    with pytest.raises(KeyboardInterrupt):
        run(plan(cases, "numpy"), base, output.Output(csv_path, json_path, base), Quiet(stop_after=2))
    before = csv_path.read_text()
    assert before.count("\n") == 1 + 2 * 2
    csv_path.write_text(before + "test,cut of")  # as a machine that lost power leaves it

    screen = Quiet()
    out = output.Output(csv_path, json_path, base, resume=True)
    rows = run(plan(cases, "numpy"), base, out, screen)
    assert screen.begun == [(cases[2].label, "float32")]
    assert csv_path.read_text().startswith(before) or with_json
    assert [row["case"] for row in rows] == [case.label for case in cases for _ in range(2)]
    assert csv_path.read_text().count("\n") == 1 + 3 * 2 and "cut of" not in csv_path.read_text()
    again = Quiet()
    run(plan(cases, "numpy"), base, output.Output(csv_path, json_path, base, resume=True), again)
    assert again.begun == []


def test_another_machines_file_is_not_resumed(base, tmp_path):
    out = output.Output(tmp_path / "a.csv", None, base)
    row = base | dict.fromkeys(output.KEY, "x") | {"status": "ok"}
    out.add([row])
    output.Output(tmp_path / "a.csv", None, base, resume=True)
    with pytest.raises(output.ResumeError, match="cpu was"):
        output.Output(tmp_path / "a.csv", None, base | {"cpu": "another"}, resume=True)
    with pytest.raises(output.ResumeError, match=r"a\.json does not exist"):
        output.Output(tmp_path / "a.csv", tmp_path / "a.json", base, resume=True)
    (tmp_path / "b.csv").write_text("n,k\n1,2\n")
    with pytest.raises(output.ResumeError, match="not a sweep"):
        output.Output(tmp_path / "b.csv", None, base, resume=True)


def test_a_spent_budget_leaves_cases_and_says_so(base):
    what = plan([TINY, BIASED], budget=1e-9)
    screen = Quiet()
    rows = runner.Sweep(what, output.Output(None, None, base), base, screen).run()
    assert {row["case"] for row in rows} == {TINY.label}
    assert screen.said == ["budget spent: 1 cases are left for --resume"]


# ---- what is printed ----


def test_the_table_shows_times_ratios_and_marks(base):
    rows = run(plan([TINY, BIASED], "numpy", "sweep_peers:Choosy", backends=("auto", "mps")), base)
    for row in rows:
        if row["status"] == "suspect":
            row["status"] = "ok"
    header, lines = show.table(rows)
    assert header[:5] == ["case", "dtype", "mode", "auto", "mps"]
    assert [line[0] for line in lines] == [TINY.label, BIASED.label]
    tiny, biased = (dict(zip(header, line, strict=True)) for line in lines)
    assert biased["mps"] == "-" and biased["sweep_peers:Choosy"] == "-"
    assert tiny["numpy/ours"].endswith("x") and float(tiny["error"]) <= 1 and tiny["impl"]
    text = show.plain_table(header, lines)
    assert len(text.splitlines()) == 3 and TINY.label in text
    assert "choosy about bias" in "\n".join(show.notes(rows))


def test_rich_is_for_terminals_only(monkeypatch):
    assert type(show.make()) is show.Plain
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert type(show.make()) is show.Rich


def test_rich_prints_what_plain_prints(base, capsys):
    pytest.importorskip("rich")
    rows = run(plan([TINY], "sweep_peers:Absent"), base)
    screen = show.Rich()
    screen.start()
    screen.begin(0, 1, TINY, "float32")
    screen.tick()
    screen.end(rows)
    screen.finish(rows)
    printed = capsys.readouterr().out
    assert TINY.label in printed and "not installed" in printed
