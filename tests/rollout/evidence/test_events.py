"""``POST /api/v1/events``: what is acknowledged is kept once, what cannot be true is told apart."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from cohorts.models import Admission
from huidu.wire.access import KeyKind, digest
from rollout.models import ApiKey, Arm, Exposure, Feed, Guard, OutcomeEvent, Snapshot
from rollout.services import events
from tests.rollout.evidence.conftest import NOON, World, at, exposure

TOKENS = {kind: f"hd_{kind.value}" for kind in KeyKind}


@pytest.fixture
def keys(transactional_db: None) -> None:
    for kind, token in TOKENS.items():
        ApiKey.objects.create(
            kind=kind.value, name=kind.value, digest=digest(token), created_by="ann"
        )


@pytest.fixture
def here(world: World, keys: None) -> World:
    world.guard("failed")
    world.guard("amount", "mean", harm="decrease", margin_rel=0.1)
    world.guard("errors", "users_ratio", margin_rel=0.1)
    world.guard("pool", "gauge", maximum=0.9)
    return world


def post(body: Any, kind: KeyKind = KeyKind.INGEST) -> tuple[int, dict[str, Any]]:
    answer = Client().post(
        "/api/v1/events",
        body if isinstance(body, str | bytes) else json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {TOKENS[kind]}"},
    )
    return answer.status_code, json.loads(answer.content)


def send(*items: dict[str, Any]) -> dict[str, Any]:
    status, answer = post({"events": list(items)})
    assert status == 200
    return answer


def item(number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "type": "outcome",
        "user_id": "u1",
        "metric": "failed",
        "at": NOON.isoformat(),
        **more,
    }


def shown(number: int, user: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"x{number}",
        "type": "exposure",
        "user_id": user,
        "flag": "weilidai",
        "at": NOON.isoformat(),
        **more,
    }


def test_outcomes_and_exposures_are_kept_and_counted(here: World):
    answer = send(item(1), item(2, metric="amount", value=12.5), shown(3, "u1"))
    assert answer == {"accepted": 3, "duplicates": 0, "rejected": [], "ignored": {}}
    assert OutcomeEvent.objects.count() == 2
    assert Exposure.objects.get().chance_ppb == 500_000_000


def test_a_repeated_event_id_is_a_duplicate_also_within_one_request(here: World):
    assert send(item(1), item(1, value=0))["duplicates"] == 1
    assert send(item(1), item(2)) == {
        "accepted": 1,
        "duplicates": 1,
        "rejected": [],
        "ignored": {},
    }
    assert OutcomeEvent.objects.get(event_id="e1").value == 1.0


def test_a_user_is_enrolled_once_per_stage_whatever_the_event_ids_say(here: World):
    answer = send(shown(1, "u1"), shown(2, "u1"), shown(3, "u2"))
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)
    assert send(shown(1, "u1"))["duplicates"] == 1
    assert Exposure.objects.count() == 2


def test_the_earliest_of_a_batch_is_the_first_exposure(here: World):
    later = (NOON + timedelta(hours=2)).isoformat()
    send(shown(1, "u1", at=later), shown(2, "u1"))
    assert Exposure.objects.get().first_at == NOON


def test_who_was_shown_the_product_keeps_it(here: World):
    send(*(shown(i, f"u{i}") for i in range(40)))
    treated = set(Exposure.objects.filter(arm=Arm.TREATED).values_list("user_id", flat=True))
    assert 5 < len(treated) < 35
    assert set(Admission.objects.filter(admitted=True).values_list("user_id", flat=True)) == treated


def test_an_exposure_belongs_to_the_stage_of_its_moment(here: World):
    Snapshot.objects.count()
    early = (NOON - timedelta(days=1)).isoformat()
    answer = send(shown(1, "u1", at=early))
    assert (answer["accepted"], answer["ignored"]) == (1, {"stage.none": 1})
    assert not Exposure.objects.exists()


def test_a_late_exposure_is_enrolled_in_the_stage_that_ran_then(here: World):
    from rollout.services import rollouts
    from rollout.services.audit import ENGINE

    rollouts.promote(here.rollout, by=ENGINE, reason="proven", stage=here.stage)
    send(shown(1, "u1"))
    assert Exposure.objects.get().stage == here.stage


REFUSALS = [
    pytest.param(item(metric="nothing"), "metric.unknown", id="unknown metric"),
    pytest.param(item(metric=None), "metric.missing", id="no metric"),
    pytest.param(item(user_id=None), "user_id.invalid", id="no user"),
    pytest.param(item(user_id="a\u0000b"), "user_id.invalid", id="NUL in the user"),
    pytest.param(item(event_id=""), "event_id.invalid", id="empty event id"),
    pytest.param(item(event_id="x" * 129), "event_id.invalid", id="long event id"),
    pytest.param(item(event_id=5), "event_id.invalid", id="a number as event id"),
    pytest.param(item(type="payment"), "type.invalid", id="another type"),
    pytest.param(item(value="many"), "value.invalid", id="a text as value"),
    pytest.param(item(value=-1), "value.negative", id="a negative count"),
    pytest.param(item(value=1e300), "value.too_large", id="a huge value"),
    pytest.param(item(metric="amount"), "value.missing", id="an amount without a value"),
    pytest.param(item(metric="errors", value=3, denominator=2), "denominator.invalid", id="3 of 2"),
    pytest.param(item(value=1, denominator=2), "denominator.unexpected", id="no ratio"),
    pytest.param(item(at="2026-03-02T12:00:00"), "at.zone_missing", id="no zone"),
    pytest.param(item(at="tomorrow"), "at.invalid", id="no date"),
    pytest.param(item(at="9999-12-31T23:59:59-12:00"), "at.future", id="end of the calendar"),
    pytest.param(item(at="0001-01-01T00:00:00+12:00"), "at.past", id="start of the calendar"),
    pytest.param(item(colour="red"), "field.unknown", id="unknown field"),
    pytest.param(shown(0, "u1", flag="nothing"), "flag.unknown", id="unknown flag"),
    pytest.param(shown(0, "u1", flag=None), "flag.missing", id="no flag"),
    pytest.param(shown(0, "u1", flag="\ud800"), "flag.unknown", id="a lone surrogate"),
    pytest.param(shown(0, "u1", context=[1]), "context.invalid", id="a list as context"),
]


@pytest.mark.parametrize(("wrong", "code"), REFUSALS)
def test_an_item_that_cannot_be_true_is_rejected_and_the_others_are_kept(
    here: World, wrong: dict[str, Any], code: str
):
    answer = send(item(1), wrong, item(2))
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [(1, code)]
    assert answer["rejected"][0]["detail"].startswith("expected")
    assert (answer["accepted"], OutcomeEvent.objects.count()) == (2, 2)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_rejected_by_item(here: World, number: str):
    body = json.dumps({"events": [item(1), item(2, value=7.25)]}).replace("7.25", number)
    status, answer = post(body)
    assert status == 200
    assert [each["code"] for each in answer["rejected"]] == ["value.not_finite"]
    assert answer["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"[1]", "", id="a list"),
        pytest.param(b"{}", "", id="no events"),
        pytest.param(b'{"events": 5}', "events", id="a number"),
        pytest.param(b'{"events": [{}, 5]}', "events[1]", id="an item that is none"),
        pytest.param(b'{"events": [NaN]}', "events[0]", id="an item that is no number even"),
        pytest.param(b'{"events": [' + b"[" * 50_000, "", id="endless"),
        pytest.param(b'{"events": [], "more": 1}', "", id="another field"),
        pytest.param(b"\xff\xfe", "", id="not UTF-8"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_as_a_whole(here: World, body: bytes, path: str):
    status, answer = post(body)
    assert (status, answer["error"]["path"]) == (400, path)
    assert answer["error"]["message"].startswith("expected")


def test_more_than_5_000_events_are_too_many(here: World):
    status, answer = post({"events": [item(i) for i in range(5_001)]})
    assert (status, answer["error"]["code"]) == (413, "input.too_large")
    assert not OutcomeEvent.objects.exists()


def test_a_body_beyond_the_limit_is_too_large(here: World):
    status, answer = post(b'{"events": [' + b" " * 5_000_000)
    assert (status, answer["error"]["code"]) == (413, "input.too_large")


@pytest.mark.parametrize(
    ("kind", "status"), [(KeyKind.CLIENT, 403), (KeyKind.SERVER, 403), (KeyKind.ADMIN, 200)]
)
def test_events_need_an_ingest_key(here: World, kind: KeyKind, status: int):
    assert post({"events": [item(1)]}, kind)[0] == status


def test_a_server_key_sends_exposures_because_sdks_do_and_nothing_else(here: World):
    status, answer = post({"events": [shown(1, "u1")]}, KeyKind.SERVER)
    assert (status, answer["accepted"]) == (200, 1)
    complete = {"event_id": "c1", "type": "complete", "metric": "failed", "at": NOON.isoformat()}
    for other in (item(2), complete):
        status, answer = post({"events": [shown(3, "u3"), other]}, KeyKind.SERVER)
        assert (status, answer["error"]["code"]) == (403, "permission_denied")


def test_a_source_says_up_to_when_it_is_complete(here: World):
    send({"event_id": "c1", "type": "complete", "metric": "failed", "at": NOON.isoformat()})
    assert Feed.objects.get().complete_to == NOON


def test_nobody_makes_a_feed_fresh_by_an_event_of_tomorrow(here: World):
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    assert send(item(0), item(1, at=tomorrow))["rejected"][0]["code"] == "at.future"


def test_a_reading_needs_no_user(here: World):
    reading = {k: v for k, v in item(1, metric="pool", value=0.4).items() if k != "user_id"}
    assert send(reading)["accepted"] == 1


def test_another_environments_metrics_are_unknown(here: World):
    Guard.objects.all().delete()
    ApiKey.objects.update(environment="staging")
    _, answer = post({"events": [item(1), shown(2, "u1")]})
    assert [each["code"] for each in answer["rejected"]] == ["metric.unknown", "flag.unknown"]


def test_5_000_events_are_kept_in_one_transaction(here: World):
    given = [exposure(f"u{i}", at()) for i in range(5_000)]
    result = events.ingest("production", given, now=at())
    assert (result.accepted, Exposure.objects.count()) == (5_000, 5_000)
    treated = Exposure.objects.filter(arm=Arm.TREATED).count()
    assert abs(treated - 2_500) < 4 * 36
