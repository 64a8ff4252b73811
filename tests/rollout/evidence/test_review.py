"""One look at one stage: decided, recorded once, acted upon once, whatever is killed or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from huidu import promotion, reasons
from huidu.engine import compile_snapshot
from huidu.errors import StateError
from huidu.model import User
from huidu.wire import snapshot as wire
from rollout.models import AuditEntry, ComplianceItem, Decision, MetricCell, Rollout, Stage
from rollout.services import deciding, recorded, replay, review, rollouts, stages, store
from rollout.services.audit import Actor
from rollout.services.review import Reviewed, roll_up_and_review
from tests.rollout.evidence.conftest import World, at, complete, live, outcome
from tests.waiting import PATIENCE

Verdict = Decision.Verdict
ANN = Actor(name="ann", person="ann")
HEALTHY = {"failed": (0.2, 0.2)}
HARMFUL = {"failed": (0.5, 0.2)}


@pytest.mark.parametrize(
    ("minutes", "number"),
    [(-1, -1), (0, 0), (0.9, 0), (1, 1), (29.9, 29), (30, 30), (34.9, 30), (35, 31), (1440, 312)],
)
def test_a_stage_is_looked_at_every_minute_for_half_an_hour(minutes: float, number: int):
    rollout = Rollout()
    stage = Stage(rollout=rollout, entered_at=at())
    assert deciding.look_number(stage, at(minutes=minutes)) == number
    # Its clock may run faster, and a stage that began without early looks has none.
    rollout.time_scale = 60
    assert deciding.look_number(stage, at(minutes=minutes / 60)) == number
    stage.early_minutes = 0
    assert deciding.look_number(stage, at(minutes=minutes / 60)) == minutes // 5


def look(world: World, moment: datetime) -> Reviewed | None:
    return roll_up_and_review(world.stage.pk, now=moment)


def decided(world: World, moment: datetime) -> Decision:
    found = look(world, moment)
    assert found is not None
    found.decision.refresh_from_db()
    return found.decision


def codes(decision: Decision) -> set[str]:
    return {each["code"] for each in decision.reasons}


def published_answer(user: str = "u1") -> Any:
    """What nodes that load the store's snapshot answer."""
    blob = store.held_snapshot("production")[1]
    assert blob is not None
    return compile_snapshot(wire.decode(blob)).check("weilidai", User(user, {}))


def statuses(world: World) -> tuple[str, str]:
    world.stage.refresh_from_db()
    world.rollout.refresh_from_db()
    return world.stage.status, world.rollout.status


def play(world: World, rates: dict[str, tuple[float, float]], days: int = 8) -> Decision:
    """Live day by day until the engine decides."""
    decision = None
    for day in range(1, days + 1):
        live(world, range(day * 800, day * 800 + 800), at(day), seed=day, rates=rates)
        decision = decided(world, at(day, minutes=10))
        if decision.decision != Verdict.HOLD:
            break
    assert decision is not None
    return decision


def test_a_healthy_stage_is_promoted_after_its_minimum_stay(world: World):
    world.guard("failed", margin_rel=0.3)
    decision = play(world, HEALTHY)
    assert (decision.decision, decision.acted) == (Verdict.PROMOTE, True)
    assert decision.at >= at(3)
    assert statuses(world) == (Stage.Status.DONE, Rollout.Status.RUNNING)
    assert published_answer().visible


def test_a_harmful_stage_is_rolled_back_and_nobody_is_shown_it_any_more(world: World):
    world.guard("failed", margin_rel=0.3)
    decision = play(world, HARMFUL)
    assert (decision.decision, decision.metric, decision.acted) == ("roll_back", "failed", True)
    assert decision.at < at(3)
    assert statuses(world) == (Stage.Status.DONE, Rollout.Status.ROLLED_BACK)
    assert published_answer().why == reasons.STAGE_ROLLED_BACK
    entry = AuditEntry.objects.get(action="rollout.rolled_back")
    assert entry.actor == "engine"
    assert f"decision {decision.pk}" in entry.reason


def test_without_data_a_stage_is_held_and_says_what_is_missing(world: World):
    world.guard("failed")
    live(world, range(500), at(4), seed=1, rates={})
    decision = decided(world, at(4))
    assert decision.decision == Verdict.HOLD
    assert "no_data" in codes(decision)


def test_a_feed_that_went_silent_is_unknown_and_never_zero(world: World):
    world.guard("failed", margin_rel=0.3)
    for day in (1, 2):
        live(world, range(day * 800, day * 800 + 800), at(day), seed=day, rates=HEALTHY)
        decided(world, at(day, minutes=10))
    live(world, range(5_000, 8_000), at(4), seed=9, rates={})
    decision = decided(world, at(4, minutes=10))
    assert decision.decision == Verdict.HOLD
    assert "stale_source" in codes(decision)


def test_each_look_is_recorded_once(world: World):
    world.guard("failed")
    assert look(world, at(1)) is not None
    assert look(world, at(1)) is None
    assert look(world, at(1, minutes=59)) is None
    assert look(world, at(1, minutes=60)) is not None
    assert list(Decision.objects.order_by("look").values_list("look", flat=True)) == [24, 25]


def test_a_clock_that_jumps_back_repeats_nothing_and_goes_on(world: World):
    world.guard("failed")
    decided(world, at(2))
    assert look(world, at(1)) is None
    assert look(world, at(2, hours=1)) is not None


def test_a_clock_that_jumps_ahead_promotes_nobody(world: World):
    world.guard("failed", margin_rel=0.3)
    for day in (1, 2):
        live(world, range(day * 800, day * 800 + 800), at(day), seed=day, rates=HEALTHY)
        decided(world, at(day, minutes=10))
    decision = decided(world, at(9))
    assert decision.decision == Verdict.HOLD
    assert "stale_source" in codes(decision)


def together(act: Callable[[], Any], times: int) -> list[Any]:
    """The same call from several threads at once, each with a connection of its own."""
    start, results = threading.Barrier(times), []

    def run() -> None:
        start.wait(PATIENCE)
        try:
            results.append(act())
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def test_reviewers_racing_write_one_decision_and_take_one_step(world: World):
    world.guard("failed", margin_rel=0.3)
    live(world, range(1_500), at(1), seed=1, rates=HARMFUL)
    results = together(lambda: look(world, at(1, minutes=10)), 4)
    assert not [each for each in results if isinstance(each, Exception)]
    assert sum(isinstance(each, Reviewed) and each.acted for each in results) == 1
    assert Decision.objects.count() == 1
    assert AuditEntry.objects.filter(action="rollout.rolled_back").count() == 1


def test_a_rollback_cut_short_is_carried_out_by_the_next_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.guard("failed", margin_rel=0.3)
    live(world, range(1_500), at(1), seed=1, rates=HARMFUL)
    with monkeypatch.context() as killed:
        killed.setattr(review, "act", lambda pk: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            look(world, at(1, minutes=10))
    assert statuses(world)[1] == Rollout.Status.RUNNING
    again = look(world, at(1, minutes=11))
    assert again is not None
    assert again.acted
    assert statuses(world)[1] == Rollout.Status.ROLLED_BACK
    assert Decision.objects.count() == 1


def test_a_promotion_cut_short_is_decided_anew(world: World, monkeypatch: pytest.MonkeyPatch):
    world.guard("failed", margin_rel=0.3)
    with monkeypatch.context() as killed:
        killed.setattr(review, "act", lambda pk: False)
        first = play(world, HEALTHY)
    assert (first.decision, first.acted) == (Verdict.PROMOTE, False)
    world.send(complete("failed", first.at + timedelta(hours=1)))
    second = decided(world, first.at + timedelta(hours=1))
    assert (second.decision, second.acted) == (Verdict.PROMOTE, True)
    assert not [each for each in Decision.objects.all() if replay.replay(each)]


def test_a_step_that_is_refused_is_told_and_the_stage_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.guard("failed", margin_rel=0.3)

    def refuse(*_: Any, **__: Any) -> None:
        raise StateError("the next stage cannot be drawn", code="draw.failed")

    monkeypatch.setattr(rollouts, "promote", refuse)
    decision = play(world, HEALTHY)
    assert (decision.decision, decision.acted) == (Verdict.PROMOTE, False)
    assert "not_carried_out.draw.failed" in codes(decision)
    assert statuses(world)[0] == Stage.Status.RUNNING


def test_a_dry_run_decides_and_moves_nothing(world: World):
    Rollout.objects.update(dry_run=True)
    world.guard("failed", margin_rel=0.3)
    decision = play(world, HARMFUL)
    assert (decision.decision, decision.acted) == ("roll_back", False)
    assert statuses(world) == (Stage.Status.RUNNING, Rollout.Status.RUNNING)
    world.send(complete("failed", decision.at + timedelta(hours=1)))
    assert decided(world, decision.at + timedelta(hours=1)).decision == Verdict.ROLL_BACK


@pytest.mark.parametrize(
    ("block", "code"),
    [
        pytest.param(
            lambda world: Stage.objects.update(needs_approval=True), "approval_missing", id="person"
        ),
        pytest.param(
            lambda world: ComplianceItem.objects.create(flag=world.flag, key="filing"),
            "compliance_unsigned",
            id="compliance",
        ),
        pytest.param(
            lambda world: Rollout.objects.update(status=Rollout.Status.PAUSED), "paused", id="pause"
        ),
    ],
)
def test_proof_alone_promotes_nobody(world: World, block: Callable[[World], Any], code: str):
    world.guard("failed", margin_rel=0.3)
    block(world)
    decision = play(world, HEALTHY, days=5)
    assert decision.decision == Verdict.HOLD
    assert code in codes(decision)


def test_harm_rolls_back_a_paused_rollout_too(world: World):
    world.guard("failed", margin_rel=0.3)
    Rollout.objects.update(status=Rollout.Status.PAUSED)
    assert play(world, HARMFUL).acted
    assert statuses(world)[1] == Rollout.Status.ROLLED_BACK


def test_a_freeze_window_holds_a_promotion(world: World, settings: Any):
    settings.HUIDU_FREEZE_WINDOWS = [(at(0), at(30))]
    world.guard("failed", margin_rel=0.3)
    assert "freeze_window" in codes(play(world, HEALTHY, days=5))


def test_a_stage_without_guards_and_without_a_waiver_is_held(world: World):
    decision = decided(world, at(4))
    assert (decision.decision, decision.code) == (Verdict.HOLD, "plan_invalid")
    assert not replay.replay(decision)


def test_a_reading_beyond_its_limit_three_looks_in_a_row_rolls_back(world: World):
    world.guard("pool_used", "gauge", maximum=0.9, for_looks=3)
    found = []
    for hour in range(1, 5):
        world.send(outcome(None, "pool_used", at(hours=hour), 0.95))
        found.append(decided(world, at(hours=hour, minutes=1)).decision)
        if found[-1] != Verdict.HOLD:
            break
    assert found == ["hold", "hold", "roll_back"]


def test_a_compressed_clock_shortens_stays_and_not_what_counts_as_fresh(world: World):
    Rollout.objects.update(time_scale=1_440.0)  # a day a minute
    world.stage.refresh_from_db()
    world.guard("failed", margin_rel=0.3)
    for minute in range(1, 9):
        moment = at(minutes=minute)
        live(
            world,
            range(minute * 800, minute * 800 + 800),
            moment,
            seed=minute,
            rates=HEALTHY,
        )
        decision = decided(world, moment + timedelta(seconds=5))
        if decision.decision != Verdict.HOLD:
            break
    assert (decision.decision, decision.acted) == (Verdict.PROMOTE, True)
    assert decision.at >= at(minutes=3)


def test_every_decision_of_a_run_is_replayed_to_the_same_answer(world: World):
    world.guard("failed", margin_rel=0.3)
    world.guard("amount", "mean", harm="decrease", margin_rel=0.5, cap=100.0, role="watch")
    world.guard("pool_used", "gauge", maximum=0.9)
    for day in range(1, 6):
        world.send(outcome(None, "pool_used", at(day), 0.5))
        rates = {"failed": (0.2, 0.2), "amount": (0.4, 0.4)}
        live(world, range(day * 700, day * 700 + 700), at(day), seed=day, rates=rates)
        look(world, at(day, minutes=10))
    rows = list(Decision.objects.order_by("look"))
    assert len(rows) >= 4
    assert [each.pk for each in rows if replay.replay(each)] == []
    assert [each.look for each in rows if each.plan] != [each.look for each in rows]


def test_a_stage_begun_before_plans_had_designs_goes_on_as_it_began(world: World):
    world.guard("failed")
    first = decided(world, at(1))
    assert first.plan["design"] == promotion.DESIGN
    del first.plan["design"]
    first.save()
    deciding._plans.clear()  # as after the upgrade's restart
    live(world, range(700), at(2), seed=1, rates=HEALTHY)
    second = decided(world, at(2, minutes=10))
    assert second.plan == {} or second.plan["design"] == 1
    assert recorded.material_of(second).plan.design == 1
    assert replay.replay(second) == []


def test_a_changed_record_does_not_replay(world: World):
    world.guard("failed", margin_rel=0.3)
    decision = play(world, HARMFUL)
    decision.evidence["look"]["cells"][0]["t"]["m"]["failed"] = 1
    decision.save()
    assert "decision" in {each.path for each in replay.replay(decision)}


def test_cells_of_two_arms_are_named_alike(world: World):
    world.guard("failed")
    live(world, range(200), at(1), seed=1, rates=HEALTHY)
    decision = decided(world, at(1, minutes=10))
    cells = decision.evidence["look"]["cells"]
    assert len(cells) == MetricCell.objects.filter(metric=None, latest=True).count() / 2
    assert cells[0]["t"]["n"] + cells[0]["c"]["n"] == 200


def test_a_waiver_that_nobody_signed_waives_nothing(world: World):
    Stage.objects.filter(pk=world.stage.pk).update(waiver="written before waivers were signed")
    decision = decided(world, at(4))
    assert (decision.decision, decision.code) == (Verdict.HOLD, "waiver_unsigned")
    assert not replay.replay(decision)
    world.stage.refresh_from_db()
    stages.save_stage(world.rollout, {"waiver": world.stage.waiver}, by=ANN, stage=world.stage)
    assert decided(world, at(4, minutes=61)).decision == Verdict.PROMOTE


def test_no_stage_is_entered_on_a_waiver_that_nobody_signed(world: World):
    Stage.objects.filter(pk=world.last.pk).update(waiver_by="")
    with pytest.raises(StateError, match="nobody signed its waiver"):
        rollouts.promote(world.rollout, by=ANN, reason="go", stage=world.stage)
    fresh = Rollout.objects.create(flag=world.flag, slot=2, salt="other")
    Stage.objects.create(rollout=fresh, order=1, key="one", waiver="an old text")
    for step in (rollouts.submit, rollouts.start):
        with pytest.raises(StateError, match="nobody signed its waiver"):
            step(fresh, by=ANN, reason="go")
