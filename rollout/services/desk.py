"""The desk that gives places: reads requests of check servers, commits, and only then replies.

One batch is one transaction per rollout, so a rush of first admissions costs a few commits a
second. Several desks may run; PostgreSQL lines them up. While none runs, users without a place are
hidden with `funding.unavailable`, and those who have one notice nothing.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, cast

import msgspec
import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from cohorts.services import packing
from cohorts.services import store as profiles
from cohorts.services.items import id_fault
from huidu.wire import names, places
from huidu.wire.places import CLOSED, NO_ROOM, STALE_MS, Reply, Request, Room
from rollout import selectors
from rollout.services.places import Full, full_partners, take

logger = logging.getLogger("huidu.places")

BATCH: Final = 500
HEARTBEAT_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.5
"""After a fault of Redis or PostgreSQL."""


class Desk:
    """One process that gives places. `name` tells it from other desks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._due = 0.0
        self._to_pack: SimpleQueue[list[str] | None] = SimpleQueue()
        self._client = redis.Redis.from_url(
            settings.REDIS_URL,
            # A little longer than the longest wait for an entry.
            socket_timeout=HEARTBEAT_SECONDS + 1.0,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
        )

    def run(self, stops: Callable[[], bool]) -> None:
        """Serve until `stops()`; faults of Redis and PostgreSQL are waited out."""
        packer = Thread(target=self._pack, name="places-packer")
        packer.start()
        while not stops():
            try:
                self.serve_once()
            except (redis.RedisError, DatabaseError) as error:
                logger.warning("places.desk_waits error=%s", error)
                connection.close()
                self._due = 0.0
                time.sleep(PAUSE_SECONDS)
        self._to_pack.put(None)
        packer.join()
        self._client.close()

    def serve_once(self) -> int:
        """Answer what waits, or wait a moment for something; how many were answered.

        Raises:
            RedisError, DatabaseError: the requests of this batch got no answer.
        """
        now = time.monotonic()
        if now >= self._due:
            self.tell_room()
            self._due = now + HEARTBEAT_SECONDS
        asked = self._read(max(1, int((self._due - time.monotonic()) * 1000)))
        return self.answer(asked) if asked else 0

    def _read(self, wait_ms: int) -> list[Request]:
        try:
            found = self._read_group(wait_ms)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # A new Redis, or one that lost its data: what was asked of the old one is stale.
            self._client.xgroup_create(names.PLACES_STREAM, names.PLACES_GROUP, "$", mkstream=True)
            found = self._read_group(wait_ms)
        if not found:
            return []
        entries = [entry for _, rows in found for entry in rows]
        seconds, micros = self._client.time()
        oldest = seconds * 1000 + micros // 1000 - STALE_MS
        fresh = [fields for entry, fields in entries if int(entry.split(b"-")[0]) >= oldest]
        if len(fresh) < len(entries):
            logger.warning("places.passed_over stale=%d", len(entries) - len(fresh))
        return [request for fields in fresh if (request := _request(fields)) is not None]

    def _read_group(self, wait_ms: int) -> list[Any]:
        return cast(
            list[Any],
            self._client.xreadgroup(
                names.PLACES_GROUP,
                self.name,
                {names.PLACES_STREAM: ">"},
                count=BATCH,
                block=wait_ms,
                noack=True,  # whoever asked asks again; nothing is done twice for a user
            )
            or [],
        )

    def answer(self, asked: Sequence[Request]) -> int:
        """Give the places, commit, reply. Without an answer the check says hidden by itself."""
        groups: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for each in asked:
            groups[each.environment, each.slot][each.user] = each.region
        results: dict[tuple[str, int, str], int] = {}
        news = False
        new: list[str] = []
        for (environment, slot), users in groups.items():
            taken = take(environment, slot, users, now=timezone.now())
            new += taken.new
            for user in users:
                none = CLOSED if taken.closed else NO_ROOM
                results[environment, slot, user] = taken.partners.get(user, none)
            news = news or len(taken.partners) < len(users)
        replies: dict[str, list[Reply]] = defaultdict(list)
        for each in asked:
            partner = results[each.environment, each.slot, each.user]
            replies[each.reply_to].append(Reply(each.number, partner))
        with self._client.pipeline(transaction=False) as pipe:
            for channel, some in replies.items():
                pipe.publish(channel, places.encode_replies(some))
            pipe.execute()
        self._to_pack.put(new)
        if news:
            self._due = 0.0  # somebody found no room: tell everybody before they all ask
        return len(asked)

    def _pack(self) -> None:
        """On a thread of its own: packing may wait for other packers, and replies must not."""
        while (users := self._to_pack.get()) is not None:
            try:
                packing.pack_marked(users)
            except (redis.RedisError, DatabaseError) as error:
                logger.warning("places.pack_postponed error=%s", error)
                connection.close()
        connection.close()

    def tell_room(self) -> None:
        """Say which partners are full; silence means that nobody gives places."""
        whole = profiles.read_meta().run_id == profiles.run_id()
        for environment in selectors.environments():
            # Right after Redis restarted, packed profiles may lack the last places that were given.
            full = full_partners(environment, now=timezone.now()) if whole else Full()
            if full.unpacked and self._to_pack.empty():
                self._to_pack.put(full.unpacked)  # Redis was away when they got their places
            room = Room(environment, full.partners)
            self._client.publish(names.ROOM_CHANNEL, places.encode_room(room))


def _request(fields: dict[bytes, bytes]) -> Request | None:
    try:
        request = places.decode_request(fields[b"request"])
    except (KeyError, msgspec.MsgspecError) as error:
        logger.warning("places.unreadable error=%s", error)
        return None
    if id_fault(request.user) is not None or not request.region.isascii():
        logger.warning("places.refused user=%r region=%r", request.user, request.region)
        return None
    return request
