"""Hysteresis over the rolling week: inside from above one line until below a lower one.

Nothing is remembered between checks. A packed profile holds daily counts, so the weekly figure of
each past day can be summed again; the newest day on which it lay above the enter line or below the
leave line decides, today first. Where no day decides, the user is outside: silence is no consent.

    weekly figures, oldest first    12  22  19  16  17         enter above 20, leave below 15
                                    out in  in  in  in

The same days give the same answer on every machine and at every later time. A payment that arrives
late counts on its own day, here as in every window.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from huidu.wire import ring

ATTRIBUTE: Final = "weekly_payments"
"""The only attribute whose past figures can be summed from what a profile holds."""

NAME: Final = "weekly_payments.days"
"""Where the daily counts lie among a user's facts. No registered name has a dot, so no caller can
say them."""

WEEK: Final = 7
DAYS: Final = 30
"""Daily counts that are looked at, today's included. A packed profile's ring has one more, for a
payment dated a day ahead of the clock."""
WEEKS: Final = DAYS - WEEK + 1
"""Days whose whole week lies in those, today included: how far back a crossing is remembered."""


class Paid(msgspec.Struct, frozen=True, eq=False):
    """Payments by day, still packed: most checks never look.

    Args:
        counts: as `huidu.wire.ring.pack` writes them.
        ahead: by how many days their newest day is later than today; mostly 0 or less.
    """

    counts: bytes = b""
    ahead: int = 0

    def days(self) -> tuple[int, ...]:
        """Counts of today and the days before it, today first, `DAYS` of them."""
        known = ring.unpack(self.counts)
        after = (0,) * min(-self.ahead, DAYS)  # days since the newest payment
        found = (after + known[max(self.ahead, 0) :])[:DAYS]
        return found + (0,) * (DAYS - len(found))

    def weeks(self) -> list[int]:
        """The weekly figure of each day before today, yesterday first."""
        days = self.days()
        total = sum(days[1 : 1 + WEEK])
        found = [total]
        for newest in range(1, WEEKS - 1):
            total += days[newest + WEEK] - days[newest]
            found.append(total)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Paid) and self.days() == other.days()

    def __hash__(self) -> int:
        return hash(self.days())


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """How a user came to be inside or outside.

    Args:
        days_ago: the day the user came in or fell out; None when no line was crossed.
        weekly: the weekly figure of that day.
        or_longer: it is the oldest day that is known, so the user may have been inside before.
    """

    inside: bool
    days_ago: int | None = None
    weekly: int | None = None
    or_longer: bool = False


def was_inside(paid: Any, enter: int, leave: int) -> bool | None:
    """Whether the days before today leave the user inside; None when they are not known.

    Args:
        paid: a `Paid`; anything else is unknown.
        enter: above this weekly figure a user comes in.
        leave: below it a user falls out; less than `enter`.
    """
    if type(paid) is not Paid:
        return None
    for weekly in paid.weeks():
        if weekly > enter:
            return True
        if weekly < leave:
            return False
    return False


def crossing(weekly: int, paid: Any, enter: int, leave: int) -> Crossing | None:
    """The same told day by day, with `weekly` as today's figure; None when it cannot be judged."""
    known = type(paid) is Paid
    if not known and leave <= weekly <= enter:
        return None
    figures = [*reversed(paid.weeks() if known else ()), weekly]
    found = Crossing(inside=False)
    for place, figure in enumerate(figures):
        if (figure < leave) if found.inside else (figure > enter):
            found = Crossing(
                inside=not found.inside,
                days_ago=len(figures) - 1 - place,
                weekly=figure,
                or_longer=place == 0,
            )
    return found
