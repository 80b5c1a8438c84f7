"""A source of thousands of lines: tests/metal/kernels/softmax.metal many times over, each in a namespace."""

from __future__ import annotations

from kernel_runs import FOLDER

PARTS = 110


def large_source() -> str:
    body = (FOLDER / "softmax.metal").read_text()
    first = body.index("template")
    parts = [
        f"namespace part{i} {{\n{body[first:].replace('softmax_', f'softmax{i}_')}}}\n#undef SOFTMAX\n"
        for i in range(PARTS)
    ]
    return body[:first] + "".join(parts)
