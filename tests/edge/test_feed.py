"""What keeps a check server current, where Redis is silent or a snapshot takes its time."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import feed as feeds
from edge.feed import Feed
from edge.link import address
from edge.settings import Settings
from edge.state import State, World
from huidu.engine import Compiled
from huidu.model import Snapshot
from tests.edge.running import ENVIRONMENT, Store, flags
from tests.waiting import PATIENCE

SLOW = 0.9


def slow_world(snapshot: Snapshot, compiled: Compiled, version: str, blob: bytes) -> World:
    time.sleep(SLOW)
    return World(snapshot, compiled, version, {}, blob)


@pytest.fixture
async def feed(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Feed]:
    """Gives Redis less time than a snapshot takes here."""
    monkeypatch.setattr(feeds, "ANSWER_SECONDS", SLOW / 3)
    settings = Settings(
        home=tmp_path, environment=ENVIRONMENT, day_zone="Asia/Shanghai", redis_url=own_store.url
    )
    made = Feed(settings, address(own_store.url), State(settings), slow_world, lambda _: None)
    await made.start()
    yield made
    await made.stop()


async def until(claim: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not claim():  # noqa: ASYNC110 - what is claimed tells nobody
            await asyncio.sleep(0.01)


def sequence(feed: Feed) -> int:
    return feed.state.world.sequence if feed.state.world else 0


async def test_a_snapshot_may_take_longer_than_redis_may(feed: Feed, own_store: Store) -> None:
    own_store.publish(flags()[:2])
    await until(lambda: sequence(feed) == own_store.sequence)


async def test_a_redis_that_stays_silent_is_connected_to_again(
    feed: Feed, own_store: Store
) -> None:
    await until(lambda: sequence(feed) == own_store.sequence)
    own_store.stall()
    feed._wake()  # as the poll would
    await until(lambda: not feed.control.alive)
    own_store.resume()
    own_store.publish(flags()[:2])
    await until(lambda: sequence(feed) == own_store.sequence)


async def test_a_world_that_was_replaced_is_let_go(feed: Feed, own_store: Store) -> None:
    own_store.publish(flags()[:2])
    await until(lambda: sequence(feed) == own_store.sequence)
    assert feed.state.world is not None
    replaced = weakref.ref(feed.state.world)
    compiled = weakref.ref(feed.state.world.compiled)
    own_store.publish(flags()[:1])
    await until(lambda: sequence(feed) == own_store.sequence)
    await until(lambda: replaced() is None and compiled() is None)


async def test_who_has_time_is_told_that_a_snapshot_is_being_made(
    feed: Feed, own_store: Store
) -> None:
    assert not feed.is_making
    own_store.publish(flags()[:2])
    await until(lambda: feed.is_making)
    await until(lambda: not feed.is_making)
    own_store.publish([msgspec.structs.replace(flags()[0], variants=[])])  # refused as a whole
    await until(lambda: feed.refused)
    assert not feed.is_making
