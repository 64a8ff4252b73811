"""Guards from templates: offered with their meaning, added at once, through the same service."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from huidu.errors import InputError, StateError
from rollout.models import AuditEntry, ChangeRequest, Guard, Metric, Rollout, Stage
from rollout.services import changes, guard_templates, metrics, readings, stages
from rollout.services.audit import Actor
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.test_api import key_of

pytestmark = pytest.mark.django_db
KEYS = list(guard_templates.BY_KEY)


@pytest.fixture
def stage(draft: Rollout) -> Stage:
    return draft.stages.get(key="some")


def add(stage: Stage, *chosen: Any, by: Actor = ANN) -> list[Guard]:
    return guard_templates.add(stage, list(chosen), by=by)


def test_all_of_them_are_added_at_once_with_their_metrics_and_are_logged(stage: Stage):
    add(stage, *({"template": key} for key in KEYS))
    assert set(stage.guards.values_list("metric__key", flat=True)) == set(KEYS)
    logged = AuditEntry.objects.filter(action__in=("guard.created", "metric.created"))
    assert logged.count() == 2 * len(KEYS)
    assert all(each.is_there for each in guard_templates.offered(stage))


def test_what_is_named_replaces_the_templates_own_value(stage: Stage):
    add(stage, {"template": "complaint", "margin_rel": 0.3, "role": "stop"})
    guard = stage.guards.get()
    assert (guard.margin_rel, guard.role) == (0.3, "stop")


@pytest.mark.parametrize(
    ("chosen", "path"),
    [
        ([], "guards"),
        ("complaint", "guards"),
        ([{"template": "nonsense"}], "guards[0].template"),
        ([{"template": ["complaint"]}], "guards[0].template"),
        ([{"template": "complaint"}, {"template": "complaint"}], "guards[1].template"),
        ([{"template": "api_error"}, {"template": "complaint", "margin_rel": 0}], "guards[1]"),
        ([{"template": "complaint", "colour": "red"}], "guards[0].colour"),
        ([{"template": "application_success", "margin_rel": 1.5}], "guards[0].margin_rel"),
    ],
)
def test_a_fault_is_named_and_nothing_is_added(stage: Stage, chosen: Any, path: str):
    with pytest.raises(InputError) as caught:
        guard_templates.add(stage, chosen, by=ANN)
    assert caught.value.path.startswith(path)
    assert not stage.guards.exists()
    assert not Metric.objects.exists()


def test_a_metric_that_means_something_else_is_not_taken(stage: Stage):
    metrics.save_metric(PLACE, {"key": "complaint", "kind": "count"}, by=ANN)
    with pytest.raises(InputError, match="of kind binary, got count"):
        add(stage, {"template": "complaint"})


def test_one_metric_has_one_guard(stage: Stage):
    add(stage, {"template": "complaint"})
    with pytest.raises(InputError, match="does not guard the stage yet"):
        add(stage, {"template": "complaint"})
    payload = {"stage": stage.pk, "metric": "complaint", "margin_rel": 0.9}
    with pytest.raises(InputError, match="one guard per metric"):
        changes.do_or_request("guard.save", 0, payload, environment=PLACE, by=ANN, reason="again")


def test_a_started_stage_takes_none(running: Rollout):
    with pytest.raises(StateError, match="has started"):
        add(running.stages.get(key="internal"), {"template": "complaint"})


def test_each_guard_is_read_in_both_languages_and_a_late_one_says_so(stage: Stage):
    for offer in guard_templates.offered(stage):
        told = guard_templates.in_both_languages(offer.guard)
        assert told["en"]
        assert told["zh"] != told["en"]
    overdue = Guard(
        stage=stage,
        role="must_prove",
        margin_rel=0.5,
        metric=Metric(key="overdue", **guard_templates.BY_KEY["overdue"].metric),
    )
    with translation.override("en"):
        assert "30 days late" in readings.words(overdue).late


def test_over_http_they_are_offered_and_added_and_a_live_flag_asks_for_two(
    running: Rollout,
):
    ann = key_of("admin")
    later = Stage.objects.create(rollout=running, order=9, key="later")
    address = f"/api/v1/manage/stages/{later.pk}/guard-templates"
    offers = ann.get(address).json()
    assert [each["template"] for each in offers] == KEYS
    assert offers[0]["values"]["margin_rel"] == 0.05
    assert offers[0]["reading"]["zh"]
    answer = ann.send(address, {"guards": [{"template": "complaint"}], "reason": "as usual"})
    assert answer.status_code == 202, answer.content
    change = ChangeRequest.objects.get(pk=answer.json()["id"])
    changes.approve(change, by=BOB, note="read it")
    assert [each.metric.key for each in later.guards.all()] == ["complaint"]
    bad = ann.send(address, {"guards": [{"template": "x"}], "reason": "as usual"})
    assert bad.status_code == 400
    assert bad.json()["error"]["path"] == "guards[0].template"


def test_the_page_adds_what_is_ticked_with_the_typed_limits(
    stage: Stage, admin_client: Client, draft: Rollout
):
    address = reverse("admin:rollout_stage_act", args=(stage.pk, "guards"))
    page = admin_client.get(address, headers={"accept-language": "en"}).content.decode()
    assert 'data-half-of="complaint">25 %' in page
    answer = admin_client.post(
        address,
        {
            "pick_complaint": "on",
            "role_complaint": "must_prove",
            "limit_complaint": "40",
            "pick_funding_in_use": "on",
            "role_funding_in_use": "stop",
            "limit_funding_in_use": "0.9",
            **{f"role_{key}": "stop" for key in KEYS[:1] + KEYS[2:6]},
            **{f"limit_{key}": "10" for key in KEYS[:1] + KEYS[2:6]},
        },
    )
    assert answer.status_code == 302, answer.content.decode()
    values = stage.guards.order_by("metric__key").values_list(
        "metric__key", "margin_rel", "maximum"
    )
    assert list(values) == [("complaint", 0.4, None), ("funding_in_use", None, 0.9)]
    stages.save_stage(draft, {"label_en": "x"}, by=ANN, stage=stage)
