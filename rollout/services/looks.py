"""From rows to what the promotion rule is given: the plan, the look, the conditions.

Minutes count from the stage's start, on the rollout's own clock: a demonstration may run faster
(`Rollout.time_scale`). How late a source is stays a matter of real minutes: a feed does not get
slower because a calendar is shortened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.conf import settings

from huidu import promotion
from huidu.promotion import contract
from huidu.promotion.ramp import Ramp, Step
from rollout.models import Arm, Guard, Metric, Rollout, Stage
from rollout.services import capacity, late, sums, waivers
from rollout.services.enrolment import PPB, plain_chance_ppb
from rollout.services.exposures import shares_of
from rollout.services.look_rows import CellRow, MarkRow, Rows

WATCHED_MARGIN: Final = 0.10
"""What a watched guard without a margin of its own is compared with."""

_KINDS: Final = {Metric.Kind.COUNT: contract.Kind.MEAN}


def minute(stage: Stage, now: datetime) -> float:
    """Minutes since the stage began, on the rollout's clock."""
    assert stage.entered_at is not None
    elapsed: timedelta = now - stage.entered_at
    return elapsed.total_seconds() / 60.0 * stage.rollout.time_scale


def plan_of(
    stage: Stage,
    guards: Sequence[Guard],
    cells: Sequence[CellRow],
    before: contract.Plan | None = None,
) -> contract.Plan:
    """The plan as rows say it; `before` is the last look's, whose cells stay in place."""
    known = {} if before is None else {str(each.id): each for each in before.cells}
    for each in _expected_cells(stage) if not known else ():
        known[str(each.id)] = each
    late_chances = late.chances(cells)
    for row in cells:
        if row.metric_id is None:
            key = (row.stratum, row.epoch, row.chance_ppb)
            cell = _cell(*key)
            if key in late_chances:
                cell = msgspec.structs.replace(cell, rho=late_chances[key], again=True)
            known.setdefault(str(cell.id), cell)
    return contract.Plan(
        rollout=f"{stage.rollout.flag.key}#{stage.rollout.slot}/{stage.key}",
        stage=contract.StageTimes(
            horizon_min=_minutes(stage.maximum_stay),
            min_min=_minutes(stage.minimum_stay),
            look_min=float(stage.look_minutes),
            early_min=float(stage.early_minutes),
            promotion_every_min=float(stage.promotion_minutes),
        ),
        alpha=contract.Alpha(rollback=stage.alpha_rollback, promote=stage.alpha_promote),
        cells=tuple(known[name] for name in sorted(known)),
        metrics=tuple(metric_of(each) for each in guards),
        minimum_users=stage.minimum_users,
        waiver=waivers.signed(stage),
        # Evidence begun by one division goes on by it: to divide anew would be to choose.
        design=promotion.DESIGN if before is None else before.design,
    )


def metric_of(guard: Guard) -> contract.Metric:
    """A guard as the promotion rule knows it."""
    metric = guard.metric
    margin = guard.margin_rel
    if guard.role == Guard.Role.WATCH and margin is None and guard.limit_abs is None:
        margin = WATCHED_MARGIN
    gauge = metric.kind == Metric.Kind.GAUGE
    return contract.Metric(
        name=metric.key,
        kind=kind_of(metric),
        harm=contract.Harm(metric.harm),
        margin_rel=None if gauge else margin,
        limit_abs=None if gauge else guard.limit_abs,
        role=contract.Role(guard.role),
        lag_days=None if metric.lag is None else metric.lag / timedelta(days=1),
        fresh_min=None if metric.fresh_minutes is None else float(metric.fresh_minutes),
        edges_ms=tuple(metric.edges),
        baseline_index=metric.baseline_index,
        margin_index=metric.margin_index,
        max=guard.maximum if gauge else None,
        min=guard.minimum if gauge else None,
        for_looks=guard.for_looks,
    )


def kind_of(metric: Metric) -> contract.Kind:
    """The kind of test that judges a metric."""
    return _KINDS.get(Metric.Kind(metric.kind)) or contract.Kind(metric.kind)


def look_of(
    stage: Stage,
    guards: Sequence[Guard],
    read: Rows,
    *,
    k: int,
) -> contract.Look:
    """What the cells say now.

    A metric whose source never sent anything is None in every cell, never 0.
    """
    now, cells = read.now, read.cells[stage.pk]
    marks: Mapping[int | None, MarkRow] = read.marks[stage.pk]
    t_min = minute(stage, now)
    by_place: dict[tuple[str, str], dict[int | None, CellRow]] = defaultdict(dict)
    names = set()
    for row in cells:
        by_place[cell_id(row), row.arm][row.metric_id] = row
        if row.metric_id is None:
            names.add(cell_id(row))
    counted = [each.metric for each in guards if each.metric.kind != Metric.Kind.GAUGE]
    alive = {
        metric.pk
        for metric in counted
        if metric.pk in marks and marks[metric.pk].complete_to is not None
    }

    def arm(name: str, which: Arm) -> contract.Arm:
        rows = by_place[name, which]
        enrolled = rows[None].users if None in rows else 0
        readings: dict[str, Any] = {}
        for metric in counted:
            row, width = rows.get(metric.pk), sums.width(metric)
            numbers = row.sums if row is not None else [0.0] * width
            # Cells counted for another kind, which no service lets happen, are no reading.
            known = metric.pk in alive and len(numbers) == width
            readings[metric.key] = sums.reading(metric, numbers, enrolled) if known else None
        return contract.Arm(enrolled, readings)

    return contract.Look(
        k=k,
        t_min=t_min,
        cells=tuple(
            contract.CellCounts(arm(name, Arm.TREATED), arm(name, Arm.CONTROL), name)
            for name in sorted(names)
        ),
        gauges={
            each.metric.key: read.gauge(each.metric)
            for each in guards
            if each.metric.kind == Metric.Kind.GAUGE
        },
        as_of={metric.key: _as_of(marks.get(metric.pk), t_min, now) for metric in counted},
    )


def _as_of(mark: MarkRow | None, t_min: float, now: datetime) -> contract.AsOf | None:
    """Both arms come through one feed, so they are complete up to the same minute."""
    if mark is None or mark.complete_to is None or mark.rolled_at is None:
        return None
    complete = min(mark.complete_to, mark.rolled_at, now)
    up_to = t_min - (now - complete).total_seconds() / 60.0
    return contract.AsOf(up_to, up_to)


def conditions_of(stage: Stage, guards: Sequence[Guard], read: Rows) -> contract.Conditions:
    """What must hold besides the evidence."""
    rollout, now = stage.rollout, read.now
    return contract.Conditions(
        approved=not stage.needs_approval or bool(stage.approved_by),
        compliance_signed=rollout.flag_id not in read.unsigned,
        capacity_left=capacity.capacity_left(
            stage, guards, now, needs_places=rollout.flag_id in read.needs_places
        ),
        frozen=is_frozen(now),
        paused=rollout.status == Rollout.Status.PAUSED,
        left=stage.status == Stage.Status.DONE,
        ramping=stage.full_share_ppm > stage.share_ppm,
        accepted=tuple(sorted(stage.accepted)),
        waiver_unsigned=waivers.is_unsigned(stage),
    )


def ramp_of(stage: Stage, cells: Sequence[CellRow], now: datetime) -> Ramp | None:
    """Where the stage stands in its ramp; None without one."""
    if not stage.ramp or stage.status != Stage.Status.RUNNING:
        return None
    since = stage.drawn_at or stage.entered_at
    assert since is not None
    elapsed = (now - since).total_seconds() / 60.0 * stage.rollout.time_scale
    users = sum(
        row.users
        for row in cells
        if row.metric_id is None and row.arm == Arm.TREATED and row.epoch == stage.epoch
    )
    steps = msgspec.convert(stage.ramp, tuple[Step, ...])
    return Ramp(share_ppm=stage.share_ppm, minutes=max(elapsed, 0.0), users=users, steps=steps)


def is_frozen(now: datetime) -> bool:
    """Whether now lies in one of the settings' freeze windows, (from, to) and perhaps a name."""
    windows: Sequence[Sequence[Any]] = getattr(settings, "HUIDU_FREEZE_WINDOWS", ())
    return any(window[0] <= now < window[1] for window in windows)


def cell_id(row: CellRow) -> str:
    """The name of a row's cell; arms and metrics share it."""
    return _name(row.stratum, row.epoch, row.chance_ppb)


def _name(stratum: int, epoch: int, chance_ppb: int) -> str:
    return f"w{stratum}.e{epoch}.c{chance_ppb}"


def _cell(stratum: int, epoch: int, chance_ppb: int) -> contract.Cell:
    return promotion.Cell(
        id=_name(stratum, epoch, chance_ppb),
        rho=chance_ppb / PPB,
        stratum=stratum,
        epoch=epoch,
    )


def _expected_cells(stage: Stage) -> list[contract.Cell]:
    """Cells to begin with, before anybody came: one per weight class of the stage."""
    weights = {1, *(int(each["weight"]) for each in stage.weights)}
    threshold = int(stage.threshold or 0)
    if stage.epoch > 0:
        shares = [share for share, _ in shares_of(stage.rollout.slot, stage.key)]
        threshold = shares[0] if shares else threshold
    return [_cell(each, 0, plain_chance_ppb(threshold, each)) for each in sorted(weights)]


def _minutes(stay: timedelta) -> float:
    return stay.total_seconds() / 60.0
