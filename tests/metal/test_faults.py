"""Crashes of the process's own, once the software Metal has put its fault handlers in place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc")

# Goes in before every other library, so that it is asked for all memory. A crash in the middle of malloc holds the
# lock of the allocator: a handler that allocates then never comes back.
WATCH = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static volatile int crashing;
static void check(void) { if (crashing) _exit(3); }
void *malloc(size_t n) { check(); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { check(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { check(); return __libc_realloc(p, n); }
static void heard(int sig) { (void)sig; _exit(42); }
void install(void) { signal(SIGSEGV, heard); }
void crash(void) { crashing = 1; *(volatile int *)16 = 1; }
"""

CODE = """
import ctypes, sys, threading
watch = ctypes.CDLL(sys.argv[1])
watch.install()
import metallic as ml
assert ml.add(ml.array([1.0], device="metal"), 1.0).tolist() == [2.0]
thread = threading.Thread(target=watch.crash)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the software Metal runs on Linux")
@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_a_crash_elsewhere_reaches_its_own_handler_and_allocates_nothing(tmp_path):
    """In a thread that never ran a kernel: thread-local variables of a library that was loaded late are made when they
    are first used, and that allocates."""
    (tmp_path / "watch.c").write_text(WATCH)
    library = tmp_path / "watch.so"
    built = subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, tmp_path / "watch.c"], capture_output=True)
    if built.returncode:
        pytest.skip(f"the C library is another one: {built.stderr.decode()}")
    done = subprocess.run(
        [sys.executable, "-c", CODE, library],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 42, done.stderr.decode()
