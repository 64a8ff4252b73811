"""What people are told: sentences of guards, charts, outlooks, and the two commands."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import translation

from huidu.errors import EvidenceError
from rollout.management.commands import simulate_rollout
from rollout.models import Decision, Rollout, Stage
from rollout.services import power, readings, simulation
from rollout.services.audit import ENGINE
from rollout.services.power import Base
from rollout.services.review import roll_up_and_review
from tests.rollout.evidence.conftest import World, at, live


def test_a_comparing_guard_is_told_in_two_sentences(world: World):
    guard = world.guard("failed", margin_rel=0.05, label_en="the error rate", label_zh="错误率")
    with translation.override("en"):
        assert readings.words(guard)[:2] == (
            "We stop when it is proven that the error rate is higher than in the control group, "
            "by more than 2.5 %.",
            "We widen only when the error rate is proven to be at most 5 % higher than in the "
            "control group.",
        )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"harm": "decrease", "margin_rel": 0.1}, "lower than in the control group, by more than"),
        ({"limit_abs": 0.02}, "proven to exceed 2 %"),
        ({"harm": "decrease", "limit_abs": 0.5}, "proven to fall below 50 %"),
        ({"kind": "mean", "limit_abs": 5_000, "role": "stop"}, "proven to exceed 5,000"),
        ({"kind": "gauge", "maximum": 0.9, "minimum": 0.1}, "above 0.9 or below 0.1 in 3 looks"),
        ({"role": "watch"}, "is only watched"),
    ],
)
def test_each_kind_of_guard_has_its_sentence(world: World, values: dict[str, Any], told: str):
    with translation.override("en"):
        words = readings.words(world.guard("m", **values))
    assert told in words.stops
    assert bool(words.widens) == (values.get("role") is None and values.get("kind") != "gauge")


def test_sentences_are_spoken_in_chinese(world: World):
    guard = world.guard("failed", margin_rel=0.05, label_en="the error rate", label_zh="错误率")
    with translation.override("zh-hans"):
        words = readings.words(guard)
    assert "错误率" in words.stops
    assert "对照组" in words.stops


def test_a_chart_has_a_point_for_every_look(world: World):
    world.guard("failed", margin_rel=0.3)
    for day in (1, 2):
        rates = {"failed": (0.2, 0.2)}
        live(world, range(day * 600, day * 600 + 600), at(day), seed=day, rates=rates)
        roll_up_and_review(world.stage.pk, now=at(day, minutes=5))
    (chart,) = readings.charts(world.stage)
    assert (chart.reference, chart.margin, chart.alarm) == (1.0, pytest.approx(1.3), 20.0)
    assert [round(each.minute / 1440, 1) for each in chart.points] == [1.0, 2.0]
    last = chart.points[-1]
    assert last.low is not None
    assert last.estimate is not None
    assert last.high is not None
    assert last.low < last.estimate < last.high


def test_traffic_that_can_prove_nothing_is_told_before_the_start(world: World):
    world.guard("failed", margin_rel=0.05)
    bases = {"failed": Base(0.02)}
    (poor,) = power.stage_power(world.stage, 20, bases)
    (rich,) = power.stage_power(world.stage, 2_000_000, bases)
    assert poor.outlook is not None
    assert rich.outlook is not None
    assert poor.outlook.day is None
    assert poor.outlook.proven < 0.1
    assert rich.outlook.proven > 0.9


def test_base_rates_come_from_earlier_controls(world: World):
    world.guard("failed", margin_rel=0.5)
    assert power.stage_power(world.stage, 1_000)[0].why_not == "no_base"
    live(world, range(3_000), at(1), seed=1, rates={"failed": (0.1, 0.2)})
    roll_up_and_review(world.stage.pk, now=at(1, minutes=5))
    base = power.known_base(world.stage, world.stage.guards.get().metric)
    assert base is not None
    assert abs(base.value - 0.2) < 0.04
    assert power.stage_power(world.stage, 1_000)[0].outlook is not None


@pytest.mark.parametrize("traffic", [0, -1, float("nan"), float("inf")])
def test_traffic_is_a_positive_number(world: World, traffic: float):
    with pytest.raises(EvidenceError, match="users a day above 0"):
        power.stage_power(world.stage, traffic)


def decide(world: World) -> None:
    world.guard("failed", margin_rel=0.3)
    for day in (1, 2):
        rates = {"failed": (0.2, 0.2)}
        live(world, range(day * 400, day * 400 + 400), at(day), seed=day, rates=rates)
        roll_up_and_review(world.stage.pk, now=at(day, minutes=5))


@pytest.mark.parametrize("which", ["--all", "--stage", "id"])
def test_the_replay_command_agrees_with_the_record(world: World, which: str):
    decide(world)
    ask: list[str] = ["--all"]
    if which == "--stage":
        ask = ["--stage", str(world.stage.pk)]
    elif which == "id":
        ask = [str(Decision.objects.latest("pk").pk)]
    out = StringIO()
    call_command("replay_decision", *ask, stdout=out)
    assert "all agree" in out.getvalue()


def test_the_replay_command_names_what_differs_and_fails(world: World):
    decide(world)
    row = Decision.objects.latest("pk")
    row.outcome["combined_e_value"] = 77.0
    row.save()
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2 decisions differ"):
        call_command("replay_decision", "--all", stdout=out)
    assert "outcome.combined_e_value: recorded 77" in out.getvalue()


def test_a_simulation_without_an_installation_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HUIDU_HOME", str(tmp_path))
    with pytest.raises(CommandError, match="start Huidu with bin/up"):
        call_command("simulate_rollout", "weilidai")
    told = {"url": "http://127.0.0.1:9", "keys": {"server": "a", "ingest": "b"}}
    (tmp_path / "demo.json").write_text(json.dumps(told))
    with pytest.raises(CommandError, match="nobody answers"):
        call_command("simulate_rollout", "weilidai")


def test_a_simulation_too_slow_for_its_clock_says_so(world: World):
    decide(world)
    last = Decision.objects.select_related("stage__rollout").latest("pk")
    last.evidence["look"]["t_min"] = last.stage.maximum_stay.total_seconds() / 60 + 1
    journey = simulate_rollout.Journey.__new__(simulate_rollout.Journey)
    journey.options, journey.sent, journey.overdue = {"seconds_per_day": 4.0}, 2_500, 0
    journey.rollout, journey.harmful = last.stage.rollout, True
    journey.rollout.current, journey.all_met = last.stage, False
    for _ in range(5):
        journey.note_overdue(last)  # harm may be proven still
    journey.harmful = False
    for _ in range(simulate_rollout.LOOKS_OVERDUE - 1):
        journey.note_overdue(last)
    with pytest.raises(CommandError, match=r"2,500 users met so far.*--seconds-per-day 12"):
        journey.note_overdue(last)
    journey.all_met = True
    with pytest.raises(CommandError, match="No users are left"):
        journey.note_overdue(last)


def test_a_clock_is_set_only_before_the_start(world: World):
    from huidu.errors import StateError

    with pytest.raises(StateError, match="left its draft"):
        simulation.set_clock(world.rollout, 100, by=ENGINE, reason="hurry")
    Rollout.objects.update(status=Rollout.Status.DRAFT)
    simulation.set_clock(world.rollout, 100, by=ENGINE, reason="hurry")
    assert Rollout.objects.get().time_scale == 100


def test_the_same_seed_gives_a_user_the_same_fate(world: World):
    stage = Stage.objects.get(key="some")
    fates = simulation.Fates(5, harmful=False)
    assert fates.of("u1", stage, True, 1, at(1)) == fates.of("u1", stage, True, 1, at(1))


def test_harm_strikes_the_treated_outside_the_company_only(world: World):
    fates = simulation.Fates(5, harmful=True)

    def failing(treated: bool) -> int:
        events = [e for i in range(3_000) for e in fates.of(f"u{i}", world.stage, treated, 1, at())]
        return sum(each["metric"] == simulation.ERROR for each in events)

    assert failing(True) > 3 * failing(False)
    world.stage.key = "internal"
    assert failing(True) == failing(False)
