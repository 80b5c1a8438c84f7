"""Matmul selection against a second implementation, written from the design's description ("Dispatch") and not from the
C code: a table over shapes, devices and preferences; then the reasons, tuning and cost, fact by fact."""

from __future__ import annotations

import itertools
import random

import pytest

from metallic import _core

FLOATS = ["float32", "float16", "bfloat16"]
VECTOR_ISA = 1
EPILOGUE = ["bias", "activation", "alpha_beta", "mixed_dtypes"]


def row(family, name, **kw):
    return {"op": "matmul", "family": family, "name": name, "dtypes": FLOATS, "supports": "all", **kw}


def device(*, vector=True, mlx=True, mps=True, gemv=True, gemv_supports=None, mlx_supports="all", extra=(), **kw):
    """A CPU-like device: vector and scalar tiers of the tiled GEMM, small-N kernels, a float32 vendor library."""
    gemv_supports = EPILOGUE if gemv_supports is None else gemv_supports
    return {
        "device": "cpu",
        "isa": VECTOR_ISA if vector else 0,
        "simdgroup_mm": vector,
        "has_mlx": mlx,
        "has_mps": mps,
        "has_gemv": gemv,
        "threads": 2,
        "l1_bytes": 32768,
        "l2_bytes": 1 << 20,
        "l3_bytes": 32 << 20,
        "kernels": [
            row("mlx", "gemm_scalar", rank=0, mr=4, nr=8),
            row("mlx", "gemm_vector", rank=20, mr=14, nr=32, isa=VECTOR_ISA, supports=mlx_supports),
            row("gemv", "gemv_scalar", rank=0, max_n=16, supports=gemv_supports),
            row("gemv", "gemv_vector", rank=20, max_n=16, isa=VECTOR_ISA, supports=gemv_supports),
            row("mps", "vendor_sgemm", rank=0, dtypes=["float32"], supports=["alpha_beta"]),
            *extra,
        ],
        **kw,
    }


# ---- the second implementation ---------------------------------------------------------------------------------------


def bucket_of(n):
    return next((b for b in (1, 2, 4, 8, 16) if n <= b), "other")


def unit_and_apart(rows, cols, row_stride, col_stride):
    """One unit stride, and the other at least as long as what it steps over; dims of size 1 do not matter."""
    by_rows = (cols <= 1 or col_stride == 1) and (rows <= 1 or row_stride >= cols)
    by_cols = (rows <= 1 or row_stride == 1) and (cols <= 1 or col_stride >= rows)
    return by_rows or by_cols


def needs_of(case):
    needs = set()
    dtypes = {case.get("dtypes", {}).get(o, case.get("dtype", "float32")) for o in ("a", "b", "out")}
    if case.get("beta", 0):
        needs.add("alpha_beta")
        dtypes.add(case.get("dtypes", {}).get("c", case.get("dtype", "float32")))
    if case.get("alpha", 1) != 1:
        needs.add("alpha_beta")
    if case.get("bias", "none") != "none":
        needs.add("bias")
        dtypes.add(case.get("dtypes", {}).get("bias", case.get("dtype", "float32")))
    if case.get("activation", "none") != "none":
        needs.add("activation")
    if len(dtypes) > 1:
        needs.add("mixed_dtypes")
    m, n, k = case["m"], case["n"], case["k"]
    for name, shape in (("a", (m, k)), ("b", (k, n)), ("c", (m, n)), ("out", (m, n))):
        if name == "c" and not case.get("beta", 0):
            continue
        strides = case.get("strides", {}).get(name, (shape[1], 1))
        if not unit_and_apart(*shape, *strides):
            needs.add("any_strides")
    return needs, dtypes


class Reference:
    def __init__(self, case, caps, prefs):
        self.case, self.caps, self.prefs = case, caps, prefs
        self.needs, self.dtypes = needs_of(case)

    def pref(self, name, default):
        value = self.prefs.get(name, default)
        return default if value is None else value

    def able(self, family, n, needs=None):
        """The best row of a backend that can do the case."""
        if family != "generic" and not self.caps["has_" + family]:
            return None
        best = None
        for r in self.caps["kernels"]:
            if r["op"] != "matmul" or (family != "generic" and r["family"] != family):
                continue
            without_gaps = r["supports"] == "all" or {*EPILOGUE, "any_strides"} <= set(r["supports"])
            own_or_present = r["family"] == "mlx" or self.caps["has_" + r["family"]]
            if family == "generic" and not (without_gaps and own_or_present):
                continue
            if r.get("experimental") and not self.pref("exp_kernels", False):
                continue
            if r.get("isa", 0) & ~self.caps["isa"] or (
                r["family"] == "mlx" and r.get("isa") and not self.caps["simdgroup_mm"]
            ):
                continue
            if not self.dtypes <= set(r["dtypes"]):
                continue
            if r["supports"] != "all" and not self.needs <= set(r["supports"]):
                continue
            width = min(n, 16) if r["family"] == "gemv" else n
            if r.get("max_n") and width > r["max_n"]:
                continue
            if best is None or r.get("rank", 0) > best.get("rank", 0):
                best = r
        return best

    def plan(self):
        case = self.case
        m, n = case["m"], case["n"]
        max_n = min(self.pref("matmul_smalln_max_n", 8), 16)
        arg_backend, arg_variant = case.get("backend", "auto"), case.get("variant", "auto")
        dispatched = self.pref("dispatch", "all") != "none"
        if not dispatched and arg_backend == "auto" and arg_variant == "auto":
            wanted = "mps" if self.caps["has_mps"] else "mlx"
            return self.settle(wanted, None, ("gemm_generic", None), n, False)

        force = arg_variant
        if force == "auto":
            force = self.pref("matmul_variant_force", "auto")
            if force == "auto" and self.pref("matmul_force_smalln", False):
                force = "smalln"
        # 1
        transposed = m < n and (m <= max_n or (force == "smalln" and m <= 16))
        if transposed:
            m, n = n, m
        # 2
        if force == "smalln" and n <= 16:
            variant = ("small_n", bucket_of(n))
        elif force == "smalln" and self.pref("strict", False):
            return "UNSUPPORTED"
        elif force != "gemm" and n <= max_n:
            variant = ("small_n", bucket_of(n))
        elif (
            self.caps["simdgroup_mm"]
            and m >= self.pref("matmul_simd_m_min", 64)
            and n >= self.pref("matmul_simd_n_min", 16)
        ):
            variant = ("gemm_simd", "64x64" if n >= 64 else "64x32")
        else:
            variant = ("gemm_generic", None)
        # 3
        forced = arg_backend if arg_backend != "auto" else self.pref("matmul_backend", "auto")
        forced = {"auto": None, "custom": "gemv"}.get(forced, forced)
        wanted = forced or ("gemv" if variant[0] == "small_n" else "mlx")
        # 4
        for t in self.caps.get("tuning", []):
            turned = t["family"] == "gemv" and not transposed and m < n and m <= 16
            rows, columns = (n, m) if turned else (m, n)
            bounds = [(t.get(d, (0, 2**63)), x) for d, x in {"m": rows, "n": columns, "k": case["k"]}.items()]
            inside = all(low <= x <= high for (low, high), x in bounds)
            if not inside or not self.dtypes <= set(t["dtypes"]) or t["gain"] < 1.05 or forced:
                continue
            if (force == "gemm" and t["family"] == "gemv") or not self.able(t["family"], columns):
                continue
            wanted = t["family"]
            m, n, transposed = rows, columns, transposed or turned
            if wanted == "gemv" and n <= 16:
                variant = ("small_n", bucket_of(n))
            break
        return self.settle(wanted, forced, variant, n, transposed)

    def settle(self, wanted, forced, variant, n, transposed):
        # 5
        chain = [wanted] + (["mlx"] if wanted != "mlx" else [])
        if not self.caps["has_mlx"] and "mps" not in chain:
            chain.append("mps")
        for family in chain:
            kernel = self.able(family, n)
            if kernel:
                break
            if forced and self.pref("strict", False):
                return "UNSUPPORTED"
        else:
            kernel = self.able("generic", n)
            if not kernel:
                return "UNSUPPORTED"
            family, variant = kernel["family"], ("gemm_generic", None)
        if family == "gemv" and variant[0] != "small_n":
            variant = ("small_n", "other")
        text = variant[0] if variant[1] is None else f"{variant[0]}({variant[1]})"
        return family, text, kernel["name"], transposed


def outcome(case, caps, prefs):
    plan = _core._select("matmul", case, caps, prefs)
    if "error" in plan:
        return "UNSUPPORTED" if "UNSUPPORTED" in plan["error"].upper() else plan
    return plan["family"], plan["variant"], plan["kernel"], plan["transposed"]


def compare(case, caps, prefs):
    want, got = Reference(case, caps, prefs).plan(), outcome(case, caps, prefs)
    assert got == want, f"{case}\n{prefs}\n{ {k: v for k, v in caps.items() if k != 'kernels'} }"


# ---- matmul: the table -----------------------------------------------------------------------------------------------

EDGES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 896]


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("backend", ["auto", "mlx", "mps", "gemv", "custom"])
@pytest.mark.parametrize("variant", ["auto", "smalln", "gemm"])
def test_shapes(vector, backend, variant):
    caps = device(vector=vector)
    for m, n, max_n in itertools.product(EDGES, EDGES, [None, 0, 4, 16, 40]):
        prefs = {"matmul_backend": backend, "matmul_variant_force": variant, "matmul_smalln_max_n": max_n}
        compare({"m": m, "n": n, "k": 64}, caps, prefs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_devices(dtype):
    """Every set of backends that may be present, gaps of each, forced or not, strict or not."""
    shapes = [(1, 896), (896, 1), (4, 4), (64, 16), (64, 64), (13, 13), (896, 12), (896, 17)]
    features = [{}, {"bias": "n"}, {"activation": "silu"}, {"beta": 1.0}, {"strides": {"a": (128, 2)}}]
    for mlx, mps, gemv, vector in itertools.product([False, True], repeat=4):
        for gaps in ({}, {"gemv_supports": []}, {"mlx_supports": ["alpha_beta"]}):
            caps = device(vector=vector, mlx=mlx, mps=mps, gemv=gemv, **gaps)
            for (m, n), feature in itertools.product(shapes, features):
                for backend, strict in itertools.product(["auto", "mlx", "mps", "gemv"], [False, True]):
                    case = {"m": m, "n": n, "k": 64, "dtype": dtype, **feature}
                    compare(case, caps, {"matmul_backend": backend, "strict": strict})


def random_case(rng):
    case = {"m": rng.choice(EDGES), "n": rng.choice(EDGES), "k": rng.choice([0, 1, 7, 64, 4864])}
    if rng.random() < 0.5:
        case["dtype"] = rng.choice(FLOATS)
    if rng.random() < 0.2:
        case["dtypes"] = {rng.choice(["a", "b", "c", "bias", "out"]): rng.choice(FLOATS)}
    if rng.random() < 0.3:
        case["strides"] = {
            rng.choice(["a", "b", "c", "out"]): rng.choice(
                [(0, 1), (1, 0), (2000, 1), (1, 5000), (-900, 1), (5000, 2), (3, 1)]
            )
        }
    case["alpha"] = rng.choice([1.0, 1.0, 0.5])
    case["beta"] = rng.choice([0.0, 0.0, 1.0, 2.0])
    case["bias"] = rng.choice(["none", "none", "n", "m"])
    case["activation"] = rng.choice(["none", "none", "gelu", "relu"])
    case["backend"] = rng.choice(["auto", "auto", "mlx", "mps", "gemv"])
    case["variant"] = rng.choice(["auto", "auto", "smalln", "gemm"])
    return case


def random_prefs(rng):
    return {
        "matmul_backend": rng.choice([None, "auto", "mlx", "mps", "gemv", "custom"]),
        "matmul_variant_force": rng.choice([None, "auto", "smalln", "gemm"]),
        "matmul_force_smalln": rng.choice([None, None, True, False]),
        "matmul_smalln_max_n": rng.choice([None, 0, 1, 8, 12, 16, 100]),
        "matmul_simd_m_min": rng.choice([None, 1, 32, 1000]),
        "matmul_simd_n_min": rng.choice([None, 1, 9, 64]),
        "dispatch": rng.choice([None, None, "all", "none"]),
        "exp_kernels": rng.choice([None, True]),
        "strict": rng.random() < 0.2,
    }


def random_device(rng):
    some = [s for s in [*EPILOGUE, "any_strides"] if rng.random() < 0.7]
    caps = device(
        vector=rng.random() < 0.7,
        mlx=rng.random() < 0.8,
        mps=rng.random() < 0.6,
        gemv=rng.random() < 0.8,
        gemv_supports=rng.choice(["all", some, EPILOGUE]),
        mlx_supports=rng.choice(["all", some]),
    )
    if rng.random() < 0.3:
        caps["kernels"].append(row("mlx", "gemm_new", rank=99, experimental=True))
    if rng.random() < 0.2:
        caps["kernels"] = caps["kernels"][1:]  # nothing of last resort
    if rng.random() < 0.2:
        caps["kernels"].append(row("gemv", "gemv_n4", rank=25, max_n=4))
    caps["tuning"] = [
        {
            "dtypes": rng.choice([["float32"], FLOATS]),
            "m": rng.choice([(0, 2**40), (64, 896)]),
            "n": rng.choice([(0, 2**40), (0, 16), (1, 1), (17, 64)]),
            "family": rng.choice(["mlx", "mps", "gemv"]),
            "gain": rng.choice([1.0, 1.04, 1.05, 1.5]),
        }
        for _ in range(rng.choice([0, 0, 1, 3]))
    ]
    return caps


@pytest.mark.parametrize("seed", range(8))
def test_random(seed):
    rng = random.Random(seed)
    for _ in range(60):
        caps = random_device(rng)
        for _ in range(60):
            compare(random_case(rng), caps, random_prefs(rng))


# ---- matmul: single facts --------------------------------------------------------------------------------------------


def select(caps=None, prefs=None, **case):
    plan = _core._select("matmul", {"k": 64, **case}, caps or device(), prefs or {})
    assert "error" not in plan, plan
    return plan


@pytest.mark.parametrize(
    ("n", "bucket"), [(1, "1"), (2, "2"), (3, "4"), (4, "4"), (5, "8"), (8, "8"), (9, "16"), (16, "16")]
)
def test_buckets_round_up(n, bucket):
    assert select(m=896, n=n, prefs={"matmul_smalln_max_n": 16})["variant"] == f"small_n({bucket})"


def test_decode_shape_becomes_one_column():
    plan = select(m=1, n=9728)
    assert plan["transposed"] and plan["variant"] == "small_n(1)" and plan["family"] == "gemv"
    assert plan["why"] == ["TRANSPOSED", "SMALL_N", "BACKEND_DEFAULT"]


def test_transposed_only_when_narrower():
    assert not select(m=8, n=8)["transposed"]
    assert select(m=8, n=9)["transposed"]
    assert not select(m=9, n=10)["transposed"]
    assert select(m=9, n=10, variant="smalln")["transposed"]
    assert not select(m=17, n=18, variant="smalln")["transposed"]


def test_tiles():
    assert select(m=64, n=63)["variant"] == "gemm_simd(64x32)"
    assert select(m=64, n=64)["variant"] == "gemm_simd(64x64)"
    assert select(m=63, n=64)["variant"] == "gemm_generic"
    assert select(caps=device(vector=False), m=64, n=64)["variant"] == "gemm_generic"
    assert select(caps=device(vector=False), m=64, n=64)["kernel"] == "gemm_scalar"


@pytest.mark.parametrize("n", [17, 100, 896])
def test_gemv_does_gemm_shapes_in_blocks(n):
    plan = select(m=896, n=n, backend="gemv")
    assert (plan["family"], plan["variant"]) == ("gemv", "small_n(other)")


@pytest.mark.parametrize("backend", ["mlx", "mps"])
def test_forced_backend_keeps_the_variant(backend):
    plan = select(m=896, n=4, backend=backend)
    assert (plan["family"], plan["variant"]) == (backend, "small_n(4)")
    assert "FORCED_BACKEND_ARG" in plan["why"]


def test_argument_beats_preference():
    plan = select(
        m=896, n=4, backend="mlx", variant="gemm", prefs={"matmul_backend": "mps", "matmul_variant_force": "smalln"}
    )
    assert (plan["family"], plan["variant"]) == ("mlx", "gemm_generic")
    assert plan["why"] == ["FORCED_GEMM", "GENERIC", "FORCED_BACKEND_ARG"]


@pytest.mark.parametrize(
    ("case", "prefs", "why"),
    [
        ({"dtype": "float16"}, {}, "UNSUPPORTED_DTYPE"),
        ({"bias": "n"}, {}, "UNSUPPORTED_BIAS"),
        ({"bias": "m"}, {}, "UNSUPPORTED_BIAS"),
        ({"activation": "gelu"}, {}, "UNSUPPORTED_ACTIVATION"),
        ({"strides": {"a": (64, 2)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"strides": {"a": (-64, 1)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"strides": {"b": (0, 1)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"strides": {"b": (63, 1)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"strides": {"out": (200, 2)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"beta": 1.0, "strides": {"c": (0, 1)}}, {}, "UNSUPPORTED_STRIDES"),
        ({"dtypes": {"a": "float16"}}, {}, "UNSUPPORTED_DTYPE"),
    ],
)
def test_what_the_vendor_cannot_do_falls_back_and_says_so(case, prefs, why):
    plan = select(m=64, n=64, backend="mps", prefs=prefs, **case)
    assert plan["family"] == "mlx"
    assert plan["why"][-3:] == ["FORCED_BACKEND_ARG", why, "FELL_BACK_MLX"]
    assert all(plan["why_text"])
    strict = _core._select("matmul", {"m": 64, "n": 64, "k": 64, "backend": "mps", **case}, device(), {"strict": True})
    for word in ("matmul", "mps", plan["why_text"][-2]):
        assert word in strict["message"]


@pytest.mark.parametrize(
    "strides",
    [
        {"a": (1, 64)},
        {"a": (100, 1)},
        {"b": (1, 100)},
        {"out": (1, 64)},
        {"out": (90, 1)},
        {"a": (100, 1), "b": (1, 64)},
    ],
)
def test_what_the_vendor_can_do(strides):
    assert select(m=64, n=64, backend="mps", strides=strides)["family"] == "mps"


def test_strides_of_dims_of_size_one_do_not_matter():
    assert select(m=64, n=1, backend="mps", strides={"b": (1, -7), "out": (1, 0)})["family"] == "mps"
    assert select(m=1, n=1, k=1, backend="mps", strides={"a": (-3, 0), "b": (5, 5), "out": (0, 0)})["family"] == "mps"


@pytest.mark.parametrize("backend", ["mlx", "mps", "gemv"])
def test_absent_backend(backend):
    caps = device(**{backend: False})
    plan = select(caps, m=896, n=1, backend=backend)
    assert "BACKEND_ABSENT" in plan["why"]
    assert plan["family"] == ("mps" if backend == "mlx" else "mlx")
    refused = _core._select("matmul", {"m": 896, "n": 1, "k": 8, "backend": backend}, caps, {"strict": True})
    assert "UNSUPPORTED" in refused["error"].upper() and "not present" in refused["message"]
    by_pref = _core._select("matmul", {"m": 896, "n": 1, "k": 8}, caps, {"strict": True, "matmul_backend": backend})
    assert "METALLIC_MATMUL_BACKEND" in by_pref["message"]


def test_along_the_chain_to_generic():
    caps = device(gemv_supports=[], mlx_supports=["alpha_beta"])
    caps["kernels"][0]["family"] = "mlx"
    caps["kernels"][0]["rank"] = -1
    plan = select(caps, m=896, n=1, bias="n")
    assert plan["kernel"] == "gemm_scalar" and "UNSUPPORTED_BIAS" in plan["why"] and "FELL_BACK_MLX" in plan["why"]
    caps = device(gemv_supports=[], mlx=False, mps=False)
    plan = select(caps, m=896, n=1, bias="n")
    assert (plan["variant"], plan["kernel"]) == ("gemm_generic", "gemm_vector")
    assert plan["why"][-1] == "FELL_BACK_GENERIC"


def test_nothing_can_do_it():
    for strict in (False, True):
        plan = _core._select(
            "matmul", {"m": 3, "n": 3, "k": 3, "dtype": "float16"}, {"kernels": []}, {"strict": strict}
        )
        assert "UNSUPPORTED" in plan["error"].upper() and "M=3" in plan["message"]


def test_small_n_forced_beyond_sixteen():
    plan = select(m=896, n=17, prefs={"matmul_force_smalln": True})
    assert plan["variant"] == "gemm_simd(64x32)" and "SMALLN_IGNORED" in plan["why"]
    assert select(m=896, n=16, prefs={"matmul_force_smalln": True})["variant"] == "small_n(16)"
    refused = _core._select(
        "matmul", {"m": 896, "n": 17, "k": 8}, device(), {"matmul_force_smalln": True, "strict": True}
    )
    assert "METALLIC_MATMUL_FORCE_SMALLN" in refused["message"]


def test_left_out_of_dispatch():
    for ops, dispatched in (("none", False), ("softmax,sdpa", False), ("matmul", True), ("all", True)):
        plan = select(m=1, n=896, prefs={"dispatch": ops, "matmul_variant_force": "smalln"})
        assert (plan["family"] == "gemv") == dispatched
        if not dispatched:
            assert (plan["family"], plan["variant"], plan["transposed"]) == ("mps", "gemm_generic", False)
            assert plan["why"] == ["NOT_DISPATCHED"]
    plan = select(device(mps=False), m=1, n=896, prefs={"dispatch": "none"})
    assert plan["family"] == "mlx"
    plan = select(m=1, n=896, bias="n", prefs={"dispatch": "none"})
    assert plan["family"] == "mlx" and "UNSUPPORTED_BIAS" in plan["why"]
    assert select(m=1, n=896, backend="gemv", prefs={"dispatch": "none"})["family"] == "gemv"


def test_experimental_kernels_need_leave():
    caps = device(extra=[row("mlx", "gemm_new", rank=99, experimental=True)])
    assert select(caps, m=64, n=64)["kernel"] == "gemm_vector"
    assert select(caps, m=64, n=64, prefs={"exp_kernels": 1})["kernel"] == "gemm_new"


# ---- matmul: tuning --------------------------------------------------------------------------------------------------


def tuned(family="mps", gain=1.2, **kw):
    return {"dtypes": ["float32"], "family": family, "gain": gain, **kw}


@pytest.mark.parametrize(("gain", "applies"), [(1.0, False), (1.049, False), (1.05, True), (3.0, True)])
def test_five_percent_rule(gain, applies):
    plan = select(device(tuning=[tuned(gain=gain)]), m=896, n=1)
    assert (plan["family"] == "mps") == applies and ("TUNED" in plan["why"]) == applies


def test_tuning_never_replaces_what_is_forced():
    caps = device(tuning=[tuned("mps"), tuned("gemv", 2.0)])
    assert select(caps, m=896, n=1, backend="gemv")["family"] == "gemv"
    assert select(caps, m=896, n=1, prefs={"matmul_backend": "mlx"})["family"] == "mlx"
    plan = select(device(tuning=[tuned("gemv", 2.0)]), m=896, n=4, variant="gemm")
    assert (plan["family"], plan["variant"]) == ("mlx", "gemm_generic")
    plan = select(device(tuning=[tuned("mps")]), m=896, n=12, variant="smalln")
    assert (plan["family"], plan["variant"]) == ("mps", "small_n(16)")


def test_tuning_covers_its_class_only():
    caps = device(tuning=[tuned(m=(100, 200), n=(1, 1), k=(64, 64))])
    assert select(caps, m=100, n=1)["family"] == "mps"
    assert select(caps, m=1, n=200)["family"] == "mps", "bounds hold after orientation"
    for case in ({"m": 99, "n": 1}, {"m": 201, "n": 1}, {"m": 150, "n": 2}, {"m": 150, "n": 1, "k": 65}):
        assert select(caps, **case)["family"] == "gemv"
    assert select(caps, m=100, n=1, dtype="float16")["family"] == "gemv"


def test_tuned_rows_of_small_n_hold_for_few_rows_as_for_few_columns():
    caps = device(tuning=[tuned("gemv", m=(128, 2**40), n=(9, 16))])
    for case in ({"m": 128, "n": 9}, {"m": 9, "n": 128}, {"m": 16, "n": 4864}):
        plan = select(caps, **case)
        assert (plan["family"], plan["variant"]) == ("gemv", "small_n(16)")
        assert plan["transposed"] == (case["m"] < case["n"]) == ("TRANSPOSED" in plan["why"])
    for case in ({"m": 9, "n": 127}, {"m": 17, "n": 128}):
        assert (select(caps, **case)["family"], select(caps, **case)["transposed"]) == ("mlx", False)
    assert select(caps, m=9, n=128, variant="gemm")["family"] == "mlx"
    assert select(caps, m=9, n=128, backend="mlx")["transposed"] is False
    assert select(device(tuning=[tuned("mps", m=(128, 2**40), n=(9, 16))]), m=9, n=128)["family"] == "mlx"


def test_tuned_winner_that_cannot_do_the_case_is_passed_over():
    caps = device(tuning=[tuned("mps"), tuned("mlx", 1.1)])
    assert select(caps, m=896, n=1)["family"] == "mps"
    assert select(caps, m=896, n=1, bias="n")["family"] == "mlx"


def test_tuned_kernel_by_name():
    extra = [row("gemv", "gemv_special", rank=-5, max_n=16)]
    caps = device(extra=extra, tuning=[tuned("gemv", kernel="gemv_special")])
    assert select(caps, m=896, n=1)["kernel"] == "gemv_special"
    assert select(caps, m=896, n=1, backend="gemv")["kernel"] == "gemv_special"
    absent = device(tuning=[tuned("gemv", kernel="no_such")])
    assert select(absent, m=896, n=1)["kernel"] == "gemv_vector"
    plan = select(device(tuning=[tuned("gemv")]), m=896, n=12)
    assert plan["variant"] == "small_n(16)"
    assert select(device(tuning=[tuned("gemv")]), m=896, n=100)["variant"] == "small_n(other)"


# ---- cost, blocks, scratch -------------------------------------------------------------------------------------------


def test_cost():
    plan = select(m=4, n=6, k=8, beta=1.0, bias="n", dtype="float16")
    assert plan["bytes_read"] == 2 * (32 + 48 + 24 + 6)
    assert (plan["bytes_written"], plan["flops"]) == (48, 2 * 4 * 6 * 8)
    assert select(m=4, n=6, k=8)["bytes_read"] == 4 * (32 + 48)
    for case in ({"alpha": 0.0}, {"k": 0}):
        plan = select(m=4, n=6, **{"k": 8, "beta": 1.0, **case})
        assert (plan["bytes_read"], plan["flops"]) == (96, 0) and plan["why"][0] == "TRIVIAL"
    assert select(m=4, n=6, k=8, strides={"b": (0, 1)})["bytes_read"] == 4 * (32 + 6)
    assert select(m=4, n=6, k=8, batch=5)["flops"] == 5 * 2 * 4 * 6 * 8


def test_predicted_time():
    caps = device(read_gbs=10.0, flops_f32=100.0, dispatch_us=2.0)
    plan = select(caps, m=1000, n=1, k=1000)
    moved = plan["bytes_read"] + plan["bytes_written"]
    assert plan["predicted_us"] == pytest.approx(2 + moved / 10e3)
    plan = select(caps, m=1000, n=1000, k=1000)
    assert plan["predicted_us"] == pytest.approx(2 + 2e9 / 100e3)


def test_huge_shapes_saturate():
    plan = select(m=2**20, n=2**20, k=2**24, strides={"a": (0, 0), "b": (0, 0)})
    assert plan["flops"] == 2**63 - 1


@pytest.mark.parametrize("k", [1, 100, 384, 4864, 100000])
@pytest.mark.parametrize(("m", "n"), [(64, 64), (1000, 1000), (17, 30000)])
def test_blocking(m, n, k):
    """Whole micro-tiles; the block of A within half of L2, the panel of B within half of L3; k cut evenly."""
    mc, nc, kc = select(m=m, n=n, k=k, backend="mlx")["block"]
    assert mc % 14 == 0 and nc % 32 == 0 and kc % 16 == 0
    assert mc * kc * 4 <= max((1 << 20) // 2, 14 * kc * 4)
    assert nc * kc * 4 <= max((32 << 20) // 2, 32 * kc * 4)
    pieces = -(-k // kc)
    assert kc - 16 < k / pieces <= kc <= 512 + 16


def test_plan_does_not_depend_on_threads():
    """Except for the scratch memory that each thread gets."""
    for m, n in ((1, 896), (64, 64), (500, 700)):
        plans = [select(device(threads=t), m=m, n=n) for t in (1, 2, 7)]
        for plan in plans:
            del plan["scratch_bytes"]
        assert plans[0] == plans[1] == plans[2]


def test_same_arguments_same_plan():
    rng = random.Random(1)
    for _ in range(200):
        case, caps, prefs = random_case(rng), random_device(rng), random_prefs(rng)
        assert _core._select("matmul", case, caps, prefs) == _core._select("matmul", case, caps, prefs)
