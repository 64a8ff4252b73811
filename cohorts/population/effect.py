"""What a change does to a flag: who would be shown it, who no longer, and who is refused where."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from cohorts.population.figures import Scale
from cohorts.population.flags import FlagSql, Step
from cohorts.population.marks import Marks
from cohorts.population.people import People
from cohorts.population.sql import FALSE, Terms
from huidu import reasons
from huidu.engine import Compiled


class Refused(msgspec.Struct):
    """Users whom a step refuses first, and those whom nothing else refuses."""

    kind: str
    key: str
    why: str
    first: int = 0
    only: int = 0


class Effect(msgspec.Struct):
    """Counts among the users who were read; `scale` says what they mean for everybody.

    Who passes everything but has no place of a funding partner yet counts as passing; `waiting`
    says how many those are after the change. `steps` are in the order of the check after it.
    `unchanged`: the same tests decide before and after, so nobody gains or loses, whoever was read.
    """

    as_of: datetime.datetime
    scale: Scale
    before: int = 0
    after: int = 0
    gain: int = 0
    lose: int = 0
    waiting: int = 0
    unchanged: bool = False
    steps: list[Refused] = []


def count(
    people: People,
    before: Compiled,
    after: Compiled,
    flag_key: str,
    *,
    weights: Mapping[int, str] | None = None,
    terms: Terms | None = None,
) -> Effect:
    """Count everybody by a flag as two snapshots have it.

    Args:
        before: a snapshot without the flag shows it to nobody.
        weights: of `FlagSql`, after the change.
        terms: those that `weights` were written with.
    Raises:
        NotHeld: the table cannot answer exactly.
    """
    terms = terms or Terms(people.table)
    found = Effect(people.about.as_of, people.scale())
    every = FlagSql(after, flag_key, terms, weights=weights).steps
    refusing = _without_waiting(every)
    marks = Marks()
    tests = [marks.add(each.ways) for each in refusing]
    waits = [marks.refuses(marks.add(each.ways)) for each in every if each not in refusing]
    was = FALSE
    if flag_key in before.flags:
        # Most steps say the same before and after.
        steps = _without_waiting(FlagSql(before, flag_key, terms).steps)
        was = marks.none([marks.like(each.ways) for each in steps])
        found.unchanged = {each.ways for each in steps} == {each.ways for each in refusing}
    found.steps = [Refused(each.kind, each.key, each.why) for each in refusing]
    names = ", ".join(marks.names)
    # Some hundred sets of steps refuse somebody: what each means is asked of these alone.
    rows = people.rows(
        f"SELECT {was}, {marks.first(tests)}, {marks.one(tests)}, {(waits or [FALSE])[0]},"  # noqa: S608
        f" sum(users)::BIGINT FROM (SELECT {names}, count(*) AS users"
        f" FROM (SELECT {marks.columns()} FROM {terms.users()}) GROUP BY ALL) GROUP BY ALL",
        terms,
    )
    for shown_before, refused, alone, waiting, users in rows:
        shown = refused is None
        found.before += users * shown_before
        found.after += users * shown
        found.gain += users * (shown and not shown_before)
        found.lose += users * (shown_before and not shown)
        if shown:
            found.waiting += users * waiting
        else:
            found.steps[refused].first += users
            found.steps[refused].only += users * alone
    return found


def _without_waiting(steps: list[Step]) -> list[Step]:
    """The steps that refuse for good: a place can still be taken."""
    return [each for each in steps if each.why != reasons.FUNDING_NOT_RESERVED]
