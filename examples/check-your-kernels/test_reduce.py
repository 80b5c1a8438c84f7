"""Tests of reduce.metal on any machine with a C++ compiler: `pytest --metal-check`."""

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["block_sum", "block_sum_fast"])
@pytest.mark.parametrize("n", [32, 256])
def test_block_sum(metal_library, name, n):
    x = np.random.default_rng(0).standard_normal((4, n)).astype(np.float32)
    out = np.zeros(4, np.float32)
    kernel = metal_library("reduce.metal").function(name)
    kernel(x, out, grid=(4 * n,), threadgroup=(n,), threadgroup_memory={0: 4 * n})
    np.testing.assert_allclose(out, x.astype(np.float64).sum(axis=1), rtol=1e-5, atol=1e-4)
