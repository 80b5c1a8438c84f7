"""Labels and profiles."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager as ContextManager
from typing import Any

from . import _core


def scope(name: str, **labels: Any) -> ContextManager[None]:
    """A with block whose dispatches carry name (and labels) in their label path; blocks nest as "outer/inner".

    For this thread only.

    >>> import metallic as ml
    >>> with ml.profile() as prof, ml.scope("decoder"), ml.scope("mlp", layer=3):
    ...     y = ml.matmul(ml.ones((1, 8)), ml.ones((8, 8)))
    >>> prof.records[-1]["label"]
    'decoder/mlp[layer=3]'
    """
    if labels and isinstance(name, str):
        name += "[" + ",".join(f"{key}={value}" for key, value in labels.items()) + "]"
    return _core._scope(name)


COLUMNS = (
    "label",
    "op",
    "backend",
    "variant",
    "impl",
    "dtype",
    "shape",
    "host us",
    "device us",
    "bytes",
    "copied",
    "scratch",
)


def _micros(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    shapes = record.get("shapes", {})
    shape = " ".join("x".join(map(str, dims)) or "()" for dims in shapes.values())
    values = [str(record.get(key, "")) for key in ("label", "op", "backend", "variant", "impl", "dtype")]
    times = [_micros(record.get(key)) for key in ("host_us", "device_us")]
    return (*values, shape, *times, *(str(record.get(key, 0)) for key in ("bytes", "copied_bytes", "scratch_bytes")))


def _plain_table(columns: Iterable[str], rows: list[tuple[str, ...]]) -> str:
    table = [tuple(columns), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _table(title: str, columns: Iterable[str], rows: list[tuple[str, ...]]) -> str:
    """With rich if it is installed, else plain text."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return f"{title}\n{_plain_table(columns, rows)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column[-2:] in ("us", "es", "ed", "ch") else "left")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    out = io.StringIO()
    Console(file=out, width=400, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


class Profile:
    """What profile() collects: one record per dispatch, of every thread.

    >>> import metallic as ml
    >>> with ml.profile() as prof:
    ...     y = ml.matmul(ml.ones((2, 3)), ml.ones((3, 4)))
    >>> record = prof.records[-1]
    >>> record["op"], record["shapes"]["out"], record["copied_bytes"]
    ('matmul', [2, 4], 0)
    """

    __module__ = "metallic"

    def __init__(self) -> None:
        self._native: Any = None
        self._records: list[dict[str, Any]] = []

    def __enter__(self) -> Profile:
        if self._native is not None:
            raise RuntimeError("this profile has been used already")
        self._native = _core._Profile()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._native is not None:
            self._native.end()

    @property
    def records(self) -> list[dict[str, Any]]:
        """A dict per dispatch in order; times in microseconds (device_us None where the device does not measure it),
        sizes in bytes, strides in elements.

        >>> import metallic as ml
        >>> ml.profile().records
        []
        """
        if self._native is not None:
            self._records += map(json.loads, self._native.records_from(len(self._records)))
        return self._records

    @property
    def routes(self) -> list[dict[str, Any]]:
        """Dispatches grouped by operation, backend, variant, impl and reasons: count, host_us, device_us; slowest
        first.

        >>> import metallic as ml
        >>> with ml.profile() as prof:
        ...     for _ in range(3):
        ...         y = ml.matmul(ml.ones((2, 3)), ml.ones((3, 4)))
        >>> [route["count"] for route in prof.routes if route["op"] == "matmul"]
        [3]
        """
        groups: dict[tuple, dict[str, Any]] = {}
        for record in self.records:
            names = {key: record.get(key, "") for key in ("op", "backend", "variant", "impl")}
            why = tuple(record.get("why", ()))
            group = groups.setdefault(
                (*names.values(), why), {**names, "why": list(why), "count": 0, "host_us": 0.0, "device_us": None}
            )
            group["count"] += record.get("dispatches", 1)
            group["host_us"] += record.get("host_us") or 0.0
            if record.get("device_us") is not None:
                group["device_us"] = (group["device_us"] or 0.0) + record["device_us"]
        return sorted(groups.values(), key=lambda group: -max(group["host_us"], group["device_us"] or 0.0))

    def table(self) -> str:
        """The records and the route breakdown as text for people (by rich where it is installed).

        >>> import metallic as ml
        >>> with ml.profile() as prof:
        ...     y = ml.matmul(ml.ones((2, 3)), ml.ones((3, 4)))
        >>> "matmul" in prof.table()
        True
        """
        routes = [
            (route["op"], route["backend"], route["variant"], route["impl"], "; ".join(route["why"]),
             str(route["count"]), _micros(route["host_us"]), _micros(route["device_us"]))
            for route in self.routes
        ]  # fmt: skip
        columns = ("op", "backend", "variant", "impl", "why", "dispatches", "host us", "device us")
        return _table("dispatches", COLUMNS, [_row(r) for r in self.records]) + "\n" + _table("routes", columns, routes)

    def to_jsonl(self, path) -> None:
        """Writes the records to path, one JSON object per line.

        >>> import metallic as ml, os, tempfile
        >>> with ml.profile() as prof:
        ...     y = ml.add(ml.ones(2), 1)
        >>> path = os.path.join(tempfile.mkdtemp(), "records.jsonl")
        >>> prof.to_jsonl(path)
        >>> with open(path) as lines:
        ...     len(lines.readlines()) == len(prof.records)
        True
        """
        with open(path, "w", encoding="utf-8") as file:
            for record in self.records:
                file.write(json.dumps(record) + "\n")

    def __repr__(self) -> str:
        return f"<Profile of {len(self.records)} dispatches>"


def profile() -> ContextManager[Profile]:
    """A with block that collects a record per dispatch, of every thread and context; gives a Profile.

    >>> import metallic as ml
    >>> with ml.profile() as prof:
    ...     y = ml.ones((2, 2)) @ ml.ones((2, 2))
    >>> len(prof.records) > 0
    True
    """
    return Profile()
