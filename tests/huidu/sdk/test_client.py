"""The local client: from memory, on any news, through any outage, never with an exception."""

from __future__ import annotations

import datetime
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from huidu.engine import compile_snapshot
from huidu.sdk import Client, held
from huidu.sdk.testing import override
from huidu.wire import profile, ring
from huidu.wire import snapshot as wire
from tests.huidu.sdk.platform import Platform, snapshot
from tests.waiting import PATIENCE, wait_for

STAFF = {"staff": True, "region": "440300"}


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform(wire.encode(snapshot()))
    yield platform
    platform.stop()


@pytest.fixture
def connect(platform: Platform) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(**options: object) -> Client:
        patience: dict[str, object] = {"timeout": PATIENCE, "start_seconds": PATIENCE}
        client = Client(platform.url, "hd_server_test", **(patience | options))  # type: ignore[arg-type]
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def changed(client: Client) -> threading.Event:
    event = threading.Event()
    client.on_change(event.set)
    return event


def test_a_value_of_the_wrong_type_is_never_returned(connect):
    client = connect()
    assert client.value("words", "u1", "default") == "你好"
    assert client.value("words", "u1", 3) == 3
    assert client.value("limit", "u1", 3) == 7
    assert client.value("limit", "u1", True) is True
    rate = client.value("rate", "u1", 0.5)
    assert rate == 1.0
    assert type(rate) is float


def test_a_caller_cannot_assert_what_only_the_platform_holds(connect):
    answer = connect().check("weilidai", "u1", STAFF)
    assert not answer.visible
    assert answer.why == "data.missing"


def test_held_facts_are_those_of_today(connect, platform):
    today = datetime.datetime.now(ZoneInfo("Asia/Shanghai")).date()
    record = profile.Profile(
        updated=today, region="440300", staff=True, last_day=today, counts=ring.pack([4, 0, 3])
    )
    platform.profiles["u1"] = profile.encode(record)
    client = connect(held=True)
    assert client.visible("weilidai", "u1")
    assert client.visible("busy", "u1")
    assert not client.visible("busy", "u2")


def test_while_facts_cannot_be_fetched_nobody_is_shown_and_nobody_waits(
    connect, platform, monkeypatch
):
    monkeypatch.setattr(held, "REST_SECONDS", 3600)
    client = connect(held=True)
    platform.fail_with = 503
    answers = [client.check("weilidai", f"u{number}", STAFF) for number in range(50)]
    assert {(each.visible, each.why) for each in answers} == {(False, "system.error")}
    assert sum(path.endswith("/packed") for path in platform.requests) == 1
    assert client.visible("weilidai", "u1", default=True) is True


def test_an_unknown_flag_gives_the_callers_default(connect):
    client = connect()
    assert client.visible("nothing", "u1") is False
    assert client.visible("nothing", "u1", default=True) is True
    assert client.check("nothing", "u1").why == "flag.unknown"


@pytest.mark.parametrize(
    ("flag", "user", "attributes"),
    [
        (None, None, None),
        (3, "u", {}),
        ("limit", object(), {}),
        ("weilidai", "u", 5),
        ("weilidai", "u", {"region": object(), 3: 4}),
        ("weilidai", "\ud800", {}),
        ([], [], []),
    ],
)
def test_no_argument_makes_a_check_raise(connect, flag, user, attributes):
    client = connect()
    assert client.check(flag, user, attributes).visible is False
    assert client.visible(flag, user, attributes) is False
    assert client.value(flag, user, False, attributes) is False


def test_a_change_arrives_over_the_stream(connect, platform):
    client = connect(poll_seconds=3600)
    news = changed(client)
    wait_for(lambda: client.streaming)
    platform.publish(wire.encode(snapshot(2, killed=True)))
    assert news.wait(PATIENCE)
    assert client.check("weilidai", "u1").why == "killed"


def test_a_change_arrives_by_polling_when_no_stream_can_be_had(connect, platform):
    client = connect(poll_seconds=0.05, stream=False)
    news = changed(client)
    platform.data = wire.encode(snapshot(2, killed=True))
    assert news.wait(PATIENCE)
    assert client.check("weilidai", "u1").why == "killed"


def test_a_listener_may_take_its_time_and_the_garbage_collector_does_not_wait_for_it(
    connect, platform
):
    client = connect(poll_seconds=3600, stream=False)
    seen: list[bool] = []
    client.on_change(lambda: seen.append(gc.isenabled()))
    platform.data = wire.encode(snapshot(2, killed=True))
    assert client.refresh()
    assert seen == [True]


def test_functions_are_kept_only_from_the_snapshot_that_the_new_one_follows(connect):
    """A child forked in the middle of a swap has the newer functions and the older snapshot."""
    client = connect(poll_seconds=3600, stream=False)
    older = compile_snapshot(snapshot())
    newer = compile_snapshot(snapshot(2, killed=True), before=older)
    back = compile_snapshot(older.snapshot, before=older)
    assert "weilidai" in back.unchanged
    client._swap(newer, None, "newer")
    assert client.check("weilidai", "u1").why == "killed"
    client._swap(back, older, "back")
    assert client.check("weilidai", "u1").why != "killed"


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HUIDU", id="cut off"),
        pytest.param(b"not a snapshot", id="something else"),
        pytest.param(b"HUIDU\x09" + bytes(80), id="a format to come"),
    ],
)
def test_a_poisoned_snapshot_is_refused_and_the_last_good_one_stays(connect, platform, poison):
    client = connect(stream=False)
    platform.data = poison
    client.refresh()
    assert client.value("limit", "u1", 0) == 7
    platform.data = wire.encode(snapshot(3, killed=True))
    assert client.refresh()
    assert client.check("weilidai", "u1").why == "killed"


def test_a_client_starts_offline_from_the_last_good_snapshot(connect, platform, tmp_path: Path):
    connect(cache=tmp_path)
    platform.fail_with = 503
    client = connect(cache=tmp_path)
    assert client.ready
    assert client.value("limit", "u1", 0) == 7


def test_a_damaged_file_is_not_used(connect, platform, tmp_path: Path):
    connect(cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    platform.fail_with = 503
    client = connect(cache=tmp_path)
    assert not client.ready
    assert client.visible("limit", "u1", default=True) is True


def test_a_client_without_a_platform_answers_at_once_and_becomes_ready_by_itself(connect, platform):
    platform.fail_with = 500
    client = connect(poll_seconds=0.05)
    assert client.check("limit", "u1").why == "system.not_ready"
    news = changed(client)
    platform.fail_with = 0
    assert news.wait(PATIENCE)
    assert client.value("limit", "u1", 0) == 7


def test_exposures_are_sent_once_and_at_the_latest_at_the_end(connect, platform):
    platform.data = wire.encode(snapshot(2, allow_list=frozenset({"u1", "u2"})))
    client = connect(exposure_seconds=3600)
    for _ in range(3):
        client.check("weilidai", "u1")
        client.check("weilidai", "u2")
        client.check("weilidai", "u3")  # hidden by a gate: met nothing
        client.check("limit", "u1")  # a flag that does not ask for it
    client.close()
    assert sorted(each["user_id"] for each in platform.events) == ["u1", "u2"]
    assert {each["flag"] for each in platform.events} == {"weilidai"}
    assert len({each["event_id"] for each in platform.events}) == 2


def test_exposures_wait_out_an_outage(connect, platform):
    platform.data = wire.encode(snapshot(2, allow_list=frozenset({"u1"})))
    client = connect(exposure_seconds=3600)
    platform.fail_with = 503
    client.check("weilidai", "u1")
    sender = threading.Thread(target=client.flush)
    sender.start()
    wait_for(lambda: "/api/v1/events" in platform.requests)
    platform.fail_with = 0
    sender.join()
    assert client.flush()  # had it given up meanwhile, it would still have kept them
    assert [each["user_id"] for each in platform.events] == ["u1"]


def test_the_exposure_buffer_is_bounded(connect, platform):
    users = frozenset(f"u{number}" for number in range(50))
    platform.data = wire.encode(snapshot(2, allow_list=users))
    client = connect(exposure_seconds=3600, exposure_limit=10)
    for user in users:
        assert client.visible("weilidai", user)
    client.close()
    assert len(platform.events) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_by_itself_and_sends_nothing_twice(connect, platform):
    users = frozenset({"parent", "child"})
    platform.data = wire.encode(snapshot(2, allow_list=users))
    client = connect(exposure_seconds=3600, poll_seconds=0.05, stream=False)
    client.check("weilidai", "parent")
    child = os.fork()
    if child == 0:
        try:
            client.check("weilidai", "child")
            news = changed(client)
            client.flush()
            os._exit(0 if news.wait(PATIENCE) else 3)
        finally:
            os._exit(4)
    wait_for(lambda: any(each["user_id"] == "child" for each in platform.events))
    platform.data = wire.encode(snapshot(3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()
    assert sorted(each["user_id"] for each in platform.events) == ["child", "parent"]


def test_a_test_decides_a_flag_in_one_line(connect):
    client = connect()
    with override("weilidai"):
        assert client.visible("weilidai", "anybody")
        with override("weilidai", False):
            assert not client.visible("weilidai", "anybody")
        assert client.visible("weilidai", "anybody")
    assert not client.visible("weilidai", "anybody")
