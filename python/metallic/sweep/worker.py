"""One library in a process of its own: reads one JSON request per line, answers with one JSON object per line.

Started by workers.py. The library's own prints go to stderr. Requests:
    hello                                        -> version, pid
    prepare  case, dtype, choices, copies, ...   -> one answer per choice: gap, or plan, note, parity, seconds per call
    sample   choice, mode, calls, settle         -> microseconds per call
    ceiling  bytes | dtype, seconds              -> GB/s or GFLOP/s (this package's worker only)
    reference case, dtype, path                  -> float64 result and bound, saved to path
    release                                      -> buffers are gone
"""

from __future__ import annotations

import json
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
        self.turn: dict[int, int] = {}
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
        item = suites.Case(**case)
        self.sets = [data.make_inputs(item, dtype)]
        self.sets += [data.copy_inputs(self.sets[0]) for _ in range(copies - 1)]
        with np.load(path) as saved:
            value, bound = saved["value"], saved["bound"]
        answers = []
        for index, choice in enumerate(choices):
            wanted = peers.Choice(choice["backend"], tuple(map(tuple, choice["prefs"])))
            try:
                runs = [self.peer.prepare(item, dtype, inputs, wanted) for inputs in self.sets]
                runs[0].call()
                if runs[0].wait:
                    runs[0].wait()
                answer: dict[str, Any] = {"plan": runs[0].plan, "note": runs[0].note}
                answer |= parity.judge(runs[0].result(), value, bound)
                self.runs[index], self.turn[index] = runs, 0
                answer["seconds"] = self._estimate(index, warmup)
            except peers.Gap as gap:
                answer = {"gap": str(gap)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.append(answer)
        return {"answers": answers}

    def _estimate(self, index: int, warmup: float) -> float:
        """Fastest of the warm-up's calls."""
        best, end = float("inf"), time.perf_counter() + warmup
        while True:
            start = time.perf_counter()
            self._repeat(index, 1, "warm")
            now = time.perf_counter()
            best = min(best, now - start)
            if now >= end:
                return best

    def _repeat(self, index: int, calls: int, mode: str) -> None:
        runs = self.runs[index]
        run = runs[0]
        if mode == "cold" and len(runs) > 1:
            turn = self.turn[index]
            for i in range(turn, turn + calls):
                run = runs[i % len(runs)]
                run.call()
            self.turn[index] = (turn + calls) % len(runs)
        else:
            call = run.call
            for _ in range(calls):
                call()
        if run.wait:
            run.wait()

    def sample(self, choice: int, mode: str, seconds: float, settle: float) -> dict:
        """Untimed calls for `settle` seconds, then one sample. seconds: the estimate of one call."""
        calls = max(1, min(MAX_CALLS, round(SAMPLE_SECONDS / max(seconds, 1e-9))))
        end = time.perf_counter() + settle
        while time.perf_counter() < end:
            self._repeat(choice, calls, mode)
        start = time.perf_counter_ns()
        self._repeat(choice, calls, mode)
        elapsed = time.perf_counter_ns() - start
        return {"us": elapsed / calls / 1e3, "calls": calls}

    def release(self) -> dict:
        self.runs, self.turn, self.sets, self.blocks = {}, {}, [], {}
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
        item = suites.Case(**case)
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
