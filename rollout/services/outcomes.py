"""Outcomes: what happened to users, as their sources tell it. Each event id counts once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import connection


class Happened(msgspec.Struct, frozen=True):
    """One outcome: `value` (and, for ratios, out of how many) of one metric for one user."""

    event_id: str
    user_id: str
    metric: str
    value: float
    denominator: float | None
    at: datetime


_INSERT: Final = """
INSERT INTO rollout_outcomeevent
    (event_id, environment, user_id, metric, value, denominator, at, recorded_at)
SELECT event_id, %s, user_id, metric, value, denominator, at, clock_timestamp()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::timestamptz[])
    AS given(event_id, user_id, metric, value, denominator, at)
ON CONFLICT (environment, event_id) DO NOTHING
RETURNING event_id
"""


def record(environment: str, happened: Sequence[Happened]) -> set[str]:
    """Write outcomes, inside the caller's transaction.

    Returns:
        The event ids that were new; all others had been recorded before.
    """
    by_id: dict[str, Happened] = {}
    for each in happened:
        by_id.setdefault(each.event_id, each)
    # All writers take rows in one order, so that two batches cannot wait for each other.
    rows = [by_id[key] for key in sorted(by_id)]
    columns: list[list[Any]] = [
        [getattr(row, name) for row in rows]
        for name in ("event_id", "user_id", "metric", "value", "denominator", "at")
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [environment, *columns])
        return {row[0] for row in cursor.fetchall()}


_COMPLETE: Final = """
INSERT INTO rollout_feed (environment, metric, complete_to, recorded_at)
VALUES (%s, %s, %s, clock_timestamp())
ON CONFLICT (environment, metric) DO UPDATE
SET complete_to = greatest(rollout_feed.complete_to, excluded.complete_to),
    recorded_at = excluded.recorded_at
"""


def complete(environment: str, metric: str, up_to: datetime) -> None:
    """A source says that it has sent everything that happened up to this moment."""
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [environment, metric, up_to])
