"""From rows to packed profiles: one query for many users."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.db import connection

from cohorts.mappers import exact
from cohorts.services.facts import COLUMNS
from huidu.model import Admission
from huidu.wire import ring
from huidu.wire.profile import Profile

_NAMES: Final = tuple(COLUMNS)

# Each part finds its few rows by an index that begins with user_id.
_READ: Final = f"""
SELECT asked.user_id, held.updated_at, held.attributes, paid.days, paid.counts,
       admitted.slots, admitted.weights, admitted.admitted, listed.lists,
       {", ".join(f"held.{name}" for name in _NAMES)}
FROM unnest(%s::text[]) AS asked (user_id)
LEFT JOIN cohorts_profile AS held ON held.user_id = asked.user_id
LEFT JOIN LATERAL (
    SELECT array_agg(newest.day) AS days, array_agg(newest.count) AS counts
    FROM (
        SELECT day, count FROM cohorts_dailypayments
        WHERE user_id = asked.user_id ORDER BY day DESC LIMIT {ring.DAYS}
    ) AS newest
) AS paid ON true
LEFT JOIN LATERAL (
    SELECT array_agg(slot) AS slots, array_agg(weight) AS weights, array_agg(admitted) AS admitted
    FROM cohorts_admission WHERE user_id = asked.user_id
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
    zone = ZoneInfo(settings.HUIDU_DAY_ZONE)
    with connection.cursor() as cursor:
        cursor.execute(_READ, [list(user_ids)])
        for user_id, updated_at, attributes, *rest in cursor.fetchall():
            days, counts, in_slots, weights, admitted, lists, *columns = rest
            if updated_at is None and in_slots is None and lists is None:
                yield user_id, None
                continue
            facts: dict[str, Any] = {}
            if updated_at is not None:
                facts = _facts(columns, attributes, slots)
                facts["updated"] = updated_at.astimezone(zone).date()
                if days:
                    facts["last_day"], facts["counts"] = _ring(days, counts)
            if in_slots:
                facts["admissions"] = {
                    slot: Admission(weight, is_in)
                    for slot, weight, is_in in zip(in_slots, weights, admitted, strict=True)
                }
            if lists:
                facts["lists"] = frozenset(lists)
            yield user_id, Profile(**facts)


def _facts(columns: Sequence[Any], attributes: str, slots: dict[str, int]) -> dict[str, Any]:
    facts = {
        name: exact(fact) for name, fact in zip(_NAMES, columns, strict=True) if fact is not None
    }
    if attributes != "{}":
        custom = msgspec.json.decode(attributes)
        facts["custom"] = {slots[name]: fact for name, fact in custom.items() if name in slots}
    return facts


def _ring(days: Sequence[datetime.date], counts: Sequence[int]) -> tuple[datetime.date, bytes]:
    """The newest day and the ring that ends with it.

    A payment far behind the newest one is outside the ring, and outside every window of today.
    """
    newest = max(days)
    ago = [0] * ring.DAYS
    for day, count in zip(days, counts, strict=True):
        place = (newest - day).days
        if place < ring.DAYS:
            ago[place] = count
    return newest, ring.pack(ago)
