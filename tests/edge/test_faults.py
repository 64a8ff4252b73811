"""Faults: Redis stalled, killed, away at the start; bad publications; revoked keys."""

from __future__ import annotations

import concurrent.futures
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge.feed import POLL_SECONDS
from huidu import reasons
from huidu.wire import names, profile, snapshot
from huidu.wire.access import KeyKind
from tests.edge.running import BUCKETS, CLIENT, SERVER, Response, Running, Store, bearer, flags
from tests.waiting import wait_for

MISSED = "huidu_profile_deadlines_missed_total"


def why(answer: Response) -> str:
    return str(answer.json["metadata"]["why"])


def test_a_stalled_redis_costs_no_check_more_than_its_deadline(
    own_store: Store, own_edge: Running
) -> None:
    """How long that is `test_profiles` says, by a clock that no busy machine can disturb."""
    assert own_edge.check("weilidai", "ada").json["value"] is True
    own_store.stall()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for wave in range(2):
            for answer in pool.map(lambda _: own_edge.check("weilidai", "ada"), range(8)):
                assert answer.status == 200
                assert (answer.json["value"], answer.json["reason"]) == (False, reasons.ERROR)
                assert why(answer) == reasons.DATA_MISSING
            if wave == 0:
                waited = own_edge.metric(MISSED)
                assert 1 <= waited <= 8
    # The first wave opened the breaker; nobody after it waited at all.
    assert own_edge.metric(MISSED) == waited
    own_store.resume()
    wait_for(lambda: own_edge.check("weilidai", "ada").json["value"] is True)


def test_without_profiles_the_callers_context_has_to_do(
    own_store: Store, own_edge: Running
) -> None:
    own_store.stall()
    shown = own_edge.check("new-app", "ada", app_version="9.0.0")
    assert (shown.json["value"], why(shown)) == (True, reasons.SHOWN)
    killed = own_edge.check("killed", "ada")
    assert (killed.json["value"], why(killed)) == (False, reasons.KILLED)
    closed = own_edge.check("weilidai", "ada", region="650100")
    assert (closed.json["reason"], why(closed)) == (reasons.ERROR, reasons.REGION_CLOSED)


def test_a_big_block_list_that_cannot_be_read_hides(own_store: Store, own_edge: Running) -> None:
    own_store.hold("bad", lists=frozenset({9}))
    assert own_edge.check("blocked", "ada").json["value"] is True
    assert why(own_edge.check("blocked", "bad")) == reasons.BLOCKED_LIST
    own_store.stall()
    hidden = own_edge.check("blocked", "ada")
    assert (hidden.json["value"], why(hidden)) == (False, reasons.SYSTEM_ERROR)


def test_a_draw_is_not_called_lost_while_its_memory_is_away(
    own_store: Store, own_edge: Running
) -> None:
    answers = {user: own_edge.check("half", user) for user in map(str, range(40))}
    lost = next(user for user, answer in answers.items() if why(answer) == reasons.STAGE_NOT_DRAWN)
    own_store.stall()
    hidden = own_edge.check("half", lost)
    assert (hidden.json["reason"], why(hidden)) == (reasons.ERROR, reasons.SYSTEM_ERROR)


def test_a_killed_and_restarted_redis_is_found_again(own_store: Store, own_edge: Running) -> None:
    own_store.server.stop()
    answer = own_edge.check("weilidai", "ada")
    assert (answer.json["reason"], why(answer)) == (reasons.ERROR, reasons.DATA_MISSING)
    assert own_edge.metric(MISSED) == 0, "who is refused a connection need not wait"
    own_store.server.start()
    wait_for(lambda: own_edge.check("weilidai", "ada").json["value"] is True)
    # And publications are heard again.
    own_store.publish([flag for flag in flags() if flag.key != "rate"])
    wait_for(lambda: own_edge.check("rate", "ada").status == 404)


def test_profiles_that_must_be_rebuilt_are_missing_and_not_empty(
    own_store: Store, own_edge: Running
) -> None:
    own_store.client.delete(names.PROFILE_META)
    own_store.tell("snapshot")
    wait_for(lambda: own_edge.check("half", "ada").json["reason"] in (reasons.ERROR, reasons.SPLIT))
    wait_for(lambda: not own_edge.ask("GET", "/health/ready").json["profiles_readable"])
    assert own_edge.check("weilidai", "ada").json["reason"] == reasons.ERROR


def test_a_damaged_profile_hides_and_harms_nobody_else(own_store: Store, own_edge: Running) -> None:

    key, field = profile.address("odd", BUCKETS)
    own_store.client.hset(key, field, b"\xff\x01\x02")
    odd = own_edge.check("weilidai", "odd")
    assert (odd.status, odd.json["reason"]) == (200, reasons.ERROR)
    assert own_edge.check("weilidai", "ada").json["value"] is True


@pytest.mark.parametrize("damage", ["cut", "changed", "nonsense", "impossible", "foreign"])
def test_a_poisoned_snapshot_is_refused_and_the_last_good_one_stays(
    own_store: Store, own_edge: Running, damage: str
) -> None:
    good = own_store.client.get(names.snapshot("production"))
    assert isinstance(good, bytes)
    own_store.sequence += 1
    if damage == "impossible":
        own_store.publish([flags()[0], flags()[0]])  # one key twice
    elif damage == "foreign":
        decoded = snapshot.decode(good)
        import msgspec

        own_store.put(snapshot.encode(msgspec.structs.replace(decoded, environment="staging")))
    else:
        bad = {"cut": good[:-5], "changed": good[:-9] + b"oops" + good[-5:], "nonsense": b"x" * 99}
        own_store.put(bad[damage])
    wait_for(lambda: "edge.refused" in own_edge.words())
    assert own_edge.check("weilidai", "ada").json["value"] is True
    metrics = own_edge.ask("GET", "/metrics").body.decode()
    assert re.search(r"huidu_publications_refused_total 1\.0", metrics)
    own_store.publish(flags()[1:])
    wait_for(lambda: own_edge.check("weilidai", "ada").status == 404)


def test_an_older_snapshot_does_not_come_back(own_store: Store, own_edge: Running) -> None:
    older = own_store.client.get(names.snapshot("production"))
    assert isinstance(older, bytes)
    own_store.publish([])
    wait_for(lambda: own_edge.check("weilidai", "ada").status == 404)
    own_store.sequence -= 1
    own_store.put(older)  # as a Redis restored from a backup would have it
    wait_for(lambda: "older than the one being served" in own_edge.words())
    assert own_edge.check("weilidai", "ada").status == 404


@contextmanager
def sooner_than_polled(changes: int) -> Iterator[None]:
    """So many changes follow each other, each once the one before it was seen.

    The poll would find the first of them at any time and each other one `POLL_SECONDS` later.
    """
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < (changes - 1) * POLL_SECONDS


def test_publications_are_served_at_once(own_store: Store, own_edge: Running) -> None:
    with sooner_than_polled(10):
        for _ in range(5):
            own_store.publish([])
            wait_for(lambda: own_edge.check("weilidai", "ada").status == 404)
            own_store.publish(flags())
            wait_for(lambda: own_edge.check("weilidai", "ada").status == 200)


def test_a_lost_message_is_healed_by_the_poll(own_store: Store, own_edge: Running) -> None:
    own_store.publish([], tell=False)
    wait_for(lambda: own_edge.check("weilidai", "ada").status == 404)


def test_a_revoked_key_is_refused_at_once(own_store: Store, own_edge: Running) -> None:
    others = [kind for kind in KeyKind if kind is not KeyKind.CLIENT]
    with sooner_than_polled(9):
        for _ in range(5):
            assert own_edge.check("weilidai", "ada", key=CLIENT).status == 200
            assert own_edge.check("weilidai", "ada", key=CLIENT).status == 200  # now remembered
            own_store.admit(others)
            wait_for(lambda: own_edge.check("weilidai", "ada", key=CLIENT).status == 401)
            assert own_edge.check("weilidai", "ada", key=SERVER).status == 200
            own_store.admit(KeyKind)
            wait_for(lambda: own_edge.check("weilidai", "ada", key=CLIENT).status == 200)


def test_a_key_of_another_environment_is_refused(own_store: Store, own_edge: Running) -> None:
    own_store.admit(KeyKind, environment="staging")
    wait_for(lambda: own_edge.check("weilidai", "ada").status == 403)
    assert "staging" in own_edge.check("weilidai", "ada").json["errorDetails"]


def test_a_start_without_redis_serves_what_was_kept(own_store: Store) -> None:
    first = Running(own_store)
    wait_for(lambda: len(list((own_store.home / "edge").glob("production.*"))) == 2)
    first.stop()
    own_store.server.stop()
    again = Running(own_store)
    try:
        assert again.check("new-app", "ada", app_version="9.0.0").json["value"] is True
        assert again.check("weilidai", "ada").json["reason"] == reasons.ERROR
        assert again.check("weilidai", "ada", key="stranger").status == 401
        own_store.server.start()
        wait_for(lambda: again.check("weilidai", "ada").json["value"] is True)
    finally:
        again.stop()


def test_what_was_kept_does_not_bring_a_revoked_key_back(own_store: Store) -> None:
    first = Running(own_store)
    wait_for(lambda: len(list((own_store.home / "edge").glob("production.*"))) == 2)
    first.stop()
    own_store.admit([KeyKind.SERVER])
    own_store.client.delete(names.snapshot("production"))  # so that the kept one has to do
    again = Running(own_store)
    try:
        assert again.check("weilidai", "ada", key=SERVER).json["value"] is True
        assert again.check("weilidai", "ada", key=CLIENT).status == 401
    finally:
        again.stop()


def test_a_first_start_without_redis_says_that_it_is_not_ready(own_store: Store) -> None:
    own_store.server.stop()
    running = Running(own_store)
    try:
        answer = running.check("weilidai", "ada")
        assert (answer.status, answer.json["errorCode"]) == (503, "PROVIDER_NOT_READY")
        assert answer.headers["retry-after"] == "1"
        assert running.ask("GET", "/health/ready").status == 503
        assert running.ask("GET", "/health/live").status == 200
    finally:
        running.stop()


def test_a_flushed_redis_is_noticed_by_the_first_check_that_meets_it(
    own_store: Store, own_edge: Running
) -> None:
    own_store.hold("bad", lists=frozenset({9}))
    assert why(own_edge.check("blocked", "bad")) == reasons.BLOCKED_LIST
    assert own_edge.check("blocked", "stranger").json["value"] is True
    assert own_edge.ask("GET", "/api/v1/profiles/bad/packed", headers=bearer(SERVER)).status == 200
    own_store.client.flushall()  # of the list only the lost record knew
    asked = own_edge.ask("GET", "/api/v1/profiles/bad/packed", headers=bearer(SERVER))
    assert asked.status == 503
    for user in ("bad", "stranger"):
        hidden = own_edge.check("blocked", user)
        assert (hidden.json["value"], hidden.json["reason"]) == (False, reasons.ERROR)
    own_store.fill()
    wait_for(lambda: own_edge.check("weilidai", "ada").json["value"] is True)


def test_records_that_were_moved_to_more_hashes_are_found_there(
    own_store: Store, own_edge: Running
) -> None:
    assert own_edge.check("weilidai", "ada").json["value"] is True
    key, field = profile.address("ada", BUCKETS)
    record = own_store.client.hget(key, field)
    assert isinstance(record, bytes)
    own_store.client.hset(profile.address("ada", BUCKETS * 2)[0], field, record)
    own_store.client.hset(names.PROFILE_META, mapping={"buckets": BUCKETS * 2})
    own_store.client.delete(key)  # and nobody told the check server
    assert own_edge.check("weilidai", "ada").json["value"] is True
