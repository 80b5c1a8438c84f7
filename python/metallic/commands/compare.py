"""Compares two sweeps row by row: FAST, SLOW, SAME or AMBIGUOUS, by a rank test over the samples (JSON files) or by the
quantiles (CSV files).

Exit codes: 0 no regression; 1 a row is SLOW beyond a --fail-on limit, or has lost its time; 2 nothing measured on both
sides; 3 wrong usage.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..sweep import compare, output, show

HELP = "compare two sweeps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("before", type=Path, help="CSV or JSON file of a sweep")
    add("after", type=Path, help="CSV or JSON file of a sweep")
    add("--fail-on", action="append", default=[], metavar="METRIC:PERCENT%",
        help="fail when METRIC (median, min, q20, q80) of a SLOW row grew by more; repeatable")  # fmt: skip
    add("--all", action="store_true", help="print rows that are the SAME too")


def _line(result: compare.Result) -> list[str]:
    sides = (result.before, result.after)
    before, after = (show.time_text(side["median_us"]) if side and side.get("median_us") else "-" for side in sides)
    ratio = f"{result.ratio:.3f}" if result.ratio else "-"
    p = "-" if result.p is None else f"{result.p:.1g}"
    return [result.verdict, before, after, ratio, p, " ".join(part for part in result.key if part), result.failed]


def run(args: argparse.Namespace) -> int:
    try:
        limits = [compare.Limit.parse(text) for text in args.fail_on]
        before, after = compare.load(args.before), compare.load(args.after)
    except (ValueError, output.ResumeError, OSError) as error:
        args.parser.error(str(error))
    results = compare.compare(before, after, limits)
    for line in compare.differences(before, after):
        print(f"note: {line}")
    shown = [r for r in results if args.all or r.verdict != "SAME"]
    if shown:
        header = ["verdict", "before us", "after us", "after/before", "p", "row", ""]
        rows = [header, *map(_line, shown)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        for row in rows:
            print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    counts = compare.summary(results)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no row has a time on either side")
    if not any(r.ratio for r in results):
        print("nothing was measured on both sides")
        return 2
    failed = [r for r in results if r.failed]
    if failed:
        print(f"{len(failed)} regression{'s' if len(failed) > 1 else ''}")
    return 1 if failed else 0
