"""The worker processes of a sweep: each library in its own, and only one of them running at any time.

In one process, or side by side, the idle threads of one library keep spinning (OpenBLAS's for over 100 ms, ONNX
Runtime's for 40 ms) and slow down the next one that is timed. So whoever is not being asked is stopped with SIGSTOP.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

from . import machine

# The worker's modules under a name of their own: importing metallic.sweep would load this library in a peer's process.
_BOOT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("metallic_sweep", sys.argv[1], submodule_search_locations=[sys.argv[2]])
package = sys.modules["metallic_sweep"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from metallic_sweep import worker
worker.main(sys.argv[3], sys.argv[4])
"""


class WorkerDied(Exception):
    """The process ended, or did not answer in time; the text says which."""


class Process:
    """One worker process."""

    def __init__(self, library: str, options: dict):
        here = Path(__file__).parent
        self.library = library
        self.exit: int | None = None
        self.running = True
        self.child = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(here / "__init__.py"), str(here), library, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.buffer = b""

    def _wait(self, flags: int) -> int:
        """waitpid, keeping the exit status when there is one; the raw status."""
        if self.exit is not None:
            return 0
        try:
            pid, status = os.waitpid(self.child.pid, flags)
        except ChildProcessError:
            self.exit = -1
            return 0
        if pid and not os.WIFSTOPPED(status):
            self.exit = self.child.returncode = os.waitstatus_to_exitcode(status)
        return status

    def stop(self) -> None:
        """Returns when every thread of the process has stopped."""
        if self.running and self.exit is None:
            os.kill(self.child.pid, signal.SIGSTOP)
            self._wait(os.WUNTRACED)
        self.running = False

    def resume(self) -> None:
        if not self.running and self.exit is None:
            os.kill(self.child.pid, signal.SIGCONT)
        self.running = True

    def ask(self, request: dict, timeout: float) -> dict:
        try:
            self.child.stdin.write(json.dumps(request).encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(timeout):
                    self.kill()
                    raise WorkerDied(f"{self.library}: no answer to {request['command']} in {timeout:g} s")
                chunk = os.read(self.child.stdout.fileno(), 1 << 20)
                if not chunk:
                    raise self._died()
                self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def _died(self) -> WorkerDied:
        self.kill()
        reason = f"signal {-self.exit}" if self.exit < 0 else f"exit code {self.exit}"
        return WorkerDied(f"{self.library}: its process ended ({reason})")

    def kill(self) -> None:
        """Ends the process, stopped or not. May be called again."""
        if self.exit is None:
            self._wait(os.WNOHANG)
        if self.exit is None:
            os.kill(self.child.pid, signal.SIGKILL)  # works on a stopped process too
            self._wait(0)
        for pipe in (self.child.stdin, self.child.stdout):
            with contextlib.suppress(OSError):  # a request that was never read
                pipe.close()


class Team:
    """All workers of a sweep. A context manager; leaving it ends them."""

    def __init__(self, options: dict[str, dict] | None = None, timeout: float = 600.0):
        self.options = options or {}
        self.timeout = timeout
        self.processes: dict[tuple[str, int], Process] = {}

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exc) -> None:
        for process in self.processes.values():
            process.kill()
        self.processes.clear()

    def others_seconds(self) -> float | None:
        """CPU time that everything else on this machine has used so far; only differences mean something."""
        all_of_it = machine.busy_seconds()
        ours = [machine.busy_seconds(p.child.pid) for p in self.processes.values()] + [
            machine.busy_seconds(os.getpid())
        ]
        return None if all_of_it is None else all_of_it - sum(filter(None, ours))

    def ask(self, library: str, command: str, *, number: int = 0, **request) -> dict:
        """Answer of a library's worker with that number, all others stopped. Starts it when there is none. Raises
        WorkerDied."""
        asked = library, number
        for name, process in self.processes.items():
            if name != asked:
                process.stop()
        try:
            if asked not in self.processes:
                self.processes[asked] = Process(library, self.options.get(library, {}))
                self.processes[asked].ask({"command": "hello"}, self.timeout)
            process = self.processes[asked]
            process.resume()
            return process.ask({"command": command, **request}, self.timeout)
        except WorkerDied:
            self.processes.pop(asked).kill()
            raise
