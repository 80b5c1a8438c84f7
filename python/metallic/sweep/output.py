"""Rows of a sweep, and the files that hold them.

A CSV file gets one line per row in a single append; a JSON file, which also holds the raw samples, is replaced as a
whole. A sweep that is interrupted therefore leaves files that `--resume` can go on with: at worst the last CSV line is
cut off.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

from . import stats

FORMAT = 1
KEY = ("suite", "case", "dtype", "library", "backend", "prefs", "mode")
MACHINE = ("device", "cpu", "cpus", "system", "python", "version", "commit", "environment")
FIELDS = {
    # what was measured
    "suite": str, "case": str, "dtype": str, "library": str, "backend": str, "prefs": str, "mode": str,
    "op": str, "m": int, "n": int, "k": int, "batch": int, "bytes": int, "flops": int,
    # verdict: ok; gap (cannot be done); suspect (faster than the machine); wrong (parity above 1); error
    "status": str, "reason": str, "warning": str, "note": str,
    # microseconds per call
    "median_us": float, "q20_us": float, "q80_us": float, "min_us": float, "rounds": int, "calls": int,
    # rates, and the machine's own: fraction = ceiling_us / median_us
    "gbs": float, "gflops": float, "ceiling": str, "ceiling_gbs": float, "ceiling_gflops": float, "ceiling_us": float,
    "fraction": float,
    # largest error as a share of its bound, largest relative error
    "parity": float, "max_rel_error": float,
    # what ran
    "plan_backend": str, "variant": str, "impl": str, "why": str, "predicted_us": float, "library_version": str,
    # where
    "device": str, "cpu": str, "cpus": int, "system": str, "python": str, "version": str, "commit": str,
    "environment": str, "date": str,
}  # fmt: skip
NOISY = 0.10
IMPOSSIBLE = 1.05


class ResumeError(Exception):
    """The file cannot be continued; the text says why."""


def key(row: dict) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in KEY)


def measured(row: dict, samples: list[float], ceilings: dict[str, float]) -> None:
    """Fills in row what follows from its samples (microseconds per call) and the ceilings ({"gbs", "gflops"})."""
    row["samples_us"] = samples
    row["rounds"] = len(samples)
    row["median_us"], row["min_us"] = stats.median(samples), min(samples)
    row["q20_us"], row["q80_us"] = stats.quantile(samples, 0.2), stats.quantile(samples, 0.8)
    read_us = row["bytes"] / (ceilings["gbs"] * 1e3) if ceilings.get("gbs") else 0.0
    fma_us = row["flops"] / (ceilings["gflops"] * 1e3) if ceilings.get("gflops") else 0.0
    row["ceiling"] = "read" if read_us >= fma_us else "fma"
    row["ceiling_gbs"], row["ceiling_gflops"] = ceilings.get("gbs", 0.0), ceilings.get("gflops", 0.0)
    row["ceiling_us"] = max(read_us, fma_us)
    middle = row["median_us"]
    if middle <= 0:
        row["status"], row["reason"] = "suspect", "measured time is zero"
        return
    row["gbs"], row["gflops"] = row["bytes"] / middle / 1e3, row["flops"] / middle / 1e3
    row["fraction"] = row["ceiling_us"] / middle
    if row["fraction"] > IMPOSSIBLE:
        row["status"] = "suspect"
        row["reason"] = f"{row['fraction']:.2f} of the {row['ceiling']} ceiling: faster than the machine"
    spread = (row["q80_us"] - row["q20_us"]) / middle
    if spread > NOISY:
        row["warning"] = f"spread {spread:.0%} of the median"


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _typed(row: dict[str, str]) -> dict:
    return {name: kind(row[name]) for name, kind in FIELDS.items() if row.get(name, "") != ""}


def read_csv(path: Path) -> list[dict]:
    """Rows of a CSV file; a last line without its end was cut off and does not count."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ResumeError(f"{path}: not a sweep ({error})") from None
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    if reader.fieldnames is not None and set(KEY) - set(reader.fieldnames):
        raise ResumeError(f"{path}: not a sweep (columns {', '.join(KEY)} are missing)")
    return [_typed(row) for row in reader]


def read_json(path: Path) -> list[dict]:
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ResumeError(f"{path}: format {content['format']}, not {FORMAT}")
        return content["rows"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResumeError(f"{path}: not a sweep ({error})") from None


class Output:
    """The files of one sweep. rows: all rows, those of an interrupted run included. Raises ValueError, ResumeError,
    OSError."""

    def __init__(self, csv_path: Path | None, json_path: Path | None, machine: dict, resume: bool = False):
        self.csv_path, self.json_path, self.machine = csv_path, json_path, machine
        self.rows: list[dict] = []
        for path in filter(None, (csv_path, json_path)):  # a device, such as /dev/null, would be replaced by a file
            if path.exists() and not path.is_file():
                raise ValueError(f"{path} is not a file")
        if resume:
            self._load()
        if csv_path:
            self._replace(csv_path, self._line(FIELDS) + "".join(self._line(self._cells(row)) for row in self.rows))
        self._write_json()
        self.done = {key(row) for row in self.rows}

    def _load(self) -> None:
        """Takes over the rows of an earlier run: those of the JSON file, which is written first, else those of the
        CSV."""
        if self.json_path and self.json_path.exists():
            self.rows = read_json(self.json_path)
        elif self.csv_path and self.csv_path.exists():
            if self.json_path:
                raise ResumeError(f"{self.json_path} does not exist: the samples of {self.csv_path} are lost")
            self.rows = read_csv(self.csv_path)
        for row in self.rows:
            for name in MACHINE:
                if str(row.get(name, "")) != str(self.machine[name]):
                    old = row.get(name, "")
                    raise ResumeError(f"{name} was {old!r} and is {self.machine[name]!r}: not the same run")

    @staticmethod
    def _cells(row: dict) -> list[str]:
        return [_text(row.get(name, "")) for name in FIELDS]

    @staticmethod
    def _line(cells) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        return line.getvalue()

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        path = path.resolve()  # a link stays one
        partial = path.with_name(path.name + ".part")
        partial.write_text(text)
        os.replace(partial, path)

    def _write_json(self) -> None:
        if self.json_path:
            content = {"format": FORMAT, "machine": self.machine, "rows": self.rows}
            self._replace(self.json_path, json.dumps(content, separators=(",", ":")) + "\n")

    def add(self, rows: list[dict]) -> None:
        """Appends the rows of a finished case."""
        self.rows += rows
        self.done |= {key(row) for row in rows}
        self._write_json()
        if self.csv_path:
            with open(self.csv_path, "ab") as file:
                file.write("".join(self._line(self._cells(row)) for row in rows).encode())
