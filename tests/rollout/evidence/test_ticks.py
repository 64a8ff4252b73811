"""Ticks: one sick stage, source or store keeps nobody else waiting."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone

from cohorts import tasks as who
from rollout import tasks as when
from rollout import tasks_evidence
from rollout.models import Decision, Flag, Metric, Rollout, Stage
from rollout.services import evidence_reach, gauges, looks, sources
from rollout.services.sources import Sample, SourceError, address
from tests.rollout.evidence.conftest import NOON, World
from tests.waiting import PATIENCE


def test_every_tick_is_in_the_schedule_and_can_be_found():
    for name in tasks_evidence.SCHEDULE:
        assert name in when.SCHEDULE
        assert hasattr(tasks_evidence, name.rpartition(".")[2])


def test_every_tick_can_be_sent():
    """Celery refuses a task whose soft limit, its own or the default, lies above its hard one."""
    from config.celery import app

    for name in {**when.SCHEDULE, **who.SCHEDULE}:
        task = app.tasks[name]
        hard = task.time_limit or app.conf.task_time_limit
        assert (task.soft_time_limit or app.conf.task_soft_time_limit) <= hard, name


def other_stage(number: int) -> Stage:
    flag = Flag.objects.create(environment="production", key=f"other{number}")
    rollout = Rollout.objects.create(
        flag=flag, slot=100 + number, status=Rollout.Status.RUNNING, started_at=NOON
    )
    stage = Stage.objects.create(
        rollout=rollout,
        order=1,
        key="some",
        threshold=0,
        share_ppm=0,
        status=Stage.Status.RUNNING,
        entered_at=NOON,
    )
    Rollout.objects.filter(pk=rollout.pk).update(current=stage)
    return stage


def test_one_sick_stage_keeps_no_other_waiting(world: World, monkeypatch: pytest.MonkeyPatch):
    others = [other_stage(i) for i in range(3)]
    healthy = looks.look_of

    def sick(stage: Stage, *given: Any, **more: Any) -> Any:
        if stage.pk == world.stage.pk:
            raise RuntimeError("this stage is sick")
        return healthy(stage, *given, **more)

    monkeypatch.setattr(looks, "look_of", sick)
    assert tasks_evidence.review_running_stages() == {"failed": 1, "hold": 3}
    assert set(Decision.objects.values_list("stage", flat=True)) == {each.pk for each in others}


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_a_tick_whose_time_is_over_ends_and_the_next_one_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, together: bool
):
    other_stage(0)
    healthy, asked = looks.look_of, []

    def too_slow(stage: Stage, *given: Any, **more: Any) -> Any:
        asked.append(stage.pk)
        if not together and len(asked) == 1:
            raise RuntimeError("so each is reviewed by itself")
        raise SoftTimeLimitExceeded()

    monkeypatch.setattr(looks, "look_of", too_slow)
    with pytest.raises(SoftTimeLimitExceeded):
        tasks_evidence.review_running_stages()
    assert len(asked) == (1 if together else 2)
    assert not Decision.objects.exists()
    monkeypatch.setattr(looks, "look_of", healthy)
    assert tasks_evidence.review_running_stages() == {"hold": 2}


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks of one moment: no look becomes due between them."""
    moment = timezone.now()
    monkeypatch.setattr(tasks_evidence, "timezone", SimpleNamespace(now=lambda: moment))


def test_a_doubled_tick_finds_nothing_to_do(world: World, monkeypatch: pytest.MonkeyPatch):
    stand_still(monkeypatch)
    assert tasks_evidence.review_running_stages() == {"hold": 1}
    assert tasks_evidence.review_running_stages() == {}


def test_the_fast_tick_leaves_real_time_alone(world: World):
    assert tasks_evidence.review_fast_stages() == {}
    Rollout.objects.update(time_scale=1_000)
    assert tasks_evidence.review_fast_stages() == {"hold": 1}


def test_a_writer_that_hangs_delays_reviews_and_breaks_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    import threading

    from django.db import connection

    from rollout.services.exposures import write_evidence

    monkeypatch.setattr(evidence_reach, "LOCK_WAIT", "100ms")
    writing, done = threading.Event(), threading.Event()

    def hang() -> None:
        with transaction.atomic():
            write_evidence()
            writing.set()
            done.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=hang)
    thread.start()
    writing.wait(PATIENCE)
    assert tasks_evidence.review_running_stages() == {}
    done.set()
    thread.join()
    assert tasks_evidence.review_running_stages() == {"hold": 1}


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ({"data": {"resultType": "scalar", "result": [1, "1.5"]}}, 1.5),
        ({"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "2"]}]}}, 2.0),
        ({"value": 3}, 3.0),
        (4.5, 4.5),
    ],
)
def test_a_reading_is_found_in_the_answer(answer: Any, number: float):
    assert address.number_of(answer) == number


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"resultType": "vector", "result": []}},
        {"data": {"resultType": "scalar", "result": [1, "NaN"]}},
        {"value": "3"},
        True,
        None,
        [],
    ],
)
def test_an_answer_without_a_number_is_no_reading(answer: Any):
    with pytest.raises(SourceError):
        address.number_of(answer)


def test_a_source_that_does_not_answer_leaves_no_reading(world: World):
    guard = world.guard("pool", "gauge", maximum=0.9)
    guard.metric.query = "http://127.0.0.1:9/nobody"
    guard.metric.save()
    assert tasks_evidence.read_gauges() == 0


def test_a_gauge_cut_short_leaves_no_fault_and_a_sick_one_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    for key in ("sick", "well"):
        guard = world.guard(key, "gauge", maximum=0.9)
        Metric.objects.filter(pk=guard.metric_id).update(query="http://127.0.0.1:9/nobody")
    faults: dict[str, Exception] = {
        "sick": SoftTimeLimitExceeded(),
        "well": SoftTimeLimitExceeded(),
    }

    def told(metric: Metric, *, now: datetime) -> Sample:
        if metric.key in faults:
            raise faults[metric.key]
        return Sample(0.5, now)

    monkeypatch.setattr(sources, "read", told)
    with pytest.raises(SoftTimeLimitExceeded):
        tasks_evidence.read_gauges()
    assert not Metric.objects.exclude(fault="").exists()
    faults = {"sick": RuntimeError("odd")}
    assert tasks_evidence.read_gauges() == 1
    assert dict(Metric.objects.values_list("key", "fault")) == {
        "sick": "metric sick: RuntimeError('odd')",
        "well": "",
    }
    assert [each.key for each in gauges.wanted()] == ["well", "sick"]
    faults = {}
    monkeypatch.setattr(tasks_evidence, "GAUGE_SECONDS", 0.0)
    assert tasks_evidence.read_gauges() == 0  # no source is asked when time is over
