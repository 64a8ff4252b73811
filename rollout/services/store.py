"""The Redis side of publishing: one blob and one number per environment, one blob of keys.

Every call has a deadline of about a second: a request never waits for a Redis that is away.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Final, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from huidu.wire import names

DEADLINE_SECONDS: Final = 1.0

RedisError = redis.RedisError

# The check and the writes are one step, so a late writer never puts an older snapshot on top of a
# newer one. Readers that poll the number find the blob already there.
_PUT: Final = """
local held = tonumber(redis.call('GET', KEYS[2]) or '0')
if held > tonumber(ARGV[2]) and ARGV[4] == '0' then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[5], ARGV[3])
return 1
"""


@cache
def client() -> redis.Redis:
    """This process's connection pool to the store."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=DEADLINE_SECONDS,
        socket_connect_timeout=DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


def put_snapshot(environment: str, blob: bytes, sequence: int, *, force: bool = False) -> bool:
    """Make `blob` the current snapshot and tell everybody; False when a newer one is there.

    Raises:
        RedisError: the store did not answer in time.
    """
    message = {"kind": "snapshot", "environment": environment, "sequence": sequence}
    return bool(
        client().eval(
            _PUT,
            2,
            names.snapshot(environment),
            names.sequence(environment),
            blob,
            sequence,
            json.dumps(message),
            int(force),
            names.PUBLISHED_CHANNEL,
        )
    )


def held_snapshot(environment: str) -> tuple[int, bytes | None]:
    """The sequence (0: none) and the blob the store holds now.

    Raises:
        RedisError: the store did not answer in time.
    """
    keys = [names.sequence(environment), names.snapshot(environment)]
    sequence, blob = cast(list[bytes | None], client().mget(keys))
    number = int(sequence) if sequence is not None and sequence.isdigit() else 0
    return number, blob


def put_access(blob: bytes, sequence: int) -> None:
    """Make `blob` the live keys and tell everybody.

    Raises:
        RedisError: the store did not answer in time.
    """
    message = {"kind": "access", "environment": "", "sequence": sequence}
    with client().pipeline(transaction=True) as pipe:
        pipe.set(names.ACCESS, blob)
        pipe.publish(names.PUBLISHED_CHANNEL, json.dumps(message))
        pipe.execute()


def held_access() -> bytes | None:
    """The live keys the store holds now.

    Raises:
        RedisError: the store did not answer in time.
    """
    return cast("bytes | None", client().get(names.ACCESS))
