"""Of everybody known: who is refused first at which step, and who would gain by relaxing one.

Read from the population file, or counted by the check itself where somebody asks for this moment,
where few users are known, or where a rule cannot be said in SQL. A test holds both to each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.utils import timezone

from cohorts.population import waterfall as filed
from cohorts.population.figures import Scale
from cohorts.population.flags import Step as Asked
from cohorts.population.people import People, is_few, newest, refuse_too_many, too_many
from cohorts.population.sql import NotHeld
from cohorts.population.waterfall import Cell
from cohorts.selectors import day_of
from huidu.engine import Compiled
from huidu.errors import InputError, StateError
from rollout.services import population
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from rollout.services.effects import refuse_if_drawn_since
from rollout.services.waterfall_walk import walk


@dataclass
class Step:
    """Users refused first here.

    `eligible`: how many of them would pass every gate without this one. `gained`: how many of them
    would be shown the product.
    """

    kind: str
    key: str
    why: str
    refused: int = 0
    eligible: int | None = None
    gained: int | None = None


@dataclass
class Share:
    """How many of a group are shown."""

    users: int = 0
    shown: int = 0

    @property
    def part(self) -> float:
        """Between 0 and 1; 0 for an empty group."""
        return self.shown / self.users if self.users else 0.0


@dataclass
class Waterfall:
    """The count among the users who were read; `scale` says what it means for everybody.

    `steps` are in the order of the check. `open`: who passes every gate, before stages and draws.
    """

    flag: str
    sequence: int
    as_of: datetime
    scale: Scale
    users: int = 0
    shown: int = 0
    open: int = 0
    steps: list[Step] = field(default_factory=list)
    regions: dict[str, Share] = field(default_factory=dict)
    tiers: dict[str, Share] = field(default_factory=dict)
    weights: dict[str, Share] = field(default_factory=dict)
    """By the weight in the draw, which is the weight class users are compared in."""
    stage: str = ""


def count(
    environment: str,
    flag_key: str,
    *,
    now: bool = False,
    everybody: bool = False,
    progress: Callable[[int], None] = lambda users: None,
) -> Waterfall:
    """Count every known user by what is published now.

    Args:
        now: read everybody as they are at this moment: six seconds for 100,000 users.
        everybody: of a file with more users than its sample, count them all.
        progress: told how many users were read at this moment, now and then.
    Raises:
        InputError: nothing was published yet, or no such flag.
        StateError: there are too many users to count, and no file that could answer.
    """
    compiled, _ = compiled_snapshot(environment, snapshot_in_force(environment))
    if flag_key not in compiled.flags:
        raise InputError(
            f"expected a published flag, got {flag_key[:100]!r}", path="flag", code="not_found"
        )
    if not now and not is_few():
        try:
            return population.asked(
                lambda people: _of(people, compiled, flag_key, everybody=everybody)
            )
        except NotHeld:
            pass  # the check itself can tell
    refuse_too_many()
    as_of = timezone.now()
    steps, cells = walk(compiled, flag_key, progress)
    users = cells.total()
    return _told(compiled, flag_key, as_of, Scale(users, users), steps, cells)


def of_today(environment: str, flag_key: str) -> Waterfall:
    """The count that is kept of today: everybody in today's file, else everybody as they are.

    Raises:
        as `count`; StateError, too, while there are many users and the file is of another day.
    """
    file = newest()
    today = file is not None and day_of(file.about.as_of) == day_of(timezone.now())
    if file is not None and not today and too_many():
        made = timezone.localtime(file.about.as_of)
        raise StateError(f"the population file is of {made:%Y-%m-%d %H:%M}, and of today none yet")
    return count(environment, flag_key, now=not today, everybody=True)


def _of(people: People, compiled: Compiled, flag_key: str, *, everybody: bool) -> Waterfall:
    rollout = compiled.flags[flag_key].rollout
    if rollout is not None:
        refuse_if_drawn_since(people, [rollout.slot])
    steps, cells = filed.count(people, compiled, flag_key, everybody=everybody)
    scale = people.scale(everybody=everybody)
    return _told(compiled, flag_key, people.about.as_of, scale, steps, cells)


def _told(
    compiled: Compiled,
    flag_key: str,
    as_of: datetime,
    scale: Scale,
    steps: list[Asked],
    cells: Counter[Cell],
) -> Waterfall:
    flag = compiled.flags[flag_key]
    found = Waterfall(flag_key, compiled.snapshot.sequence, as_of, scale)
    if flag.rollout is not None and flag.rollout.current >= 0:
        found.stage = flag.rollout.stages[flag.rollout.current].key
    tiers = [tier.key for tier in flag.tiers] + [""]
    rows = [
        Step(each.kind, each.key, each.why)
        if each.kind == "code"
        else Step(each.kind, each.key, each.why, 0, 0 if each.lasting else None, 0)
        for each in steps
    ]
    for cell, users in cells.items():
        shown = users if cell.first < 0 else 0
        found.users += users
        found.shown += shown
        for groups, key in (
            (found.regions, cell.region),
            (found.tiers, tiers[cell.tier]),
            (found.weights, str(cell.weight)),
        ):
            group = groups.setdefault(key, Share())
            group.users += users
            group.shown += shown
        if cell.first < 0 or not steps[cell.first].lasting:
            found.open += users
        if cell.first >= 0:
            row = rows[cell.first]
            row.refused += users
            if row.eligible is not None:
                row.eligible += users * cell.only_gate
            if row.gained is not None:
                row.gained += users * cell.only
    found.steps = [row for row in rows if row.kind == "gate" or row.refused]
    found.regions = dict(sorted(found.regions.items(), key=lambda each: -each[1].users))
    found.weights = dict(sorted(found.weights.items(), key=lambda each: int(each[0])))
    found.tiers = dict(sorted(found.tiers.items(), key=lambda each: tiers.index(each[0])))
    return found


CSV_HEAD: Final = (
    *("table", "key", "why", "users", "refused_or_shown", "gained_or_share"),
    *("eligible", "error", "as_of"),
)


def csv_rows(found: Waterfall) -> list[tuple[str, ...]]:
    """The tables as rows of one CSV file, safe to open in a spreadsheet.

    Where a sample was read, counts are of everybody, and `error` is the half-width of the 95 %
    interval of `refused_or_shown`.
    """
    scale = found.scale

    def row(
        table: str, key: str, why: str, users: int, counted: int, *rest: object
    ) -> tuple[object, ...]:
        told = scale.of(counted)
        more = (*rest, "", "")[:2]
        return (table, key, why, _all(scale, users), told.users, *more, told.error, found.as_of)

    everybody = found.users
    rows = [
        CSV_HEAD,
        row("all", found.flag, "", everybody, found.shown, "", _all(scale, found.open)),
    ]
    rows += [
        row(
            *("first_refusal", each.key, each.why, everybody, each.refused),
            *(_all(scale, each.gained), _all(scale, each.eligible)),
        )
        for each in found.steps
    ]
    for table, groups in (
        ("region", found.regions),
        ("tier", found.tiers),
        ("weight", found.weights),
    ):
        rows += [
            row(table, key, "", each.users, each.shown, f"{each.part:.6f}")
            for key, each in groups.items()
        ]
    return [tuple(harmless(each) for each in row) for row in rows]


def _all(scale: Scale, counted: int | None) -> int | None:
    return None if counted is None else scale.of(counted).users


def harmless(value: object) -> str:
    """A cell's text that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    risky = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if risky else text
