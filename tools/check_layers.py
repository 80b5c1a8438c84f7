#!/usr/bin/env python3
"""Checks what no compiler checks: includes follow the order of the layers, and no file has grown past one idea.

    core <- dispatch <- device <- runtime <- ops <- binding;  core <- mslc <- softmetal <- device

A file may include headers of its own layer and of those below it; everybody may include metallic.h. The commands beside
mslc put all of it together and are bound to no order. Exits with 1 and one line per defect.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BELOW = {
    "core": (),
    "mslc": ("core",),
    "softmetal": ("core", "mslc"),
    "dispatch": ("core",),
    "device": ("core", "dispatch", "softmetal", "mslc"),
    "runtime": ("core", "dispatch", "device"),
    "ops": ("core", "dispatch", "device", "runtime"),
    "binding": ("core", "mslc", "softmetal", "dispatch", "device", "runtime", "ops"),
}
COMMANDS = {Path("metal/mslc/main.c"), Path("metal/mslc/pack.c")}
MAX_LINES = 700
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
CODE = {".c", ".h", ".inc", ".py"}


def layer(path: Path) -> str | None:
    """The layer a source file (relative to the root) belongs to; None: bound to no order (the public header, tests)."""
    parts = path.parts
    if parts[:2] == ("python", "binding"):
        return "binding"
    if parts[:2] == ("metal", "mslc"):
        return None if path in COMMANDS else "mslc"
    return parts[1] if parts[0] == "csrc" and parts[1] in BELOW else None


def resolve(include: str, source: Path) -> Path | None:
    """The project's file that an include in source means, relative to the root."""
    for folder in (source.parent, Path("csrc"), Path("csrc/include"), Path("metal"), Path("python/binding")):
        if (ROOT / folder / include).is_file():
            return Path((ROOT / folder / include).resolve().relative_to(ROOT))
    return None


def include_defects(source: Path) -> list[str]:
    mine = layer(source)
    if mine is None:
        return []
    defects = []
    for include in INCLUDE.findall((ROOT / source).read_text()):
        target = resolve(include, source)
        theirs = layer(target) if target else None
        if theirs and theirs != mine and theirs not in BELOW[mine]:
            defects.append(f"{source}: {mine} includes {include} of {theirs}")
    return defects


def files() -> list[Path]:
    """Tracked source files and those not yet tracked, ignored ones excepted."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [Path(name) for name in names]
    except (OSError, subprocess.CalledProcessError):  # a source archive without its repository
        paths = [
            path.relative_to(ROOT) for path in ROOT.rglob("*") if not path.relative_to(ROOT).parts[0].startswith(".")
        ]
    return sorted(path for path in paths if path.suffix in CODE and (ROOT / path).is_file())


def main() -> int:
    defects = []
    for path in files():
        defects += include_defects(path)
        lines = (ROOT / path).read_text().count("\n")
        if lines > MAX_LINES:
            defects.append(f"{path}: {lines} lines, more than {MAX_LINES}")
    print("\n".join(defects) if defects else "layers and lengths: nothing to report")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
