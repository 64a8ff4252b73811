"""Whether there is funding for more users: a condition of every promotion and every wider share.

A full pool takes the product from nobody. It only holds the widening, because people would be shown
a loan that nobody can give them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cohorts.selectors import day_of
from rollout import selectors_funding
from rollout.models import Guard, Metric, Stage
from rollout.services.gauge_readings import gauge_reading

IN_USE: Final = "funding_in_use"
"""The metric of the funding template: the share of the partners' funds that is lent, 1 is all."""


def capacity_left(
    stage: Stage, guards: Iterable[Guard], now: datetime, *, needs_places: bool = True
) -> bool:
    """Whether nothing says that the funds are used up.

    Args:
        guards: the stage's, with their metrics.
        needs_places: False where the caller knows that the flag has no capacity gate.
    """
    if _gauge_says(stage, guards, now) is False:
        return False
    return not needs_places or _partners_say(stage, now) is not False


def _gauge_says(stage: Stage, guards: Iterable[Guard], now: datetime) -> bool | None:
    """What the stage's reading of the funds in use says. No reading is a hold of its own."""
    for guard in guards:
        if guard.metric.key == IN_USE and guard.metric.kind == Metric.Kind.GAUGE:
            reading = gauge_reading(stage.rollout.flag.environment, guard.metric, now)
            return None if reading is None else reading < 1.0
    return None


def _partners_say(stage: Stage, now: datetime) -> bool | None:
    """Whether any partner of the flag has a place left, today or on a later day.

    A daily cap that is reached opens again at midnight, so it holds no promotion back.
    """
    left = selectors_funding.capacity_left(stage.rollout, day_of(now))
    return None if left is None else left.total > 0
