"""A recount finds nothing on messy events, tells what somebody changed, and writes it on record."""

from __future__ import annotations

import random
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from rollout.models import AuditEntry, Exposure, MetricCell
from rollout.services import evidence
from rollout.services.audit import Actor
from rollout.services.recount import recount
from tests.rollout.evidence.conftest import World, at, exposure, outcome
from tests.rollout.evidence.test_cells import KINDS

ANN = Actor(name="ann", person="ann")


@pytest.fixture
def messy(world: World) -> World:
    """Events in any order, doubled, late, before their exposure, and of unknown users."""
    for key, values in KINDS.items():
        world.guard(key, **values)
    draw = random.Random(5)
    sent = [exposure(f"u{i}", at(draw.random() * 2)) for i in range(60)]
    for i in range(300):
        key = draw.choice(list(KINDS))
        value = round(draw.uniform(0, 80), 2)
        of = value + 1 if key == "errors" else None
        moment = at(draw.random() * 2)
        sent.append(outcome(f"u{i % 80}", key, moment, value, event_id=f"e{i}", denominator=of))
    sent += draw.sample(sent, 80)
    draw.shuffle(sent)
    for start in range(0, len(sent), 90):
        world.send(*sent[start : start + 90], now=at(3))
        if start % 180 == 0:
            evidence.roll_up(world.stage, now=at(3))
    return world


def test_steps_and_recount_agree_on_messy_events(messy: World):
    evidence.roll_up(messy.stage, now=at(3))
    before = MetricCell.objects.filter(stage=messy.stage).count()
    found = recount(messy.stage, now=at(3))
    assert found.differences == []
    assert found.cells == before > 10
    out = StringIO()
    call_command("recount_cells", "--all", stdout=out)
    assert "none differ" in out.getvalue()


def test_what_somebody_changed_is_told_and_written_only_when_asked(messy: World):
    evidence.roll_up(messy.stage, now=at(3))
    changed = MetricCell.objects.filter(stage=messy.stage, metric__key="calls", latest=True)
    row = changed.order_by("pk")[0]
    MetricCell.objects.filter(pk=row.pk).update(users=F("users") + 5)
    out = StringIO()
    with pytest.raises(CommandError, match="of 1 stages differ"):
        call_command("recount_cells", str(messy.stage.pk), stdout=out)
    assert f"kept {row.users + 5:,} users" in out.getvalue()
    assert f"recounted {row.users:,} users" in out.getvalue()
    assert f"calls {row.arm} weight 1" in out.getvalue()
    assert MetricCell.objects.get(pk=row.pk).users == row.users + 5
    with pytest.raises(CommandError, match="--by and --reason"):
        call_command("recount_cells", str(messy.stage.pk), "--apply")
    asked = ["--apply", "--by", "ann", "--reason", "a cell was edited by hand"]
    call_command("recount_cells", str(messy.stage.pk), *asked, stdout=out)
    assert recount(messy.stage, now=at(3)).differences == []
    entry = AuditEntry.objects.get(action="cells.recounted")
    assert entry.reason == "a cell was edited by hand"
    assert entry.after is not None
    assert entry.after["differences"] == 1


def test_users_erased_since_are_a_difference_that_is_told(messy: World):
    evidence.roll_up(messy.stage, now=at(3))
    Exposure.objects.filter(user_id="u1").delete()
    found = recount(messy.stage, now=at(3))
    assert {"", "calls"} & {each.place.metric for each in found.differences}


def test_a_stage_that_was_never_entered_is_refused(world: World):
    with pytest.raises(CommandError, match="expected the number of an entered stage"):
        call_command("recount_cells", str(world.last.pk))
