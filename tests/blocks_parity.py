"""What the tests of norms, activations and rotary positions share: routes, references in float64, error bounds."""

from __future__ import annotations

import math

import numpy as np

import metallic as ml
from parity import U32, Route, tiers, wide


def routes(op: str) -> list[Route]:
    """Every device and ISA tier that has a kernel for op."""
    found = []
    for device in ml.devices():
        if device["available"] and ml.kernels(op, device["name"]):
            found += [Route(device["name"], tier, "auto") for tier in tiers(op, device)]
    return found


def _additions(n: int) -> float:
    """Roundings on the way of one term into a sum: at least two chains within a block of 4096, blocks in double."""
    return min(n, 4096) / 2 + 8


def rms_reference(x, weight=None, eps=1e-6):
    """(result, error): the squares' sum errs by a rounding for each addition, its root by half of that."""
    x = wide(x)
    n = x.shape[-1]
    with np.errstate(all="ignore"):
        value = x / np.sqrt((x * x).sum(-1, keepdims=True) / n + eps)
        if weight is not None:
            value = value * wide(weight)
        error = U32 * (_additions(n) / 2 + 6) * np.where(np.isfinite(value), np.abs(value), 0)
    return value, error


def layer_reference(x, weight=None, bias=None, eps=1e-5):
    """(result, error). The sums are of differences to a pivot within the deviations of the mean, and within a rounding
    of it: `spread` bounds what they are made of."""
    x = wide(x)
    n = x.shape[-1]
    with np.errstate(all="ignore"):
        mean = x.sum(-1, keepdims=True) / n
        deviation = x - mean
        variance = (deviation * deviation).sum(-1, keepdims=True) / n
        root = np.sqrt(variance + eps)
        value = deviation / root
        spread = 1.25 * np.sqrt(variance) + U32 * np.abs(mean)
        share = U32 * _additions(n) * spread / root
        error = share + (np.abs(value) + share) * (U32 * _additions(n) * (spread / root) ** 2 / 2 + 6 * U32)
        if weight is not None:
            value, error = value * wide(weight), error * np.abs(wide(weight))
        if bias is not None:
            value, error = value + wide(bias), error + U32 * (np.abs(value) + np.abs(wide(bias)))
    return value, np.where(np.isfinite(error), error, 0)


def _erfc(x):
    return np.vectorize(math.erfc, otypes=[np.float64])(x) if x.size else x


def gelu(x):
    x = wide(x)
    with np.errstate(all="ignore"):
        return np.where(np.isneginf(x), -0.0, 0.5 * x * _erfc(-x / math.sqrt(2)))


def gelu_tanh(x):
    """x (1 + tanh u) / 2 as a logistic function, which keeps its digits where tanh is near -1."""
    x = wide(x)
    with np.errstate(all="ignore"):
        u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return np.where(np.isneginf(x), -0.0, x / (1 + np.exp(-2 * u)))


def silu(x):
    x = wide(x)
    with np.errstate(all="ignore"):
        return np.where(np.isneginf(x), -0.0, x / (1 + np.exp(-x)))


def rope_reference(x, *, offset=0, base=10000.0, dims=None, interleaved=False, scale=1.0):
    """(result, error): factors within 2 ulp and half an ulp of the angle's fraction, two products and a sum."""
    x = wide(x)
    dims = dims or x.shape[-1]
    length = x.shape[-2]
    offset = np.asarray(offset, np.float64)
    offset = offset.reshape(offset.shape + (1,) * (x.ndim - 1 if offset.ndim else 0))
    position = (np.arange(length)[:, None] + offset) * scale
    angle = position * base ** (-np.arange(0, dims, 2) / dims)
    cosine, sine = np.cos(angle), np.sin(angle)
    value, error = x.copy(), np.zeros_like(x)
    first, second = (
        (slice(0, dims, 2), slice(1, dims, 2)) if interleaved else (slice(0, dims // 2), slice(dims // 2, dims))
    )
    a, b = x[..., first], x[..., second]
    value[..., first], value[..., second] = a * cosine - b * sine, a * sine + b * cosine
    # the reference's own angle errs by a rounding of float64 at that magnitude
    relative = 8 * U32 + 4 * 2.0**-53 * np.abs(angle)
    error[..., first] = error[..., second] = relative * (np.abs(a) + np.abs(b))
    return value, error
