"""Strict mode: what Apple's compiler refuses is refused here, with the line; what is close to it and allowed passes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import metallic as ml
from metallic import _core

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


def strict(source: str, compiled: str | None = None) -> None:
    library = _core._MetalLibrary(HEAD + source, "user.metal", [], [], False, True)
    if compiled:
        library.load(compiled, [])


@pytest.fixture(scope="module", autouse=True)
def clang():
    try:
        strict("kernel void k(device float *x) { x[0] = 1; }")
    except ml.DeviceError as error:
        pytest.skip(str(error))


def kernel(body: str, parameters: str = "device float *x") -> str:
    return f"kernel void k({parameters}) {{\n{body}\n}}\n"


# (what it is, refused source, its line in the source, words of the message, near miss)
RULES = [
    ("double", kernel("double d = 1; x[0] = d;"), 2, "double", kernel("float doubled = 1; x[0] = doubled;")),
    ("long double literal", kernel("x[0] = 1.0L;"), 2, "long double", kernel("x[0] = 1L + 0x1L;")),
    (
        "recursion",
        "float f(int n) {\n return n ? f(n - 1) : 1; }\n" + kernel("x[0] = f(3);"),
        1,
        "recursion",
        "template <int N> float f() { return N + f<N - 1>(); }\ntemplate <> float f<0>() { return 1; }\n"
        + kernel("x[0] = f<3>();"),
    ),
    (
        "recursion of two",
        "float g(int n);\nfloat f(int n) { return g(n); }\nfloat g(int n) { return f(n); }\n" + kernel("x[0] = f(3);"),
        2,
        "recursion",
        "float g(int n) { return n; }\nfloat f(int n) { return g(n) + g(n); }\n" + kernel("x[0] = f(3);"),
    ),
    (
        "function pointer",
        "float f(float v) { return v; }\n" + kernel("float (*g)(float) = f;\nx[0] = g(1);"),
        3,
        "function pointers",
        kernel("float a[2][4] = {};\nthread float (*row)[4] = a;\nx[0] = row[1][0];"),
    ),
    (
        "function pointer of a vector",
        "float4 f(float4 v) { return v; }\n" + kernel("float4 (*g)(float4) = f;\nx[0] = g(1).x;"),
        3,
        "function pointers",
        "float4 f(float4 v) { return v; }\n" + kernel("x[0] = float4(f(1)).x;"),
    ),
    (
        "alias of a function pointer",
        "typedef float (*F)(float);\n" + kernel("x[0] = 1;"),
        1,
        "function pointers",
        "typedef float F[4];\n" + kernel("F a = {1}; x[0] = a[0];"),
    ),
    (
        "virtual",
        "struct S {\n virtual float f() const { return 1; }\n};\n" + kernel("x[0] = 1;"),
        2,
        "virtual",
        "struct S { float virtual_value; };\n" + kernel("S s = {1}; x[0] = s.virtual_value;"),
    ),
    ("throw", kernel("if (x[0] > 1)\n throw 1;"), 3, "exceptions", kernel("float throws = 1; x[0] = throws;")),
    ("try", kernel("try { x[0] = 1; } catch (int) {}"), 2, "exceptions", kernel("float tried = 1; x[0] = tried;")),
    ("new", kernel("x[0] = *new float(1);"), 2, "'new'", kernel("float newer = 1; x[0] = newer;")),
    (
        "delete",
        kernel("thread float *p = nullptr;\ndelete p;"),
        3,
        "'delete'",
        "struct S { float v; S(float a) : v(a) {} S(int) = delete; };\n" + kernel("S s(1.0f); x[0] = s.v;"),
    ),
    ("goto", kernel("a: x[0] += 1;\nif (x[0] < 3) goto a;"), 3, "goto", kernel("do x[0] += 1; while (x[0] < 3);")),
    ("std header", "#include <vector>\n" + kernel(""), 1, "vector", "#include <metal_math>\n" + kernel("")),
    ("std", kernel("x[0] = std::max(1.0f, x[0]);"), 2, "standard library", kernel("x[0] = metal::max(1.0f, x[0]);")),
    (
        "variable at program scope",
        "float counter = 0;\n" + kernel("x[0] = counter;"),
        1,
        "program-scope",
        "constant float counter = 0;\nconstant constexpr static const int n = 2;\n" + kernel("x[0] = counter + n;"),
    ),
    (
        "static variable at program scope",
        "namespace a {\nstatic const float v = 1;\n}\n" + kernel("x[0] = a::v;"),
        2,
        "program-scope",
        "namespace a {\nenum { v = 1 };\nstruct S { static constexpr constant int n = 2; };\n}\n"
        + kernel("x[0] = a::v + a::S::n;"),
    ),
    (
        "1025 threads",
        "[[max_total_threads_per_threadgroup(1025)]] " + kernel("x[0] = 1;"),
        1,
        "1024",
        "[[max_total_threads_per_threadgroup(1024)]] " + kernel("x[0] = 1;"),
    ),
    ("result of a kernel", "kernel float k(device float *x) { return x[0]; }", 1, "void", kernel("return;")),
    (
        "kernel parameter by value",
        kernel("x[0] = n;", "device float *x, uint n"),
        1,
        "by value",
        kernel("x[0] = n;", "device float *x, uint n [[thread_position_in_grid]]"),
    ),
    (
        "pointer without an address space",
        "float f(float *p) { return p[0]; }\n" + kernel("float a = 1; x[0] = f(&a);"),
        1,
        "address space",
        "float f(thread float *p) { return p[0]; }\n" + kernel("float a = 1; x[0] = f(&a);"),
    ),
    (
        "reference without an address space",
        "float f(const float &p) { return p; }\n" + kernel("float a = 1; x[0] = f(a);"),
        1,
        "address space",
        "float f(const thread float &p) { return p; }\n" + kernel("float a = 1; x[0] = f(a);"),
    ),
    (
        "device pointer for a thread's",
        "float f(thread const float *p) { return p[0]; }\n" + kernel("x[0] = 1;\nx[1] = f(x);"),
        4,
        "thread",
        "float f(device const float *p) { return p[0]; }\n" + kernel("x[0] = 1;\nx[1] = f(x);"),
    ),
    (
        "threadgroup array as a device pointer",
        kernel("threadgroup float t[4];\nt[0] = 1;\ndevice float *p = t;\nx[0] = p[0];"),
        4,
        "device",
        kernel("threadgroup float t[4];\nt[0] = 1;\nthreadgroup float *p = t;\nx[0] = p[0];"),
    ),
    (
        "constant that is written",
        kernel("n = 3; x[0] = n;", "device float *x, constant int &n"),
        2,
        "",
        kernel("int m = n; m = 3; x[0] = m;", "device float *x, constant int &n"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
def test_rule(rule):
    _, refused, line, words, near = rule
    with pytest.raises(ml.CompileError) as caught:
        strict(refused, "k")
    first = str(caught.value).split("\n")[0]
    assert first.startswith(f"user.metal:{line + 2}:"), caught.value
    assert "error: " in first and words in first, caught.value
    strict(near, "k")


BFLOAT = {
    "initial value": ("bfloat b = 1.0f;", "bfloat b = bfloat(1.0f);"),
    "assignment": ("bfloat b; b = x[0];", "bfloat b; b = static_cast<bfloat>(x[0]);"),
    "half": ("bfloat b = 1.0h;", "bfloat b(1.0h); b = b * b + b;"),
}


@pytest.mark.parametrize("case", BFLOAT)
def test_no_float_becomes_a_bfloat_by_itself(case):
    refused, near = (kernel(f"\n{statement} x[0] = b;") for statement in BFLOAT[case])
    with pytest.raises(ml.CompileError, match=r"user\.metal:5:\d+: error: .*bfloat"):
        strict(refused, "k")
    strict(near, "k")


@pytest.mark.parametrize(("floats", "fits"), [(8192, True), (8193, False)])
def test_threadgroup_memory(floats, fits):
    body = f"threadgroup float a[4096];\nthreadgroup float b[{floats - 4096}];\na[0] = b[0] = 1;\nx[0] = a[0] + b[0];"
    if fits:
        strict(kernel(body), "k")
        return
    with pytest.raises(ml.CompileError, match=r"^user\.metal:3:1: error: .*32772 bytes.*limit is 32768"):
        strict(kernel(body), "k")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"METALLIC_CLANG": "/bin/false"}, "METALLIC_CLANG is '/bin/false', which is no clang"),
        ({"PATH": "/nonexistent", "METALLIC_CLANG": ""}, "strict mode needs clang, and there is none on PATH"),
    ],
)
def test_without_clang(environment, said):
    program = """
    import metallic as ml
    try:
        ml._core._MetalLibrary("kernel void a() {}", "a", [], [], False, True)
    except ml.DeviceError as error:
        print(error)
    """
    env = {**os.environ, "METALLIC_CXX": "/usr/bin/c++", **environment}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=env, capture_output=True, text=True)
    assert done.stdout.startswith(said), done.stdout + done.stderr


def test_ordinary_mode_takes_what_only_strict_mode_refuses():
    _core._MetalLibrary("float f(float *p) { return *p; }\nkernel void k() {}", "user.metal", [], [], False, False)


@pytest.mark.parametrize(
    "source",
    [
        "struct S { float a, b; };\n"
        + kernel(
            "S s = {1, 2}; y[0] = s; S t = y[1]; y[2] = y[1]; threadgroup S g; g = t; y[0] = g;",
            "device float *x, device S *y",
        ),
        "template <typename T> struct Loader {\n struct alignas(16) Vector { uchar v[8]; };\n"
        " void load(threadgroup T *to, const device T *from) const {\n"
        "  *((threadgroup Vector *)to) = *((const device Vector *)from);\n }\n};\n"
        + kernel("threadgroup float t[8]; Loader<float> l; l.load(t, x);"),
        "struct C {\n float r;\n C() thread : r(0) {}\n C() threadgroup : r(0) {}\n C(float a) thread : r(a) {}\n"
        " C(float a) device : r(a) {}\n};\n"
        + kernel("C c(1); y[0] = c; threadgroup C t[4]; t[0] = c; y[1] = t[0];", "device C *y"),
        "template <int V> using Int = integral_constant<int, V>;\n"
        "template <typename A> int times(short j, A a) { return j * a; }\n"
        + kernel("x[0] = times(2, Int<3>{}) + Int<4>{}; int n = Int<4>{}; if (x[0] < Int<3>{}) x[1] = n;"),
        "template <typename T> void get(device const float *p, short i, thread T &t) { t = T(p[i]); }\n"
        "template <typename T, void (*read)(device const float *, short, thread T &)>\n"
        "kernel void k(device float *x) {\n T t; read(x, 0, t); x[0] = t.x;\n}\n"
        'template [[host_name("a")]] kernel void k<float4, get<float4>>(device float *);',
    ],
    ids=["structs", "structs of bytes", "own constructors", "integral constants", "function as template argument"],
)
def test_what_apples_compiler_takes_is_taken(source):
    strict(source)
