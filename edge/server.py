"""The check server's parts, put together; one `Edge` per process."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from edge.exposures import Exposures
from edge.feed import Feed
from edge.http import Responses
from edge.link import address
from edge.metrics import Metrics
from edge.places import Places
from edge.profiles import Profiles
from edge.quick import answer_all
from edge.receipts import Receipts
from edge.settings import Settings
from edge.state import State, World
from edge.stream import Listeners
from huidu.collector import resting_collector
from huidu.engine import Compiled
from huidu.model import Snapshot
from huidu.turns import LONG_REST_SECONDS, taking_turns

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from edge.connection import Connection

logger = logging.getLogger("huidu.edge")

TICK_SECONDS: Final = 1.0
MOST_WARMED: Final = 300
"""Flags whose code is made before a snapshot is served: some 0.2 s, which a kill can spare."""
MOST_PACKED: Final = 100
"""Of these, flags whose checks by a record are made then too: some 0.1 s more. The checks of others
are made when they are first asked for."""


class _Stopped(Exception):  # noqa: N818 - no error, the end of work nobody needs any more
    """The server stops."""


class Edge:
    """Everything connections share."""

    def __init__(self, settings: Settings) -> None:
        where = address(settings.redis_url)
        self.settings = settings
        self.state = State(settings)
        self.metrics = Metrics()
        self.responses = Responses()
        self.listeners = Listeners()
        self.profiles = Profiles(
            where,
            woken=self.begin_turn,
            handle=partial(answer_all, self),
            timed=self.metrics.observe,
        )
        self.feed = Feed(settings, where, self.state, self._world, self._published)
        self.exposures = Exposures(self.feed.control)
        self.receipts = Receipts(self.feed.control)
        self.places = Places(where, self.feed.control, settings.environment, woken=self.begin_turn)
        self._together = ThreadPoolExecutor(1, "together")
        self._stopped = False
        self.tick = 0
        """Seconds since the start, for what need not be precise."""
        self._due: list[Connection] = []
        self._listeners_checked = -1
        self._server_state: ServerState | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, server_state: ServerState) -> None:
        """Return once checks can be answered, or once it is clear that they cannot yet."""
        self._server_state = server_state
        self._loop = asyncio.get_running_loop()
        self.profiles.start()
        self.places.start()
        await self.feed.start()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = True
        self._together.shutdown(wait=False, cancel_futures=True)
        self.listeners.close()
        self.exposures.flush()
        self.receipts.flush()
        await asyncio.sleep(0)  # the last exposures leave with this turn of the loop
        await self.places.stop()
        await self.feed.stop()
        await self.profiles.stop()

    def write_soon(self, connection: Connection) -> None:
        """Let a connection's answers leave at the end of this turn of the loop.

        Answers that are written one after the other, and not each after some more work, find
        their clients awake: a wake-up costs as much as a whole check.
        """
        due = self._due
        if not due:
            assert self._loop is not None
            self._loop.call_soon(self._write_due)
        due.append(connection)

    def _write_due(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.flush()

    def begin_turn(self) -> None:
        """Look at the clock, once for all checks that are answered now."""
        self.state.moment.refresh()
        if self._server_state is not None:
            self.responses.refresh(self._server_state.default_headers)

    def _world(self, snapshot: Snapshot, compiled: Compiled, version: str, blob: bytes) -> World:
        """A world whose first checks will not have to wait for code; called in a thread."""
        asked = {flag for flag, _ in list(self.metrics.answers)} or compiled.flags
        warmed = [flag for flag in asked if flag in compiled.flags][:MOST_WARMED]
        pause = taking_turns()
        for flag in warmed:
            compiled.check_of(flag)
            pause()
        made = World(snapshot, compiled, version, self.metrics.answers, blob)
        before = self.state.world
        if before is not None:
            made.take_over(before)
        for flag in warmed[:MOST_PACKED]:
            made.packed_of(flag)
            pause()
        made.when_asked = self._put_together
        return made

    def _published(self, world: World) -> None:
        self.listeners.published(world)
        self._put_together(world)
        # Bodies that wait to be counted would keep the answers of the world before.
        self._count(self.metrics.uncounted)

    def _count(self, left: int) -> None:
        """Count so many bodies, one a turn: each may hold a thousand answers."""
        if left and self._loop is not None:
            self.metrics.add_up_oldest()
            self._loop.call_soon(self._count, left - 1)

    def _put_together(self, world: World) -> None:
        """Make the checks of all flags quick in a thread; the snapshot is used meanwhile."""
        if not world.is_together and self._loop is not None:
            self._loop.call_soon(self._begin_together, world)

    def _begin_together(self, world: World) -> None:
        assert self._loop is not None
        if world is self.state.world and not world.is_together and not self._stopped:
            made = self._loop.run_in_executor(self._together, self._make_together)
            made.add_done_callback(self._are_together)

    def _make_together(self) -> bool:
        """For the world that is used when its turn comes; whether there was something to do.

        Not given up for a newer one, which goes on from what was made. While snapshots came quicker
        than functions were made, none ever were.
        """
        world = self.state.world
        if world is None or world.is_together:
            return False
        rest = taking_turns(LONG_REST_SECONDS)

        def pause() -> None:
            rest()
            while self.feed.is_making and not self._stopped:
                time.sleep(LONG_REST_SECONDS)
            if self._stopped:
                raise _Stopped

        with resting_collector():
            world.put_together(pause)
        return True

    def _are_together(self, made: asyncio.Future[bool]) -> None:
        if made.cancelled() or isinstance(made.exception(), _Stopped):
            return
        if error := made.exception():  # checks of all flags go on, one after the other
            logger.error("edge.together_failed", exc_info=error)
        elif made.result():
            self.state.forget()

    def _tick(self) -> None:
        self.tick += 1
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        if self._listeners_checked != self.state.generation:
            self._listeners_checked = self.state.generation
            self.listeners.keys_changed(self.state.keys_by_id)
        if self._server_state is not None:
            for connection in list(self._server_state.connections):
                # A WebSocket's connection is the application's own.
                close_if_idle = getattr(connection, "close_if_idle", None)
                if close_if_idle is not None:
                    close_if_idle(self.tick)
