"""Everybody by the step that refuses them first, with what a group's share is told by."""

from __future__ import annotations

from collections import Counter

import msgspec

from cohorts.population import columns
from cohorts.population.flags import FlagSql, Step, remembered_weight
from cohorts.population.marks import Marks
from cohorts.population.people import People
from cohorts.population.sql import Terms
from huidu.engine import Compiled

REGION = "region"
"""The attribute by which regions are told apart."""


class Cell(msgspec.Struct, frozen=True):
    """What users have in common who are counted together.

    Args:
        region: code, empty where it is not known.
        tier: index among the flag's tiers, -1 for none.
        weight: frozen at the draw.
        first: index of the step that refuses first; -1 for those who are shown the product.
        only: no other step refuses.
        only_gate: no other gate refuses, and nothing that is asked before the gates.
    """

    region: str = ""
    tier: int = -1
    weight: int = 1
    first: int = -1
    only: bool = False
    only_gate: bool = False


def count(
    people: People, compiled: Compiled, flag_key: str, *, everybody: bool = False
) -> tuple[list[Step], Counter[Cell]]:
    """The steps that may refuse, in the check's order, and the users of each cell.

    Args:
        everybody: read the whole file, not only its sample.
    Raises:
        NotHeld: the table cannot answer exactly.
    """
    terms = Terms(people.table)
    flag = FlagSql(compiled, flag_key, terms)
    rollout = compiled.flags[flag_key].rollout
    weight = "1" if rollout is None else remembered_weight(people.table, rollout.slot)
    codes = people.about.kept.codes.get(REGION, [])
    region = f'"{columns.fact(REGION)}"' if codes else "NULL"
    marks = Marks()
    tests = [marks.add(step.ways) for step in flag.steps]
    lasting = [test for test, step in zip(tests, flag.steps, strict=True) if step.lasting]
    told = f"{region} AS region, {flag.tier} AS tier, {weight} AS weight, {marks.columns()}"
    rows = people.rows(
        f"SELECT region, tier, weight, {marks.first(tests)}, {marks.one(tests)},"  # noqa: S608
        f" {marks.one(lasting)}, count(*) FROM (SELECT {told} FROM {terms.users()}) GROUP BY ALL",
        terms,
        everybody=everybody,
    )
    cells: Counter[Cell] = Counter()
    for place, tier, weighs, refused, only, only_gate, users in rows:
        cell = Cell(
            "" if place is None else codes[place],
            -1 if tier is None else tier,
            int(weighs),
            -1 if refused is None else refused,
            only,
            only_gate,
        )
        cells[cell] += users
    return flag.steps, cells


def shown(people: People, compiled: Compiled, flag_key: str) -> int:
    """How many of those who are read are shown the product; raises `NotHeld`."""
    terms = Terms(people.table)
    passes = FlagSql(compiled, flag_key, terms).shown()
    found = people.rows(f"SELECT count(*) FROM {terms.users()} WHERE {passes}", terms)  # noqa: S608
    return int(found[0][0])
