"""Whom a rule reaches: counted exactly over everybody the platform knows, in chunks.

A count reads every profile once. That takes a second or so for 100,000 users; beyond
`MOST_USERS` it is refused, because a page must not read a billion rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from django.db import connection
from django.utils import timezone

from cohorts import selectors
from cohorts.services.audience import Judge
from huidu.errors import StateError
from huidu.model import Rule

MOST_USERS: Final = 2_000_000


@dataclass
class Reach:
    """How many users a rule matches.

    `unknown` counts users whom missing data keeps from being judged; they are not matched.
    `regions` counts the matched ones by code, None for users without a region.
    """

    population: int = 0
    matched: int = 0
    unknown: int = 0
    regions: Counter[str | None] = field(default_factory=Counter)

    def top_regions(self, most: int) -> list[tuple[str | None, int]]:
        """The regions where most of the matched users live, largest first."""
        return self.regions.most_common(most)


@dataclass
class Comparison:
    """Who would gain and who would lose if `after` took the place of `before`."""

    before: Reach = field(default_factory=Reach)
    after: Reach = field(default_factory=Reach)
    gain: int = 0
    lose: int = 0


def preview(rule: Rule) -> Reach:
    """Count the users whom `rule` matches now.

    Raises:
        RuleError: the rule is wrong; `path` says where.
        StateError: there are too many users to count in one go.
    """
    return compare(rule, rule).after


def compare(before: Rule, after: Rule) -> Comparison:
    """Count both rules over everybody known, and who would change sides.

    Raises:
        as `preview`.
    """
    judges = [Judge(before), Judge(after)] if before != after else [Judge(after)]
    refuse_too_many()
    found = Comparison()
    day = selectors.day_of(timezone.now())
    for user in selectors.every_user(day, judges[0].registry):
        fits = [judge.fits(user) for judge in judges]
        region = user.attributes.get("region")
        _count(found.before, fits[0], region)
        _count(found.after, fits[-1], region)
        found.gain += fits[-1] is True and fits[0] is not True
        found.lose += fits[0] is True and fits[-1] is not True
    return found


def _count(reach: Reach, fits: bool | None, region: str | None) -> None:
    reach.population += 1
    if fits is None:
        reach.unknown += 1
    elif fits:
        reach.matched += 1
        reach.regions[region] += 1


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
