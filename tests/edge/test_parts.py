"""Addresses, settings, days and decision ids."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from edge import settings
from edge.clock import Days, Decisions, Stamps, base32
from edge.link import Address, address
from edge.requests import Kind, Route, route_of
from huidu.errors import InputError
from local.servers import socket_folder


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache:6380/3", Address(host="cache", port=6380, database=3)),
        ("redis://:p%40ss@cache", Address(host="cache", password="p@ss")),
        ("redis://me:pw@[::1]:7000?db=2", Address(
            host="::1", port=7000, username="me", password="pw", database=2)),
        ("rediss://cache", Address(host="cache", tls=True)),
        ("rediss://cache?ssl_cert_reqs=none", Address(host="cache", tls=True, verify=False)),
        ("unix:///run/redis.sock?db=5", Address(path="/run/redis.sock", database=5)),
        ("unix://:pw@/run/redis.sock", Address(path="/run/redis.sock", password="pw")),
    ],
)  # fmt: skip
def test_redis_urls_are_read_in_all_their_forms(url: str, expected: Address) -> None:
    assert address(url) == expected


@pytest.mark.parametrize("url", ["http://cache", "redis://cache/x", "redis://cache:port", ""])
def test_an_odd_redis_url_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        address(url)


def test_settings_come_from_the_same_names_as_the_platforms(tmp_path: Path) -> None:
    read = settings.read({"HUIDU_HOME": str(tmp_path)})
    assert (read.environment, read.day_zone) == ("production", "Asia/Shanghai")
    embedded = socket_folder(tmp_path)  # what `bin/up` makes for this home
    embedded.rmdir()
    assert read.redis_url == f"unix://{embedded}/redis.sock"


@pytest.mark.parametrize(
    ("name", "value"), [("HUIDU_ENVIRONMENT", "Prod!"), ("HUIDU_DAY_ZONE", "Mars/Base")]
)
def test_an_odd_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InputError, match=name):
        settings.read({name: value})


def test_a_day_is_a_day_in_its_zone() -> None:
    days = Days("Asia/Shanghai")
    midnight = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
    before = midnight.timestamp() - 0.001
    assert days.today(before) == datetime.date(2026, 2, 28)
    assert days.today(midnight.timestamp()) == datetime.date(2026, 3, 1)
    assert days.today(before) == datetime.date(2026, 2, 28)  # a clock set back


def test_a_day_may_be_23_hours_long() -> None:
    days = Days("Europe/Berlin")
    start = datetime.datetime(2026, 3, 28, 23, tzinfo=datetime.UTC).timestamp()
    assert days.today(start) == datetime.date(2026, 3, 29)
    assert days.today(start + 23 * 3600) == datetime.date(2026, 3, 30)


def test_decision_ids_sort_by_time_and_by_order_within_a_process() -> None:
    decisions = Decisions()
    ids = [decisions.next(ms) for ms in (1, 1, 2, 1_800_000_000_000, 1_800_000_000_001)]
    assert ids == sorted(set(ids))
    assert {len(each) for each in ids} == {22}
    assert Decisions().next(1)[-8:] != ids[0][-8:]  # processes differ


def test_decision_ids_do_not_run_out_within_a_millisecond() -> None:
    decisions = Decisions()

    def rest(ms: int) -> list[bytes]:
        head, pairs = decisions.block(ms)
        return [head + pair for pair in pairs]

    taken = [*rest(7), *(decisions.next(7) for _ in range(3_000)), *rest(7), decisions.next(7)]
    assert len(taken) > 4_000
    assert taken == sorted(set(taken))
    assert set(taken).isdisjoint([*rest(6), *rest(7)])  # a clock set back


def test_base_32_text_sorts_as_its_numbers_do() -> None:
    numbers = [0, 1, 31, 32, 1023, 1024, 2**40]
    texts = [base32(number, 10) for number in numbers]
    assert texts == sorted(texts)


def test_a_moment_is_told_in_utc_with_milliseconds() -> None:
    stamps = Stamps()
    assert stamps.at(0) == b"1970-01-01T00:00:00.000Z"
    assert stamps.at(1_771_622_898_042) == b"2026-02-20T21:28:18.042Z"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        (b"/ofrep/v1/evaluate/flags", Route(Kind.BULK)),
        (b"/ofrep/v1/evaluate/flags?flagConfigEtag=x", Route(Kind.BULK, query=b"flagConfigEtag=x")),
        (b"/ofrep/v1/evaluate/flags/a%2Fb", Route(Kind.SINGLE, "a/b")),
        (b"/ofrep/v1/evaluate/flags/", Route(Kind.SINGLE, "")),
        (b"/ofrep/v1/evaluate/flags/a/b", None),
        (b"/ofrep/v1/evaluate/flagsx", None),
        (b"/api/v1/flags/f/users/%E7%94%A8", Route(Kind.VISIBILITY, "f", "用")),
        (b"/api/v1/flags/f/users/u/explanation", None),
        (b"/api/v1/flags/f/users", None),
        (b"/api/v1/flags/f/users/%ff", Route(Kind.VISIBILITY, "f", None)),
        (b"/events/v1/stream?token=t", Route(Kind.STREAM, query=b"token=t")),
        (b"/admin/", None),
    ],
)
def test_only_the_check_servers_own_paths_are_taken(target: bytes, route: Route | None) -> None:
    assert route_of(target) == route
