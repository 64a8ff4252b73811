"""Draws from millions: a worker draws, then the step is taken as it was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from cohorts.models import Admission, Draw, DrawJob, DrawPart
from cohorts.services import admissions, draw_jobs
from cohorts.services.verify import verify
from huidu.errors import StateError
from rollout.models import AuditEntry, Rollout, Stage
from rollout.services import drawn_steps, flags, rollouts, widening
from tests.rollout.admin import world
from tests.rollout.admin.test_writes import logged_in

pytestmark = pytest.mark.django_db
WHY = "evidence is good"


@pytest.fixture
def bank(redis: object, monkeypatch: pytest.MonkeyPatch) -> world.World:
    bank = world.build(60)
    rollouts.promote(bank.rollout, by=world.WANG, reason=WHY, approved_by=world.LI)
    bank.stage = Rollout.objects.get(pk=bank.rollout.pk).current
    monkeypatch.setattr(draw_jobs, "AT_ONCE", 10)
    monkeypatch.setattr(draw_jobs, "PART", 25)
    return bank


def widen(bank: world.World, share_ppm: int = 600_000) -> Stage:
    return widening.widen(bank.stage, share_ppm, by=world.WANG, reason=WHY, approved_by=world.LI)


def job() -> DrawJob:
    return DrawJob.objects.latest("pk")


def admitted(slot: int) -> set[str]:
    rows = Admission.objects.filter(slot=slot, admitted=True)
    return set(rows.values_list("user_id", flat=True))


def test_nothing_changes_before_the_draw_is_done_and_everything_after(bank: world.World) -> None:
    before = Stage.objects.get(pk=bank.stage.pk)
    inside = admitted(bank.rollout.slot)
    widen(bank)
    assert job().state == "judging"
    stage = Stage.objects.get(pk=bank.stage.pk)
    assert (stage.share_ppm, stage.threshold, stage.epoch) == (
        before.share_ppm,
        before.threshold,
        before.epoch,
    )
    assert admitted(bank.rollout.slot) == inside
    assert drawn_steps.take_ready() == 0
    draw_jobs.carry_on()
    assert (job().state, job().judged) == ("ready", job().users)
    assert drawn_steps.take_ready() == 1
    stage = Stage.objects.get(pk=bank.stage.pk)
    receipt = Draw.objects.latest("pk")
    assert (stage.share_ppm, stage.epoch) == (600_000, before.epoch + 1)
    assert (stage.drawn, stage.population) == (receipt.n, receipt.population)
    assert receipt.n == round(0.6 * receipt.population)
    draw_jobs.carry_on()
    assert job().state == "done"
    assert not DrawPart.objects.exists()
    assert inside <= admitted(bank.rollout.slot)
    assert len(admitted(bank.rollout.slot)) == receipt.n
    found = verify(receipt)
    assert (found.faults, found.repeated) == ([], True)
    entry = AuditEntry.objects.get(action="rollout.stage_widened")
    assert (entry.actor, entry.reason) == (world.WANG.name, WHY)
    assert AuditEntry.objects.filter(action="rollout.draw_begun").count() == 1


def test_a_draw_goes_on_where_it_was_killed(
    bank: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    widen(bank)
    assert draw_jobs.carry_on(seconds=0) == 25
    real = draw_jobs.draws.standing
    calls: list[Any] = []

    def killed(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(draw_jobs.draws, "standing", killed)
        with pytest.raises(KeyboardInterrupt):
            draw_jobs.carry_on()
    assert job().judged == 25
    draw_jobs.carry_on()
    drawn_steps.take_ready()
    draw_jobs.carry_on(seconds=0)
    assert job().state == "remembering"
    with pytest.raises(StateError, match="still being written down"):
        widen(bank, 900_000)
    draw_jobs.carry_on()
    assert verify(Draw.objects.latest("pk")).repeated


def test_users_shown_meanwhile_count_among_the_drawn(bank: world.World) -> None:
    widen(bank)
    draw_jobs.carry_on()
    outside = DrawPart.objects.order_by("pk")[0].users.split("\n")
    stranger = next(each for each in outside if each not in admitted(bank.rollout.slot))
    admissions.admit(bank.rollout.slot, [stranger])
    drawn_steps.take_ready()
    draw_jobs.carry_on()
    receipt = Draw.objects.latest("pk")
    assert stranger in admitted(bank.rollout.slot)
    assert len(admitted(bank.rollout.slot)) == receipt.n == round(0.6 * receipt.population)


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        ("roll back", "not running"),
        ("kill", "not running"),
        ("change a weight", "changed while it was drawn"),
    ],
)
def test_a_draw_is_in_vain_when_the_rollout_moved_on(
    bank: world.World, meanwhile: str, words: str
) -> None:
    widen(bank)
    draw_jobs.carry_on()
    if meanwhile == "roll back":
        rollouts.rollback(bank.rollout, by=world.WANG, reason="harm")
    elif meanwhile == "kill":
        flags.kill(bank.flag, by=world.WANG, reason="harm")
    else:
        rule = {">": [{"var": "age"}, 40]}
        Stage.objects.filter(pk=bank.stage.pk).update(weights=[{"rule": rule, "weight": 2}])
    before = Stage.objects.get(pk=bank.stage.pk).threshold
    assert drawn_steps.take_ready() == 0
    assert job().state == "failed"
    assert words in job().problem
    assert Stage.objects.get(pk=bank.stage.pk).threshold == before
    assert not DrawPart.objects.exists()


def test_one_draw_at_a_time_and_a_cancelled_one_leaves_nothing(bank: world.World) -> None:
    widen(bank)
    widen(bank)  # asked for twice, drawn once
    assert DrawJob.objects.count() == 1
    with pytest.raises(StateError, match="wait or cancel"):
        widen(bank, 700_000)
    draw_jobs.cancel(job())
    draw_jobs.carry_on()
    assert (job().state, DrawPart.objects.count()) == ("cancelled", 0)
    with pytest.raises(StateError):
        draw_jobs.cancel(job())
    widen(bank, 700_000)
    assert job().share_ppm == 700_000


def test_a_stage_for_everybody_and_a_small_population_are_drawn_at_once(
    bank: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw_jobs, "AT_ONCE", 1_000)
    assert widen(bank).share_ppm == 600_000
    monkeypatch.setattr(draw_jobs, "AT_ONCE", 10)
    assert widen(bank, 1_000_000).share_ppm == 1_000_000
    assert not DrawJob.objects.exists()


def test_a_promotion_waits_for_its_draw(bank: world.World) -> None:
    rollout = Rollout.objects.get(pk=bank.rollout.pk)
    following = rollout.stages.filter(order__gt=bank.stage.order).first()
    assert following is not None
    Stage.objects.filter(pk=following.pk).update(share_ppm=900_000)
    rollouts.promote(rollout, by=world.WANG, reason=WHY, approved_by=world.LI)
    assert Rollout.objects.get(pk=rollout.pk).current_id == bank.stage.pk
    draw_jobs.carry_on()
    assert drawn_steps.take_ready() == 1
    assert Rollout.objects.get(pk=rollout.pk).current_id == following.pk


def test_the_page_tells_how_far_a_draw_is_and_cancels_it(bank: world.World) -> None:
    client = logged_in(world.people()[0])
    url = reverse("admin:rollout_rollout_change", args=(bank.rollout.pk,))
    widen(bank)
    draw_jobs.carry_on(seconds=0)
    page = client.get(url).content.decode()
    assert "25 of 60 users are judged" in page
    act = reverse("admin:rollout_rollout_act", args=(bank.rollout.pk, "cancel_draw"))
    assert act in page
    assert client.post(act, {"reason": "a mistake"}).status_code == 302
    assert 'id="drawing"' not in client.get(url).content.decode()
    assert job().state == "cancelled"
