"""What keeps a decision from being carried out: a dry run, and funds that are used up."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.utils import timezone

from huidu.errors import StateError
from rollout.models import Decision, Flag, FundingPartner, Gate, Rollout, Stage
from rollout.services import capacity, changes, dry_run, evidence, review
from rollout.services.audit import ENGINE, Actor
from rollout.services.changing import ApprovalNeededError
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.evidence.conftest import World, at, live, outcome
from tests.rollout.evidence.test_review import HARMFUL, codes, decided

pytestmark = pytest.mark.django_db(transaction=True)


def room(stage: Stage, now: datetime) -> bool:
    return capacity.capacity_left(stage, evidence.guards_of(stage), now)


def test_a_dry_run_records_harm_and_moves_nothing_until_it_acts_again(world: World):
    world.guard("failed", margin_rel=0.3)
    dry_run.set_dry_run(world.rollout, True, by=ANN, reason="learning to trust it")
    live(world, range(1_600), at(1), seed=1, rates=HARMFUL)
    first = decided(world, at(1, minutes=10))
    assert (first.decision, first.acted, first.dry_run) == ("roll_back", False, True)
    world.rollout.refresh_from_db()
    assert world.rollout.status == Rollout.Status.RUNNING
    dry_run.set_dry_run(world.rollout, False, by=ANN, reason="now in earnest")
    decided(world, at(1, hours=2))
    world.rollout.refresh_from_db()
    assert world.rollout.status == Rollout.Status.ROLLED_BACK


def test_a_decision_is_not_carried_out_once_acting_was_switched_off(world: World):
    world.guard("failed", margin_rel=0.3)
    live(world, range(1_600), at(1), seed=1, rates=HARMFUL)
    dry_run.set_dry_run(world.rollout, True, by=ANN, reason="learning to trust it")
    first = decided(world, at(1, minutes=10))
    assert not review.act(first.pk)
    world.rollout.refresh_from_db()
    assert world.rollout.status == Rollout.Status.RUNNING


def test_nobody_passes_for_the_engine_by_a_name(django_user_model: type[AbstractBaseUser]):
    named_so = Actor.of_user(django_user_model(username="engine"))
    assert named_so != ENGINE
    with pytest.raises(ValidationError):
        django_user_model(username=ENGINE.person, password="x").full_clean()


def test_a_live_flag_takes_two_people_to_stop_or_resume_acting(world: World):
    Flag.objects.update(four_eyes=True)
    world.rollout.flag.refresh_from_db()
    with pytest.raises(ApprovalNeededError):
        dry_run.set_dry_run(world.rollout, True, by=ANN, reason="quietly")
    filed = changes.do_or_request(
        "rollout.dry_run",
        world.rollout.pk,
        {"dry_run": True},
        environment=PLACE,
        by=ANN,
        reason="learning",
    )
    assert filed is not None
    changes.approve(filed, by=BOB, note="fine")
    world.rollout.refresh_from_db()
    assert world.rollout.dry_run
    with pytest.raises(StateError, match="only decides"):
        dry_run.set_dry_run(world.rollout, True, by=ANN, reason="again", approved_by=BOB)


@pytest.mark.parametrize(("reading", "left"), [(0.4, True), (1.0, False), (1.2, False)])
def test_funds_in_use_hold_a_promotion_once_all_are_used(world: World, reading: float, left: bool):
    world.guard("failed")
    world.guard("funding_in_use", "gauge", maximum=1.0, role="stop")
    now = at(1)
    world.send(outcome(None, "funding_in_use", now, reading), now=now)
    assert room(world.stage, now) is left
    assert ("capacity_exhausted" in codes(decided(world, now))) is not left
    assert Decision.objects.get().decision == "hold"


def test_without_a_word_on_funds_nothing_is_held_for_them(world: World):
    assert room(world.stage, at(1))


def test_partners_without_a_place_hold_a_promotion(world: World):
    Gate.objects.create(
        flag=world.flag,
        order=9,
        key="funds",
        dimension="funding",
        why="funding.no_capacity",
        capacity=True,
    )
    assert not room(world.stage, timezone.now())
    FundingPartner.objects.create(
        flag=world.flag, key="bank", kind="state", is_open=True, everywhere=True, total_cap=10
    )
    assert room(Stage.objects.get(pk=world.stage.pk), timezone.now())
