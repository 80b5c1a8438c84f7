"""The public names against the contract (data/api.pyi.txt): what exists, parameters and defaults, the stub."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import pathlib
import subprocess
import sys
import textwrap

import pytest

import metallic as ml

# Names of the contract that are not built yet. Whoever builds one takes it out here.
LATER = {
    "embedding", "argmax", "topk", "Graph", "register_kernel",
}  # fmt: skip
NAMESPACES = {"metal"}  # classes of the contract that are modules here
LIKEWISE = {"add": ["subtract", "multiply", "divide"]}  # "likewise" in the contract

CONTRACT = ast.parse((pathlib.Path(__file__).parent / "data" / "api.pyi.txt").read_text())
STUB = ast.parse(importlib.resources.files(ml).joinpath("__init__.pyi").read_text())


def functions(tree: ast.AST) -> dict[str, ast.FunctionDef]:
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name, others in LIKEWISE.items():
        found |= dict.fromkeys(others, found[name])
    return found


def classes(tree: ast.AST) -> dict[str, ast.ClassDef]:
    return {
        node.name: node for node in tree.body if isinstance(node, ast.ClassDef) and node.name not in LATER | NAMESPACES
    }


def variables(tree: ast.AST) -> set[str]:
    return {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}


def annotations(node: ast.FunctionDef) -> str:
    """Parameters and result as text; forward references count as what they name."""
    copy = ast.parse(ast.unparse(node)).body[0]
    for part in ast.walk(copy.args):
        if (
            isinstance(part, ast.arg)
            and isinstance(part.annotation, ast.Constant)
            and isinstance(part.annotation.value, str)
        ):
            part.annotation = ast.parse(part.annotation.value, mode="eval").body
    return f"({ast.unparse(copy.args)}) -> {ast.unparse(copy.returns)}"


def parameters(node: ast.FunctionDef) -> list[tuple]:
    """(name, kind, default as text) per parameter, self left out."""
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(positional) - len(a.defaults)) + [ast.unparse(d) for d in a.defaults]
    found = [
        (p.arg, inspect.Parameter.POSITIONAL_ONLY if p in a.posonlyargs else inspect.Parameter.POSITIONAL_OR_KEYWORD, d)
        for p, d in zip(positional, defaults, strict=True)
    ]
    if a.vararg:
        found.append((a.vararg.arg, inspect.Parameter.VAR_POSITIONAL, None))
    for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        found.append((p.arg, inspect.Parameter.KEYWORD_ONLY, None if d is None else ast.unparse(d)))
    if a.kwarg:
        found.append((a.kwarg.arg, inspect.Parameter.VAR_KEYWORD, None))
    return [p for p in found if p[0] != "self"]


def default_text(value) -> str | None:
    if value is inspect.Parameter.empty:
        return None
    return value.name if isinstance(value, ml.DType) else repr(value)


def runtime_parameters(obj) -> list[tuple]:
    found = inspect.signature(obj).parameters.values()
    return [(p.name, p.kind, default_text(p.default)) for p in found if p.name != "self"]


CONTRACT_FUNCTIONS = {name: node for name, node in functions(CONTRACT).items() if name not in LATER}


@pytest.mark.parametrize("name", CONTRACT_FUNCTIONS)
def test_functions_have_the_contracts_parameters(name):
    assert runtime_parameters(getattr(ml, name)) == parameters(CONTRACT_FUNCTIONS[name])
    assert name in ml.__all__


@pytest.mark.parametrize("name", CONTRACT_FUNCTIONS)
def test_the_stub_has_the_contracts_functions(name):
    stub, contract = functions(STUB)[name], CONTRACT_FUNCTIONS[name]
    assert annotations(stub) == annotations(contract)


def members(node: ast.ClassDef) -> tuple[dict[str, ast.FunctionDef], set[str]]:
    """Methods, and attributes however they are declared."""
    methods, attributes = {}, set()
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            if any(ast.unparse(d) == "property" for d in item.decorator_list):
                attributes.add(item.name)
            else:
                methods[item.name] = item
        elif isinstance(item, ast.AnnAssign):
            attributes.add(item.target.id)
    return methods, attributes


@pytest.mark.parametrize("name", classes(CONTRACT))
def test_classes(name):
    methods, attributes = members(classes(CONTRACT)[name])
    stub_methods, stub_attributes = members(classes(STUB)[name])
    cls = getattr(ml, name)
    assert name in ml.__all__ and cls.__module__ == "metallic"
    assert [ast.unparse(b) for b in classes(STUB)[name].bases] == [
        ast.unparse(b) for b in classes(CONTRACT)[name].bases
    ]
    assert attributes <= stub_attributes
    for method, node in methods.items():
        expected = parameters(node)
        assert parameters(stub_methods[method]) == expected, method
        target = cls if method == "__init__" else getattr(cls, method)
        assert runtime_parameters(target) == expected, method


@pytest.mark.parametrize("name", NAMESPACES)
def test_namespaces(name):
    (namespace,) = (n for n in CONTRACT.body if isinstance(n, ast.ClassDef) and n.name == name)
    module = getattr(ml, name)
    for node in namespace.body:
        cls = getattr(module, node.name)
        methods, attributes = members(node)
        for method, signature in methods.items():
            target = cls if method == "__init__" else getattr(cls, method)
            assert runtime_parameters(target) == parameters(signature), f"{node.name}.{method}"
        assert all(isinstance(getattr(cls, attribute), property) for attribute in attributes)


def test_attributes_exist():
    plan = ml.explain(ml.matmul, ml.ones((2, 2)), ml.ones((2, 2)))
    with ml.profile() as prof:
        ml.add(ml.ones(1), 1)
    objects = {
        "DType": ml.float32, "Tensor": ml.ones((2, 2)), "Plan": plan, "Profile": prof,
        "ResourceCache": ml.ResourceCache(),
        "Context": ml.default_context(), "CheckError": ml.CheckError("x"),
    }  # fmt: skip
    for name, node in classes(STUB).items():
        for attribute in members(node)[1] - {"__hash__"}:
            assert hasattr(objects[name], attribute), f"{name}.{attribute}"
        for method in members(node)[0]:
            if method not in ("__buffer__",):  # a special method in Python from 3.12 on; the C slot is always there
                assert hasattr(objects.get(name, getattr(ml, name)), method), f"{name}.{method}"
    assert (plan.op, type(plan.why), type(plan.predicted_us)) == ("matmul", list, float)


def test_no_more_and_no_less():
    public = set(CONTRACT_FUNCTIONS) | set(classes(CONTRACT)) | NAMESPACES | (variables(CONTRACT) - LATER)
    assert set(ml.__all__) == public
    assert public - NAMESPACES <= set(functions(STUB)) | set(classes(STUB)) | variables(STUB)
    for name in LATER:
        assert not hasattr(ml, name), f"{name} exists now: take it out of LATER"


def test_context_has_every_operation():
    operations = [n for n, node in CONTRACT_FUNCTIONS.items() if "ctx" in [a.arg for a in node.args.kwonlyargs]]
    operations += ["matmul_mlx", "matmul_mps", "matmul_gemv"]
    for name in operations:
        without = [p for p in parameters(CONTRACT_FUNCTIONS[name]) if p[0] != "ctx"]
        assert runtime_parameters(getattr(ml.Context, name)) == without
        assert parameters(members(classes(STUB)["Context"])[0][name]) == without


def test_devices_and_kernels():
    devices = ml.devices()
    assert {"name", "kind", "available", "reason"} <= devices[0].keys()
    every = ml.kernels()
    assert every and {k["op"] for k in ml.kernels("matmul")} == {"matmul"}
    assert len(ml.kernels(device="cpu")) <= len(every)
    assert ml.kernels("softmax") == [k for k in every if k["op"] == "softmax"]


def test_plans_and_profiles(tmp_path):
    x = ml.ones((4, 64), ml.float16)
    plan = ml.explain(ml.matmul, x, x, transpose_b=True, beta=0.0)
    assert plan.flops == 2 * 4 * 4 * 64 and plan.bytes > 0 and plan.why
    data = plan.to_dict()
    data["why"].clear()
    assert plan.to_dict()["why"] and plan.impl in str(plan) and plan.backend in repr(plan)
    with ml.profile() as prof:
        with ml.scope("layer", index=3, kind="mlp"), ml.scope("up"):
            ml.matmul(x, x, transpose_b=True)
        inside = len(prof.records)
    ml.matmul(x, x, transpose_b=True)  # outside: not recorded
    assert len(prof.records) == inside == 1
    record = prof.records[0]
    assert record["label"] == "layer[index=3,kind=mlp]/up"
    assert (record["op"], record["impl"], record["dtype"], record["dispatches"]) == ("matmul", plan.impl, "float16", 1)
    assert record["copied_bytes"] == 0 and record["host_us"] > 0 and record["why"] == plan.why
    route = prof.routes[0]
    assert (route["count"], route["impl"], route["why"]) == (1, plan.impl, plan.why)
    prof.to_jsonl(tmp_path / "records.jsonl")
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1
    with pytest.raises(RuntimeError):
        prof.__enter__()


@pytest.mark.parametrize("rich", [True, False])
def test_tables(rich, monkeypatch):
    if rich:
        pytest.importorskip("rich", reason="rich is not installed")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
    with ml.profile() as prof, ml.scope("here"):
        ml.matmul(ml.ones((2, 3)), ml.ones((3, 4)))
    lines = prof.table().splitlines()
    assert any("here" in line and "matmul" in line and "2x3 3x4 2x4" in line for line in lines)
    assert any(line.startswith("routes") for line in lines)
    assert "\x1b" not in prof.table() and ml.profile().table()


def run(program: str, *flags: str, **env: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    """NumPy, its readers and the vendor library are not loaded by the import itself."""
    out = run(
        """
        import sys, metallic
        print([m for m in ("numpy", "ml_dtypes", "torch", "rich", "scipy_openblas32") if m in sys.modules])
        print("openblas" in open("/proc/self/maps").read() if sys.platform == "linux" else False)
        """
    )
    assert out.split("\n")[:2] == ["[]", "False"]


def test_import_is_quick():
    """Below 100 ms once NumPy is there; the best of three, since the machine may be busy."""
    program = """
        import numpy, time
        start = time.perf_counter()
        import metallic
        print(time.perf_counter() - start)
        """
    assert min(float(run(program)) for _ in range(3)) < 0.1


def test_nothing_but_the_entry_point_is_exported():
    if sys.platform != "linux":
        pytest.skip("reads ELF symbols with ctypes on Linux only")
    import ctypes

    library = ctypes.CDLL(ml._core.__file__)
    assert library.PyInit__core
    for symbol in ("ml_matmul", "ml_version", "mlpy_parse", "ml_context_create"):
        with pytest.raises(AttributeError):
            getattr(library, symbol)


def test_development_mode_is_quiet():
    out = run(
        """
        import numpy as np, metallic as ml
        x = ml.array(np.ones((8, 8)))
        y = (x @ x + 1)[2:, ::-1]
        with ml.profile() as prof, ml.prefs(matmul_backend="mlx"):
            ml.matmul(x, x, out=np.empty((8, 8), np.float32))
        prof.table(); str(ml.explain(ml.matmul, x, x)); np.asarray(y); repr(y)
        del x, y
        print("fine")
        """,
        "-X", "dev", "-W", "error",
    )  # fmt: skip
    assert out == "fine\n"


def test_a_second_module_object_works_beside_the_first():
    """All state belongs to the module object: a second one has types of its own."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("metallic._core", ml._core.__file__)
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    assert second.Tensor is not ml.Tensor
    x = second._empty((2, 2), second.float32, None).fill(1)
    y = x @ ml.ones((2, 2))  # tensors of both meet in one call
    assert type(x @ x) is second.Tensor and y.tolist() == [[2, 2], [2, 2]]
    del x, y, second, spec


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own came with Python 3.12")
def test_subinterpreters():
    out = run(
        """
        import sys
        if sys.version_info >= (3, 13):
            import _interpreters as interpreters
            run = interpreters.exec
        else:
            import _xxsubinterpreters as interpreters
            run = interpreters.run_string
        import metallic
        code = "import sys; sys.path[:] = %r; import metallic as ml; x = ml.ones(2); assert (x @ x).item() == 2"
        for _ in range(3):
            i = interpreters.create()
            failed = run(i, code % sys.path)
            assert failed is None, failed
            interpreters.destroy(i)
        print("fine")
        """
    )
    assert out == "fine\n"
