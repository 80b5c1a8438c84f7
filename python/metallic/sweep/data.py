"""Inputs of a case: the same values in every process, whatever library is measured there."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable

import numpy as np

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    BFLOAT16 = None

# Values repeat after a prime number of elements, so that no row or column of a matrix equals another; generating
# hundreds of millions would take longer than measuring.
PERIOD = 1048583
PAGE, HUGE_PAGE = 4096, 2 << 20
OFFSET = 16  # where in a page the C library's large allocations begin, and so NumPy's arrays

Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


def huge_pages(size: int, arrays: int) -> Allocate:
    """An allocator for that many arrays of together size bytes, in huge pages where the system has them.

    In small pages their physical addresses decide what fits the caches: one matrix that half fits the second level was
    read in 13 to 18 us, from process to process.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty
    # Shared memory, the default, has huge pages by a setting of its own only.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, size + arrays * (PAGE + OFFSET) + 2 * HUGE_PAGE, flags=flags)
    memory.madvise(mmap.MADV_HUGEPAGE)
    block = np.frombuffer(memory, np.uint8)
    begin = -block.ctypes.data % HUGE_PAGE

    def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        nonlocal begin
        start = begin + OFFSET
        end = start + math.prod(shape) * dtype.itemsize
        begin = end + -end % PAGE
        return block[start:end].view(dtype).reshape(shape)

    return allocate


def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest bfloat16 (ties to even), still float32. Finite values only."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def storage(dtype: str) -> np.dtype:
    """The NumPy dtype that holds values of dtype here: float32 for bfloat16 where ml_dtypes is not installed."""
    if dtype == "bfloat16":
        return BFLOAT16 if BFLOAT16 is not None else np.dtype(np.float32)
    return np.dtype(dtype)


def make_inputs(case, dtype: str, allocate: Allocate = np.empty) -> dict[str, np.ndarray]:
    """Operands of case by name, C-contiguous, in storage(dtype).

    Uniform in [-0.5, 1): signs differ, yet sums stay away from zero, so that a relative error means something.
    """
    inputs = {}
    for seed, (name, shape) in enumerate(case.shapes().items()):
        block = np.random.default_rng([20250101, seed]).random(PERIOD, np.float32) * np.float32(1.5) - np.float32(0.5)
        if dtype == "bfloat16":
            block = round_to_bfloat16(block)
        block = block.astype(storage(dtype))
        array = allocate(shape, block.dtype)
        flat = array.reshape(-1)
        for start in range(0, flat.size, PERIOD):
            flat[start : start + PERIOD] = block[: flat.size - start]
        inputs[name] = array
    return inputs


def copy_inputs(inputs: dict[str, np.ndarray], allocate: Allocate = np.empty) -> dict[str, np.ndarray]:
    """Equal inputs in memory of their own."""
    copies = {name: allocate(array.shape, array.dtype) for name, array in inputs.items()}
    for name, array in inputs.items():
        copies[name][...] = array
    return copies
