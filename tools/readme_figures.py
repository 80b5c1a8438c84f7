#!/usr/bin/env python3
"""Writes the README's figures from a run on this machine: tools/readme_figures.py SWEEP.json

The run is COMMAND below. One that other processes disturbed is refused: it says more about them than about the code.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from metallic.sweep import show, suites

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- figures: tools/readme_figures.py -->", "<!-- end of figures -->"
COMMAND = "metallic sweep --suite qwen25 --suite qwen25_attention --dtype f32,f16,bf16 --peers numpy --json FILE"
TOLERATED = 1 / 8  # share of the rows that may have been disturbed
HEADER = """\
| case | dtype | metallic | NumPy | ratio | of the ceiling | error / bound | impl |
|---|---|---|---|---|---|---|---|"""


def figures(content: dict) -> str:
    """The section's text: one line per case and dtype, with cold buffers."""
    groups: dict[tuple[str, str], dict[str, dict]] = {}
    for row in content["rows"]:
        if row["mode"] in ("cold", "both"):
            groups.setdefault((row["case"], row["dtype"]), {})[show.column(row)] = row
    machine = content["machine"]
    date = max(row["date"] for row in content["rows"])[:10]
    lines = [
        f"`{COMMAND}`, {machine['cpu']}, {machine['cpus']} CPUs, {date}, commit {machine['commit']}.",
        "Times in us: medians, with buffers rotated through more than the last-level cache.",
        "",
        HEADER,
    ]
    for (case, dtype), group in groups.items():
        ours, numpy = group["auto"], group["numpy"]
        cells = [
            case,
            suites.DTYPES[dtype],
            show.cell(ours),
            show.cell(numpy),
            show.ratio(numpy, show.headline([ours])),
        ]
        cells += [f"{ours['fraction']:.2f} {ours['ceiling']}", f"{ours['parity']:.2g}", f"`{ours['impl']}`"]
        lines.append(f"| {' | '.join(cells)} |")
    notes = {row["note"] for row in content["rows"] if row["library"] == "numpy" and row.get("note")}
    lines += ["", "~: spread over 10 % of the median.", *(f"NumPy: {note}." for note in sorted(notes))]
    return "\n".join(lines)


def main() -> int:
    rows = (content := json.loads(Path(sys.argv[1]).read_text()))["rows"]
    disturbed = sum("other processes" in row.get("warning", "") for row in rows)
    if disturbed > TOLERATED * len(rows):
        print(f"{disturbed} of {len(rows)} rows were disturbed by other processes: run again on a quiet machine")
        return 1
    section = f"{BEGIN}\n{figures(content)}\n{END}"
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    README.write_text(re.sub(pattern, lambda _: section, README.read_text(), flags=re.DOTALL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
