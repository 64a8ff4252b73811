"""Packed profiles follow the rows, whatever happens to packers and to Redis."""

from __future__ import annotations

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import redis as redis_py
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from cohorts.models import DirtyProfile, Profile, UserList
from cohorts.services import admissions, lists, packing, rebuild, store
from cohorts.services.ingest import ingest_payments, ingest_profiles
from huidu.model import Admission
from tests.cohorts.conftest import NOW

pytestmark = pytest.mark.django_db(transaction=True)


def pay(number: int, user: str, moment: str = "2026-05-20T10:00:00+08:00"):
    return {"event_id": f"e{number}", "user_id": user, "paid_at": moment}


def test_a_payment_is_in_the_packed_profile_when_the_request_ends(packed):
    ingest_payments([pay(1, "u1"), pay(2, "u1")], NOW)
    assert packed("u1").attributes["weekly_payments"] == 2
    assert not DirtyProfile.objects.exists()


def test_a_payment_of_tomorrow_counts_tomorrow(packed):
    ingest_payments([pay(1, "u1"), pay(2, "u1", "2026-05-21T08:00:00+08:00")], NOW)
    assert packed("u1").attributes["weekly_payments"] == 1


def test_a_transaction_that_fails_leaves_neither_rows_nor_record(packed):
    with transaction.atomic():
        ingest_payments([pay(1, "u1")], NOW)
        transaction.set_rollback(True)
    assert packed("u1") is None
    assert not DirtyProfile.objects.exists()


def test_admissions_and_lists_are_in_the_record(packed):
    number = UserList.objects.create(key="blocked", kind="block").number
    admissions.admit(7, ["u1"], now=NOW)
    lists.add_members(number, ["u1", "u2"])
    assert packed("u1").admissions == {7: Admission(1, True)}
    assert packed("u1").lists == packed("u2").lists == {number}
    assert packed("u2").attributes == {}
    lists.remove_members(number, ["u2"])
    assert packed("u2") is None


def test_a_change_while_its_user_is_packed_is_packed_again(packed, monkeypatch):
    """The trap: the packer read the old facts, then the change, then the packer's delete."""
    ingest_profiles([{"user_id": "u1", "age": 30}], NOW, pack=False)
    write = store.write

    def change_then_write(records, targets):
        records = list(records)
        monkeypatch.setattr(store, "write", write)
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(_elsewhere, {"user_id": "u1", "age": 31}).result()
        write(records, targets)

    monkeypatch.setattr(store, "write", change_then_write)
    packing.drain_dirty(1)
    assert DirtyProfile.objects.count() == 1
    packing.drain_dirty()
    assert packed("u1").attributes["age"] == 31


def _elsewhere(item) -> None:
    try:
        ingest_profiles([item], NOW, pack=False)
    finally:
        connection.close()


def test_many_writers_and_packers_end_with_the_record_of_the_rows(packed):
    chance = random.Random(7)
    users = [f"u{number}" for number in range(40)]
    stop = threading.Event()

    def write(seed: int) -> None:
        own = random.Random(seed)
        try:
            for turn in range(12):
                some = own.sample(users, 15)
                ingest_payments(
                    [pay(seed * 10_000 + turn * 100 + i, each) for i, each in enumerate(some)],
                    NOW,
                    pack=own.random() < 0.5,
                )
                facts = [{"user_id": each, "age": own.randint(18, 90)} for each in some]
                ingest_profiles(facts, NOW, pack=own.random() < 0.5)
        finally:
            connection.close()

    def drain() -> None:
        try:
            while not stop.is_set():
                packing.drain_dirty(own_limit)
        finally:
            connection.close()

    own_limit = chance.choice([3, 7])
    with ThreadPoolExecutor(5) as pool:
        packers = [pool.submit(drain) for _ in range(2)]
        for writer in [pool.submit(write, seed) for seed in range(3)]:
            writer.result()
        stop.set()
        for packer in packers:
            packer.result()
    packing.drain_dirty()
    assert not DirtyProfile.objects.exists()
    for row in Profile.objects.all():
        assert packed(row.user_id).attributes["age"] == row.age
    paid = sum(packed(each).attributes["weekly_payments"] for each in users if packed(each))
    assert paid == 3 * 12 * 15


def test_a_silent_redis_fails_no_request_and_loses_nothing(packed, monkeypatch):
    def silent(*_):
        raise redis_py.TimeoutError("no answer")

    write = store.write
    monkeypatch.setattr(store, "write", silent)
    assert ingest_payments([pay(1, "u1")], NOW).accepted == 1
    assert packed("u1") is None
    monkeypatch.setattr(store, "write", write)
    assert packing.drain_dirty() == 1
    assert packed("u1").attributes["weekly_payments"] == 1


def test_a_flushed_redis_heals_by_itself(packed, redis):
    ingest_payments([pay(i, f"u{i}") for i in range(50)], NOW)
    redis.flushdb()
    assert packing.drain_dirty() == 0
    assert rebuild.heal_profiles(NOW) == 50
    assert packed("u49").attributes["weekly_payments"] == 1
    assert rebuild.heal_profiles(NOW) == 0


def test_a_restarted_redis_is_packed_anew_in_place(packed, redis):
    ingest_payments([pay(1, "u1")], NOW)
    redis.hset("huidu:profiles", "run_id", "of the process before")
    assert rebuild.heal_profiles(NOW) == 1


def test_a_rebuild_with_more_hashes_moves_everybody(packed, redis):
    ingest_payments([pay(i, f"u{i}") for i in range(300)], NOW)
    before = store.read_meta().buckets
    assert rebuild.rebuild_profiles(NOW, buckets=4 * before) == 300
    assert store.read_meta().buckets == 4 * before
    assert packed("u299").attributes["weekly_payments"] == 1
    assert not list(redis.scan_iter(f"p{before.bit_length() - 1:x}:*"))


def test_a_rebuild_goes_on_where_it_was_stopped_and_readers_see_nothing_of_it(
    packed, redis, monkeypatch
):
    monkeypatch.setattr(rebuild, "CHUNK", 10)
    ingest_payments([pay(i, f"u{i}") for i in range(200)], NOW)
    before = store.read_meta().buckets
    clock = SimpleNamespace(monotonic=iter(range(1_000)).__next__)
    monkeypatch.setattr(rebuild, "time", clock)
    first = rebuild.rebuild_profiles(NOW, buckets=2 * before, seconds=3)
    assert 0 < first < 200
    assert store.read_meta().buckets == before
    # Changes in between reach the old records and the new ones.
    ingest_payments([pay(1_000, "u5")], NOW)
    assert packed("u5").attributes["weekly_payments"] == 2
    rest = rebuild.rebuild_profiles(NOW)
    assert first + rest == 200
    assert store.read_meta().buckets == 2 * before
    assert packed("u5").attributes["weekly_payments"] == 2


def test_a_note_of_an_earlier_version_is_begun_anew(packed, redis):
    """It told how far one lane was; taken for everybody's, it would leave users out."""
    ingest_payments([pay(i, f"u{i}") for i in range(30)], NOW)
    redis.flushdb()
    note = b'{"rebuilding":64,"started":"","lane":7,"after":"u9","packed":29}'
    redis.hset(
        "huidu:profiles",
        mapping={"rebuilding": 64, "rebuilding_run_id": store.run_id(), "progress": note},
    )
    assert rebuild.heal_profiles(NOW) == 30
    assert packed("u0").attributes["weekly_payments"] == 1


def test_the_command_packs_everybody_after_a_flush_and_leaves_another_rebuild_alone(packed, redis):
    ingest_payments([pay(i, f"u{i}") for i in range(30)], NOW)
    redis.flushdb()
    told = io.StringIO()
    call_command("rebuild_profiles", verbosity=0, stdout=told)
    assert told.getvalue() == "30 users packed; checks read the new records.\n"
    assert packed("u7").attributes["weekly_payments"] == 1
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [rebuild.REBUILD_LOCK])
        with pytest.raises(CommandError, match="another process"):
            call_command("rebuild_profiles", verbosity=0)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [rebuild.REBUILD_LOCK])
    other.close()
    with pytest.raises(CommandError, match="power of two"):
        call_command("rebuild_profiles", "--buckets", "100", verbosity=0)


def test_a_deleted_profile_leaves_no_record(packed):
    ingest_payments([pay(1, "u1")], NOW)
    Profile.objects.all().delete()
    packing.pack_profiles(["u1"])
    assert packed("u1") is None


def test_batches_with_the_same_events_at_the_same_moment_count_each_once(packed):
    """Four senders repeat the same 600 payments in orders of their own; nobody deadlocks."""
    events = [pay(number, f"u{number % 37}") for number in range(600)]

    def send(seed: int) -> int:
        own = random.Random(seed)
        accepted = 0
        try:
            for _ in range(3):
                some = own.sample(events, 400)
                accepted += ingest_payments(some, NOW).accepted
            return accepted + ingest_payments(own.sample(events, 600), NOW).accepted
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        accepted = sum(pool.map(send, range(4)))
    packing.drain_dirty()
    assert accepted == 600
    assert sum(packed(f"u{i}").attributes["weekly_payments"] for i in range(37)) == 600
