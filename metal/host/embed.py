"""Writes the headers that compiled kernels need as a C table: embed.py OUT DEPFILE HOST_DIR ABI_HEADER

shim/* and the ABI header are for the compiler, include/* for the preprocessing step: metal_stdlib holds the macros, every
other name of names.txt includes it. The shim's #line directives make it recognisable in messages and line tables. DEPFILE
gets what the table was made from, as a rule of make.
"""

import sys
from pathlib import Path


def literal(text):
    """A C string literal, one line of text per line."""
    lines = []
    for line in text.splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'    "{escaped}\\n"')
    return "\n".join(lines)


def escape(path):
    return str(path).replace(" ", "\\ ").replace("$", "$$").replace("#", "\\#")


def main():
    out, depfile, host, abi = map(Path, sys.argv[1:])
    files = {"shim/abi.h": abi.read_text(encoding="utf-8")}
    for path in sorted((host / "shim").glob("*.h")):
        files[f"shim/{path.name}"] = f'#line 1 "<metal>/{path.name}"\n' + path.read_text(encoding="utf-8")
    files["include/metal_stdlib"] = (host / "include/metal_stdlib").read_text(encoding="utf-8")
    for name in (host / "include/names.txt").read_text(encoding="utf-8").split():
        files[f"include/{name}"] = "#include <metal_stdlib>\n"
    rows = [f'{{"{name}",\n{literal(text)}}},' for name, text in files.items()]
    sources = [abi, *sorted((host / "shim").glob("*.h")), host / "include/metal_stdlib", host / "include/names.txt"]
    depfile.write_text(f"{escape(out)}: {' '.join(map(escape, sources))}\n", encoding="utf-8")
    out.write_text("\n".join(rows) + "\n", encoding="utf-8")


main()
