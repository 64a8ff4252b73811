"""Packed profiles, read from Redis for many checks at once, each with a deadline.

A stalled Redis must cost one check a fraction of a second and the others nothing: the first
missed deadline opens a breaker, and until Redis answers again every check is told at once that the
profile cannot be read. The breaker closes by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from edge.link import UNAVAILABLE, Address, Link, Reply

logger = logging.getLogger("huidu.edge")

TICK_SECONDS: Final = 0.025
DEADLINE_TICKS: Final = 6
"""A read may see this many ticks, some 150 ms. Ticks and not a clock: when this process itself was
held up, the replies are already waiting to be read and must not count as late."""

PROBE_SECONDS: Final = 0.1
GIVE_UP_SECONDS: Final = 1.0
"""A connection that stays silent this long is made again; a silent peer may be gone for good."""

MOST_WAITING: Final = 20_000
"""Reads under way; more than Redis could answer before their deadline."""


class _Read:
    """One read under way. `done` is cleared when the deadline was quicker than the reply."""

    __slots__ = ("born", "done", "owner")

    def __init__(self, owner: Profiles, done: Callable[[Reply], None], born: int) -> None:
        self.owner = owner
        self.done: Callable[[Reply], None] | None = done
        self.born = born

    def __call__(self, reply: Reply) -> None:
        owner = self.owner
        if owner.waiting and owner.waiting[0] is self:
            owner.waiting.popleft()
        if (done := self.done) is not None:
            self.done = None
            done(reply)
        if owner.open and not isinstance(reply, Exception):
            owner.close_breaker()


class Profiles:
    """Reads packed profiles. All methods belong to the event loop's thread."""

    def __init__(self, where: Address) -> None:
        self.link = Link(where, name="profiles", connected=self.close_breaker)
        self.waiting: deque[_Read] = deque()
        self.open = False
        self.deadlines_missed = 0
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._prober: asyncio.TimerHandle | None = None
        self._silent = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.link.start()

    async def stop(self) -> None:
        for timer in (self._timer, self._prober):
            if timer is not None:
                timer.cancel()
        await self.link.stop()

    @property
    def readable(self) -> bool:
        return self.link.alive and not self.open

    def fetch(self, key: bytes, field: bytes, done: Callable[[Reply], None]) -> None:
        """Read one record; `done` gets its bytes, None when there is none, or an exception.

        `done` is called once, at the latest when the deadline has passed, and perhaps at once.
        """
        if self.open or not self.link.alive or len(self.waiting) >= MOST_WAITING:
            done(UNAVAILABLE)
            return
        read = _Read(self, done, self._ticks)
        self.waiting.append(read)
        self.link.send(
            b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(field), field),
            read,
        )
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Once a tick while reads are under way; the oldest is always the first."""
        self._ticks += 1
        self._timer = None
        if not self.waiting:
            return
        if self._ticks - self.waiting[0].born > DEADLINE_TICKS:
            self._open_breaker()
            return
        assert self._loop is not None
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _open_breaker(self) -> None:
        """Tell all who wait that Redis is too slow, and everybody after them at once."""
        late = list(self.waiting)
        self.waiting.clear()
        self.open = True
        self.deadlines_missed += len(late)
        logger.warning("edge.redis_stalled waiting=%d", len(late))
        for read in late:
            done, read.done = read.done, None
            if done is not None:
                done(UNAVAILABLE)
        self._silent = 0
        assert self._loop is not None
        self._prober = self._loop.call_later(PROBE_SECONDS, self._probe)

    def _probe(self) -> None:
        """While the breaker is open: wait for any late reply, then connect again."""
        if not self.open:
            return
        assert self._loop is not None
        self._silent += 1
        if self.link.alive and self._silent * PROBE_SECONDS >= GIVE_UP_SECONDS:
            self.link.drop()  # its connected() closes the breaker
        self._prober = self._loop.call_later(PROBE_SECONDS, self._probe)

    def close_breaker(self) -> None:
        """Redis answers again."""
        if self.open:
            logger.info("edge.redis_answers_again")
        self.open = False
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None
