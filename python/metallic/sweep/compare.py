"""Two sweeps, row by row: faster, slower, the same, or too noisy to tell.

A slower build is slower at its best and in the middle: what counts is the smaller change of the minimum's and the
median's, none when they point apart. Within 5 % (or the smallest limit, where that is less) or 0.05 us a row is SAME:
samples of one run share their neighbours on the machine, so that two runs of one build differ by a few per cent however
sure a rank test is. Beyond, a row is FAST or SLOW when a rank test over the raw samples says that they differ
(Mann-Whitney, p < 0.01) and the ranges from the 20th to the 80th percentile do not overlap, and AMBIGUOUS otherwise, or
when other processes were busy meanwhile. Of a file without samples (CSV) only the quantiles speak: apart is FAST or
SLOW; each median inside the other's range is SAME.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from . import output, stats

P_VALUE = 0.01
SAME_RELATIVE, SAME_US = 0.05, 0.05
DISTURBED = "other processes"  # in the warning of a row
METRICS = {"median": "median_us", "min": "min_us", "q20": "q20_us", "q80": "q80_us"}


@dataclasses.dataclass(frozen=True)
class Limit:
    """A row fails when it is SLOW and this metric grew by more than `percent`."""

    metric: str
    percent: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        match = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)%", text)
        if not match or match[1] not in METRICS:
            raise ValueError(f"{text!r} is not METRIC:PERCENT% with METRIC one of {', '.join(METRICS)}")
        return cls(match[1], float(match[2]))


@dataclasses.dataclass
class Result:
    key: tuple[str, ...]
    verdict: str  # FAST, SLOW, SAME, AMBIGUOUS; LOST, NEW, MISSING where one side has no time
    before: dict | None
    after: dict | None
    ratio: float = 0.0  # median after / before
    p: float | None = None
    failed: str = ""  # why the row is a regression


def load(path: Path) -> list[dict]:
    """Rows of a sweep's CSV or JSON file. Raises output.ResumeError, OSError."""
    return output.read_json(path) if path.suffix == ".json" else output.read_csv(path)


def _timed(row: dict | None) -> bool:
    return row is not None and row["status"] == "ok" and row.get("median_us", 0) > 0


def _change(before: dict, after: dict) -> float:
    """after / before - 1, of the medians or of the minima, whichever changed less; 0 when one grew and one shrank."""
    changes = [
        after[name] / before[name] - 1 for name in ("median_us", "min_us") if before.get(name) and after.get(name)
    ]
    return 0.0 if min(changes) < 0 < max(changes) else min(changes, key=abs)


def judge(before: dict, after: dict, same: float = SAME_RELATIVE) -> tuple[str, float | None]:
    """(verdict, p-value or None) of two timed rows; same: relative change that is none."""
    a, b = before["median_us"], after["median_us"]
    apart = before["q80_us"] < after["q20_us"] or after["q80_us"] < before["q20_us"]
    direction = "SLOW" if b > a else "FAST"
    samples = before.get("samples_us"), after.get("samples_us")
    p = stats.mann_whitney(*samples) if all(samples) else None
    if abs(b - a) < SAME_US or abs(_change(before, after)) < same:
        return "SAME", p
    if any(DISTURBED in row.get("warning", "") for row in (before, after)):
        return "AMBIGUOUS", p
    if p is None:
        if apart:
            return direction, None
        inside = before["q20_us"] <= b <= before["q80_us"] and after["q20_us"] <= a <= after["q80_us"]
        return ("SAME" if inside else "AMBIGUOUS"), None
    return (direction if p < P_VALUE and apart else "AMBIGUOUS"), p


def compare(before: Sequence[dict], after: Sequence[dict], limits: Sequence[Limit] = ()) -> list[Result]:
    """A result for every row that either side has."""
    same = min([SAME_RELATIVE, *(limit.percent / 100 for limit in limits)])
    a = {output.key(row): row for row in before}
    b = {output.key(row): row for row in after}
    results = []
    for place in dict.fromkeys([*a, *b]):
        old, new = a.get(place), b.get(place)
        if _timed(old) and _timed(new):
            verdict, p = judge(old, new, same)
            result = Result(place, verdict, old, new, new["median_us"] / old["median_us"], p)
            for limit in limits:
                column = METRICS[limit.metric]
                growth = (new[column] / old[column] - 1) * 100 if old.get(column) and new.get(column) else 0.0
                if verdict == "SLOW" and growth > limit.percent:
                    result.failed = f"{limit.metric} {growth:+.1f} %, limit {limit.percent:g} %"
        elif _timed(old):
            result = Result(place, "MISSING" if new is None else "LOST", old, new)
            if limits and new is not None:
                result.failed = f"was timed, is {new['status']}: {new.get('reason', '')}"
        elif _timed(new):
            result = Result(place, "NEW", old, new)
        else:
            continue
        results.append(result)
    return results


def summary(results: Sequence[Result]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        counts[result.verdict] = counts.get(result.verdict, 0) + 1
    return counts


def differences(before: Sequence[dict], after: Sequence[dict]) -> list[str]:
    """What makes two files hard to compare: another machine, other settings."""
    lines = []
    for name in ("device", "cpu", "cpus", "system", "environment"):
        a, b = ({str(row.get(name, "")) for row in rows} for rows in (before, after))
        if a != b:
            lines.append(f"{name} differs: {', '.join(sorted(a))} | {', '.join(sorted(b))}")
    return lines
