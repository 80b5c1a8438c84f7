"""The README's table of environment variables says what the module says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metallic import _core

README = Path(__file__).parent.parent / "README.md"
ELSEWHERE = {"METALLIC_OPENBLAS", "METALLIC_CAPTURE"}  # of a library, and of a device: no preferences


def documented() -> dict[str, dict[str, str]]:
    rows = {}
    for line in README.read_text().splitlines():
        match = re.match(r"\| `(\w+)`( †)? \| (.*?) \| (.*?) \| (.*?) \|$", line)
        if match:
            alias = re.search(r"alias `(\w+)`", match[5])
            rows[match[1]] = {
                "per_thread": bool(match[2]),
                "accepted": match[3],
                "alias": alias[1] if alias else None,
            }
    return rows


def test_the_table_lists_every_variable_and_no_other():
    assert set(documented()) == {row["env"] for row in _core._pref_table()} | ELSEWHERE


@pytest.mark.parametrize("row", _core._pref_table(), ids=lambda row: row["env"])
def test_values_aliases_and_marks_agree(row):
    shown = documented()[row["env"]]
    assert shown == {name: row[name] for name in ("per_thread", "accepted", "alias")}
