"""One library in a process of its own: reads one JSON request per line, answers with one JSON object per line.

Started by workers.py. The library's own prints go to stderr. Requests:
    hello                                        -> version, pid
    prepare  case, dtype, choices, copies, ...   -> one answer per choice: gap, or error, or plan, note, parity
    sample   choice, mode, settle                -> microseconds per call, calls
    ceiling  bytes | dtype, seconds              -> GB/s or GFLOP/s (this package's worker only)
    reference case, dtype, path                  -> float64 result and bound, saved to path
    release                                      -> buffers are gone
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
import traceback
from typing import Any

import numpy as np

from . import data, parity, peers, suites

MAX_CALLS = 20000
SAMPLE_SECONDS = 2e-4  # shorter calls are repeated until a sample lasts this long
AT_SPEED, PATIENCE_SECONDS = 1.5, 0.06  # settled: within this factor of the fastest so far; not waited for any longer
LONG_CALL_SECONDS = 0.1  # longer calls need no untimed ones before a sample


def _die_with_parent() -> None:
    """A stopped process would outlive a killed parent: ask the kernel to end it too (Linux)."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


class Worker:
    def __init__(self, library: str, options: dict[str, Any]):
        self.library = library
        self.options = options
        self.peer = None
        self.sets: list[dict[str, np.ndarray]] = []
        self.runs: dict[int, list[peers.Run]] = {}
        self.turn = (
            0  # of the cold buffer sets: one for all choices, so that the next set is the one unused for longest
        )
        self.fastest: dict[tuple[int, str], float] = {}
        self.blocks: dict[str, np.ndarray] = {}

    def hello(self) -> dict:
        if self.library == "reference":
            return {"version": np.__version__}
        try:
            if self.peer is None:
                self.peer = peers.load(self.library)(**self.options)
        except ImportError as error:
            return {"absent": f"not installed ({error})"}
        return {"version": self.peer.version()}

    # ---- one case ----

    def prepare(self, case: dict, dtype: str, choices: list[dict], copies: int, path: str, warmup: float) -> dict:
        """Buffers and calls for a case under each choice; runs each once, judges its result, and estimates its time."""
        self.release()
        item = suites.unpack(case)
        shapes = item.shapes().values()
        size = copies * sum(math.prod(shape) for shape in shapes) * data.storage(dtype).itemsize
        allocate = data.huge_pages(size, copies * len(shapes))
        self.sets = [data.make_inputs(item, dtype, allocate)]
        self.sets += [data.copy_inputs(self.sets[0], allocate) for _ in range(copies - 1)]
        with np.load(path) as saved:
            value, bound = saved["value"], saved["bound"]
        answers = []
        for index, choice in enumerate(choices):
            wanted = peers.Choice(choice["backend"], tuple(map(tuple, choice["prefs"])))
            try:
                runs = [self.peer.prepare(item, dtype, inputs, wanted) for inputs in self.sets]
                start = time.perf_counter()
                runs[0].call()
                if runs[0].wait:
                    runs[0].wait()
                first = time.perf_counter() - start
                answer: dict[str, Any] = {"plan": runs[0].plan, "note": runs[0].note}
                answer |= parity.judge(runs[0].result(), value, bound)
                self.runs[index] = runs
                self._warm_up(index, warmup, first)
            except peers.Gap as gap:
                answer = {"gap": str(gap)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.append(answer)
        return {"answers": answers}

    def _warm_up(self, index: int, seconds: float, first: float) -> None:
        """A call that took long was warm-up enough."""
        for mode in ("warm", "cold", "both"):
            if first > LONG_CALL_SECONDS:
                self.fastest[index, mode] = first * 1e9
            else:
                self._timed(index, 1, mode)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and first <= LONG_CALL_SECONDS:
            self._timed(index, 1, "warm")

    def _repeat(self, index: int, calls: int, mode: str) -> None:
        runs = self.runs[index]
        if mode == "cold":
            for turn in range(self.turn, self.turn + calls):
                runs[turn % len(runs)].call()
            self.turn = (self.turn + calls) % len(runs)
        else:
            call = runs[0].call
            for _ in range(calls):
                call()
        if runs[0].wait:
            runs[0].wait()

    def sample(self, choice: int, mode: str, settle: float) -> dict:
        """Untimed calls for `settle` seconds and until the library runs at its own speed; then one sample.

        A thread that is woken may first share a CPU with its waker until the next tick of the scheduler (4 to 16 ms on
        some virtual machines): that is the price of having been stopped, not of the call.
        """
        place = (choice, mode)
        begin = time.perf_counter_ns()
        settled, patience = begin + settle * 1e9, begin + PATIENCE_SECONDS * 1e9
        while self.fastest[place] < LONG_CALL_SECONDS * 1e9:
            elapsed, _ = self._timed(choice, self._calls(place), mode)
            now = time.perf_counter_ns()
            if (now >= settled and elapsed <= AT_SPEED * self.fastest[place]) or now >= patience:
                break
        elapsed, calls = self._timed(choice, self._calls(place), mode)
        return {"us": elapsed / 1e3, "calls": calls}

    def _calls(self, place: tuple[int, str]) -> int:
        return max(1, min(MAX_CALLS, round(SAMPLE_SECONDS * 1e9 / max(self.fastest[place], 1.0))))

    def _timed(self, choice: int, calls: int, mode: str) -> tuple[float, int]:
        """(nanoseconds per call, calls); remembers the fastest."""
        start = time.perf_counter_ns()
        self._repeat(choice, calls, mode)
        elapsed = (time.perf_counter_ns() - start) / calls
        place = (choice, mode)
        self.fastest[place] = min(elapsed, self.fastest.get(place, elapsed))
        return elapsed, calls

    def release(self) -> dict:
        self.runs, self.fastest, self.sets, self.blocks, self.turn = {}, {}, [], {}, 0
        return {}

    # ---- what else is needed of a process ----

    def ceiling(self, seconds: float, size: int = 0, dtype: str = "") -> dict:
        """How fast memory of `size` bytes can be read, or how fast dtype can be multiplied, on this machine now."""
        from metallic import _core

        if dtype:
            return {"gflops": _core._measure_flops(dtype, seconds)}
        key = f"block{size}"
        if key not in self.blocks:
            self.blocks[key] = np.ones(size, np.uint8)
        return {"gbs": _core._measure_read_gbs(self.blocks[key], seconds)}

    def reference(self, case: dict, dtype: str, path: str) -> dict:
        item = suites.unpack(case)
        value, bound = parity.reference(item, dtype, data.make_inputs(item, dtype))
        np.savez(path, value=value, bound=bound)
        return {}

    def handle(self, request: dict) -> dict:
        command = request.pop("command")
        try:
            return getattr(self, command)(**request)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}


def main(library: str, options: str) -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us in order
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(library, json.loads(options))
    for line in sys.stdin:
        answers.write(json.dumps(worker.handle(json.loads(line))) + "\n")
        answers.flush()
