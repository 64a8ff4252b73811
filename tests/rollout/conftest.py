"""A small world: one flag, two people, a rollout of three stages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from rollout.api.authentication import cache
from rollout.models import Flag, Rollout, Stage
from rollout.services import flags, rollouts, stages, store
from rollout.services.audit import Actor

ANN = Actor(name="ann", person="ann")
BOB = Actor(name="bob", person="bob")
PLACE = "production"


@pytest.fixture(autouse=True)
def fresh_process(redis: Redis) -> Iterator[None]:
    """What a process remembers between requests belongs to no test."""
    cache.clear()
    store.client.cache_clear()
    yield
    store.client.cache_clear()


@pytest.fixture
def flag(transactional_db: None) -> Flag:
    return flags.create(PLACE, "weilidai", by=ANN, label_en="Loan")


@pytest.fixture
def draft(flag: Flag) -> Rollout:
    """Three stages of the whole audience: entering them needs no population."""
    row = rollouts.create(flag, by=ANN)
    for order, key in enumerate(("internal", "some", "all")):
        add_stage(row, order, key)
    return row


@pytest.fixture
def running(draft: Rollout) -> Rollout:
    start(draft)
    return draft


def add_stage(rollout: Rollout, order: int, key: str, **values: Any) -> Stage:
    plan = {"minimum_stay": timedelta(0), "waiver": "a test"}
    return stages.save_stage(rollout, {"order": order, "key": key, **plan, **values}, by=ANN)


def start(rollout: Rollout) -> None:
    rollouts.submit(rollout, by=ANN, reason="ready")
    rollouts.approve(rollout, by=BOB, reason="read it")
    rollouts.start(rollout, by=ANN, reason="go")
