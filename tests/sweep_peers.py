"""Peers for the tests of the sweep, given to it as sweep_peers:Class."""

import os
from pathlib import Path

import numpy as np
from metallic_sweep.peers import Gap, NumPy, Run


class Spy(NumPy):
    """NumPy that writes down, at every call, the states of the other workers: SPY_LOG gets one line per sibling."""

    name = "spy"

    def prepare(self, case, dtype, inputs, choice):
        run = super().prepare(case, dtype, inputs, choice)
        plain = run.call

        def call():
            with open(os.environ["SPY_LOG"], "a") as log:
                for name, state in siblings():
                    log.write(f"{name} {state}\n")
            plain()

        run.call = call
        return run


def siblings():
    """(process id, state letter) of the other children of this worker's parent, and of each of their threads."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = status.parent.name, status.read_text().rpartition(")")[2].split()
            if int(fields[1]) != os.getppid() or int(pid) == os.getpid():
                continue
            for thread in (status.parent / "task").iterdir():
                yield thread.name, (thread / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it ended meanwhile
            continue


class Impossible(NumPy):
    """Takes no time, like a timer that failed."""

    name = "impossible"

    def prepare(self, case, dtype, inputs, choice):
        out = super().prepare(case, dtype, inputs, choice)
        out.call()
        return Run(call=lambda: None, result=out.result)


class Mortal(NumPy):
    """Its process ends at the third call, which even a busy machine comes to."""

    name = "mortal"

    def prepare(self, case, dtype, inputs, choice):
        run = super().prepare(case, dtype, inputs, choice)
        left = iter(range(2))

        def call():
            if next(left, None) is None:
                os._exit(7)

        run.call = lambda plain=run.call: (plain(), call())
        return run


class Choosy(NumPy):
    """Does no case with a bias."""

    name = "choosy"

    def prepare(self, case, dtype, inputs, choice):
        if case.bias:
            raise Gap("choosy about bias")
        return super().prepare(case, dtype, inputs, choice)


class Absent:
    name = "absent"

    def __init__(self):
        raise ImportError("No module named 'absent'")


class Sloppy(NumPy):
    """Off by one part in a hundred."""

    name = "sloppy"

    def prepare(self, case, dtype, inputs, choice):
        run = super().prepare(case, dtype, inputs, choice)
        return Run(call=run.call, result=lambda: run.result() * np.float32(1.01))


class Hanging:
    name = "hanging"

    def __init__(self):
        import time

        time.sleep(60)
