"""The parity suites on the software Metal once more: lanes and threadgroups in reverse, and the small cases under the
checker, where any finding is a failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import metallic as ml

TESTS = Path(__file__).resolve().parent
DEVICE = next(d for d in ml.devices() if d["name"] == "metal")
pytestmark = pytest.mark.skipif(
    not (DEVICE["available"] and DEVICE["emulated"]), reason="these are orders and checks of the software device"
)


def run(files: list[str], chosen: str, **environment: str) -> int:
    """Runs the chosen tests of the files in a process of their own; how many passed. Fails when one fails."""
    paths = [str(TESTS / name) for name in files]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, *paths],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def test_reverse_order():
    files = ["test_matmul.py", "test_softmax.py", "test_sdpa.py"]
    chosen = "metal and float16 and not bfloat16 and not any_case and not bit_identical"
    assert run(files, chosen, METALLIC_ORDER="reverse") > 150


def test_under_the_checker():
    if not (os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++")))):
        pytest.skip("no C++ compiler to build checked kernels with")
    assert run(["metal_checked.py"], "", METALLIC_CHECK="1") > 50
