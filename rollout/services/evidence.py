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
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from rollout.models import Guard, Metric, MetricCell, RollupMark, Stage
from rollout.services import cells
from rollout.services.cells import Series, type_of_growth, type_of_place
from rollout.services.evidence_reach import Reach, reach
from rollout.services.exposures import shares_of
from rollout.services.late import Parts
from rollout.services.sums import UserSum, width

ROWS_AT_ONCE: Final = 20_000
"""Raw rows of one step; a long backlog is worked off in several, each kept on its own."""


class Job(NamedTuple):
    """A stage, and those of its metrics that come as events."""

    stage: Stage
    metrics: Sequence[Metric]


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
    return roll_up_together([job_of(stage, guards)], now=now, end=up_to or reach())


def job_of(stage: Stage, guards: Iterable[Guard] | None = None) -> Job:
    """What there is to roll up of a stage."""
    guarded = [each.metric for each in (guards_of(stage) if guards is None else guards)]
    return Job(stage, [each for each in guarded if comes_as_events(each)])


def roll_up_together(jobs: Sequence[Job], *, now: datetime, end: Reach) -> int:
    """The same for some stages, by the same few statements; returns how many raw rows were new."""
    read = 0
    while jobs:
        rows, done = _step(jobs, end, now)
        read += rows
        if done:
            break
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


def _step(jobs: Sequence[Job], end: Reach, now: datetime) -> tuple[int, bool]:
    with transaction.atomic():
        marks = _locked_marks(jobs)
        growth: dict[type_of_place, type_of_growth] = {}
        rows, done = _roll_enrolment(jobs, marks, end, growth)
        parts = {each.stage.pk: Parts(each.stage) for each in jobs}
        if done:
            for each in jobs:
                parts[each.stage.pk].enrol(each.stage)
        for (before, keys), group in _read_alike(jobs, marks).items():
            after = (
                _cut("rollout_exposure", before[0], end.exposures),
                _cut("rollout_outcomeevent", before[1], end.outcomes),
            )
            if after != before:
                rows += _happened(group, keys, parts, before, after, growth)
            for stage, metrics in group:
                for metric in metrics:
                    mark = marks[stage.pk, metric.pk]
                    mark.exposures, mark.outcomes = after
            done = done and after[0] >= end.exposures and after[1] >= end.outcomes
        if growth:
            cells.add(growth)
        if done:
            for stage, metrics in jobs:
                keys = tuple(each.key for each in metrics)
                fresh = end.complete_up_to(stage.rollout.flag.environment, keys)
                for metric in metrics:
                    mark = marks[stage.pk, metric.pk]
                    mark.complete_to, mark.rolled_at = fresh.get(metric.key), now
        move(
            Moved(each.pk, each.exposures, each.outcomes, each.complete_to, each.rolled_at)
            for each in marks.values()
        )
        return rows, done


type_of_marks = dict[type_of_place, RollupMark]
type_of_keys = tuple[str, ...]


def _read_alike(
    jobs: Sequence[Job], marks: type_of_marks
) -> dict[tuple[tuple[int, int], type_of_keys], list[Job]]:
    """Metrics that were read equally far, mostly all of them, are read on by one query; so are
    stages with the same ones."""
    groups: dict[tuple[tuple[int, int], type_of_keys], list[Job]] = defaultdict(list)
    for stage, metrics in jobs:
        alike: dict[tuple[int, int], list[Metric]] = defaultdict(list)
        for metric in metrics:
            mark = marks[stage.pk, metric.pk]
            alike[mark.exposures, mark.outcomes].append(metric)
        for before, some in alike.items():
            # A key names one metric of an environment.
            keys = (stage.rollout.flag.environment, *sorted(each.key for each in some))
            groups[before, keys].append(Job(stage, some))
    return groups


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


def _locked_marks(jobs: Sequence[Job]) -> type_of_marks:
    wanted: list[type_of_place] = [
        (stage.pk, metric)
        for stage, metrics in jobs
        for metric in [None, *(each.pk for each in metrics)]
    ]
    stages = [each.stage.pk for each in jobs]
    # In one order, so that two workers cannot wait for each other.
    rows = RollupMark.objects.select_for_update().filter(stage__in=stages).order_by("pk")
    marks = {(each.stage_id, each.metric_id): each for each in rows}
    missing = [each for each in wanted if each not in marks]
    if missing:
        RollupMark.objects.bulk_create(
            [RollupMark(stage_id=stage, metric_id=metric) for stage, metric in missing],
            ignore_conflicts=True,
        )
        marks = {(each.stage_id, each.metric_id): each for each in rows.all()}
    return {each: marks[each] for each in wanted}


def _roll_enrolment(
    jobs: Sequence[Job],
    marks: type_of_marks,
    end: Reach,
    growth: dict[type_of_place, type_of_growth],
) -> tuple[int, bool]:
    alike: dict[int, list[int]] = defaultdict(list)
    for each in jobs:
        alike[marks[each.stage.pk, None].exposures].append(each.stage.pk)
    rows, done = 0, True
    for before, stages in alike.items():
        after = _cut("rollout_exposure", before, end.exposures)
        if after > before:
            rows += _enrolled(stages, before, after, growth)
        for stage in stages:
            marks[stage, None].exposures = after
        done = done and after >= end.exposures
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
SELECT stage_id, arm, stratum, epoch, chance_ppb, date_trunc('hour', recorded_at, 'UTC'), count(*)
FROM rollout_exposure WHERE stage_id = ANY(%s) AND id > %s AND id <= %s
GROUP BY 1, 2, 3, 4, 5, 6
"""


def _enrolled(
    stages: list[int], after: int, end: int, growth: dict[type_of_place, type_of_growth]
) -> int:
    rows = 0
    with connection.cursor() as cursor:
        cursor.execute(_ENROLLED, [stages, after, end])
        for stage, arm, stratum, epoch, chance, hour, users in cursor.fetchall():
            series = Series(arm, stratum, epoch, chance)
            growth.setdefault((stage, None), {}).setdefault(series, {})[hour] = [float(users)]
            rows += users
    return rows


# `known`: this pair of exposure and event was counted before. Users are touched by a new event or
# by a new exposure; all their events are read, because sums of squares need each user's total.
_TOUCHED: Final = """
WITH touched AS (
    SELECT e.id FROM rollout_exposure e
    WHERE e.stage_id = ANY(%(stages)s) AND e.id <= %(exposures_end)s AND e.user_id IN (
        SELECT user_id FROM rollout_outcomeevent
        WHERE environment = %(environment)s AND metric = ANY(%(metrics)s::text[])
          AND id > %(outcomes)s AND id <= %(outcomes_end)s
    )
    UNION
    SELECT id FROM rollout_exposure
    WHERE stage_id = ANY(%(stages)s) AND id > %(exposures)s AND id <= %(exposures_end)s
), windows(stage, epoch, ends) AS (
    SELECT * FROM unnest(%(ending)s::bigint[], %(epochs)s::smallint[], %(ends)s::timestamptz[])
)
SELECT e.stage_id, e.arm, e.stratum, e.epoch, e.chance_ppb, e.id, e.user_id,
       o.metric, o.value, o.denominator, o.at,
       date_trunc('hour', greatest(e.recorded_at, o.recorded_at), 'UTC') AS hour,
       e.id <= %(exposures)s AND o.id <= %(outcomes)s AS known
FROM touched
JOIN rollout_exposure e ON e.id = touched.id
JOIN rollout_outcomeevent o
  ON o.environment = %(environment)s AND o.metric = ANY(%(metrics)s::text[])
 AND o.user_id = e.user_id
 AND o.at >= e.first_at AND o.id <= %(outcomes_end)s
LEFT JOIN windows ON windows.stage = e.stage_id AND windows.epoch = e.epoch
WHERE windows.ends IS NULL OR o.at < windows.ends
ORDER BY e.id, o.metric, known DESC, hour, o.id
"""


def _happened(
    jobs: Sequence[Job],
    keys: type_of_keys,
    parts: Mapping[int, Parts],
    before: tuple[int, int],
    after: tuple[int, int],
    growth: dict[type_of_place, type_of_growth],
) -> int:
    environment, *names = keys
    metrics = {each.key: each for each in jobs[0].metrics}
    windows = [
        (stage.pk, epoch, at) for stage, _ in jobs for epoch, at in epoch_ends(stage).items()
    ]
    given: dict[str, Any] = {
        "environment": environment,
        "metrics": names,
        "stages": [each.stage.pk for each in jobs],
        "exposures": before[0],
        "exposures_end": after[0],
        "outcomes": before[1],
        "outcomes_end": after[1],
        "ending": [stage for stage, _, _ in windows],
        "epochs": [epoch for _, epoch, _ in windows],
        "ends": [at for _, _, at in windows],
    }
    rows, user = 0, None
    metric = jobs[0].metrics[0]
    total, counted = UserSum(metric), [0.0]
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED, given)
        for row in cursor:
            stage, arm, stratum, epoch, chance, exposure, name, key, value, of, at, hour, known = (
                row
            )
            if (exposure, key) != user:
                user, metric = (exposure, key), metrics[key]
                total, counted = UserSum(metric), [0.0] * (1 + width(metric))
            if parts[stage].parts:
                epoch = parts[stage].epoch_of(metric, (arm, stratum, epoch, name), at)
                if epoch < 0:
                    continue
            total.take(value, of)
            now_counted = [float(total.seen), *total.sums()]
            if not known:
                rows += 1
                hours = growth.setdefault((stage, metric.pk), {}).setdefault(
                    Series(arm, stratum, epoch, chance), {}
                )
                so_far = hours.get(hour, [0.0] * len(counted))
                hours[hour] = [
                    a + now - was for a, now, was in zip(so_far, now_counted, counted, strict=True)
                ]
            counted = now_counted
    return rows


def epoch_ends(stage: Stage) -> dict[int, datetime]:
    """When each epoch but the last one ended: from then on controls may be shown the product."""
    if stage.epoch == 0:
        return {}
    starts = [at for _, at in shares_of(stage.rollout.slot, stage.key)]
    return {epoch: starts[epoch + 1] for epoch in range(len(starts) - 1)}
