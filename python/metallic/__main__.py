"""The command line: `metallic COMMAND ...`, also `python -m metallic COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence

COMMANDS = ("sweep", "compare", "info", "explain")
USAGE_ERROR = 3
INTERRUPTED = 130
READER_GONE = 141  # what a shell shows for SIGPIPE, of which Python makes an exception


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def _stdout_is_broken() -> bool:
    """Whether nobody reads stdout any more. Then what is still to be written to it is dropped, so that the flush at
    exit succeeds."""
    if sys.stdout is None:
        return False
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # an object in its place, or closed
        descriptor = -1
    try:
        sys.stdout.flush()
        broken = descriptor >= 0 and _reader_has_gone(descriptor)  # an unbuffered stdout has nothing to flush
    except BrokenPipeError:
        broken = True
    except (OSError, ValueError):
        broken = False
    if broken and descriptor >= 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    return broken


def _reader_has_gone(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 3 is always wrong usage, 130 an interruption, 141 that nobody reads
    stdout."""
    parser = Parser(prog="metallic", description="Measure, compare and explain kernels.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"metallic.commands.{name}")
        sub = commands.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run, parser=sub)
    args = parser.parse_args(argv)
    try:
        code = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _stdout_is_broken():
            raise
        return READER_GONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
