"""Everybody is counted once: refused first somewhere, or shown."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cohorts import mappers, selectors
from cohorts.population import people
from cohorts.population.sql import NotHeld
from huidu.errors import InputError
from rollout.models import Flag
from rollout.services import flags, gates, population, reach, waterfall
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from tests.rollout.admin import world

PLACE = "production"


@pytest.fixture
def bank(transactional_db: None, redis: object) -> Flag:
    return world.build(60).flag


def test_every_user_is_refused_first_once_or_shown(bank: Flag):
    found = waterfall.count(PLACE, "weilidai")
    assert found.users == 60
    assert found.users == found.shown + sum(step.refused for step in found.steps)
    for groups in (found.regions, found.tiers):
        assert sum(each.users for each in groups.values()) == found.users
        assert sum(each.shown for each in groups.values()) == found.shown
    assert [step.key for step in found.steps if step.kind == "gate"] == ["adult", "region", "risk"]


def test_it_says_what_the_check_says_and_what_it_would_say_without_a_gate(bank: Flag):
    found = waterfall.count(PLACE, "weilidai")
    compiled, _ = compiled_snapshot(PLACE, snapshot_in_force(PLACE))
    today = selectors.day_of(timezone.now())
    users = list(selectors.every_user(today, mappers.registry()))
    shown = [each.key for each in users if compiled.check("weilidai", each).visible]
    closed = [each for each in users if each.attributes["region"] == "540100"]
    assert found.shown == len(shown)
    step = next(each for each in found.steps if each.key == "region")
    refused = [compiled.check("weilidai", each).why for each in users]
    assert step.refused == sum(why.startswith("region.") for why in refused)
    assert step.refused >= len(closed) > 0
    gates.remove_gate(bank.gates.get(key="region"), by=world.WANG, reason="-", approved_by=world.LI)
    assert waterfall.count(PLACE, "weilidai").shown == found.shown + (step.gained or 0)


@pytest.mark.parametrize("change", ["", "killed", "placed", "blocked"])
def test_the_file_says_what_the_check_says(
    bank: Flag, change: str, monkeypatch: pytest.MonkeyPatch
):
    if change == "killed":
        flags.kill(bank, by=world.WANG, reason="-")
    elif change == "placed":
        values = {"key": "place", "dimension": "funding", "why": "funding.no_capacity"}
        values |= {"capacity": True, "order": 9}
        gates.save_gate(bank, values, by=world.WANG, reason="-", approved_by=world.LI)
    elif change == "blocked":
        flags.update(bank, {"block_users": ["u0001", "u0007"]}, by=world.WANG, reason="-")
    by_check = waterfall.count(PLACE, "weilidai", now=True)
    monkeypatch.setattr(people, "FEW", 10)
    assert population.build() is not None
    by_file = waterfall.count(PLACE, "weilidai")
    assert by_file.as_of != by_check.as_of
    assert waterfall.of_today(PLACE, "weilidai").as_of == by_file.as_of
    by_file.as_of = by_check.as_of
    assert by_file.steps == by_check.steps
    assert by_file == by_check
    assert by_check.open >= by_check.shown
    assert (by_check.shown > 0) is (change not in ("killed", "placed"))
    assert reach.users_shown(bank).users.users == by_check.shown


def test_what_no_table_can_say_is_counted_by_the_check(bank: Flag, monkeypatch: pytest.MonkeyPatch):
    expected = waterfall.count(PLACE, "weilidai", now=True)
    monkeypatch.setattr(people, "FEW", 10)

    def lacks(question: Any) -> Any:
        raise NotHeld("a text that no table can hold")

    monkeypatch.setattr(population, "asked", lacks)
    found = waterfall.count(PLACE, "weilidai")
    assert (found.steps, found.shown) == (expected.steps, expected.shown)
    assert reach.users_shown(bank).users.users == expected.shown


def test_a_gate_is_told_by_who_would_pass_every_gate_without_it(bank: Flag):
    found = waterfall.count(PLACE, "weilidai")
    left = found.users - sum(step.refused for step in found.steps if step.eligible is not None)
    assert found.open == left
    step = next(each for each in found.steps if each.key == "adult")
    assert 0 <= (step.gained or 0) <= (step.eligible or 0) <= step.refused
    adult = bank.gates.get(key="adult")
    gates.remove_gate(adult, by=world.WANG, reason="-", approved_by=world.LI)
    assert waterfall.count(PLACE, "weilidai").open == found.open + (step.eligible or 0)


def test_a_flag_that_is_not_there_is_refused(bank: Flag):
    with pytest.raises(InputError, match="published flag"):
        waterfall.count(PLACE, "nothing")
    with pytest.raises(CommandError, match="published flag"):
        call_command("waterfall", "nothing", environment=PLACE)


def test_the_command_tells_every_step(bank: Flag):
    out = io.StringIO()
    call_command("waterfall", "weilidai", environment=PLACE, stdout=out)
    told = out.getvalue()
    assert "60  users" in told
    assert "region" in told
    assert "relaxed: +" in told
    table = io.StringIO()
    call_command("waterfall", "weilidai", "--csv", environment=PLACE, stdout=table)
    rows = list(csv.reader(io.StringIO(table.getvalue())))
    assert rows[0] == list(waterfall.CSV_HEAD)
    assert {len(row) for row in rows} == {len(waterfall.CSV_HEAD)}


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\t=1", "'\t=1"),
        ("\r1", "'\r1"),
        ("440300", "440300"),
        (0.5, "0.5"),
        (None, ""),
    ],
)
def test_no_cell_is_a_formula(given: Any, safe: str):
    assert waterfall.harmless(given) == safe
