"""tools/check_layers.py finds what it is there to find."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """The tool, looking at a made-up project."""
    path = ROOT / "tools" / "check_layers.py"
    if not path.exists():
        pytest.skip("not a source checkout")
    spec = importlib.util.spec_from_file_location("check_layers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name in ("core/pool.h", "ops/ops.h", "device/cpu/cpu.h", "include/metallic.h", "softmetal/builtin.h"):
        (tmp_path / "csrc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "csrc" / name).write_text("")
    write(module, "metal/mslc/mslc.h", "")
    return module


def write(layers, name: str, text: str) -> None:
    path = layers.ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "include", "defects"),
    [
        ("csrc/core/pool.c", "metallic.h", 0),
        ("csrc/core/pool.c", "pool.h", 0),
        ("csrc/core/pool.c", "../ops/ops.h", 1),
        ("csrc/core/pool.c", "ops/ops.h", 1),
        ("csrc/device/cpu/gemm.c", "cpu.h", 0),
        ("csrc/device/cpu/gemm.c", "core/pool.h", 0),
        ("csrc/dispatch/plan.c", "device/cpu/cpu.h", 1),
        ("csrc/softmetal/engine.c", "core/pool.h", 0),
        ("csrc/softmetal/engine.c", "device/cpu/cpu.h", 1),
        ("csrc/softmetal/library.c", "mslc/mslc.h", 0),
        ("csrc/core/pool.c", "mslc/mslc.h", 1),
        ("metal/mslc/emit.c", "mslc.h", 0),
        ("metal/mslc/emit.c", "core/pool.h", 0),
        ("metal/mslc/emit.c", "softmetal/builtin.h", 1),
        ("metal/mslc/pack.c", "softmetal/builtin.h", 0),
        ("python/binding/ops.c", "ops/ops.h", 0),
        ("tests/c/test_pool.c", "ops/ops.h", 0),
    ],
)
def test_includes_against_the_order(layers, capsys, name, include, defects):
    write(layers, name, f'#include "{include}"\n')
    assert layers.main() == bool(defects)
    assert capsys.readouterr().out.count(" includes ") == defects


def test_long_files(layers, capsys):
    write(layers, "csrc/core/long.c", "\n" * 700)
    assert layers.main() == 0
    write(layers, "csrc/core/long.c", "\n" * 701)
    assert layers.main() == 1
    assert "701 lines" in capsys.readouterr().out
