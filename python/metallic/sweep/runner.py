"""The order of a sweep: cases one after the other; in a case, rounds in which every contender is timed once.

A contender is a library with its choice (backend, preferences) in one mode, warm or cold. From round to round the order
rotates, so that nobody always follows the same neighbour and drifts of the machine's clock hit all alike. The machine's
ceilings are contenders too. No heuristics: what was asked for is run, what cannot be run is a gap.
"""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import machine, output, suites
from .suites import Case
from .workers import Team, WorkerDied

MIN_ROUNDS, MAX_ROUNDS = 5, 100
COLD_FACTOR = 2  # cold buffers together: this many last-level caches
MAX_COPIES = 512
BUSY = 0.2  # CPUs that others may use before a row is marked as disturbed
SLOW_SECONDS, SLOW_FACTOR = 0.5, 10  # a contender that takes that long, and that many times the fastest, runs once
ROW_SECONDS = 0.4  # measuring time per row when there is no budget
READ_SECONDS, FMA_SECONDS = 6e-3, 3e-3
MAX_READ = 256 << 20


@dataclasses.dataclass(frozen=True)
class Contender:
    library: str
    backend: str = ""
    prefs: tuple[tuple[str, str], ...] = ()

    @property
    def prefs_text(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.prefs)


@dataclasses.dataclass
class Plan:
    """What a sweep runs. budget: seconds for all of it, None: ROW_SECONDS per row. processes: of this package, among
    which the rounds rotate; where memory and threads come to lie in one of them is a matter of chance, and worth 10 %
    of some times."""

    suite: str
    cases: list[Case]
    dtypes: list[str]
    contenders: list[Contender]
    modes: tuple[str, ...] = ("warm", "cold")
    device: str | None = None
    budget: float | None = None
    warmup: float = 0.05
    settle: float = 3e-3
    timeout: float = 600.0
    processes: int = 1
    notes: dict[Case, str] = dataclasses.field(default_factory=dict)  # what its rows say of a case

    def items(self) -> Iterator[tuple[Case, str]]:
        for case in self.cases:
            for dtype in self.dtypes:
                yield case, dtype


def _modes(plan: Plan, size: int, llc: int) -> tuple[dict[str, str], int]:
    """({mode: reason why it is a gap, or ""}, buffer sets needed) for a working set of size bytes.

    One that exceeds the last-level cache is cold in any case: its one row has the mode "both"."""
    if size > llc:
        return {"both": ""}, 1
    if "cold" not in plan.modes:
        return {"warm": ""}, 1
    copies = COLD_FACTOR * llc // size + 1
    modes = dict.fromkeys(plan.modes, "")
    if copies > MAX_COPIES:
        modes["cold"] = f"a working set of {size} bytes would need {copies} buffers to exceed the cache"
        copies = 1
    return modes, copies


def _severity(answer: dict) -> float:
    return float("inf") if "error" in answer else answer.get("parity", 0.0)


class CaseRun:
    """One case in one dtype: prepares every library, runs the rounds, makes the rows."""

    def __init__(self, plan: Plan, team: Team, case: Case, dtype: str, versions: dict[str, str], base: dict):
        self.plan, self.team, self.case, self.dtype = plan, team, case, dtype
        self.versions = versions
        self.size = case.bytes(dtype)
        self.llc = machine.last_level_cache()
        self.modes, self.copies = _modes(plan, self.size, self.llc)
        self.base = base | {
            "suite": plan.suite, "case": case.label, "dtype": dtype, "op": case.op, "m": case.m, "n": case.n,
            "k": case.k, "batch": case.batch, "bytes": self.size, "flops": case.flops(), "status": "ok",
        }  # fmt: skip
        self.answers: dict[Contender, dict] = {}
        self.samples: dict[tuple[Contender, str], list[float]] = {}
        self.calls: dict[tuple[Contender, str], int] = {}
        self.ceilings: dict[str, dict[str, float]] = {mode: {"gbs": 0.0, "gflops": 0.0} for mode in self.modes}
        self.index: dict[Contender, int] = {}
        self.disturbance = 0.0  # CPUs that other processes kept busy meanwhile

    # ---- preparation ----

    def prepare(self, folder: Path) -> None:
        path = str(folder / "reference.npz")
        case = suites.pack(self.case)
        self.team.ask("reference", "reference", case=case, dtype=self.dtype, path=path)
        for library in dict.fromkeys(c.library for c in self.plan.contenders):
            mine = [c for c in self.plan.contenders if c.library == library]
            choices = [{"backend": c.backend, "prefs": list(c.prefs)} for c in mine]
            self.index |= {c: i for i, c in enumerate(mine)}
            if library not in self.versions:
                answers = [{"gap": f"{library} is not installed"}] * len(mine)
            else:
                answers = self._ask_all(library, mine, choices, case, path)
            self.answers |= dict(zip(mine, answers, strict=True))

    def _processes(self, library: str) -> int:
        return self.plan.processes if library == "metallic" else 1

    def _ask_all(self, library: str, mine: list[Contender], choices: list[dict], case: dict, path: str) -> list[dict]:
        """One answer per choice: that of the process whose result is worst."""
        answers: list[dict] = []
        for number in range(self._processes(library)):
            try:
                reply = self.team.ask(
                    library, "prepare", number=number, case=case, dtype=self.dtype, choices=choices,
                    copies=self.copies, path=path, warmup=self.plan.warmup,
                )  # fmt: skip
            except WorkerDied as error:
                reply = {"error": str(error)}
            new = reply.get("answers") or [{"error": reply["error"]}] * len(mine)
            answers = [max(pair, key=_severity) for pair in zip(answers, new, strict=True)] if answers else new
        return answers

    # ---- rounds ----

    def measure(self, seconds: float, tick: Callable[[], None]) -> None:
        """Rounds for about `seconds`, at least MIN_ROUNDS of them: 3 when they take more than thrice the time. A peer
        without kernels for a dtype, which may take a minute for one product, has only the first round."""
        runs = [(c, mode) for c in filter(self._runs, self.answers) for mode, gap in self.modes.items() if not gap]
        if not runs:
            return
        turns: list[Callable[[], None]] = [lambda c=c, m=m: self._sample(c, m) for c, m in runs]
        for mode in self.modes:
            turns.append(lambda m=mode: self._read_ceiling(m))
        turns.append(self._fma_ceiling)
        others = self.team.others_seconds()
        start = time.monotonic()
        for number in range(MAX_ROUNDS):
            shift = number % len(turns)
            for turn in turns[shift:] + turns[:shift]:
                turn()
            tick()
            if number == 0:
                slow = self._slow()
                turns = [turn for turn, run in zip(turns[: len(runs)], runs, strict=True) if run not in slow] + turns[
                    len(runs) :
                ]
                started = time.monotonic()
            elapsed = time.monotonic() - started
            if elapsed >= seconds and number + 1 >= (MIN_ROUNDS if elapsed < 3 * seconds else 3):
                break
        if others is not None:
            self.disturbance = (self.team.others_seconds() - others) / (time.monotonic() - start)

    def _slow(self) -> set[tuple[Contender, str]]:
        """Who took far too long in the first round to be the fastest of the case."""
        us = {run: samples[0] for run, samples in self.samples.items()}
        limit = max(SLOW_SECONDS * 1e6, SLOW_FACTOR * min(us.values(), default=0.0))
        return {run for run, first in us.items() if first > limit}

    def _sample(self, contender: Contender, mode: str) -> None:
        if not self._runs(contender):
            return
        try:
            index = self.index[contender]
            number = len(self.samples.get((contender, mode), ())) % self._processes(contender.library)
            reply = self.team.ask(
                contender.library, "sample", number=number, choice=index, mode=mode, settle=self.plan.settle
            )
        except WorkerDied as error:
            reply = {"error": str(error)}
        if "error" in reply:
            for other in self.answers:
                if other.library == contender.library and self._runs(other):
                    self.answers[other] = {"error": reply["error"]}
            return
        self.samples.setdefault((contender, mode), []).append(reply["us"])
        self.calls[contender, mode] = reply["calls"]

    def _runs(self, contender: Contender) -> bool:
        return not self.answers[contender].keys() & {"gap", "error"}

    def _ceiling(self, mode: str, name: str, **request) -> None:
        reply = self.team.ask("metallic", "ceiling", **request)
        if name in reply:
            self.ceilings[mode][name] = max(self.ceilings[mode][name], reply[name])

    def _read_ceiling(self, mode: str) -> None:
        size = max(self.size, 4096)
        if mode == "cold":
            size = max(size, COLD_FACTOR * self.llc)
        # Far above the last-level cache a larger block reads no slower.
        self._ceiling(mode, "gbs", size=min(size, max(MAX_READ, 4 * self.llc)), seconds=READ_SECONDS)

    def _fma_ceiling(self) -> None:
        for mode in self.modes:
            self._ceiling(mode, "gflops", dtype=self.dtype, seconds=FMA_SECONDS)

    # ---- rows ----

    def rows(self) -> list[dict]:
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        rows = []
        for contender, answer in self.answers.items():
            for mode, gap in self.modes.items():
                row = self.base | {
                    "library": contender.library, "backend": contender.backend, "prefs": contender.prefs_text,
                    "mode": mode, "date": date, "library_version": self.versions.get(contender.library, ""),
                }  # fmt: skip
                self._fill(row, answer, gap, self.samples.get((contender, mode), []))
                if (contender, mode) in self.calls:
                    row["calls"] = self.calls[contender, mode]
                rows.append(row)
        return rows

    def _fill(self, row: dict, answer: dict, gap: str, samples: list[float]) -> None:
        gap = answer.get("gap", "") or gap
        if "error" in answer:
            row["status"], row["reason"] = "error", answer["error"]
            return
        plan = answer.get("plan") or {}
        if plan:
            row |= {"plan_backend": plan["backend"], "why": "; ".join(plan["why"])}
            row |= {name: plan[name] for name in ("variant", "impl", "predicted_us")}
        row["note"] = "; ".join(filter(None, [self.plan.notes.get(self.case), answer.get("note", "")]))
        if "parity" in answer:
            row["parity"], row["max_rel_error"] = answer["parity"], answer["max_rel_error"]
        if gap:
            row["status"], row["reason"] = "gap", gap
            return
        if not samples:
            row["status"], row["reason"] = "error", "not measured"
            return
        output.measured(row, samples, self.ceilings[row["mode"]])
        if self.disturbance > BUSY:
            noise = f"other processes used {self.disturbance:.0%} of a CPU"
            row["warning"] = "; ".join(filter(None, [row.get("warning"), noise]))
        if row["library"] == "metallic" and row["parity"] > 1:
            row["status"], row["reason"] = "wrong", f"error is {row['parity']:.3g} times its bound"


class Sweep:
    """Runs a plan. show is told what happens: see show.py."""

    def __init__(self, plan: Plan, out: output.Output, base: dict, show):
        self.plan, self.out, self.base, self.show = plan, out, base, show

    def _wanted(self) -> list[tuple[Case, str]]:
        """Cases with at least one row that the files do not hold yet."""
        llc = machine.last_level_cache()
        wanted = []
        for case, dtype in self.plan.items():
            modes, _ = _modes(self.plan, case.bytes(dtype), llc)
            keys = {
                (self.plan.suite, case.label, dtype, c.library, c.backend, c.prefs_text, mode)
                for c in self.plan.contenders
                for mode in modes
            }
            if keys - self.out.done:
                wanted.append((case, dtype))
        return wanted

    def run(self) -> list[dict]:
        """All rows of the files, the new ones included."""
        wanted = self._wanted()
        end = time.monotonic() + self.plan.budget if self.plan.budget else None
        with Team({"metallic": {"device": self.plan.device}}, self.plan.timeout) as team:
            versions = self._versions(team)
            with tempfile.TemporaryDirectory(prefix="metallic-sweep-") as folder:
                for number, (case, dtype) in enumerate(wanted):
                    if end and number and time.monotonic() > end:
                        self.show.say(f"budget spent: {len(wanted) - number} cases are left for --resume")
                        break
                    run = CaseRun(self.plan, team, case, dtype, versions, self.base)
                    seconds = ROW_SECONDS * len(self.plan.contenders) * len(run.modes)
                    if end:
                        seconds = max(0.0, end - time.monotonic()) / (len(wanted) - number)
                    self.show.begin(number, len(wanted), case, dtype)
                    start = time.monotonic()
                    run.prepare(Path(folder))
                    run.measure(max(0.0, seconds - (time.monotonic() - start)) if end else seconds, self.show.tick)
                    rows = [row for row in run.rows() if output.key(row) not in self.out.done]
                    self.out.add(rows)
                    self.show.end(rows)
        return self.out.rows

    def _versions(self, team: Team) -> dict[str, str]:
        versions = {}
        for library in dict.fromkeys(c.library for c in self.plan.contenders):
            reply = team.ask(library, "hello")
            if "version" in reply:
                versions[library] = reply["version"]
            else:
                self.show.say(f"{library}: {reply.get('absent') or reply['error']}")
        return versions
