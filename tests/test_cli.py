"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import metallic as ml
from metallic import __main__ as cli
from metallic.commands import explain
from metallic.sweep import runner, suites

ROOT = Path(__file__).parent.parent


def exit_code(*args):
    try:
        return cli.main(list(args))
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def tiny_suite(monkeypatch):
    suite = suites.Suite("for tests", lambda: [suites.Matmul(4, 8, 16), suites.Matmul(1, 8, 16, bias=True)], ("auto",))
    monkeypatch.setitem(suites.SUITES, "tiny", suite)
    monkeypatch.setattr(runner, "ROW_SECONDS", 0.0)


def test_help_names_every_command(capsys):
    assert exit_code("--help") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert exit_code(name, "--help") == 0
        assert "Exit code" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["unknown"],
        ["sweep"],
        ["sweep", "--suite", "unknown"],
        ["sweep", "--suite", "tiny", "--dtype", "f64"],
        ["sweep", "--suite", "tiny", "--backends", "cuda"],
        ["sweep", "--suite", "tiny", "--peers", "unknown"],
        ["sweep", "--suite", "tiny", "--prefs", "matmul_smalln_max_n"],
        ["sweep", "--suite", "tiny", "--prefs", "no_such_preference=1"],
        ["sweep", "--suite", "tiny", "--device", "no_such_device"],
        ["sweep", "--suite", "tiny", "--resume"],
        ["sweep", "--suite", "tiny", "--warm", "--cold"],
        ["explain", "matmul", "2x3"],
        ["explain", "matmul", "2x3", "@", "3"],
        ["explain", "matmul", "2x3", "@", "3x4", "--dtype", "f64"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_3(args, tiny_suite, capsys):
    assert exit_code(*args) == 3
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--json"])
@pytest.mark.parametrize("kind", ["directory", "pipe", "link to a pipe"])
def test_only_files_are_replaced(option, kind, tiny_suite, tmp_path, capsys):
    """A device or a pipe, such as /dev/null, must outlive the sweep; nothing is left beside a directory."""
    target = tmp_path / "target"
    if kind == "directory":
        target.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe" if kind.startswith("link") else target)
        if kind.startswith("link"):
            target.symlink_to("pipe")
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    assert exit_code("sweep", "--suite", "tiny", "--warm", "--warmup", "0", option, str(target)) == 3
    assert f"{target} is not a file" in capsys.readouterr().err
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before


def test_a_link_stays_one(tiny_suite, tmp_path):
    for name in ("a.csv", "a.json"):
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(f"there/{name}")
    files = ["--out", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")]
    assert exit_code("sweep", "--suite", "tiny", "--backends", "auto", "--warm", "--warmup", "0", *files) == 0
    assert all((tmp_path / name).is_symlink() for name in ("a.csv", "a.json"))
    assert len((tmp_path / "there" / "a.csv").read_text().splitlines()) == 3
    assert len(json.loads((tmp_path / "there" / "a.json").read_text())["rows"]) == 2


@pytest.mark.parametrize(
    "args", [["sweep", "--list"], ["info"], ["explain", "matmul", "1x2", "@", "2x3"]], ids=" ".join
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_no_error(args, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    run = [sys.executable, "-m", "metallic", *args]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(run, stdout=writing, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (cli.READER_GONE, "")


@pytest.mark.parametrize("stdout", ["of the process", "replaced", "none"])
def test_a_pipe_other_than_stdout_that_breaks_is_an_error(stdout, monkeypatch, capfd):
    def broken(args):
        print("printed")
        raise BrokenPipeError(errno.EPIPE, "another pipe")

    monkeypatch.setattr(explain, "run", broken)
    if stdout != "of the process":
        monkeypatch.setattr(sys, "stdout", io.StringIO() if stdout == "replaced" else None)
    with pytest.raises(BrokenPipeError, match="another pipe"):
        cli.main(["explain", "matmul", "1x2", "@", "2x3"])
    if stdout == "of the process":
        print("still there")
        assert capfd.readouterr().out == "printed\nstill there\n"


def test_a_replaced_stdout_that_breaks(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "nobody reads")

        def flush(self):
            self.write("")

    monkeypatch.setattr(sys, "stdout", Gone())
    assert cli.main(["explain", "matmul", "1x2", "@", "2x3"]) == cli.READER_GONE


def test_no_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["explain", "matmul", "1x2", "@", "2x3"]) == 0


def test_list(tiny_suite, capsys):
    assert exit_code("sweep", "--list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in suites.SUITES)
    assert exit_code("sweep", "--suite", "qwen25", "--list", "--filter", "*bias") == 0
    printed = capsys.readouterr().out
    assert "1x1152x896 nt bias" in printed and "9728" not in printed


def test_sweep_end_to_end(tiny_suite, tmp_path, capsys):
    files = ["--out", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")]
    args = ["sweep", "--suite", "tiny", "--dtype", "f32,bf16", "--peers", "numpy", "--warm", "--warmup", "0", *files]
    assert exit_code(*args) == 0
    printed = capsys.readouterr().out
    assert ml.__version__ in printed and "numpy/ours" in printed and "1x8x16 nn bias" in printed
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert len(rows) == 8 and {row["version"] for row in rows} == {ml.__version__}
    assert exit_code(*args, "--resume") == 0
    assert json.loads((tmp_path / "a.json").read_text())["rows"] == rows


def test_a_sweep_of_gaps_only_measured_nothing(tiny_suite):
    args = ["sweep", "--suite", "tiny", "--filter", "*bias", "--backends", "mps", "--warm", "--warmup", "0"]
    assert exit_code(*args) == 2


def test_an_interruption_exits_with_130(tiny_suite, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.CaseRun, "prepare", stop)
    assert exit_code("sweep", "--suite", "tiny") == 130


def test_info(capsys):
    assert exit_code("info") == 0
    printed = capsys.readouterr().out
    assert ml.__version__ in printed and "device    cpu" in printed and "numpy" in printed
    assert exit_code("info", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metallic"] == ml.__version__ and found["cpus"] >= 1
    assert [device["name"] for device in found["devices"]] == [device["name"] for device in ml.devices()]


def test_explain_is_what_the_call_would_do(capsys):
    args = ["explain", "matmul", "1x896", "@", "896x9728", "--dtype", "float16", "--transpose-b"]
    assert exit_code(*args, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    a, w = ml.empty((1, 896), ml.float16), ml.empty((9728, 896), ml.float16)
    assert plan == ml.explain(ml.matmul, a, w, transpose_b=True).to_dict()
    assert exit_code(*args) == 0
    assert plan["impl"] in capsys.readouterr().out


def test_explain_with_preferences_and_epilogue(capsys):
    args = ["explain", "matmul", "4x64x8", "@", "4x8x32", "--bias", "--beta", "2", "--activation", "silu", "--json"]
    assert exit_code(*args, "--prefs", "matmul_backend=gemv") == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "gemv"
    assert exit_code(*args, "--backend", "mlx") == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "mlx"
    assert exit_code(*args, "--backend", "mps", "--strict") == 1
    assert "UnsupportedError" in capsys.readouterr().out


def test_explain_reports_shapes_that_do_not_fit(capsys):
    assert exit_code("explain", "matmul", "2x3 @ 4x5") == 1
    assert "ShapeError" in capsys.readouterr().out
    assert exit_code("explain", "matmul", f"{2**64}x1 @ 1x1") == 1
    assert f"{2**64} does not fit 64 bits" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["2x3 @ 3x4", "2x3@3x4", "2x3 3x4"])
def test_shapes_may_be_spaced_in_any_way(text):
    assert explain.shapes(text.split()) == [(2, 3), (3, 4)]


def test_module_and_benches_run_alone():
    run = [sys.executable, "-m", "metallic", "sweep", "--list"]
    assert "qwen25" in subprocess.run(run, capture_output=True, text=True, check=True, cwd="/").stdout
    for name in suites.SUITES:
        bench = [sys.executable, str(ROOT / "benches" / f"{name}.py"), "--list"]
        assert f"{name}: " in subprocess.run(bench, capture_output=True, text=True, check=True, cwd="/").stdout


@pytest.mark.parametrize(
    "args, code, words",
    [
        (["softmetal.py", "--help"], 0, "listing"),
        (["softmetal.py", "no_such_kernel"], 2, "no_such_kernel"),
        (["prepack.py", "--help"], 0, "--shape"),
        (["prepack.py", "--m", "1,x"], 2, "1,x"),
        (["prepack.py", "--shape", "3x4x5"], 2, "3x4x5"),
        (["prepack.py", "--dtype", "f64"], 2, "f64"),
        (["prepack.py", "--backend", "mlx"], 2, "mlx"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_benches_read_their_arguments(args, code, words):
    bench = [sys.executable, str(ROOT / "benches" / args[0]), *args[1:]]
    done = subprocess.run(bench, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == code and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
