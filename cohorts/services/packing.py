"""Keeps packed profiles in Redis as the rows say: a queue of users, and a rebuild of all.

Two packers must not race: the one that read first could write last, and leave an old record for
good. So whoever packs users of a lane holds the lane's advisory lock from before it reads until
after it has written, and reads again under the lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

import redis
from django.db import DatabaseError, connection, transaction

from cohorts import records
from cohorts.models import Attribute, DirtyProfile
from cohorts.services import store
from cohorts.services.outbox import LANES
from huidu.errors import ProfileError
from huidu.wire.profile import encode

logger = logging.getLogger("huidu.cohorts")

LOCK_CLASS: Final = 0x4855
"""First half of the advisory locks' numbers; the second is the lane."""

BATCH: Final = 1_000
AFTER_COMMIT_SECONDS: Final = 0.5
"""How long a request may pack after its commit; what is left is packed by the tick."""

PAUSE_SECONDS: Final = 5.0
"""After a failure requests leave packing to the tick for so long: a stalled Redis must not cost
every request its deadline."""

# Only where the mark is the one seen before the facts were read. Rows that a writer holds right
# now are about to get a new mark, and need no waiting for.
_UNMARK: Final = """
WITH done AS (
    SELECT held.user_id FROM cohorts_dirtyprofile AS held
    JOIN unnest(%s::text[], %s::bigint[]) AS seen (user_id, mark) USING (user_id, mark)
    ORDER BY held.user_id FOR UPDATE OF held SKIP LOCKED
)
DELETE FROM cohorts_dirtyprofile USING done WHERE cohorts_dirtyprofile.user_id = done.user_id
"""

_paused_until = 0.0


def pack_after_commit(lanes: Iterable[int]) -> None:
    """Pack the users of these lanes once the transaction has committed; never fails a request."""
    wanted = sorted(lanes)
    transaction.on_commit(lambda: _pack_soon(wanted), robust=True)


def _pack_soon(lanes: Sequence[int]) -> None:
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    try:
        drain_dirty(lanes=lanes, seconds=AFTER_COMMIT_SECONDS)
    except (redis.RedisError, DatabaseError) as error:
        # The rows stay in the outbox and the tick packs them.
        _paused_until = time.monotonic() + PAUSE_SECONDS
        logger.warning("cohorts.pack_postponed error=%s", error)


def drain_dirty(
    limit: int | None = None, *, lanes: Iterable[int] | None = None, seconds: float = 30.0
) -> int:
    """Pack the users in the outbox, oldest mark first.

    Safe with any number of workers: a lane that another packer works in is left to it.

    Args:
        limit: most users to pack.
        lanes: only these; all by default.
        seconds: start no further batch after so long.
    Returns:
        How many users were packed.
    Raises:
        redis.RedisError: Redis did not answer in time; the users stay in the outbox.
    """
    end = time.monotonic() + seconds
    packed = 0
    open_lanes = list(range(LANES) if lanes is None else lanes)
    while open_lanes:
        for lane in list(open_lanes):
            size = BATCH if limit is None else min(BATCH, limit - packed)
            done = _drain_lane(lane, size)
            packed += done
            if done < size:
                open_lanes.remove(lane)
            if packed == limit or time.monotonic() > end:
                return packed
    return packed


def _drain_lane(lane: int, size: int) -> int:
    """One batch of one lane; 0 when it is empty or another packer's."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        # A crash that forgets this commit only packs some users once more: it need not wait for
        # the disk. Durable: this must never loosen a caller's own transaction.
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(%s, %s),"
            " set_config('synchronous_commit', 'off', true)",
            [LOCK_CLASS, lane],
        )
        if not cursor.fetchall()[0][0]:
            return 0
        cursor.execute(
            "SELECT user_id, mark FROM cohorts_dirtyprofile WHERE lane = %s ORDER BY mark LIMIT %s",
            [lane, size],
        )
        dirty = cursor.fetchall()
        if not dirty:
            return 0
        # Under the lock: a rebuild that begins later reads what was committed before it.
        targets = store.read_meta().targets
        if not targets:
            return 0  # a rebuild will pack everybody
        _pack([user_id for user_id, _ in dirty], targets)
        cursor.execute(
            _UNMARK,
            [[user_id for user_id, _ in dirty], [mark for _, mark in dirty]],
        )
    return len(dirty)


def pack_profiles(user_ids: Sequence[str]) -> int:
    """Pack these users now, in lock with all other packers; how many have a record.

    Raises:
        redis.RedisError: Redis did not answer in time; some records may be written.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, lane) FROM (SELECT DISTINCT"
            " (hashtext(user_id) & %s) AS lane FROM unnest(%s::text[]) AS t (user_id)"
            " ORDER BY lane) AS lanes",
            [LOCK_CLASS, LANES - 1, list(user_ids)],
        )
        return _pack(user_ids, store.read_meta().targets)


def pack_marked(user_ids: Sequence[str]) -> None:
    """Pack these users now, before all others in the outbox, and take their marks out of it.

    Raises:
        redis.RedisError: Redis did not answer in time; the marks stay, and the tick packs them.
    """
    seen = DirtyProfile.objects.filter(user_id__in=user_ids).order_by("user_id")
    marks = list(seen.values_list("user_id", "mark"))
    if not marks or not store.read_meta().targets:
        return  # a rebuild will pack everybody
    pack_profiles([user_id for user_id, _ in marks])
    with connection.cursor() as cursor:
        cursor.execute(_UNMARK, [[user_id for user_id, _ in marks], [mark for _, mark in marks]])


def pack_locked(user_ids: Sequence[str]) -> int:
    """`pack_profiles` for callers who hold the users' lane already."""
    return _pack(user_ids, store.read_meta().targets)


def _pack(user_ids: Sequence[str], targets: Sequence[int]) -> int:
    """Read, encode, write; the caller holds the users' lanes."""
    slots = dict(Attribute.objects.values_list("name", "id"))
    encoded: list[tuple[str, bytes | None]] = []
    for user_id, profile in records.profiles(user_ids, slots):
        try:
            encoded.append((user_id, None if profile is None else encode(profile)))
        except ProfileError:
            # Constraints make this impossible; should it happen, unknown is safer than stale.
            logger.exception("cohorts.pack_failed user=%r", user_id)
            encoded.append((user_id, None))
    store.write(encoded, targets)
    return sum(record is not None for _, record in encoded)
