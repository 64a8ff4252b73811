"""The quick way of a check and the long one give the same answer."""

from __future__ import annotations

import datetime
import json
import socket
from typing import Any

import pytest

from edge.state import World
from huidu.engine import compile_snapshot
from huidu.model import Attribute, AttributeSource, AttributeType, Snapshot
from huidu.wire import profile
from huidu.wire.access import KeyKind
from tests.edge.running import BUCKETS, CLIENT, SERVER, ZONE, Running, Store, bearer, flags, read
from tests.edge.test_protocol import answers, bodies
from tests.waiting import wait_for

USERS = ("ada", "bob", "eve", "stranger", "admitted", "damaged", "金", "a" * 128)
CONTEXTS: tuple[dict[str, Any], ...] = (
    {},
    {"region": "650000"},
    {"app_version": "9.0.0", "unheard_of": [1, {"x": None}]},
    {"region": None},
    {"region": 440300},
    {"staff": True},
)


def post(flag: str, context: dict[str, Any], key: str = SERVER) -> bytes:
    body = json.dumps({"context": context}).encode()
    lines = bearer(key) | {"Host": "edge", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /ofrep/v1/evaluate/flags/{flag} HTTP/1.1\r\n{head}\r\n".encode() + body


def ask(connection: socket.socket, sent: bytes) -> dict[str, Any]:
    connection.sendall(sent)
    answer = json.loads(bodies(read(connection, answers(1)))[0])
    answer.get("metadata", {}).pop("decisionId", None)
    return dict(answer)


@pytest.fixture(scope="module")
def users(store: Store) -> None:
    from huidu.model import Admission

    store.hold("admitted", admissions={2: Admission(3, True)})
    key, field = profile.address("damaged", BUCKETS)
    store.client.hset(key, field, b"\xff\x01\x02")


@pytest.mark.parametrize("flag", [flag.key for flag in flags()] + ["nope"])
@pytest.mark.usefixtures("users")
def test_both_ways_answer_alike(edge: Running, flag: str) -> None:
    """A pipelined request goes the long way, one like that before it on a quiet connection the
    quick one."""
    with edge.connect() as connection:
        for key in (SERVER, CLIENT):
            for user in USERS:
                for context in CONTEXTS:
                    sent = post(flag, {"targetingKey": user, **context}, key)
                    connection.sendall(sent + sent)
                    first, second = map(json.loads, bodies(read(connection, answers(2))))
                    for answer in (first, second):
                        answer.get("metadata", {}).pop("decisionId", None)
                    again = [ask(connection, sent) for _ in range(2)]
                    assert [second, *again] == [first] * 3


@pytest.mark.parametrize(
    "context",
    [{}, {"targetingKey": ""}, {"targetingKey": 7}, {"targetingKey": "a\x00"},
     {"targetingKey": "x" * 129}, {"targetingKey": None}],
)  # fmt: skip
def test_a_fault_behind_a_known_head_is_refused(edge: Running, context: dict[str, Any]) -> None:
    bad = post("weilidai", context)
    body = len(bad) - bad.index(b"\r\n\r\n") - 4
    padding = body - len(b'{"context": {"targetingKey": ""}}')
    with edge.connect() as connection:
        if padding > 0:  # a good request with a head of the same bytes
            for _ in range(2):
                good = post("weilidai", {"targetingKey": "u" * min(padding, 128)})
                assert "errorCode" not in ask(connection, good)
        for _ in range(2):
            assert ask(connection, bad)["errorCode"] in (
                "TARGETING_KEY_MISSING",
                "INVALID_CONTEXT",
            )
        assert ask(connection, post("weilidai", {"targetingKey": "ada"}))["value"] is True


@pytest.mark.parametrize(
    ("between", "value", "fault"),
    [
        pytest.param(rb"\u0061da-boy", True, None, id="an escape"),
        pytest.param(b'ada-boy","x":"y', True, None, id="more than an id"),
        pytest.param(b'x","targetingKey":"ada-boy', True, None, id="the last of two counts"),
        pytest.param(b'","x":"ada-boy', None, "TARGETING_KEY_MISSING", id="no id"),
        pytest.param(b"ada-boy\xff", None, "PARSE_ERROR", id="not UTF-8"),
        pytest.param(b"ada-boy\n", None, "PARSE_ERROR", id="a control character"),
        pytest.param("ada-boy金".encode(), False, None, id="somebody else"),
    ],
)
def test_an_id_is_taken_from_between_known_bytes_only_where_json_says_the_same(
    store: Store, edge: Running, between: bytes, value: bool | None, fault: str | None
) -> None:
    today = datetime.datetime.now(ZONE).date()
    store.hold("ada-boy", updated=today, region="440300", risk_score=5, risk_scored_on=today)
    usual = post("weilidai", {"targetingKey": "u" * len(between)})
    asked = usual.replace(b"u" * len(between), between)
    assert len(asked) == len(usual)
    with edge.connect() as connection:
        for sent in (usual, usual, asked, usual, asked, asked):
            answer = ask(connection, sent)
            if sent is asked:
                assert (answer.get("value"), answer.get("errorCode")) == (value, fault)


def test_a_connection_that_stays_open_sees_every_change(
    own_store: Store, own_edge: Running
) -> None:
    sent = post("weilidai", {"targetingKey": "ada"}, CLIENT)
    with own_edge.connect() as connection:
        assert [ask(connection, sent)["value"] for _ in range(3)] == [True] * 3
        own_store.publish(flags()[1:])
        wait_for(lambda: ask(connection, sent).get("errorCode") == "FLAG_NOT_FOUND")
        own_store.publish(flags())
        wait_for(lambda: ask(connection, sent).get("value") is True)
        own_store.client.hset("huidu:profiles", mapping={"buckets": BUCKETS * 2})
        own_store.tell("snapshot")  # where nobody's profile lies yet
        wait_for(lambda: ask(connection, sent)["value"] is False)
        own_store.admit([kind for kind in KeyKind if kind is not KeyKind.CLIENT])
        wait_for(lambda: ask(connection, sent).get("errorCode") == "GENERAL")


def test_every_answer_is_counted_once(own_edge: Running) -> None:
    sent = post("weilidai", {"targetingKey": "ada"})
    with own_edge.connect() as connection:
        for _ in range(50):
            ask(connection, sent)
            connection.sendall(sent + sent)
            read(connection, answers(2))
    shown = own_edge.ask("GET", "/metrics").body.decode()
    assert "huidu_check_requests_total 150.0" in shown
    assert 'huidu_checks_total{flag="weilidai",result="shown"} 150.0' in shown
    assert "huidu_check_seconds_count 3.0" in shown


def test_a_held_value_of_the_callers_own_attribute_is_not_read() -> None:
    """It is an accident of an older registry."""
    region = Attribute(
        id=1, name="region", type=AttributeType.REGION, source=AttributeSource.CALLER
    )
    risk = Attribute(id=5, name="risk_score", type=AttributeType.NUMBER)
    snapshot = Snapshot(
        environment="production",
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=[region, risk],
        cohorts=[],
        flags=flags()[:1],
    )
    world, day = World(snapshot, compile_snapshot(snapshot), "v", {}), datetime.date(2026, 1, 1)
    record = profile.encode(
        profile.Profile(
            updated=day,
            region="440300",
            risk_score=3,
            risk_scored_on=day,
        )
    )
    assert world.reading_of("weilidai").of(record, day.toordinal())[0] == {"risk_score": 3.0}
