"""Honest planning: what this traffic can prove, and when."""

from __future__ import annotations

import math
from typing import Final

FARTHEST: Final = 10.0
"""Forecasts reach to ten times the evidence so far; beyond it the answer is "never"."""

_QUANTILE_80: Final = 1.2816
"""10 % and 90 % of a standard normal: the range that holds 8 of 10 harmless stages."""


def growth_needed(
    z: float, if_harmless: float, *, bound: float
) -> tuple[float | None, float | None, float | None]:
    """By which factor information must grow until a guard passes, if the stage is harmless.

    After growth f the statistic is `(z + (f-1) if_harmless + q sqrt(f-1)) / sqrt(f)`, q standard
    normal: what was seen stays, what comes is harmless.

    Args:
        z: the statistic now.
        if_harmless: its expectation now for a stage that changes nothing, > 0.
        bound: what it has to reach.
    Returns:
        Early (10 %), middle and late (90 %) factor, >= 1; None beyond `FARTHEST`.
    """
    return (
        _growth(z, if_harmless, bound, _QUANTILE_80),
        _growth(z, if_harmless, bound, 0.0),
        _growth(z, if_harmless, bound, -_QUANTILE_80),
    )


def _growth(z: float, drift: float, bound: float, q: float) -> float | None:
    def short_by(growth: float) -> float:
        return bound * math.sqrt(growth) - (z + (growth - 1) * drift + q * math.sqrt(growth - 1))

    if short_by(1.0) <= 0:
        return 1.0
    low, high = 1.0, FARTHEST
    if short_by(high) > 0:
        return None
    for _ in range(40):
        middle = 0.5 * (low + high)
        if short_by(middle) > 0:
            low = middle
        else:
            high = middle
    return high
