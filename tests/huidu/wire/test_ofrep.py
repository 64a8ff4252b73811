"""OFREP on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from huidu import reasons
from huidu.errors import InputError
from huidu.model import Answer, ValueType
from huidu.wire import ofrep, visibility


def answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "flag": "weilidai",
        "visible": True,
        "value": True,
        "variant": "on",
        "reason": reasons.SPLIT,
        "why": reasons.SHOWN,
        "stage": "5%",
        "payload": {"cap": 5000, "rate": 1.5, "nested": {"x": 1}},
        "flag_version": 3,
    }
    return Answer(**(fields | changes))


def test_a_success_holds_what_the_protocol_requires() -> None:
    start, end = ofrep.success(answer(), ValueType.BOOLEAN, snapshot="abc", decision=True)
    assert json.loads(start + b"01" + end) == {
        "key": "weilidai",
        "reason": "SPLIT",
        "variant": "on",
        "value": True,
        "metadata": {
            "cap": 5000,
            "rate": 1.5,
            "why": "shown",
            "stage": "5%",
            "flagVersion": 3,
            "snapshot": "abc",
            "decisionId": "01",
        },
    }


def test_a_payload_cannot_pose_as_our_own_metadata() -> None:
    made = answer(payload={"why": "odd", "stage": "odd", "flagVersion": 0})
    text, end = ofrep.success(made, ValueType.BOOLEAN, snapshot=None, decision=False)
    assert json.loads(text)["metadata"] == {"why": "shown", "stage": "5%", "flagVersion": 3}
    assert end == b""


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, b"1.0"), (1.5, b"1.5"), (-0.0, b"-0.0"), (1e22, b"1.0e22"), (1e-7, b"1.0e-7")],
)
def test_a_float_flag_always_has_a_decimal_point(value: float, text: bytes) -> None:
    assert ofrep.value_text(value, ValueType.FLOAT) == text
    assert json.loads(text) == value


def test_an_integer_flag_has_none() -> None:
    assert ofrep.value_text(4, ValueType.INTEGER) == b"4"
    assert ofrep.value_text({"a": [1]}, ValueType.OBJECT) == b'{"a":[1]}'


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", reasons.PARSE_ERROR, ""),
        (b"{", reasons.PARSE_ERROR, ""),
        (b'{"context":{"targetingKey":"\xff"}}', reasons.PARSE_ERROR, ""),
        (b"3", reasons.INVALID_CONTEXT, ""),
        (b"{}", reasons.INVALID_CONTEXT, "context"),
        (b'{"context":[]}', reasons.INVALID_CONTEXT, ""),
    ],
)
def test_a_bad_request_is_refused_with_its_code(body: bytes, code: str, path: str) -> None:
    with pytest.raises(InputError) as refused:
        ofrep.read_context(body)
    assert (refused.value.code, refused.value.path) == (code, path)


@pytest.mark.parametrize("key", ["ada", "用户-1", "😀", "a b", "x" * 128])
def test_a_targeting_key_may_be_any_text(key: str) -> None:
    assert ofrep.targeting_key({"targetingKey": key}) == key


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, reasons.TARGETING_KEY_MISSING),
        ("", reasons.TARGETING_KEY_MISSING),
        (7, reasons.INVALID_CONTEXT),
        (["ada"], reasons.INVALID_CONTEXT),
        ("a\x00", reasons.INVALID_CONTEXT),
        ("a\n", reasons.INVALID_CONTEXT),
        ("\ud800", reasons.INVALID_CONTEXT),
        ("x" * 129, reasons.INVALID_CONTEXT),
    ],
)
def test_an_unusable_targeting_key_is_refused(key: Any, code: str) -> None:
    with pytest.raises(InputError) as refused:
        ofrep.targeting_key({"targetingKey": key})
    assert (refused.value.code, refused.value.path) == (code, "context.targetingKey")


def test_equal_bulk_answers_have_equal_tags() -> None:
    one = ofrep.bulk([b'{"key":"a"}', b'{"key":"b"}'], "/s?token=1")
    assert ofrep.etag(one) == ofrep.etag(bytes(one))
    assert ofrep.etag(one) != ofrep.etag(ofrep.bulk([b'{"key":"a"}'], "/s?token=1"))
    assert json.loads(one)["eventStreams"] == [
        {"type": "sse", "endpoint": {"requestUri": "/s?token=1"}, "inactivityDelaySec": 120}
    ]
    assert json.loads(ofrep.bulk([], None)) == {"flags": []}


@pytest.mark.parametrize(
    ("header", "matches"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False)],
)
def test_if_none_match_follows_the_standard(header: str, matches: bool) -> None:
    assert ofrep.etag_matches(header, '"a"') is matches


def test_a_refetch_event_is_one_the_protocol_knows() -> None:
    lines = ofrep.refetch_event(9, "abc", 1_771_622_898).decode().splitlines()
    assert lines[:2] == ["id: 9", "event: message"]
    data = json.loads(lines[2].removeprefix("data: "))
    assert data == {"type": "refetchEvaluation", "etag": "abc", "lastModified": 1_771_622_898}


def test_a_visibility_answer_is_put_together_from_its_parts() -> None:
    text = visibility.join(visibility.parts(answer(), "abc"), 'a"b', b"01", b"2026-01-01T00:00:00Z")
    assert json.loads(text) == {
        "flag": "weilidai",
        "user": 'a"b',
        "visible": True,
        "variant": "on",
        "reason": "SPLIT",
        "why": "shown",
        "stage": "5%",
        "payload": {"cap": 5000, "rate": 1.5, "nested": {"x": 1}},
        "decision_id": "01",
        "snapshot": "abc",
        "evaluated_at": "2026-01-01T00:00:00Z",
    }
