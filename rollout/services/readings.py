"""A guard in people's words, and what charts show of it, in the language that is active now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.utils import translation
from django.utils.translation import gettext

from huidu import promotion
from huidu.promotion.plan import guard_weight
from rollout.models import Decision, Guard, Metric, Stage
from rollout.services.looks import kind_of
from rollout.services.recorded import newest_plan
from rollout.services.wording import minutes

MOST_POINTS: Final = 400
"""Points of one chart; longer histories are thinned, the newest look always stays."""


class Words(NamedTuple):
    """What a guard does, in up to four sentences; `widens` is empty unless it must prove, `late`
    unless its events come late, `fresh` unless its data may be older than usual, or must be newer.
    """

    stops: str
    widens: str
    late: str = ""
    fresh: str = ""


def words(guard: Guard) -> Words:
    """When this guard stops the stage, and what must be proven before the stage widens."""
    return _words(guard)._replace(late=_late(guard), fresh=_fresh(guard))


def _fresh(guard: Guard) -> str:
    most = guard.metric.fresh_minutes
    if most is None:
        return ""
    given = {"age": minutes(most)}
    if guard.metric.kind == Metric.Kind.GAUGE:
        return gettext("A reading older than %(age)s counts as none: it is unknown.") % given
    if guard.role == Guard.Role.WATCH:
        return gettext("Its data may be up to %(age)s old.") % given
    return (
        gettext(
            "Its data may be up to %(age)s old: harm since then is not seen yet. With older data "
            "the stage is held."
        )
        % given
    )


def _late(guard: Guard) -> str:
    lag = guard.metric.lag
    if guard.metric.kind != Metric.Kind.BINARY_DELAYED or lag is None:
        return ""
    days = {"days": _number(lag / timedelta(days=1))}
    if guard.role == Guard.Role.MUST_PROVE:
        return (
            gettext(
                "Its events come up to %(days)s days late: let the minimum stay be long enough for "
                "them to show."
            )
            % days
        )
    return gettext("Its events come up to %(days)s days late and count as they come.") % days


def _words(guard: Guard) -> Words:
    metric = guard.metric
    name = label(metric)
    if metric.kind == Metric.Kind.GAUGE:
        return Words(_gauge(guard, name), "")
    if guard.role == Guard.Role.WATCH:
        return Words(gettext("%(metric)s is only watched.") % {"metric": name}, "")
    if guard.limit_abs is not None:
        return _absolute(guard, name)
    return _compared(guard, name)


def _gauge(guard: Guard, name: str) -> str:
    given = {"metric": name, "looks": guard.for_looks, "unit": _unit(guard.metric)}
    limits = []
    if guard.maximum is not None:
        limits.append(gettext("above %(limit)s") % {"limit": _number(guard.maximum)})
    if guard.minimum is not None:
        limits.append(gettext("below %(limit)s") % {"limit": _number(guard.minimum)})
    given["limits"] = gettext(" or ").join(limits)
    return (
        gettext(
            "We stop when the reading of %(metric)s is %(limits)s%(unit)s in %(looks)s looks in a "
            "row."
        )
        % given
    )


def _absolute(guard: Guard, name: str) -> Words:
    limit = guard.limit_abs or 0.0
    share = guard.metric.kind not in (Metric.Kind.MEAN, Metric.Kind.COUNT)
    given = {
        "metric": name,
        "limit": percent(limit) if share else f"{_number(limit)}{_unit(guard.metric)}",
    }
    if guard.metric.harm == Metric.Harm.INCREASE:
        stops = gettext("We stop when %(metric)s is proven to exceed %(limit)s.") % given
        widens = gettext("We widen only when %(metric)s is proven to stay below %(limit)s.") % given
    else:
        stops = gettext("We stop when %(metric)s is proven to fall below %(limit)s.") % given
        widens = gettext("We widen only when %(metric)s is proven to stay above %(limit)s.") % given
    return Words(stops, widens if guard.role == Guard.Role.MUST_PROVE else "")


def _compared(guard: Guard, name: str) -> Words:
    margin = guard.margin_rel or 0.0
    given = {"metric": name, "margin": percent(margin), "half": percent(margin / 2)}
    if guard.metric.harm == Metric.Harm.INCREASE:
        stops = (
            gettext(
                "We stop when it is proven that %(metric)s is higher than in the control group, "
                "by more than %(half)s."
            )
            % given
        )
        widens = (
            gettext(
                "We widen only when %(metric)s is proven to be at most %(margin)s higher than in "
                "the control group."
            )
            % given
        )
    else:
        stops = (
            gettext(
                "We stop when it is proven that %(metric)s is lower than in the control group, "
                "by more than %(half)s."
            )
            % given
        )
        widens = (
            gettext(
                "We widen only when %(metric)s is proven to be at most %(margin)s lower than in "
                "the control group."
            )
            % given
        )
    return Words(stops, widens if guard.role == Guard.Role.MUST_PROVE else "")


class Point(NamedTuple):
    """One look of one guard. Minutes are the stage's own; None: too little was known."""

    at: datetime
    minute: float
    estimate: float | None
    low: float | None
    high: float | None
    e_value: float


class Chart(NamedTuple):
    """The looks of one guard.

    `reference` is where the estimate lies if nothing changed (1 for comparisons, else None),
    `margin` the largest acceptable value of it, `alarm` the e-value that proves harm.
    """

    metric: str
    label: str
    reference: float | None
    margin: float | None
    alarm: float
    points: list[Point]


def charts(stage: Stage) -> list[Chart]:
    """Estimate, interval and e-value of every guard over the looks of a stage, oldest first."""
    rows = Decision.objects.filter(stage=stage).order_by("look")
    history = list(rows.values_list("at", "evidence__look__t_min", "outcome__readings"))
    every = max(1, -(-len(history) // MOST_POINTS))
    history = history[::-1][::every][::-1]
    points: dict[str, list[Point]] = {}
    for at, minute, readings in history:
        for each in readings or ():
            points.setdefault(each["metric"], []).append(_point(at, minute, each))
    guards = stage.guards.select_related("metric").order_by("metric__key")
    alone = _proves_harm_alone(stage, guards)
    return [
        Chart(
            each.metric.key,
            label(each.metric),
            1.0 if _is_compared(each) else None,
            _margin(each),
            alone[each.pk],
            points.get(each.metric.key, []),
        )
        for each in guards
    ]


def _proves_harm_alone(stage: Stage, guards: Iterable[Guard]) -> dict[int, float]:
    """By guard: the e-value from which it alone, the others silent, proves harm."""
    plan = newest_plan(stage.pk)
    design = promotion.DESIGN if plan is None else plan.design
    weights = {each.pk: guard_weight(kind_of(each.metric), design) for each in guards}
    whole = sum(
        weights[each.pk]
        for each in guards
        if each.role != Guard.Role.WATCH and each.metric.kind != Metric.Kind.GAUGE
    )
    return {
        pk: max(whole, weight) / weight / stage.alpha_rollback for pk, weight in weights.items()
    }


def _point(at: datetime, minute: float, reading: dict[str, Any]) -> Point:
    return Point(
        at,
        minute,
        reading.get("estimate"),
        reading.get("low"),
        reading.get("high"),
        float(reading.get("e_value", 1.0)),
    )


def _is_compared(guard: Guard) -> bool:
    return guard.limit_abs is None and guard.metric.kind != Metric.Kind.GAUGE


def _margin(guard: Guard) -> float | None:
    if guard.metric.kind == Metric.Kind.GAUGE:
        return guard.maximum if guard.maximum is not None else guard.minimum
    if guard.limit_abs is not None or guard.margin_rel is None:
        return guard.limit_abs
    sign = 1.0 if guard.metric.harm == Metric.Harm.INCREASE else -1.0
    return 1.0 + sign * guard.margin_rel


def label(metric: Metric) -> str:
    """A metric's name in the active language, else its key."""
    language = translation.get_language() or ""
    first, second = metric.label_en, metric.label_zh
    if language.startswith("zh"):
        first, second = second, first
    return first or second or metric.key


def percent(share: float) -> str:
    """A share as people write it: 0.05 is ``5 %``."""
    return f"{_number(share * 100)} %"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _unit(metric: Metric) -> str:
    return f" {metric.unit}" if metric.unit else ""
