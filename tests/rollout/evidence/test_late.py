"""A stage's users are watched after it was left: their late outcomes can still roll back."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from huidu.engine import bucketing
from rollout import tasks_evidence
from rollout.models import Arm, Decision, Exposure, MetricCell, Rollout, Stage
from rollout.services import evidence, late, replay
from rollout.services.review import Reviewed, roll_up_and_review
from tests.rollout.evidence.conftest import World, at, complete, live, outcome
from tests.rollout.evidence.test_ticks import stand_still

USERS = range(1_200)
LEFT = at(4)


def widen(world: World, share_ppm: int = 600_000, moment: datetime = LEFT) -> None:
    """The next stage runs, with this share of the same draw."""
    Stage.objects.filter(pk=world.stage.pk).update(status=Stage.Status.DONE, left_at=moment)
    Stage.objects.filter(pk=world.last.pk).update(
        status=Stage.Status.RUNNING,
        entered_at=moment,
        drawn_at=moment,
        share_ppm=share_ppm,
        threshold=bucketing.threshold_of(share_ppm),
    )
    Rollout.objects.filter(pk=world.rollout.pk).update(current=world.last)
    world.stage.refresh_from_db()


def overdue(world: World, treated: float, control: float, moment: datetime, seed: int = 7) -> None:
    """Users of the first stage become overdue with these chances."""
    draw = random.Random(seed)
    chance = {Arm.TREATED.value: treated, Arm.CONTROL.value: control}
    hit = [
        outcome(user, "overdue", moment)
        for user, arm in Exposure.objects.order_by("pk").values_list("user_id", "arm")
        if draw.random() < chance[arm]
    ]
    world.send(*hit, complete("overdue", moment), now=moment)


def look(world: World, moment: datetime) -> Reviewed:
    found = roll_up_and_review(world.stage.pk, now=moment)
    assert found is not None
    return found


@pytest.fixture
def left(world: World, monkeypatch: Any) -> World:
    """A stage of 50 % with an early, even trickle of overdue loans, left on day 4 for 60 %."""
    world.guard("overdue", "binary_delayed", margin_rel=0.5)
    live(world, USERS, at(1), seed=1, rates={"overdue": (0.02, 0.02)})
    # Written now, but of day 1.
    Exposure.objects.update(recorded_at=at(1))
    look(world, at(1, minutes=10))
    widen(world)
    return world


def test_late_harm_of_an_earlier_stages_users_rolls_back_whatever_runs_now(left: World):
    overdue(left, 0.2, 0.05, at(9))
    found = look(left, at(9, minutes=10))
    assert (found.decision.decision, found.decision.metric) == ("roll_back", "overdue")
    assert found.acted
    left.rollout.refresh_from_db()
    assert left.rollout.status == Rollout.Status.ROLLED_BACK
    assert replay.replay(found.decision) == []


def test_late_outcomes_that_are_alike_promote_nobody_and_roll_nothing_back(left: World):
    overdue(left, 0.1, 0.1, at(9))
    found = look(left, at(9, minutes=10))
    assert (found.decision.decision, found.decision.code) == ("hold", "stage_left")
    assert not found.acted
    left.rollout.refresh_from_db()
    assert left.rollout.status == Rollout.Status.RUNNING


def test_the_evidence_goes_on_and_the_budget_is_not_dealt_again(left: World):
    before = Decision.objects.latest("look")
    overdue(left, 0.05, 0.05, at(9))
    found = look(left, at(9, minutes=10)).decision
    earlier, later = (
        {cell["id"]: cell for cell in each.evidence["look"]["cells"]} for each in (before, found)
    )
    assert set(earlier) < set(later)
    for name, cell in earlier.items():  # what was known stays where it was
        assert later[name] == cell
    assert found.state_after["proofs"] == before.state_after["proofs"]
    assert found.outcome["readings"][0]["e_value"] != before.outcome["readings"][0]["e_value"]


def test_controls_whom_the_next_stage_reaches_leave_the_comparison(left: World):
    overdue(left, 1.0, 1.0, at(9))
    evidence.roll_up(left.stage, now=at(9, minutes=10))
    seed = bucketing.seed_of("salt")
    reached = bucketing.threshold_of(600_000)
    had = set(
        Exposure.objects.filter(stage=left.stage).values_list("user_id", flat=True)
    ) - still_without(left)
    kept = [
        (user, arm)
        for user, arm in Exposure.objects.values_list("user_id", "arm")
        if arm == Arm.TREATED or bucketing.seeded_bucket(seed, user) >= reached
    ]
    cells = MetricCell.objects.filter(stage=left.stage, epoch__gte=late.LATE, latest=True)
    for arm in Arm.values:
        mine = [user for user, of in kept if of == arm]
        assert cells.get(arm=arm, metric=None).users == len(mine)
        # Whoever had an event before is not counted a second time.
        new = [user for user in mine if user not in had]
        assert cells.get(arm=arm, metric__key="overdue").sums == [len(new)]
    plan = look(left, at(9, minutes=20)).decision.plan
    (cell,) = (each for each in plan["cells"] if each["again"])
    treated = sum(arm == Arm.TREATED for _, arm in kept)
    assert cell["rho"] == pytest.approx(treated / len(kept))


def still_without(world: World) -> set[str]:
    """Users without an event before the stage was left."""
    from rollout.models import OutcomeEvent

    early = OutcomeEvent.objects.filter(metric="overdue", at__lt=LEFT, user_id__gt="")
    users = set(Exposure.objects.values_list("user_id", flat=True))
    return users - set(early.values_list("user_id", flat=True))


def test_counting_everything_again_gives_the_same_cells(left: World):
    overdue(left, 0.1, 0.1, at(6), seed=1)
    evidence.roll_up(left.stage, now=at(6))
    widen_again = bucketing.threshold_of(800_000)
    Stage.objects.filter(pk=left.last.pk).update(status=Stage.Status.DONE, left_at=at(8))
    Stage.objects.create(
        rollout=left.rollout, order=3, key="more", status="running", entered_at=at(8),
        drawn_at=at(8), share_ppm=800_000, threshold=widen_again, waiver="a test", waiver_by="ann",
    )  # fmt: skip
    overdue(left, 0.1, 0.1, at(9), seed=2)
    evidence.roll_up(left.stage, now=at(9))
    first = cells_of(left)
    assert {epoch for _, epoch, *_ in first} == {0, late.LATE, 2 * late.LATE}
    evidence.recompute(left.stage, now=at(9))
    assert cells_of(left) == first


def cells_of(world: World) -> set[tuple[Any, ...]]:
    rows = MetricCell.objects.filter(stage=world.stage, latest=True)
    return {
        (row.metric_id, row.epoch, row.arm, row.stratum, row.chance_ppb, row.users, *row.sums)
        for row in rows
    }


def test_after_everybody_was_shown_it_there_is_nobody_to_compare_with(left: World):
    Stage.objects.filter(pk=left.last.pk).update(
        share_ppm=1_000_000, threshold=bucketing.threshold_of(1_000_000)
    )
    overdue(left, 0.3, 0.1, at(9))
    assert look(left, at(9, minutes=10)).decision.code == "stage_left"


def test_the_tick_reviews_stages_that_were_left_for_sixty_days(
    left: World, monkeypatch: pytest.MonkeyPatch
):
    stand_still(monkeypatch)
    now = timezone.now()
    Stage.objects.filter(pk=left.stage.pk).update(left_at=now - timedelta(days=59))
    assert tasks_evidence.review_left_stages() == {"hold": 1}
    assert tasks_evidence.review_left_stages() == {}  # no look is due
    Stage.objects.filter(pk=left.stage.pk).update(left_at=now - timedelta(days=61))
    assert not Stage.objects.filter(late.watched(now)).exists()
