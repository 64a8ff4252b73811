"""Planning before a stage starts, drawings of its looks, freeze notices, webhooks of people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from config.freeze import Freeze
from rollout.admin import charts
from rollout.models import Delivery, Guard, Metric, Stage, Webhook
from rollout.services.readings import Chart, Point
from tests.rollout.admin import world
from tests.rollout.messages_receiver import serve

pytestmark = pytest.mark.django_db
ENGLISH: Any = {"headers": {"accept-language": "en"}}


@pytest.fixture
def draft(bank: world.World) -> Stage:
    """A pending stage with one guard that must prove a margin of 5 %."""
    stage = bank.planned
    metric = Metric.objects.create(
        environment="production", key="failed", kind="binary", label_en="Failures"
    )
    stage.guards.all().delete()
    Guard.objects.create(stage=stage, metric=metric, margin_rel=0.05)
    Stage.objects.filter(pk=stage.pk).update(status="pending", share_ppm=200_000)
    return stage


def page_of(operator: Client, stage: Stage, **asked: Any) -> str:
    url = reverse("admin:rollout_stage_change", args=(stage.pk,))
    answer = operator.get(url, asked, **ENGLISH)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_a_rate_the_page_asks_for_one(operator: Client, draft: Stage) -> None:
    page = page_of(operator, draft)
    assert "No rate is known yet" in page
    assert 'name="traffic"' in page
    assert 'name="base_failed"' in page
    assert "Our guess for the traffic" in page


def test_poor_traffic_is_warned_of_and_rich_traffic_is_not(operator: Client, draft: Stage) -> None:
    poor = page_of(operator, draft, traffic="20", base_failed="0.1")
    rich = page_of(operator, draft, traffic="5000000", base_failed="5")
    assert "can never conclude" in poor
    assert "data-hopeless" in poor
    assert "can never conclude" not in rich
    assert "Our guess for the traffic" not in rich


@pytest.mark.parametrize("traffic", ["0", "-5", "many", "inf", "nan"])
def test_odd_traffic_is_told(operator: Client, draft: Stage, traffic: str) -> None:
    assert "must be a number above 0" in page_of(operator, draft, traffic=traffic)


@pytest.mark.parametrize("rate", ["0", "100", "-1", "x"])
def test_an_odd_rate_is_told(operator: Client, draft: Stage, rate: str) -> None:
    page = page_of(operator, draft, traffic="100", base_failed=rate)
    assert "between 0 and 100 %" in page


def test_a_stage_that_runs_is_no_longer_planned(operator: Client, bank: world.World) -> None:
    assert "data-planning" not in page_of(operator, bank.stage)


def points(*known: tuple[float, float | None, float | None, float | None]) -> list[Point]:
    now = timezone.now()
    return [Point(now, minute, middle, low, high, 1.0) for minute, middle, low, high in known]


def test_a_drawing_holds_its_line_band_and_marks() -> None:
    looks = points(
        (0, None, None, None), (60, 1.2, 0.5, 9.0), (1440, 1.05, 0.9, 1.2), (2880, 1.02, 0.95, 1.1)
    )
    found = charts.draw(Chart("failed", "Failures", 1.0, 1.05, 20.0, looks))
    assert found is not None
    assert len(found["line"].split()) == 3
    assert len(found["band"].split()) == 6
    assert [mark["kind"] for mark in found["marks"]] == ["reference", "margin"]
    places = [float(each.split(",")[1]) for each in (found["line"] + " " + found["band"]).split()]
    assert all(0 <= place <= found["base"] for place in places)
    reference, margin = (float(mark["y"]) for mark in found["marks"])
    assert margin < reference  # larger values stand higher
    assert found["newest"] == "1.02"


def test_one_look_is_no_drawing() -> None:
    assert charts.draw(Chart("m", "M", None, None, 20.0, points((60, 1.0, 0.9, 1.1)))) is None


def test_equal_estimates_without_marks_are_drawn() -> None:
    looks = points((0, 0.0, None, None), (60, 0.0, None, None))
    assert charts.draw(Chart("m", "M", None, None, 20.0, looks)) is not None


@pytest.mark.parametrize(
    ("begins", "told"),
    [(-1, "no stage is promoted before"), (2, "Freeze 春节 ahead"), (30, ""), (-20, "")],
)
def test_the_board_tells_of_freezes(
    operator: Client, settings: Any, begins: int, told: str
) -> None:
    start = timezone.now() + timedelta(days=begins)
    settings.HUIDU_FREEZE_WINDOWS = [Freeze(start, start + timedelta(days=7), "春节")]
    page = operator.get(reverse("admin:index"), **ENGLISH).content.decode()
    assert ("data-freeze" in page) == bool(told)
    assert told in page


def test_a_webhook_is_made_shown_once_and_tried_out(operator: Client, settings: Any) -> None:
    settings.HUIDU_PRIVATE_TARGETS = ["127.0.0.1"]
    with serve() as receiver:
        made = operator.post(
            reverse("admin:rollout_webhook_add"),
            {
                "environment": "production",
                "name": "ops",
                "url": receiver.url,
                "events": ["flag.killed"],
                "enabled": "on",
            },
            **ENGLISH,
        )
        row = Webhook.objects.get()
        assert row.secret in made.content.decode()
        assert row.events == ["flag.killed"]
        url = reverse("admin:rollout_webhook_change", args=(row.pk,))
        assert row.secret not in operator.get(url, **ENGLISH).content.decode()
        act = reverse("admin:rollout_webhook_act", args=(row.pk, "test"))
        assert "one signed message" in operator.get(act, **ENGLISH).content.decode()
        told = operator.post(act, {}, follow=True, **ENGLISH).content.decode()
        assert "The receiver took the test message" in told
        assert len(receiver.got) == 1
    failed = operator.post(act, {}, follow=True, **ENGLISH).content.decode()
    assert "The test message did not arrive" in failed
    assert Delivery.objects.count() == 2
    delivery = reverse("admin:rollout_delivery_change", args=(Delivery.objects.latest("pk").pk,))
    assert "huidu.test" in operator.get(delivery, **ENGLISH).content.decode()


def test_an_odd_address_of_a_webhook_is_refused_at_its_field(operator: Client) -> None:
    values = {"environment": "production", "name": "odd", "url": "https://u:p@example.com/"}
    page = operator.post(reverse("admin:rollout_webhook_add"), values, **ENGLISH)
    assert page.status_code == 200
    assert not Webhook.objects.exists()
