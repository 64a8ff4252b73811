"""Facts the platform holds about users, fetched once and kept for a while, at most so many."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from typing import Final

from huidu.model import Attribute, User
from huidu.sdk.transport import Transport, Unreachable
from huidu.wire import profile as wire

REST_SECONDS: Final = 1.0


class HeldFacts:
    """A bounded cache of packed profiles. Windows are summed for the day of the check.

    Args:
        seconds: how long a fetched profile is good.
        limit: most profiles kept; the least recently used goes first.
    """

    def __init__(self, transport: Transport, *, seconds: float, limit: int) -> None:
        self._transport = transport
        self._seconds = seconds
        self._limit = limit
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._kept: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()

    def user(self, key: str, today: date, registry: Mapping[str, Attribute]) -> User:
        """What is held about `key`, an empty user when nothing is. Raises `Unreachable`."""
        data = self._packed(key)
        if data is None:
            return User(key, {})
        return wire.user(wire.decode(data), key, today, registry)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def _packed(self, key: str) -> bytes | None:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] > now:
                self._kept.move_to_end(key)
                return kept[1]
        if now < self._rest_until:
            raise Unreachable("the platform did not answer a moment ago")
        try:
            data = self._transport.packed_profile(key)
        except Unreachable:
            # Else every check would wait for its own time-out while the platform is away.
            self._rest_until = time.monotonic() + REST_SECONDS
            raise
        with self._lock:
            self._kept[key] = (now + self._seconds, data)
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return data
