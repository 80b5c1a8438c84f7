"""References in float64 for softmax and attention, written from the semantics page, and their error bounds."""

from __future__ import annotations

import itertools

import numpy as np

import metallic as ml
from parity import U32, Route, tiers, wide


def variants(op: str) -> list[tuple[Route, str]]:
    """(route, variant) for every variant that some available kernel of op implements, on every ISA tier."""
    found = []
    for device in ml.devices():
        if not device["available"]:
            continue
        names = {row["variant"] for row in ml.kernels(op, device["name"]) if row["available"]}
        if op == "sdpa":
            names.add("composed")
        found += [
            (Route(device["name"], tier, "auto"), name)
            for tier, name in itertools.product(tiers(op, device), sorted(names))
        ]
    return found


def visible(q_len, k_len, *, causal=False, window=None, query_offset=None, mask=None, shape=None):
    """Boolean [..., Q, S]: which key each query sees."""
    offset = k_len - q_len if query_offset is None else query_offset
    p = np.arange(q_len)[:, None] + offset
    j = np.arange(k_len)[None, :]
    seen = np.ones((q_len, k_len), bool)
    if causal or window is not None:
        seen &= j <= p
    if window is not None:
        seen &= j > p - window
    if shape is not None:
        seen = np.broadcast_to(seen, shape).copy()
    if mask is not None:
        mask = np.asarray(mask)
        seen = seen & (mask if mask.dtype == bool else ~np.isneginf(wide(mask)))
    return seen


def softmax_reference(x, *, axis=-1, scale=1.0, causal=False, query_offset=None, mask=None):
    """softmax(scale * x + mask) over axis; zeros where nothing is visible or all visible scores are -inf."""
    x = wide(x)
    shape = x.shape
    seen = np.ones(shape, bool)
    if causal:
        seen = visible(shape[-2] if x.ndim > 1 else 1, shape[-1], causal=True, query_offset=query_offset)
        seen = np.broadcast_to(seen if x.ndim > 1 else seen[0], shape).copy()
    with np.errstate(invalid="ignore", over="ignore"):
        score = scale * x
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype == bool:
                seen = seen & mask
            else:
                seen = seen & ~np.isneginf(wide(mask))
                score = score + np.where(np.isneginf(wide(mask)), 0, wide(mask))
        return _masked_softmax(score, seen, axis)


def _masked_softmax(score, seen, axis, sink=None):
    with np.errstate(invalid="ignore", over="ignore"):
        score = np.where(seen, score, -np.inf)
        if score.shape[axis] == 0:
            return score
        top = score.max(axis=axis, keepdims=True)  # NaN travels
        if sink is not None:
            top = np.maximum(top, sink)
        base = np.where(np.isneginf(top), 0, top)
        e = np.where(seen, np.exp(score - base), 0)
        total = e.sum(axis=axis, keepdims=True)
        if sink is not None:
            total = total + np.exp(sink - base)
        return np.where(seen, np.divide(e, total, out=np.zeros_like(e), where=(total != 0)), 0)


def softmax_error(x, result, *, scale=1.0, mask=None, axis=-1):
    """Roundings of the score reach the exponent: each term errs, relatively, as its score does, plus the exponential's
    error and the sum's."""
    with np.errstate(invalid="ignore", over="ignore"):
        magnitude = np.abs(scale * wide(x)) + (
            0 if mask is None or np.asarray(mask).dtype == bool else np.abs(wide(mask))
        )
        magnitude = np.where(np.isfinite(magnitude), magnitude, 0)
        top = magnitude.max(axis=axis, keepdims=True) if magnitude.size else magnitude
        relative = U32 * (3 * (magnitude + top) + 8 + np.shape(x)[axis])
        return relative * np.where(np.isfinite(result), np.abs(result), 0) + 2.0**-126


def sdpa_reference(q, k, v, attn_mask=None, *, is_causal=False, scale=None, query_offset=None, window=None, sinks=None,
                   softcap=None):  # fmt: skip
    """(result, accumulation error) for [B, H, L, D] operands (3-D: without B), written from the semantics page."""
    q, k, v = wide(q), wide(k), wide(v)
    flat = q.ndim == 3
    if flat:
        q, k, v = q[None], k[None], v[None]
        if attn_mask is not None and np.asarray(attn_mask).ndim == 4:
            raise ValueError("4-D mask with 3-D operands")
    group = q.shape[1] // max(k.shape[1], 1)
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    L, S, D = q.shape[2], k.shape[2], q.shape[3]
    scale = 1 / np.sqrt(D) if scale is None else scale
    shape = (*q.shape[:2], L, S)
    with np.errstate(invalid="ignore", over="ignore"):
        score = scale * (q @ k.swapaxes(-1, -2))
        magnitude = abs(scale) * (np.abs(q) @ np.abs(k).swapaxes(-1, -2))
        if softcap is not None:
            score = softcap * np.tanh(score / softcap)
        seen = visible(L, S, causal=is_causal, window=window, query_offset=query_offset, mask=attn_mask, shape=shape)
        if attn_mask is not None and np.asarray(attn_mask).dtype != bool:
            additive = np.where(np.isneginf(wide(attn_mask)), 0, wide(attn_mask))
            score, magnitude = score + additive, magnitude + np.abs(additive)
        sink = None if sinks is None else wide(sinks).reshape(1, -1, 1, 1)
        p = _masked_softmax(score, seen, -1, sink)
        # an invisible key's value row has no effect, NaN included; a NaN weight makes the whole row NaN
        dead = np.isnan(p).any(-1)
        safe_v = v
        out = np.zeros((*q.shape[:3], v.shape[3]))
        weight_magnitude = np.zeros_like(out)
        for b, h in np.ndindex(q.shape[0], q.shape[1]):
            for i in range(L):
                cols = np.nonzero(seen[b, h, i])[0]
                out[b, h, i] = p[b, h, i, cols] @ safe_v[b, h, cols] if len(cols) else 0
                weight_magnitude[b, h, i] = p[b, h, i, cols] @ np.abs(safe_v[b, h, cols]) if len(cols) else 0
        out[dead] = np.nan
        out[~(seen & ~np.isneginf(score)).any(-1)] = 0  # nothing visible but -inf: zeros, whatever the values hold
        big = np.where(seen & np.isfinite(magnitude), magnitude, 0).max(-1, initial=0)[..., None]
        if sinks is not None:
            big = np.maximum(big, np.abs(sink))
        relative = U32 * ((2 * D + 8) * big + S + 16)
        error = relative * np.where(np.isfinite(weight_magnitude), weight_magnitude, 0)
    return (out[0], error[0]) if flat else (out, error)
