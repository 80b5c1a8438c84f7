"""Preferences: every variable, alias and keyword, their precedence, and what happens to what is not known."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metallic import _core

ON, OFF = ["1", "true", "on", "yes", "TRUE", " On "], ["0", "false", "off", "no", "No"]
BOOL = {**dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}
COUNT = {"0": 0, "1": 1, "12": 12, " 7 ": 7, "100000": 100000}
ALL_OPS = 2**32 - 1
MATMUL, SOFTMAX, SDPA = 0b11, 0b100, 0b1000
BAD_COUNT = ["-1", "1.5", "many", "0x10", "99999999999999999999"]

# Variable: alias, default, {accepted text: meaning}, [texts that are not accepted], whether a thread may override it.
TABLE = {
    "METALLIC_DEVICE": (None, "", {"cpu": "cpu", "metal": "metal", "CUDA": "cuda", "auto": ""}, ["tpu"], False),
    "METALLIC_MATMUL_BACKEND": (
        "FORCE_MATMUL_BACKEND",
        "auto",
        {"auto": "auto", "mlx": "mlx", "mps": "mps", "gemv": "gemv", "custom": "gemv", "MPS": "mps", " mlx ": "mlx"},
        ["blas", "mlx,mps", "ml"],
        True,
    ),
    "METALLIC_MATMUL_VARIANT_FORCE": (
        None,
        "auto",
        {"smalln": "smalln", "gemm": "gemm", "auto": "auto"},
        ["small_n", "1"],
        True,
    ),
    "METALLIC_MATMUL_SMALLN_MAX_N": ("METALLIC_SMALLN_MAX_N", 8, COUNT, BAD_COUNT, True),
    "METALLIC_MATMUL_SIMD_M_MIN": (None, 64, COUNT, BAD_COUNT, True),
    "METALLIC_MATMUL_SIMD_N_MIN": (None, 16, COUNT, BAD_COUNT, True),
    "METALLIC_MATMUL_FORCE_SMALLN": (None, False, BOOL, ["2", "maybe"], True),
    "METALLIC_SOFTMAX_VARIANT": (
        "METALLIC_SOFTMAX_BACKEND",
        "auto",
        {"auto": "auto", "vec": "vec", "block": "block"},
        ["online"],
        True,
    ),
    "METALLIC_SOFTMAX_VEC_MAX_K": (None, 1024, COUNT, BAD_COUNT, True),
    "METALLIC_SDPA_VARIANT": (
        None,
        "auto",
        {"auto": "auto", "composed": "composed", "vector": "vector", "tiled": "tiled"},
        ["flash"],
        True,
    ),
    "METALLIC_DISPATCH": (
        None,
        ALL_OPS,
        {
            "all": ALL_OPS,
            "none": 0,
            "matmul": MATMUL,
            "softmax": SOFTMAX,
            "sdpa": SDPA,
            "matmul,sdpa": MATMUL | SDPA,
            "Softmax, matmul": MATMUL | SOFTMAX,
            "matmul,softmax,sdpa": MATMUL | SOFTMAX | SDPA,
        },
        ["conv", "matmul,conv", "all,none", "matmul;sdpa"],
        True,
    ),
    "METALLIC_PRECISION": (None, "fast", {"fast": "fast", "high": "high"}, ["double"], True),
    "METALLIC_SUBMIT": (None, "batched", {"batched": "batched", "per_item": "per_item"}, ["eager"], True),
    "METALLIC_EXP_KERNELS": (None, False, BOOL, ["2", "maybe"], True),
    "METALLIC_VARIANTS": (None, "", {"/a/variants.json": "/a/variants.json"}, ["x" * 2000], False),
    "METALLIC_ISA": (None, ALL_OPS, {"auto": ALL_OPS, "scalar": 0, "SCALAR": 0}, ["sse9"], False),
    "METALLIC_NUM_THREADS": (None, 0, {"auto": 0, "1": 1, "7": 7}, ["0", *BAD_COUNT], False),
    "METALLIC_LOG_LEVEL": (
        None,
        2,
        {"off": 0, "error": 1, "warn": 2, "info": 3, "debug": 4, "trace": 5},
        ["loud", "3"],
        False,
    ),
    "METALLIC_METRICS_JSONL_PATH": (None, "", {"/Tmp/M x.jsonl": "/Tmp/M x.jsonl"}, ["x" * 2000], False),
    "METALLIC_METRICS_CONSOLE": (None, False, BOOL, ["2"], False),
    "METALLIC_ENABLE_PROFILING": (None, False, BOOL, ["2"], False),
    "METALLIC_CHECK": (None, False, BOOL, ["2"], False),
    "METALLIC_CACHE_DIR": (None, "", {"/tmp/Cache": "/tmp/Cache"}, ["x" * 2000], False),
}
PER_THREAD = [name for name, row in TABLE.items() if row[4]]
ALIASES = {name: row[0] for name, row in TABLE.items() if row[0]}


def keyword(variable):
    return variable.removeprefix("METALLIC_").lower()


def parse(env=None, kwargs=None, overrides=None):
    return _core._parse_prefs(env or {}, kwargs or {}, overrides or {})


def two_values(variable):
    """Two texts with different meanings, neither of them the default."""
    _, default, accepted, _, _ = TABLE[variable]
    return [text for text, meaning in accepted.items() if meaning != default][:2]


# ---- single variables ------------------------------------------------------------------------------------------------


def test_the_table_is_the_whole_table():
    rows = {row["env"]: row for row in _core._pref_table()}
    assert list(rows) == list(TABLE)
    for name, (alias, _, _, _, per_thread) in TABLE.items():
        assert (rows[name]["alias"], rows[name]["per_thread"]) == (alias, per_thread)


def test_the_documentation_has_the_whole_table():
    text = (Path(__file__).parent.parent / "docs" / "DISPATCHER.md").read_text(encoding="utf-8")
    cells = [
        [c.strip(" `") for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `METALLIC_")
    ]
    documented = {row[0]: (row[1] or None, row[4] == "yes") for row in cells}
    assert documented == {row["env"]: (row["alias"], row["per_thread"]) for row in _core._pref_table()}


def test_defaults():
    parsed = parse()
    for name, (_, default, *_) in TABLE.items():
        assert parsed[keyword(name)] == default, name
    assert parsed["given"] == [] and parsed["warnings"] == []


@pytest.mark.parametrize("name", TABLE)
def test_values(name):
    alias, default, accepted, refused, _ = TABLE[name]
    for source in filter(None, (name, alias)):
        for text, meaning in accepted.items():
            by_env = parse({source: text})
            assert by_env[keyword(name)] == meaning, text
            assert by_env["given"] == [name] and by_env["warnings"] == []
            by_keyword = parse({}, {keyword(source): text})
            assert by_keyword[keyword(name)] == meaning and by_keyword["given"] == [name]
        for text in refused:
            by_env = parse({source: text})
            assert by_env[keyword(name)] == default and by_env["given"] == []
            (warning,) = by_env["warnings"]
            assert source in warning and "accepted: " in warning
            by_keyword = parse({}, {keyword(source): text})
            assert "VALUE" in by_keyword["error"].upper() and "accepted: " in by_keyword["message"]
            assert keyword(source) in by_keyword["message"]


@pytest.mark.parametrize("name", TABLE)
def test_empty_counts_as_unset(name):
    for text in ("", "  "):
        parsed = parse({name: text})
        assert parsed["given"] == [] and parsed["warnings"] == []


def test_warning_lists_what_is_accepted():
    (warning,) = parse({"METALLIC_MATMUL_BACKEND": "blas"})["warnings"]
    for word in ("METALLIC_MATMUL_BACKEND", "blas", "auto", "mlx", "mps", "gemv", "custom"):
        assert word in warning


def test_python_values_are_taken_as_text():
    parsed = parse({}, {"matmul_smalln_max_n": 4, "exp_kernels": True, "check": False, "sdpa_variant": None})
    assert (parsed["matmul_smalln_max_n"], parsed["exp_kernels"], parsed["check"]) == (4, True, False)
    assert "METALLIC_SDPA_VARIANT" not in parsed["given"]


def test_an_empty_path_by_keyword_means_none():
    parsed = parse({"METALLIC_METRICS_JSONL_PATH": "/a"}, {"metrics_jsonl_path": ""})
    assert parsed["metrics_jsonl_path"] == ""


# ---- aliases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALIASES)
def test_canonical_beats_alias(name):
    one, two = two_values(name)
    meaning = TABLE[name][2][one]
    assert parse({name: one, ALIASES[name]: two})[keyword(name)] == meaning
    pair = {keyword(name): one, keyword(ALIASES[name]): two}
    for order in (pair, dict(reversed(pair.items()))):
        assert parse({}, order)[keyword(name)] == meaning
        assert parse({}, {}, order)[keyword(name)] == meaning


@pytest.mark.parametrize("name", ALIASES)
def test_unknown_canonical_value_leaves_the_alias(name):
    one = two_values(name)[0]
    parsed = parse({name: "?", ALIASES[name]: one})
    assert parsed[keyword(name)] == TABLE[name][2][one] and len(parsed["warnings"]) == 1


@pytest.mark.parametrize("name", ALIASES)
def test_a_higher_layer_wins_whatever_the_names(name):
    one, two = two_values(name)
    assert parse({name: one}, {keyword(ALIASES[name]): two})[keyword(name)] == TABLE[name][2][two]


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_precedence(name):
    _, default, accepted, _, per_thread = TABLE[name]
    texts = [None, *two_values(name), *accepted][:3]
    for env, context, thread in itertools.product(texts, repeat=3):
        if thread is not None and not per_thread:
            continue
        key = keyword(name)
        parsed = parse(
            {name: env} if env is not None else {},
            {key: context} if context is not None else {},
            {key: thread} if thread is not None else {},
        )
        winner = next((text for text in (thread, context, env) if text is not None), None)
        assert parsed[key] == (default if winner is None else accepted[winner])


def test_forces_within_one_layer():
    for force in ("smalln", "gemm"):
        parsed = parse({"METALLIC_MATMUL_VARIANT_FORCE": force, "METALLIC_MATMUL_FORCE_SMALLN": "1"})
        plan = select(
            matmul_variant_force=parsed["matmul_variant_force"], matmul_force_smalln=parsed["matmul_force_smalln"]
        )
        assert plan["variant"] == ("small_n(16)" if force == "smalln" else "gemm_generic")
    assert select(matmul_variant_force="auto", matmul_force_smalln=True)["variant"] == "small_n(16)"


def test_forces_between_layers():
    """The higher layer wins although it uses the weaker name."""
    env = {"METALLIC_MATMUL_VARIANT_FORCE": "gemm"}
    for parsed in (parse(env, {"matmul_force_smalln": 1}), parse(env, {}, {"matmul_force_smalln": 1})):
        assert (parsed["matmul_variant_force"], parsed["matmul_force_smalln"]) == ("auto", True)
    env = {"METALLIC_MATMUL_FORCE_SMALLN": "1"}
    for force in ("gemm", "auto"):
        parsed = parse(env, {}, {"matmul_variant_force": force})
        assert (parsed["matmul_variant_force"], parsed["matmul_force_smalln"]) == (force, False)
    parsed = parse({"METALLIC_MATMUL_VARIANT_FORCE": "smalln"}, {"matmul_force_smalln": 0})
    assert (parsed["matmul_variant_force"], parsed["matmul_force_smalln"]) == ("auto", False)
    parsed = parse({"METALLIC_MATMUL_VARIANT_FORCE": "gemm"}, {"matmul_force_smalln": 0})
    assert parsed["matmul_variant_force"] == "gemm"


def select(**prefs):
    kernels = [{"family": f, "dtypes": ["float32"], "supports": "all"} for f in ("mlx", "gemv", "mps")]
    caps = {"kernels": kernels, "has_mlx": True, "has_gemv": True, "has_mps": True}
    return _core._select("matmul", {"m": 896, "n": 12, "k": 8}, caps, prefs)


@pytest.mark.parametrize("name", ["nope", "METALLIC_MATMUL_BACKEND", "Matmul_Backend", "backend", "", "strict"])
def test_unknown_keyword(name):
    for parsed in (parse({}, {name: "1"}), parse({}, {}, {name: "1"})):
        assert "VALUE" in parsed["error"].upper()
        for known in TABLE:
            assert keyword(known) in parsed["message"]


@pytest.mark.parametrize("name", [name for name in TABLE if name not in PER_THREAD])
def test_what_only_a_context_can_take(name):
    refused = parse({}, {}, {keyword(name): next(iter(TABLE[name][2]))})
    assert "VALUE" in refused["error"].upper() and "context" in refused["message"] and name in refused["message"]


def test_a_refused_override_leaves_nothing_behind():
    parse({}, {}, {"matmul_backend": "mps", "isa": "scalar"})
    parse({}, {}, {"matmul_backend": "mps", "sdpa_variant": "?"})
    assert parse()["matmul_backend"] == "auto"


# ---- tuning tables ---------------------------------------------------------------------------------------------------

HEADER = "device,family,op,dtypes,m,n,k,winner,kernel,gain"
GOOD = "cpu,avx*,matmul,float32|float16,1..16,4,..99,gemv,gemv_x,1.5"


def table(*rows, header=HEADER):
    return _core._parse_tuning("\n".join(["# comment", "", header, *rows]) + "\n", "cpu", "avx512")


def test_tuning_rows():
    (row,) = table(GOOD, "metal,apple7,matmul,float16,*,*,*,mps,,2", "cpu,neon,matmul,float16,*,*,5..,mlx,,2.25")
    assert (row["m"], row["n"], row["k"]) == ((1, 16), (4, 4), (0, 99))
    assert (row["dtypes"], row["family"], row["kernel"], row["gain"]) == (0b11, "gemv", "gemv_x", 1.5)
    assert _core._parse_tuning(f"{HEADER}\r\n{GOOD}\r\n", "cpu", "avx512")[0]["kernel"] == "gemv_x"
    assert table() == [] and _core._parse_tuning("", "cpu", "avx2") == []


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        *[(0, "tpu"), (1, ""), (2, "conv"), (3, "float8"), (3, ""), (3, "float16|")],
        *[(4, "5..1"), (4, "x"), (4, ".."), (5, ""), (5, "-1"), (6, "1.2"), (6, "1..2..3"), (7, "auto"), (7, "")],
        *[(9, "0"), (9, "fast"), (9, "-1"), (9, "1.2.3"), (9, "")],
    ],
)
def test_broken_tuning_rows(column, bad):
    fields = GOOD.split(",")
    fields[column] = bad
    refused = table(GOOD, ",".join(fields))
    assert "VALUE" in refused["error"].upper() and "table:5:" in refused["message"]


def test_broken_tuning_files():
    assert "ten columns" in table(GOOD + ",x")["message"]
    assert "ten columns" in table("cpu,avx*")["message"]
    assert "header" in table(GOOD, header=HEADER.upper())["message"]
    assert "header" in table(header=GOOD)["message"]


@pytest.mark.parametrize(
    ("outputs", "k", "dtype", "bias", "winner"),
    [
        (9728, 896, "float16", "none", "mps"),
        (896, 4864, "float16", "none", "mps"),
        (896, 896, "float16", "none", "mps"),
        (151936, 896, "float16", "none", "gemv"),
        (1152, 896, "float16", "m", "gemv"),
        (896, 896, "float32", "none", "gemv"),
    ],
)
def test_the_shipped_table_decides_decode_shapes_on_apple(outputs, k, dtype, bias, winner):
    rows = [
        {
            **row,
            "dtypes": [name for bit, name in enumerate(["float32", "float16", "bfloat16"]) if row["dtypes"] >> bit & 1],
        }
        for row in _core._tuning("metal", "apple7", None)
    ]
    for row in rows:
        del row["op"]
    both = ["float32", "float16"]
    kernels = [{"family": "mps", "dtypes": both, "supports": ["alpha_beta"]}]
    kernels += [{"family": family, "dtypes": both, "supports": "all"} for family in ("mlx", "gemv")]
    present = {"has_mlx": True, "has_gemv": True, "has_mps": True, "simdgroup_mm": True, "bfloat": True}
    caps = {"device": "metal", **present, "kernels": kernels, "tuning": rows}
    case = {"m": 1, "n": outputs, "k": k, "dtype": dtype, "bias": bias, "transpose_b": True}
    assert _core._select("matmul", case, caps, {})["family"] == winner


def test_a_users_table_replaces_the_shipped_one(tmp_path):
    shipped = _core._tuning("metal", "apple7", None)
    assert any(row["family"] == "mps" for row in shipped)
    assert _core._tuning("metal", "apple7", str(tmp_path)) == shipped
    assert _core._tuning("cuda", "sm_90", None) == []
    file = tmp_path / "tuning.csv"
    file.write_text(f"{HEADER}\nmetal,apple7,matmul,float16,*,*,*,mlx,,1.5\n")
    (row,) = _core._tuning("metal", "apple7", str(tmp_path))
    assert row["family"] == "mlx"
    assert _core._tuning("metal", "apple9", str(tmp_path)) == shipped, "it has no rows for this family"


def in_new_process(code, **env):
    env = {**{k: v for k, v in os.environ.items() if "METALLIC" not in k}, **env}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)


def test_a_broken_table_warns_once_and_is_ignored(tmp_path):
    (tmp_path / "tuning.csv").write_text(f"{HEADER}\nnonsense\n")
    code = f"from metallic import _core\nfor _ in range(3): print(_core._tuning('metal', 'apple7', {str(tmp_path)!r}))"
    done = in_new_process(code)
    assert done.stderr.count("tuning.csv:2:") == 1
    assert "mps" in done.stdout


# ---- through the public names ----------------------------------------------------------------------------------------

FORCED = "import metallic as ml, numpy as np\na = np.ones((64, 64), np.float32)\n"


def backend_of(code="", **env):
    done = in_new_process(FORCED + code + "\nprint(ml.explain(ml.matmul, a, a).backend)", **env)
    return done.stdout.strip(), done.stderr


def test_environment_reaches_the_plan():
    assert backend_of()[0] == "mlx"
    for value, backend in (("gemv", "gemv"), ("custom", "gemv"), ("mlx", "mlx")):
        assert backend_of(METALLIC_MATMUL_BACKEND=value)[0] == backend
        assert backend_of(FORCE_MATMUL_BACKEND=value)[0] == backend
    assert backend_of(METALLIC_MATMUL_BACKEND="gemv", FORCE_MATMUL_BACKEND="mlx")[0] == "gemv"


def test_unknown_value_warns_once_per_process():
    backend, stderr = backend_of("for _ in range(3): ml.Context('cpu')", METALLIC_MATMUL_BACKEND="blas")
    assert backend == "mlx"
    assert stderr.count("METALLIC_MATMUL_BACKEND") == 1 and "gemv" in stderr


def test_environment_is_read_when_a_context_is_made():
    code = "import os\nml.default_context()\nos.environ['METALLIC_MATMUL_BACKEND'] = 'gemv'"
    assert backend_of(code)[0] == "mlx"
    made_after = code + "\nprint(ml.explain(ml.matmul, a, a, ctx=ml.Context('cpu')).backend)"
    assert backend_of(made_after)[0].split() == ["gemv", "mlx"]


def plan_with(ctx=None, **kw):
    import numpy as np

    import metallic as ml

    a = np.ones((64, 64), np.float32)
    return ml.explain(ml.matmul, a, a, ctx=ctx, **kw).backend


def test_layers_through_the_public_names(monkeypatch):
    import metallic as ml

    monkeypatch.setenv("METALLIC_MATMUL_BACKEND", "mlx")
    ctx = ml.Context("cpu", matmul_backend="gemv")
    assert plan_with(ctx) == "gemv"
    with ml.prefs(matmul_backend="mlx"):
        assert plan_with(ctx) == "mlx"
        with ml.prefs(matmul_backend="custom"):
            assert plan_with(ctx) == "gemv"
        assert plan_with(ctx) == "mlx"
        assert plan_with(ctx, backend="gemv") == "gemv"
        with ml.prefs(matmul_backend="auto"):
            assert plan_with(ctx) == "mlx"
    assert plan_with(ctx) == "gemv"


def test_overrides_belong_to_one_thread():
    import metallic as ml

    ctx, seen = ml.Context("cpu"), []
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait()
        seen.append(plan_with(ctx))
        with ml.prefs(matmul_backend="mlx"):
            seen.append(plan_with(ctx))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with ml.prefs(matmul_backend="gemv"):
        inside.set()
        done.wait()
        seen.append(plan_with(ctx))
    thread.join()
    assert seen == ["mlx", "mlx", "gemv"]


def test_overrides_that_end_in_another_order_than_they_began():
    """As those of two coroutines of one thread do."""
    import metallic as ml

    x = ml.ones((2, 64))

    def backend():
        return ml.explain(ml.matmul, x, x.T).backend

    plain = backend()
    first, second = ml.prefs(matmul_backend="mlx", softmax_variant="block"), ml.prefs(matmul_backend="mps")
    third = ml.prefs(matmul_simd_m_min=1)
    for guard in (first, second, third):
        guard.__enter__()
    assert backend() == "mps"
    first.__exit__(None, None, None)
    assert backend() == "mps" and ml.explain(ml.softmax, x).variant == "vec"
    second.__exit__(None, None, None)
    assert backend() == plain
    third.__exit__(None, None, None)
    with pytest.raises(RuntimeError):
        third.__exit__(None, None, None)
    with first, second, first:  # one guard may be open more than once
        assert backend() == "mlx"
    assert backend() == plain


def test_public_errors():
    import metallic as ml

    for make in (lambda **kw: ml.prefs(**kw).__enter__(), lambda **kw: ml.Context("cpu", **kw)):
        for bad in ({"no_such": 1}, {"matmul_backend": "blas"}):
            with pytest.raises(ValueError, match="accepted"):
                make(**bad)
    with pytest.raises(ValueError, match="context"):
        ml.prefs(isa="scalar").__enter__()


def test_dispatch_switch_through_the_public_names():
    import numpy as np

    import metallic as ml

    plan = {}
    for ops in ("all", "none", "softmax"):
        with ml.prefs(dispatch=ops):
            plan[ops] = ml.explain(ml.matmul, np.ones((1, 32), np.float32), np.ones((32, 64), np.float32))
    assert plan["all"].backend == "gemv"
    for ops in ("none", "softmax"):
        assert plan[ops].backend in ("mps", "mlx") and any("METALLIC_DISPATCH" in why for why in plan[ops].why)
