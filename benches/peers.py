"""The CPU device against every peer, group by group; writes docs/performance.md.

python benches/peers.py --json peers.json [--resume] [--only GROUP] [--report docs/performance.md]

A cell's ratio is the time of the fastest peer over ours, both medians of one interleaved run; a group's mean is
geometric. At the ceiling: the mean that ratios would have if our times were the ceilings. ONNX Runtime packs a constant
b before the first call: like for like, our product with `ml.prepack(b)` is set against it, and the plain one against
everybody else. A working set beyond the last-level cache has one time, which counts as cold where a case is in groups
of both kinds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path

from metallic.sweep import machine, output, runner, show, suites
from metallic.sweep.suites import DTYPES, Block, Case, Matmul, Sdpa, Softmax

PEERS = ("numpy", "torch", "onnxruntime", "mlx")
F32, F16, BF16 = DTYPES


@dataclasses.dataclass(frozen=True)
class Group:
    """goals: per dtype the least ratio of a cell, and the least geometric mean."""

    name: str
    cases: tuple[Case, ...]
    goals: dict[str, tuple[float, float]]
    mode: str = "warm"
    prepacked: bool = False  # measured with a prepacked b too


QWEN25 = tuple(suites.SUITES["qwen25"].cases())

GROUPS = [
    Group(
        "GEMM",
        tuple(Matmul(n, n, n) for n in (256, 512, 1024, 2048)),
        {F32: (0.95, 1.0), F16: (1.0, 1.15), BF16: (0.95, 1.0)},
        prepacked=True,
    ),
    Group(
        "m=1, warm",
        tuple(case for case in QWEN25 if case.n < 100000),
        {F32: (1.0, 1.2), F16: (1.8, 2.3), BF16: (2.5, 3.5)},
    ),
    Group("m=1, cold", QWEN25, {F32: (0.97, 1.0), F16: (0.97, 1.0), BF16: (1.4, 1.7)}, "cold"),
    Group(
        "small-N",
        tuple(Matmul(m, n, k) for m, k in ((128, 1024), (512, 1024), (512, 4096), (2048, 1024)) for n in (2, 4, 8, 16)),
        {F32: (1.2, 1.8), F16: (1.4, 2.0), BF16: (1.8, 3.0)},
    ),
    Group(
        "addmm, batches",
        (
            Matmul(512, 512, 512, alpha=0.5, beta=2.0),
            Matmul(128, 1152, 896, transpose_b=True, bias=True),
            Matmul(128, 128, 64, batch=14, transpose_b=True),
            Matmul(128, 64, 128, batch=14),
            Matmul(7, 1024, 64, batch=2, transpose_b=True),
            Matmul(7, 64, 1024, batch=2),
        ),
        dict.fromkeys(DTYPES, (1.0, 1.3)),
        prepacked=True,
    ),
    Group(
        "strided, transposed",
        (
            Matmul(512, 512, 512, transpose_a=True),
            Matmul(512, 512, 512, transpose_b=True),
            Matmul(512, 512, 512, transpose_a=True, transpose_b=True),
            Matmul(512, 512, 512, step=2),
            Matmul(256, 896, 896, transpose_b=True, step=2),
        ),
        {F32: (0.95, 1.0), F16: (30.0, 40.0), BF16: (0.95, 1.0)},
        prepacked=True,
    ),
    Group(
        "attention, decode",
        tuple(Sdpa(1, 14, 2, 1, s, 64) for s in (64, 256, 1024, 4096, 8192)),
        {F32: (1.8, 3.0), F16: (3.0, 6.0), BF16: (5.0, 10.0)},
    ),
    Group(
        "attention, prefill",
        tuple(Sdpa(1, 14, 2, s, s, 64, causal=True) for s in (128, 512, 1024, 2048)),
        {F32: (1.3, 1.6), F16: (1.4, 1.8), BF16: (1.8, 2.5)},
    ),
    Group(
        "norms, activations",
        (
            Block("layer_norm", 512, 896),
            Block("rms_norm", 512, 896),
            Block("gelu", 512, 4864),
            Block("gelu_tanh", 512, 4864),
            Block("silu", 512, 4864),
        ),
        dict.fromkeys(DTYPES, (1.0, 1.4)),
    ),
    Group(
        "softmax",
        (*(Softmax(m, n) for m, n in ((7168, 512), (512, 1024), (14, 4096), (512, 4096))), Softmax(7168, 512, 0, 512)),
        {F32: (1.0, 1.4), F16: (1.3, 2.0), BF16: (1.3, 2.0)},
    ),
    Group("call, out=", (Matmul(4, 4, 4),), {F32: (1.0, 1.0)}),
]

COLD = {case for group in GROUPS if group.mode == "cold" for case in group.cases}


def cells(rows: list[dict], group: Group, dtype: str) -> list[dict]:
    """One per case that was measured: case, ours (row), prepacked (row or None), peers {name: row}, best (name of the
    fastest peer), ratio, alike (with ours prepacked against ONNX Runtime's) and limit (with the ceiling for ours)."""
    found = []
    for case in group.cases:
        here = [
            row
            for row in rows
            if row["suite"] == group.name and (row["case"], row["dtype"]) == (case.label, dtype)
            and row["mode"] in ((group.mode,) if group.mode == "warm" and case in COLD else (group.mode, "both"))
        ]  # fmt: skip
        mine = {row["backend"]: row for row in here if row["library"] == "metallic" and row["status"] == "ok"}
        ours, prepacked = mine.get("auto"), mine.get("prepack")
        peers = {row["library"]: row for row in here if row["library"] != "metallic"}
        timed = [row for row in peers.values() if row["status"] == "ok"]
        if ours and timed:
            best = min(timed, key=lambda row: row["median_us"])
            alike = min(
                row["median_us"] / (prepacked if prepacked and row["library"] == "onnxruntime" else ours)["median_us"]
                for row in timed
            )
            found.append(
                {"case": case.label, "ours": ours, "prepacked": prepacked, "peers": peers, "best": best["library"],
                 "ratio": best["median_us"] / ours["median_us"], "alike": alike,
                 "limit": best["median_us"] / ours["median_us"] / ours["fraction"]}
            )  # fmt: skip
    return found


def mean(found: list[dict], name: str = "ratio") -> float:
    return math.exp(sum(math.log(cell[name]) for cell in found) / len(found))


def _line(texts) -> str:
    return f"| {' | '.join(texts)} |"


def report(content: dict) -> str:
    """The page."""
    rows, about = content["rows"], content["machine"]
    date = max(row["date"] for row in rows)[:10]
    versions = {row["library"]: row["library_version"] for row in rows if row["library_version"]}
    peers = [name for name in PEERS if name in versions]
    busy = sum("other processes" in row.get("warning", "") for row in rows)
    lines = [
        "# Performance",
        "",
        f"`python benches/peers.py --json peers.json`: {about['cpu']}, {about['cpus']} CPUs, {about['system']},",
        f"{date}, commit {about['commit']}; " + ", ".join(f"{name} {versions[name]}" for name in peers) + ".",
        "Medians in us of one interleaved run, every library in a process of its own that is stopped while another is",
        "timed. Ratio: the fastest peer's time / ours. ONNX Runtime packs a constant b before the first call; like for",
        "like, it is set against our product with `ml.prepack(b)`, the others against the plain one. Of the ceiling:",
        "what the machine's read bandwidth for this working set, or its fused multiply-adds, would take / our time; at",
        "the ceiling: the mean with that in place of our times. [limits.md](limits.md) is about what misses its goal.",
        f"Other processes were busy during {busy} of {len(rows)} rows. `~`: spread over 10 % of the median.",
        "",
        "| group | dtype | cells | least ratio | goal | geometric mean | goal | at the ceiling | alike: least | mean |",
        "|---" * 10 + "|",
    ]
    details = []
    for group in GROUPS:
        for dtype, (least, average) in group.goals.items():
            found = cells(rows, group, dtype)
            if not found:
                continue
            worst = min(cell["ratio"] for cell in found)
            texts = [group.name, DTYPES[dtype], str(len(found)), f"{worst:.2f}", f"{least:g}"]
            texts += [f"{mean(found):.2f}", f"{average:g}", f"{mean(found, 'limit'):.2f}"]
            if group.prepacked:
                texts += [f"{min(cell['alike'] for cell in found):.2f}", f"{mean(found, 'alike'):.2f}"]
            else:
                texts += ["", ""]
            lines.append(_line(texts))
            for cell in found:
                ours = cell["ours"]
                texts = [group.name, cell["case"], DTYPES[dtype], show.cell(ours), show.cell(cell["prepacked"])]
                texts += [show.cell(cell["peers"].get(name)) for name in peers]
                ceiling = f"{ours['fraction']:.2f} {ours['ceiling']}"
                ratios = [f"{cell['ratio']:.2f}", f"{cell['alike']:.2f}" if group.prepacked else ""]
                details.append(_line([*texts, *ratios, cell["best"], ceiling, f"`{ours['impl']}`"]))
    head = ["group", "case", "dtype", "metallic", "prepacked", *peers, "ratio", "alike", "fastest peer"]
    head += ["of the ceiling", "impl"]
    lines += ["", "## Every cell", "", _line(head), "|---" * len(head) + "|", *details]
    notes = sorted({(row["library"], row["note"]) for row in rows if row.get("note")})
    lines += ["", *(f"{library}: {note}." for library, note in notes)]
    return "\n".join(lines) + "\n"


def measure(out: output.Output, base: dict, only: list[str]) -> None:
    screen = show.make()
    screen.start()
    try:
        for group in GROUPS:
            if not only or group.name in only:
                ours = [runner.Contender("metallic", name) for name in ("auto", "prepack")[: 1 + group.prepacked]]
                contenders = [*ours, *map(runner.Contender, PEERS)]
                plan = runner.Plan(
                    group.name, list(group.cases), list(group.goals), contenders, (group.mode,), processes=3
                )
                runner.Sweep(plan, out, base, screen).run()
    finally:
        screen.finish(out.rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="rows with their samples")
    parser.add_argument("--resume", action="store_true", help="go on with the file of an interrupted run")
    parser.add_argument("--only", action="append", metavar="GROUP", choices=[group.name for group in GROUPS])
    parser.add_argument("--report", type=Path, help="where the page goes")
    parser.add_argument("--no-run", action="store_true", help="only write the page, of a file that exists")
    args = parser.parse_args()
    if not args.no_run:
        base = machine.describe("cpu")
        measure(output.Output(None, args.json, base, args.resume), base, args.only or [])
    page = report(json.loads(args.json.read_text()))
    if args.report:
        args.report.write_text(page)
    else:
        print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
