"""What every source answers with, and how it says that it cannot."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from huidu.errors import HuiduError

FRESH: Final = timedelta(minutes=10)
"""An older sample does not speak for now: Prometheus itself looks back five minutes."""

AHEAD: Final = timedelta(minutes=1)
"""Clocks differ a little; a sample further in the future is a fault."""


class SourceError(HuiduError):
    """A source gave no reading: the value is unknown, which is not zero."""

    code = "source.unknown"


class Sample(NamedTuple):
    """One number and the moment it was true."""

    value: float
    at: datetime


def finite(value: Any) -> float:
    """The value as a finite number.

    Raises:
        SourceError: it is none: text, a truth value, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SourceError(f"expected a number, got {str(value)[:100]!r}", code="source.no_number")
    if not math.isfinite(value):
        raise SourceError(f"expected a finite number, got {value}", code="source.not_finite")
    return float(value)


def fresh(at: datetime, now: datetime, most: timedelta = FRESH) -> datetime:
    """The sample's moment, no later than now.

    Raises:
        SourceError: it is too old to speak for now, or lies in the future.
    """
    if now - at > most:
        raise SourceError(
            f"the latest sample is of {at:%Y-%m-%d %H:%M:%S %Z}, older than "
            f"{most // timedelta(minutes=1):,} minutes",
            code="source.stale",
        )
    if at - now > AHEAD:
        raise SourceError(
            f"the sample is of {at:%Y-%m-%d %H:%M:%S %Z}, which lies in the future",
            code="source.from_the_future",
        )
    return min(at, now)
