"""What the whole suite shares: reproducible examples, and a check that no test leaves global state behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import metallic as ml

SEED = int(os.environ.get("METALLIC_TEST_SEED", "0"))

settings.register_profile(
    "metallic", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("metallic")


def pytest_report_header(config) -> list[str]:
    devices = [d["name"] for d in ml.devices() if d["available"]]
    return [f"metallic {ml.__version__}, devices {devices}, METALLIC_TEST_SEED={SEED}, hypothesis derandomized"]


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that depend on METALLIC_TEST_SEED (printed in the header) alone."""
    return np.random.default_rng(SEED)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith(("METALLIC_", "FORCE_"))}


def _default_plan() -> str:
    probe = ml.empty((1, 1))
    return repr(ml.explain(ml.matmul, probe, probe))


@pytest.fixture(autouse=True)
def no_state_leaks():
    """Environment, thread count and this thread's preferences are after every test what they were before it."""
    before = _environment(), ml._core._get_num_threads(), _default_plan()
    yield
    after = _environment(), ml._core._get_num_threads(), _default_plan()
    for key in after[0].keys() - before[0].keys():
        del os.environ[key]
    os.environ.update(before[0])
    if after[1] != before[1]:
        ml.set_num_threads(before[1])
    assert after == before
