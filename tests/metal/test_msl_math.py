"""The math, common, relational, geometric and integer libraries of MSL, against float64 and exact integers.

The errors stated here are those of docs/msl.md: in units of the last place of the result's type.
"""

from __future__ import annotations

import numpy as np
import pytest
from msl_features import compile_all, from_bfloat, function, listed, to_bfloat, ulps

UNARY, BINARY, TERNARY = (listed("math", name) for name in ("UNARY", "BINARY", "TERNARY"))
FLOAT, HALF, BFLOAT = (24, -149), (11, -24), (8, -133)

# Greatest error of float results; what is not listed is exact or correctly rounded (0.5).
ERRORS = {
    "acos": 1, "acosh": 2, "asin": 1, "asinh": 2, "atan": 1, "atan2": 1.5, "atanh": 2, "cos": 1, "cosh": 2, "cospi": 1,
    "exp": 1, "exp2": 1, "exp10": 1, "log": 1, "log2": 1, "log10": 2, "pow": 1, "powr": 1, "sin": 1, "sinh": 2,
    "sinpi": 1, "tan": 1.5, "tanh": 3, "tanpi": 1, "rsqrt": 0.501,
}  # fmt: skip
# Half and bfloat results are the float ones, rounded once more.
SMALL_ERROR = 0.51

with np.errstate(all="ignore"):
    SPECIAL = np.array(
        [0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 1e-45, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan],
        np.float32,
    )


def _of_pi(function):
    """function(pi x) with zeros and poles where they are exactly."""

    def of(x):
        n = np.rint(x)
        r, odd = x - n, 0.5 * n != np.rint(0.5 * n)
        if function is np.tan:
            return np.where(
                np.abs(r) == 0.5,
                np.copysign(np.inf, r),
                np.where(r == 0, np.where(odd, -0.0, 0.0) * x, np.tan(np.pi * r)),
            )
        value = np.where(r == 0, x * 0, np.sin(np.pi * r)) if function is np.sin else np.cos(np.pi * r)
        if function is np.cos:
            value = np.where(np.abs(r) == 0.5, 0, value)
        return np.where(odd & (value != 0), -value, value)

    return of


def _sign(x):
    return np.where(np.isnan(x), 0.0, np.where(x == 0, x, np.sign(x)))


def _fract(below_one):
    return lambda x: np.where(np.isnan(x), np.nan, np.fmin(x - np.floor(x), below_one))


REFERENCES = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atanh": np.arctanh, "ceil": np.ceil, "cos": np.cos, "cosh": np.cosh, "cospi": _of_pi(np.cos),
    "exp": np.exp, "exp2": np.exp2, "exp10": lambda x: np.power(10.0, x), "fabs": np.abs, "floor": np.floor,
    "fract": _fract(1 - 2.0**-24), "log": np.log,
    "log2": np.log2, "log10": np.log10, "rint": np.rint, "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "sinh": np.sinh, "sinpi": _of_pi(np.sin),
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh,
    "tanpi": _of_pi(np.tan), "trunc": np.trunc,
    "saturate": lambda x: np.where(np.isnan(x), 0, np.clip(x, 0, 1)), "sign": _sign, "abs": np.abs,
    "atan2": np.arctan2, "copysign": np.copysign, "divide": np.divide,
    "fdim": lambda x, y: np.where(np.isnan(x) | np.isnan(y), np.nan, np.where(x > y, x - y, 0)), "fmax": np.fmax,
    "fmin": np.fmin, "fmod": np.fmod, "pow": np.power, "powr": lambda x, y: np.where(x < 0, np.nan, np.power(x, y)),
    "step": lambda edge, x: np.where(x < edge, 0.0, 1.0), "max": np.fmax, "min": np.fmin,
    "clamp": lambda x, low, high: np.fmin(np.fmax(x, low), high),
    "fmax3": lambda x, y, z: np.fmax(x, np.fmax(y, z)), "fmin3": lambda x, y, z: np.fmin(x, np.fmin(y, z)),
    "max3": lambda x, y, z: np.fmax(x, np.fmax(y, z)), "min3": lambda x, y, z: np.fmin(x, np.fmin(y, z)),
    "median3": lambda x, y, z: np.median([x, y, z], axis=0), "fmedian3": lambda x, y, z: np.median([x, y, z], axis=0),
    "fma": None, "mix": None, "smoothstep": None,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    if len(request.session.items) > 20:
        compile_all(("math", "integer"))


@pytest.fixture(autouse=True)
def overflow_is_meant():
    with np.errstate(all="ignore"):
        yield


def run(kernel: str, name: str, arguments: list[np.ndarray], file: str = "math") -> np.ndarray:
    """One operation over whole arrays; vector kernels get them as rows."""
    lists = [UNARY, BINARY, TERNARY]
    if file == "integer":
        lists = [listed("integer", f"INTEGER{k}") for k in (1, 2, 3)]
    op = lists[len(arguments) - 1].index(name)
    out = np.zeros_like(arguments[0])
    width = int(kernel[-1]) if kernel[-1] in "234" else 1
    stored = {3: 4}.get(width, width)
    count = out.size // stored
    job = np.array([count, len(arguments), op], np.uint32).tobytes()
    padded = [*arguments, *[arguments[0]] * (3 - len(arguments))]
    function(file, kernel)(*padded, out, job, grid=(64,), threadgroup=(32,))
    return out


def float_grid(step: int = 8191) -> np.ndarray:
    """Every step-th bit pattern of float, and special values."""
    bits = np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([bits.view(np.float32), SPECIAL, np.zeros(-(bits.size + SPECIAL.size) % 4, np.float32)])


def inputs(name: str) -> np.ndarray:
    """The grid of bit patterns, and a dense one where the function has most of its results."""
    near = np.linspace(-1, 1, 100_000) if name in ("acos", "asin", "atanh") else np.linspace(-100, 100, 200_000)
    return np.concatenate([float_grid(), near.astype(np.float32)])


@pytest.mark.parametrize("kernel", ["math_float", "math_fast", "math_precise"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_float(name, kernel):
    x = inputs(name)
    got = run(kernel, name, [x])
    want = REFERENCES[name](x.astype(np.float64))
    exact = want.astype(np.float32)
    overflow = np.isinf(exact) & np.isinf(got)
    error = np.where(overflow, 0, ulps(got, want, *FLOAT))
    assert error.max() <= ERRORS.get(name, 0.5), (name, x[error.argmax()], got[error.argmax()], want[error.argmax()])
    zero = (want == 0) & (got == 0)
    if name != "saturate":
        assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("name", UNARY)
def test_unary_every_half(name):
    x = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    got = run("math_half", name, [x])
    want = REFERENCES[name](x.astype(np.float64))
    if name == "fract":
        want = _fract(1 - 2.0**-11)(x.astype(np.float64))
    overflow = np.isinf(got) & (np.abs(want) > 65504) & (np.sign(got) == np.sign(want))
    error = np.where(overflow, 0, ulps(got, want, *HALF))
    assert error.max() <= SMALL_ERROR, (name, x[error.argmax()], got[error.argmax()], want[error.argmax()])
    np.testing.assert_array_equal(run("math_half4", name, [x]), got)


@pytest.mark.parametrize("name", UNARY)
def test_unary_every_bfloat(name):
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    x = from_bfloat(bits)
    got = from_bfloat(run("math_bfloat", name, [bits]))
    want = REFERENCES[name](x.astype(np.float64))
    if name == "fract":
        want = _fract(1 - 2.0**-8)(x.astype(np.float64))
    overflow = np.isinf(got) & (np.abs(want) > 3.38e38) & (np.sign(got) == np.sign(want))
    error = np.where(overflow, 0, ulps(got, want, *BFLOAT))
    assert error.max() <= SMALL_ERROR, (name, x[error.argmax()], got[error.argmax()], want[error.argmax()])


def pairs(n: int, scale: float, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    random = [(rng.standard_normal(n) * scale ** rng.uniform(-1, 1, n)).astype(np.float32) for _ in range(3)]
    grids = np.meshgrid(SPECIAL, SPECIAL, SPECIAL)
    both = [np.concatenate([r, g.ravel()]) for r, g in zip(random, grids, strict=True)]
    return [np.concatenate([b, np.ones(-b.size % 4, np.float32)]) for b in both]


@pytest.mark.parametrize("kernel", ["math_float", "math_fast", "math_precise"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_float(name, kernel):
    x, y, _ = pairs(100_000, 30.0, 1)
    if name in ("pow", "powr"):
        x[:90_000] = np.abs(x[:90_000])
    got = run(kernel, name, [x, y])
    want = REFERENCES[name](x.astype(np.float64), y.astype(np.float64))
    overflow = np.isinf(got) & np.isinf(want.astype(np.float32)) & (np.sign(got) == np.sign(want))
    error = np.where(overflow, 0, ulps(got, want, *FLOAT))
    if name == "powr":  # undefined for these
        error[(x == 0) & (y == 0) | np.isinf(x) & (y == 0) | (x == 1) & ~np.isfinite(y) | np.isnan(x)] = 0
    at = error.argmax()
    assert error.max() <= ERRORS.get(name, 0.5), (name, x[at], y[at], got[at], want[at])


@pytest.mark.parametrize("name", BINARY)
def test_binary_small(name):
    x, y, _ = (a.astype(np.float16) for a in pairs(40_000, 5.0, 2))
    if name in ("pow", "powr"):
        x = np.abs(x)
    for kernel, a, b in (
        ("math_half", x, y),
        ("math_bfloat", to_bfloat(x.astype(np.float32)), to_bfloat(y.astype(np.float32))),
    ):
        half = kernel == "math_half"
        got = run(kernel, name, [a, b])
        value, p, q = (v.astype(np.float64) if half else from_bfloat(v).astype(np.float64) for v in (got, a, b))
        want = REFERENCES[name](p, q)
        overflow = np.isinf(value) & (np.abs(want) > (65504 if half else 3.38e38))
        error = np.where(overflow, 0, ulps(value, want, *(HALF if half else BFLOAT)))
        if name == "powr":
            error[(p == 0) & (q == 0) | np.isinf(p) & (q == 0) | (p == 1) & ~np.isfinite(q) | np.isnan(p)] = 0
        at = error.argmax()
        assert error.max() <= SMALL_ERROR, (name, kernel, p[at], q[at], value[at], want[at])


@pytest.mark.parametrize("kernel", ["math_float", "math_fast", "math_precise", "math_half"])
@pytest.mark.parametrize("name", TERNARY)
def test_ternary(name, kernel):
    half = kernel == "math_half"
    x, y, z = (a.astype(np.float16 if half else np.float32) for a in pairs(100_000, 5.0, 3))
    if name not in ("fma", "fmax3", "fmin3", "max3", "min3"):
        ok = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
        x, y, z = (np.ascontiguousarray(a[ok][: ok.sum() // 4 * 4]) for a in (x, y, z))
    if name in ("clamp", "smoothstep"):  # x, low, high and low, high, x
        low, high = (y, z) if name == "clamp" else (x, y)
        low[:], high[:] = np.minimum(low, high), np.maximum(low, high)
        if name == "smoothstep":
            high[:] = np.where(low == high, np.abs(high) + 1, high)
            keep = np.abs(high.astype(np.float64)) < 1e4
            x, y, z = (np.ascontiguousarray(a[keep][: keep.sum() // 4 * 4]) for a in (x, y, z))
    got = run(kernel, name, [x, y, z]).astype(np.float64)
    a, b, c = (v.astype(np.float64) for v in (x, y, z))
    fmt = HALF if half else FLOAT
    if name == "fma":
        # float64 rounds the sum once: half an ulp of float64 more than exact, far below one of float.
        want, bound = a * b + c, 0.5001
        overflow = np.isinf(got) & (np.abs(want) > (65504 if half else 3.4028235e38))
        error = np.where(overflow, 0, ulps(got, want, *fmt))
    elif name == "mix":
        want = a + (b - a) * c
        # three roundings, each relative to an intermediate result
        size = np.abs(a) + np.abs((b - a) * c)
        big = size > (60000 if half else 3e38)
        error, bound = np.where(big, 0, np.abs(got - want) / np.maximum(size * 2.0 ** -fmt[0], 2.0 ** fmt[1])), 3
    elif name == "smoothstep":
        t = np.clip((c - a) / (b - a), 0, 1)
        want = t * t * (3 - 2 * t)
        error, bound = np.abs(got - want) / 2.0 ** -fmt[0], 8
    else:
        want, bound = REFERENCES[name](a, b, c), 0
        error = ulps(got, want, *fmt)
    at = error.argmax()
    assert error.max() <= bound, (name, x[at], y[at], z[at], got[at], want[at])


@pytest.mark.parametrize("name", [*UNARY, *BINARY, *TERNARY])
def test_vectors_are_scalars(name):
    """Every function on float2 and float3 gives bit for bit what it gives on the components."""
    n = 1 if name in UNARY else 2 if name in BINARY else 3
    args = [a[:4000] for a in pairs(4000, 10.0, 4)][:n]
    want = run("math_float", name, args)
    for kernel in ("math_float2", "math_float3"):
        got = run(kernel, name, args)
        a, b = (v.reshape(-1, 4)[:, : 3 if kernel.endswith("3") else 4] for v in (got, want))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kernel", ["math_others_float", "math_others_half"])
def test_two_results_and_tests(kernel):
    x = np.concatenate([SPECIAL, np.linspace(-5, 5, 47, dtype=np.float32)])
    y = np.roll(x, 3)
    if kernel.endswith("half"):
        x, y = x.astype(np.float16), y.astype(np.float16)
    out = np.zeros((x.size, 20), np.float32)
    function("math", kernel)(x, y, out, grid=(x.size,), threadgroup=(32,))
    a, b = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(a)
    m, e = np.frexp(a)
    np.testing.assert_array_equal(out[finite, 0], m[finite])
    np.testing.assert_array_equal(out[finite, 1], e[finite])
    np.testing.assert_array_equal(out[finite, 2], np.modf(a)[0][finite].astype(np.float32))
    np.testing.assert_array_equal(out[finite, 3], np.trunc(a)[finite].astype(np.float32))
    tolerance = 2.0**-10 if kernel.endswith("half") else 2.0**-23
    np.testing.assert_allclose(out[:, 4], np.sin(a), rtol=tolerance, atol=1e-7)
    np.testing.assert_allclose(out[:, 5], np.cos(a), rtol=tolerance, atol=tolerance / 8)
    np.testing.assert_array_equal(out[:, 6], (x * x.dtype.type(8)).astype(np.float32))
    ordinary = finite & (a != 0)
    np.testing.assert_array_equal(out[ordinary, 7], e[ordinary] - 1)
    tiny = np.finfo(x.dtype).tiny
    for column, want in (
        (8, finite), (9, np.isinf(a)), (10, np.isnan(a)), (11, finite & (np.abs(a) >= tiny)), (12, np.signbit(a)),
        (13, ~(np.isnan(a) | np.isnan(b))), (14, np.isnan(a) | np.isnan(b)), (15, np.where(a < b, b, a)),
        (16, (np.isnan(a) | np.isnan(b)) + 2 * (np.isnan(a) & np.isnan(b))), (17, np.where(a < b, b, a)),
        (18, ~finite | ~np.isfinite(b)),
    ):  # fmt: skip
        np.testing.assert_array_equal(out[:, column], np.asarray(want).astype(np.float32), err_msg=str(column))
    both = np.isfinite(b)
    np.testing.assert_array_equal(out[both, 19], b[both].astype(np.float32))


def test_mixed_scalars_vectors_and_constants():
    out = np.zeros(64, np.float32)
    function("math", "math_mixed")(out, grid=(1,), threadgroup=(1,))
    v = np.array([-1, 0.25, 0.5, 2])
    want = [np.maximum(v, 0), np.minimum(v, 1), np.clip(v, 0, 1), v + (1 - v) * 0.5, v * v, np.maximum(v, 0.5),
            v >= 0.3, np.where(v > 0.4, 9, v)]  # fmt: skip
    np.testing.assert_array_equal(out[:32].reshape(8, 4), np.array(want, np.float32))
    f32, f16 = np.finfo(np.float32), np.finfo(np.float16)
    np.testing.assert_array_equal(
        out[32:47],
        np.array([np.pi, np.inf, f32.max, np.inf, np.float16(np.e), np.sqrt(2), f32.eps, 65504, 1, f16.min, np.inf,
                  2**31, 2.0**-7, np.nextafter(np.float32(1), np.float32(2)), 1 + 2.0**-10], np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float", "half"])
def test_geometry(dtype, rng):
    np_dtype = np.float32 if dtype == "float" else np.float16
    n = 200
    x, y = (np.zeros((n, 4), np_dtype) for _ in range(2))
    x[:, :3], y[:, :3] = rng.standard_normal((n, 3)), rng.standard_normal((n, 3))
    out = np.zeros((n, 24), np.float32)
    function("math", f"geometry_{dtype}")(x, y, out, grid=(n,), threadgroup=(32,))
    a, b = x[:, :3].astype(np.float64), y[:, :3].astype(np.float64)
    dot = (a * b).sum(1)
    length = np.sqrt((a * a).sum(1))
    unit_a, unit_b = a / length[:, None], b / np.sqrt((b * b).sum(1))[:, None]
    eps = np.finfo(np_dtype).eps
    size = (np.abs(a) * np.abs(b)).sum(1)
    assert (np.abs(out[:, 0] - dot) <= 2 * eps * size + eps**2).all()
    for column, want in ((1, length), (2, length**2), (3, np.sqrt(((a - b) ** 2).sum(1))), (4, ((a - b) ** 2).sum(1)),
                         (21, np.sqrt(length**2 + b[:, 0] ** 2)), (22, length)):  # fmt: skip
        np.testing.assert_allclose(out[:, column], want, rtol=6 * eps, atol=eps)
    eta = float(np_dtype(0.7))
    cosine = (unit_a * unit_b).sum(1)
    k = 1 - eta**2 * (1 - cosine**2)
    refracted = np.where(k[:, None] < 0, 0, eta * unit_a - unit_b * (eta * cosine + np.sqrt(np.maximum(k, 0)))[:, None])
    wants = (np.cross(a, b), unit_a, a - 2 * unit_b * (a * unit_b).sum(1)[:, None],
             np.where((b * b).sum(1)[:, None] < 0, a, -a), refracted)  # fmt: skip
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))[:, None] + length[:, None] + 1
    for part, want in enumerate(wants):
        got = out[:, 5 + 3 * part : 8 + 3 * part]
        near_edge = (np.abs(k) < 64 * eps)[:, None] if part == 4 else False
        assert ((np.abs(got - want) <= 12 * eps * scale) | near_edge).all(), part
    np.testing.assert_allclose(out[:, 20], (a[:, :2] * b[:, :2]).sum(1), atol=4 * eps * scale.max())
    np.testing.assert_allclose(out[:, 23], unit_a[:, 0], atol=1e-6)


# ---- integers -------------------------------------------------------------------------------------------------------

INTEGERS = {"char": np.int8, "uchar": np.uint8, "short": np.int16, "ushort": np.uint16, "int": np.int32,
            "uint": np.uint32, "long": np.int64, "ulong": np.uint64}  # fmt: skip


def _wrap(v: int, dtype) -> int:
    bits = np.iinfo(dtype).bits
    v &= (1 << bits) - 1
    return v - (1 << bits) if np.iinfo(dtype).min < 0 and v >> (bits - 1) else v


def _saturate(v: int, dtype) -> int:
    return max(np.iinfo(dtype).min, min(np.iinfo(dtype).max, v))


def integer_reference(name: str, dtype, *args: int) -> int:
    bits = np.iinfo(dtype).bits
    mask = (1 << bits) - 1
    x, y, z = (*args, 0, 0)[:3]
    rotated = y & (bits - 1)
    value = {
        "abs": lambda: abs(x), "clz": lambda: bits - (x & mask).bit_length(),
        "ctz": lambda: bits if x == 0 else ((x & -x) & mask).bit_length() - 1, 
        "popcount": lambda: (x & mask).bit_count(),
        "reverse_bits": lambda: int(f"{x & mask:0{bits}b}"[::-1], 2), "absdiff": lambda: abs(x - y),
        "addsat": lambda: _saturate(x + y, dtype), "subsat": lambda: _saturate(x - y, dtype),
        "hadd": lambda: (x + y) >> 1,
        "rhadd": lambda: (x + y + 1) >> 1, "mulhi": lambda: (x * y) >> bits,
        "rotate": lambda: (x & mask) << rotated | (x & mask) >> (bits - rotated), "max": lambda: max(x, y),
        "min": lambda: min(x, y), "clamp": lambda: min(max(x, y), z), "madhi": lambda: ((x * y) >> bits) + z,
        "madsat": lambda: _saturate(x * y + z, dtype), "max3": lambda: max(x, y, z), "min3": lambda: min(x, y, z),
        "median3": lambda: sorted((x, y, z))[1],
    }[name]()  # fmt: skip
    return _wrap(value, dtype)


@pytest.mark.parametrize("kind", [*INTEGERS, "int4", "ushort2"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_integers(kind, count, rng):
    dtype = INTEGERS[kind.rstrip("24")]
    limits = np.iinfo(dtype)
    edges = np.array([limits.min, limits.max, limits.max - 1, 0, 1, limits.max // 3], dtype)
    grids = np.meshgrid(*[edges] * count)
    args = [np.concatenate([rng.integers(limits.min, limits.max, 80, dtype, endpoint=True), g.ravel()]) for g in grids]
    args = [np.ascontiguousarray(a[: a.size // 4 * 4]) for a in args]
    for name in listed("integer", f"INTEGER{count}"):
        if name == "clamp":
            args[1], args[2] = np.minimum(args[1], args[2]), np.maximum(args[1], args[2])
        got = run(f"integer_{kind}", name, args, "integer")
        want = [integer_reference(name, dtype, *map(int, row)) for row in zip(*args, strict=True)]
        np.testing.assert_array_equal(got, np.array(want, dtype), err_msg=name)


def test_integer_others(rng):
    n = 64
    u, s = rng.integers(0, 2**32, n, np.uint32), rng.integers(-(2**31), 2**31, n, np.int32)
    out = np.zeros((n, 16), np.uint32)
    function("integer", "integer_others")(u, s, out, grid=(n,), threadgroup=(32,))
    m = 0xFFFFFFFF
    for i in range(n):
        a, b = int(u[i]), int(s[i])
        quotient = abs(b) // 3 * (1 if b >= 0 else -1)
        narrow = _wrap(b, np.int8)
        field = (b >> 5) & 0x7F
        low_pair = (a, a >> 1)
        byte = a & 255 or 256
        trailing = (byte & -byte).bit_length() - 1
        want = [
            (a >> 5) & 0x7F, (field - 128 if field & 64 else field) & m, (a & ~(0x1FF << 4)) | ((b & 0x1FF) << 4),
            (a & 0xFFFFFF) * 77 & m, (a & 0xFFFF) * 77 + 5, (b * b >> 32) & m, abs(b - 1000), (a >> 1 >> 3) & 15,
            int(any(v > 2**31 for v in low_pair)) | int(all(v > 16 for v in low_pair)) << 1, 3 if b < 0 else a,
            2 if low_pair[1] > 100 else low_pair[1], ((a << 3) & m) ^ (a >> 5) | a % 7,
            ((narrow & m) + (b & 0xFFFF)) & m, ((quotient & m) ^ ((b - 3 * quotient) & m) ^ ((b >> 4) & m)),
            2 * a.bit_count(), (16 - (a & 0xFFFF).bit_length()) << 8 | trailing,
        ]  # fmt: skip
        assert out[i].tolist() == want, (i, a, b)
