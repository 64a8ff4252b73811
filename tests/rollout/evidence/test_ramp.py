"""A micro-ramp: the share grows inside one stage, users stay, evidence is neither lost nor reused;
and a full release that holds a few users back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from cohorts.models import Profile
from huidu import reasons
from huidu.engine import bucketing
from huidu.errors import InputError, StateError
from rollout.models import Arm, AuditEntry, Decision, Exposure, Rollout, Stage
from rollout.services import changes, replay, review, rollouts, stages, widening
from rollout.services.audit import ENGINE, Actor
from rollout.services.changing import ApprovalNeededError
from tests.rollout.conftest import ANN, BOB
from tests.rollout.evidence.conftest import NOON, World, at, exposure, live
from tests.rollout.evidence.test_review import decided, published_answer
from tests.rollout.evidence.test_widening import keep_receipt

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = [
    {"share_ppm": 400_000, "after_minutes": 1_440, "users": 50},
    {"share_ppm": 800_000, "after_minutes": 1_440},
]
HEALTHY = {"failed": (0.2, 0.2)}
FIRST = 200_000


@pytest.fixture
def ramped(transactional_db: None) -> World:
    world = World(FIRST, ramp=STEPS)
    world.guard("failed", margin_rel=0.3)
    keep_receipt(world)
    Profile.objects.bulk_create(Profile(user_id=f"u{i}", updated_at=NOON) for i in range(1_000))
    return world


def share(world: World) -> int:
    world.stage.refresh_from_db()
    return int(world.stage.share_ppm)


def look(world: World, moment: datetime) -> Decision:
    """A look whose widening, if any, counts as made at that moment: the clock is given."""
    decision = decided(world, moment)
    Stage.objects.filter(pk=world.stage.pk, drawn_at__gt=moment).update(drawn_at=moment)
    return decision


def test_the_share_grows_when_its_time_is_over_and_nothing_speaks_against_it(ramped: World):
    live(ramped, range(500), at(hours=1), seed=1, rates=HEALTHY)
    early = look(ramped, at(hours=2))
    assert (share(ramped), early.acted) == (FIRST, False)
    assert [each["code"] for each in early.ramp["answer"]["missing"]] == ["ramp_time"]

    live(ramped, range(500, 520), at(1, minutes=1), seed=2, rates=HEALTHY)
    grown = look(ramped, at(1, minutes=5))
    assert (share(ramped), ramped.stage.epoch) == (400_000, 1)
    assert (grown.decision, grown.acted) == ("hold", True)
    assert "ramp_unfinished" in {each["code"] for each in grown.reasons}
    assert replay.replay(grown) == []
    entry = AuditEntry.objects.get(action="rollout.stage_widened")
    assert (entry.actor, f"decision {grown.pk}" in entry.reason) == (ENGINE.name, True)


def test_silence_is_no_consent_to_a_larger_share(ramped: World):
    live(ramped, range(500), at(hours=1), seed=1, rates={})
    decision = look(ramped, at(1, minutes=5))
    assert share(ramped) == FIRST
    assert {each["code"] for each in decision.ramp["answer"]["missing"]} == {"no_data"}


def test_users_stay_and_no_share_reuses_the_evidence_of_another(ramped: World):
    live(ramped, range(500), at(1, minutes=1), seed=1, rates=HEALTHY)
    before = set(Exposure.objects.filter(arm=Arm.TREATED).values_list("user_id", flat=True))
    look(ramped, at(1, minutes=5))
    old = bucketing.threshold_of(FIRST)
    assert int(ramped.stage.threshold or 0) >= old
    assert before
    again = timezone.now()  # the wider share is published now, whatever the stage's clock says
    result = ramped.send(
        *(exposure(each, again, f"y-{each}") for each in sorted(before)), now=again
    )
    assert result.ignored == {"stage.earlier": len(before)}
    assert not Exposure.objects.filter(epoch=1, user_id__in=before).exists()
    state = Decision.objects.latest("look").state_after
    assert set(state["users"])  # the budget's state goes on: one chain of looks, never begun anew


def test_a_draw_that_moves_no_threshold_begins_no_new_epoch(ramped: World):
    Profile.objects.all().delete()  # nobody is known, so the larger share reaches no further
    live(ramped, range(500), at(1, minutes=1), seed=1, rates=HEALTHY)
    look(ramped, at(1, minutes=5))
    assert (share(ramped), ramped.stage.epoch) == (400_000, 0)
    users = [f"u{i}" for i in range(500)]
    result = ramped.send(*(exposure(each, timezone.now(), f"y-{each}") for each in users))
    assert result.duplicates == 500


def test_a_promotion_waits_for_the_whole_ramp(ramped: World):
    for day in (1, 2, 3, 4):
        live(ramped, range(day * 800, day * 800 + 800), at(day), seed=day, rates=HEALTHY)
        review.roll_up_and_review(ramped.stage.pk, now=at(day, minutes=10))
        Stage.objects.filter(pk=ramped.stage.pk).update(
            drawn_at=at(day, minutes=10), share_ppm=FIRST
        )
    last = Decision.objects.latest("look")
    assert last.decision == "hold"
    assert "ramp_unfinished" in {each["code"] for each in last.reasons}


def test_two_reviewers_and_a_killed_one_take_one_step(ramped: World):
    live(ramped, range(500), at(1, minutes=1), seed=1, rates=HEALTHY)
    decision = look(ramped, at(1, minutes=5))
    assert not review.grow(decision)
    Decision.objects.filter(pk=decision.pk).update(acted=False)
    decision.refresh_from_db()
    assert not review.grow(decision)  # the share it saw is gone
    assert share(ramped) == 400_000


def test_a_dry_run_decides_and_moves_nothing(ramped: World):
    Stage.objects.filter(pk=ramped.stage.pk).update(dry_run=True)
    live(ramped, range(500), at(1, minutes=1), seed=1, rates=HEALTHY)
    decision = look(ramped, at(1, minutes=5))
    assert decision.ramp["answer"]["grows"]
    assert (decision.acted, decision.dry_run, share(ramped)) == (False, True, FIRST)


def test_the_engine_takes_planned_steps_only(ramped: World):
    with pytest.raises(StateError, match="no step of the ramp"):
        widening.widen(ramped.stage, 900_000, by=ENGINE, reason="more")


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"ramp": "soon"}, "ramp"),
        ({"ramp": [{"share_ppm": 1_000}]}, "ramp"),
        ({"ramp": [{"share_ppm": 50, "after_minutes": 60}]}, "ramp[0].share_ppm"),
        ({"ramp": [{"share_ppm": 2_000_000, "after_minutes": 60}]}, "ramp[0].share_ppm"),
        ({"ramp": [{"share_ppm": 5_000, "after_minutes": 0}]}, "ramp[0].after_minutes"),
        ({"ramp": [{"share_ppm": 5_000, "after_minutes": 9e9}]}, "ramp"),
        ({"ramp": [{"share_ppm": 5_000, "after_minutes": 60, "users": -1}]}, "ramp[0].users"),
        ({"holdback": True}, "holdback"),
        ({"holdback": True, "share_ppm": 1_000_000}, "holdback"),
    ],
)
def test_an_odd_ramp_is_refused_with_its_place(draft: Rollout, values: Any, path: str):
    stage = draft.stages.get(key="some")
    with pytest.raises(InputError) as caught:
        stages.save_stage(draft, {"share_ppm": 1_000, **values}, by=ANN, stage=stage)
    assert caught.value.path == path


@pytest.fixture
def released(transactional_db: None) -> World:
    """The last stage: 95 % of everybody, the rest held back."""
    world = World(950_000, holdback=True)
    world.last.delete()
    world.guard("failed", margin_rel=0.9)
    world.publish()
    return world


def held_back_user(world: World) -> str:
    names = (f"u{i}" for i in range(10_000))
    return next(each for each in names if not published_answer(each).visible)


def test_who_is_held_back_is_told_so_and_stays_the_control(released: World):
    user = held_back_user(released)
    assert published_answer(user).why == reasons.STAGE_HELD_BACK
    released.send(exposure(user, at(1)))
    assert Exposure.objects.get().arm == Arm.CONTROL


def test_evidence_does_not_end_with_the_release(released: World):
    user = held_back_user(released)
    rollouts.promote(released.rollout, by=ANN, reason="all is well")
    released.rollout.refresh_from_db()
    assert released.rollout.status == Rollout.Status.COMPLETED
    released.publish()
    assert released.send(exposure(user, at(5))).ignored == {}
    assert Exposure.objects.get().arm == Arm.CONTROL


def test_a_holdback_is_released_by_a_change_another_person_approves(released: World):
    user = held_back_user(released)
    rollouts.promote(released.rollout, by=ANN, reason="all is well")
    released.flag.four_eyes = True
    released.flag.save()
    released.rollout.refresh_from_db()
    released.rollout.flag.refresh_from_db()
    with pytest.raises(ApprovalNeededError):
        widening.release_holdback(released.rollout, by=ANN, reason="it is time")
    filed = changes.do_or_request(
        "rollout.release_holdback",
        released.rollout.pk,
        {},
        environment="production",
        by=ANN,
        reason="it is time",
    )
    assert filed is not None
    changes.approve(filed, by=BOB, note="agreed")
    assert published_answer(user).visible
    with pytest.raises(StateError, match="nobody back"):
        widening.release_holdback(
            released.rollout, by=ANN, reason="again", approved_by=Actor("bob", "bob")
        )


def test_a_waiver_is_signed_by_who_wrote_it(draft: Rollout):
    stage = draft.stages.get(key="some")
    saved = stages.save_stage(draft, {"waiver": "staff only"}, by=BOB, stage=stage)
    assert saved.waiver_by == "bob"
    cleared = stages.save_stage(draft, {"waiver": ""}, by=ANN, stage=saved)
    assert cleared.waiver_by == ""
    assert timedelta(0) <= cleared.minimum_stay
