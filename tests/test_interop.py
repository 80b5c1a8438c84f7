"""Memory in and out: NumPy, ml_dtypes, PyTorch, memoryview, array.array, DLPack; who owns it and for how long."""

from __future__ import annotations

import array as stdlib_array
import gc
import re
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metallic as ml

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None
try:
    import torch
except ImportError:
    torch = None

needs_ml_dtypes = pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes is not installed")
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

PAIRS = [
    (np.float32, ml.float32), (np.float16, ml.float16), (np.int32, ml.int32), (np.uint8, ml.uint8),
    (np.bool_, ml.bool_),
]  # fmt: skip
PAIR_IDS = [np.dtype(a).name for a, _ in PAIRS]


def address(a) -> int:
    return np.asarray(a).__array_interface__["data"][0]


# ---- NumPy in


@pytest.mark.parametrize("np_dtype, dtype", PAIRS, ids=PAIR_IDS)
@pytest.mark.parametrize(
    "view",
    [lambda a: a, lambda a: a.T, lambda a: a[::-2, 1:], lambda a: a[:0], lambda a: a[1, 2], lambda a: a[None, :, None]]
)  # fmt: skip
def test_numpy_is_shared(np_dtype, dtype, view):
    base = np.arange(12).reshape(3, 4).astype(np_dtype)
    a = view(base)
    a = a if isinstance(a, np.ndarray) else base[1:2, 2].reshape(())
    for x in (ml.array(a), ml.asarray(a), ml.array(a, copy=False), ml.array(a, dtype=dtype), ml.from_dlpack(a)):
        assert x.dtype is dtype and x.shape == a.shape
        np.testing.assert_array_equal(np.asarray(x), a)
        if a.size:
            assert np.shares_memory(np.asarray(x), base)
    copied = ml.array(a, copy=True)
    assert not np.shares_memory(np.asarray(copied), base) and copied.tolist() == a.tolist()


def test_writes_show_on_both_sides():
    a = np.zeros((2, 3), np.float32)
    x = ml.array(a)
    a[0, 1] = 5
    assert x[0, 1].item() == 5
    x[1] = 2
    assert a[1].tolist() == [2, 2, 2]
    x += 1
    assert a[0, 1] == 6


@given(st.data())
def test_any_strides_come_in_unchanged(data):
    base = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    key = tuple(
        slice(data.draw(st.integers(0, n)), None, data.draw(st.sampled_from([1, 2, -1, -2]))) for n in base.shape
    )
    a = base[key].transpose(data.draw(st.permutations(range(3))))
    x = ml.array(a)
    np.testing.assert_array_equal(np.asarray(x), a)
    np.testing.assert_array_equal(np.asarray(x[::-1]), a[::-1])
    assert a.size == 0 or address(x) == address(a)


def test_odd_strides_on_axes_of_size_one():
    a = np.lib.stride_tricks.as_strided(np.arange(6, dtype=np.float32), (1, 3, 1), (7, 4, 13))
    x = ml.array(a, copy=False)
    assert x.tolist() == a.tolist()


def counted(call):
    """The bytes that the metrics call copied when call's result is used."""
    with ml.profile() as prof:
        result = call()
        ml.add(ml.zeros(1), 1)
    return result, sum(record["copied_bytes"] for record in prof.records)


NEEDS_COPY = {
    "float64": lambda: np.arange(6, dtype=np.float64).reshape(2, 3),
    "float64 strided": lambda: np.arange(24, dtype=np.float64).reshape(4, 6)[::-2, ::2],
    "int64": lambda: np.arange(-3, 3).astype(np.int64).reshape(2, 3),
    "swapped f4": lambda: np.arange(6, dtype=">f4").reshape(2, 3),
    "swapped f2": lambda: np.arange(6, dtype=">f2").reshape(2, 3).T,
    "swapped i4": lambda: np.arange(6, dtype=">i4").reshape(2, 3)[:, ::-1],
    "swapped f8": lambda: np.arange(6, dtype=">f8").reshape(2, 3),
    "swapped i8": lambda: np.arange(6, dtype=">i8").reshape(2, 3),
    "misaligned": lambda: (
        np.frombuffer(b"x" + np.arange(6, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    ),
    "odd strides": lambda: np.zeros(3, np.dtype([("tag", "u1"), ("value", "f4")]))["value"],
    "odd strides f2": lambda: np.ones((2, 3), np.dtype([("tag", "u1"), ("value", "f2")]))["value"],
}


@pytest.mark.parametrize("make", NEEDS_COPY.values(), ids=NEEDS_COPY.keys())
def test_what_cannot_be_shared_is_copied_once_and_counted(make):
    a = make()
    x, copied = counted(lambda: ml.array(a))
    assert x.dtype is {"f": ml.float16 if a.itemsize == 2 else ml.float32, "i": ml.int32}[a.dtype.kind]
    assert x.tolist() == a.tolist()
    assert copied == x.nbytes
    with pytest.raises(ValueError, match="copy"):
        ml.array(a, copy=False)
    total, copied = counted(lambda: ml.add(a, 1))
    assert copied == x.nbytes
    assert total.tolist() == (a + 1).tolist()


def test_sharing_counts_nothing():
    a = np.ones((64, 64), np.float32)
    _, copied = counted(lambda: ml.matmul(a.T[::-1, 3:], ml.array(a)[3:7].T, transpose_a=True))
    assert copied == 0


def test_int64_is_checked():
    limits = np.array([-(2**31), 2**31 - 1])
    assert ml.array(limits).tolist() == limits.tolist()
    for value in (2**31, -(2**31) - 1, 2**62):
        with pytest.raises(ml.DTypeError, match=str(value)):
            ml.array(np.array([0, value]))
        with pytest.raises(ml.DTypeError):
            ml.add(np.array([0, value]), 1)
    assert ml.array(np.array([2**40]), dtype=ml.float32).tolist() == [2.0**40]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(2, np.complex64), np.zeros(2, np.int16), np.zeros(2, np.uint32), np.zeros(2, "U3"),
        np.zeros(2, "M8[s]"),
        np.array([None]), "text", object(), None, [1, "a"], {1: 2}, 1j, np.zeros(2, [("a", "f4")]),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_array(wrong):
    with pytest.raises(ml.DTypeError):
        ml.array(wrong)
    with pytest.raises(TypeError):
        ml.matmul(wrong, np.ones((2, 2), np.float32))


@pytest.mark.parametrize("dtype", ["u2", "i1", "c8", "g", "O", "M8[s]", "f4,f4"])
def test_a_refused_dtype_is_named(dtype):
    x = np.zeros((2, 2), dtype)
    with pytest.raises(ml.DTypeError, match=re.escape(f"array: dtype {x.dtype} of numpy.ndarray is none of float32")):
        ml.array(x)
    with pytest.raises(ml.DTypeError, match=re.escape(f"b: dtype {x.dtype} of")):
        ml.matmul(np.ones((2, 2), np.float32), x)


def test_more_than_eight_dimensions():
    with pytest.raises(ValueError):
        ml.array(np.zeros((1,) * 9, np.float32))


# ---- lists and scalars


@pytest.mark.parametrize(
    "obj, dtype, value",
    [
        (3, ml.int32, 3), (3.5, ml.float32, 3.5), (True, ml.bool_, True), ([], ml.float32, []),
        ([[1, 2], [3, 4]], ml.int32, [[1, 2], [3, 4]]), ((1, 2.5), ml.float32, [1, 2.5]),
        ([True, False], ml.bool_, [True, False]),
        ([True, 2], ml.int32, [1, 2]), (np.float32(2), ml.float32, 2), (np.float64(2), ml.float32, 2),
        (np.int64(2), ml.int32, 2), ([np.ones(2), [1, 2]], ml.float32, [[1, 1], [1, 2]]),
        (np.float16(0.5), ml.float16, 0.5),
    ],
)  # fmt: skip
def test_lists_and_scalars(obj, dtype, value):
    x = ml.array(obj)
    assert x.dtype is dtype and x.tolist() == value
    x.fill(1)  # always writable
    assert ml.array(obj, dtype=ml.float16).tolist() == value
    with pytest.raises(ValueError, match="copy"):
        ml.array(obj, copy=False)
    assert counted(lambda: ml.array(obj))[1] == 0


def test_lists_that_make_no_array():
    with pytest.raises(ml.ShapeError):
        ml.array([[1, 2], [3]])
    with pytest.raises(ml.DTypeError):
        ml.array([2**31])
    with pytest.raises((ml.DTypeError, OverflowError)):
        ml.array([2**70])


# ---- other exporters


def test_bytes_memoryview_and_array_module():
    assert ml.array(b"\x01\x02").tolist() == [1, 2] and ml.array(b"\x01").dtype is ml.uint8
    with pytest.raises(ValueError, match="read-only"):
        ml.array(b"\x01")[0] = 2
    data = bytearray(b"\x01\x02\x03")
    x = ml.array(memoryview(data)[::2])
    x[1] = 9
    assert data == b"\x01\x02\x09"
    with pytest.raises(BufferError):
        data.append(1)  # exported
    del x
    data.append(1)
    for code, dtype in (("f", ml.float32), ("d", ml.float32), ("i", ml.int32), ("q", ml.int32), ("B", ml.uint8)):
        source = stdlib_array.array(code, [1, 2, 3])
        x = ml.array(source)
        assert x.dtype is dtype and x.tolist() == [1, 2, 3]
        source[0] = 7
        assert x.tolist()[0] == (7 if code in "fiB" else 1)


def test_a_buffer_of_unknown_format_counts_as_none():
    class Both:
        """Its buffer means nothing here, its DLPack does."""

        def __init__(self, a):
            self.a = a

        def __buffer__(self, flags):  # used from Python 3.12 on
            return memoryview(np.zeros(2, np.int16))

        def __dlpack__(self, **kwargs):
            return self.a.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.a.__dlpack_device__()

    assert ml.array(Both(np.arange(3, dtype=np.float32))).tolist() == [0, 1, 2]


def test_objects_that_know_only_array():
    class OnlyArray:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3, dtype=np.float32)

    assert ml.array(OnlyArray()).tolist() == [0, 1, 2]


# ---- NumPy out


@pytest.mark.parametrize("np_dtype, dtype", PAIRS, ids=PAIR_IDS)
def test_numpy_out_is_shared(np_dtype, dtype):
    x = ml.ones((3, 4), dtype)
    for view in (x, x.T, x[::-1, 1::2], x[0, 0], x[:0]):
        for a in (
            view.numpy(),
            np.asarray(view),
            np.array(view, copy=False),
            np.from_dlpack(view),
            view.numpy(copy=False),
        ):
            assert a.dtype == np_dtype and a.shape == view.shape
            assert view.size == 0 or np.shares_memory(a, np.asarray(x))
        assert view.size == 0 or not np.shares_memory(view.numpy(copy=True), np.asarray(x))
        assert view.size == 0 or not np.shares_memory(np.array(view), np.asarray(x))
    x.numpy()[1, 2] = 0
    assert x[1, 2].item() == 0
    assert np.asarray(x).strides == x.strides
    assert memoryview(x).format == np.dtype(np_dtype).char.replace("l", "i")


def test_array_protocol():
    x = ml.array([1.5, 2.5])
    assert x.__array__().dtype == np.float32
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert x.__array__(np.float64).tolist() == [1.5, 2.5]
    assert x.__array__(dtype=np.float32, copy=False).tolist() == [1.5, 2.5]
    with pytest.raises(ValueError, match="copy"):
        x.__array__(np.float64, copy=False)
    assert not np.shares_memory(x.__array__(copy=True), np.asarray(x))


def test_read_only_stays_read_only():
    a = np.ones((2, 2), np.float32)
    a.flags.writeable = False
    x = ml.array(a)
    for view in (x, x.T, x[0], x.reshape(4)):
        assert not view.numpy().flags.writeable
        assert memoryview(view).readonly
        assert not np.from_dlpack(view).flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 1
        with pytest.raises(ValueError, match="read-only"):
            view += 1
    with pytest.raises(ValueError, match="read-only"):
        ml.add(x, 1, out=x)
    with pytest.raises(BufferError):
        x.__dlpack__()  # DLPack below 1.0 cannot say read-only
    x.__dlpack__(copy=True)
    assert ml.array(a, copy=True).numpy().flags.writeable
    assert not ml.array(np.broadcast_to(np.float32(1), (3,))).numpy().flags.writeable


def test_buffer_requests():
    x = ml.ones((2, 3))
    assert memoryview(x).c_contiguous and memoryview(x.T).f_contiguous
    assert bytes(memoryview(x)) == np.ones((2, 3), np.float32).tobytes()
    with pytest.raises(BufferError):  # simple buffers are contiguous
        stdlib_array.array("f").frombytes(x.T)
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(ml.ones(2, ml.bfloat16))


# ---- bfloat16


@needs_ml_dtypes
def test_bfloat16_by_ml_dtypes():
    a = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    for source in (a, a.T, a[:, ::-1], a[0, 1:2].reshape(())):
        x = ml.array(source)
        assert x.dtype is ml.bfloat16 and x.tolist() == source.astype(np.float32).tolist()
        assert x.numpy().dtype == ml_dtypes.bfloat16
        assert np.shares_memory(x.numpy(), a) and np.shares_memory(np.asarray(x), a)
        assert x.numpy().tobytes() == source.tobytes()
    assert ml.add(a, 1).dtype is ml.bfloat16
    a.flags.writeable = False
    assert not ml.array(a).numpy().flags.writeable
    assert ml.array([1.5], dtype=ml.bfloat16).__array__(np.float32).tolist() == [1.5]


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    x = ml.ones(2, ml.bfloat16)
    with pytest.raises(ml.DTypeError, match="ml_dtypes"):
        x.numpy()
    assert x.tolist() == [1, 1] and "1., 1." in repr(x)


# ---- PyTorch


@needs_torch
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int32", "uint8", "bool"])
def test_torch_both_ways(name):
    source = torch.arange(6).reshape(2, 3).to(getattr(torch, name))
    for t in (source, source.T, source[:, 1:]):
        x = ml.array(t)
        assert x.dtype.name == name and x.shape == tuple(t.shape) and x.tolist() == t.tolist()
        back = torch.from_dlpack(x)
        assert back.dtype == t.dtype and back.data_ptr() == t.data_ptr() and back.stride() == t.stride()
    source[0, 0] = 1
    assert ml.asarray(source).tolist() == source.tolist()
    assert ml.matmul(torch.ones(2, 2), torch.ones(2, 2)).tolist() == [[2, 2], [2, 2]]
    owned = ml.ones((2, 2))
    torch.from_dlpack(owned)[0, 0] = 5
    assert owned[0, 0].item() == 5


@pytest.mark.parametrize("dtype", ["int16", "complex64"])
def test_dlpack_dtype_refused_of_a_producer_without_dtype(dtype):
    class Producer:
        def __dlpack__(self, **_):
            return np.ones(2, dtype).__dlpack__(max_version=(1, 0))

        def __dlpack_device__(self):
            return 1, 0

    with pytest.raises(ml.DTypeError, match="array: DLPack dtype"):
        ml.array(Producer())


@needs_torch
def test_torch_conversions_and_refusals():
    assert ml.array(torch.ones(2, dtype=torch.float64)).dtype is ml.float32
    assert ml.array(torch.ones(2, dtype=torch.int64)).dtype is ml.int32
    with pytest.raises(ValueError, match="copy"):
        ml.array(torch.ones(2, dtype=torch.float64), copy=False)
    with pytest.raises(ml.DTypeError):
        ml.array(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(BufferError, match="grad"):
        ml.array(torch.ones(2, requires_grad=True))


# ---- DLPack


def test_dlpack_keywords():
    x = ml.array(np.arange(3, dtype=np.float32))
    assert x.__dlpack_device__() == (1, 0)
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(x.__dlpack__()) and '"dltensor"' in repr(x.__dlpack__(max_version=(0, 8)))
    x.__dlpack__(stream=None, max_version=(1, 1), dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError):
        x.__dlpack__(stream=1)
    with pytest.raises(TypeError):
        x.__dlpack__(max_version=1)
    with pytest.raises(TypeError):
        x.__dlpack__(1)

    class Copy:
        def __dlpack__(self, *, max_version=None):
            return x.__dlpack__(copy=True)

        def __dlpack_device__(self):
            return (1, 0)

    y = ml.from_dlpack(Copy())
    y[0] = 7
    assert x.tolist() == [0, 1, 2] and y.tolist() == [7, 1, 2]


def test_dlpack_producers_that_are_old_or_wrong():
    x = ml.array(np.arange(3, dtype=np.float32))

    class Old:
        device = (1, 0)

        def __dlpack__(self):
            return x.__dlpack__()

        def __dlpack_device__(self):
            return self.device

    assert ml.from_dlpack(Old()).tolist() == [0, 1, 2]
    gpu = Old()
    gpu.device = (2, 0)
    with pytest.raises(ml.DeviceError):
        ml.from_dlpack(gpu)
    used = x.__dlpack__()

    class Used(Old):
        def __dlpack__(self):
            return used

    assert ml.from_dlpack(Used()).tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="capsule"):
        ml.from_dlpack(Used())
    with pytest.raises(TypeError):
        ml.from_dlpack([1, 2])

    class Fails(Old):
        def __dlpack__(self, **kwargs):
            raise RuntimeError("no export today")

    with pytest.raises(RuntimeError, match="no export today"):
        ml.array(Fails())


# ---- lifetime


class Watched(np.ndarray):
    """An array that can be referred to weakly."""


def watched(shape=(4, 4), dtype=np.float32) -> Watched:
    return np.ones(shape, dtype).view(Watched)


def test_memory_lives_as_long_as_the_last_view():
    a = watched()
    ref = weakref.ref(a)
    x = ml.array(a)
    view = x[1:, ::-1].T
    del a, x
    gc.collect()
    assert ref() is not None and view.tolist() == np.ones((4, 3)).tolist()
    out = view.numpy()
    del view
    gc.collect()
    assert ref() is not None and out.sum() == 12
    capsule = ml.array(out).__dlpack__()
    del out
    gc.collect()
    assert ref() is not None
    del capsule
    gc.collect()
    assert ref() is None


def test_results_outlive_their_sources():
    x = ml.array(np.ones((64, 64), np.float32)) @ np.ones((64, 64), np.float32)
    a = np.asarray(x)
    del x
    gc.collect()
    junk = [ml.zeros((64, 64)) for _ in range(8)]
    assert (a == 64).all() and len(junk) == 8


def test_operands_of_a_call_are_given_back():
    for dtype in (np.float32, np.float64):
        a, b, c = watched(dtype=dtype), watched(dtype=dtype), watched()
        refs = [weakref.ref(o) for o in (a, b, c)]
        counts = [sys.getrefcount(o) for o in (a, b, c)]
        for _ in range(5):
            assert ml.matmul(a, b, out=c) is c
            ml.add(a, b, out=c)
            ml.matmul(a, b, c=c, beta=1.0)
            with pytest.raises(ml.ShapeError):
                ml.matmul(a, b, out=watched((2, 2)))
        assert [sys.getrefcount(o) for o in (a, b, c)] == counts
        del a, b, c
        gc.collect()
        assert [r() for r in refs] == [None] * 3


def test_memory_released_without_the_gil_is_queued():
    """A thread that never holds the GIL lets go of the last reference: ctypes calls the DLPack deleter without it."""
    import ctypes

    a = watched()
    ref = weakref.ref(a)
    capsule = ml.array(a).__dlpack__()
    del a
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    set_name = ctypes.pythonapi.PyCapsule_SetName
    set_name.restype, set_name.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
    pointer = get(capsule, b"dltensor")
    used = ctypes.c_char_p(b"used_dltensor")
    assert set_name(capsule, used) == 0
    # DLManagedTensor: 48 bytes of DLTensor, manager_ctx, deleter
    deleter = ctypes.c_void_p.from_address(pointer + 56).value
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleter)  # CDLL semantics: the GIL is released around the call
    thread = threading.Thread(target=call, args=(pointer,))
    thread.start()
    thread.join()
    gc.collect()
    assert ref() is not None, "released without the GIL"
    ml.zeros(1)  # the next entry
    gc.collect()
    assert ref() is None


def loop(call, n):
    for _ in range(n):
        call()


def traced():
    """Bytes in use. CPython's cache of attribute look-ups keeps up to 4096 names alive, a few more with each call where
    NumPy makes them anew: emptied first."""
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache  # since 3.13, before
    clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def fails(error, call, *args):
    try:
        call(*args)
    except error:
        return
    raise AssertionError("no exception")


def in_prefs():
    with ml.prefs(matmul_backend="mlx", dispatch=["matmul", "softmax"]), ml.scope("label", layer=1):
        pass


LEAKS = {
    "array": lambda: ml.array(SOURCE),
    "array of float64": lambda: ml.array(WIDE),
    "list": lambda: ml.array([1.0, 2.0]),
    "numpy out": lambda: np.asarray(OWN),
    "dlpack": lambda: np.from_dlpack(ml.from_dlpack(SOURCE)),
    "unused capsule": lambda: OWN.__dlpack__(max_version=(1, 0)),
    "matmul": lambda: ml.matmul(SOURCE, OWN, out=OUT, beta=0.5, bias=WIDE[0]),
    "operators": lambda: (OWN + SOURCE) @ SOURCE - 1,
    "index": lambda: OWN[1:, None, ::-1].T,
    "assign": lambda: OUT.__setitem__((0, slice(None)), WIDE[0]),
    "errors": lambda: fails(ml.ShapeError, ml.matmul, SOURCE, np.ones((3, 3))),
    "bad import": lambda: fails(ml.DTypeError, ml.array, BAD),
    "context": lambda: ml.Context("cpu", matmul_backend="mlx").matmul(OWN, OWN),
    "prefs": lambda: in_prefs(),
    "repr": lambda: repr(OWN),
    "profile": lambda: ml.profile().__enter__().__exit__(None, None, None),
    "explain": lambda: ml.explain(ml.matmul, OWN, OWN),
}
SOURCE = np.ones((4, 4), np.float32)
WIDE = np.ones((4, 4))
BAD = np.zeros(2, np.complex64)
OWN, OUT = ml.ones((4, 4)), ml.zeros((4, 4))


@pytest.mark.parametrize("name", LEAKS)
def test_nothing_leaks(name):
    call, n = LEAKS[name], 500 if name in ("errors", "bad import", "context", "repr", "profile", "explain") else 10_000
    loop(call, 50)
    gc.collect()
    objects = (SOURCE, WIDE, OWN, OUT, BAD, ml.float32, ml.ShapeError)
    before = [sys.getrefcount(o) for o in objects]
    in_use = ml.default_context().memory_stats()["bytes_in_use"]
    grown = []
    tracemalloc.start()
    try:
        for _ in range(3):  # caches grow once, a leak grows every time
            start = traced()
            loop(call, n // 3)
            grown.append(traced() - start)
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(o) for o in objects] == before
    assert ml.default_context().memory_stats()["bytes_in_use"] == in_use
    assert min(grown) < 512, f"{grown} bytes after {n // 3} calls each"
