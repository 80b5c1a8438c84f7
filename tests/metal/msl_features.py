"""What the tests of MSL features share: the kernels of tests/metal/features, and number formats."""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from metallic import metal

FOLDER = Path(__file__).parent / "features"


@functools.cache
def library(name: str) -> metal.Library:
    return metal.Library(FOLDER / f"{name}.metal")


@functools.cache
def function(name: str, kernel: str, constants: tuple = ()) -> metal.Function:
    return library(name).function(kernel, dict(constants))


@functools.cache
def compile_all(names: tuple[str, ...]) -> None:
    """Fills the cache folder with all kernels of these sources; a library compiles one at a time, libraries do not wait
    for each other. What is wrong shows in the test that asks for it."""

    def compile_one(name: str) -> None:
        for kernel in library(name).function_names:
            try:
                library(name).function(kernel)
            except (ValueError, RuntimeError):
                continue

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, names))


def listed(name: str, macro: str) -> list[str]:
    """The names in '#define MACRO(X) X(a) X(b)' of a source: the order of the kernels' operation numbers."""
    text = (FOLDER / f"{name}.metal").read_text().replace("\\\n", " ")
    (line,) = re.findall(rf"#define {macro}\(X\)(.*)", text)
    return re.findall(r"X\((\w+)\)", line)


def to_bfloat(x: np.ndarray) -> np.ndarray:
    """Bits of the bfloats nearest to floats (ties to even; NaNs are quiet)."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, rounded).astype(np.uint16)


def from_bfloat(bits: np.ndarray) -> np.ndarray:
    return (np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def ulps(got: np.ndarray, want: np.ndarray, digits: int, lowest: int) -> np.ndarray:
    """|got - want| in units of the last place of want, for a format of so many digits whose subnormals are multiples of
    2^lowest. want: float64. Equal infinities and NaNs on both sides count as 0, other differences there as infinite."""
    got = got.astype(np.float64)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.where(np.isfinite(want), want, 1.0))
        unit = np.ldexp(1.0, np.maximum(exponent - digits, lowest))
        error = np.abs(got - want) / unit
        same = (got == want) | (np.isnan(got) & np.isnan(want))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
