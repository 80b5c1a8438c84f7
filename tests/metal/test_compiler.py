"""The C++ compiler behind ml.metal: where it is looked for, the folder of compiled kernels, and what is said when
either is not as it should be."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np
import metallic as ml
try:
    library = ml.metal.Library("kernel void a(device int *x, uint i [[thread_position_in_grid]]) { x[i] = int(i); }")
    x = np.zeros(4, np.int32)
    library.function("a")(x, grid=(4,), threadgroup=(4,))
    print("result", x.tolist())
except ml.MetallicError as error:
    print(type(error).__name__, error)
"""


def run(environment: dict[str, str | None], program: str = PROGRAM, **options) -> str:
    """Output of a process of its own; None takes a variable away."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    for name in ("METALLIC_CXX", "CXX"):
        if name not in environment:
            env.pop(name, None)
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache folder that has the headers already."""
    folder = tmp_path_factory.mktemp("cache") / "warm"
    assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]"
    return folder


# ---- the compiler ---------------------------------------------------------------------------------------------------


def test_no_compiler(tmp_path):
    said = run({"METALLIC_CACHE_DIR": str(tmp_path), "PATH": "/nonexistent"})
    assert said.startswith("CompileError no C++ compiler found (looked for c++, g++ and clang++ on PATH)")
    assert "METALLIC_CXX" in said


@pytest.mark.parametrize("variable", ["METALLIC_CXX", "CXX"])
def test_a_chosen_compiler_that_is_not_there(tmp_path, variable):
    said = run({"METALLIC_CACHE_DIR": str(tmp_path), variable: "/no/such/g++ -m64"})
    assert said.startswith(f"CompileError {variable} is '/no/such/g++ -m64', which is no program")


def test_a_compiler_that_is_none(tmp_path):
    said = run({"METALLIC_CACHE_DIR": str(tmp_path), "METALLIC_CXX": "/bin/false"})
    assert said.startswith("CompileError /bin/false does not answer to --version")


def test_a_compiler_that_dies(tmp_path):
    script = tmp_path / "c++"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "g++ 12.0" && exit 0\nkill -9 $$\n')
    script.chmod(0o755)
    said = run({"METALLIC_CACHE_DIR": str(tmp_path / "cache"), "METALLIC_CXX": str(script)})
    assert said.startswith("CompileError") and str(script) in said


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_compilers_in_folders_with_spaces(tmp_path, compiler):
    real = shutil.which(compiler)
    if not real:
        pytest.skip(f"no {compiler}")
    folder = tmp_path / 'a folder\'s "bin"'
    folder.mkdir()
    (folder / "c++").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    (folder / "c++").chmod(0o755)
    cache = {"METALLIC_CACHE_DIR": str(tmp_path / "cache folder")}
    assert run({**cache, "PATH": f"{folder}:{os.environ['PATH']}"}) == "result [0, 1, 2, 3]"
    assert run({**cache, "CXX": str(folder / "c++")}) == "result [0, 1, 2, 3]"
    quoted = f"{str(folder / 'c++')!r}".replace("\\'", "'\"'\"'")
    assert run({**cache, "METALLIC_CXX": f"{quoted} -DUNUSED='a b'"}) == "result [0, 1, 2, 3]"


def test_temporary_folder_that_is_not_there(tmp_path):
    odd = {"TMPDIR": "/nonexistent/tmp", "METALLIC_CACHE_DIR": str(tmp_path / "cache")}
    assert run(odd) == "result [0, 1, 2, 3]"


def test_clang_compiles_and_names_lines(tmp_path):
    """Also where it puts a folder in front of the headers' names, and reads a reference before it is asked for."""
    if not shutil.which("clang++"):
        pytest.skip("no clang++")
    (tmp_path / "k.metal").write_text(
        "#include <metal_stdlib>\nusing namespace metal;\nconstant bool given [[function_constant(0)]];\n"
        "kernel void a(device float *x [[buffer(0)]], constant float &n [[buffer(1), function_constant(given)]]) {\n"
        "    float v = 3;\n    if (given)\n        v = 2 * v + n;\n    x[0] = v;\n}\n"
        "kernel void b(device float *x) {\n    x[0] = simd_and(x[0]);\n}\n"
    )
    program = """
    import pathlib
    import numpy as np
    import metallic as ml
    library = ml.metal.Library(pathlib.Path("k.metal"))
    x = np.zeros(1, np.float32)
    library.function("a", {0: False})(x, None, grid=(1,), threadgroup=(1,))
    print(x[0])
    try:
        library.function("b")
    except ml.CompileError as error:
        print(error)
    """
    said = run({"METALLIC_CACHE_DIR": str(tmp_path / "cache"), "METALLIC_CXX": "clang++"}, program, cwd=tmp_path)
    assert re.match(r"3\.0\nk\.metal:11:\d+: error:", said) and "<metal>" not in said, said


def test_a_program_that_ignores_its_children(tmp_path):
    """Whoever ignores SIGCHLD is not told how they end."""
    program = """
    import signal
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    import metallic as ml
    try:
        ml.metal.Library("kernel void a(device int *x) {\\n x[0] = nothing; }").function("a")
    except ml.CompileError as error:
        print(error)
    """
    said = run({"METALLIC_CACHE_DIR": str(tmp_path)}, textwrap.dedent(program) + PROGRAM)
    assert re.match(r"program_source:2:\d+: error: .*nothing", said) and said.endswith("result [0, 1, 2, 3]"), said


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_folder_is_private(warm):
    assert stat.S_IMODE(warm.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) & 0o022 for p in warm.rglob("*")} == {0}
    assert not list(warm.glob("tmp-*"))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o1777])
def test_folder_that_others_may_write_to(tmp_path, mode):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    said = run({"METALLIC_CACHE_DIR": str(folder)})
    assert said.startswith(f"DeviceError {folder} belongs to another user or others may write to it")
    assert not list(folder.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_folder_of_another_user(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)
    said = run({"METALLIC_CACHE_DIR": str(folder)})
    assert said.startswith(f"DeviceError {folder} belongs to another user")
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert "belongs to another user" in run({"METALLIC_CACHE_DIR": str(link)})


def test_folder_that_is_a_file_or_below_one(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert run({"METALLIC_CACHE_DIR": str(file)}).startswith(f"DeviceError {file} is no folder")
    said = run({"METALLIC_CACHE_DIR": str(file / "below")})
    assert said.startswith("DeviceError cannot create the folder for compiled kernels") and "Not a directory" in said


def test_folder_that_cannot_be_made():
    said = run({"METALLIC_CACHE_DIR": "/proc/metallic/cache"})
    assert said.startswith("DeviceError cannot create the folder for compiled kernels, /proc/metallic/cache")
    assert "METALLIC_CACHE_DIR" in said


def test_no_folder_to_be_had():
    said = run({"METALLIC_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": None})
    assert said.startswith("DeviceError no folder for compiled kernels: neither METALLIC_CACHE_DIR nor HOME is set")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, who may not write")
def test_folder_that_is_read_only():
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        os.chown(folder, 65534, 65534)
        folder.chmod(0o500)
        program = PROGRAM.replace("try:", "import os; ml.zeros((1,)); os.setgid(65534); os.setuid(65534)\ntry:")
        said = run({"METALLIC_CACHE_DIR": str(folder), "HOME": "/nonexistent"}, program)
        assert re.match(rf"DeviceError cannot create .*{folder}/\S+: Permission denied \(METALLIC_CACHE_DIR", said)
    finally:
        shutil.rmtree(folder)


def test_full_disk(tmp_path):
    """Files may not grow over some size, as on a disk without room: an error that says so, and nothing half-written
    that a later run would take for a kernel."""
    limited = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (@, @))
    """
    for limit in (0, 100, 30_000, 2_000_000):
        folder = tmp_path / str(limit)
        program = textwrap.dedent(limited).replace("@", str(limit)) + PROGRAM
        said = run({"METALLIC_CACHE_DIR": str(folder)}, program)
        assert said.startswith(("CompileError", "DeviceError")), said
        assert "large" in said or "without a message" in said, said
        assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]", limit


def test_kernels_cut_short_are_compiled_again(tmp_path):
    folder = tmp_path / "cut"
    assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]"
    (kernel,) = folder.glob("kernel-*.so")
    for content in (b"", b"\x7fELF", kernel.read_bytes()[:5000]):
        kernel.write_bytes(content)
        assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]"
        assert kernel.stat().st_size > 5000


def test_a_kernel_compiled_once_needs_no_compiler_run(warm):
    before = {p: p.stat().st_mtime_ns for p in warm.rglob("*.so")}
    assert run({"METALLIC_CACHE_DIR": str(warm)}) == "result [0, 1, 2, 3]"
    assert {p: p.stat().st_mtime_ns for p in warm.rglob("*.so")} == before


def test_several_processes_and_threads_begin_with_an_empty_folder(tmp_path):
    program = """
    import sys, threading
    import numpy as np
    import metallic as ml
    wrong = []
    def work(k):
        library = ml.metal.Library(f"kernel void a(device int *x) {{ x[0] = {k % 3}; }}")
        x = np.zeros(1, np.int32)
        library.function("a")(x, grid=(1,), threadgroup=(1,))
        if x[0] != k % 3:
            wrong.append(k)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    sys.exit(bool(wrong))
    """
    env = {**os.environ, "METALLIC_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    workers = [subprocess.Popen(command, env=env) for _ in range(3)]
    assert [w.wait(120) for w in workers] == [0, 0, 0]
    left = list((tmp_path / "cache").glob("*"))
    assert len([p for p in left if p.name.startswith("kernel-")]) == 3
    assert not [p for p in left if p.name.startswith("tmp-")]


def test_files_of_a_process_with_the_same_number(tmp_path):
    """Containers that share a folder have process numbers of their own: what another one is writing is left alone."""
    program = """
    import os, pathlib
    folder = pathlib.Path(os.environ["METALLIC_CACHE_DIR"])
    folder.mkdir(0o700)
    theirs = [
        folder / f"tmp-{os.getpid()}-{n}{suffix}"
        for n in range(40) for suffix in (".metal", ".ii", ".txt", ".cc", ".so", ".o", ".h", ".gch")
    ]
    for path in theirs:
        path.write_text("theirs")
    """
    check = "print({path.read_text() for path in theirs if path.exists()}, all(path.exists() for path in theirs))"
    said = run({"METALLIC_CACHE_DIR": str(tmp_path / "cache")}, textwrap.dedent(program) + PROGRAM + check)
    assert said == "result [0, 1, 2, 3]\n{'theirs'} True"


def test_a_folder_that_is_named_from_the_working_folder(tmp_path):
    """It stays where it was when the process goes elsewhere: what lies there was put there by somebody else."""
    (tmp_path / "elsewhere").mkdir()
    program = PROGRAM.replace("    x = np", "    __import__('os').chdir('elsewhere')\n    x = np")
    assert run({"METALLIC_CACHE_DIR": "cache"}, program, cwd=tmp_path) == "result [0, 1, 2, 3]"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(list((tmp_path / "cache").glob("kernel-*.so"))) == 1


def test_what_nobody_uses_goes(tmp_path):
    folder = tmp_path / "cache"
    assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]"
    day, now = 86400, time.time()
    ages = {
        "kernel-old.so": 100, "kernel-young.so": 50, "builtin-old.so": 100, "tmp-1-2.o": 2, "tmp-1-3.o": 0.5,
        "pch-old/shim.h.gch": 100, "pch-old/shim.h": 100, "pch-young/shim.h.gch": 50, "host-old/shim/abi.h": 100,
        "somebody-elses": 1000, "tmp-1-4-host/shim/abi.h": 2,
    }  # fmt: skip
    for name, days in ages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        os.utime(folder / name, (now - days * day, now - days * day))
    for name in ("pch-old", "host-old/shim", "host-old", "tmp-1-4-host/shim", "tmp-1-4-host"):
        os.utime(folder / name, (now - 100 * day, now - 100 * day))
    before = {p.name for p in folder.iterdir()}
    other = PROGRAM.replace("int(i)", "3 - int(i)")  # a compiler run, which is when the folder is looked through
    assert run({"METALLIC_CACHE_DIR": str(folder)}, other) == "result [3, 2, 1, 0]"
    gone = before - {p.name for p in folder.iterdir()}
    assert gone == {"kernel-old.so", "builtin-old.so", "tmp-1-2.o", "tmp-1-4-host", "pch-old", "host-old"}
    assert run({"METALLIC_CACHE_DIR": str(folder)}) == "result [0, 1, 2, 3]"


def test_a_changed_include_is_seen(tmp_path):
    program = """
    import pathlib, sys
    import numpy as np
    import metallic as ml
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(".")
    for value in (1, 2, 1):
        (folder / "value.h").write_text(f"constant int value = {value};")
        x = np.zeros(1, np.int32)
        library = ml.metal.Library(folder / "k.metal")
        library.function("k")(x, grid=(1,), threadgroup=(1,))
        print(x[0])
    """
    (tmp_path / "k.metal").write_text('#include "value.h"\nkernel void k(device int *x) { x[0] = value; }\n')
    said = run({"METALLIC_CACHE_DIR": str(tmp_path / "cache")}, program, cwd=tmp_path)
    assert said.split() == ["1", "2", "1"]


def test_paths_with_odd_characters(tmp_path):
    folder = tmp_path / 'a "b" c\'d \\ é %s'
    folder.mkdir()
    (folder / "k k.h").write_text("#define VALUE 3\n")
    (folder / "k k.metal").write_text('#include "k k.h"\nkernel void k(device int *x) { x[0] = VALUE; }\n')
    (folder / "bad.metal").write_text("kernel void k(device int *x) {\n x[0] = nothing; }\n")
    program = """
    import pathlib
    import numpy as np
    import metallic as ml
    x = np.zeros(1, np.int32)
    ml.metal.Library(pathlib.Path("k k.metal").absolute()).function("k")(x, grid=(1,), threadgroup=(1,))
    print(x[0])
    try:
        ml.metal.Library(pathlib.Path("bad.metal").absolute()).function("k")
    except ml.CompileError as error:
        print(error)
    """
    said = run({"METALLIC_CACHE_DIR": str(folder / "cache")}, program, cwd=folder)
    assert said.startswith("3\n") and f"{Path(folder)}/bad.metal:2:9: error:" in said
