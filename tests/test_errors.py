"""What goes wrong raises the right exception, with the argument's name, shapes, dtypes and strides in its text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import metallic as ml


def test_the_family():
    for error in (
        ml.ShapeError,
        ml.DTypeError,
        ml.DeviceError,
        ml.UnsupportedError,
        ml.CompileError,
        ml.CheckError,
        ml.ResourceNotCached,
    ):
        assert issubclass(error, ml.MetallicError) and issubclass(error, RuntimeError)
        assert error.__module__ == "metallic" and error.__doc__
        copy = pickle.loads(pickle.dumps(error("text")))
        assert type(copy) is error and str(copy) == "text"
    assert issubclass(ml.ShapeError, ValueError) and issubclass(ml.DTypeError, TypeError)
    assert ml.CheckError("x").findings == [] and ml.CheckError("x", [{"a": 1}]).findings == [{"a": 1}]
    assert ml.CheckError("x").findings is not ml.CheckError("x").findings


A, B = np.ones((2, 3), np.float32), np.ones((4, 5), np.float16)


@pytest.mark.parametrize(
    "call, error, parts",
    [
        (lambda: ml.matmul(A, B), ml.ShapeError, ["a", "b", "[2, 3]", "[4, 5]"]),
        (lambda: ml.matmul(A.T[::-1], B), ml.ShapeError, ["[3, 2]", "[4, 5]"]),
        (lambda: ml.matmul(np.ones(3, np.int32), A.T), ml.DTypeError, ["a", "int32"]),
        (lambda: ml.matmul(A, np.ones((3, 2), np.uint8)), ml.DTypeError, ["b", "uint8"]),
        (lambda: ml.matmul(A, A.T, out=np.ones((2, 3), np.float32)), ml.ShapeError, ["out", "[2, 2]", "[2, 3]"]),
        (lambda: ml.matmul(A, A.T, out=np.ones((2, 2), np.float16)), ml.DTypeError, ["out", "float16", "float32"]),
        (lambda: ml.matmul(A, A.T, bias=np.ones(3, np.float32)), ml.ShapeError, ["bias", "[3]"]),
        (lambda: ml.matmul(A, A.T, c=np.ones((3, 3), np.float32), beta=1.0), ml.ShapeError, ["c", "[3, 3]"]),
        (lambda: ml.matmul(A, A.T, backend="fast"), ValueError, ["backend", "fast", "'mlx'", "'custom'"]),
        (lambda: ml.matmul(A, A.T, variant="x"), ValueError, ["variant", "'smalln'"]),
        (lambda: ml.matmul(A, A.T, activation="tanh"), ValueError, ["activation", "'gelu_tanh'"]),
        (lambda: ml.matmul(A, A.T, alpha="1"), TypeError, ["alpha"]),
        (lambda: ml.matmul(A, A.T, backend=1), TypeError, ["backend"]),
        (lambda: ml.matmul(A, A.T, ctx=1), TypeError, ["ctx"]),
        (lambda: ml.matmul(A, None), ml.DTypeError, ["b"]),
        (lambda: ml.matmul(A, "text"), ml.DTypeError, ["b", "str"]),
        (lambda: ml.matmul(A, [[1.0]]), ml.DTypeError, ["b", "list"]),
        (lambda: ml.addmm(None, A, A.T), ml.DTypeError, ["c"]),
        (lambda: ml.add(A, B), ml.ShapeError, ["[2, 3]", "[4, 5]"]),
        (lambda: ml.matmul_ragged(A, np.ones((1, 3, 2), np.float32), [3]), ml.ShapeError, ["row counts", "[2, 3]"]),
        (lambda: ml.matmul_ragged(A, np.ones((1, 3, 2), np.float32), [1.5]), TypeError, ["row_counts"]),
        (lambda: ml.matmul_ragged(A, np.ones((1, 3, 2), np.float32), 3), TypeError, ["row_counts"]),
        (lambda: ml.array(A).reshape(4), ml.ShapeError, ["reshape", "[2, 3]", "[4]", "strides"]),
        (lambda: ml.array(A).transpose(0, 0), ml.ShapeError, ["transpose", "0, 0"]),
        (lambda: ml.array(A).expand_dims(7), ml.ShapeError, ["axis 7"]),
        (lambda: ml.array(A).item(), ml.ShapeError, ["item", "[2, 3]"]),
        (lambda: ml.array(A)[5], IndexError, ["5", "axis 0", "size 2"]),
        (lambda: ml.Context("abacus"), ml.DeviceError, ["abacus"]),
        (lambda: ml.Context(no_such_preference=1), ValueError, ["no_such_preference"]),
        (lambda: ml.Context(1), TypeError, ["device"]),
        (lambda: ml.prefs(no_such_preference=1).__enter__(), ValueError, ["no_such_preference"]),
        (lambda: ml.explain(len, ()), ValueError, ["no operation"]),
        (lambda: ml.scope(3), TypeError, ["name"]),
        (lambda: ml.matmul_alpha_beta(A, A.T, None, False, False, 1.0, 0.0, cache=3), TypeError, ["cache"]),
    ],
)  # fmt: skip
def test_messages(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in {str(caught.value)!r}"


@pytest.mark.parametrize(
    "call",
    [
        lambda: ml.matmul(A), lambda: ml.matmul(), lambda: ml.matmul(A, A, A), lambda: ml.matmul(a=A, b=A),
        lambda: ml.matmul(A, A.T, no_such=1), lambda: ml.linear(A, A, weight=A), lambda: ml.add(A, 1, 2),
        lambda: ml.matmul_mlx(A, A.T, backend="mps"),
        lambda: ml.default_context().matmul(A, A.T, ctx=ml.default_context()),
        lambda: ml.array(), lambda: ml.array(A, None, "cpu"), lambda: ml.Context("cpu", "x"),
        lambda: ml.Context("cpu",
        device="cpu"), lambda: ml.prefs("x"), lambda: ml.ResourceCache(True), lambda: ml.set_num_threads("2"),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit_the_signature(call):
    with pytest.raises(TypeError):
        call()


def test_keywords_need_not_be_interned():
    keyword = "".join(["trans", "pose_b"])
    assert ml.matmul(A, A, **{keyword: True}).shape == (2, 2)


def test_a_failed_call_changes_nothing():
    out = ml.full((2, 2), 7)
    for kwargs in ({"bias": np.ones(5, np.float32)}, {"c": B}, {"backend": "none"}):
        with pytest.raises(ValueError):
            ml.matmul(A, A.T, out=out, beta=1.0, **kwargs)
    assert out.tolist() == [[7, 7], [7, 7]]


def test_strict_contexts_refuse_fallbacks():
    half = np.ones((64, 64), np.float16)
    assert ml.Context("cpu", matmul_backend="mps").matmul(half, half).shape == (64, 64)
    with pytest.raises(ml.UnsupportedError):
        ml.Context("cpu", strict=True, matmul_backend="mps").matmul(half, half)


def test_cached_only():
    cache = ml.ResourceCache(cached_only=True)
    out = ml.zeros((2, 2))
    with pytest.raises(ml.ResourceNotCached):
        ml.matmul_alpha_beta(A, A.T, out, False, False, 1.0, 0.0, cache=cache)
    assert out.tolist() == [[0, 0], [0, 0]] and cache.stats["misses"] >= 1


def test_context_managers_know_their_thread():
    import threading

    guard = ml.prefs(matmul_backend="mlx")
    with pytest.raises(RuntimeError):
        guard.__exit__(None, None, None)
    seen = []
    with guard:

        def other():
            for step in (guard.__enter__, lambda: guard.__exit__(None, None, None)):
                try:
                    step()
                except RuntimeError as error:
                    seen.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with guard:
            assert ml.explain(ml.matmul, A, A.T).backend == "mlx"
    assert len(seen) == 2


def test_errors_inside_blocks_close_them():
    before = ml.explain(ml.matmul, A, A.T).to_dict()
    with pytest.raises(ZeroDivisionError), ml.prefs(matmul_backend="mlx"), ml.scope("x"), ml.default_context().batch():
        raise ZeroDivisionError
    assert ml.explain(ml.matmul, A, A.T).to_dict() == before
    with pytest.raises(ZeroDivisionError):
        ml.explain(lambda: [ml.matmul(A, A.T), 1 / 0])
    with pytest.raises(ZeroDivisionError):
        ml.explain(lambda: 1 / 0)
    assert ml.matmul(A, A.T).tolist() == [[3, 3], [3, 3]]  # no longer explaining
    with ml.profile() as prof:
        ml.matmul(A, A.T)
    assert prof.records[0]["label"] == ""


@pytest.mark.parametrize(
    "name, call",
    [
        ("alpha", lambda x, n: ml.matmul(x, x, alpha=n)),
        ("beta", lambda x, n: ml.matmul(x, x, c=x, beta=n)),
        ("eps", lambda x, n: ml.rms_norm(x, eps=n)),
        ("scale", lambda x, n: ml.softmax(x, scale=n)),
        ("value", lambda x, n: x.fill(n)),
        ("value", lambda x, n: x.__setitem__(0, n)),
        ("b", lambda x, n: ml.add(x, n)),
        ("b", lambda x, n: x * n),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_beyond_a_float_names_the_argument(name, call, sign):
    with pytest.raises(OverflowError, match=rf"^{name}: an integer too large"):
        call(ml.ones((2, 2)), sign * 10**400)
