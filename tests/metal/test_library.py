"""ml.metal: libraries, functions and what may be passed to them; kernels from a body."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import metallic as ml
from metallic import metal

ml_dtypes = pytest.importorskip("ml_dtypes")

SOURCE = """
#include <metal_stdlib>
using namespace metal;
constant float factor [[function_constant(0)]];
constant bool negate [[function_constant(1)]];
struct Params { float scale; int add; };

kernel void affine(device const float *x, device float *out, constant Params &p, uint i [[thread_position_in_grid]]) {
    out[i] = p.scale * x[i] + float(p.add);
}
kernel void scaled(device float *x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    x[i] *= negate ? -factor : factor;
}
template <typename T>
kernel void add(device const T *a, device T *b, constant int &n, constant T &c, uint i [[thread_position_in_grid]]) {
    if (int(i) < n) b[i] = T(float(a[i]) + float(b[i]) + float(c));
}
template [[host_name("add_f32")]] kernel void add<float>(device const float *, device float *, constant int &, constant float &, uint);
template [[host_name("add_f16")]] kernel void add<half>(device const half *, device half *, constant int &, constant half &, uint);
template [[host_name("add_bf16")]] kernel void add<bfloat>(device const bfloat *, device bfloat *, constant int &, constant bfloat &, uint);
template [[host_name("add_u32")]] kernel void add<uint>(device const uint *, device uint *, constant int &, constant uint &, uint);
kernel void shared_sum(device const float *x, device float *out, threadgroup float *t [[threadgroup(0)]],
                       uint i [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
    t[i] = x[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i == 0) { float s = 0; for (uint k = 0; k < n; k++) s += t[k]; out[0] = s; }
}
kernel void beyond(device float *x, uint i [[thread_position_in_grid]]) { x[i + 1] = 1; }
kernel void groups(device uint *out, uint3 g [[threadgroup_position_in_grid]], uint3 n [[threadgroups_per_grid]],
                   uint3 t [[thread_position_in_threadgroup]]) {
    if (all(t == 0)) out[(g.z * n.y + g.y) * n.x + g.x] = g.x + 10 * g.y + 100 * g.z;
}
kernel [[max_total_threads_per_threadgroup(64)]] void small(device float *x) { x[0] = 1; }
"""  # noqa: E501


@pytest.fixture(scope="module")
def library():
    return metal.Library(SOURCE)


def test_names_and_properties(library):
    assert library.function_names == [
        "affine", "scaled", "add_f32", "add_f16", "add_bf16", "add_u32", "shared_sum", "beyond", "groups", "small",
    ]  # fmt: skip
    small = library.function("small")
    assert (small.max_total_threads_per_threadgroup, small.thread_execution_width) == (64, 32)
    assert "small" in repr(library) and "0: float x" in repr(small)


def test_struct_as_bytes(library):
    x, out = np.arange(7, dtype=np.float32), np.zeros(7, np.float32)
    params = np.array([(2.0, 3)], dtype=[("scale", "f4"), ("add", "i4")]).tobytes()
    library.function("affine")(x, out, params, grid=(7,), threadgroup=(4,))
    np.testing.assert_array_equal(out, 2 * x + 3)
    with pytest.raises(ValueError, match=r"affine: p \(buffer 2\): 4 bytes, but a Params has 8"):
        library.function("affine")(x, out, b"1234", grid=(7,), threadgroup=(4,))
    with pytest.raises(TypeError, match="give its bytes"):
        library.function("affine")(x, out, 1.0, grid=(7,), threadgroup=(4,))


def test_function_constants_of_one_function_at_the_same_time(library):
    doubled = library.function("scaled", {0: 2.0, 1: False})
    negated = library.function("scaled", {"factor": 3, "negate": True})
    a, b = np.ones(4096, np.float32), np.ones(4096, np.float32)
    threads = [
        threading.Thread(target=lambda f=f, x=x: [f(x, grid=(4096,), threadgroup=(64,)) for _ in range(5)])
        for f, x in ((doubled, a), (negated, b))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (a == 2.0**5).all() and (b == (-3.0) ** 5).all()
    with pytest.raises(ValueError, match="factor"):
        library.function("scaled", {1: True})
    with pytest.raises(ValueError, match="no function constant 'facto'; there are factor, negate"):
        library.function("scaled", {"facto": 1.0})


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [("f32", np.float32), ("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("u32", np.uint32)],
)
@pytest.mark.parametrize("kind", ["numpy", "tensor", "strided", "reversed", "memoryview"])
def test_what_may_be_a_buffer(library, suffix, dtype, kind):
    a, b = np.arange(24).astype(dtype), (3 * np.arange(24)).astype(dtype)
    given, target = a, b
    if kind == "tensor":
        if dtype is np.uint32:
            pytest.skip("tensors have no uint32")
        given, target = ml.array(a), ml.array(b)
    elif kind == "strided":
        wide = np.zeros((24, 3), dtype)
        wide[:, 1] = b
        target = wide[:, 1]
    elif kind == "reversed":
        given = a[::-1]
    elif kind == "memoryview":
        if suffix == "bf16":
            pytest.skip("the buffer protocol has no bfloat16")
        given, target = memoryview(a), memoryview(b)
    expected = (np.asarray(given).astype(float) + np.asarray(target).astype(float) + 2).astype(dtype)
    expected[20:] = np.asarray(target)[20:]
    library.function(f"add_{suffix}")(given, target, 20, 2, grid=(24,), threadgroup=(8,))
    np.testing.assert_array_equal(np.asarray(target).astype(float), expected.astype(float))


def test_threadgroup_memory_and_groups(library):
    x, out = np.arange(64, dtype=np.float32), np.zeros(1, np.float32)
    library.function("shared_sum")(x, out, grid=(64,), threadgroup=(64,), threadgroup_memory={0: 256})
    assert out[0] == x.sum()
    with pytest.raises(ml.CheckError, match="needs 65536 bytes of threadgroup memory"):
        library.function("shared_sum")(x, out, grid=(64,), threadgroup=(64,), threadgroup_memory={0: 1 << 16})
    order = np.zeros((2, 3, 4), np.uint32)
    library.function("groups")(order, grid=(4, 3, 2), threadgroup=(2, 2), threads=False)
    assert order[1, 2, 3] == 123 and order[0, 1, 2] == 12


def test_read_only_memory_is_not_written(library):
    x = np.ones(8, np.float32)
    x.flags.writeable = False
    library.function("scaled", {0: 2.0, 1: False})(x, grid=(8,), threadgroup=(8,))
    assert (x == 1).all()
    t = ml.asarray(x)
    library.function("scaled", {0: 2.0, 1: False})(t, grid=(8,), threadgroup=(8,))
    assert (x == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f, x: f(x, grid=(1,), threadgroup=(1,)), TypeError, "no value for b, n, c"),
        (lambda f, x: f(x, x, 1, 1.0, 2, grid=(1,), threadgroup=(1,)), TypeError, "5 buffers given"),
        (lambda f, x: f(x.astype(float), x, 1, 1.0, grid=(1,), threadgroup=(1,)), ml.DTypeError, "float64 for float"),
        (lambda f, x: f(x, x, 1.5, 1.0, grid=(1,), threadgroup=(1,)), TypeError, "not a whole number"),
        (lambda f, x: f(x, x, 1 << 40, 1.0, grid=(1,), threadgroup=(1,)), ValueError, "does not fit into int"),
        (lambda f, x: f(x, "text", 1, 1.0, grid=(1,), threadgroup=(1,)), TypeError, "neither an array"),
        (lambda f, x: f(x, x, 1, 1.0, grid=(0,), threadgroup=(1,)), ValueError, "grid"),
        (lambda f, x: f(x, x, 1, 1.0, grid=(1, 1, 1, 1), threadgroup=(1,)), ValueError, "grid"),
        (lambda f, x: f(x, x, 1, 1.0, grid=1.5, threadgroup=1), TypeError, "add_f32: grid 1.5 is not"),
        (lambda f, x: f(x, x, 1, 1.0, grid="1", threadgroup=1), TypeError, "add_f32: grid '1' is not"),
        (lambda f, x: f(x, x, 1, 1e300, grid=1, threadgroup=1), ValueError, "1e.300 does not fit into float"),
        (lambda f, x: f(x, x, 1, 1.0, grid=1, threadgroup=1, threadgroup_memory={0: -4}), ValueError, "{0: -4}"),
        (lambda f, x: f(x, x, 1, 1.0, grid=1, threadgroup=1, threadgroup_memory=64), TypeError, "memory 64 is no"),
        (lambda f, x: f(x, x, 1, 1.0, grid=(1,), threadgroup=(2048,)), ValueError, "1024"),
        (lambda f, x: f(x.astype(">f4"), x, 1, 1.0, grid=(1,), threadgroup=(1,)), ml.DTypeError, ">f4"),
    ],
)
def test_bad_arguments(library, call, error, text):
    with pytest.raises(error, match=text):
        call(library.function("add_f32"), np.ones(4, np.float32))


def test_extents_are_whole_numbers_of_any_kind(library):
    x = np.ones(4, np.float32)
    library.function("add_f32")(x, x, np.int64(4), np.float32(1), grid=np.int64(4), threadgroup=np.array([2]))
    assert (x == 3).all()


def test_arrays_for_bytes_are_viewed():
    function = metal.Library("kernel void k(device char *x) { x[3] = 0; }").function("k")
    x = np.ones(1, np.float32)
    with pytest.raises(ml.DTypeError, match=r"an array of float32 for char \(a view as int8"):
        function(x, grid=1, threadgroup=1)
    function(x.view(np.int8), grid=1, threadgroup=1)
    assert x.view(np.uint32)[0] == 0x00800000


@pytest.mark.parametrize(
    ("constants", "error", "text"),
    [
        ({0: "x"}, TypeError, "scaled: constant factor: 'x' is no number"),
        ({0: None}, TypeError, "scaled: constant factor: None is no number"),
        ({"nothing": 1}, ValueError, "no function constant 'nothing'; there are factor, negate"),
    ],
)
def test_bad_constants(library, constants, error, text):
    with pytest.raises(error, match=text):
        library.function("scaled", constants)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"include_dirs": "folder"}, TypeError),
        ({"macros": {"A B": "1"}}, ValueError),
        ({"macros": {"A": "1\n2"}}, ValueError),
        ({"macros": {"A": None}}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error, match=r"Library: .*(include_dirs|A)"):
        metal.Library("", **options)


def test_unknown_names_and_sources():
    with pytest.raises(ValueError, match="no kernel 'nothing' in program_source; there are a"):
        metal.Library("kernel void a(device int *x) { x[0] = 1; }").function("nothing")
    with pytest.raises(ml.CompileError, match=r"program_source:3:\d+: error.*undeclared"):
        metal.Library("\nkernel void a(device int *x) {\n x[0] = undeclared; }\n").function("a")
    with pytest.raises(ml.DeviceError, match="cpu"):
        metal.Library("", device="cpu")
    with pytest.raises(FileNotFoundError):
        import pathlib

        metal.Library(pathlib.Path("no-such.metal"))


@pytest.mark.parametrize(
    "index", ["9223372036854775808 / -1", "(0 - 9223372036854775807 - 1) / -1", "4611686018427387904 * 4", "3 % 0"]
)
def test_an_index_that_is_no_number(index):
    library = metal.Library(f"kernel void k(device int *x [[buffer({index})]]) {{ x[0] = 1; }}")
    with pytest.raises(ml.CompileError, match=r"program_source:1:.*the index of this parameter is no plain number"):
        library.function("k")


def test_macros_and_includes(tmp_path):
    (tmp_path / "value.h").write_text("constant int offset = 40;\n")
    (tmp_path / "k.metal").write_text('#include "value.h"\nkernel void k(device int *x) { x[0] = offset + TWO; }\n')
    x = np.zeros(1, np.int32)
    metal.Library(tmp_path / "k.metal", macros={"TWO": "2"}).function("k")(x, grid=(1,), threadgroup=(1,))
    assert x[0] == 42


def test_the_checker_raises(library):
    with metal._running(check=True):
        checked = metal.Library(SOURCE)
        x = np.zeros(8, np.float32)
        with pytest.raises(ml.CheckError, match="out-of-bounds") as caught:
            checked.function("beyond")(x, grid=(8,), threadgroup=(8,))
        (finding,) = caught.value.findings
        line = SOURCE[: SOURCE.index("x[i + 1] = 1")].count("\n") + 1
        assert (finding["kernel"], finding["line"], finding["variable"]) == ("beyond", line, "x")
        assert finding["file"] == "program_source"
        assert (finding["offset"], finding["length"], finding["severity"]) == (32, 32, "error")
        read_only = np.zeros(8, np.float32)
        read_only.flags.writeable = False
        with pytest.raises(ml.CheckError, match="read-only"):
            checked.function("scaled", {0: 2.0, 1: False})(read_only, grid=(8,), threadgroup=(8,))
        assert (read_only == 0).all()


# ---- metal_kernel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64])
def test_kernel_from_a_body(dtype):
    kernel = ml.metal_kernel(
        "scaled_copy", ["x", "s"], ["y"], "uint i = thread_position_in_grid.x; y[i] = T(float(x[i]) * s);"
    )
    x = np.arange(20).astype(dtype)
    T = {np.int64: ml.int32}.get(dtype, dtype)
    (y,) = kernel(
        inputs=[x, 2.0], template=[("T", np.dtype(T) if T is ml_dtypes.bfloat16 else T)], output_shapes=[(20,)],
        output_dtypes=[ml.int32 if dtype is np.int64 else dtype], grid=(20, 1, 1), threadgroup=(20, 1, 1),
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(y).astype(float), 2.0 * np.arange(20))


def test_strided_inputs_of_a_body():
    source = """
        uint i = thread_position_in_grid.x;
        int at = elem_to_loc(i, x_shape, x_strides, x_ndim);
        y[i] = x[at];
    """
    kernel = ml.metal_kernel("gather", ["x"], ["y"], source, ensure_row_contiguous=False)
    x = np.arange(60, dtype=np.float32).reshape(6, 10)[::2, 1::3]
    (y,) = kernel(
        inputs=[x], output_shapes=[x.shape], output_dtypes=[ml.float32], grid=(9, 1, 1), threadgroup=(9, 1, 1)
    )
    np.testing.assert_array_equal(np.asarray(y), x)
    copied = ml.metal_kernel("gather", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i];")
    (y,) = copied(
        inputs=[x.T], output_shapes=[(3, 3)], output_dtypes=[ml.float32], grid=(9, 1, 1), threadgroup=(9, 1, 1)
    )
    np.testing.assert_array_equal(np.asarray(y), x.T)


def test_initial_value_and_errors_of_a_body(capsys):
    kernel = ml.metal_kernel("some", ["x"], ["y"], "uint i = thread_position_in_grid.x; if (i < 2) y[i] = x[i];")
    given = {"output_shapes": [(4,)], "output_dtypes": [ml.float32], "grid": (4, 1, 1), "threadgroup": (4, 1, 1)}
    (y,) = kernel(inputs=[np.ones(9, np.float32)], init_value=7, verbose=True, **given)
    assert np.asarray(y).tolist() == [1, 1, 7, 7]
    assert "[[kernel]] void some(" in capsys.readouterr().out
    with pytest.raises(ValueError, match="2 inputs; it takes x"):
        kernel(inputs=[1.0, 2.0], **given)
    broken = ml.metal_kernel("broken", ["x"], ["y"], "int i = 0;\ny[i] = nothing;")
    with pytest.raises(ml.CompileError, match=r"broken:2:"):
        broken(inputs=[np.ones(9, np.float32)], **given)
