"""Writes the shipped tables as C string literals, one per file: embed.py OUT TABLE..."""

import sys
from pathlib import Path

out, *tables = map(Path, sys.argv[1:])
lines = []
for table in tables:
    lines.append(f"/* {table.name} */")
    for line in table.read_text(encoding="utf-8").splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'"{escaped}\\n"')
    lines.append(",")
out.write_text("\n".join(lines) + "\n", encoding="utf-8")
