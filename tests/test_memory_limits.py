"""What a process may do that has little address space left (ulimit -v)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import metallic as ml

resource = pytest.importorskip("resource")

pytestmark = [
    pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="sizes of a process are read in /proc"),
    pytest.mark.skipif("san" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers hold freed memory back"),
]

LIMIT = """
import resource, numpy as np, metallic as ml

def leave(mebibytes):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (mebibytes << 20), resource.RLIM_INFINITY))
"""


def run(program: str) -> str:
    code = LIMIT + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_idle_blocks_make_way_for_small_ones():
    run("""
        ml.ones((3, 3)) @ ml.ones((3, 3))
        large = ml.empty((64 << 20,), ml.uint8)
        del large                                  # stays with the pool
        leave(1)
        small = [ml.ones((size,)) for size in (100, 1000, 4000, 20_000, 40_000, 100_000, 200_000)]
        assert all((np.asarray(x) == 1).all() for x in small)
    """)


def test_a_small_block_needs_no_room_for_its_neighbours():
    run("""
        ml.ones((3, 3)) @ ml.ones((3, 3))
        leave(2)
        x = ml.ones((200_000,))
        assert (np.asarray(x) == 1).all()
    """)


def vendor_library() -> str:
    """What the backend "mps" runs where memory is no concern."""
    blas = next(device for device in ml.devices() if device["name"] == "cpu")["vendor_blas"]
    if not (blas["available"] and blas["name"].startswith("OpenBLAS")):
        pytest.skip(f"no OpenBLAS here: {blas['reason'] or blas['name']}")
    return blas["name"]


MPS_PRODUCT = """
    x = ml.ones((30, 30))
    print(ml.matmul(x, x, backend="mps")[0, 0].item())
    print(ml.explain(ml.matmul, x, x, backend="mps").impl)
    blas = next(device for device in ml.devices() if device["name"] == "cpu")["vendor_blas"]
    print(blas["reason"])
"""


@pytest.mark.parametrize("mebibytes", [30, 60, 90])
def test_a_vendor_library_that_would_end_the_process_is_not_loaded(mebibytes):
    vendor = vendor_library()
    result, impl, reason = run(f"""
    ml.set_num_threads(1)
    leave({mebibytes})
    {MPS_PRODUCT}
    """).splitlines()
    assert result == "30.0"
    assert impl != vendor and "is not loaded: less than" in reason


def test_a_vendor_library_is_loaded_where_there_is_room():
    vendor = vendor_library()
    result, impl, reason = run(f"""
    leave(1 << 20)
    {MPS_PRODUCT}
    """).splitlines()
    assert (result, impl, reason) == ("30.0", vendor, "None")


@pytest.mark.skipif(
    sys.maxsize < 1 << 32 or resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY,
    reason="for sizes of 64 bits, and a stack limit that can be raised",
)
def test_a_huge_limit_of_the_stack_does_not_hide_what_a_vendor_library_needs():
    """A number of CPUs times that limit may be anything in 64 bits, even less than there is left."""
    vendor = vendor_library()
    result, impl, reason = run(f"""
    import os
    share = -(-(1 << 64) // os.sysconf("SC_NPROCESSORS_ONLN"))  # times the CPUs: just beyond 2^64
    stack = min(share - (64 << 20), (1 << 63) - 1)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, resource.RLIM_INFINITY))
    leave(100)
    {MPS_PRODUCT}
    """).splitlines()
    assert result == "30.0"
    assert impl != vendor and "is not loaded: less than" in reason
