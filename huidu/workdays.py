"""Working days: how long people have for what must be done by people.

Holidays and worked weekends are announced each year (国务院办公厅放假通知), so they are given.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import date, timedelta
from typing import Final

NONE: Final[frozenset[date]] = frozenset()
MOST_DAYS: Final = 3_660
"""A calendar that leaves no working day in ten years is a mistake."""


def is_working(
    day: date, *, holidays: Container[date] = NONE, worked: Container[date] = NONE
) -> bool:
    """Whether people work on a day.

    Args:
        holidays: weekdays off; they win over `worked`.
        worked: Saturdays and Sundays that are worked in exchange (调休).
    """
    return day not in holidays and (day.weekday() < 5 or day in worked)


def due_day(
    opened: date,
    days: int,
    *,
    holidays: Container[date] = NONE,
    worked: Container[date] = NONE,
) -> date:
    """The last day for what was opened on a day: its `days`-th working day after that day.

    Args:
        days: whole working days, 1 or more.
    Raises:
        ValueError: fewer days than one, or a calendar without working days.
    """
    if days < 1:
        raise ValueError(f"expected 1 working day or more, got {days}")
    day, left = opened, days
    for _ in range(MOST_DAYS):
        day += timedelta(days=1)
        left -= is_working(day, holidays=holidays, worked=worked)
        if not left:
            return day
    raise ValueError(f"expected {days} working days within ten years of {opened}, got fewer")
