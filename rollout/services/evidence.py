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
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from rollout.models import Guard, Metric, MetricCell, RollupMark, Stage
from rollout.services.evidence_reach import Reach, reach
from rollout.services.exposures import shares_of
from rollout.services.late import Parts
from rollout.services.sums import UserSum, width

ROWS_AT_ONCE: Final = 20_000
"""Raw rows of one step; a long backlog is worked off in several, each kept on its own."""


class Series(NamedTuple):
    """One arm of one cell."""

    arm: str
    stratum: int
    epoch: int
    chance_ppb: int


type_of_growth = dict[Series, dict[datetime, list[float]]]
"""What is to be added, per series and hour: users first, then `sums`."""


def guards_of(stage: Stage) -> list[Guard]:
    """A stage's guards in order of their metrics' keys."""
    return list(stage.guards.select_related("metric").order_by("metric__key"))


def comes_as_events(metric: Metric) -> bool:
    """Whether raw rows tell of this metric; see `warehouse_cells` and `gauges` for the others."""
    return metric.kind != Metric.Kind.GAUGE and not metric.from_warehouse


def roll_up(
    stage: Stage,
    *,
    now: datetime,
    up_to: Reach | None = None,
    guards: Iterable[Guard] | None = None,
) -> int:
    """Bring a stage's cells up to date; returns how many raw rows were new to them.

    Safe to run twice at once, to lose, and to kill: marks and cells move in one transaction.
    """
    guarded = [each.metric for each in (guards_of(stage) if guards is None else guards)]
    metrics = [each for each in guarded if comes_as_events(each)]
    end = up_to or reach()
    read = 0
    while True:
        rows, done = _step(stage, metrics, end, now)
        read += rows
        if done:
            return read


def recompute(stage: Stage, *, now: datetime, up_to: Reach | None = None) -> int:
    """Throw a stage's cells away and count everything again from the raw rows.

    Cells that a warehouse tells stay: `warehouse_cells.read` counts them anew every time.
    """
    end = up_to or reach()  # outside the transaction: its lock keeps all writers waiting
    told_elsewhere = [each.metric.pk for each in guards_of(stage) if each.metric.from_warehouse]
    with transaction.atomic():
        list(RollupMark.objects.select_for_update().filter(stage=stage).order_by("pk"))
        for model in (MetricCell, RollupMark):
            model._default_manager.filter(stage=stage).exclude(metric__in=told_elsewhere).delete()
        return roll_up(stage, now=now, up_to=end)


def _step(stage: Stage, metrics: list[Metric], end: Reach, now: datetime) -> tuple[int, bool]:
    with transaction.atomic():
        marks = _locked_marks(stage, metrics)
        rows, done = _roll_enrolment(stage, marks[None], end)
        parts = Parts(stage)
        if done:
            parts.enrol(stage)
        # Metrics that were read equally far, mostly all of them, are read on by one query.
        groups: dict[tuple[int, int], list[Metric]] = defaultdict(list)
        for metric in metrics:
            mark = marks[metric.pk]
            groups[mark.exposures, mark.outcomes].append(metric)
        for before, group in groups.items():
            after = (
                _cut("rollout_exposure", before[0], end.exposures),
                _cut("rollout_outcomeevent", before[1], end.outcomes),
            )
            if after != before:
                growth, new = _happened(stage, parts, group, before, after)
                rows += new
                for metric in group:
                    if growth[metric.key]:
                        _add(stage, metric, growth[metric.key])
            for metric in group:
                marks[metric.pk].exposures, marks[metric.pk].outcomes = after
            done = done and after[0] >= end.exposures and after[1] >= end.outcomes
        if done:
            keys = [each.key for each in metrics]
            fresh = end.complete_up_to(stage.rollout.flag.environment, keys)
            for metric in metrics:
                marks[metric.pk].complete_to = fresh.get(metric.key)
                marks[metric.pk].rolled_at = now
        move(
            Moved(each.pk, each.exposures, each.outcomes, each.complete_to, each.rolled_at)
            for each in marks.values()
        )
        return rows, done


# By hand, because a tick moves the marks of every running stage and Django's bulk update takes
# longer to write its SQL than all other queries of a stage together.
_MOVE: Final = """
UPDATE rollout_rollupmark AS mark
SET exposures = moved.exposures, outcomes = moved.outcomes,
    complete_to = moved.complete_to, rolled_at = moved.rolled_at
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
    AS moved(id, exposures, outcomes, complete_to, rolled_at)
WHERE mark.id = moved.id
"""


class Moved(NamedTuple):
    """Where a mark is moved to: its number, and the columns of `RollupMark`."""

    pk: int
    exposures: int
    outcomes: int
    complete_to: datetime | None
    rolled_at: datetime | None


def move(marks: Iterable[Moved]) -> None:
    """Move marks that are locked."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, [list(column) for column in zip(*marks, strict=True)])


def _locked_marks(stage: Stage, metrics: list[Metric]) -> dict[int | None, RollupMark]:
    wanted = [None, *(each.pk for each in metrics)]
    rows = RollupMark.objects.select_for_update().filter(stage=stage).order_by("pk")
    marks = {each.metric_id: each for each in rows}
    missing = [each for each in wanted if each not in marks]
    if missing:
        RollupMark.objects.bulk_create(
            [RollupMark(stage=stage, metric_id=each) for each in missing], ignore_conflicts=True
        )
        marks = {each.metric_id: each for each in rows.all()}
    return {each: marks[each] for each in wanted}


def _roll_enrolment(stage: Stage, mark: RollupMark, end: Reach) -> tuple[int, bool]:
    after = _cut("rollout_exposure", mark.exposures, end.exposures)
    rows = 0
    if after > mark.exposures:
        growth, rows = _enrolled(stage, mark.exposures, after)
        if growth:
            _add(stage, None, growth)
    mark.exposures = after
    return rows, after >= end.exposures


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
    WHERE environment = %(environment)s AND metric = ANY(%(metrics)s::text[])
      AND id > %(outcomes)s AND id <= %(outcomes_end)s
    UNION
    SELECT user_id FROM rollout_exposure
    WHERE stage_id = %(stage)s AND id > %(exposures)s AND id <= %(exposures_end)s
), windows(epoch, ends) AS (
    SELECT * FROM unnest(%(epochs)s::smallint[], %(ends)s::timestamptz[])
)
SELECT e.arm, e.stratum, e.epoch, e.chance_ppb, e.id, e.user_id,
       o.metric, o.value, o.denominator, o.at,
       date_trunc('hour', greatest(e.recorded_at, o.recorded_at), 'UTC') AS hour,
       e.id <= %(exposures)s AND o.id <= %(outcomes)s AS known
FROM touched
JOIN rollout_exposure e
  ON e.stage_id = %(stage)s AND e.user_id = touched.user_id AND e.id <= %(exposures_end)s
JOIN rollout_outcomeevent o
  ON o.environment = %(environment)s AND o.metric = ANY(%(metrics)s::text[])
 AND o.user_id = e.user_id
 AND o.at >= e.first_at AND o.id <= %(outcomes_end)s
LEFT JOIN windows ON windows.epoch = e.epoch
WHERE windows.ends IS NULL OR o.at < windows.ends
ORDER BY e.id, o.metric, known DESC, hour, o.id
"""


def _happened(
    stage: Stage,
    parts: Parts,
    metrics: list[Metric],
    before: tuple[int, int],
    after: tuple[int, int],
) -> tuple[dict[str, type_of_growth], int]:
    by_key = {each.key: each for each in metrics}
    ends = epoch_ends(stage)
    given: dict[str, Any] = {
        "environment": stage.rollout.flag.environment,
        "metrics": list(by_key),
        "stage": stage.pk,
        "exposures": before[0],
        "exposures_end": after[0],
        "outcomes": before[1],
        "outcomes_end": after[1],
        "epochs": list(ends),
        "ends": list(ends.values()),
    }
    growth: dict[str, type_of_growth] = {key: defaultdict(dict) for key in by_key}
    rows, user = 0, None
    total, counted = UserSum(metrics[0]), [0.0]
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, given)
        for row in cursor:
            arm, stratum, epoch, chance, exposure, name, key, value, of, at, hour, known = row
            if (exposure, key) != user:
                user, total = (exposure, key), UserSum(by_key[key])
                counted = [0.0] * (1 + width(by_key[key]))
            if parts.parts:
                epoch = parts.epoch_of(by_key[key], (arm, stratum, epoch, name), at)
                if epoch < 0:
                    continue
            total.take(value, of)
            now_counted = [float(total.seen), *total.sums()]
            if not known:
                rows += 1
                hours = growth[key][Series(arm, stratum, epoch, chance)]
                so_far = hours.get(hour, [0.0] * len(counted))
                hours[hour] = [
                    a + now - was for a, now, was in zip(so_far, now_counted, counted, strict=True)
                ]
            counted = now_counted
    return growth, rows


def epoch_ends(stage: Stage) -> dict[int, datetime]:
    """When each epoch but the last one ended: from then on controls may be shown the product."""
    if stage.epoch == 0:
        return {}
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
