"""A Redis that stands still, by a clock that this test turns: no machine is too busy for it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edge.link import UNAVAILABLE, Address
from edge.profiles import TICK_SECONDS, Commands, Profiles

DEADLINE = 0.25
"""Seconds within which every check answers, whatever Redis does (the platform's own promise)."""
RECORD = b"$3\r\nabc\r\n"


class Loop(asyncio.SelectorEventLoop):
    """Its time stands still but for `pass_by`."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def until(self, claim: Callable[[], Any]) -> None:
        """Give everybody turns until `claim()` holds, without any time passing."""
        for _ in range(10_000):  # nothing here waits for another process
            if claim():
                return
            await asyncio.sleep(0)
        raise AssertionError("waited in vain")

    async def pass_by(self, seconds: float) -> None:
        """Let time pass at once, as for a process that was held up, and give everybody a turn."""
        self.now += seconds
        for _ in range(5):
            await asyncio.sleep(0)


class Peer:
    """Greets like Redis and then says nothing until it is told to."""

    def __init__(self) -> None:
        self.asked = self.serving = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.serving += 1
        while words := await reader.read(65_536):
            if b"PING" in words:
                writer.write(b"+PONG\r\n")
            self.asked += words.count(b"HGET")
        writer.close()
        self.serving -= 1

    def answer(self, replies: bytes) -> None:
        assert self._writer is not None
        self._writer.write(replies)


def beside_a_peer(story: Callable[[Loop, Peer, Profiles], Awaitable[None]]) -> None:
    """Tell a story of profiles read from a `Peer`."""
    loop = Loop()

    async def told() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "redis.sock")
            peer = Peer()
            server = await asyncio.start_unix_server(peer.serve, path)
            profiles = Profiles(Address(path=path), woken=lambda: None, timed=lambda _: None)
            profiles.start()
            await loop.until(lambda: profiles.readable)
            await story(loop, peer, profiles)
            await profiles.stop()
            await loop.until(lambda: not peer.serving)
            server.close()
            await server.wait_closed()

    try:
        loop.run_until_complete(told())
    finally:
        loop.close()


def read(profiles: Profiles, user: str, told: list[Any]) -> None:
    profiles.fetch(user, Commands(16), told.append)


def test_who_waits_is_told_within_the_deadline_and_who_comes_later_at_once() -> None:
    async def story(loop: Loop, peer: Peer, profiles: Profiles) -> None:
        told: list[Any] = []
        read(profiles, "ada", told)
        for _ in range(3):
            await loop.pass_by(TICK_SECONDS)
        read(profiles, "bob", told)
        while not told:
            assert loop.now < DEADLINE
            await loop.pass_by(TICK_SECONDS)
        assert told == [UNAVAILABLE] * 2
        assert profiles.deadlines_missed == 2
        read(profiles, "eve", told)
        assert told == [UNAVAILABLE] * 3, "she was not even asked for"
        peer.answer(RECORD * 2)
        await loop.until(lambda: profiles.readable)
        read(profiles, "ada", told)
        peer.answer(RECORD)
        await loop.until(lambda: len(told) == 4)
        assert told[3] == b"abc"
        assert profiles.deadlines_missed == 2

    beside_a_peer(story)


def test_a_reply_is_not_late_because_this_process_was() -> None:
    async def story(loop: Loop, peer: Peer, profiles: Profiles) -> None:
        told: list[Any] = []
        read(profiles, "ada", told)
        await loop.until(lambda: peer.asked)
        peer.answer(RECORD)
        await loop.pass_by(100 * DEADLINE)
        await loop.until(lambda: told)
        assert told == [b"abc"]
        assert profiles.deadlines_missed == 0

    beside_a_peer(story)


def test_a_peer_that_is_gone_for_good_is_connected_to_again() -> None:
    async def story(loop: Loop, peer: Peer, profiles: Profiles) -> None:
        told: list[Any] = []
        read(profiles, "ada", told)
        while not told:
            assert loop.now < DEADLINE
            await loop.pass_by(TICK_SECONDS)
        assert not profiles.readable
        while not profiles.readable:  # the peer greets once more
            assert loop.now < 10
            await loop.pass_by(TICK_SECONDS)
        read(profiles, "ada", told)
        await loop.until(lambda: peer.asked > 1)
        peer.answer(RECORD)
        await loop.until(lambda: len(told) == 2)
        assert told == [UNAVAILABLE, b"abc"]

    beside_a_peer(story)
