"""Remembers who was drawn or shown: what is written here never shrinks."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from cohorts.models import Admission
from cohorts.services import packing
from cohorts.services.outbox import mark_dirty

CHUNK: Final = 20_000

# Weights and admissions only grow, and only rows that change are written.
_REMEMBER: Final = """
INSERT INTO cohorts_admission AS held (user_id, slot, weight, admitted, since, via)
SELECT user_id, %(slot)s, weight, admitted,
       CASE WHEN admitted THEN %(now)s::timestamptz END, CASE WHEN admitted THEN %(via)s ELSE '' END
FROM unnest(%(users)s::text[], %(weights)s::int[], %(admitted)s::bool[])
     AS sent (user_id, weight, admitted)
ORDER BY user_id
ON CONFLICT (user_id, slot) DO UPDATE
SET weight = greatest(held.weight, excluded.weight),
    admitted = held.admitted OR excluded.admitted,
    since = coalesce(held.since, excluded.since),
    via = CASE WHEN held.admitted THEN held.via ELSE excluded.via END
WHERE excluded.weight > held.weight OR (excluded.admitted AND NOT held.admitted)
RETURNING user_id
"""


def admit(
    slot: int,
    user_ids: Sequence[str],
    via: str = Admission.Via.SHOWN,
    now: datetime.datetime | None = None,
) -> int:
    """Users who are shown the product keep it from now on; how many are new.

    Args:
        slot: the rollout's number in packed profiles.
        via: how they came in: `Admission.Via`.
    """
    users = list(dict.fromkeys(user_ids))
    if not users:
        return 0
    with transaction.atomic():
        new, lanes = remember(
            slot, users, [1] * len(users), [True] * len(users), via, now or timezone.now()
        )
        if lanes:
            packing.pack_after_commit(lanes)
    return new


def remember(
    slot: int,
    users: Sequence[str],
    weights: Sequence[int],
    admitted: Sequence[bool],
    via: str,
    now: datetime.datetime,
) -> tuple[int, list[int]]:
    """Write admissions inside the caller's transaction; how many changed, and their lanes."""
    changed: list[str] = []
    order = sorted(range(len(users)), key=users.__getitem__)
    with connection.cursor() as cursor:
        for start in range(0, len(order), CHUNK):
            some = order[start : start + CHUNK]
            cursor.execute(
                _REMEMBER,
                {
                    "slot": slot,
                    "users": [users[i] for i in some],
                    "weights": [int(weights[i]) for i in some],
                    "admitted": [bool(admitted[i]) for i in some],
                    "via": via,
                    "now": now,
                },
            )
            changed += [user_id for (user_id,) in cursor.fetchall()]
    return len(changed), mark_dirty(changed) if changed else []
