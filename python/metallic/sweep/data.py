"""Inputs of a case: the same values in every process, whatever library is measured there."""

from __future__ import annotations

import numpy as np

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    BFLOAT16 = None

# Values repeat after a prime number of elements, so that no row or column of a matrix equals another; generating
# hundreds of millions would take longer than measuring.
PERIOD = 1048583


def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest bfloat16 (ties to even), still float32. Finite values only."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def storage(dtype: str) -> np.dtype:
    """The NumPy dtype that holds values of dtype here: float32 for bfloat16 where ml_dtypes is not installed."""
    if dtype == "bfloat16":
        return BFLOAT16 if BFLOAT16 is not None else np.dtype(np.float32)
    return np.dtype(dtype)


def make_inputs(case, dtype: str) -> dict[str, np.ndarray]:
    """Operands of case by name, C-contiguous, in storage(dtype).

    Uniform in [-0.5, 1): signs differ, yet sums stay away from zero, so that a relative error means something.
    """
    inputs = {}
    for seed, (name, shape) in enumerate(case.shapes().items()):
        block = np.random.default_rng([20250101, seed]).random(PERIOD, np.float32) * np.float32(1.5) - np.float32(0.5)
        if dtype == "bfloat16":
            block = round_to_bfloat16(block)
        block = block.astype(storage(dtype))
        array = np.empty(shape, block.dtype)
        flat = array.reshape(-1)
        for start in range(0, flat.size, PERIOD):
            flat[start : start + PERIOD] = block[: flat.size - start]
        inputs[name] = array
    return inputs


def copy_inputs(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Equal inputs in memory of their own."""
    return {name: array.copy() for name, array in inputs.items()}
