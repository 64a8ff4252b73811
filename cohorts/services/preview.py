"""Whom a rule reaches, counted over everybody the platform knows, or a sample of very many."""

from __future__ import annotations

import datetime
import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.utils import timezone
from xxhash import xxh3_64_intdigest

from cohorts import mappers, selectors
from cohorts.population import columns
from cohorts.population.figures import Scale
from cohorts.population.people import People, ask, refuse_too_many
from cohorts.population.sql import FALSE, NotHeld, Terms
from cohorts.services.audience import Judge, Ladder, Rungs
from huidu.engine.rules import Reader
from huidu.model import Attribute, Rule, User

__all__ = ["BANDS", "Comparison", "Portrait", "Reach", "by_engine", "compare", "preview"]

BANDS: Final = (0, 1, 4, 8, 15, 21, 31, 51)
"""The least weekly count of each bar of the histogram; the last one has no end."""
SAMPLE: Final = 10
"""Users to look at."""


@dataclass
class Reach:
    """How many of the users who were read a rule matches.

    `unknown` counts users whom missing data keeps from being judged; they are not matched.
    """

    matched: int = 0
    unknown: int = 0


@dataclass
class Portrait:
    """Who the matched users are; each of the counts adds up to all of them.

    `regions` counts by code, None for users without a region; `tiers` by the name of the ladder
    and the key of the tier, "" for users of no tier; `weekly` by the index in `BANDS`. `sample` are
    up to ten of them: picked evenly, whatever their ids look like, and the same ones every time.
    """

    regions: Counter[str | None] = field(default_factory=Counter)
    tiers: dict[str, Counter[str]] = field(default_factory=dict)
    weekly: Counter[int] = field(default_factory=Counter)
    sample: list[User] = field(default_factory=list)


@dataclass
class Comparison:
    """Who would gain and who would lose if `after` took the place of `before`.

    All counts are of the users who were read; `scale` says what they mean for everybody. `as_of`
    is when reading them began: facts that arrived meanwhile may be in it or not.
    """

    as_of: datetime.datetime
    scale: Scale
    before: Reach = field(default_factory=Reach)
    after: Reach = field(default_factory=Reach)
    gain: int = 0
    lose: int = 0
    unchanged: bool = False
    """Both rules say the same of everybody, whoever was read."""
    portrait: Portrait = field(default_factory=Portrait)
    """Of the users whom `after` matches."""


def preview(rule: Rule) -> Comparison:
    """Count the users whom `rule` matches.

    Raises:
        RuleError: the rule is wrong; `path` says where.
        StateError: there are too many users to read, and no population file that could answer.
    """
    return compare(rule, rule)


def compare(
    before: Rule,
    after: Rule,
    tiers: Mapping[str, Rungs] | None = None,
    *,
    everybody: bool = False,
) -> Comparison:
    """Count both rules over everybody known, and who would change sides.

    Args:
        tiers: ladders by name, to tell how the matched users are spread over each.
        everybody: count all users of the population file, not only its sample.
    Raises:
        as `preview`.
    """
    Judge(before), Judge(after)  # refuses wrong rules by their path
    tiers = tiers or {}
    try:
        reader = _reader()
        return ask(
            lambda people: in_table(people, reader, before, after, tiers, everybody=everybody)
        )
    except NotHeld:
        return by_engine(before, after, tiers)


def _reader() -> Reader:
    return Reader(mappers.registry(), {each.key: each for each in mappers.cohorts()})


def in_table(
    people: People,
    reader: Reader,
    before: Rule,
    after: Rule,
    tiers: Mapping[str, Rungs],
    *,
    everybody: bool = False,
) -> Comparison:
    """`compare` over one table of users.

    Args:
        reader: of the registry and the cohorts as they are now.
    Raises:
        NotHeld: the table cannot answer exactly.
    """
    registry = {each.name: each for each in people.about.kept.attributes}
    terms = Terms(people.table)
    was, fits = (terms.rule(reader.read(rule, "audience")) for rule in (before, after))
    region, weekly = (_known_fact(people, registry, name) for name in ("region", "weekly_payments"))
    parts = [region, " + ".join(f"({weekly} >= {edge})::UTINYINT" for edge in BANDS[1:])]
    for rungs in tiers.values():
        ways = [
            f"WHEN {terms.rule(reader.read(rule, key))} THEN {index}"
            for index, (key, rule) in enumerate(rungs)
        ]
        parts.append(f"CASE {' '.join(ways)} END" if ways else "NULL")
    told = ", ".join(f"CASE WHEN fits THEN {part} END" for part in parts)
    rows = people.rows(
        f"SELECT was, fits, {told}, count(*)"  # noqa: S608
        f" FROM (SELECT *, ({was}) AS was, ({fits}) AS fits FROM {{users}}) GROUP BY ALL",
        terms,
        everybody=everybody,
    )
    found = Comparison(people.about.as_of, people.scale(everybody=everybody))
    found.unchanged = was == fits
    portrait = found.portrait
    portrait.tiers = {name: Counter() for name in tiers}
    codes = people.about.kept.codes.get("region", [])
    for old, new, number, band, *rungs_of, users in rows:
        found.before.matched += users * (old is True)
        found.before.unknown += users * (old is None)
        found.after.matched += users * (new is True)
        found.after.unknown += users * (new is None)
        found.gain += users * (new is True and old is not True)
        found.lose += users * (old is True and new is not True)
        if new:
            portrait.regions[None if number is None else codes[number]] += users
            portrait.weekly[band or 0] += users
            for (name, ladder), rung in zip(tiers.items(), rungs_of, strict=True):
                portrait.tiers[name]["" if rung is None else ladder[rung][0]] += users
    portrait.sample = some_of(people, terms, fits, registry)
    return found


def some_of(
    people: People, terms: Terms, fits: str, registry: Mapping[str, Attribute]
) -> list[User]:
    """Ten users of whom the expression is true: those with the smallest hashes, by user id."""
    if fits == FALSE:
        return []
    names = [name for name in ("region", "weekly_payments") if name in registry]
    told = ", ".join([columns.USER, *(_known_fact(people, registry, name) for name in names)])
    rows = people.rows(
        f"SELECT {told} FROM {{users}} WHERE ({fits})"  # noqa: S608
        f" ORDER BY {columns.ORDER} LIMIT {SAMPLE}",
        terms,
    )
    users = []
    for user_id, *facts in rows:
        known = {name: fact for name, fact in zip(names, facts, strict=True) if fact is not None}
        if "region" in known:
            known["region"] = people.about.kept.codes["region"][known["region"]]
        users.append(User(user_id, known))
    return sorted(users, key=lambda each: each.key)


def _known_fact(people: People, registry: Mapping[str, Attribute], name: str) -> str:
    return people.table.fact(registry[name]) if name in registry else "NULL"


def by_engine(before: Rule, after: Rule, tiers: Mapping[str, Rungs]) -> Comparison:
    """`compare` by the engine itself, which judges each user in turn: for what no SQL can say.

    Raises:
        as `preview`.
    """
    judges = [Judge(before), Judge(after)]
    reader = Reader(judges[0].registry, {each.key: each for each in mappers.cohorts()})
    ladders = {name: Ladder(reader, rungs) for name, rungs in tiers.items()}
    refuse_too_many()
    found = Comparison(timezone.now(), Scale(0, 0))
    found.portrait.tiers = {name: Counter() for name in ladders}
    picked: list[tuple[int, str, User]] = []
    users = 0
    by_day = any(each.by_day for each in judges) or any(each.by_day for each in ladders.values())
    today = selectors.day_of(found.as_of)
    for user in selectors.every_user(today, judges[0].registry, by_day=by_day):
        users += 1
        was, fits = (judge.fits(user) for judge in judges)
        _count(found.before, was)
        _count(found.after, fits)
        found.gain += fits is True and was is not True
        found.lose += was is True and fits is not True
        if fits:
            _draw_in(found.portrait, user, ladders)
            _pick(picked, user)
    found.scale = Scale(users, users)
    found.portrait.sample = [user for _, _, user in sorted(picked, key=lambda each: each[1])]
    return found


def _count(reach: Reach, fits: bool | None) -> None:
    reach.unknown += fits is None
    reach.matched += fits is True


def _draw_in(portrait: Portrait, user: User, ladders: Mapping[str, Ladder]) -> None:
    portrait.regions[user.attributes.get("region")] += 1
    portrait.weekly[bisect_right(BANDS, user.attributes["weekly_payments"]) - 1] += 1
    for name, ladder in ladders.items():
        portrait.tiers[name][ladder.rung(user)] += 1


def _pick(picked: list[tuple[int, str, User]], user: User) -> None:
    """Keep the users with the smallest hashes, the largest of them in front."""
    entry: tuple[Any, ...] = (-xxh3_64_intdigest(user.key.encode()), user.key, user)
    if len(picked) < SAMPLE:
        heapq.heappush(picked, entry)
    elif entry[:2] > picked[0][:2]:
        heapq.heapreplace(picked, entry)
