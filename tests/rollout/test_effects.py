"""What an edit would do to a live flag is what it does once it is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from cohorts import mappers as who_mappers
from cohorts import selectors
from cohorts.population import people
from cohorts.population.sql import NotHeld
from huidu import model
from huidu.engine import Compiled, compile_snapshot
from huidu.sampling import size_of_draw
from rollout.models import Gate, Rollout, Stage
from rollout.services import (
    cohort_edits,
    effects,
    gates,
    population,
    publishing,
    rollouts,
    waterfall,
)
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from tests.rollout.admin import world

pytestmark = pytest.mark.django_db
PLACE, FLAG = "production", "weilidai"
YOUNG: dict[str, Any] = {"<": [{"var": "age"}, 30]}


@pytest.fixture
def bank(redis: object, tmp_path: Any, settings: Any) -> world.World:
    settings.HUIDU_POPULATION = tmp_path / "population"
    return world.build(200)  # of few, the regions' ceilings may hide all that an edit would touch


def live() -> Compiled:
    """What is published; nothing in these tests commits, so nothing is by itself."""
    publishing.publish(PLACE, cause="-", by="test")
    return compiled_snapshot(PLACE, snapshot_in_force(PLACE))[0]


def shown(compiled: Compiled) -> set[str]:
    today = selectors.day_of(timezone.now())
    users = selectors.every_user(today, who_mappers.registry())
    return {each.key for each in users if compiled.check(FLAG, each).visible}


def edited(change: Callable[[model.Gate], model.Gate]) -> Compiled:
    snapshot = live().snapshot
    flags = [
        msgspec.structs.replace(flag, gates=[change(gate) for gate in flag.gates])
        for flag in snapshot.flags
    ]
    return compile_snapshot(msgspec.structs.replace(snapshot, flags=flags))


def test_a_gates_edit_tells_who_gains_who_loses_and_who_is_refused_where(bank: world.World):
    def older(gate: model.Gate) -> model.Gate:
        return msgspec.structs.replace(gate, rule=YOUNG) if gate.key == "adult" else gate

    before, after = shown(live()), shown(edited(older))
    gate = Gate.objects.get(flag=bank.flag, key="adult")
    told = effects.of_gate(gate, YOUNG)
    assert told is not None
    assert (told.effect.gain, told.effect.lose) == (len(after - before), len(before - after))
    assert (told.effect.before, told.effect.after) == (len(before), len(after))
    assert told.effect.lose > 0
    assert sum(each.first for each in told.effect.steps) + told.effect.after == 200
    gates.save_gate(
        bank.flag, {"rule": YOUNG}, gate=gate, by=world.WANG, reason="-", approved_by=world.LI
    )
    assert shown(live()) == after
    counted = waterfall.count(PLACE, FLAG)
    steps = {each.key: each for each in told.effect.steps if each.kind == "gate"}
    for step in counted.steps:
        if step.kind == "gate":
            assert (steps[step.key].first, steps[step.key].only) == (step.refused, step.gained)


def test_a_cohorts_edit_is_told_by_the_flags_that_use_it(bank: world.World):
    before = shown(live())
    rule = {"and": [{"==": [{"var": "staff"}, True]}, YOUNG]}
    (told,) = effects.of_cohort(PLACE, "staff", rule)
    assert told.flag == FLAG
    (later,) = effects.of_cohort(PLACE, "active", {})
    assert (later.effect.gain, later.effect.lose) == (0, 0)  # its stage is not open yet
    assert effects.of_cohort(PLACE, "nobody", {}) == []
    cohort_edits.save_cohort(
        {"rule": rule}, cohort=bank.staff, by=world.WANG, reason="-", approved_by=world.LI
    )
    after = shown(live())
    assert (told.effect.gain, told.effect.lose) == (len(after - before), len(before - after))
    assert told.effect.lose > 0


@pytest.mark.parametrize("from_file", [False, True])
def test_a_stage_is_drawn_as_its_entry_draws_it(
    bank: world.World, from_file: bool, monkeypatch: pytest.MonkeyPatch
):
    if from_file:
        monkeypatch.setattr(people, "FEW", 10)
        population.build()
    before = shown(live())
    stage = bank.planned
    plan = effects.Planned(bank.rollout, stage, stage.audience, 500_000, stage.weights)
    told = effects.of_stage(plan)
    assert told is not None
    Stage.objects.filter(pk=stage.pk).update(share_ppm=500_000)
    rollouts.promote(bank.rollout, by=world.WANG, reason="-", approved_by=world.LI)
    drawn = Stage.objects.get(pk=stage.pk)
    assert (told.eligible, told.drawn) == (drawn.population, drawn.drawn)
    assert told.drawn == size_of_draw(500_000, told.eligible or 0) > 0
    after = shown(live())
    assert (told.effect.gain, told.effect.lose) == (len(after - before), len(before - after))
    if from_file:
        made = people.newest()
        assert made is not None
        with pytest.raises(NotHeld, match="draw"):  # frozen weights are not in the file
            effects.refuse_if_drawn_since(made, [bank.rollout.slot])
    # An entered stage changes nothing more, wherever it is counted.
    rollout = Rollout.objects.get(pk=bank.rollout.pk)
    again = effects.of_stage(effects.Planned(rollout, drawn, stage.audience, 500_000, []))
    assert again is not None
    assert (again.effect.after, again.effect.gain, again.effect.lose) == (len(after), 0, 0)
