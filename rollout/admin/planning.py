"""Planning on the page of a stage that has not begun: what its traffic can prove, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from cohorts.admin.fields import shown_percent
from huidu.errors import EvidenceError
from rollout.models import Guard, Metric, Stage
from rollout.services import power
from rollout.services.power import Base, GuardPower, Share
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
    traffic = _traffic(asked)
    bases, faults = _bases(guards, asked)
    found = None
    try:
        if len(guards) <= MOST_GUARDS:
            found = power.plan(stage, traffic, bases)
    except EvidenceError:
        faults.append(gettext("Users a day must be a number above 0."))
    if traffic is None:
        traffic = found.daily_traffic if found else power.guessed_traffic(stage)
    return {
        "traffic": f"{traffic:.0f}" if math.isfinite(traffic) else "",
        "guessed": found is not None and found.guessed,
        "lines": [_line(each) for each in found.guards] if found else [],
        "shares": _shares(found.shares) if found and len(found.shares) > 1 else [],
        "faults": faults,
        "hopeless": found is not None and found.hopeless,
        "horizon": stage.maximum_stay,
    }


def _traffic(asked: Mapping[str, str]) -> float | None:
    """Users a day who pass the gates, as typed; None where nothing is."""
    text = asked.get("traffic", "").strip().replace(",", "")
    return _number(text) if text else None


def _shares(shares: list[Share]) -> list[dict[str, str]]:
    return [
        {
            "share": shown_percent(each.share_ppm),
            "from_day": _day(each.from_day),
            "days": _day(each.days) if each.days is not None else "",
            "treated": f"{each.treated_per_day:,.0f}",
            "control": f"{each.users_per_day - each.treated_per_day:,.0f}",
        }
        for each in shares
    ]


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


def _line(found: GuardPower) -> dict[str, Any]:
    guard, outlook, base = found.guard, found.outlook, found.base
    metric = guard.metric
    by_share = metric.kind in BY_SHARE
    line: dict[str, Any] = {
        "name": found.label,
        "field": f"base_{metric.key}" if by_share and found.why_not != "absolute" else "",
        "base": f"{base.value * 100:.4g}" if base and by_share else "",
        "shown_base": f"{base.value:,.4g}" if base else "—",
        "margin": percent(guard.margin_rel) if guard.margin_rel is not None else "—",
        "hopeless": found.hopeless,
        "why_not": _why_not(found),
    }
    if outlook is None:
        return line
    harm = outlook.smallest_harm
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
    }


def _day(day: float | None) -> str:
    return "—" if day is None else f"{day:.1f}".removesuffix(".0")


def _why_not(found: GuardPower) -> str:
    if found.outlook is not None:
        return ""
    told = {
        "absolute": gettext("Has an absolute limit, which needs no comparison."),
        "no_control": gettext("Everybody is shown it, so there is nobody to compare with."),
        "no_base": gettext("No rate is known yet: type in what users show without the product.")
        if found.guard.metric.kind in BY_SHARE
        else gettext(
            "Nothing is known of it yet: it can be planned once users without the product have it."
        ),
    }
    return told.get(found.why_not) or gettext("Cannot be planned: %s") % found.why_not
