"""What a sweep prints: progress while it runs, and the table at its end. With rich where it is installed and somebody
is watching, as plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .suites import DTYPES, Case

MARKS = {"suspect": "?", "wrong": "!"}
LEGEND = (
    "times are medians in us: ~ spread over 10 % of the median, ? suspect, ! wrong, - cannot be done\n"
    "/ours: the peer's time / ours; error: largest error / its bound (right up to 1)\n"
    "mode both: the working set exceeds the last-level cache, so that warm is cold"
)


def time_text(us: float) -> str:
    return f"{us:.4g}" if us < 10000 else f"{us:.0f}"


def cell(row: dict | None) -> str:
    """The time of one row, with the mark of its verdict."""
    if row is None or row["status"] == "gap":
        return "-"
    if row["status"] == "error":
        return "error"
    return time_text(row["median_us"]) + MARKS.get(row["status"], "~" if "spread" in row.get("warning", "") else "")


def column(row: dict) -> str:
    """What a contender is called: our backends by their names, so Apple's library, a peer, goes by its module's."""
    if row["library"] == "metallic":
        return row["backend"]
    return "mlx.core" if row["library"] == "mlx" else row["library"]


def table(rows: Sequence[dict]) -> tuple[list[str], list[list[str]]]:
    """(header, lines): one line per case, dtype, preferences and mode; one column of times per backend and per peer."""
    ours = list(dict.fromkeys(column(row) for row in rows if row["library"] == "metallic"))
    peers = list(dict.fromkeys(column(row) for row in rows if row["library"] != "metallic"))
    groups: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        if row["library"] == "metallic":
            place = (row["case"], row["dtype"], row.get("prefs", ""), row["mode"])
            groups.setdefault(place, {})[column(row)] = row
    for row in rows:
        if row["library"] != "metallic":
            for place, group in groups.items():
                if (place[0], place[1], place[3]) == (row["case"], row["dtype"], row["mode"]):
                    group[column(row)] = row
    with_prefs = any(place[2] for place in groups)
    header = ["case", "dtype", *(["prefs"] if with_prefs else []), "mode", *ours, *peers]
    header += [f"{peer}/ours" for peer in peers] + ["ceiling", "error", "impl"]
    lines = []
    for (case, dtype, prefs, mode), group in groups.items():
        line = [case, DTYPES[dtype], *([prefs] if with_prefs else []), mode]
        line += [cell(group.get(name)) for name in ours + peers]
        chosen = headline([group[c] for c in ours if c in group])
        line += [ratio(group.get(peer), chosen) for peer in peers]
        if chosen:
            line += [f"{chosen['fraction']:.2f} {chosen['ceiling']}", f"{chosen['parity']:.2g}", chosen.get("impl", "")]
        else:
            line += ["-", "-", "-"]
        lines.append(line)
    return header, lines


def headline(rows: Sequence[dict]) -> dict | None:
    """The row that stands for this package: what the dispatcher chose, else the fastest that counts."""
    good = [row for row in rows if row["status"] == "ok"]
    chosen = [row for row in good if row["backend"] == "auto"]
    return chosen[0] if chosen else min(good, key=lambda row: row["median_us"], default=None)


def ratio(peer: dict | None, ours: dict | None) -> str:
    if not peer or not ours or peer["status"] != "ok":
        return "-"
    return f"{peer['median_us'] / ours['median_us']:.2f}x"


def plain_table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, *lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    left = {0, 1, header.index("mode"), len(header) - 1}
    left |= {header.index("prefs")} if "prefs" in header else set()
    text = []
    for row in rows:
        cells = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def notes(rows: Sequence[dict]) -> list[str]:
    """Reasons of gaps, suspects and failures, remarks about peers, and how noisy it was; each once."""
    counted: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            # The reason proper comes last: "matmul: backend mps (argument) cannot do M=1 ...: the kernel has no bias"
            what = (row["status"], column(row), row["reason"].rpartition(": ")[2])
        elif row.get("note"):
            what = ("note", column(row), row["note"])
        else:
            continue
        counted.setdefault(what, []).append(DTYPES[row["dtype"]])
    lines = [
        f"{status}: {who}: {reason} ({', '.join(dict.fromkeys(dtypes))}; {len(dtypes)} of {len(rows)} rows)"
        for (status, who, reason), dtypes in counted.items()
    ]
    noisy = sum(1 for row in rows if "spread" in row.get("warning", ""))
    busy = sum(1 for row in rows if "other processes" in row.get("warning", ""))
    if noisy:
        lines.append(f"noise: {noisy} of {len(rows)} rows spread over 10 % of their median")
    if busy:
        lines.append(f"noise: other processes were busy during {busy} of {len(rows)} rows: do not trust their times")
    return lines


class Plain:
    """Progress as one line per case."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def start(self) -> None:
        pass

    def begin(self, number: int, total: int, case: Case, dtype: str) -> None:
        self.head = f"[{number + 1:>{len(str(total))}}/{total}] {case.label} {DTYPES[dtype]}"

    def tick(self) -> None:
        pass

    def end(self, rows: list[dict]) -> None:
        by_mode: dict[str, list[str]] = {}
        for row in rows:
            name = column(row) + (f" {row['prefs']}" if row.get("prefs") else "")
            by_mode.setdefault(row["mode"], []).append(f"{name} {cell(row)}")
        modes = "; ".join(f"{mode}: {', '.join(cells)}" for mode, cells in by_mode.items())
        self.say(f"{self.head}: {modes}")

    def finish(self, rows: list[dict]) -> None:
        header, lines = table(rows)
        if lines:
            self.say("\n" + plain_table(header, lines) + "\n\n" + LEGEND)
        for line in notes(rows):
            self.say(line)


class Rich(Plain):
    """A progress bar and a table. The bar is drawn between rounds only: a thread that redraws it would be timed too."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=self.console, auto_refresh=False, transient=True)
        self.task = self.progress.add_task("starting", total=None)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def start(self) -> None:
        self.progress.start()

    def begin(self, number: int, total: int, case: Case, dtype: str) -> None:
        self.progress.update(self.task, description=f"{case.label} {DTYPES[dtype]}", completed=number, total=total)
        self.progress.refresh()

    def tick(self) -> None:
        self.progress.refresh()

    def end(self, rows: list[dict]) -> None:
        self.progress.update(self.task, advance=1)
        self.progress.refresh()

    def finish(self, rows: list[dict]) -> None:
        from rich.table import Table

        self.progress.stop()
        header, lines = table(rows)
        text = plain_table(header, lines)
        if lines and max(map(len, text.splitlines())) > self.console.width:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)  # rich would cut the cells
        elif lines:
            shown = Table(show_edge=False, pad_edge=False)
            for i, name in enumerate(header):
                numeric = i > header.index("mode") and name != "impl"
                shown.add_column(name, justify="right" if numeric else "left", no_wrap=True)
            for line in lines:
                shown.add_row(*line)
            self.console.print(shown)
        if lines:
            self.say(LEGEND)
        for line in notes(rows):
            self.say(line)


def make():
    """Rich where it is installed and stdout is a terminal, else Plain."""
    if sys.stdout.isatty():
        try:
            return Rich()
        except ImportError:
            pass
    return Plain()
