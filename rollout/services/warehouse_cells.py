"""Cells of metrics that a warehouse tells: the numbers of `evidence`, counted by a query.

Every reading counts a stage's whole time anew and writes what differs, so reading twice changes
nothing, and a late row restates its own hour and those after it. A source that is away, empty,
stalled or impossible writes nothing: its mark stays where it was, grows old, and the stage is held.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from django.db import OperationalError, transaction
from django.db.models import OuterRef, Q, Subquery

from rollout.models import Exposure, Guard, Metric, MetricCell, RollupMark, Stage
from rollout.services import evidence, gauges, late
from rollout.services.cells import Series
from rollout.services.sources import SourceError, happenings
from rollout.services.sources.happenings import FOREVER_US, WINDOWS, Counted

logger = logging.getLogger(__name__)

SAME: Final = 1e-9
"""Sums closer than this, relatively, are the same: rows are added in no certain order."""


class Read(NamedTuple):
    """What one reading did: cells that were written, and how many of them were of past hours."""

    cells: int
    restated: int


def wanted(now: datetime) -> list[Guard]:
    """Guards of running and watched stages that a warehouse tells of; first those which were never
    read or wait longest, so that a reading which had to stop goes on where it stopped."""
    running = Q(status=Stage.Status.RUNNING)
    mark = RollupMark.objects.filter(stage=OuterRef("stage"), metric=OuterRef("metric"))
    guards = Guard.objects.filter(
        stage__in=Stage.objects.filter(running | late.watched(now)),
        metric__source=Metric.Source.SQL,
    ).select_related("metric", "stage__rollout__flag")
    read_at = Subquery(mark.values("rolled_at")[:1])
    ordered = guards.order_by(read_at.asc(nulls_first=True), "stage", "metric__key")
    return [each for each in ordered if each.metric.from_warehouse]


def read_anew(guard: Guard, *, now: datetime) -> int:
    """Read one guard's metric of its stage; returns the cells that were written. A source that is
    unknown writes none, and what it said instead stands at the metric."""
    stage, metric = guard.stage, guard.metric
    try:
        evidence.roll_up(stage, now=now)
    except OperationalError as error:
        logger.warning("rollout.warehouse_waits stage=%s %s", stage.pk, error)
        return 0
    try:
        done = read(stage, metric, now=now)
    except SourceError as error:
        logger.warning("rollout.warehouse_unread stage=%s %s", stage.pk, error)
        gauges.note(metric, error.message)
        return 0
    gauges.note(metric, "")
    return done.cells


def read(
    stage: Stage,
    metric: Metric,
    *,
    now: datetime,
    deadline: float = happenings.DEADLINE_SECONDS,
) -> Read:
    """Count one metric of one stage, and write what differs.

    Users count once their enrolment is in the cells: `evidence.roll_up` comes first.

    Raises:
        SourceError: the source is unknown; nothing is written. The sentence names the metric.
    """
    mark = RollupMark.objects.filter(stage=stage, metric=None).first()
    counted = counted_now(stage, metric, mark.exposures if mark else 0, now, deadline)
    with transaction.atomic():
        mark = _locked_mark(stage, metric)
        if mark.rolled_at is not None and mark.rolled_at > now:
            return Read(0, 0)  # a later reading was faster
        done = _write(stage, metric, counted, now)
        mark.complete_to, mark.rolled_at = counted.complete_to, now
        mark.save(update_fields=["complete_to", "rolled_at"])
    if done.restated:
        logger.info(
            "rollout.warehouse_restated stage=%s metric=%s cells=%s",
            stage.pk,
            metric.key,
            done.restated,
        )
    return done


def counted_now(
    stage: Stage, metric: Metric, exposures: int, now: datetime, deadline: float
) -> Counted:
    """What the query says of the users enrolled up to this exposure's number.

    Raises:
        SourceError: the source is unknown; the sentence names the metric.
    """
    rows = _windows(stage, metric, exposures)
    batches = []
    while some := list(islice(rows, 50_000)):
        batches.append(pa.RecordBatch.from_pylist(some, schema=WINDOWS))
    windows = pa.Table.from_batches(batches, schema=WINDOWS)
    try:
        return happenings.count(metric, windows, now=now, deadline=deadline)
    except SourceError as error:
        raise SourceError(f"metric {metric.key}: {error.message}", code=error.code) from error


def _windows(stage: Stage, metric: Metric, exposures: int) -> Iterator[dict[str, Any]]:
    """When each enrolled user's happenings count, and in which epoch."""
    parts = late.Parts(stage)
    ends = evidence.epoch_ends(stage)
    rows = Exposure.objects.filter(stage=stage, pk__lte=exposures).order_by("pk")
    columns = ("pk", "user_id", "arm", "stratum", "epoch", "chance_ppb", "first_at")
    for pk, user, arm, stratum, epoch, chance, first in rows.values_list(*columns).iterator(20_000):
        moments = [first, *(part.starts for part in parts.parts if part.starts > first)]
        for start, end in zip(moments, [*moments[1:], None], strict=True):
            counts_in = parts.epoch_of(metric, (arm, stratum, epoch, user), start)
            if counts_in < 0:
                continue
            last = ends.get(epoch)
            until = min((each for each in (end, last) if each is not None), default=None)
            yield {
                "exposure": pk,
                "user_id": user,
                "arm": arm,
                "stratum": stratum,
                "epoch": counts_in,
                "chance_ppb": chance,
                "starts_us": _us(start),
                "ends_us": FOREVER_US if until is None else _us(until),
            }


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _locked_mark(stage: Stage, metric: Metric) -> RollupMark:
    RollupMark.objects.bulk_create([RollupMark(stage=stage, metric=metric)], ignore_conflicts=True)
    return RollupMark.objects.select_for_update().get(stage=stage, metric=metric)


def _write(stage: Stage, metric: Metric, counted: Counted, now: datetime) -> Read:
    kept = {
        (Series(row.arm, row.stratum, row.epoch, row.chance_ppb), row.hour): row
        for row in MetricCell.objects.filter(stage=stage, metric=metric)
    }
    wanted = {
        (Series(*key), hour): numbers
        for key, hours in counted.cells.items()
        for hour, numbers in hours.items()
    }
    newest = _newest(wanted)
    added, changed = [], []
    for (series, hour), numbers in wanted.items():
        row = kept.pop((series, hour), None)
        users, sums, latest = round(numbers[0]), numbers[1:], newest[series] == hour
        if row is None:
            row = MetricCell(stage=stage, metric=metric, **series._asdict(), hour=hour)
            added.append(row)
        elif row.users == users and row.latest == latest and _same(row.sums, sums):
            continue
        else:
            changed.append(row)
        row.users, row.sums, row.latest = users, sums, latest
    gone = list(kept.values())
    MetricCell.objects.filter(pk__in=[each.pk for each in gone]).delete()
    MetricCell.objects.bulk_update(changed, ["users", "sums", "latest"], batch_size=1_000)
    MetricCell.objects.bulk_create(added, batch_size=1_000)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    touched = [*gone, *changed, *added]
    past = sum(each.hour < this_hour - timedelta(hours=1) for each in touched)
    return Read(len(touched), past)


def _newest(wanted: Iterable[tuple[Series, datetime]]) -> Mapping[Series, datetime]:
    newest: dict[Series, datetime] = {}
    for series, hour in wanted:
        newest[series] = max(hour, newest.get(series, hour))
    return newest


def _same(before: list[float], now: list[float]) -> bool:
    return len(before) == len(now) and all(
        math.isclose(a, b, rel_tol=SAME, abs_tol=SAME) for a, b in zip(before, now, strict=True)
    )
