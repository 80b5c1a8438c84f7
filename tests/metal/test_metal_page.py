"""docs/metal.md lists the messages that the Metal driver sends, as it sends them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    path = ROOT / "tools" / "metal_messages.py"
    if not path.exists():
        pytest.skip("not a source checkout")
    spec = importlib.util.spec_from_file_location("metal_messages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_tool_writes(tool, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["metal_messages.py", "--check"])
    tool.main()


def test_a_message_that_is_not_on_the_page_is_found(tool, monkeypatch, tmp_path):
    page = tmp_path / "metal.md"
    page.write_text(tool.PAGE.read_text().replace("| `commit` |", "| `comit` |"))
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["metal_messages.py", "--check"])
    with pytest.raises(SystemExit, match="stale"):
        tool.main()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('M(x, "set:", void, "A", (ml_id, ml_sel))', "another number of arguments"),
        ('M(x, "get", void, "A", (ml_id))', "receiver and a selector"),
        ('M(x, "get", void, (ml_id, ml_sel))', "not understood"),
        ('M(x, "get", void, "A", (ml_id, ml_sel))', "nobody sends x"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(tool, monkeypatch, tmp_path, row, message):
    (tmp_path / "messages.inc").write_text(row)
    (tmp_path / "objc.c").write_text("")
    monkeypatch.setattr(tool, "DRIVER", tmp_path)
    with pytest.raises(SystemExit, match=message):
        tool.tables()
