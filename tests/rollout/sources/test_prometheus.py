"""Prometheus over real HTTP: one fresh, finite number, or unknown; never zero by accident."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from rollout.models import Metric, OutcomeEvent
from rollout.services import gauges, sources
from rollout.services.gauge_readings import gauge_reading
from rollout.services.sources import SourceError, prometheus
from tests.rollout.evidence.conftest import PLACE, World
from tests.rollout.sources.prometheus_server import Prometheus, serve

NOW = timezone.now()


@pytest.fixture
def server(settings: Any) -> Iterator[Prometheus]:
    with serve() as told:
        settings.HUIDU_PROMETHEUS_URL = told.url
        yield told


def gauge(expression: str) -> Metric:
    return Metric(
        environment=PLACE, key="pool", kind="gauge", source="prometheus", query=expression
    )


def test_one_series_is_a_reading_with_the_samples_own_time(server: Prometheus):
    at = NOW - timedelta(minutes=2)
    server.vector("sum(pool)", "0.25", at=at.timestamp())
    found = sources.read(gauge("sum(pool)"), now=NOW)
    assert found.value == 0.25
    assert abs(found.at - at) < timedelta(milliseconds=1)
    path, asked = server.asked[0]
    assert path == "/api/v1/query"
    assert asked["query"] == "sum(pool)"
    assert abs(float(asked["time"]) - NOW.timestamp()) < 0.01


def test_a_scalar_is_a_reading(server: Prometheus):
    server.answers["1"] = {"resultType": "scalar", "result": [NOW.timestamp(), "1"]}
    assert sources.read(gauge("1"), now=NOW).value == 1.0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"resultType": "vector", "result": []}, "source.empty"),
        ("NaN", "source.not_finite"),
        ("+Inf", "source.not_finite"),
        ("two", "source.several"),
        ("old", "source.stale"),
        ("future", "source.from_the_future"),
        ({"resultType": "string", "result": [1, "x"]}, "source.no_number"),
        ({"resultType": "vector", "result": [{"metric": {}}]}, "source.no_number"),
        ({"resultType": "vector", "result": [None]}, "source.no_number"),
        ({"resultType": "scalar", "result": [1e300, "1"]}, "source.no_number"),
        (None, "source.refused"),
    ],
)
def test_what_is_not_one_fresh_number_is_unknown(server: Prometheus, data: Any, code: str):
    moment = NOW.timestamp()
    made = {
        "NaN": lambda: server.vector("q", "NaN", at=moment),
        "+Inf": lambda: server.vector("q", "+Inf", at=moment),
        "two": lambda: server.vector("q", "1", "2", at=moment),
        "old": lambda: server.vector("q", "1", at=moment - 3_600),
        "future": lambda: server.vector("q", "1", at=moment + 600),
    }
    if isinstance(data, str):
        made[data]()
    elif data is not None:
        server.answers["q"] = data
    with pytest.raises(SourceError, match="metric pool: ") as caught:
        sources.read(gauge("q"), now=NOW)
    assert caught.value.code == code


def test_a_server_that_hangs_is_left_at_the_deadline(
    server: Prometheus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prometheus, "DEADLINE_SECONDS", 0.2)
    with pytest.raises(SourceError) as caught:
        sources.read(gauge("hang"), now=NOW)
    assert caught.value.code == "source.away"


def test_an_answer_that_is_no_json_is_unknown(server: Prometheus):
    server.answers["q"] = "<html>"
    with pytest.raises(SourceError, match="without JSON"):
        sources.read(gauge("q"), now=NOW)


def test_without_the_setting_the_sentence_names_it(settings: Any):
    settings.HUIDU_PROMETHEUS_URL = ""
    with pytest.raises(SourceError, match="set HUIDU_PROMETHEUS_URL"):
        sources.read(gauge("q"), now=NOW)


def test_a_window_leaves_holes_where_nothing_was_known(server: Prometheus):
    start = NOW - timedelta(minutes=10)
    points = [(start.timestamp() + 60 * i, v) for i, v in enumerate(("1", "NaN", "3"))]
    server.matrix("range:q", *points)
    found = prometheus.window("q", start=start, end=NOW, step=timedelta(minutes=1))
    assert [each.value for each in found] == [1.0, 3.0]
    assert server.asked[0][1]["step"] == "60"


def read_all(now: datetime) -> int:
    return sum(gauges.read(metric, now=now) for metric in gauges.wanted())


def test_a_guard_is_read_and_a_gap_is_filled_from_memory(server: Prometheus, world: World):
    guard = world.guard("pool", "gauge", maximum=0.9)
    Metric.objects.filter(pk=guard.metric.pk).update(source="prometheus", query="q")
    before = NOW - timedelta(minutes=20)
    server.vector("q", "0.1", at=before.timestamp())
    assert read_all(now=before) == 1
    server.vector("q", "0.4", at=NOW.timestamp())
    gap = [(before.timestamp() + 60 * i, "0.2") for i in range(1, 20)]
    server.matrix("range:q", *gap)
    assert read_all(now=NOW) == 20
    assert read_all(now=NOW) == 0  # the same sample counts once
    assert OutcomeEvent.objects.filter(metric="pool").count() == 21
    assert gauge_reading(PLACE, guard.metric, NOW + timedelta(seconds=1)) == 0.4


def test_a_source_that_fails_stands_at_the_metric_until_it_answers(
    server: Prometheus, world: World
):
    guard = world.guard("pool", "gauge", maximum=0.9)
    Metric.objects.filter(pk=guard.metric.pk).update(source="prometheus", query="q")
    server.vector("q", "1", "2", at=NOW.timestamp())
    assert read_all(now=NOW) == 0
    guard.metric.refresh_from_db()
    assert "metric pool: the expression answers 2 series" in guard.metric.fault
    assert gauge_reading(PLACE, guard.metric, NOW) is None
    server.vector("q", "1", at=NOW.timestamp())
    assert read_all(now=NOW) == 1
    guard.metric.refresh_from_db()
    assert guard.metric.fault == ""
