"""For projects with .metal kernels: the fixture metal_library, and options that run its kernels under the checker and
in other lane orders.

    def test_sum(metal_library):
        kernels = metal_library("kernels.metal")        # beside the test file
        kernels.function("sum")(x, out, grid=(256,), threadgroup=(256,))

    def test_two_passes(metal_library, metal_encoder):
        with metal_encoder() as encoder:                # a concurrent encoder: dispatches overlap
            ...
            encoder.barrier()

    pytest --metal-check --metal-order shuffle
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("metal", "Metal kernels, run by metallic")
    group.addoption("--metal-check", action="store_true", help="run them under the checker: races, bounds, barriers")
    group.addoption(
        "--metal-order", choices=("forward", "reverse", "shuffle"), default="forward", help="order of lanes and groups"
    )
    group.addoption("--metal-strict", action="store_true", help="refuse what Apple's compiler refuses (needs clang)")
    group.addoption("--metal-seed", type=int, default=None, metavar="N", help="of --metal-order shuffle (printed)")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.metal_seed is None:
        config.option.metal_seed = random.SystemRandom().randrange(1 << 32)


def pytest_report_header(config: pytest.Config) -> str | None:
    option = config.option
    if option.metal_order == "forward" and not option.metal_check and not option.metal_strict:
        return None
    seed = f", --metal-seed {option.metal_seed}" if option.metal_order == "shuffle" else ""
    strict = ", strict" if option.metal_strict else ""
    return f"metal: {'checked' if option.metal_check else 'unchecked'}{strict}, {option.metal_order} order{seed}"


@pytest.fixture(scope="session")
def _metal_libraries() -> dict[tuple, Any]:
    return {}


@pytest.fixture
def metal_library(request: pytest.FixtureRequest, _metal_libraries: dict[tuple, Any]) -> Any:
    """metal_library(path or source, macros=..., include_dirs=...): a metallic.metal.Library, under the options' checks
    and order. A path is relative to the test's own file; text with a line break is source."""
    from metallic import metal

    option = request.config.option
    check = True if option.metal_check else None
    with metal._running(check=check, order=option.metal_order, seed=option.metal_seed, strict=option.metal_strict):
        yield _opener(request.path.parent, _metal_libraries)


@pytest.fixture
def metal_encoder() -> Any:
    """`with metal_encoder() as encoder:`: dispatches inside may overlap, as in a concurrent encoder, unless
    encoder.barrier() stands between them (with arrays: for these alone). One that touches what an earlier one writes,
    or the other way round, raises CheckError; with --metal-check by the bytes really touched."""
    from metallic import metal

    return metal._Encoder


def _opener(folder: Path, known: dict[tuple, Any]) -> Callable[..., Any]:
    from metallic import metal

    def open_library(source: str | os.PathLike, **options: Any) -> Any:
        if isinstance(source, os.PathLike) or "\n" not in source:
            source = folder / source
        key = (source, repr(sorted(options.items())), metal._settings.checked())
        if key not in known:
            known[key] = metal.Library(source, **options)
        return known[key]

    return open_library
