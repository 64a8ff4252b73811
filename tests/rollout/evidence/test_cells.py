"""Raw rows become cells: in steps or at once, in order or not, the numbers are the same."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import connection

from rollout.models import Arm, Exposure, MetricCell, OutcomeEvent, RollupMark
from rollout.services import evidence
from tests.rollout.evidence.conftest import World, at, exposure, outcome
from tests.waiting import PATIENCE

KINDS = {
    "converted": {"kind": "binary"},
    "overdue": {"kind": "binary_delayed"},
    "errors": {"kind": "users_ratio"},
    "latency": {"kind": "latency", "edges": [100.0, 300.0, 900.0]},
    "amount": {"kind": "mean", "cap": 50.0},
    "calls": {"kind": "count"},
}


def cells(world: World) -> dict[tuple[object, ...], tuple[int, list[float], bool]]:
    rows = MetricCell.objects.filter(stage=world.stage).select_related("metric")
    return {
        (
            row.metric and row.metric.key,
            row.arm,
            row.stratum,
            row.epoch,
            row.chance_ppb,
            row.hour,
        ): (
            row.users,
            [pytest.approx(each, rel=1e-9, abs=1e-9) for each in row.sums],
            row.latest,
        )
        for row in rows
    }


def total(world: World, metric: str | None, arm: Arm = Arm.TREATED) -> tuple[int, list[float]]:
    rows = MetricCell.objects.filter(stage=world.stage, latest=True, arm=arm)
    rows = rows.filter(metric__key=metric) if metric else rows.filter(metric=None)
    users = sum(row.users for row in rows)
    return users, [sum(each) for each in zip(*(row.sums for row in rows), strict=True)]


def arm_of(world: World, user: str) -> str:
    return Exposure.objects.get(stage=world.stage, user_id=user).arm


def treated_user(world: World) -> str:
    """Some user whom the draw takes."""
    for i in range(100):
        world.send(exposure(f"t{i}", at()))
        if arm_of(world, f"t{i}") == Arm.TREATED:
            return f"t{i}"
    raise AssertionError("half of all users are drawn")


def test_steps_in_any_order_with_duplicates_give_the_cells_of_a_recount(world: World):
    for key, values in KINDS.items():
        world.guard(key, **values)
    draw = random.Random(20)
    sent = [exposure(f"u{i}", at(draw.random())) for i in range(120)]
    for i in range(900):
        key = draw.choice(list(KINDS))
        value = round(draw.uniform(0, 80), 2)
        of = value + draw.random() if key == "errors" else None
        moment = at(draw.random() * 2)
        sent.append(outcome(f"u{i % 150}", key, moment, value, event_id=f"e{i}", denominator=of))
    sent += draw.sample(sent, 200)
    draw.shuffle(sent)
    for start in range(0, len(sent), 130):
        world.send(*sent[start : start + 130], now=at(3))
        _move_to_hour(start // 390)
        evidence.roll_up(world.stage, now=at(3))
    in_steps = cells(world)
    assert len({key[-1] for key in in_steps}) >= 3
    evidence.recompute(world.stage, now=at(3))
    assert cells(world) == in_steps


def _move_to_hour(hour: int) -> None:
    """Rows recorded since the last call were recorded in this hour."""
    for table in ("rollout_exposure", "rollout_outcomeevent"):
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET recorded_at = %s WHERE recorded_at > %s",
                [at(hours=hour), at(hours=100)],
            )


def test_a_user_with_ten_events_is_one_user(world: World):
    world.guard("converted")
    user = treated_user(world)
    world.send(*(outcome(user, "converted", at(hours=i)) for i in range(10)))
    evidence.roll_up(world.stage, now=at(1))
    assert total(world, "converted") == (1, [1])


def test_what_happened_before_the_exposure_does_not_count(world: World):
    world.guard("converted")
    user = treated_user(world)
    world.send(outcome(user, "converted", at(-0.5)), now=at(1))
    evidence.roll_up(world.stage, now=at(1))
    assert MetricCell.objects.filter(metric__key="converted").count() == 0


def test_an_outcome_known_before_its_exposure_counts_once_the_exposure_comes(world: World):
    world.guard("converted")
    world.send(outcome("u1", "converted", at(1)))
    evidence.roll_up(world.stage, now=at(1))
    world.send(exposure("u1", at(0.5)), now=at(1))
    evidence.roll_up(world.stage, now=at(1))
    arm = Arm(arm_of(world, "u1"))
    assert total(world, "converted", arm) == (1, [1])


def test_a_value_of_zero_is_a_sign_of_life_and_no_event(world: World):
    world.guard("converted")
    user = treated_user(world)
    world.send(outcome(user, "converted", at(1), 0.0))
    evidence.roll_up(world.stage, now=at(1))
    assert total(world, "converted") == (1, [0])


def test_amounts_add_up_per_user_before_they_are_squared_and_capped(world: World):
    world.guard("amount", "mean", cap=50.0)
    user = treated_user(world)
    world.send(outcome(user, "amount", at(1), 40.0))
    evidence.roll_up(world.stage, now=at(1))
    world.send(outcome(user, "amount", at(2), 20.0))
    evidence.roll_up(world.stage, now=at(2))
    assert total(world, "amount") == (1, [60.0, 3600.0, 50.0, 2500.0])


def test_a_user_counts_above_an_edge_once_any_reading_was_slower(world: World):
    world.guard("latency", "latency", edges=[100.0, 300.0], baseline_index=1, margin_index=1)
    user = treated_user(world)
    world.send(*(outcome(user, "latency", at(hours=i), value) for i, value in enumerate((90, 250))))
    evidence.roll_up(world.stage, now=at(1))
    assert total(world, "latency") == (1, [1, 0])


def test_rolling_up_twice_changes_nothing(world: World):
    world.guard("converted")
    user = treated_user(world)
    world.send(outcome(user, "converted", at(1)))
    evidence.roll_up(world.stage, now=at(1))
    before = cells(world)
    assert evidence.roll_up(world.stage, now=at(1)) == 0
    assert cells(world) == before


def test_a_guard_added_later_counts_what_was_recorded_before_it(world: World):
    user = treated_user(world)
    evidence.roll_up(world.stage, now=at(1))
    guard = world.guard("converted")
    OutcomeEvent.objects.create(
        event_id="e", environment="production", user_id=user, metric="converted", at=at(1)
    )
    evidence.roll_up(world.stage, now=at(1))
    assert total(world, guard.metric.key) == (1, [1])


def test_a_long_backlog_is_worked_off_in_steps(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evidence, "ROWS_AT_ONCE", 7)
    world.guard("converted")
    world.send(*(exposure(f"u{i}", at()) for i in range(40)))
    world.send(*(outcome(f"u{i}", "converted", at(0.1)) for i in range(40)))
    evidence.roll_up(world.stage, now=at(1))
    enrolled = total(world, None)[0] + total(world, None, Arm.CONTROL)[0]
    converted = total(world, "converted")[0] + total(world, "converted", Arm.CONTROL)[0]
    assert (enrolled, converted) == (40, 40)


def test_a_row_still_being_committed_is_not_overlooked(world: World):
    """Row ids are dealt before the commit: the roll-up waits for writers it could jump over."""
    import threading

    from django.db import transaction

    world.guard("converted")
    wrote, may_commit = threading.Event(), threading.Event()

    def slow_writer() -> None:
        with transaction.atomic():
            world.send(exposure("slow", at()))
            wrote.set()
            may_commit.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=slow_writer)
    thread.start()
    wrote.wait(PATIENCE)
    world.send(exposure("fast", at()))
    timer = threading.Timer(0.3, may_commit.set)
    timer.start()
    evidence.roll_up(world.stage, now=at(1))
    thread.join()
    assert total(world, None)[0] + total(world, None, Arm.CONTROL)[0] == 2


def test_marks_move_with_the_cells(world: World):
    world.guard("converted")
    user = treated_user(world)
    world.send(outcome(user, "converted", at(1)))
    evidence.roll_up(world.stage, now=at(1, hours=2))
    mark = RollupMark.objects.get(stage=world.stage, metric__key="converted")
    assert mark.outcomes == OutcomeEvent.objects.latest("pk").pk
    assert mark.complete_to == at(1)
    assert mark.rolled_at == at(1) + timedelta(hours=2)
