"""Planning on the page of a stage that has not begun: what its traffic can prove, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils.translation import gettext

from cohorts.models import Profile
from huidu.errors import EvidenceError
from rollout.models import Guard, Metric, Stage
from rollout.services import power
from rollout.services.power import Base, GuardPower
from rollout.services.readings import percent

BY_SHARE = (Metric.Kind.BINARY, Metric.Kind.BINARY_DELAYED, Metric.Kind.USERS_RATIO)
"""Kinds whose rate a person can name: a share of users."""

MOST_GUARDS = 8
"""Planning takes some hundredths of a second a guard; a stage with more shows the first ones."""


def planning(stage: Stage, asked: Mapping[str, str]) -> dict[str, Any] | None:
    """What the page shows; None once the stage has begun, or where nothing is guarded.

    Args:
        asked: the page's query: ``traffic`` in users a day, ``base_<metric>`` in percent.
    """
    if stage.status != Stage.Status.PENDING:
        return None
    guards = list(
        stage.guards.exclude(metric__kind=Metric.Kind.GAUGE)
        .select_related("metric")
        .order_by("metric__key")
    )
    if not guards:
        return None
    traffic, guessed = _traffic(stage, asked)
    bases, faults = _bases(guards, asked)
    try:
        found = power.stage_power(stage, traffic, bases) if len(guards) <= MOST_GUARDS else []
    except EvidenceError:
        found = []
        faults.append(gettext("Users a day must be a number above 0."))
    by_metric = {each.metric.key: each for each in guards}
    lines = [_line(stage, by_metric[each.metric], each, bases) for each in found]
    return {
        "traffic": f"{traffic:.0f}" if math.isfinite(traffic) else "",
        "guessed": guessed,
        "lines": lines,
        "faults": faults,
        "hopeless": any(line["hopeless"] for line in lines),
        "horizon": stage.maximum_stay,
    }


def _traffic(stage: Stage, asked: Mapping[str, str]) -> tuple[float, bool]:
    """Users a day who pass the gates, and whether that is our guess."""
    if text := asked.get("traffic", "").strip().replace(",", ""):
        return _number(text), False
    # Each known user once during the stage: few products are met sooner by everybody.
    days = max(stage.maximum_stay / timedelta(days=1), 1.0)
    return max(math.floor(_population(stage) / days), 1), True


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


def _bases(guards: list[Guard], asked: Mapping[str, str]) -> tuple[dict[str, Base], list[str]]:
    bases, faults = {}, []
    for guard in guards:
        text = asked.get(f"base_{guard.metric.key}", "").strip()
        if not text or guard.metric.kind not in BY_SHARE:
            continue
        share = _number(text) / 100
        if 0 < share < 1:
            bases[guard.metric.key] = Base(share)
        else:
            faults.append(gettext("A rate must lie between 0 and 100 %."))
    return bases, faults


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _line(
    stage: Stage, guard: Guard, found: GuardPower, bases: Mapping[str, Base]
) -> dict[str, Any]:
    metric, outlook = guard.metric, found.outlook
    base = bases.get(metric.key) or power.known_base(stage, metric)
    by_share = metric.kind in BY_SHARE
    line: dict[str, Any] = {
        "name": found.label,
        "field": f"base_{metric.key}" if by_share and found.why_not != "absolute" else "",
        "base": f"{base.value * 100:.4g}" if base and by_share else "",
        "shown_base": f"{base.value:,.4g}" if base else "—",
        "margin": percent(guard.margin_rel) if guard.margin_rel is not None else "—",
        "hopeless": False,
        "why_not": _why_not(found),
    }
    if outlook is None:
        return line
    harm = outlook.smallest_harm
    must = guard.role == Guard.Role.MUST_PROVE
    # Without any information a proof still comes by chance as often as false ones are allowed.
    luck = 2 * stage.alpha_promote
    return line | {
        "proven": percent(round(outlook.proven, 3)),
        "day": _day(outlook.day),
        "range": f"{_day(outlook.day_early)} – {_day(outlook.day_late)}"
        if outlook.day_early is not None
        else "—",
        "users": f"{outlook.users:,}" if outlook.users is not None else "—",
        "smallest_margin": percent(round(outlook.smallest_margin, 4))
        if outlook.smallest_margin is not None
        else "—",
        "harm": f"{(harm - 1) * 100:+.0f} %" if harm is not None else "—",
        "hopeless": must and (not outlook.can_conclude or outlook.proven <= luck),
        "needed": must,
    }


def _day(day: float | None) -> str:
    return "—" if day is None else f"{day:.1f}".removesuffix(".0")


def _why_not(found: GuardPower) -> str:
    if found.outlook is not None:
        return ""
    told = {
        "absolute": gettext("Has an absolute limit, which needs no comparison."),
        "no_control": gettext("Everybody is shown it, so there is nobody to compare with."),
        "no_base": gettext("No rate is known yet: type in what users show without the product."),
    }
    return told.get(found.why_not) or gettext("Cannot be planned: %s") % found.why_not
