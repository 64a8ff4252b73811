"""What cannot be true is refused with its path, over the API and in the admin; never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from rollout.models import Guard, Metric, MetricCell, Stage
from rollout.services import keys, review
from tests.rollout.admin import world
from tests.rollout.conftest import ANN, PLACE
from tests.rollout.evidence.conftest import World, at, complete, exposure, outcome
from tests.rollout.test_api import MANAGE, Caller

pytestmark = pytest.mark.django_db

NAN, INF = "nan", "inf"
GUARDS: list[tuple[dict[str, Any], str]] = [
    *(({"margin_rel": value}, "margin_rel") for value in (0, -0.1, 11, NAN, INF, "x", True)),
    *(({"limit_abs": value, "margin_rel": None}, "limit_abs") for value in (0, -1, 1, NAN, INF)),
    ({"margin_rel": 0.1, "limit_abs": 0.1}, "margin_rel"),
    ({"margin_rel": None}, "margin_rel"),
]
METRICS: list[tuple[dict[str, Any], str]] = [
    *(({"kind": "mean", "cap": value}, "cap") for value in (0, -1, NAN, INF, "x")),
    ({"kind": "latency", "edges": [100, NAN]}, "edges"),
    ({"kind": "latency", "edges": [100, INF]}, "edges"),
    ({"kind": "latency", "edges": [300, 100]}, "edges"),
    ({"kind": "latency", "edges": [1, 2], "baseline_index": 5, "margin_index": 1}, ""),
    ({"kind": "binary_delayed", "lag": -5}, "lag"),
    ({"kind": "nothing"}, "kind"),
]
ALPHAS = [(name, v) for name in ("alpha_rollback", "alpha_promote") for v in (0, -1, 0.6, NAN)]


@pytest.fixture
def bank(redis: object) -> world.World:
    return world.build(4)


@pytest.fixture
def key(bank: world.World) -> Caller:
    Stage.objects.filter(pk=bank.planned.pk).update(status="pending")
    return Caller(keys.create(PLACE, "admin", "risk", by=ANN)[1])


def refused(answer: Any, path: str) -> None:
    assert 400 <= answer.status_code < 500, answer.content
    fault = answer.json()["error"]
    assert fault["message"]
    assert fault["path"].startswith(path)


def test_bad_metrics_are_refused_with_their_path(key: Caller):
    for values, path in METRICS:
        refused(key.send(f"{MANAGE}/metrics", {"key": "odd", **values}), path)
    assert not Metric.objects.filter(key="odd").exists()


def test_bad_guards_and_alphas_are_refused_with_their_path(key: Caller, bank: world.World):
    Metric.objects.create(environment=PLACE, key="rate", kind="binary")
    stage = bank.planned
    for values, path in GUARDS:
        body = {"stage": stage.pk, "metric": "rate", "role": "must_prove", **values}
        refused(key.send(f"{MANAGE}/guards", body | {"reason": "x"}), path)
    assert not Guard.objects.filter(metric__key="rate").exists()
    there = stage.guards.get()
    body = {"stage": stage.pk, "metric": there.metric.key, "margin_rel": 0.2}
    refused(key.send(f"{MANAGE}/guards", body), "metric")
    for name, value in ALPHAS:
        refused(key.send(f"{MANAGE}/stages/{stage.pk}", {name: value}, "patch"), name)


def test_the_admin_refuses_them_at_their_field(key: Caller, bank: world.World):
    metric = Metric.objects.create(environment=PLACE, key="rate", kind="binary")
    client = Client(headers={"accept-language": "en"})
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    for value in ("0", "-0.1", "nan", "inf", "11"):
        sent = {"stage": bank.planned.pk, "metric": metric.pk, "role": "stop", "for_looks": 3}
        page = client.post(reverse("admin:rollout_guard_add"), sent | {"margin_rel": value})
        assert page.status_code == 200
        assert page.context["adminform"].form.errors
    for value in ("0", "-1", "nan"):
        sent = {"environment": PLACE, "key": "odd", "kind": "mean", "harm": "increase"}
        sent |= {"source": "url", "cap": value, "edges": ""}
        page = client.post(reverse("admin:rollout_metric_add"), sent)
        assert page.status_code == 200
        assert "cap" in page.context["adminform"].form.errors
    assert not Guard.objects.filter(metric=metric).exists()


def test_a_metric_that_judges_keeps_its_kind(key: Caller, bank: world.World):
    running = bank.stage
    metric = Metric.objects.create(environment=PLACE, key="rate", kind="binary")
    Guard.objects.create(stage=running, metric=metric, margin_rel=0.1)
    Stage.objects.filter(pk=running.pk).update(status="running")
    refused(key.send(f"{MANAGE}/metrics/rate", {"kind": "mean"}, "patch"), "kind")


def test_cells_of_another_kind_hold_the_stage(transactional_db: None):
    stage_world = World()
    guard = stage_world.guard("rate", margin_rel=0.2)
    stage_world.send(*(exposure(f"u{i}", at()) for i in range(40)))
    stage_world.send(*(outcome(f"u{i}", "rate", at(3)) for i in range(40)))
    stage_world.send(complete("rate", at(4)), now=at(4))
    done = review.roll_up_and_review(stage_world.stage.pk, now=at(4))
    assert done is not None
    Metric.objects.filter(pk=guard.metric_id).update(kind="mean")
    assert MetricCell.objects.filter(metric=guard.metric).exists()
    done = review.review_stage(stage_world.stage.pk, now=at(4, hours=2))
    assert done is not None
    assert done.decision.decision == "hold"
    assert {each["code"] for each in done.decision.reasons} == {"plan_invalid"}


def test_the_power_of_a_draft_is_the_same_over_the_api_and_on_the_page(
    key: Caller, bank: world.World
):
    stage = bank.planned
    guard = stage.guards.get()
    ramp = [
        {"share_ppm": 10_000, "after_minutes": 1440},
        {"share_ppm": 50_000, "after_minutes": 1440},
    ]
    Stage.objects.filter(pk=stage.pk).update(share_ppm=2_500, ramp=ramp)
    Metric.objects.filter(pk=guard.metric_id).update(kind="binary")
    url = f"{MANAGE}/stages/{stage.pk}/power"
    asked = {"traffic": 200_000, "bases": {guard.metric.key: {"value": 0.05}}}
    answer = key.send(url, asked)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert [each["share_ppm"] for each in told["shares"]] == [2_500, 10_000, 50_000]
    assert [each["from_day"] for each in told["shares"]] == [0, 1, 2]
    (line,) = told["guards"]
    assert line["day"] is None or line["day"] >= 2
    client = Client(headers={"accept-language": "en"})
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    page = client.get(
        reverse("admin:rollout_stage_change", args=(stage.pk,)),
        {"traffic": "200000", f"base_{guard.metric.key}": "5"},
    ).content.decode()
    assert "data-shares" in page
    assert f"{(line['smallest_harm'] - 1) * 100:+.0f} %" in page
    for body, path in (
        ({"traffic": 0}, "traffic"),
        ({"traffic": "nan"}, "traffic"),
        ({"traffic": 9, "bases": {"m": {"value": -1}}}, "bases.m.value"),
        ({"traffic": 9, "bases": {"m": {"value": 2, "deviation": 0}}}, "bases.m.deviation"),
        ({"bases": []}, "bases"),
    ):
        refused(key.send(url, body), path)
    Stage.objects.filter(pk=stage.pk).update(status="done", entered_at=timezone.now(), threshold=1)
    refused(key.send(url, asked), "")
