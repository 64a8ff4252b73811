"""A widened share opens a new epoch: nobody is counted in two arms at once."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from cohorts.models import Draw
from rollout.models import Arm, Exposure, MetricCell
from rollout.services import evidence, widening
from rollout.services.audit import Actor
from tests.rollout.evidence.conftest import NOON, World, at, exposure, outcome

ANN = Actor(name="ann", person="ann")
USERS = [f"u{i}" for i in range(200)]


def keep_receipt(world: World) -> None:
    """What the draw of the first share left behind."""
    Draw.objects.create(
        subject="weilidai#1",
        slot=1,
        stage_key="some",
        salt="salt",
        share_ppm=500_000,
        population=0,
        n=0,
        threshold=world.stage.threshold,
        as_of=NOON,
        formula=1,
    )


def counted(world: World, epoch: int, metric: str | None) -> dict[str, int]:
    rows = MetricCell.objects.filter(stage=world.stage, latest=True, epoch=epoch)
    rows = rows.filter(metric__key=metric) if metric else rows.filter(metric=None)
    return {row.arm: row.users for row in rows}


def test_controls_of_a_smaller_share_are_enrolled_anew_and_their_old_arm_ends(world: World):
    world.guard("failed")
    keep_receipt(world)
    world.send(*(exposure(each, at(1)) for each in USERS))
    world.send(*(outcome(each, "failed", at(1)) for each in USERS))
    before = dict(Exposure.objects.values_list("user_id", "arm"))
    treated = sum(arm == Arm.TREATED for arm in before.values())

    widening.widen(world.stage, 1_000_000, by=ANN, reason="it went well")
    world.stage.refresh_from_db()
    later = timezone.now()
    result = world.send(*(exposure(each, later, f"y-{each}") for each in USERS), now=later)
    soon = later + timedelta(seconds=1)
    world.send(*(outcome(each, "failed", soon) for each in USERS), now=soon)
    evidence.roll_up(world.stage, now=soon)

    assert result.ignored == {"stage.earlier": treated}
    both = {Arm.TREATED: treated, Arm.CONTROL: 200 - treated}
    assert counted(world, 0, None) == counted(world, 0, "failed") == both
    assert counted(world, 1, None) == counted(world, 1, "failed") == {Arm.TREATED: 200 - treated}
    assert set(Exposure.objects.filter(epoch=1).values_list("chance_ppb", flat=True)) == {10**9}


def test_what_happens_after_widening_does_not_count_for_the_smaller_share(world: World):
    world.guard("failed")
    keep_receipt(world)
    world.send(*(exposure(each, at(1)) for each in USERS))
    widening.widen(world.stage, 1_000_000, by=ANN, reason="it went well")
    world.stage.refresh_from_db()
    later = timezone.now()
    world.send(*(outcome(each, "failed", later) for each in USERS), now=later)
    evidence.roll_up(world.stage, now=later)
    assert counted(world, 0, "failed") == {}
