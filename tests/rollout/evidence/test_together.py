"""Stages reviewed together are decided as each would be alone."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Max

from rollout.models import (
    Decision,
    Exposure,
    Flag,
    Guard,
    Metric,
    MetricCell,
    OutcomeEvent,
    Rollout,
    RollupMark,
    Stage,
)
from rollout.services import events, evidence, look_rows, review, rolling, rollouts, widening
from rollout.services.audit import Actor
from rollout.services.replay import replay
from tests.rollout.evidence.conftest import World, at, live, outcome
from tests.rollout.evidence.test_ticks import other_stage
from tests.waiting import PATIENCE

ANN = Actor(name="ann", person="ann")
RATES = {"failed": (0.2, 0.2)}


def some_stages(world: World) -> list[int]:
    """The world's stage and two more with the same guard, which nobody meets."""
    metric = world.guard("failed").metric
    others = [other_stage(i) for i in range(2)]
    for each in others:
        Guard.objects.create(stage=each, metric=metric, margin_rel=0.5)
    return [world.stage.pk, *(each.pk for each in others)]


def told() -> dict[int, list[Any]]:
    columns = (
        "look at decision code metric text reasons plan state state_after evidence outcome ramp "
        "dry_run acted by code_version"
    )
    found: dict[int, list[Any]] = {}
    for row in Decision.objects.order_by("look"):
        found.setdefault(row.stage_id, []).append([getattr(row, each) for each in columns.split()])
    return found


def cells(stage: int) -> list[tuple[Any, ...]]:
    columns = ("metric", "arm", "stratum", "epoch", "chance_ppb", "hour", "latest", "users", "sums")
    return sorted(MetricCell.objects.filter(stage=stage).values_list(*columns), key=str)


def test_together_as_if_alone(world: World):
    ids = some_stages(world)
    for hour in (1, 2, 3):
        live(world, range(hour * 60, hour * 60 + 60), at(hours=hour), seed=1, rates=RATES)
        now = at(hours=hour, minutes=5)
        with transaction.atomic():
            for each in ids:
                review.roll_up_and_review(each, now=now)
            alone = told()
            transaction.set_rollback(True)
        assert len(review.review_together(ids, now=now)) == len(ids)
        assert told() == alone
    assert all(replay(each) == [] for each in Decision.objects.all())


def test_stages_without_news_are_marked_as_read(world: World):
    ids = some_stages(world)
    live(world, range(60), at(hours=1), seed=1, rates=RATES)
    review.review_together(ids, now=at(hours=1, minutes=5))
    live(world, range(60, 90), at(hours=2), seed=1, rates=RATES)
    world.send(outcome("u1", "failed", at(hours=2), event_id="again"))
    world.send(outcome("stranger", "failed", at(hours=2)))
    review.review_together(ids, now=at(hours=2, minutes=5))
    columns = ("exposures", "outcomes", "complete_to", "rolled_at")
    marks = RollupMark.objects.filter(metric__isnull=False).values_list(*columns)
    assert len(marks) == len(ids)
    assert len(set(marks)) == 1
    assert RollupMark.objects.filter(metric=None).values("exposures").distinct().count() == 1
    before = cells(world.stage.pk)
    assert sum(row[-2] for row in before if row[0] is None and row[-3]) == 90
    evidence.recompute(Stage.objects.get(pk=world.stage.pk), now=at(hours=2, minutes=5))
    assert cells(world.stage.pk) == before
    assert not any(cells(each) for each in ids[1:])


def enrol(stage: Stage, users: range, moment: datetime, epoch: int = 0) -> None:
    Exposure.objects.bulk_create(
        Exposure(
            rollout=stage.rollout,
            stage=stage,
            user_id=f"u{i}",
            arm="treated" if i % 2 else "control",
            chance_ppb=500_000_000,
            epoch=epoch,
            first_at=moment,
        )
        for i in users
    )


@pytest.mark.parametrize("at_once", [20_000, 37], ids=["in one step", "in many steps"])
def test_stages_that_share_users_are_rolled_up_together_as_each_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
):
    """Of one environment and another, with the same metrics and others, read equally far or not."""
    ids = some_stages(world)
    amount = world.guard("amount", "mean").metric
    elsewhere = Metric.objects.create(environment="staging", key="failed", kind="binary")
    odd, far = (other_stage(i) for i in (7, 8))
    Guard.objects.create(stage=odd, metric=amount, margin_rel=0.5)
    Guard.objects.create(stage=far, metric=elsewhere, margin_rel=0.5)
    Flag.objects.filter(pk=far.rollout.flag_id).update(environment="staging")
    ids += [odd.pk, far.pk]
    stages = list(Stage.objects.filter(pk__in=ids).select_related("rollout__flag").order_by("pk"))
    # The second one has two epochs, of which the first ended after a day.
    ends = {stages[1].pk: {0: at(1)}}
    monkeypatch.setattr(evidence, "epoch_ends", lambda stage: ends.get(stage.pk, {}))
    monkeypatch.setattr(evidence, "ROWS_AT_ONCE", at_once)
    for number in range(3):
        users = range(number * 20, number * 20 + 30)
        for stage in stages:
            enrol(stage, users, at(number / 2), epoch=number)
        happened = [
            outcome(f"u{i}", key, at(number / 2 + i / 50), i / 7)
            for i in range(60)
            for key in ("failed", "amount")
        ]
        last = OutcomeEvent.objects.aggregate(last=Max("pk"))["last"] or 0
        world.send(*happened, now=at(5))
        events.ingest("staging", happened[::6], now=at(5))
        Exposure.objects.filter(epoch=number).update(recorded_at=at(hours=number * 2))
        OutcomeEvent.objects.filter(pk__gt=last).update(recorded_at=at(hours=number))
        if number == 1:
            evidence.roll_up(stages[2], now=at(5))
        else:
            rolling.roll_up(stages, now=at(5))
    found = {stage.pk: cells(stage.pk) for stage in stages}
    assert all(found.values())
    for stage in stages:
        evidence.recompute(stage, now=at(5))
    again = {stage.pk: cells(stage.pk) for stage in stages}
    assert near(found) == near(again)


def near(told: dict[int, list[tuple[Any, ...]]]) -> dict[int, list[tuple[Any, ...]]]:
    """Sums without their last digits: rows are added in another order."""
    return {
        stage: [(*row[:-1], [round(each, 6) for each in row[-1]]) for row in rows]
        for stage, rows in told.items()
    }


def test_a_stage_that_somebody_holds_is_passed_by(world: World):
    ids = some_stages(world)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stage.objects.select_for_update(no_key=True).get(pk=ids[0])
            held.set()
            done.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    found = review.review_together(ids, now=at(hours=1))
    done.set()
    thread.join()
    assert {each.decision.stage_id for each in found} == set(ids[1:])
    assert [each.decision.stage_id for each in review.review_together(ids, now=at(hours=1))] == [
        ids[0]
    ]


def test_a_user_who_meets_a_stage_does_not_keep_its_look_waiting(world: World):
    """Writing an exposure locks the key of its stage, and no more than that."""
    some_stages(world)
    met, done = threading.Event(), threading.Event()

    def meet() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT 1 FROM rollout_stage WHERE id = %s FOR KEY SHARE", [world.stage.pk]
                )
            met.set()
            done.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=meet)
    thread.start()
    met.wait(PATIENCE)
    assert review.review_stage(world.stage.pk, now=at(hours=1)) is not None
    done.set()
    thread.join()


def test_nor_does_a_user_keep_a_stage_from_being_widened_or_entered(world: World):
    """An exposure refers to its rollout and its stage; neither step waits until it is written."""
    met, done = threading.Event(), threading.Event()

    def meet() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM rollout_stage FOR KEY SHARE")
                cursor.execute("SELECT 1 FROM rollout_rollout FOR KEY SHARE")
            met.set()
            done.wait(60)
        connection.close()

    thread = threading.Thread(target=meet)
    thread.start()
    try:
        assert met.wait(60)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '15s'")  # else a step that waits would hang the test
        widening.widen(world.stage, 800_000, by=ANN, reason="it went well")
        rollouts.promote(world.rollout, by=ANN, reason="it went well", stage=world.stage)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
        done.set()
        thread.join()
    world.stage.refresh_from_db()
    world.last.refresh_from_db()
    assert (world.stage.share_ppm, world.last.status) == (800_000, Stage.Status.RUNNING)


def test_a_rollback_cut_short_is_carried_out_beside_stages_that_are_due(world: World):
    ids = some_stages(world)
    review.review_together(ids[:1], now=at(hours=1))
    Decision.objects.update(decision=Decision.Verdict.ROLL_BACK, code="harm_proven")
    assert look_rows.last_looks(ids)[ids[0]].decision == "roll_back"
    found = review.review_together(ids, now=at(hours=1, minutes=1))
    assert [(each.decision.stage_id, each.acted) for each in found] == [
        (ids[0], True),
        (ids[1], False),
        (ids[2], False),
    ]
    assert Rollout.objects.get(pk=world.rollout.pk).status == Rollout.Status.ROLLED_BACK
