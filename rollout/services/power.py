"""What a stage's traffic can prove, said before the stage starts.

Base rates come from what is known: the control arm of the flag's earlier stages, else recent
outcomes of the environment, else the caller's own figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from django.db.models import Sum

from huidu.errors import EvidenceError
from huidu.model import FULL_THRESHOLD, PPM
from huidu.stats import power
from rollout.models import Arm, Guard, Metric, MetricCell, Stage
from rollout.services.enrolment import PPB, plain_chance_ppb
from rollout.services.late import LATE
from rollout.services.readings import label

DAY: Final = timedelta(days=1)


class Base(NamedTuple):
    """What a metric shows without the flag: share of users with the event, or mean and its
    standard deviation."""

    value: float
    deviation: float | None = None


class GuardPower(NamedTuple):
    """The outlook of one guard; None where no base rate is known or nothing is compared."""

    metric: str
    label: str
    outlook: power.Outlook | None
    why_not: str = ""


def stage_power(
    stage: Stage, daily_traffic: float, bases: Mapping[str, Base] | None = None
) -> list[GuardPower]:
    """What each comparing guard of a stage can prove with this traffic.

    Args:
        daily_traffic: users a day who pass every gate of the stage, drawn or not, > 0.
        bases: by metric key; a missing one is read from earlier evidence.
    Raises:
        EvidenceError: the traffic is not a positive number.
    """
    if not (math.isfinite(daily_traffic) and daily_traffic > 0):
        raise EvidenceError(f"expected users a day above 0, got {daily_traffic}", path="traffic")
    guards = [
        each
        for each in stage.guards.select_related("metric").order_by("metric__key")
        if each.metric.kind != Metric.Kind.GAUGE
    ]
    stoppers = sum(each.role != Guard.Role.WATCH for each in guards)
    shares = _strata(stage)
    return [
        _of_guard(
            stage, each, shares, daily_traffic, (bases or {}).get(each.metric.key), max(stoppers, 1)
        )
        for each in guards
    ]


def _of_guard(
    stage: Stage,
    guard: Guard,
    shares: Mapping[int, tuple[float, float]],
    traffic: float,
    base: Base | None,
    guards: int,
) -> GuardPower:
    metric = guard.metric
    name = label(metric)
    if guard.margin_rel is None:
        return GuardPower(metric.key, name, None, "absolute")
    if not any(0 < rho < 1 for _, rho in shares.values()):
        return GuardPower(metric.key, name, None, "no_control")
    base = base or known_base(stage, metric)
    if base is None or base.value <= 0:
        return GuardPower(metric.key, name, None, "no_base")
    strata = [
        power.Stratum(traffic * share, rho, base.value, base.deviation)
        for share, rho in shares.values()
        if share > 0 and 0 < rho < 1
    ]
    try:
        found = power.outlook(
            strata,
            margin=guard.margin_rel,
            increase=metric.harm == Metric.Harm.INCREASE,
            minimum_days=max(stage.minimum_stay / DAY, 1 / 24),
            horizon_days=max(stage.maximum_stay / DAY, 1 / 24),
            every_days=stage.promotion_minutes / 1440,
            alpha_promote=stage.alpha_promote,
            alpha_rollback=stage.alpha_rollback,
            guards=guards,
        )
    except EvidenceError as error:
        return GuardPower(metric.key, name, None, str(error))
    return GuardPower(metric.key, name, found)


def _strata(stage: Stage) -> dict[int, tuple[float, float]]:
    """Share of the traffic and chance to be treated, by weight."""
    threshold = (
        int(stage.threshold)
        if stage.threshold is not None
        else stage.share_ppm * FULL_THRESHOLD // PPM
    )
    sizes = _sizes(stage)
    total = sum(sizes.values())
    return {
        weight: (size / total, plain_chance_ppb(threshold, weight) / PPB)
        for weight, size in sizes.items()
    }


def _sizes(stage: Stage) -> dict[int, int]:
    """Eligible users by weight, from the stage's own draw; one class where nothing was drawn."""
    told = stage.strata
    rows = told.values() if isinstance(told, dict) else told
    sizes = {
        int(row["weight"]): int(row.get("eligible", 0))
        for row in rows
        if isinstance(row, dict) and "weight" in row
    }
    return {weight: size for weight, size in sizes.items() if size > 0} or {1: 1}


def known_base(stage: Stage, metric: Metric) -> Base | None:
    """What users without the product showed in earlier or running stages of the flag."""
    cells = MetricCell.objects.filter(
        stage__rollout__flag=stage.rollout.flag, arm=Arm.CONTROL, latest=True, epoch__lt=LATE
    )
    by_stage = cells.filter(metric=metric).order_by("-stage_id").values_list("stage_id", flat=True)
    latest = by_stage.first()
    if latest is None:
        return None
    users = cells.filter(stage=latest, metric=None).aggregate(n=Sum("users"))["n"] or 0
    rows = list(cells.filter(stage=latest, metric=metric).values_list("sums", flat=True))
    if users < 1 or not rows:
        return None
    sums = [math.fsum(column) for column in zip(*rows, strict=True)]
    if metric.kind in (Metric.Kind.MEAN, Metric.Kind.COUNT):
        mean = sums[2] / users
        return Base(mean, math.sqrt(max(sums[3] / users - mean * mean, 0.0)))
    column = metric.baseline_index or 0 if metric.kind == Metric.Kind.LATENCY else 0
    return Base(sums[column] / users)
