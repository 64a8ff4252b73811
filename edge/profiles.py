"""Packed profiles, read from Redis for many checks at once, each with a deadline.

A stalled Redis must cost one check a fraction of a second and the others nothing: the first
missed deadline opens a breaker, and until Redis answers again every check is told at once that the
profile cannot be read. The breaker closes by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from edge.link import UNAVAILABLE, Address, Handle, Link, Reply, pack
from huidu.wire import names, profile

logger = logging.getLogger("huidu.edge")

TICK_SECONDS: Final = 0.025
DEADLINE_TICKS: Final = 6
"""A read may see this many ticks, some 150 ms. Ticks and not a clock: when this process itself was
held up, the replies are already waiting to be read and must not count as late."""

PROBE_SECONDS: Final = 0.1
GIVE_UP_SECONDS: Final = 1.0
"""A connection that stays silent this long is made again; a silent peer may be gone for good."""

MOST_COMMANDS: Final = 65_536
"""Beginnings of commands that are remembered; some eight megabytes."""

SAMPLE_EVERY: Final = 64
"""One read in so many is timed, at most."""

BUCKETS_COMMAND: Final = pack("HGET", names.PROFILE_META, "buckets").removesuffix(b"\r\n")
"""Asks how many hashes there are, as `Profiles.ask` wants it."""

MOST_WAITING: Final = 20_000
"""Reads under way; more than Redis could answer before their deadline."""


class Commands(dict[int, bytes]):
    """All but the end of the command that reads from a hash, by the hash's number.

    Remembered, being the same for some hundred users.

    Args:
        buckets: how many hashes there are; see `huidu.wire.profile.address`.
    """

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.mask = buckets - 1

    def __missing__(self, bucket: int) -> bytes:
        if len(self) >= MOST_COMMANDS:
            self.clear()
        key = profile.key_of(bucket, self.buckets)
        made = self[bucket] = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$6\r\n" % (len(key), key)
        return made


class Profiles:
    """Reads packed profiles. All methods belong to the event loop's thread.

    Args:
        woken: called before replies are handed out, so that those who wait can share the clock.
        handle: handed replies and those who wait; see `edge.link.Link`.
        timed: told how long a read took, once in a while.
    """

    def __init__(
        self,
        where: Address,
        *,
        woken: Callable[[], None],
        handle: Handle | None = None,
        timed: Callable[[float], None],
    ) -> None:
        self.link = Link(
            where, name="profiles", connected=self.close_breaker, woken=woken, handle=handle
        )
        self.waiters = self.link.waiters
        self.unsent: list[bytes] = []
        """Commands without their line ends, which leave together; `send_soon` sees to it."""
        self.open = False
        self.deadlines_missed = 0
        self._woken = woken
        self._timed = timed
        self._timing: tuple[int, float] | None = None
        self._time_next = 0
        self._asked = 0
        self._marks: deque[int] = deque(maxlen=DEADLINE_TICKS + 1)
        """How many reads had been asked for at each of the last ticks."""
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

    def fetch(self, user: str, commands: Commands, done: Callable[[Reply], None]) -> None:
        """Read one record; `done` gets its bytes, None when there is none, or an exception.

        `done` is called once, at the latest when the deadline has passed, and perhaps at once.
        `edge.quick.ask` does the same for nearly every check.
        """
        bucket, field = profile.place(user, commands.buckets)
        self.ask(commands[bucket] + field, done)

    def ask(self, command: bytes, done: Callable[[Reply], None]) -> None:
        """Send a packed command without its last line end; see `fetch`."""
        if self.open or not self.link.alive or len(self.waiters) >= MOST_WAITING:
            self._woken()
            done(UNAVAILABLE)
            return
        self.waiters.append(done)
        if not self.unsent:
            self.send_soon()
        self.unsent.append(command)

    def send_soon(self) -> None:
        """Send the unsent commands at the end of this turn of the loop."""
        assert self._loop is not None
        self._loop.call_soon(self._send)

    def _send(self) -> None:
        commands = self.unsent
        self._asked += len(commands)
        if self.link.alive:
            commands.append(b"")
            self.link.write(b"\r\n".join(commands))
        commands.clear()
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        if self._timing is None and self._asked >= self._time_next:
            self._timing = self._asked, time.perf_counter()

    def answered(self) -> None:
        """Called when replies were handed out."""
        if self._timing is not None:
            position, since = self._timing
            if self._asked - len(self.waiters) >= position:
                self._timed(time.perf_counter() - since)
                self._timing = None
                self._time_next = position + SAMPLE_EVERY

    def _tick(self) -> None:
        """Once a tick while reads are under way: has the oldest seen too many of them?"""
        self._timer = None
        waiting = len(self.waiters) - len(self.unsent)
        marks = self._marks
        if not waiting or self.open:
            marks.clear()
            return
        marks.append(self._asked)
        if len(marks) > DEADLINE_TICKS and marks[0] > self._asked - waiting:
            self._open_breaker()
            return
        assert self._loop is not None
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _open_breaker(self) -> None:
        """Tell all who wait that Redis is too slow, and everybody after them at once."""
        waiters = self.waiters
        late = list(waiters)
        waiters.clear()
        waiters.extend([self._came_late] * len(late))  # replies come in order, late ones too
        self._marks.clear()
        self.open = True
        self.deadlines_missed += len(late)
        logger.warning("edge.redis_stalled waiting=%d", len(late))
        self._woken()
        for done in late:
            done(UNAVAILABLE)
        self._timing = None
        self._silent = 0
        assert self._loop is not None
        self._prober = self._loop.call_later(PROBE_SECONDS, self._probe)

    def _came_late(self, reply: Reply) -> None:
        if not isinstance(reply, Exception):
            self.close_breaker()

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
        self._timing = None
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None
