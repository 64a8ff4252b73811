"""Keeps the memory current: publications from Redis, at once by pub/sub and again by a poll.

A snapshot that cannot be read or compiled is refused and counted, and the last good one stays.
What was good is kept on disk, so a start while Redis is down serves what was served before.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge.keep import Keep
from edge.link import Address, Link, Unavailable
from edge.retired import Retired
from edge.settings import Settings
from edge.state import State, World
from huidu.collector import resting_collector
from huidu.engine import compile_snapshot
from huidu.errors import HuiduError
from huidu.turns import Pause, taking_turns
from huidu.wire import access, names, snapshot

logger = logging.getLogger("huidu.edge")

POLL_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
"""A connection that stays silent this long is made again; a silent peer may be gone for good."""

KEEP_SECONDS: Final = 5.0
FIRST_REFRESH_SECONDS: Final = 1.0


class Feed:
    """Fills a `State`, and tells `published` about each new world."""

    def __init__(
        self,
        settings: Settings,
        where: Address,
        state: State,
        world_of: Callable[..., World],
        published: Callable[[World], None],
    ) -> None:
        self.state = state
        self.refused = 0
        self.is_making = False
        """Whether a snapshot is just being made ready; what is less urgent should wait."""
        self.control = Link(where, name="control", connected=self._wake)
        self._listener = Link(
            where, name="publications", connected=self._subscribe, pushed=self._hear
        )
        self._keep = Keep(settings.home, settings.environment)
        self._world_of = world_of
        self._reader = snapshot.SnapshotReader()
        self._published = published
        self._retired = Retired()
        self._awake = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._access_bytes = b""
        self._refused_bytes: dict[str, bytes] = {}

    # Life

    async def start(self) -> None:
        """Return once there is something to serve: from Redis, else from disk, else nothing yet."""
        self.control.start()
        self._listener.start()
        try:
            async with asyncio.timeout(FIRST_REFRESH_SECONDS):
                while not self.control.alive:  # noqa: ASYNC110 - ends within the second above
                    await asyncio.sleep(0.005)
                await self.refresh()
        except (TimeoutError, Unavailable) as error:
            logger.warning("edge.starts_without_redis error=%s", error or "timed out")
        if not self.state.ready:
            await self._read_kept()
        self._task = asyncio.create_task(self._stay_current(), name="edge-feed")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._listener.stop()
        await self.control.stop()

    def _wake(self) -> None:
        self._awake.set()

    def _subscribe(self) -> None:
        # The answer comes as a push, so no waiter is left behind.
        self._listener.push(b"SUBSCRIBE", names.PUBLISHED_CHANNEL.encode())
        self._wake()  # what was published while nobody listened

    def _hear(self, message: list[Any]) -> None:
        if message[0] == b"message":
            self._wake()

    async def _stay_current(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()
            try:
                await self.refresh()
            except Unavailable:
                pass  # the links log their own state; the poll tries again
            except Exception:  # a fault here must not end the feed for good
                logger.exception("edge.refresh_failed")

    # Reading

    async def refresh(self) -> None:
        """Take from Redis whatever is newer.

        Raises:
            Unavailable: Redis did not answer.
        """
        async with self._refreshing:
            command = self._command
            sequence, keys, buckets, secret = await asyncio.gather(
                command("GET", names.sequence(self.state.environment)),
                command("GET", names.ACCESS),
                command("HGET", names.PROFILE_META, "buckets"),
                command("GET", names.STREAM_SECRET),
            )
            if keys is not None and keys != self._access_bytes:
                await self._take_access(keys)
            self.take_buckets(buckets)
            await self._take_secret(secret)
            world = self.state.world
            if world is None or (sequence is not None and int(sequence) != world.sequence):
                data = await command("GET", names.snapshot(self.state.environment))
                if data is not None:
                    await self._take_snapshot(data)

    async def _command(self, *words: str) -> Any:
        """Redis's answer; only it has a deadline: a snapshot may take longer to be made ready."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.control.command(*words)
        except TimeoutError as error:
            self.control.drop()
            raise Unavailable("no answer") from error

    async def _take_snapshot(self, data: bytes, *, keep: bool = True) -> None:
        if data == self._refused_bytes.get("snapshot"):
            return  # said once
        try:
            version = snapshot.version_of(data)
            # In a thread: the checks of the present world go on meanwhile.
            world = await asyncio.to_thread(self._make_world, data, version)
        except (HuiduError, msgspec.MsgspecError, ValueError) as error:
            self._refuse("snapshot", data, error)
            return
        except Exception as error:  # a fault of the compiler is no reason to stop serving either
            logger.exception("edge.compile_failed")
            self._refuse("snapshot", data, error)
            return
        present = self.state.world
        if present is not None and _is_older(world, present):
            self._refuse("snapshot", data, ValueError("older than the one being served"))
            return
        self._refused_bytes.pop("snapshot", None)
        self.state.take_world(world)
        logger.info("edge.snapshot_taken sequence=%d version=%s", world.sequence, version)
        self._published(world)
        if present is not None:
            self._retired.take(present)
        del present
        if keep:
            await self._write("snapshot", data)

    def _make_world(self, data: bytes, version: str) -> World:
        pause = taking_turns()  # checks go on meanwhile
        self.is_making = True
        try:
            with resting_collector():
                return self._made_world(data, version, pause)
        finally:
            self.is_making = False

    def _made_world(self, data: bytes, version: str, pause: Pause) -> World:
        decoded = self._reader.read(data, pause)
        if decoded.environment != self.state.environment:
            raise ValueError(
                f"expected environment {self.state.environment}, got {decoded.environment}"
            )
        present = self.state.world
        before = None if present is None else present.compiled
        compiled = compile_snapshot(decoded, before=before, pause=pause)
        return self._world_of(decoded, compiled, version, data)

    async def _take_access(self, data: bytes, *, keep: bool = True) -> None:
        if data == self._refused_bytes.get("access"):
            return  # said once
        try:
            decoded = access.decode(data)
        except msgspec.MsgspecError as error:
            self._refuse("access", data, error)
            return
        self._access_bytes = data
        self.state.take_access(decoded)
        logger.info("edge.access_taken sequence=%d keys=%d", decoded.sequence, len(decoded.keys))
        if keep:
            await self._write("access", data)

    async def _write(self, name: str, data: bytes) -> None:
        """Keep what was good. A disk that hangs must not keep the next publication waiting."""
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                await asyncio.to_thread(self._keep.write, name, data)
        except TimeoutError:
            logger.warning("edge.not_kept name=%s error=timed out", name)

    def take_buckets(self, buckets: bytes | None) -> None:
        """Read profiles from so many hashes from now on, or none while there is no number."""
        number = int(buckets) if buckets is not None and buckets.isdigit() else None
        commands = self.state.commands
        if number != (commands and commands.buckets):
            self.state.take_buckets(number)
            logger.info("edge.profile_buckets number=%s", number)

    async def _take_secret(self, secret: bytes | None) -> None:
        if secret is None:
            made = secrets.token_urlsafe(32)
            await self._command("SET", names.STREAM_SECRET, made, "NX")
            secret = await self._command("GET", names.STREAM_SECRET)
        if secret and secret != self.state.stream_secret:
            self.state.stream_secret = secret

    async def _read_kept(self) -> None:
        keys, data = self._keep.read("access"), self._keep.read("snapshot")
        # What Redis said, if it said anything, is newer than what was kept.
        if keys is not None and self.state.access_sequence < 0:
            await self._take_access(keys, keep=False)
        if data is not None and self.state.world is None:
            await self._take_snapshot(data, keep=False)
        if not self.state.stream_secret:
            self.state.stream_secret = secrets.token_bytes(32)
        logger.warning("edge.serves_what_was_kept ready=%s", self.state.ready)

    def _refuse(self, what: str, data: bytes, error: Exception) -> None:
        self.refused += 1
        self._refused_bytes[what] = data
        logger.error("edge.refused what=%s error=%s", what, error)


def _is_older(new: World, present: World) -> bool:
    """A Redis restored from a backup must not bring a killed flag back to life.

    A lower number with a later date is a new installation, and wins.
    """
    return new.sequence < present.sequence and new.published < present.published
