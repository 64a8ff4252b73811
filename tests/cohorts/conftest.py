"""A clock and readers of what packing left in Redis."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
import redis as redis_py

from cohorts import mappers
from cohorts.services import packing, rebuild, store
from huidu.model import User
from huidu.wire.profile import address, user_of

NOW = datetime.datetime(2026, 5, 20, 4, 0, tzinfo=datetime.UTC)  # noon in Shanghai
TODAY = datetime.date(2026, 5, 20)


@pytest.fixture(autouse=True)
def fresh_packer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits because an earlier one took Redis away."""
    monkeypatch.setattr(packing, "_paused_until", 0.0)


@pytest.fixture
def packed(redis: redis_py.Redis) -> Callable[[str], User | None]:
    """Reads a user the way the edge does: the description, one record."""
    rebuild.rebuild_profiles(NOW)

    def read(user_id: str, today: datetime.date = TODAY) -> User | None:
        key, field = address(user_id, store.read_meta().buckets)
        record = redis.hget(key, field)
        return None if record is None else user_of(record, user_id, today, mappers.registry())

    return read
