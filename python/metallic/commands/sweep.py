"""Times the cases of a suite: this package under each backend and each preference, and its peers, side by side.

Every library runs in a process of its own that is stopped while another is timed. In each round every contender is
timed once. Warm samples use the same buffers again; cold ones rotate through more memory than the last-level cache
holds.

Exit codes: 0 all went well; 1 a result was wrong or a run failed; 2 nothing was measured; 3 wrong usage, or a file that
cannot be resumed; 130 interrupted (the files are whole: go on with --resume).
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
from pathlib import Path

from ..sweep import machine, output, peers, runner, show, suites

HELP = "time a suite against its peers"
BACKENDS = {
    "matmul": ("auto", "mlx", "mps", "gemv", "custom"),
    "softmax": ("auto", "vec", "block"),
    "sdpa": ("auto", "vector", "tiled", "composed"),
    "block": ("auto",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--suite", action="append", metavar="NAME", help=f"one of {', '.join(suites.SUITES)}; repeatable")
    add("--filter", metavar="GLOB", help="only cases whose label matches, such as '1x*x896*'")
    add("--dtype", default="f32", metavar="LIST", help="of f32, f16, bf16 (default f32)")
    add(
        "--backends",
        metavar="LIST",
        help="of auto, mlx, mps, gemv, prepack (auto with ml.prepack(b)); for softmax auto, vec, block; for attention"
        " auto, vector, tiled, composed (default: the suite's)",
    )
    add("--prefs", action="append", default=[], metavar="KEY=V1,V2",
        help="a preference and its values; repeated, every combination is measured")  # fmt: skip
    add("--peers", default="", metavar="LIST", help=f"of {', '.join(peers.PEERS)}, or module:Class")
    add("--device", help="where this package runs (default: METALLIC_DEVICE, else the best)")
    add("--out", type=Path, metavar="FILE.csv", help="one line per row")
    add("--json", type=Path, metavar="FILE", help="rows with their raw samples")
    add("--resume", action="store_true", help="go on with the files of an interrupted sweep")
    add("--budget", type=float, metavar="SECONDS", help="for the whole sweep (default: 0.4 s of measuring per row)")
    add("--warmup", type=float, default=0.05, metavar="SECONDS", help="per contender and case (default 0.05)")
    add("--processes", type=int, default=3, metavar="N", choices=range(1, 17),
        help="of this package; rounds rotate, for chance places memory and threads in each (default 3)")  # fmt: skip
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--warm", action="store_const", const=("warm",), dest="modes", help="only with the same buffers")
    mode.add_argument("--cold", action="store_const", const=("cold",), dest="modes", help="only with rotated buffers")
    add("--list", action="store_true", help="print suites and cases, measure nothing")


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def preference(text: str) -> tuple[str, list[str]]:
    """("matmul_smalln_max_n", ["4", "8"]) from METALLIC_MATMUL_SMALLN_MAX_N=4,8 or the keyword. Raises ValueError."""
    key, equals, values = text.partition("=")
    if not equals or not _split(values):
        raise ValueError(f"--prefs {text!r} is not KEY=VALUE[,VALUE...]")
    return key.strip().lower().removeprefix("metallic_"), _split(values)


def combinations(texts: list[str]) -> list[tuple[tuple[str, str], ...]]:
    """Every combination of the values of all preferences; one empty combination when there are none."""
    keys = [preference(text) for text in texts]
    return list(itertools.product(*([(key, value) for value in values] for key, values in keys)))


def _cases(name: str, pattern: str | None) -> list[suites.Case]:
    return [c for c in suites.SUITES[name].cases() if not pattern or fnmatch.fnmatch(c.label, pattern)]


def _list(names: list[str], pattern: str | None) -> int:
    for name in names or suites.SUITES:
        cases = _cases(name, pattern)
        print(f"{name}: {suites.SUITES[name].about} ({len(cases)} cases)")
        if names:
            for case in cases:
                print(f"  {case.label:<28} {case.op}")
    return 0


def _emulated(device: str | None) -> bool:
    """Whether the sweep runs on a device that is software."""
    import metallic

    name = device or metallic.default_context().device
    return any(d.get("emulated", False) for d in metallic.devices() if d["name"] == name)


def _reduce(plan: runner.Plan) -> None:
    """Smaller shapes for a device that is software: its times say nothing, its results and plans do."""
    cases = [suites.reduced(case) for case in plan.cases]
    for case, small in zip(plan.cases, cases, strict=True):
        if small != case:
            plan.notes[small] = f"reduced from {case.label}: the device is software"
    plan.cases = list(dict.fromkeys(cases))
    plan.modes = ("warm",)
    plan.processes = 1
    plan.warmup = 0.0


def _plans(args: argparse.Namespace) -> list[runner.Plan]:
    """One plan per suite. Raises ValueError for what makes no sense."""
    dtypes = [suites.dtype_name(text) for text in _split(args.dtype)]
    if not dtypes:
        raise ValueError("--dtype names none")
    chosen = _split(args.backends) if args.backends is not None else None
    for name in args.suite:
        known = BACKENDS[suites.SUITES[name].op]
        for backend in chosen or ():
            if backend not in known:
                raise ValueError(f"unknown backend {backend!r} for {name}: one of {', '.join(known)}")
    rivals = [runner.Contender(name) for name in _split(args.peers)]
    for rival in rivals:
        if ":" not in rival.library:
            peers.load(rival.library)
    plans = []
    for name in args.suite:
        ours = [
            runner.Contender("metallic", backend, prefs)
            for prefs in combinations(args.prefs)
            for backend in chosen or suites.SUITES[name].backends
        ]
        plans.append(
            runner.Plan(
                suite=name,
                cases=_cases(name, args.filter),
                dtypes=dtypes,
                contenders=ours + rivals,
                modes=args.modes or ("warm", "cold"),
                device=args.device,
                budget=args.budget / len(args.suite) if args.budget else None,
                warmup=args.warmup,
                processes=args.processes,
            )
        )
    return plans


def _check_preferences(args: argparse.Namespace) -> None:
    """Raises ValueError for a key or a device that the library does not know."""
    import metallic

    for combination in combinations(args.prefs):
        try:
            metallic.Context(args.device, **dict(combination))
        except metallic.MetallicError as error:
            raise ValueError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    for name in args.suite or ():
        if name not in suites.SUITES:
            args.parser.error(f"unknown suite {name!r}: one of {', '.join(suites.SUITES)}")
    if args.list:
        return _list(args.suite or [], args.filter)
    if not args.suite:
        args.parser.error("--suite is needed (see --list)")
    if args.resume and not (args.out or args.json):
        args.parser.error("--resume needs the files of the interrupted sweep: --out or --json")
    try:
        plans = _plans(args)
        _check_preferences(args)
        base = machine.describe(args.device)
        out = output.Output(args.out, args.json, base, args.resume)
    except (ValueError, output.ResumeError, OSError) as error:
        args.parser.error(str(error))
    screen = show.make()
    screen.say(f"metallic {base['version']} ({base['commit']}) on {base['device']}: {base['cpu']}, {base['cpus']} CPUs")
    if _emulated(args.device):
        for plan in plans:
            _reduce(plan)
        small = sum(len(plan.notes) for plan in plans)
        screen.say(f"{base['device']} is software here: its times say nothing; {small} shapes are reduced, and say so")
    screen.start()
    rows: list[dict] = []
    try:
        for plan in plans:
            rows = runner.Sweep(plan, out, base, screen).run()
    finally:
        screen.finish(out.rows)
    if any(row["status"] in ("wrong", "error") for row in rows if row["library"] == "metallic"):
        return 1
    return 0 if any(row["status"] in ("ok", "suspect") for row in rows) else 2
