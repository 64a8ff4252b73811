"""From rows to packed profiles: one query for many users."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection

from cohorts.columns import COLUMNS, RISK_DAY
from huidu.history import NAME, Paid
from huidu.model import PLACES, Admission, Attribute, User
from huidu.risk import risk_now
from huidu.wire import ring
from huidu.wire.profile import MONTH_DAYS, WEEK_DAYS, Profile

_NAMES: Final = tuple(COLUMNS)

# Fourteen digits are exact as a float, which is read many times faster than a numeric.
_HELD: Final = ", ".join(
    f"held.{name}::float8" if kind in ("money", "score") else f"held.{name}"
    for name, kind in COLUMNS.items()
)
_ORDINAL: Final = "day - DATE '0001-01-01' + 1"
"""SQL: a day's number, as `datetime.date.fromordinal` takes it."""

# Each part finds its few rows by an index that begins with user_id: joined plainly, profiles would
# be read as a whole for each thousand of users.
_READ: Final = f"""
SELECT asked.user_id, (held.updated_at AT TIME ZONE %s)::date, held.attributes,
       paid.days, paid.counts, admitted.slots, admitted.weights, admitted.admitted, listed.lists,
       {_HELD}
FROM unnest(%s::text[]) AS asked (user_id)
LEFT JOIN LATERAL (
    SELECT * FROM cohorts_profile WHERE user_id = asked.user_id OFFSET 0
) AS held ON true
LEFT JOIN LATERAL (
    SELECT array_agg({_ORDINAL}) AS days, array_agg(newest.count) AS counts
    FROM (
        SELECT day, count FROM cohorts_dailypayments
        WHERE user_id = asked.user_id ORDER BY day DESC LIMIT {ring.DAYS}
    ) AS newest
) AS paid ON true
LEFT JOIN LATERAL (
    SELECT array_agg(slot) AS slots, array_agg(weight) AS weights, array_agg(admitted) AS admitted
    FROM (
        SELECT slot::int, weight::int, admitted
        FROM cohorts_admission WHERE user_id = asked.user_id
        UNION ALL
        SELECT {PLACES} + slot, partner + 1, true
        FROM cohorts_place WHERE user_id = asked.user_id AND released_at IS NULL
    ) AS remembered
) AS admitted ON true
LEFT JOIN LATERAL (
    SELECT array_agg(list_id) AS lists FROM cohorts_userlistmember WHERE user_id = asked.user_id
) AS listed ON true
"""  # noqa: S608 - no input in it


def profiles(
    user_ids: Sequence[str], slots: dict[str, int]
) -> Iterator[tuple[str, Profile | None]]:
    """What is held about each user now; None about users of whom nothing is held.

    Args:
        slots: slot by name of the registered custom attributes.
    """
    with connection.cursor() as cursor:
        cursor.execute(_READ, [settings.HUIDU_DAY_ZONE, list(user_ids)])
        for user_id, updated, attributes, *rest in cursor.fetchall():
            days, counts, in_slots, weights, admitted, lists, *columns = rest
            if updated is None and in_slots is None and lists is None:
                yield user_id, None
                continue
            facts: dict[str, Any] = {}
            if updated is not None:
                facts = _facts(columns, attributes, slots)
                facts["updated"] = updated
                if days:
                    facts["last_day"], facts["counts"] = _ring(days, counts)
            if in_slots:
                facts["admissions"] = _admissions(in_slots, weights, admitted)
            if lists:
                facts["lists"] = frozenset(lists)
            yield user_id, Profile(**facts)


# The same facts for everybody in a range of user ids, by joins instead of look-ups.
_SCAN: Final = f"""
SELECT held.user_id, held.attributes, paid.weekly, paid.monthly, paid.days, paid.counts,
       admitted.slots, admitted.weights, admitted.admitted, listed.lists,
       {_HELD}
FROM cohorts_profile AS held
LEFT JOIN (
    SELECT user_id, sum(count) FILTER (WHERE day > %(today)s::date - {WEEK_DAYS}) AS weekly,
           sum(count) AS monthly, {{days}} AS days, {{counts}} AS counts
    FROM cohorts_dailypayments
    WHERE user_id BETWEEN %(first)s AND %(last)s
      AND day > %(today)s::date - {MONTH_DAYS} AND day <= %(today)s
    GROUP BY user_id
) AS paid USING (user_id)
LEFT JOIN (
    SELECT user_id, array_agg(slot) AS slots, array_agg(weight) AS weights,
           array_agg(admitted) AS admitted
    FROM (
        SELECT user_id, slot::int, weight::int, admitted
        FROM cohorts_admission WHERE user_id BETWEEN %(first)s AND %(last)s
        UNION ALL
        SELECT user_id, {PLACES} + slot, partner + 1, true
        FROM cohorts_place
        WHERE user_id BETWEEN %(first)s AND %(last)s AND released_at IS NULL
    ) AS remembered GROUP BY user_id
) AS admitted USING (user_id)
LEFT JOIN (
    SELECT user_id, array_agg(list_id) AS lists
    FROM cohorts_userlistmember WHERE user_id BETWEEN %(first)s AND %(last)s GROUP BY user_id
) AS listed USING (user_id)
WHERE held.user_id BETWEEN %(first)s AND %(last)s ORDER BY held.user_id
"""  # noqa: S608
_SCAN_SUMS: Final = _SCAN.format(days="NULL", counts="NULL")
_SCAN_BY_DAY: Final = _SCAN.format(days=f"array_agg({_ORDINAL})", counts="array_agg(count)")


def users(
    first: str,
    last: str,
    today: datetime.date,
    registry: Mapping[str, Attribute],
    *,
    by_day: bool = False,
) -> Iterator[User]:
    """Everybody with a profile from user id `first` to `last`, as the engine judges them today.

    Says the same as `huidu.wire.profile.user` of `profiles`, much faster for many users.

    Args:
        by_day: with their daily counts, which only rules with hysteresis ask for.
    """
    with connection.cursor() as cursor:
        scan = _SCAN_BY_DAY if by_day else _SCAN_SUMS
        cursor.execute(scan, {"first": first, "last": last, "today": today})
        rows = cursor.fetchall()
    for user_id, attributes, weekly, monthly, days, counts, *rest in rows:
        slots, weights, admitted, lists, *columns = rest
        facts = _known(columns)
        facts["weekly_payments"] = int(weekly or 0)
        facts["monthly_payments"] = int(monthly or 0)
        if by_day:
            facts[NAME] = _paid(days, counts, today) if days else Paid()
        scored_on = facts.pop(RISK_DAY, None)
        if scored_on is not None:
            facts["risk_score"] = risk_now(facts["risk_score"], scored_on, today)
        if attributes != "{}":
            for name, fact in msgspec.json.decode(attributes).items():
                if name in registry:
                    facts[name] = fact
        yield User(
            user_id,
            facts,
            _admissions(slots, weights, admitted) if slots else {},
            frozenset(lists) if lists else frozenset(),
        )


def _admissions(
    slots: Sequence[int], weights: Sequence[int], admitted: Sequence[bool]
) -> dict[int, Admission]:
    return {
        slot: Admission(weight, is_in)
        for slot, weight, is_in in zip(slots, weights, admitted, strict=True)
    }


def _known(columns: Sequence[Any]) -> dict[str, Any]:
    """The facts that are known, whole numbers as integers (`cohorts.mappers.exact`)."""
    facts: dict[str, Any] = {}
    for name, fact in zip(_NAMES, columns, strict=True):
        if fact is not None:
            facts[name] = int(fact) if type(fact) is float and fact.is_integer() else fact
    return facts


def _facts(columns: Sequence[Any], attributes: str, slots: dict[str, int]) -> dict[str, Any]:
    facts = _known(columns)
    if attributes != "{}":
        custom = msgspec.json.decode(attributes)
        facts["custom"] = {slots[name]: fact for name, fact in custom.items() if name in slots}
    return facts


def _paid(days: Sequence[int], counts: Sequence[int], today: datetime.date) -> Paid:
    newest, packed = _ring(days, counts)
    return Paid(packed, (newest - today).days)


def _ring(days: Sequence[int], counts: Sequence[int]) -> tuple[datetime.date, bytes]:
    """The newest of the days, told by their ordinals, and the ring that ends with it.

    A payment far behind the newest one is outside the ring, and outside every window of today.
    """
    newest = max(days)
    ago = [0] * ring.DAYS
    for day, count in zip(days, counts, strict=True):
        place = newest - day
        if place < ring.DAYS:
            ago[place] = count
    return datetime.date.fromordinal(newest), ring.pack(ago)
