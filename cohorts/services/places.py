"""Writes who has a place; `rollout.services.places` decides who gets one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Final

from django.db import connection

from cohorts.models import Place

_GIVE: Final = """
INSERT INTO cohorts_place
    (user_id, slot, partner, region, day, since, released_by, released_reason)
SELECT user_id, %(slot)s, partner, region, %(day)s, %(now)s, '', ''
FROM unnest(%(users)s::text[], %(partners)s::int[], %(regions)s::text[])
     AS given (user_id, partner, region)
ORDER BY user_id
ON CONFLICT (user_id, slot) WHERE released_at IS NULL DO NOTHING
RETURNING user_id
"""
_UNPACKED: Final = """
SELECT dirty.user_id FROM cohorts_dirtyprofile AS dirty
JOIN cohorts_place AS place USING (user_id)
WHERE place.slot = %s AND place.released_at IS NULL LIMIT %s
"""


def give(
    slot: int,
    places: Mapping[str, tuple[int, str]],
    day: datetime.date,
    now: datetime.datetime,
) -> set[str]:
    """Give places inside the caller's transaction; who of them had none before.

    Follow it by `cohorts.services.outbox.mark_dirty` of the users that come back.

    Args:
        places: by user id, the number of the partner and the region.
    """
    users = list(places)
    with connection.cursor() as cursor:
        cursor.execute(
            _GIVE,
            {
                "slot": slot,
                "day": day,
                "now": now,
                "users": users,
                "partners": [places[user][0] for user in users],
                "regions": [places[user][1] for user in users],
            },
        )
        return {user_id for (user_id,) in cursor.fetchall()}


def held(slot: int, user_ids: Sequence[str]) -> dict[str, int]:
    """The partner of each of these users who has a place."""
    rows = Place.objects.filter(user_id__in=user_ids, slot=slot, released_at=None)
    return dict(rows.values_list("user_id", "partner"))


def release(place: Place, now: datetime.datetime, by: str, reason: str) -> bool:
    """Take one place back; False when another worker did so before."""
    waiting = Place.objects.filter(pk=place.pk, released_at=None)
    return bool(waiting.update(released_at=now, released_by=by, released_reason=reason))


def unpacked(slot: int, most: int) -> list[str]:
    """Some users with a place whose packed profile may not say so yet; none when all do."""
    with connection.cursor() as cursor:
        cursor.execute(_UNPACKED, [slot, most])
        return [user_id for (user_id,) in cursor.fetchall()]
