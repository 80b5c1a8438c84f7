"""What an installation holds: the C library with its header and pkg-config file, and the wheel.

These tests build the project from its sources, so they need a checkout, a C compiler, meson and ninja.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import metallic as ml

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def tool(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([str(BIN), os.environ.get("PATH", "")]))


def run(*command, **kwargs) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


needs_sources = pytest.mark.skipif(not (ROOT / "meson.build").exists(), reason="not a source checkout")
needs_meson = pytest.mark.skipif(not (tool("meson") and tool("ninja")), reason="meson or ninja is not installed")


def environment() -> dict[str, str]:
    """The tools beside this Python first; sanitizers preloaded for this process are not for compilers."""
    env = os.environ | {"PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}
    env.pop("LD_PRELOAD", None)
    return env


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The prefix of `meson install` without Python."""
    base = tmp_path_factory.mktemp("install")
    build, prefix = base / "build", base / "prefix"
    env = environment()
    run(tool("meson"), "setup", build, ROOT, "-Dpython=disabled", f"--prefix={prefix}", "--libdir=lib", env=env)
    run(tool("meson"), "install", "-C", build, "--quiet", env=env)
    return prefix


@needs_sources
@needs_meson
def test_meson_install_gives_library_header_and_pkg_config(installed):
    suffix = "dylib" if sys.platform == "darwin" else "so"
    assert (installed / "lib" / f"libmetallic.{suffix}").exists()
    assert [p.name for p in (installed / "include").rglob("*.h")] == ["metallic.h"]
    config = (installed / "lib" / "pkgconfig" / "metallic.pc").read_text()
    assert f"Version: {ml.__version__}" in config and "-lmetallic" in config


@needs_sources
@needs_meson
@pytest.mark.parametrize("compiler", ["gcc", "clang", "c++"])
def test_the_c_example_compiles_and_runs(installed, tmp_path, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    example = ROOT / "examples" / "c" / "gemm.c"
    env = environment() | {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    if shutil.which("pkg-config"):
        flags = run("pkg-config", "--cflags", "--libs", "metallic", env=env).split()
    else:
        flags = [f"-I{installed}/include", f"-L{installed}/lib", "-lmetallic"]
    if compiler == "c++":  # the header is for C++ too
        source = tmp_path / "include.cpp"
        source.write_text("#include <metallic.h>\nint main() { return ml_version()[0] == 0; }\n")
        languages = ["-std=c++17"]
    else:
        source, languages = example, ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    program = tmp_path / "program"
    run(compiler, *languages, source, "-o", program, *flags, "-lm", f"-Wl,-rpath,{installed}/lib", env=env)
    run(program, env=env)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nm -D reads ELF")
def test_the_extension_exports_its_init_function_only():
    if not tool("nm"):
        pytest.skip("nm is not installed")
    symbols = [line.split()[-1] for line in run("nm", "-D", "--defined-only", ml._core.__file__).splitlines()]
    assert [name for name in symbols if not name.startswith(("__asan", "__ubsan", "__odr"))] == ["PyInit__core"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nm -D reads ELF")
@needs_sources
@needs_meson
def test_the_library_exports_the_public_functions_only(installed):
    if not tool("nm"):
        pytest.skip("nm is not installed")
    header = (installed / "include" / "metallic.h").read_text()
    lines = run("nm", "-D", "--defined-only", installed / "lib" / "libmetallic.so").splitlines()
    exported = {line.split()[-1] for line in lines}
    assert exported
    assert [name for name in sorted(exported) if f"{name}(" not in header] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not (tool("meson") and tool("ninja")):
        pytest.skip("meson or ninja is not installed")
    pytest.importorskip("mesonpy", reason="meson-python is not installed")
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, ROOT]
    run(*command, env=environment())
    (built,) = target.glob("*.whl")
    return built


@needs_sources
def test_the_wheel_is_complete_and_self_contained(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    sources = {
        path.relative_to(ROOT / "python").as_posix()
        for path in (ROOT / "python" / "metallic").rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed"
    }
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    code = {name for name in names if ".dist-info/" not in name}
    command = f"metallic-{ml.__version__}.data/scripts/mslc"
    assert code == sources | {f"metallic/_core{suffix}", "metallic/_build.py", "pytest_metallic.py", command}
    assert f"Version: {ml.__version__}" in metadata and "License-Expression: MIT" in metadata
    required = {line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")}
    assert {r for r in required if "extra" not in r} == {"numpy>=1.26", "scipy-openblas32>=0.3.27"}
    assert "metallic = metallic.__main__:main" in entry
    assert platform.machine() in wheel.name or sys.platform == "darwin"
