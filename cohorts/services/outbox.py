"""The outbox of packed profiles: who must be packed anew, told in the transaction of the change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.db import connection

LANES: Final = 8
"""Users are dealt to lanes for good; one packer at a time works in a lane."""

LANE: Final = f"(hashtext(user_id) & {LANES - 1})"
"""SQL: the lane of the user in column `user_id`."""

# A later change draws a new mark, one for all its users, so that a packer which read before it
# leaves the rows in place.
# Rows are taken in the order of user ids by every writer: no two can wait for each other.
MARK: Final = f"""
INSERT INTO cohorts_dirtyprofile (user_id, lane, mark, since)
SELECT user_id, {LANE}, (SELECT nextval('cohorts_dirty_mark')), clock_timestamp()
FROM {{source}} ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET mark = excluded.mark
RETURNING lane
"""  # noqa: S608 - no input in it

_MARK_THESE: Final = f"""
WITH source AS (SELECT DISTINCT user_id FROM unnest(%s::text[]) AS t (user_id)),
marked AS ({MARK.format(source="source")})
SELECT DISTINCT lane FROM marked
"""  # noqa: S608


def mark_dirty(user_ids: Iterable[str]) -> list[int]:
    """Say that the packed profiles of these users are out of date; call it inside a transaction.

    Returns:
        The lanes concerned, for `packing.pack_after_commit`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MARK_THESE, [list(user_ids)])
        return [lane for (lane,) in cursor.fetchall()]
