"""The manifest of the Metal kernels, and the page that is generated from running them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = json.loads((ROOT / "metal" / "variants.json").read_text())["kernels"]
KEYS = {"name", "op", "family", "source", "function", "types", "dtypes", "supports", "needs", "rank", "enabled"}


def functions(row: dict) -> list[str]:
    names = [row["function"].replace("{t}", t) for t in row["types"]]
    return [*names, row["reduce"]] if "reduce" in row else names


def test_names_are_unique():
    names = [row["name"] for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_row_is_complete(row):
    assert set(row) >= KEYS
    assert (ROOT / "metal" / row["source"]).is_file()
    assert ("{t}" in row["function"]) == (len(row["types"]) > 1), "a function for each type, or one for all"
    readme = (ROOT / "metal" / "README.md").read_text()
    assert row["source"] in readme


def test_page_lists_what_the_manifest_names():
    page = (ROOT / "docs" / "metal-kernels.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == {name for row in ROWS for name in functions(row)}, "run tools/metal_kernels.py BUILD_DIRECTORY"


def test_function_constants_have_indices_of_their_own():
    text = (ROOT / "metal" / "common" / "params.h").read_text()
    indices = re.findall(r"#define ML_GPU_FC_\w+ (\d+)", text)
    assert len(indices) == len(set(indices)) > 30
