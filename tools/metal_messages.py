#!/usr/bin/env python3
"""Writes the tables of docs/metal.md: every Objective-C message the Metal driver sends, and the functions and libraries
it loads. tools/metal_messages.py [--check]

The messages come from csrc/device/gpu/metal/messages.inc, where their types stand; the rest from objc.c beside it.
--check writes nothing and fails when the page differs from what it would write.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "metal.md"
DRIVER = ROOT / "csrc" / "device" / "gpu" / "metal"
BEGIN = "<!-- tools/metal_messages.py writes from here -->\n"
END = "<!-- to here -->\n"

# What the ABI's types are called in Apple's headers.
TYPES = {
    "ml_id": "id",
    "ml_sel": "SEL",
    "ml_uint": "NSUInteger",
    "ml_int": "NSInteger",
    "ml_bool": "BOOL",
    "ml_mtl_size": "MTLSize",
    "ml_id *": "NSError **",
}


def type_name(text: str) -> str:
    return TYPES.get(text.strip(), text.strip())


def messages() -> list[dict]:
    """Rows of messages.inc, in its order."""
    text = re.sub(r"/\*.*?\*/", " ", (DRIVER / "messages.inc").read_text(), flags=re.S)
    text = re.sub(r"\s+", " ", text)
    rows = []
    for match in re.finditer(r'M\((\w+), "([^"]+)", (.+?), "(\w+)", \(([^()]*)\)\)', text):
        name, selector, returns, class_name, arguments = match.groups()
        arguments = arguments.split(",")
        if [a.strip() for a in arguments[:2]] != ["ml_id", "ml_sel"]:
            raise SystemExit(f"messages.inc: {name} does not take a receiver and a selector first")
        if selector.count(":") != len(arguments) - 2:
            raise SystemExit(f"messages.inc: {selector} has another number of arguments than {name}'s type")
        rows.append(
            {
                "name": name,
                "class": class_name,
                "selector": selector,
                "returns": type_name(returns),
                "arguments": [type_name(a) for a in arguments[2:]],
            }
        )
    if len(rows) != len(re.findall(r"\bM\(", text)):
        raise SystemExit("messages.inc: a row is not understood")
    return rows


def third_argument(text: str) -> str:
    """Of a call whose opening parenthesis text begins behind."""
    depth = commas = start = 0
    for i, c in enumerate(text):
        if c in "([":
            depth += 1
        elif c in ")]" and depth:
            depth -= 1
        elif c in ",)" and depth == 0:
            if commas == 2:
                return text[start:i].strip()
            commas += 1
            start = i + 1
    return ""


def senders() -> dict[str, list[str]]:
    """The files that send each message, or ask whether it is understood."""
    found: dict[str, list[str]] = {}
    for path in sorted(DRIVER.glob("*.[ch]")):
        text = path.read_text()
        names = {third_argument(text[m.end() :]) for m in re.finditer(r"\bSEND\(", text)}
        for name in names | set(re.findall(r"\bML_MSG_([a-z]\w*)", text)):
            found.setdefault(name, []).append(path.name)
    return found


def tables() -> str:
    loader = (DRIVER / "objc.c").read_text()
    sent_by = senders()
    text = "| class | message | arguments | returns | sent by |\n|---|---|---|---|---|\n"
    for row in messages():
        if row["name"] not in sent_by:
            raise SystemExit(f"messages.inc: nobody sends {row['name']}")
        files = sent_by[row["name"]]
        arguments = ", ".join(f"`{a}`" for a in row["arguments"])
        text += f"| `{row['class']}` | `{row['selector']}` | {arguments} | `{row['returns']}` | {', '.join(files)} |\n"
    text += "\nFunctions found by name: "
    text += ", ".join(f"`{name}`" for name in re.findall(r'find_function\(\w+, "(\w+)"', loader)) + ".\n"
    text += "\nLibraries, in the order they are loaded:\n\n"
    return text + "".join(f"* `{path}`\n" for path in re.findall(r'open_library\("([^"]+)"', loader))


def page(old: str) -> str:
    before, rest = old.split(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n" + END + rest.split(END)[1]


def main() -> None:
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    old = PAGE.read_text()
    new = page(old)
    if not sys.argv[1:]:
        PAGE.write_text(new)
    elif new != old:
        sys.exit("docs/metal.md is stale: run tools/metal_messages.py")


if __name__ == "__main__":
    main()
