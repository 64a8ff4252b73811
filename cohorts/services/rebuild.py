"""Packs everybody anew: after Redis lost its data, or when hashes have grown too full."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from django.db import connection, transaction

from cohorts.services import packing, store
from cohorts.services.outbox import LANE
from huidu.wire.names import PROFILE_META, PUBLISHED_CHANNEL
from huidu.wire.profile import buckets_for

logger = logging.getLogger("huidu.cohorts")

CHUNK: Final = 8_000
"""Users between two notes of how far it is; a lane's share of them is packed under its lock."""

FEWEST_BUCKETS: Final = 64
"""A new installation grows into these without a rebuild."""

REBUILD_LOCK: Final = 0x5250_4B00
_DELETE_BATCH: Final = 500

# The next of everybody about whom anything is held, by user id: four walks along indexes, whatever
# number of users there is. A condition on lanes here would make the planner read whole tables.
_NEXT: Final = f"""
SELECT user_id, {LANE} FROM (
    (SELECT user_id FROM cohorts_profile
     WHERE user_id > %(after)s ORDER BY user_id LIMIT %(size)s)
    UNION
    (SELECT DISTINCT user_id FROM cohorts_admission
     WHERE user_id > %(after)s ORDER BY user_id LIMIT %(size)s)
    UNION
    (SELECT DISTINCT user_id FROM cohorts_place
     WHERE user_id > %(after)s AND released_at IS NULL ORDER BY user_id LIMIT %(size)s)
    UNION
    (SELECT DISTINCT user_id FROM cohorts_userlistmember
     WHERE user_id > %(after)s ORDER BY user_id LIMIT %(size)s)
) AS everybody ORDER BY user_id LIMIT %(size)s
"""  # noqa: S608 - no input in it


class _Progress(msgspec.Struct):
    """How far a rebuild has come; kept in Redis, so it vanishes with the records it counted.

    Args:
        beyond: everybody up to this user id is packed. (Not `after`: earlier versions noted that
            for one lane of eight, and would be misunderstood.)
    """

    rebuilding: int
    started: str
    beyond: str = ""
    packed: int = 0


def heal_profiles(now: datetime, *, seconds: float = 60.0) -> int:
    """Rebuild if there is need to: no profiles in Redis, a restarted Redis, hashes too full.

    A restarted Redis may have lost its last second of writes (append-only file, fsync each second),
    and nobody knows whose: all records are written again in place while they are being read.

    Returns:
        How many users were packed; 0 when all is well or another worker is at it.
    """
    meta = store.read_meta()
    if not (meta.rebuilding or needs_rebuild(meta)):
        return 0
    return rebuild_profiles(now, seconds=seconds) or 0


def needs_rebuild(meta: store.Meta) -> bool:
    if not meta.buckets or meta.run_id != store.run_id():
        return True
    return best_buckets() > meta.buckets


def rebuild_profiles(
    now: datetime,
    *,
    buckets: int | None = None,
    seconds: float = float("inf"),
    progress: Callable[[int], object] | None = None,
) -> int | None:
    """Pack everybody, then let readers look into the new hashes; resumes where it was stopped.

    1. One rebuild at a time; others return None.
    2. Say in Redis what is being built: from now on every packer writes there too.
    3. Chunk by chunk in the order of user ids, lane by lane, pack all users under the lane's lock.
    4. If Redis still says the same, switch readers over, then remove the old hashes.

    Args:
        buckets: a power of two; chosen from the number of users by default.
        seconds: stop after so long; the next call goes on from there.
        progress: told the number of users packed by each chunk.
    Returns:
        How many users this call packed; None when another process is at it.
    Raises:
        redis.RedisError: Redis did not answer; the next call goes on.
    """
    end = time.monotonic() + seconds
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [REBUILD_LOCK])
        if not cursor.fetchall()[0][0]:
            return None
        try:
            return _rebuild(now, buckets, end, progress)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [REBUILD_LOCK])


def _rebuild(
    now: datetime,
    buckets: int | None,
    end: float,
    progress: Callable[[int], object] | None,
) -> int:
    process = store.run_id()
    state = _begin(now, process, buckets)
    packed = 0
    while time.monotonic() <= end:
        users = _pack_chunk(state)
        packed += users
        if progress is not None:
            progress(users)
        if users < CHUNK:
            _switch(state, process, now)
            return packed
        if not _note(state, process):
            logger.warning("cohorts.rebuild_lost: Redis lost its data; the next tick begins anew")
            return packed
    return packed


def _begin(now: datetime, process: str, buckets: int | None) -> _Progress:
    """Go on with the rebuild under way, or begin one."""
    held = store.client().hmget(PROFILE_META, "rebuilding", "progress", "rebuilding_run_id")
    if held[0] and held[1] and held[2] == process.encode():
        state = msgspec.json.decode(held[1], type=_Progress)
        if buckets in (None, state.rebuilding):
            return state
    state = _Progress(rebuilding=buckets or best_buckets(), started=now.isoformat())
    store.client().hset(
        PROFILE_META,
        mapping={
            "rebuilding": state.rebuilding,
            "rebuilding_run_id": process,
            "progress": msgspec.json.encode(state),
        },
    )
    return state


def _pack_chunk(state: _Progress) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, {"after": state.beyond, "size": CHUNK})
        found = cursor.fetchall()
    # Whoever comes into these ids from now on is in the outbox, and packed for the new hashes too;
    # what is held of the others is read under their lane's lock.
    lanes: dict[int, list[str]] = {}
    for user_id, lane in found:
        lanes.setdefault(lane, []).append(user_id)
    for lane, users in sorted(lanes.items()):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [packing.LOCK_CLASS, lane])
            packing.pack_locked(users)
    if found:
        state.beyond = found[-1][0]
    state.packed += len(found)
    return len(found)


# Only while Redis still holds the rebuild that began: after a flush the records are gone.
_NOTE: Final = """
if redis.call('HGET', KEYS[1], 'rebuilding') ~= ARGV[1]
   or redis.call('HGET', KEYS[1], 'rebuilding_run_id') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'progress', ARGV[3])
return 1
"""

_SWITCH: Final = """
if redis.call('HGET', KEYS[1], 'rebuilding') ~= ARGV[1]
   or redis.call('HGET', KEYS[1], 'rebuilding_run_id') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'buckets', ARGV[1], 'run_id', ARGV[2], 'built_at', ARGV[3])
redis.call('HDEL', KEYS[1], 'rebuilding', 'rebuilding_run_id', 'progress')
redis.call('PUBLISH', ARGV[4], '{"kind":"profiles"}')
return 1
"""


def _note(state: _Progress, process: str) -> bool:
    progress = msgspec.json.encode(state)
    return bool(store.client().eval(_NOTE, 1, PROFILE_META, state.rebuilding, process, progress))


def _switch(state: _Progress, process: str, now: datetime) -> None:
    before = store.read_meta().buckets
    built_at = now.isoformat()
    switched = store.client().eval(
        _SWITCH, 1, PROFILE_META, state.rebuilding, process, built_at, PUBLISHED_CHANNEL
    )
    if not switched:
        return
    logger.info("cohorts.rebuilt users=%d buckets=%d", state.packed, state.rebuilding)
    if before and before != state.rebuilding:
        remove_records(before)


def remove_records(buckets: int) -> None:
    """Remove the hashes of a former number of buckets, a few at a time."""
    prefix = b"p%x:" % (buckets.bit_length() - 1)
    for first in range(0, buckets, _DELETE_BATCH):
        last = min(first + _DELETE_BATCH, buckets)
        store.client().unlink(*(prefix + b"%x" % bucket for bucket in range(first, last)))


def best_buckets() -> int:
    return max(FEWEST_BUCKETS, buckets_for(estimated_users()))


def estimated_users() -> int:
    """About how many users there are; the planner's figure, which costs nothing, or a count."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE relname = 'cohorts_profile'")
        known = int(cursor.fetchall()[0][0])
        if known >= 0:
            return known
        cursor.execute("SELECT count(*) FROM cohorts_profile")  # never analyzed yet
        return int(cursor.fetchall()[0][0])
