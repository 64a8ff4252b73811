"""Publishing: immutable, healed, never half, and never replaced by something that does not load."""

from __future__ import annotations

import json
from threading import Barrier, Thread

import pytest
from django.db import DatabaseError, connection
from redis import Redis

from huidu.errors import HuiduError
from huidu.wire import access, names
from huidu.wire import snapshot as wire
from rollout.models import Flag, Outbox, Rollout, Snapshot
from rollout.services import flags, keys, publishing, rollouts, store
from tests.rollout.conftest import ANN, PLACE
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


def published(redis: Redis) -> wire.Snapshot:
    blob = redis.get(names.snapshot(PLACE))
    assert isinstance(blob, bytes)
    return wire.decode(blob)


def test_a_change_is_in_the_store_when_the_call_returns(flag: Flag, redis: Redis):
    flags.update(flag, {"off_value": False, "payload": {"cap": 5}}, by=ANN)
    assert published(redis).flags[0].payload == {"cap": 5}
    assert not Outbox.objects.filter(done_at=None).exists()


def test_every_node_is_told_the_sequence(flag: Flag, redis: Redis):
    channel = redis.pubsub()
    channel.subscribe(names.PUBLISHED_CHANNEL)
    channel.get_message(timeout=PATIENCE)
    flags.update(flag, {"payload": {"a": 1}}, by=ANN)
    message = channel.get_message(timeout=PATIENCE)
    assert message is not None
    sequence = int(redis.get(names.sequence(PLACE)))
    assert json.loads(message["data"]) == {
        "kind": "snapshot",
        "environment": PLACE,
        "sequence": sequence,
    }


def test_unchanged_content_publishes_nothing(flag: Flag):
    before = Snapshot.objects.count()
    assert publishing.publish(PLACE, cause="again", by="ann").snapshot is None
    assert Snapshot.objects.count() == before


def test_a_flushed_store_gets_the_last_snapshot_and_keys_again(flag: Flag, redis: Redis):
    keys.create(PLACE, "server", "app", by=ANN)
    last = published(redis)
    redis.flushdb()
    assert publishing.ensure_published(PLACE)
    assert published(redis) == last
    assert len(access.decode(redis.get(names.ACCESS)).keys) == 1
    assert not publishing.ensure_published(PLACE)


def test_an_older_snapshot_in_the_store_is_replaced(flag: Flag, redis: Redis):
    old = redis.get(names.snapshot(PLACE))
    flags.update(flag, {"payload": {"new": True}}, by=ANN)
    redis.mset({names.snapshot(PLACE): old, names.sequence(PLACE): 1})
    assert publishing.ensure_published(PLACE)
    assert published(redis).flags[0].payload == {"new": True}


def test_a_store_ahead_of_a_restored_database_is_overtaken(flag: Flag, redis: Redis):
    redis.set(names.sequence(PLACE), 900)
    assert publishing.ensure_published(PLACE)
    assert published(redis).sequence == 901
    assert int(redis.get(names.sequence(PLACE))) == 901


def test_a_late_writer_never_puts_an_older_snapshot_on_top(flag: Flag, redis: Redis):
    flags.update(flag, {"payload": {"new": True}}, by=ANN)
    first = Snapshot.objects.order_by("sequence").first()
    assert first is not None
    assert not store.put_snapshot(PLACE, bytes(first.blob), first.sequence)
    assert published(redis).flags[0].payload == {"new": True}


def test_a_change_that_would_not_load_is_refused_before_the_commit(flag: Flag, redis: Redis):
    before = published(redis)
    with pytest.raises(HuiduError, match="sum to 1000000"):
        flags.update(flag, {"variants": [{"key": "on", "value": True, "share_ppm": 5}]}, by=ANN)
    flag.refresh_from_db()
    assert flag.variants[0]["share_ppm"] == 1_000_000
    assert published(redis) == before


def test_a_snapshot_that_would_not_load_never_replaces_the_last_good_one(flag: Flag, redis: Redis):
    before = published(redis)
    Flag.objects.filter(pk=flag.pk).update(variants=[{"key": "on"}])  # past every service
    Outbox.objects.create(kind="snapshot", environment=PLACE)
    assert publishing.publish_pending() == 0
    assert published(redis) == before
    assert "variants" in Outbox.objects.get(done_at=None).error


def test_with_the_store_away_the_change_stands_and_the_tick_brings_it(
    flag: Flag, redis: Redis, settings
):
    url = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    store.client.cache_clear()
    flags.update(flag, {"payload": {"late": 1}}, by=ANN)
    assert Outbox.objects.filter(done_at=None).count() == 1
    settings.REDIS_URL = url
    store.client.cache_clear()
    assert publishing.publish_pending() == 1
    assert published(redis).flags[0].payload == {"late": 1}


@pytest.mark.parametrize(
    "sql", ["UPDATE rollout_snapshot SET cause = 'x'", "DELETE FROM rollout_snapshot"]
)
def test_a_snapshot_row_cannot_be_changed(flag: Flag, sql: str):
    with pytest.raises(DatabaseError, match="written once"), connection.cursor() as cursor:
        cursor.execute(sql)


def test_publishers_that_race_write_one_line_of_sequences(flag: Flag, redis: Redis):
    others = [flags.create(PLACE, f"flag-{n}", by=ANN) for n in range(4)]
    barrier = Barrier(len(others))
    faults: list[Exception] = []

    def change(other: Flag) -> None:
        try:
            barrier.wait()
            flags.update(other, {"payload": {"raced": True}}, by=ANN)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [Thread(target=change, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    sequences = list(Snapshot.objects.order_by("sequence").values_list("sequence", flat=True))
    assert sequences == list(range(1, len(sequences) + 1))
    final = published(redis)
    assert final.sequence == sequences[-1]
    assert [each.payload for each in final.flags if each.key != "weilidai"] == [{"raced": True}] * 4


def test_an_environment_publishes_its_own_flags_only(flag: Flag, redis: Redis):
    flags.create("staging", "other", by=ANN)
    assert [each.key for each in published(redis).flags] == ["weilidai"]


def test_the_rollout_in_effect_is_told_not_the_newer_draft(running: Rollout, redis: Redis):
    rollouts.create(running.flag, by=ANN)
    told = published(redis).flags[0].rollout
    assert told is not None
    assert told.slot == running.slot
