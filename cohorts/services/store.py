"""The Redis that holds packed profiles: one client with deadlines, and its description."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from huidu.wire.names import PROFILE_META
from huidu.wire.profile import address

DEADLINE_SECONDS = 1.0
"""No packer waits longer for one answer; what was not written stays in the outbox."""

MAX_COMMANDS = 1_000
"""Commands of one pipeline, so that none takes long to answer."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What `huidu:profiles` says.

    Args:
        buckets: how many hashes readers look into; 0 when the profiles must be rebuilt.
        rebuilding: how many hashes are being filled now; 0 when none are.
        run_id: the Redis process that was last known to hold all records.
    """

    buckets: int = 0
    rebuilding: int = 0
    run_id: str = ""

    @property
    def targets(self) -> list[int]:
        """Bucket counts a packer writes for: what is read, and what is being built."""
        return sorted({each for each in (self.buckets, self.rebuilding) if each})


def client() -> redis.Redis:
    """This process's client; a forked child makes its own."""
    return _client(settings.REDIS_URL, os.getpid())


@lru_cache(maxsize=2)
def _client(url: str, pid: int) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=DEADLINE_SECONDS,
        socket_connect_timeout=DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


def read_meta() -> Meta:
    """Raises `redis.RedisError`."""
    held: dict[Any, Any] = client().hgetall(PROFILE_META)
    text = {key.decode(): value.decode() for key, value in held.items()}
    return Meta(
        buckets=int(text.get("buckets", 0)),
        rebuilding=int(text.get("rebuilding", 0)),
        run_id=text.get("run_id", ""),
    )


def run_id() -> str:
    """Names the running Redis process; another one may have lost its last second of writes."""
    return str(client().info("server")["run_id"])


def write(records: Iterable[tuple[str, bytes | None]], targets: Iterable[int]) -> None:
    """Write each user's record for every target; None removes it. Raises `redis.RedisError`."""
    fields: dict[bytes, dict[Any, Any]] = {}
    gone: dict[bytes, list[bytes]] = {}
    for user_id, record in records:
        for buckets in targets:
            key, field = address(user_id, buckets)
            if record is None:
                gone.setdefault(key, []).append(field)
            else:
                fields.setdefault(key, {})[field] = record
    pipeline = client().pipeline(transaction=False)
    for key, mapping in fields.items():
        pipeline.hset(key, items=list(chain.from_iterable(mapping.items())))
        if len(pipeline) >= MAX_COMMANDS:
            pipeline.execute()
    for key, names in gone.items():
        pipeline.hdel(key, *names)
        if len(pipeline) >= MAX_COMMANDS:
            pipeline.execute()
    pipeline.execute()
