"""Order statistics and the rank test, on plain lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, interpolated linearly between order statistics."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value that a and b come from one distribution: normal approximation with corrections for ties and for
    continuity (Mann and Whitney, 1947). 1.0 when either is empty or all values are equal."""
    n, m = len(a), len(b)
    if not n or not m:
        return 1.0
    tagged = sorted([(x, 0) for x in a] + [(x, 1) for x in b])
    rank_sum, ties, i = 0.0, 0.0, 0
    while i < len(tagged):
        j = i
        while j < len(tagged) and tagged[j][0] == tagged[i][0]:
            j += 1
        count = j - i
        rank_sum += (i + j + 1) / 2 * sum(1 for _, tag in tagged[i:j] if tag == 0)
        ties += count**3 - count
        i = j
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    distance = abs(rank_sum - n * (n + 1) / 2 - n * m / 2)
    return math.erfc(max(0.0, distance - 0.5) / math.sqrt(2 * variance))
