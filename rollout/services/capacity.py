"""Whether there is funding for more users: a condition of every promotion and every wider share.

A full pool takes the product from nobody. It only holds the widening, because people would be shown
a loan that nobody can give them. Each source says True (there is room), False (there is none), or
None (it has no say for this stage); one False is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from cohorts.selectors import day_of
from rollout import selectors_funding
from rollout.models import Metric, Stage
from rollout.services.gauge_readings import gauge_reading

type_of_source = Callable[[Stage, datetime], bool | None]

IN_USE: Final = "funding_in_use"
"""The metric of the funding template: the share of the partners' funds that is lent, 1 is all."""


def capacity_left(stage: Stage, now: datetime) -> bool:
    """Whether nothing says that the funds are used up."""
    return all(source(stage, now) is not False for source in SOURCES)


def room_by_gauge(stage: Stage, now: datetime) -> bool | None:
    """What the stage's reading of the funds in use says. No reading is a hold of its own."""
    guard = stage.guards.filter(metric__key=IN_USE, metric__kind=Metric.Kind.GAUGE).first()
    if guard is None:
        return None
    reading = gauge_reading(stage.rollout.flag.environment, guard.metric, now)
    return None if reading is None else reading < 1.0


def room_by_partners(stage: Stage, now: datetime) -> bool | None:
    """Whether any partner of the flag has a place left, today or on a later day.

    A daily cap that is reached opens again at midnight, so it holds no promotion back.
    """
    left = selectors_funding.capacity_left(stage.rollout, day_of(now))
    return None if left is None else left.total > 0


SOURCES: Final[list[type_of_source]] = [room_by_gauge, room_by_partners]
"""Whoever knows about funds adds what it knows; see `capacity_left`."""
