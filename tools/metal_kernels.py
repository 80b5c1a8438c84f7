#!/usr/bin/env python3
"""Writes docs/metal-kernels.md from a run of every Metal kernel: tools/metal_kernels.py BUILD_DIRECTORY

BUILD_DIRECTORY is a meson build with -Dtests=true; its test_metal_kernels runs each kernel once in the checked software
Metal and counts. Fails when the kernels that ran are not those of metal/variants.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "metal-kernels.md"
INTRODUCTION = """\
# What the Metal kernels do

Counted in the software Metal by `tools/metal_kernels.py`, one launch per kernel of `metal/variants.json`.

* *threadgroup bytes*: threadgroup memory of the kernel.
* *barriers*: threadgroup barriers that each thread passes.
* *lane operations*: simdgroup reductions, shuffles and votes of each simdgroup.
* *products*: multiplications of 8x8 matrices of each simdgroup.
* *bytes per output*: bytes of operands that the threads read and write, cached or not, for each element of the result;
  beside it the least possible, every operand once.

For GEMV with one column, softmax, attention for few queries and everything element-wise, a test holds *bytes* to 10 %
above the least. The GEMM and the tiled attention read an operand once for each tile of the other; their arithmetic
takes longer.
"""
HEADER = """\
| kernel | problem | threads | threadgroup bytes | barriers | lane operations | products | bytes per output | least |
|---|---|---:|---:|---:|---:|---:|---:|---:|
"""


def functions() -> set[str]:
    """Every function the manifest names."""
    rows = json.loads((ROOT / "metal" / "variants.json").read_text())["kernels"]
    names = {row["function"].replace("{t}", t) for row in rows for t in row["types"]}
    return names | {row["reduce"] for row in rows if "reduce" in row}


def measure(build: Path) -> list[list[str]]:
    program = build / "tests" / "c" / "test_metal_kernels"
    run = subprocess.run([program, ROOT / "metal", "--table"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return [line.split("\t") for line in run.stdout.splitlines()]


def page(rows: list[list[str]]) -> str:
    text = INTRODUCTION
    source = None
    for row in rows:
        if row[0] != source:
            source = row[0]
            text += f"\n## {source}\n\n{HEADER}"
        text += f"| `{row[1]}` | " + " | ".join(row[2:]) + " |\n"
    return text


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = measure(Path(sys.argv[1]))
    different = functions() ^ {row[1] for row in rows}
    if different:
        sys.exit(f"the manifest and what ran differ: {', '.join(sorted(different))}")
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
