"""What a stage's traffic can prove, said before the stage starts.

Base rates come from what is known: the control arm of the flag's earlier stages, else recent
outcomes of the environment, else the caller's own figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec
from django.db import connection
from django.db.models import Sum

from cohorts.models import Profile
from huidu.errors import EvidenceError
from huidu.model import FULL_THRESHOLD, PPM
from huidu.promotion.plan import guard_weight
from huidu.promotion.ramp import Step
from huidu.stats import power
from rollout.models import Arm, Guard, Metric, MetricCell, Stage
from rollout.services import looks
from rollout.services.late import LATE
from rollout.services.readings import label

DAY: Final = timedelta(days=1)
MOST_TRAFFIC: Final = 10_000_000_000
"""Users a day; no product has more, and larger numbers leave the arithmetic."""


class Base(NamedTuple):
    """What a metric shows without the flag: share of users with the event, or mean and its
    standard deviation."""

    value: float
    deviation: float | None = None


class Share(NamedTuple):
    """One share of a stage: from which day on, of whom how many are shown it a day.

    `users_per_day` pass the gates and were not reached by a smaller share; `treated_per_day` of
    them are shown it, none of them is compared where everybody is. `days` is None for the last.
    """

    share_ppm: int
    from_day: float
    days: float | None
    users_per_day: float
    treated_per_day: float


class GuardPower(NamedTuple):
    """The outlook of one guard; None where no base rate is known or nothing is compared.

    `hopeless`: it must prove, and within the stage's longest stay it all but never will.
    """

    guard: Guard
    metric: str
    label: str
    base: Base | None
    outlook: power.Outlook | None
    why_not: str = ""
    hopeless: bool = False


class StagePower(NamedTuple):
    """What a planned stage can prove with this traffic. `guessed`: nobody said the traffic."""

    daily_traffic: float
    guessed: bool
    shares: list[Share]
    guards: list[GuardPower]

    @property
    def hopeless(self) -> bool:
        return any(each.hopeless for each in self.guards)


def plan(
    stage: Stage, daily_traffic: float | None = None, bases: Mapping[str, Base] | None = None
) -> StagePower:
    """What every comparing guard of a stage can prove, share by share of its ramp.

    Args:
        daily_traffic: users a day who pass every gate, drawn or not, > 0; None: our guess.
        bases: by metric key; a missing one is read from earlier evidence.
    Raises:
        EvidenceError: a number that cannot be; `path` says which.
    """
    guessed = daily_traffic is None
    traffic = guessed_traffic(stage) if daily_traffic is None else daily_traffic
    for key, base in (bases or {}).items():
        _check_base(key, base)
    guards = stage_power(stage, traffic, bases)
    return StagePower(traffic, guessed, _told_shares(stage, traffic), guards)


def _check_base(key: str, base: Base) -> None:
    deviation = base.deviation
    fine = math.isfinite(base.value) and base.value > 0
    if not fine or (deviation is None and base.value >= 1):
        raise EvidenceError(
            f"expected a share above 0 and below 1, or a mean with its deviation, got {base.value}",
            path=f"bases.{key}.value",
        )
    if deviation is not None and not (math.isfinite(deviation) and deviation > 0):
        raise EvidenceError(
            f"expected a standard deviation above 0, got {deviation}",
            path=f"bases.{key}.deviation",
        )


def stage_power(
    stage: Stage, daily_traffic: float, bases: Mapping[str, Base] | None = None
) -> list[GuardPower]:
    """The guards' part of `plan`.

    Raises:
        EvidenceError: the traffic is not a positive number.
    """
    if not (math.isfinite(daily_traffic) and 0 < daily_traffic <= MOST_TRAFFIC):
        raise EvidenceError(
            f"expected users a day above 0, up to {MOST_TRAFFIC:,}, got {daily_traffic}",
            path="traffic",
        )
    guards = [
        each
        for each in stage.guards.select_related("metric").order_by("metric__key")
        if each.metric.kind != Metric.Kind.GAUGE
    ]
    weights = {each.pk: guard_weight(looks.kind_of(each.metric)) for each in guards}
    whole = sum(weights[each.pk] for each in guards if each.role != Guard.Role.WATCH)
    phases = _phases(stage, daily_traffic)
    return [
        _of_guard(
            stage,
            each,
            phases,
            (bases or {}).get(each.metric.key),
            # One that is only watched is told what it would catch as one of them.
            min(weights[each.pk] / whole, 1.0) if whole else 1.0,
        )
        for each in guards
    ]


def _of_guard(
    stage: Stage, guard: Guard, phases: list[_Phase], base: Base | None, share: float
) -> GuardPower:
    metric = guard.metric
    base = base or known_base(stage, metric)
    found = GuardPower(guard, metric.key, label(metric), base, None)
    must = guard.role == Guard.Role.MUST_PROVE
    if guard.margin_rel is None:
        return found._replace(why_not="absolute")
    if not any(0 < each.rho < 1 for each in phases[-1].classes):
        return found._replace(why_not="no_control", hopeless=must)
    if base is None or base.value <= 0:
        return found._replace(why_not="no_base")
    *ramp, last = [
        power.Phase(
            phase.days or 0.0,
            tuple(
                power.Stratum(each.users, each.rho, base.value, base.deviation)
                for each in phase.classes
                if each.users > 0 and 0 < each.rho < 1
            ),
        )
        for phase in phases
    ]
    try:
        outlook = power.outlook(
            last.strata,
            ramp=ramp,
            margin=guard.margin_rel,
            increase=metric.harm == Metric.Harm.INCREASE,
            minimum_days=max(stage.minimum_stay / DAY, 1 / 24),
            horizon_days=max(stage.maximum_stay / DAY, 1 / 24),
            every_days=stage.promotion_minutes / 1440,
            alpha_promote=stage.alpha_promote,
            alpha_rollback=stage.alpha_rollback,
            share=share,
        )
    except EvidenceError as error:
        return found._replace(why_not=str(error))
    # Without any information a proof still comes by chance as often as false ones are allowed.
    by_luck = outlook.proven <= 2 * stage.alpha_promote
    hopeless = must and (not outlook.can_conclude or by_luck)
    return found._replace(outlook=outlook, hopeless=hopeless)


class _Class(NamedTuple):
    """Users a day of one weight whom no smaller share reached, and the chance to be treated."""

    users: float
    rho: float


class _Phase(NamedTuple):
    share_ppm: int
    days: float | None
    classes: list[_Class]


def _phases(stage: Stage, traffic: float) -> list[_Phase]:
    """The stage's shares in order, each with those whom the shares before it leave to chance."""
    sizes = _sizes(stage)
    total = sum(sizes.values())
    reached = _reached_before(stage)
    steps = [
        step for step in msgspec.convert(stage.ramp, list[Step]) if step.share_ppm > stage.share_ppm
    ]
    first = int(stage.threshold) / FULL_THRESHOLD if stage.threshold is not None else None
    shares = [stage.share_ppm, *(each.share_ppm for each in steps)]
    phases = []
    for i, share in enumerate(shares):
        line = first if i == 0 and first is not None else share / PPM
        classes = []
        for weight, size in sizes.items():
            before, now = min(reached * weight, 1.0), min(line * weight, 1.0)
            open_share = 1.0 - before
            rho = max(now - before, 0.0) / open_share if open_share > 0 else 0.0
            classes.append(_Class(traffic * size / total * open_share, rho))
        days = None
        if i < len(steps):
            treated = sum(each.users * each.rho for each in classes)
            wanted = steps[i].users / treated if treated > 0 else 0.0
            days = max(steps[i].after_minutes / 1440, wanted)
        phases.append(_Phase(share, days, classes))
        reached = max(reached, line)
    return phases


def _reached_before(stage: Stage) -> float:
    """The share that earlier stages reach of this stage's users: they take no part in it."""
    reached = 0.0
    for each in stage.rollout.stages.filter(order__lt=stage.order):
        # Of an audience of its own nobody knows how far it overlaps.
        if each.audience_id is None or each.audience_id == stage.audience_id:
            known = each.threshold is not None
            line = int(each.threshold or 0) / FULL_THRESHOLD if known else each.full_share_ppm / PPM
            reached = max(reached, line)
    return reached


def _told_shares(stage: Stage, traffic: float) -> list[Share]:
    day, told = 0.0, []
    for phase in _phases(stage, traffic):
        users = sum(each.users for each in phase.classes)
        treated = sum(each.users * each.rho for each in phase.classes)
        told.append(Share(phase.share_ppm, day, phase.days, users, treated))
        day += phase.days or 0.0
    return told


def guessed_traffic(stage: Stage) -> float:
    """Users a day if every known one comes once during the stage: few products are met sooner."""
    days = max(stage.maximum_stay / DAY, 1.0)
    return max(math.floor(_population(stage) / days), 1)


def _population(stage: Stage) -> int:
    known = (
        Stage.objects.filter(rollout__flag=stage.rollout.flag, population__gt=0)
        .order_by("-pk")
        .values_list("population", flat=True)
        .first()
    )
    if known:
        return int(known)
    with connection.cursor() as cursor:  # counting ten million rows would take a second
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
            [Profile._meta.db_table],
        )
        estimate = int(cursor.fetchone()[0])
    return estimate if estimate > 100_000 else Profile.objects.count()


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
