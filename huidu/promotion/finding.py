"""What one guard says at a look, and the interval around its estimate."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from huidu.stats.noninferiority import Score

INTERVAL_ALPHA: Final = 0.05

_TUNED_INFORMATION: Final = 100.0
"""Information (1/variance of a log ratio) at which the interval is tightest: effects of ~10 %."""


class Finding(NamedTuple):
    """What one guard says at this look.

    Args:
        log_e: log e-value of harm; 0 says nothing.
        material: the estimate lies beyond half of the margin (or beyond the absolute limit).
        score: the non-inferiority statistic, None while there is too little.
        log_too_good: log e-value that a bad event became 60 % rarer.
        log_safe: for absolute limits, log e-value that the limit is kept; else None.
        z_severity: for users with bad requests, z of bad requests per request against the same
            margin: below 0 those users are hit harder than the margin allows.
    """

    log_e: float = 0.0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    material: bool = False
    score: Score | None = None
    log_too_good: float = 0.0
    log_safe: float | None = None
    z_severity: float | None = None


def radius_of(deviation: float) -> float:
    """Half-width of an interval valid at every look, for an estimate of this standard deviation.

    `sd sqrt((1 + w) ln((1 + w) / alpha^2 / w))`-type normal mixture, w = tuned / information.
    Source: Robbins 1970; Waudby-Smith et al. 2021, theorem 2.2.
    """
    if not 0 < deviation < math.inf:
        return math.inf
    information = 1.0 / (deviation * deviation)
    grown = information + _TUNED_INFORMATION
    return (
        math.sqrt(grown / information * math.log(grown / (_TUNED_INFORMATION * INTERVAL_ALPHA**2)))
        * deviation
    )


def interval(ratio: float | None, deviation: float) -> tuple[float | None, float | None]:
    """Interval of a ratio on the log scale; None where it has no end worth printing."""
    if ratio is None or ratio <= 0 or not 0 < deviation < math.inf:
        return None, None
    radius = radius_of(deviation)
    if radius > 12:
        return None, None
    return ratio * math.exp(-radius), ratio * math.exp(radius)
