"""Flags: the kill switch beats everything, and live flags change by two people."""

from __future__ import annotations

import pytest
from redis import Redis

from huidu.engine import compile_snapshot
from huidu.errors import InputError, StateError
from huidu.model import User
from huidu.wire import names
from huidu.wire import snapshot as wire
from rollout.models import AuditEntry, Flag, Outbox, Rollout, Snapshot
from rollout.services import flags, gates, publishing, rollouts, store
from rollout.services.changing import ApprovalNeededError
from tests.rollout.conftest import ANN, BOB, PLACE

pytestmark = pytest.mark.django_db(transaction=True)


def check(redis: Redis, user: str = "u1"):
    blob = redis.get(names.snapshot(PLACE))
    assert isinstance(blob, bytes)
    return compile_snapshot(wire.decode(blob)).check("weilidai", User(user, {}))


def test_a_kill_is_in_the_store_when_the_call_returns(running: Rollout, redis: Redis):
    flags.update(running.flag, {"allow_users": ["u1"]}, by=ANN, approved_by=BOB)
    assert check(redis).visible
    done = flags.kill(running.flag, by=ANN, reason="fire")
    assert done.reached_nodes
    assert check(redis).why == "killed"


def test_a_kill_is_published_even_when_the_rows_are_otherwise_refused(
    running: Rollout, redis: Redis
):
    other = flags.create(PLACE, "other", by=ANN)
    Flag.objects.filter(pk=other.pk).update(variants=[])  # past every service
    done = flags.kill(running.flag, by=ANN, reason="fire")
    assert done.reached_nodes
    assert check(redis).why == "killed"


def test_a_kill_stands_while_the_store_is_away_and_is_brought_later(
    running: Rollout, redis: Redis, settings
):
    url = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    store.client.cache_clear()
    done = flags.kill(running.flag, by=ANN, reason="fire")
    assert done.flag.killed
    assert not done.reached_nodes
    settings.REDIS_URL = url
    store.client.cache_clear()
    publishing.publish_pending()
    assert check(redis).why == "killed"
    assert not Outbox.objects.filter(done_at=None).exists()


def test_killing_twice_changes_nothing_and_is_logged_once(running: Rollout):
    flags.kill(running.flag, by=ANN, reason="fire")
    count = Snapshot.objects.count()
    flags.kill(running.flag, by=BOB, reason="fire!")
    assert Snapshot.objects.count() == count
    assert AuditEntry.objects.filter(action="flag.killed").count() == 1
    assert Flag.objects.get(pk=running.flag_id).killed_by == "ann"


def test_a_kill_needs_a_reason(running: Rollout):
    with pytest.raises(InputError, match="says why"):
        flags.kill(running.flag, by=ANN, reason="")


def test_resuming_what_was_not_killed_is_refused(running: Rollout):
    with pytest.raises(StateError, match="not killed"):
        flags.resume(running.flag, by=ANN, reason="why not", approved_by=BOB)


@pytest.mark.parametrize(
    "values", [{"enabled": False}, {"allow_users": ["me"]}, {"payload": {"a": 1}}]
)
def test_a_live_flag_is_changed_by_two_people(running: Rollout, values: dict):
    with pytest.raises(ApprovalNeededError):
        flags.update(running.flag, values, by=ANN)
    with pytest.raises(ApprovalNeededError):
        flags.update(running.flag, values, by=ANN, approved_by=ANN)
    flags.update(running.flag, values, by=ANN, approved_by=BOB)


def test_one_person_may_block_a_user_of_a_live_flag(running: Rollout, redis: Redis):
    flags.update(running.flag, {"block_users": ["u1"]}, by=ANN)
    assert check(redis).why == "blocked.list"


def test_every_change_grows_the_flags_version(flag: Flag):
    gates.save_gate(
        flag,
        {
            "order": 1,
            "key": "adult",
            "dimension": "compliance",
            "why": "compliance.age",
            "rule": {">=": [{"var": "age"}, 18]},
        },
        by=ANN,
    )
    flag.refresh_from_db()
    assert flag.version == 2


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"salt": "mine"}, "salt"),
        ({"killed": True}, "killed"),
        ({"type": "colour"}, "type"),
        ({"allow_users": [""]}, "allow_users[0]"),
        ({"block_users": ["a\0b"]}, "block_users[0]"),
        ({"allow_users": ["u"] * 10_001}, "allow_users"),
        ({"label_en": "x" * 121}, "label_en"),
    ],
)
def test_what_is_wrong_is_named(flag: Flag, values: dict, path: str):
    with pytest.raises(InputError) as refused:
        flags.update(flag, values, by=ANN)
    assert refused.value.path == path


@pytest.mark.parametrize("key", ["", "Big", "1st", "a b", "a" * 64, "a\0"])
def test_a_key_is_lower_case_and_short(transactional_db: None, key: str):
    with pytest.raises(InputError) as refused:
        flags.create(PLACE, key, by=ANN)
    assert refused.value.path == "key"


def test_a_rule_with_an_unknown_attribute_is_refused_with_its_path(flag: Flag):
    with pytest.raises(Exception, match="registered attribute"):
        gates.save_gate(
            flag,
            {
                "order": 1,
                "key": "x",
                "dimension": "fraud",
                "why": "fraud.x",
                "rule": {"==": [{"var": "shoe_size"}, 1]},
            },
            by=ANN,
        )


def test_a_flag_with_a_rollout_in_effect_is_not_archived(running: Rollout, redis: Redis):
    with pytest.raises(StateError):
        flags.archive(running.flag, by=ANN, reason="old")
    rollouts.rollback(running, by=ANN, reason="end")
    flags.archive(running.flag, by=ANN, reason="old")
    assert check(redis).why == "flag.unknown"
