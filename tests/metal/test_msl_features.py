"""Declarations, function constants, templates, address spaces, vectors, number formats, atomics and matrices of MSL:
one kernel or more of tests/metal/features each, against NumPy or exact bits."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from msl_features import compile_all, from_bfloat, function, library, to_bfloat

from metallic import metal


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    if len(request.session.items) > 20:
        compile_all(("vectors", "declarations", "spaces", "numbers", "atomics", "matrix"))


@pytest.fixture(autouse=True)
def overflow_is_meant():
    with np.errstate(all="ignore"):
        yield


# ---- declarations ---------------------------------------------------------------------------------------------------


def test_kernels_are_listed_under_their_names():
    assert library("declarations").function_names == [
        "plain", "attribute", "limited", "limited_before", "renamed.kernel", "with-two", "positions", "positions2",
        "numbered", "constants", "instance_signature", "instance_decltype", "instance_typedef", "instance_int",
        "many_float_7", "many_bfloat_2", "templates", "language",
        "designators", "additions", "apply_float", "apply_int", "exp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "add", "limit"),
    [("plain", 0, 1024), ("attribute", 1, 1024), ("limited", 2, 64), ("limited_before", 3, 96),
     ("renamed.kernel", 4, 1024), ("with-two", 5, 1024)],
)  # fmt: skip
def test_kernel_attributes(kernel, add, limit):
    f = function("declarations", kernel)
    out = np.zeros(50, np.uint32)
    f(out, grid=(50,), threadgroup=(16,))
    np.testing.assert_array_equal(out, np.arange(50) + add)
    assert f.max_total_threads_per_threadgroup == limit


def test_positions():
    """All built-ins on a grid whose last threadgroups are smaller."""
    grid, group = (10, 5, 3), (4, 3, 2)
    out = np.zeros((3, 5, 10, 44), np.uint32)
    function("declarations", "positions")(out, grid=grid, threadgroup=group)
    groups = [-(-g // t) for g, t in zip(grid, group, strict=True)]
    for z, y, x in itertools.product(range(3), range(5), range(10)):
        place = (x, y, z)
        which = [p // t for p, t in zip(place, group, strict=True)]
        local = [p % t for p, t in zip(place, group, strict=True)]
        size = [min(t, g - w * t) for t, g, w in zip(group, grid, which, strict=True)]
        flat = local[0] + size[0] * (local[1] + size[1] * local[2])
        count = size[0] * size[1] * size[2]
        want = [*place, *local, *which, *size, *group, *grid, *groups, 0, 0, 0, *grid]
        want += [flat, flat % 32, flat // 32, -(-count // 32), 32, 32, flat // 4, flat % 4, -(-count // 4), 1, 6]
        assert out[z, y, x, :38].tolist() == want, place


def test_positions_as_short_vectors():
    out = np.zeros((4, 6), np.uint32)
    function("declarations", "positions2")(out, grid=(6, 4), threadgroup=(2, 2))
    y, x = np.mgrid[:4, :6]
    np.testing.assert_array_equal(out, x | y << 8 | (x // 2) << 16)


def test_buffers_without_an_index():
    """x, scale and sizes take the numbers that the others leave: 0, 2 and 3."""
    n = 40
    x, out, count = np.arange(n, dtype=np.float32), np.zeros(n, np.float32), np.zeros(1, np.uint32)
    scale = struct.pack("<f3fI", 2.0, 10, 20, 30, 5 | 7 << 4)
    f = function("declarations", "numbered")
    f(x, out, scale, np.array([100, 200], np.int64), None, None, None, count, grid=(n,), threadgroup=(32,))
    i = np.arange(n)
    np.testing.assert_array_equal(out, 2 * x + (i % 3 + 1) * 10 + (i % 2 + 1) * 100 + 12)
    assert count[0] == n


# ---- function constants ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "constants",
    [
        {0: False, 5: False},
        {0: True, 5: True, 1: 4},
        {"doubled": True, "has_extra": False, "offset": -3, "factor": 0.5},
        {0: False, "has_extra": True, 3: 250, 9: 0.25},
        {0: 1, 5: 0, 1: 100, 2: 3.0, 3: 1, 9: -1.5},
    ],
)
def test_function_constants(constants):
    names = {0: "doubled", 1: "offset", 2: "factor", 3: "small_number", 5: "has_extra", 9: "scale_h"}
    values = {names.get(key, key): value for key, value in constants.items()}
    f = library("declarations").function("constants", constants)
    n = 8
    out, extra = np.zeros(n, np.float32), np.arange(n, dtype=np.float32) * 3
    args = [out, extra if values["has_extra"] else None, np.array([5], np.uint32) if values["doubled"] else None]
    f(*args, grid=(n,), threadgroup=(8,))
    want = np.arange(n, dtype=np.float64)
    offset = values.get("offset", 7)
    if values["doubled"]:
        want = 2 * want + 5
    want += offset
    want *= values.get("factor", 1.0)
    want += values.get("small_number", 0) + values.get("scale_h", 0.0)
    want += 1000 * (values["doubled"] and offset > 3) + 12
    np.testing.assert_array_equal(out, want + extra * bool(values["has_extra"]))


def test_a_constant_without_value_is_asked_for():
    with pytest.raises(ValueError, match=r"'(doubled|has_extra)'"):
        library("declarations").function("constants", {})


def test_pipelines_of_one_function_have_their_own_constants():
    fs = [library("declarations").function("constants", {0: False, 5: False, 1: k}) for k in range(4)]
    out = np.zeros((4, 8), np.float32)
    for k in (2, 0, 3, 1):
        fs[k](out[k], grid=(8,), threadgroup=(8,))
    np.testing.assert_array_equal(out - out[:1], np.arange(4)[:, None] * np.ones((1, 8)))


# ---- templates and the language ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "dtype", "n"),
    [("instance_signature", np.float32, 3), ("instance_decltype", np.float16, 4), ("instance_typedef", np.float32, 5),
     ("instance_int", np.int32, 2), ("many_float_7", np.float32, 7), ("many_bfloat_2", np.uint16, 2)],
)  # fmt: skip
def test_instantiations(kernel, dtype, n):
    x = np.arange(20).astype(dtype)
    if dtype == np.uint16:
        x = to_bfloat(np.arange(20, dtype=np.float32))
    out = np.zeros_like(x)
    function("declarations", kernel)(x, out, grid=(20,), threadgroup=(20,))
    got = from_bfloat(out) if dtype == np.uint16 else out
    half = int(0.5) if dtype == np.int32 else 0.5
    np.testing.assert_array_equal(got, np.arange(20) + half * 2 * n)


def test_templates():
    out = np.zeros(19, np.int32)
    function("declarations", "templates")(out, grid=(1,), threadgroup=(1,))
    operations = [3 - 20 + 300_000, 1 + 20 + 100, 9]
    assert out.tolist() == [4, 2, -1, 5, 35, 45, 2, 16, 1, 2, 10, 10, 3, 108, 1, 1, *operations]


def test_specialisations_of_static_members():
    """They are static without saying so: what is explicit has no storage class of its own."""
    source = """
    struct A {
        template <typename T> static int kind(T) { return 1; }
        template <> int kind(half) { return 2; }
        template <int N> static int pick(int x) { return x; }
        template <> int pick<3>(int x) { return 30 + x; }
    };
    kernel void k(device int *out) {
        out[0] = A::kind(1); out[1] = A::kind(1.0h); out[2] = A::pick<2>(1); out[3] = A::pick<3>(1);
    }"""
    out = np.zeros(4, np.int32)
    metal.Library(source).function("k")(out, grid=(1,), threadgroup=(1,))
    assert out.tolist() == [1, 2, 1, 31]


def test_one_index_for_parameters_of_which_one_is_there():
    source = """
    constant bool whole [[function_constant(0)]];
    constant bool parts [[function_constant(1)]];
    kernel void k(device float *x [[buffer(0)]], device const int *i [[buffer(1), function_constant(whole)]],
                  device const float *f [[buffer(1), function_constant(parts)]]) {
        x[0] = whole ? i[0] : f[0];
    }"""
    either, x = metal.Library(source), np.zeros(1, np.float32)
    either.function("k", {0: True, 1: False})(x, np.array([3], np.int32), grid=(1,), threadgroup=(1,))
    assert x[0] == 3
    either.function("k", {0: False, 1: True})(x, np.array([1.5], np.float32), grid=(1,), threadgroup=(1,))
    assert x[0] == 1.5


def test_language():
    out = np.zeros(16, np.int32)
    function("declarations", "language")(out, grid=(1,), threadgroup=(1,))
    assert out.tolist() == [4, 17, 127, 120, 6, 11, 30, 42, 6, 1, 30, 11 + 1000 + 31 + 8, 97 + 16 + 16, 117, 0, 42]


def test_designated_array_elements():
    out = np.zeros(8, np.float32)
    function("declarations", "designators")(out, 5, grid=(1,), threadgroup=(1,))
    assert out.tolist() == [0, 5, 5, 0, 6, 0, 4.5 + 1 + 0 + 4 + 5, 9]


def test_additions_to_namespace_metal_and_logging():
    out = np.zeros(1, np.int32)
    function("declarations", "additions")(out, grid=(1,), threadgroup=(1,))
    assert out[0] == 16 + 1 + 8


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_namespace_called_metal_within_another(dtype):
    x, out = np.arange(32).astype(dtype), np.zeros(32, dtype)
    name = "apply_float" if dtype == np.float32 else "apply_int"
    function("declarations", name)(out, x, grid=(32,), threadgroup=(32,))
    np.testing.assert_array_equal(out, 2 * x[::-1] + 1 + 5)


def test_a_kernel_called_as_a_function_of_metal():
    x = np.ones(4, np.float32)
    function("declarations", "exp")(x, grid=(4,), threadgroup=(4,))
    np.testing.assert_allclose(x, np.e, rtol=1e-6)


# ---- address spaces and memory --------------------------------------------------------------------------------------


def test_address_spaces():
    out = np.zeros(32, np.float32)
    out[20:24] = 100, 200, 300, 400
    pairs = np.zeros(2, [("a", "f4"), ("b", "i4")])
    pairs[0] = (1.5, 2)
    data = np.zeros(16, np.uint8)
    floats = np.concatenate([np.array([7], np.int32).view(np.float32), np.array([2.5, 0, 0, 0, 6.5, 0, 0], np.float32)])
    data = floats.view(np.uint8)
    one = struct.pack("<fi", 4.0, 5)
    function("spaces", "spaces")(out, pairs, one, data, grid=(32,), threadgroup=(32,),
                                 threadgroup_memory={0: 16, 1: 16})  # fmt: skip
    want = [100, 0.5, 3, 11, 13, 3.5 + 9 + 10 + 3 + 5, 201 + 6 + 12, 3.5 + 3 + 300 + 13, 103, 100 + 0.5 + 3 + 12,
            6.5 + 2.5, 7, 100 + 7 + 3 + 4, 13 + 2, 12 + 10, 9]  # fmt: skip
    np.testing.assert_array_equal(out[:16], np.array(want, np.float32))


def test_static_and_dynamic_threadgroup_memory():
    items = np.zeros(256, [("key", "f4"), ("index", "u4")])
    items["key"], items["index"] = np.arange(256) * 0.5, np.arange(256)
    out = np.zeros_like(items)
    function("spaces", "reverse_items")(items, out, grid=(256,), threadgroup=(64,), threadgroup_memory={0: 64 * 8})
    want = items.reshape(4, 64)[:, ::-1].ravel()
    assert (out == want).all()


def test_barriers_and_fences():
    out, flag = np.zeros(128, np.uint32), np.zeros(1, np.uint32)
    function("spaces", "fences")(out, flag, grid=(64,), threadgroup=(64,))
    i = np.arange(64)
    np.testing.assert_array_equal(out[:64], (i ^ 1) + 100 * (63 - i))
    np.testing.assert_array_equal(out[64:], np.full(64, 2))


def test_array():
    params = struct.pack("<3i2f", 1, 2, 3, 0.5, 0.25)
    out = np.zeros((3, 4), np.float32)
    function("spaces", "arrays")(params, out, grid=(32,), threadgroup=(32,))
    np.testing.assert_array_equal(out, [[5, 5, 5, 5], [20, 3, 0.25, 4], [12, 13, 14, 15]])


# ---- vectors --------------------------------------------------------------------------------------------------------


def test_every_swizzle():
    v = np.array([3, 5, 7, 11], np.float32)
    out = np.zeros(16 * 2 + 64 * 3 + 256 * 4, np.float32)
    function("vectors", "swizzles")(v, out, grid=(1,), threadgroup=(1,))
    want = [v[list(c)] for n in (2, 3, 4) for c in itertools.product(range(4), repeat=n)]
    np.testing.assert_array_equal(out, np.concatenate(want))


def test_swizzles_are_assigned_to():
    out, memory = np.zeros(80, np.float32), np.zeros((4, 4), np.float32)
    memory[0] = 10, 20, 30, 40
    function("vectors", "swizzle_assign")(out, memory, grid=(1,), threadgroup=(1,))
    want = [5, 6, 3, 4, 4, 3, 6, 5, 4, 6, 6, 10, 6, 6, 4, 10, 7, 8, 7, 10, 7, 8, 0, 0]
    want += [18, 19, 6, 8]  # memory[0] = 10, 20, 7, 8, then x += w, yz -= 1
    want += [8, 8, 0][:0]
    b = [0, 8, 7]
    b = [b[1], b[1], b[0]]  # b.zx = b.xy
    want += b + b[:2]
    c = [b[1], b[0]]
    want += [c[0] + 1, c[1] - 1]
    want += [8, 8, 8, 8, 1, 8]
    want += [4 ^ 1, 2 | 8, 3 | 16, 16]
    want += [6, 4, 2, 4]
    first, second = [5, 7, 9], [4, 5, 6]
    want += [f + s for f, s in zip(first, second[::-1], strict=True)] + [first[0] + second[2]]
    np.testing.assert_array_equal(out[: len(want)], np.array(want, np.float32))


def test_constructors():
    out = np.zeros(128, np.float32)
    function("vectors", "constructors")(out, grid=(1,), threadgroup=(1,))
    want = [[9] * 4, [1, 2, 1, 2], [1, 2, 8, 9], [7, 1, 2, 8], [7, 8, 1, 2], [3, 4, 5, 6], [6, 3, 4, 5], [1, 2, 3, 4],
            [1, 2, 3], [3, 1, 2], [1, 1, 1], [1, 2, 3], [5, 5], [6, 7], [6, 7, 1, 2], [1, 2, 3, 4], [3] * 4,
            [1, 2, 3, 4], [1, 0, 1, 0], [-1, 2, -3, 4], [0.5] * 3, [1, 2], [1, -1, 2, 3], [1, 2, 3, 255],
            [1, 2, 3], [1, 2, 3, 4]]  # fmt: skip
    flat = np.concatenate([np.array(w, np.float32) for w in want])
    np.testing.assert_array_equal(out[: flat.size], flat)


def test_vector_operators():
    a, b = np.array([1, -2, 3.5, 0.25], np.float32), np.array([2, 4, 0.5, 0.25], np.float32)
    out = np.zeros(256, np.float32)
    function("vectors", "operators")(np.stack([a, b]), out, grid=(1,), threadgroup=(1,))
    want = [a + b, a - b, a * b, a / b, -a, 2 * a, a * 0.5, 1 / a, a < b, a >= b, a == a[[0, 0, 1, 1]],
            (a != b) & (b > 0), ~(a < b)]  # fmt: skip
    a = (a + b - 1) * 2 / 4
    u = np.array([12, 5, 255, 1024], np.uint32)
    want += [a, u & 6, u | 1, u ^ u[[1, 0, 3, 2]], ~u & 0xFF, u << 2, u >> np.arange(4, dtype=np.uint32), u % 7, u + 1]

    def mixed(x, y):
        return (x + y * 2 + x) / (y + 1)

    want += [mixed(a, b), mixed(np.array([1, 2, 3], np.float32), np.array([4, 5, 6], np.float32))]
    want += [mixed(np.array([1, 2], np.float16), np.array([3, 4], np.float16)), [a[0] + a[3]], np.arange(4), [1 + 2]]
    v = np.arange(4)
    want += [b, np.where([True, False, True, True], b, v)]
    flat = np.concatenate([np.asarray(w, np.float32) for w in want])
    np.testing.assert_array_equal(out[: flat.size], flat)


def test_layouts():
    out = np.zeros(32, np.uint32)
    function("vectors", "layouts")(out, grid=(1,), threadgroup=(1,))
    want = [(8, 8), (16, 16), (16, 16), (4, 4), (8, 8), (8, 8), (4, 4), (8, 8), (2, 2), (4, 4), (4, 4), (8, 8), (8, 8),
            (16, 16), (16, 16), (32, 32), (2, 2), (4, 4), (8, 4), (12, 4), (16, 4), (6, 2), (3, 1), (8, 4), (6, 2),
            (2, 2), (2, 2), (1, 1), (8, 8), (4, 4), (16, 16), (8, 8)]  # fmt: skip
    assert [(int(v) >> 8, int(v) & 255) for v in out] == want


def test_as_type():
    u = np.array([0x80C0FFEE, 0xBEEF3C00, 0x04030201, 0x40494FDB], np.uint32)
    out = np.zeros(12, np.uint32)
    function("vectors", "bits")(u, out, grid=(1,), threadgroup=(1,))
    assert [hex(v) for v in out.tolist()] == [
        hex(v)
        for v in (u[0], u[1], u[3], 1 + 1000 * 4, 0x01020304, u[1], u[0], u[3], 0x3F800000, 0x3C00 | 0x3F80 << 16,
                  0xFFFFFFEE, 0x3C00BEEF)
    ]  # fmt: skip


def test_packing():
    v = np.array([0.25, -0.5, 1.5, 0.7], np.float32)
    out, back = np.zeros(5, np.uint32), np.zeros((3, 4), np.float32)
    function("vectors", "packing")(v, out, back, grid=(1,), threadgroup=(1,))
    unorm = [round(float(min(max(x, 0), 1)) * 255) for x in v]
    snorm = [round(float(min(max(x, -1), 1)) * 127) for x in v]
    assert out[0] == sum(c << 8 * i for i, c in enumerate(unorm))
    assert out[1] == sum((c & 255) << 8 * i for i, c in enumerate(snorm))
    assert out[2] == round(0.25 * 65535)
    assert out[3] == (round(0.25 * 32767) | (round(-0.5 * 32767) & 65535) << 16)
    assert out[4] == (round(0.25 * 1023) | 1023 << 20 | 2 << 30)
    np.testing.assert_allclose(back[0], np.array(unorm) / 255, rtol=1e-6)
    np.testing.assert_allclose(back[1], np.array(snorm) / 127, rtol=1e-6)
    np.testing.assert_allclose(back[2], [0.25, 0, 0.25, -0.5], atol=3e-4)


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["half", "bfloat", "float"])
def test_arithmetic_rounds_every_operation(kind, rng):
    """Bit for bit: half and bfloat results are float results rounded once."""
    n = 60_000
    values = [(rng.standard_normal(n) * np.exp(rng.uniform(-8, 8, n))).astype(np.float32) for _ in range(2)]
    for v, other in zip(values, ([0, -0.0, np.inf, np.nan, 1e-6], [1, 0, np.inf, 2, -1e-6]), strict=True):
        v[:5] = other
    to = {"half": lambda v: v.astype(np.float16), "bfloat": to_bfloat, "float": lambda v: v}[kind]
    back = {"half": lambda v: v.astype(np.float32), "bfloat": from_bfloat, "float": lambda v: v}[kind]
    x, y = map(to, values)
    out = np.zeros((8, n), x.dtype)
    wide, tests = np.zeros((2, n), np.float32), np.zeros(n, np.uint8)
    function("numbers", f"arithmetic_{kind}")(x, y, out, wide, tests, n, grid=(64,), threadgroup=(32,))
    a, b = back(x), back(y)

    def rounded(v):
        return back(to(v.astype(np.float32)))

    c = rounded(rounded(rounded(a + b) * a) - np.float32(1))
    want = [rounded(a + b), rounded(a - b), rounded(a * b), rounded(a / b), -a, c, rounded(rounded(a * b) + a),
            rounded(a * np.float32(1.1))]  # fmt: skip
    for row, value in zip(out, want, strict=True):
        np.testing.assert_array_equal(back(row), value)
    np.testing.assert_array_equal(wide, [a * np.float32(1.5) + b, a])
    bits = [a < b, a <= b, a == b, a != b, a > b, a >= b, a.astype(bool), ~a.astype(bool)]
    np.testing.assert_array_equal(tests, sum(np.asarray(t).astype(int) << k for k, t in enumerate(bits)))


def test_conversions(rng):
    bits = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    half_ties = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32) * (
        1 + 2.0**-11
    )
    x = np.concatenate([bits.view(np.float32), ties, half_ties.astype(np.float32)])
    n = x.size
    h, b, k = np.zeros(n, np.float16), np.zeros(n, np.uint16), np.zeros(n, np.int32)
    function("numbers", "convert")(x, h, b, k, n, grid=(64,), threadgroup=(32,))
    np.testing.assert_array_equal(h, x.astype(np.float16))
    np.testing.assert_array_equal(np.isnan(from_bfloat(b)), np.isnan(x))
    np.testing.assert_array_equal(b[~np.isnan(x)], to_bfloat(x)[~np.isnan(x)])
    np.testing.assert_array_equal(k, np.where(np.abs(x) < 1e6, x, 0).astype(np.int32))


def test_literals():
    out = np.zeros(24, np.float32)
    function("numbers", "literals")(out, grid=(1,), threadgroup=(1,))
    h = np.float16
    want = [0.1, h(1) / h(3), h(0.1), from_bfloat(to_bfloat(np.array([0.1], np.float32)))[0], 1.5, 1e-3, 3, 2.25, 2**24,
            4 + 20 + 400, 2.5, h(1) + h(1) / h(3), 9, 256, np.inf, 1, -9, 5, 1, 2.71875, 8 + 4, 20, 6, 1]  # fmt: skip
    np.testing.assert_array_equal(out, np.array(want, np.float32))


# ---- atomics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int", "uint"])
def test_integer_atomics(kind):
    dtype = np.int32 if kind == "int" else np.uint32
    n = 1000
    slots = np.array([5, 100_000, 0xFFFF, 0, 0, 500, 7, 0, 0, 1, 1], dtype)
    old = np.zeros(n, dtype)
    function("atomics", f"atomic_integers_{kind}")(slots, old, grid=(n,), threadgroup=(128,))
    xor = 0
    for i in range(n):
        xor ^= i
    assert slots.tolist() == [5 + n, 100_000 - 2 * n, 0, 0xFFFF, xor, 0, n - 1, n, 3 * n, 77, 5]
    np.testing.assert_array_equal(np.sort(old), np.arange(n))


def test_other_atomics():
    n = 512
    floats, longs = np.zeros(4, np.float32), np.array([0, 2**63], np.uint64)
    flags, generic = np.zeros(2, np.uint8), np.zeros(1, np.uint32)
    function("atomics", "atomic_others")(floats, longs, flags, generic, grid=(n,), threadgroup=(64,))
    assert floats.tolist() == [n / 2, -n / 4, n - 1, 2]
    assert longs.tolist() == [((n - 1) << 33) + n - 1, 5]
    assert flags.tolist() == [1, 1]
    assert generic[0] == n * (n - 1) // 2


def test_threadgroup_atomics(rng):
    keys = rng.integers(0, 256, 512, np.uint8)
    counts, total = np.zeros(17, np.uint32), np.zeros(1, np.float32)
    function("atomics", "atomic_shared")(keys, counts, total, grid=(512,), threadgroup=(512,))
    np.testing.assert_array_equal(counts[:16], np.bincount(keys & 15, minlength=16))
    assert counts[16] == keys.min() and total[0] == keys.sum()


# ---- matrices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float", "half"])
def test_matrices(kind, rng):
    """Numbers are small integers: every operation is exact. Matrices are stored by columns."""
    dtype = np.float32 if kind == "float" else np.float16

    def made(columns, rows):
        stored = np.zeros((columns, 4 if rows == 3 else rows), dtype)
        stored[:, :rows] = rng.integers(-4, 5, (columns, rows))
        return stored, stored[:, :rows].T.astype(np.float64)

    (a, m), (b, k), (c, r) = made(4, 4), made(3, 4), made(4, 3)
    out = np.zeros(320, dtype)
    function("matrix", f"matrices_{kind}")(a, b, c, out, grid=(1,), threadgroup=(1,))
    n = m.T
    z = ((m @ n) + m - n) * 0.5
    z[1, 2] = 7
    z[2, 3], z[3, 3] = z[3, 3], z[2, 3]
    z[:, 0] = 1, 2, 3, 4
    want = [m @ n, m @ k, r @ m, (m @ k[:, 1])[:, None], (k[:, 0] @ m)[:, None], m + n, m - n, -m, 2 * m, 0.5 * m,
            3 * np.eye(4), r.T, np.linalg.det(m)[None, None], np.linalg.det(m[:2, :2])[None, None], z,
            np.arange(1, 7).reshape(2, 3).T, np.array([[1, 3], [2, 4]]), np.array([[3]])]  # fmt: skip
    flat = np.concatenate([w.T.ravel() for w in want])
    np.testing.assert_allclose(out[: flat.size], flat.astype(dtype), rtol=1e-6 if kind == "float" else 2e-3, atol=1e-4)


def test_matrix_conversions(rng):
    a = rng.standard_normal((4, 4)).astype(np.float32)
    b, c, sizes = np.zeros((4, 4), np.float16), np.zeros((3, 4), np.float32), np.zeros(5, np.float32)
    function("matrix", "matrix_convert")(a, b, c, sizes, grid=(1,), threadgroup=(1,))
    np.testing.assert_array_equal(b, a.astype(np.float16))
    np.testing.assert_array_equal(c[:, :3], a.astype(np.float16).astype(np.float32)[:3, :3])
    assert sizes.tolist() == [64, 48, 12, 16, 4]
