"""Rolling raw rows up into cells: cumulative numbers per metric, arm, cell and hour.

A step reads only what was recorded since the last one. For every user it touches it adds up that
user's events as they were known before and as they are known now, and adds the difference to the
cells; so duplicates, late events and late exposures need no case of their own, and rolling up
everything at once (`recompute`) gives the same cells.

An event belongs to the hour in which it became known together with the user's exposure. Past hours
therefore stay as they were when decisions were made on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from django.db import connection, transaction
from django.db.models import Max

from rollout.models import Exposure, Feed, Metric, MetricCell, OutcomeEvent, RollupMark, Stage
from rollout.services.exposures import EVIDENCE_LOCK, shares_of
from rollout.services.sums import UserSum, width

ROWS_AT_ONCE: Final = 20_000
"""Raw rows of one step; a long backlog is worked off in several, each kept on its own."""

LOCK_WAIT: Final = "2s"


class Series(NamedTuple):
    """One arm of one cell."""

    arm: str
    stratum: int
    epoch: int
    chance_ppb: int


type_of_growth = dict[Series, dict[datetime, list[float]]]
"""What is to be added, per series and hour: users first, then `sums`."""


class Reach(NamedTuple):
    """How far the raw tables reach: the last ids below which nothing is still to be committed."""

    exposures: int
    outcomes: int


def reach() -> Reach:
    """Up to where raw rows may be read now; waits for writers in the middle of a transaction.

    Raises:
        OperationalError: a writer takes too long; the next tick will do.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [EVIDENCE_LOCK])
        return Reach(
            Exposure.objects.aggregate(last=Max("pk"))["last"] or 0,
            OutcomeEvent.objects.aggregate(last=Max("pk"))["last"] or 0,
        )


def metrics_of(stage: Stage) -> list[Metric]:
    """The metrics a stage's guards count, gauges aside."""
    guards = stage.guards.select_related("metric").order_by("metric__key")
    return [each.metric for each in guards if each.metric.kind != Metric.Kind.GAUGE]


def complete_up_to(environment: str, metric: Metric) -> datetime | None:
    """Up to when a metric's source is complete: what it said, or its latest event. None: silent."""
    latest = OutcomeEvent.objects.filter(environment=environment, metric=metric.key)
    said = Feed.objects.filter(environment=environment, metric=metric.key)
    moments = [
        latest.aggregate(last=Max("at"))["last"],
        said.values_list("complete_to", flat=True).first(),
    ]
    return max((each for each in moments if each is not None), default=None)


def roll_up(stage: Stage, *, now: datetime, up_to: Reach | None = None) -> int:
    """Bring a stage's cells up to date; returns how many raw rows were new to them.

    Safe to run twice at once, to lose, and to kill: marks and cells move in one transaction.
    """
    environment = stage.rollout.flag.environment
    metrics: list[Metric | None] = [None, *metrics_of(stage)]
    # Asked before the reach: an event that shows here is within it, so freshness never runs ahead
    # of the counts.
    fresh = {m.pk: complete_up_to(environment, m) for m in metrics if m is not None}
    end = up_to or reach()
    read = 0
    for metric in metrics:
        while True:
            rows, done = _step(stage, metric, end, fresh.get(metric.pk) if metric else None, now)
            read += rows
            if done:
                break
    return read


def recompute(stage: Stage, *, now: datetime) -> int:
    """Throw a stage's cells away and count everything again from the raw rows."""
    with transaction.atomic():
        list(RollupMark.objects.select_for_update().filter(stage=stage))
        MetricCell.objects.filter(stage=stage).delete()
        RollupMark.objects.filter(stage=stage).delete()
        return roll_up(stage, now=now)


def _step(
    stage: Stage, metric: Metric | None, end: Reach, fresh: datetime | None, now: datetime
) -> tuple[int, bool]:
    with transaction.atomic():
        RollupMark.objects.bulk_create(
            [RollupMark(stage=stage, metric=metric)], ignore_conflicts=True
        )
        mark = RollupMark.objects.select_for_update().get(stage=stage, metric=metric)
        exposures = _cut("rollout_exposure", mark.exposures, end.exposures)
        outcomes = mark.outcomes
        if metric is not None:
            outcomes = _cut("rollout_outcomeevent", mark.outcomes, end.outcomes)
        if exposures > mark.exposures or outcomes > mark.outcomes:
            if metric is None:
                growth, rows = _enrolled(stage, mark.exposures, exposures)
            else:
                before, after = (mark.exposures, mark.outcomes), (exposures, outcomes)
                growth, rows = _happened(stage, metric, before, after)
            if growth:
                _add(stage, metric, growth)
        else:
            rows = 0
        done = exposures >= end.exposures and (metric is None or outcomes >= end.outcomes)
        if not (done and rows == 0 and mark.rolled_at and now <= mark.rolled_at):
            mark.exposures, mark.outcomes = exposures, outcomes
            if done:
                mark.rolled_at, mark.complete_to = now, fresh
            mark.save()
        return rows, done


def _cut(table: str, after: int, end: int) -> int:
    """The last id of a step's share of a table."""
    if end - after <= ROWS_AT_ONCE:
        return max(after, end)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {table} WHERE id > %s AND id <= %s"  # noqa: S608 - our own names
            " ORDER BY id OFFSET %s LIMIT 1",
            [after, end, ROWS_AT_ONCE - 1],
        )
        row = cursor.fetchone()
    return int(row[0]) if row else end


_ENROLLED: Final = """
SELECT arm, stratum, epoch, chance_ppb, date_trunc('hour', recorded_at, 'UTC'), count(*)
FROM rollout_exposure WHERE stage_id = %s AND id > %s AND id <= %s
GROUP BY 1, 2, 3, 4, 5
"""


def _enrolled(stage: Stage, after: int, end: int) -> tuple[type_of_growth, int]:
    growth: type_of_growth = defaultdict(dict)
    rows = 0
    with connection.cursor() as cursor:
        cursor.execute(_ENROLLED, [stage.pk, after, end])
        for arm, stratum, epoch, chance, hour, users in cursor.fetchall():
            growth[Series(arm, stratum, epoch, chance)][hour] = [float(users)]
            rows += users
    return growth, rows


# `known`: this pair of exposure and event was counted before. Users are touched by a new event or
# by a new exposure; all their events are read, because sums of squares need each user's total.
_TOUCHED: Final = """
WITH touched AS (
    SELECT user_id FROM rollout_outcomeevent
    WHERE environment = %(environment)s AND metric = %(metric)s
      AND id > %(outcomes)s AND id <= %(outcomes_end)s
    UNION
    SELECT user_id FROM rollout_exposure
    WHERE stage_id = %(stage)s AND id > %(exposures)s AND id <= %(exposures_end)s
), windows(epoch, ends) AS (
    SELECT * FROM unnest(%(epochs)s::smallint[], %(ends)s::timestamptz[])
)
SELECT e.arm, e.stratum, e.epoch, e.chance_ppb, e.id, o.value, o.denominator,
       date_trunc('hour', greatest(e.recorded_at, o.recorded_at), 'UTC') AS hour,
       e.id <= %(exposures)s AND o.id <= %(outcomes)s AS known
FROM touched
JOIN rollout_exposure e
  ON e.stage_id = %(stage)s AND e.user_id = touched.user_id AND e.id <= %(exposures_end)s
JOIN rollout_outcomeevent o
  ON o.environment = %(environment)s AND o.metric = %(metric)s AND o.user_id = e.user_id
 AND o.at >= e.first_at AND o.id <= %(outcomes_end)s
LEFT JOIN windows ON windows.epoch = e.epoch
WHERE windows.ends IS NULL OR o.at < windows.ends
ORDER BY e.id, known DESC, hour, o.id
"""


def _happened(
    stage: Stage, metric: Metric, before: tuple[int, int], after: tuple[int, int]
) -> tuple[type_of_growth, int]:
    ends = epoch_ends(stage)
    given = {
        "environment": stage.rollout.flag.environment,
        "metric": metric.key,
        "stage": stage.pk,
        "exposures": before[0],
        "exposures_end": after[0],
        "outcomes": before[1],
        "outcomes_end": after[1],
        "epochs": list(ends),
        "ends": list(ends.values()),
    }
    growth: type_of_growth = defaultdict(dict)
    user, total, counted, rows = None, UserSum(metric), [0.0], 0
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, given)
        for arm, stratum, epoch, chance, exposure, value, of, hour, known in cursor:
            if exposure != user:
                user, total = exposure, UserSum(metric)
                counted = [0.0] * (1 + width(metric))
            total.take(value, of)
            now_counted = [float(total.seen), *total.sums()]
            if not known:
                rows += 1
                cell = growth[Series(arm, stratum, epoch, chance)]
                cell[hour] = [
                    so_far + now - was
                    for so_far, now, was in zip(
                        cell.get(hour, [0.0] * len(counted)), now_counted, counted, strict=True
                    )
                ]
            counted = now_counted
    return growth, rows


def epoch_ends(stage: Stage) -> dict[int, datetime]:
    """When each epoch but the last one ended: from then on controls may be shown the product."""
    starts = [at for _, at in shares_of(stage.rollout.slot, stage.key)]
    return {epoch: starts[epoch + 1] for epoch in range(len(starts) - 1)}


def _add(stage: Stage, metric: Metric | None, growth: type_of_growth) -> None:
    """Add to the cells: the hours that grew, and every later hour, which includes them."""
    kept: dict[Series, dict[datetime, MetricCell]] = defaultdict(dict)
    first = min(hour for hours in growth.values() for hour in hours)
    rows = MetricCell.objects.filter(stage=stage, metric=metric)
    for row in [*rows.filter(hour__gte=first), *_last_before(stage, metric, first)]:
        kept[Series(row.arm, row.stratum, row.epoch, row.chance_ppb)][row.hour] = row
    changed: list[MetricCell] = []
    added: list[MetricCell] = []
    for series, hours in growth.items():
        known = kept[series]
        for hour, more in sorted(hours.items()):
            if hour not in known:
                before = [each for each in known if each < hour]
                base = known[max(before)] if before else None
                known[hour] = MetricCell(
                    stage=stage,
                    metric=metric,
                    **series._asdict(),
                    hour=hour,
                    users=base.users if base else 0,
                    sums=list(base.sums) if base else [0.0] * (len(more) - 1),
                )
                added.append(known[hour])
            for later in (row for at, row in known.items() if at >= hour):
                later.users += round(more[0])
                later.sums = [a + b for a, b in zip(later.sums, more[1:], strict=True)]
                if later.pk is not None:
                    changed.append(later)
        newest = max(known)
        for at, row in known.items():
            if row.latest != (at == newest):
                row.latest = at == newest
                if row.pk is not None:
                    changed.append(row)
    MetricCell.objects.bulk_update(_once(changed), ["users", "sums", "latest"])
    MetricCell.objects.bulk_create(added)


def _last_before(stage: Stage, metric: Metric | None, hour: datetime) -> Iterable[MetricCell]:
    """The newest row of each series before an hour."""
    rows = MetricCell.objects.filter(stage=stage, metric=metric, hour__lt=hour)
    series = ("arm", "stratum", "epoch", "chance_ppb")
    return rows.order_by(*series, "-hour").distinct(*series)


def _once(rows: list[MetricCell]) -> list[MetricCell]:
    return list({row.pk: row for row in rows}.values())
