"""Whom a rule reaches: counted exactly over everybody the platform knows, in chunks.

A count reads every profile once. That takes a second or so for 100,000 users; beyond
`MOST_USERS` it is refused, because a page must not read a billion rows.
"""

from __future__ import annotations

import datetime
import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from django.db import connection
from django.utils import timezone
from xxhash import xxh3_64_intdigest

from cohorts import mappers, selectors
from cohorts.services.audience import Judge, Ladder, Rungs
from huidu.engine.rules import Reader
from huidu.errors import StateError
from huidu.model import Rule, User

MOST_USERS: Final = 2_000_000
BANDS: Final = (0, 1, 4, 8, 15, 21, 31, 51)
"""The least weekly count of each bar of the histogram; the last one has no end."""
SAMPLE: Final = 10
"""Users to look at."""


@dataclass
class Reach:
    """How many users a rule matches.

    `unknown` counts users whom missing data keeps from being judged; they are not matched.
    """

    population: int = 0
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

    `as_of` is when counting began: facts that arrive meanwhile may be in it or not.
    """

    as_of: datetime.datetime
    before: Reach = field(default_factory=Reach)
    after: Reach = field(default_factory=Reach)
    gain: int = 0
    lose: int = 0
    portrait: Portrait = field(default_factory=Portrait)
    """Of the users whom `after` matches."""


def preview(rule: Rule) -> Reach:
    """Count the users whom `rule` matches now.

    Raises:
        RuleError: the rule is wrong; `path` says where.
        StateError: there are too many users to count in one go.
    """
    return compare(rule, rule).after


def compare(before: Rule, after: Rule, tiers: Mapping[str, Rungs] | None = None) -> Comparison:
    """Count both rules over everybody known, and who would change sides.

    Args:
        tiers: ladders by name, to tell how the matched users are spread over each.
    Raises:
        as `preview`.
    """
    judges = [Judge(before), Judge(after)] if before != after else [Judge(after)]
    reader = Reader(judges[0].registry, {each.key: each for each in mappers.cohorts()})
    ladders = {name: Ladder(reader, rungs) for name, rungs in (tiers or {}).items()}
    refuse_too_many()
    found = Comparison(timezone.now())
    found.portrait.tiers = {name: Counter() for name in ladders}
    picked: list[tuple[int, str, User]] = []
    for user in selectors.every_user(selectors.day_of(found.as_of), judges[0].registry):
        fits = [judge.fits(user) for judge in judges]
        _count(found.before, fits[0])
        _count(found.after, fits[-1])
        found.gain += fits[-1] is True and fits[0] is not True
        found.lose += fits[0] is True and fits[-1] is not True
        if fits[-1]:
            _draw_in(found.portrait, user, ladders)
            _pick(picked, user)
    found.portrait.sample = [user for _, _, user in sorted(picked, key=lambda each: each[1])]
    return found


def _count(reach: Reach, fits: bool | None) -> None:
    reach.population += 1
    reach.unknown += fits is None
    reach.matched += fits is True


def _draw_in(portrait: Portrait, user: User, ladders: Mapping[str, Ladder]) -> None:
    portrait.regions[user.attributes.get("region")] += 1
    portrait.weekly[bisect_right(BANDS, user.attributes["weekly_payments"]) - 1] += 1
    for name, ladder in ladders.items():
        portrait.tiers[name][ladder.rung(user)] += 1


def _pick(picked: list[tuple[int, str, User]], user: User) -> None:
    """Keep the users with the smallest hashes, the largest of them in front."""
    entry = (-xxh3_64_intdigest(user.key.encode()), user.key, user)
    if len(picked) < SAMPLE:
        heapq.heappush(picked, entry)
    elif entry[:2] > picked[0][:2]:
        heapq.heapreplace(picked, entry)


def refuse_too_many() -> None:
    """Raises `StateError` where counting everybody would take too long for a page."""
    # The planner's estimate costs nothing; counting a large table first would be half the work.
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'cohorts_profile'::regclass")
        row = cursor.fetchone()
    if row is not None and row[0] > MOST_USERS:
        raise StateError(
            f"there are about {row[0]:,.0f} users, and at most {MOST_USERS:,} are counted on a "
            "page: count in the warehouse instead"
        )
