"""Exposures noted at the check: into the database exactly once, whatever is killed or lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from huidu.engine import bucketing
from huidu.model import FULL_THRESHOLD
from huidu.wire import names
from rollout.models import Exposure, Snapshot, StreamMark
from rollout.services import exposures, stream
from tests.rollout.evidence.conftest import World, at


def note(redis: Redis, user: str, entry: str = "*", **more: Any) -> None:
    drawn = bucketing.bucket("salt", user) < FULL_THRESHOLD // 2
    noted = {
        "environment": "production",
        "flag": "weilidai",
        "slot": 1,
        "user_id": user,
        "arm": "treated" if drawn else "control",
        "stage": "some",
        "weight": 1,
        "at_ms": int(at().timestamp() * 1000),
        "sequence": Snapshot.objects.latest("sequence").sequence,
        "decision_id": "d",
        "why": "shown",
    }
    redis.xadd(names.EXPOSURES_STREAM, {"exposure": json.dumps(noted | more)}, id=entry)


def test_noted_exposures_are_enrolled_once(world: World, redis: Redis):
    for user in ("u1", "u2", "u1"):
        note(redis, user)
    assert stream.drain() == {"accepted": 2, "duplicate": 1}
    assert not stream.drain()
    assert Exposure.objects.count() == 2


def test_a_drain_killed_before_its_commit_reads_again(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    note(redis, "u1")
    StreamMark.objects.create(name=names.EXPOSURES_STREAM)
    with monkeypatch.context() as killed:
        killed.setattr(StreamMark, "save", lambda self: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            stream.drain()
    assert not Exposure.objects.exists()
    assert stream.drain() == {"accepted": 1}


def test_a_drain_killed_after_its_commit_reads_on(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    note(redis, "u1")
    with monkeypatch.context() as killed:
        killed.setattr(Redis, "xtrim", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            stream.drain()
    note(redis, "u2")
    assert stream.drain() == {"accepted": 1}
    assert Exposure.objects.count() == 2


def test_a_store_that_lost_its_stream_is_read_from_its_new_beginning(world: World, redis: Redis):
    note(redis, "u1", entry="5000-0")
    stream.drain()
    redis.flushdb()
    note(redis, "u2", entry="7-0")
    assert stream.drain() == {"accepted": 1}
    assert StreamMark.objects.get().entry == "7-0"


def test_entries_in_the_database_leave_the_store(world: World, redis: Redis):
    for i in range(500):
        note(redis, f"u{i}")
    stream.drain()
    assert redis.xlen(names.EXPOSURES_STREAM) < 200


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"at_ms": 10**18}, id="a moment beyond the calendar"),
        pytest.param({"at_ms": int(datetime(1999, 1, 1, tzinfo=UTC).timestamp())}, id="long ago"),
        pytest.param({"user_id": "a\u0000"}, id="a user the database cannot hold"),
        pytest.param({"sequence": "one"}, id="of another type"),
    ],
)
def test_an_entry_that_cannot_be_true_holds_nobody_up(
    world: World, redis: Redis, wrong: dict[str, Any]
):
    note(redis, "u1", **wrong)
    redis.xadd(names.EXPOSURES_STREAM, {"other": "x"})
    note(redis, "u2")
    assert stream.drain() == {"unreadable": 2, "accepted": 1}


def test_where_check_and_database_disagree_neither_is_believed(world: World, redis: Redis):
    note(redis, "u1", arm="control")
    note(redis, "u1", arm="treated")
    assert stream.drain()[f"ignored:{exposures.ARMS_DIFFER}"] == 1
    assert Exposure.objects.count() == 1


def test_an_unknown_flag_or_snapshot_is_passed_over(world: World, redis: Redis):
    note(redis, "u1", flag="nothing")
    note(redis, "u1", sequence=99)
    assert stream.drain() == {exposures.FLAG_UNKNOWN: 2}
