"""The pytest plugin, and the example project that uses it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "check-your-kernels"
LINES = (EXAMPLE / "reduce.metal").read_text().split("\n")
FAST = next(i for i, line in enumerate(LINES) if "block_sum_fast" in line)
# The lines that the deleted barrier stood between.
STORE, ADD = (
    LINES.index(line, FAST) + 1
    for line in ("    partial[lane] = x[i];", f"{12 * ' '}partial[lane] += partial[lane + half_n];")
)

# Known to pytest by itself where the package is installed, not where it is only on the path.
ENTRY = [e for e in importlib.metadata.entry_points(group="pytest11") if e.value == "pytest_metallic"]
PLUGIN = [] if ENTRY else ["-p", "pytest_metallic"]


def run(*options: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "pytest",
        *PLUGIN,
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        str(EXAMPLE),
    ]
    return subprocess.run([*command, str(EXAMPLE), *options], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffle"])
def test_the_planted_race_is_found_and_nothing_else(order):
    done = run("--metal-check", "--metal-order", order, "--metal-seed", "3")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 passed" in done.stdout
    found = {int(line) for line in re.findall(r"reduce\.metal:(\d+): error: race", done.stdout)}
    assert ADD in found <= {STORE, ADD}
    assert not re.search(r"CheckError: block_sum:", done.stdout)
    assert f"metal: checked, {order} order" in done.stdout


def test_unchecked_results():
    done = run("-k", "not fast")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "metal:" not in done.stdout


def test_strict():
    done = run("-k", "not fast", "--metal-strict")
    if "needs clang" in done.stdout:
        pytest.skip("no clang")
    assert done.returncode == 0 and "metal: unchecked, strict, forward order" in done.stdout, done.stdout


def test_strict_refuses(tmp_path):
    (tmp_path / "k.metal").write_text("float f(float *p) { return *p; }\nkernel void k(device int *x) { *x = 1; }\n")
    (tmp_path / "test_k.py").write_text("def test(metal_library): metal_library('k.metal').function('k')\n")
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    done = subprocess.run([*command, "--metal-strict"], capture_output=True, text=True, timeout=120)
    if "needs clang" in done.stdout:
        pytest.skip("no clang")
    assert done.returncode == 1 and re.search(r"CompileError: \S+k\.metal:1:\d+: error: .*address space", done.stdout)


def test_workers_share_the_seed():
    pytest.importorskip("xdist")
    done = run("--metal-check", "--metal-order", "shuffle", "-n", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 passed" in done.stdout and re.search(r"shuffle order, --metal-seed \d+", done.stdout)


def test_a_projects_own_tests_do_not_load_it_all(tmp_path):
    (tmp_path / "test_plain.py").write_text("import sys\ndef test(): assert 'metallic._core' not in sys.modules\n")
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_a_barrier_between_dispatches_is_missed(tmp_path, checked):
    (tmp_path / "twice.metal").write_text(
        "kernel void twice(device float *x, uint i [[thread_position_in_grid]]) {\n    x[i] *= 2;\n}\n"
    )
    (tmp_path / "test_twice.py").write_text(
        "import numpy as np, pytest\n"
        "@pytest.mark.parametrize('barrier', [True, False])\n"
        "def test_twice(metal_library, metal_encoder, barrier):\n"
        "    twice, x = metal_library('twice.metal').function('twice'), np.ones(8, np.float32)\n"
        "    with metal_encoder() as encoder:\n"
        "        twice(x, grid=8, threadgroup=8)\n"
        "        if barrier: encoder.barrier(x)\n"
        "        twice(x, grid=8, threadgroup=8)\n"
        "    assert (x == 4).all()\n"
    )
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    command += ["--metal-check"] if checked else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    line = 2 if checked else 1  # unchecked, only the kernel is known
    assert re.search(rf"twice\.metal:{line}: error: hazard: .*no barrier between the two", done.stdout), done.stdout
