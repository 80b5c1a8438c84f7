"""Errors in a user's source name the user's file and line: through macros, includes, #line, templates, and for what
mslc itself refuses. No source, however broken, does more than raise."""

from __future__ import annotations

import random
import re

import pytest
from msl_features import FOLDER

import metallic as ml
from metallic import metal

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


def error_of(source, name: str | None = None, **options) -> str:
    with pytest.raises(ml.CompileError) as caught:
        library = metal.Library(source, **options)
        for kernel in library.function_names if name is None else [name]:
            library.function(kernel)
    assert "<metal>" not in str(caught.value) and "/shim" not in str(caught.value), caught.value
    return str(caught.value).split("\n")[0]


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("kernel void k(device int *x) {\n\n  x[0] = nothing;\n}", 5, "nothing"),
        ("#define BAD(a) nothing(a)\nkernel void k(device int *x) {\n  x[0] = BAD(\n 3);\n}", 5, "nothing"),
        ("#define KERNEL(n) kernel void n(device int *x) { x[0] = nothing; }\n\nKERNEL(k)\n", 5, "nothing"),
        ("kernel void k(device int *x) {\n x[0] = 1\n}", 4, "expected|';'"),
        ("template <class T> T f(T x) { return x.none; }\nkernel void k(device int *x) { *x = f(1); }", 3, "none|int"),
        ("kernel void k(device int *x) {\n x[0] = max(1, 2u, 3, 4);\n}", 4, "max"),
        ("kernel void k(device float4 *x) {\n x[0] = x[1] + float3(1);\n}", 4, "operator|operands"),
        ("kernel void k(device float *x) {\n x[0] = simd_and(x[0]);\n}", 4, ""),
        ("kernel void k(device float *x) {\n x[0] = float3(1, 2).x;\n}", 4, ""),
        ("kernel void k(device float *x) {\n simdgroup_float8x8 m;\n simdgroup_load(m, 3);\n}", 5, "simdgroup_load"),
        ("kernel void k(device float *x) {\n  (x[0] = 1;\n}", 4, "'[(]' is never closed"),
        ("kernel void k(device float *x) {\n  x[0] = 1;\n", 3, "never closed"),
        ("kernel void k(device float *x) {}\n}\n", 4, "extraneous"),
        ('constant char c[] = "abc;\nkernel void k() {}', 3, "missing terminating"),
        ("kernel void k(texture2d<float> t) {}", 3, "textures"),
        ("kernel void k(device float *x, uint n) { x[0] = n; }", 3, "by value"),
        ("kernel void k(device float *x, uint n [[no_such_builtin]]) { x[0] = n; }", 3, "no_such_builtin"),
        ("kernel void k() {}\nkernel void k() {}", 4, "'k' exists already"),
        ("kernel void k() {\n  threadgroup float t[2] = {1, 2};\n}", 4, "initialiser"),
        ("constant int c [[function_constant(x)]];\nkernel void k() {}", 3, "index of a function constant"),
        ("template <class T> kernel void k() {}\ntemplate [[host_name(3)]] kernel void k<float>();", 4, "host_name"),
        ("void f(device int *x);\nkernel void k(device int *x) {\n f(x);\n}", 4, "f.* is declared, but not defined"),
        ("kernel void k(device int *x [[buffer(0)]],\n device int *y [[buffer(0)]]) {}", 4, "has this index, too"),
        ("kernel void k(device int *x [[buffer(31)]]) {}", 3, "go from 0 to 30"),
        ("#if 0\n", 3, "unterminated|#if"),
        ('#include "no such file.h"\n', 3, "no such file.h"),
        ("#error of the user's own\n", 3, "of the user's own"),
        ("static_assert(sizeof(float) == 8, \"words\");\nkernel void k() {}", 3, "words"),
    ],
)  # fmt: skip
def test_file_and_line(tmp_path, source, line, words):
    path = tmp_path / "user.metal"
    path.write_text(HEAD + source)
    first = error_of(path)
    assert re.match(rf"{re.escape(str(path))}:{line}:(\d+:)? (fatal )?error: .*({words})", first), first


def test_in_an_included_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.h").write_text("inline int f(int x) {\n  return x +;\n}\n")
    (tmp_path / "user.metal").write_text(HEAD + '#include "inner.h"\nkernel void k(device int *x) { x[0] = f(1); }\n')
    first = error_of(tmp_path / "user.metal", include_dirs=[str(tmp_path / "sub")])
    assert re.match(rf"{re.escape(str(tmp_path))}/sub/inner\.h:2:\d+: error:", first), first


def test_line_directives():
    source = HEAD + '#line 70 "generated.metal"\nkernel void k(device int *x) {\n x[0] = nothing; }\n'
    assert error_of(source).startswith("generated.metal:71:9: error:")
    assert error_of(HEAD + "#line 500\nkernel void k() { nothing(); }\n").startswith("program_source:500:")


def test_byte_order_mark_and_carriage_returns(tmp_path):
    path = tmp_path / "user.metal"
    path.write_bytes(
        b"\xef\xbb\xbf" + (HEAD + "kernel void k(device int *x) { x[0] = 1; }\n").replace("\n", "\r\n").encode()
    )
    assert metal.Library(path).function_names == ["k"]
    metal.Library(path).function("k")
    path.write_bytes(b"\xef\xbb\xbf#error here\r\n")
    assert error_of(path).startswith(f"{path}:1:")


@pytest.mark.parametrize(
    "source",
    [
        "(" * 100_000,
        "{" * 400_000 + "}" * 400_000,
        "template <" * 5_000,
        "kernel void k() " + "{" * 400_000 + "}" * 400_000,
        "kernel void k() { " + "if (1) " * 300_000 + "; }",
        "kernel void k() { " + "do " * 100_000 + ";" + "while(1);" * 100_000 + "}",
        "kernel void k() { " + "for (;;) " * 100_000 + "simd_sum(1); }",
        "constant int a [[function_constant(" + "- " * 500_000 + "1)]];",
        "constant int a = " + "(" * 20_000 + "1" + ")" * 20_000 + ";",
        "namespace a { " * 200_000 + "}" * 200_000,
        "struct a { " * 200_000 + "};" * 200_000,
        "kernel void k(" + ", ".join(f"device int *x{i}" for i in range(5_000)) + ") {}",
        "// " + "x" * 2_000_000,
        "kernel void " + "k" * 1_000_000 + "() {}",
        "\\" * 10_000,
        "#define A A A\n" + "A " * 1_000,
        "\0\1\2\3" * 1_000,
        "kernel void k() { a" + "::b" * 20_000 + "; }",
        "template <> " * 2_000 + "kernel void k() {}",
        "constant int a [[function_constant(" + "-" * 50_000 + "1)]];",
        "[[" * 10_000 + "]]" * 10_000 + " kernel void k() {}",
    ],
    ids=range(21),
)  # fmt: skip
def test_depth_and_length(source):
    """Listed or refused, by a message, soon."""
    try:
        metal.Library(source)
    except ml.CompileError as error:
        assert re.match(r"program_source:\d+:", str(error)) or "program_source" in str(error), str(error)[:200]


@pytest.mark.parametrize("seed", range(3))
def test_mutated_sources(seed):
    rng = random.Random(seed)
    for name in ("spaces", "atomics", "matrix"):
        text = (FOLDER / f"{name}.metal").read_text()
        for _ in range(4):
            at, n = rng.randrange(len(text)), rng.randrange(40)
            broken = (
                text[:at]
                + rng.choice(["", "{", ")", "<", "template ", "[[", '"', "\n#line 9\n", "\x80"])
                + text[at + n :]
            )
            try:
                metal.Library(broken[: rng.randrange(len(broken))] if rng.random() < 0.3 else broken)
            except ml.CompileError as error:
                assert re.match(r"\S+:\d+:", str(error)), str(error)[:200]
