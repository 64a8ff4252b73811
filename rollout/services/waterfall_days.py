"""The population waterfall kept day by day, so that its course can be read afterwards."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime
from typing import Final

from cohorts import selectors as who
from huidu.errors import HuiduError, StateError
from rollout import selectors
from rollout.models import Flag, Rollout, WaterfallDay
from rollout.services import waterfall
from rollout.services.waterfall import Share, Waterfall

logger = logging.getLogger(__name__)
DAYS_SHOWN: Final = 60


def count_missing(*, now: datetime) -> int:
    """Count every flag in effect that was not counted today; how many were.

    Safe beside another worker: the first row of a day stays.
    """
    day, done = who.day_of(now), 0
    for environment in selectors.environments():
        in_effect = Flag.objects.filter(
            environment=environment,
            archived_at=None,
            rollouts__status__in=[*Rollout.IN_EFFECT, Rollout.Status.PAUSED],
        ).distinct()
        counted = set(
            WaterfallDay.objects.filter(environment=environment, day=day).values_list(
                "flag_key", flat=True
            )
        )
        for flag in in_effect.exclude(key__in=counted).order_by("key"):
            try:
                keep(environment, waterfall.of_today(environment, flag.key), now=now)
                done += 1
            except HuiduError as lack:  # not published yet, or today's file is not made: next tick
                logger.warning("rollout.waterfall_not_counted flag=%s why=%s", flag.key, lack)
    return done


def keep(environment: str, found: Waterfall, *, now: datetime) -> WaterfallDay:
    """Write one day's count of everybody; one that is there stays.

    Raises:
        StateError: a sample was counted, which no row could say.
    """
    if not found.scale.exact:
        raise StateError(
            f"{found.flag}: expected a count of {found.scale.users:,} users, "
            f"got one of {found.scale.read:,}"
        )
    row, _ = WaterfallDay.objects.get_or_create(
        environment=environment,
        flag_key=found.flag,
        day=who.day_of(now),
        defaults={
            "stage": found.stage,
            "sequence": found.sequence,
            "users": found.users,
            "shown": found.shown,
            "steps": [asdict(each) for each in found.steps],
            "groups": {
                "region": _sums(found.regions),
                "tier": _sums(found.tiers),
                "weight": _sums(found.weights),
            },
        },
    )
    return row


def _sums(groups: dict[str, Share]) -> dict[str, list[int]]:
    return {key: [each.users, each.shown] for key, each in groups.items()}


def course(environment: str, flag_key: str) -> list[WaterfallDay]:
    """The last days of a flag, oldest first."""
    rows = WaterfallDay.objects.filter(environment=environment, flag_key=flag_key)
    return list(rows.order_by("-day")[:DAYS_SHOWN])[::-1]


DAY_HEAD: Final = ("day", "stage", "snapshot", "table", "key", "users", "refused_or_shown")


def csv_rows(rows: list[WaterfallDay]) -> list[tuple[str, ...]]:
    """Every day's tables as rows of one file, safe to open in a spreadsheet."""
    told: list[tuple[object, ...]] = [DAY_HEAD]
    for row in rows:
        begin = (row.day, row.stage, row.sequence)
        told.append((*begin, "all", row.flag_key, row.users, row.shown))
        told += [(*begin, "first_refusal", e["key"], row.users, e["refused"]) for e in row.steps]
        for table, groups in row.groups.items():
            told += [(*begin, table, key, *sums) for key, sums in groups.items()]
    return [tuple(waterfall.harmless(each) for each in row) for row in told]
