"""A rollout's journey: one step at a time, by two people where more users would see it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from django.db import connection
from redis import Redis

from huidu.engine import compile_snapshot
from huidu.errors import StateError
from huidu.model import FULL_THRESHOLD, User
from huidu.wire import names
from huidu.wire import snapshot as wire
from rollout.models import AuditEntry, Flag, Rollout, Stage
from rollout.services import changes, compliance, flags, metrics, rollouts, stages, steps
from rollout.services.audit import ENGINE
from rollout.services.changing import ApprovalNeededError
from tests.rollout.conftest import ANN, BOB, PLACE, add_stage, start
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)
Status = Rollout.Status


def visible(redis: Redis, user: str = "u1") -> bool:
    blob = redis.get(names.snapshot(PLACE))
    assert isinstance(blob, bytes)
    return compile_snapshot(wire.decode(blob)).check("weilidai", User(user, {})).visible


def at_once(*acts: Callable[[], Any]) -> list[Exception | None]:
    """Run the acts at the same moment, each on its own connection."""
    barrier = Barrier(len(acts))
    results: list[Exception | None] = [None] * len(acts)

    def run(index: int, act: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            act()
        except Exception as error:
            results[index] = error
        finally:
            connection.close()

    threads = [Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_nobody_is_shown_a_draft(draft: Rollout, redis: Redis):
    assert not visible(redis)


def test_a_rollout_starts_after_a_second_person_approved(draft: Rollout, redis: Redis):
    rollouts.submit(draft, by=ANN, reason="ready")
    with pytest.raises(ApprovalNeededError):
        rollouts.start(draft, by=ANN, reason="go")
    with pytest.raises(ApprovalNeededError):
        rollouts.approve(draft, by=ANN, reason="I like it")
    rollouts.approve(draft, by=BOB, reason="read it")
    rollouts.start(draft, by=ANN, reason="go")
    assert draft.status == Status.RUNNING
    assert visible(redis)


def test_unsigned_compliance_items_block_the_start(draft: Rollout):
    item = compliance.save_item(draft.flag, {"key": "filing", "text_zh": "备案"}, by=ANN)
    with pytest.raises(StateError, match="filing") as refused:
        start(draft)
    assert refused.value.code == "compliance.unsigned"
    compliance.sign(item, by=BOB, reason="seen the certificate")
    rollouts.start(draft, by=ANN, reason="go")


def test_an_item_changed_after_its_signature_must_be_signed_again(flag: Flag):
    item = compliance.save_item(flag, {"key": "filing", "text_zh": "备案"}, by=ANN)
    item = compliance.sign(item, by=BOB, reason="seen it")
    item = compliance.save_item(flag, {"text_zh": "备案（新）"}, by=ANN, item=item)
    assert item.signed_by == ""


def test_each_promotion_enters_the_next_stage_and_the_last_completes(running: Rollout):
    keys = []
    while running.status == Status.RUNNING:
        assert running.current is not None
        keys.append(running.current.key)
        rollouts.promote(running, by=ENGINE, reason="proven")
    assert keys == ["internal", "some", "all"]
    assert running.status == Status.COMPLETED
    assert not Stage.objects.filter(status=Stage.Status.RUNNING).exists()


def test_two_workers_promote_one_stage_once(running: Rollout):
    stage = running.current
    other = Rollout.objects.get(pk=running.pk)
    results = at_once(
        lambda: rollouts.promote(running, by=ENGINE, reason="proven", stage=stage),
        lambda: rollouts.promote(other, by=ENGINE, reason="proven", stage=stage),
    )
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, StateError) for result in results) == 1
    assert Rollout.objects.get(pk=running.pk).current.key == "some"
    assert AuditEntry.objects.filter(action="rollout.promoted").count() == 1


def test_two_rollouts_of_one_flag_are_never_in_effect_together(draft: Rollout):
    second = rollouts.create(draft.flag, by=ANN)
    add_stage(second, 0, "only")
    for each in (draft, second):
        rollouts.submit(each, by=ANN, reason="ready")
        rollouts.approve(each, by=BOB, reason="read it")
    results = at_once(
        lambda: rollouts.start(draft, by=ANN, reason="go"),
        lambda: rollouts.start(second, by=ANN, reason="go"),
    )
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, StateError) for result in results) == 1
    assert Rollout.objects.filter(status=Status.RUNNING).count() == 1


def test_late_evidence_about_an_earlier_stage_moves_nothing(running: Rollout):
    first = running.current
    rollouts.promote(running, by=ENGINE, reason="proven", stage=first)
    with pytest.raises(StateError):
        rollouts.promote(running, by=ENGINE, reason="proven", stage=first)
    with pytest.raises(StateError):
        rollouts.rollback(running, by=ENGINE, reason="harm", stage=first)
    assert Rollout.objects.get(pk=running.pk).status == Status.RUNNING


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        (rollouts.pause, "draft"),
        (rollouts.rollback, "draft"),
        (rollouts.submit, "running"),
        (rollouts.reject, "running"),
        (rollouts.start, "running"),
        (rollouts.pause, "rolled_back"),
        (rollouts.rollback, "rolled_back"),
        (rollouts.hold, "rolled_back"),
    ],
)
def test_a_step_from_the_wrong_state_is_refused_and_logged_nowhere(
    draft: Rollout, step: Callable[..., Any], wrong: str
):
    if wrong != "draft":
        start(draft)
    if wrong == "rolled_back":
        rollouts.rollback(draft, by=ANN, reason="harm")
    before = AuditEntry.objects.count()
    with pytest.raises(StateError):
        step(draft, by=ANN, reason="try")
    assert AuditEntry.objects.count() == before


def test_a_paused_rollout_keeps_everybody_and_goes_on_with_two_people(
    running: Rollout, redis: Redis
):
    rollouts.pause(running, by=ANN, reason="lunch")
    assert visible(redis)
    with pytest.raises(ApprovalNeededError):
        rollouts.resume(running, by=ANN, reason="back")
    rollouts.resume(running, by=ANN, reason="back", approved_by=BOB)
    assert running.status == Status.RUNNING


def test_a_rollback_waits_for_nobody_and_hides_from_everybody(running: Rollout, redis: Redis):
    rollouts.rollback(running, by=ANN, reason="harm")
    assert not visible(redis)
    assert running.ended_reason == "harm"


def test_a_held_stage_is_promoted_only_with_a_persons_approval(running: Rollout):
    rollouts.hold(running, by=ANN, reason="holiday")
    with pytest.raises(ApprovalNeededError):
        rollouts.promote(running, by=ENGINE, reason="proven")
    rollouts.approve_stage(running.current, by=BOB, reason="holiday is over")
    rollouts.promote(running, by=ENGINE, reason="proven")


def test_every_step_needs_a_reason(running: Rollout):
    with pytest.raises(Exception, match="says why"):
        rollouts.pause(running, by=ANN, reason="  ")


def test_a_stage_for_its_whole_audience_admits_everybody_without_a_draw(running: Rollout):
    stage = running.current
    assert stage is not None
    assert int(stage.threshold) == FULL_THRESHOLD


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"share_ppm": 10}, id="smaller share"),
        pytest.param({"weights": [{"rule": {}, "weight": 3}]}, id="other weights"),
        pytest.param({"order": 7}, id="another place"),
        pytest.param({"alpha_rollback": 0.2}, id="another error budget"),
        pytest.param({"key": "renamed"}, id="another key"),
    ],
)
def test_what_an_entered_stages_users_were_drawn_by_does_not_change(
    running: Rollout, change: dict[str, Any]
):
    stage = running.current
    assert stage is not None
    with pytest.raises(StateError):
        stages.save_stage(running, change, by=ANN, stage=stage, approved_by=BOB)
    stage.refresh_from_db()
    assert stage.share_ppm == 1_000_000


def test_guards_are_fixed_when_their_stage_starts(running: Rollout):
    metric = metrics.save_metric(
        PLACE, {"key": "complaint", "kind": "binary", "harm": "increase"}, by=ANN
    )
    with pytest.raises(StateError, match="move the goal"):
        stages.save_guard(running.current, metric, {"margin_rel": 0.1}, by=ANN, approved_by=BOB)


def test_a_minimum_stay_may_grow_but_not_shrink(running: Rollout):
    stage = running.current
    assert stage is not None
    longer = {"minimum_stay": timedelta(days=3)}
    stage = stages.save_stage(running, longer, by=ANN, stage=stage, approved_by=BOB)
    with pytest.raises(StateError, match="not shrink"):
        stages.save_stage(
            running, {"minimum_stay": timedelta(0)}, by=ANN, stage=stage, approved_by=BOB
        )


def test_an_approved_request_promotes_only_the_stage_it_was_about(running: Rollout):
    payload = {"stage": running.current_id}
    filed = changes.do_or_request(
        "rollout.promote", running.pk, payload, environment=PLACE, by=ANN, reason="trust me"
    )
    assert filed is not None
    rollouts.promote(running, by=ENGINE, reason="proven")
    with pytest.raises(StateError):
        changes.approve(filed, by=BOB)
    filed.refresh_from_db()
    assert filed.status == "pending"
    assert Rollout.objects.get(pk=running.pk).current.key == "some"


def test_a_stage_planned_while_running_comes_after_the_current_one(running: Rollout):
    with pytest.raises(StateError, match="expected an order above"):
        stages.save_stage(running, {"order": 0, "key": "early"}, by=ANN, approved_by=BOB)


def test_a_killed_rollout_comes_back_paused(running: Rollout, redis: Redis):
    flags.kill(running.flag, by=ANN, reason="fire")
    running.refresh_from_db()
    assert running.status == Status.KILLED
    assert not visible(redis)
    with pytest.raises(ApprovalNeededError):
        flags.resume(running.flag, by=ANN, reason="out")
    flags.resume(running.flag, by=ANN, reason="out", approved_by=BOB)
    running.refresh_from_db()
    assert running.status == Status.PAUSED
    assert visible(redis)


def test_a_kill_beats_a_promotion_at_the_same_moment(running: Rollout, redis: Redis):
    at_once(
        lambda: flags.kill(running.flag, by=BOB, reason="fire"),
        lambda: rollouts.promote(running, by=ENGINE, reason="proven"),
    )
    assert Flag.objects.get(pk=running.flag_id).killed
    assert not visible(redis)


def test_a_kill_does_not_wait_for_a_step_that_takes_long(running: Rollout):
    drawing, killed = Event(), Event()
    faults: list[Exception] = []

    def slow_step() -> None:
        try:
            with steps.step(running, "promoted", ENGINE, "proven"):
                drawing.set()
                assert killed.wait(PATIENCE)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    thread = Thread(target=slow_step)
    thread.start()
    assert drawing.wait(PATIENCE)
    assert flags.kill(Flag.objects.get(pk=running.flag_id), by=BOB, reason="fire").reached_nodes
    killed.set()
    thread.join()
    assert [getattr(fault, "code", "") for fault in faults] == ["state.killed"]
