"""The benchmark's short cut: looks it leaves out are looks at which nothing can be decided."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

from promotion_screen import compare
from promotion_world import TIGHT, Stage, World, plan


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(World(overdue=True), "promote", id="harmless"),
        pytest.param(
            World(epochs=((0, 0.01), (2, 0.05), (5, 0.2)), bursts=1.0), "promote", id="ramp"
        ),
        pytest.param(World(effects={"api_errors": 1.5}), "roll_back", id="more users fail"),
        pytest.param(World(effects={"amount": 0.7}), "roll_back", id="smaller amounts"),
    ],
)
def test_whole_stages_end_alike_with_every_look_and_with_those_that_could_decide(world, expected):
    stage = Stage(replace(world, look_min=180), seed=3)
    end = compare(plan(stage.world), stage)
    assert end.outcome.decision == expected
    assert end.asked <= 1 + end.k / 4


@pytest.mark.parametrize("errors", [1.0, 4.0])
def test_a_day_that_begins_with_a_look_every_minute_ends_alike_as_well(errors: float):
    world = World(days=1, early_min=30, look_min=30, effects={"api_errors": errors})
    stage = Stage(world, seed=3)
    assert stage.minutes[:31].tolist() == [*range(1, 31), 60]
    end = compare(plan(world, minimum_days=1), stage)
    assert end.outcome.decision == ("roll_back" if errors > 1 else "hold")


def test_a_stage_at_its_margin_ends_alike_as_well():
    world = World(effects={"success": 0.96}, margins=tuple(TIGHT.items()), look_min=180)
    end = compare(plan(world, rolls_back=False), Stage(world, seed=3))
    assert (end.outcome.decision, end.k) == ("hold", 14 * 8)
    assert end.asked < end.k / 4
