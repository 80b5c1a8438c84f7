"""Writes the kernels and their manifest as C, for csrc/device/gpu/sources.c: embed.py OUT METAL_FOLDER

A library that is made from text has no include path, so each source comes with its "common/..." headers put in; #line
keeps messages true.
"""

import json
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'#include "(common/[\w.]+)"')


def flatten(folder: Path, name: str, seen: set[str]) -> list[str]:
    """The lines of a file, with each header at its first mention."""
    lines = [f'#line 1 "metal/{name}"']
    for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), 1):
        header = INCLUDE.match(line)
        if not header:
            lines.append(line)
        elif header[1] in seen:
            lines.append("")
        else:
            seen.add(header[1])
            lines += [*flatten(folder, header[1], seen), f'#line {number + 1} "metal/{name}"']
    return lines


def literal(lines: list[str]) -> str:
    """A C string literal, one line of text per line."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return "\n".join(f'    "{line}\\n"' for line in escaped)


def main() -> None:
    out, folder = map(Path, sys.argv[1:])
    manifest = (folder / "variants.json").read_text(encoding="utf-8")
    names = dict.fromkeys(row["source"] for row in json.loads(manifest)["kernels"])
    rows = [f'    {{"{name}",\n{literal(flatten(folder, name, set()))}}},' for name in names]
    out.write_text(
        "const ml_gpu_source ml_gpu_sources[] = {\n" + "\n".join(rows) + "\n};\n"
        f"const int ml_gpu_n_sources = {len(rows)};\n\n"
        f"const char ml_gpu_manifest[] =\n{literal(manifest.splitlines())};\n",
        encoding="utf-8",
    )


main()
