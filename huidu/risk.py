"""The anti-fraud score fades with calm days; it is computed when read, no job rewrites rows."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

from huidu.errors import EvidenceError

KEPT_AFTER_PERIOD: Final = 0.6
"""What is left of a score after `PERIOD_DAYS` calm days: 40 % lower."""
PERIOD_DAYS: Final = 15


def risk_now(base: float, scored_on: date, today: date) -> float:
    """The score today of a user who was scored `base` and has been calm since.

    Args:
        base: the score when it was given, 0 or more.
        scored_on: the day it was given; a day to come counts as today.
        today: the day of the question.
    Returns:
        base * 0.6 ** (calm days / 15), in [0, base].
    Raises:
        EvidenceError: `base` is negative, infinite or not a number.
    Source:
        The anti-fraud dimension of the product's rules: 40 % lower after 15 calm days, smoothly.
    """
    if not 0 <= base < float("inf"):
        raise EvidenceError(f"risk score: expected a finite number of 0 or more, got {base}")
    return faded(base, max(0, (today - scored_on).days))


def faded(base: float, calm_days: int) -> float:
    """`risk_now` for a score and a number of days that are known to be 0 or more."""
    return float(base * kept_after(calm_days))


@lru_cache(4096)
def kept_after(calm_days: int) -> float:
    """The share of a score that is left; all of it of a score given on a day to come."""
    kept: float = KEPT_AFTER_PERIOD ** (max(calm_days, 0) / PERIOD_DAYS)
    return kept
