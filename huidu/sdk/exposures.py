"""Exposures: who was shown what, gathered in memory and sent in batches.

Bounded, so that a platform that is away costs the application nothing but lost evidence, and said
in the log when that happens. Each event has its own id, so one that is sent twice counts once.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any, Final

from huidu.sdk.transport import EVENTS_PER_REQUEST, Transport, Unreachable

logger = logging.getLogger("huidu.sdk")

REMEMBERED: Final = 100_000
"""Exposures lately sent; the platform counts only the first of a user and stage anyway."""
ATTEMPTS: Final = 5


class Exposures:
    """A buffer of exposures with one sending thread, started at the first exposure.

    Args:
        every_seconds: longest wait before what was gathered is sent.
        limit: most events held; newer ones beyond it are dropped and counted.
    """

    def __init__(self, transport: Transport, *, every_seconds: float, limit: int) -> None:
        self.dropped = 0
        self._transport = transport
        self._every = every_seconds
        self._limit = limit
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._seen: OrderedDict[tuple[str, str | None, str], None] = OrderedDict()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._sending = threading.Lock()

    def add(self, flag: str, stage: str | None, user: str) -> None:
        """Note that `user` met `flag`; cheap, never blocks on the network, never raises."""
        key = (flag, stage, user)
        with self._lock:
            if self._closed or key in self._seen:
                return
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                if self.dropped == 1:
                    logger.error("sdk.exposures_dropped limit=%d", self._limit)
                return
            self._seen[key] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._waiting.append(
                {
                    "event_id": uuid.uuid4().hex,
                    "type": "exposure",
                    "flag": flag,
                    "user_id": user,
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                }
            )
            if len(self._waiting) >= EVENTS_PER_REQUEST:
                self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="huidu_exposures", daemon=True
                )
                self._thread.start()

    def flush(self) -> bool:
        """Send what is there now; True when nothing is left unsent."""
        with self._sending:
            while batch := self._take():
                if not self._send(batch):
                    return False
        return True

    def close(self) -> None:
        """Send what is there, then take no more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wake.set()
        self.flush()

    def after_fork(self) -> None:
        """The child starts empty: what was waiting is the parent's to send."""
        self._reset()

    def _take(self) -> list[dict[str, Any]]:
        with self._lock:
            size = min(len(self._waiting), EVENTS_PER_REQUEST)
            return [self._waiting.popleft() for _ in range(size)]

    def _send(self, batch: list[dict[str, Any]]) -> bool:
        """Send one batch; put it back when the platform is only away for now."""
        for attempt in range(1 if self._closed else ATTEMPTS):
            try:
                self._transport.record(batch)
            except Unreachable as error:
                if not error.temporary:
                    logger.error("sdk.exposures_refused count=%d error=%s", len(batch), error)
                    return True
                if self._wake.wait(min(30.0, 0.5 * 2**attempt)) and self._closed:
                    break
            else:
                return True
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            while len(self._waiting) > self._limit:
                self._waiting.pop()
                self.dropped += 1
        return False

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._every)
            self._wake.clear()
            try:
                self.flush()
            except Exception:  # the thread must outlive a fault nobody foresaw
                logger.exception("sdk.exposures_failed")
