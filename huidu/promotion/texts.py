"""What an outcome says to people: one English sentence per reason, each with a stable code."""

from __future__ import annotations

import math

import msgspec

from huidu.errors import EvidenceError
from huidu.promotion.contract import Conditions, Forecast, Look, Metric, Missing
from huidu.promotion.evidence import FRESH_MIN
from huidu.promotion.finding import Finding
from huidu.promotion.plan import CompiledPlan, Guard
from huidu.stats.srm import CHI_SQUARE_LIMIT as CHI_SQUARE_LIMIT


def _e(log_e: float) -> float:
    return math.exp(min(log_e, 690.0))


def _days(minutes: float) -> str:
    return f"day {minutes / 1440:.3g}" if minutes >= 1440 else f"minute {minutes:g}"


def harm_rollback(
    guard: Guard, finding: Finding, combined: float, look: Look
) -> tuple[str, str, str]:
    """Metric, code and sentence of a rollback for proven harm."""
    if guard.absolute:
        return (
            guard.name,
            "limit_broken",
            f"{guard.name} is {finding.estimate:.4g}, beyond its limit {guard.metric.limit_abs:g}:"
            f" e-value {_e(finding.log_e):.3g} after {_days(look.t_min)}",
        )
    moved = "more" if guard.increase else "less"
    shown = (
        f"{moved} than control, which has none"
        if finding.estimate is None
        else f"{finding.estimate:.3g} times control"
    )
    return (
        guard.name,
        "harm_proven",
        f"{guard.name} is {shown}, margin {guard.ratio_at_margin:.3g}:"
        f" e-value {_e(finding.log_e):.3g}, all guards together {_e(combined):.3g},"
        f" after {_days(look.t_min)}",
    )


def gauge_rollback(gauge: Metric, reading: float | None, looks: int) -> tuple[str, str, str]:
    """Metric, code and sentence of a rollback for a gauge."""
    return (
        gauge.name,
        "gauge_breached",
        f"{gauge.name} was beyond {_limits(gauge)} for {looks} looks in a row, last {reading}",
    )


def _limits(gauge: Metric) -> str:
    parts = []
    if gauge.max is not None:
        parts.append(f"max {gauge.max:g}")
    if gauge.min is not None:
        parts.append(f"min {gauge.min:g}")
    return " / ".join(parts)


def promotion(plan: CompiledPlan, look: Look, users: float) -> str:
    provers = [guard.name for guard in plan.guards if guard.must_prove]
    proven = f"{', '.join(provers)} proven no worse than allowed" if provers else "nothing to prove"
    waived = f" (waiver: {plan.plan.waiver})" if plan.plan.waiver else ""
    return f"{proven}{waived} on {users:,.0f} treated users after {_days(look.t_min)}"


def already_decided(decided: str) -> Missing:
    return Missing(code="already_decided", text=f"this stage has ended with {decided}")


def stage_left() -> Missing:
    return Missing(
        code="stage_left", text="the stage is over; late outcomes of its users can still roll back"
    )


def bad_look(path: str, right: str, found: object) -> Missing:
    return Missing(code="bad_evidence", text=f"{path}: expected {right}, got {found}")


def out_of_order(t_min: float, last: float) -> Missing:
    return Missing(
        code="out_of_order",
        text=f"t_min: the look at minute {t_min:g} comes after the one at minute {last:g}",
        values={"t_min": t_min, "last_t_min": last},
    )


def bad_evidence(error: EvidenceError, metric: str | None) -> Missing:
    code = "counts_fell" if error.code == "evidence.fell" else "bad_evidence"
    return Missing(code=code, metric=metric, text=str(error))


def fell(metric: str, cell: str) -> Missing:
    return Missing(
        code="counts_fell",
        metric=metric,
        text=f"{metric}: cumulative counts of cell {cell!r} fell; the last good ones stay",
    )


def no_data(metric: str) -> Missing:
    return Missing(code="no_data", metric=metric, text=f"{metric}: the source gives no data")


def stale(metric: str, age: float, most: float) -> Missing:
    # The usual limit is not told, so that old decisions replay to what they said.
    limit = {} if most == FRESH_MIN else {"limit_min": most}
    return Missing(
        code="stale_source",
        metric=metric,
        text=f"{metric}: both arms were last complete {age:,.0f} minutes ago,"
        f" {most:,.0f} is the most",
        values={"age_min": age, **limit},
    )


def freshness_unknown(metric: str) -> Missing:
    return Missing(
        code="freshness_unknown",
        metric=metric,
        text=f"{metric}: the source does not say up to when it is complete",
    )


def sample_ratio(log_e: float) -> Missing:
    return Missing(
        code="sample_ratio",
        text=f"the sample ratio was proven wrong (e-value {_e(log_e):.3g}, 200 is enough):"
        " users get lost on the way into one arm; find out why and start the stage anew",
        values={"e_value": _e(log_e)},
    )


def sample_ratio_now(chi_square: float) -> Missing:
    return Missing(
        code="sample_ratio_now",
        text=f"the sample ratio looks wrong now: chi-square {chi_square:.2f}, limit"
        f" {CHI_SQUARE_LIMIT}",
        values={"chi_square": chi_square},
    )


def gauge_unknown(metric: str) -> Missing:
    return Missing(code="gauge_unknown", metric=metric, text=f"{metric}: no reading")


def gauge_breached(gauge: Metric, reading: float | None) -> Missing:
    return Missing(
        code="gauge_breached",
        metric=gauge.name,
        text=f"{gauge.name}: {reading} is beyond {_limits(gauge)}",
    )


def too_good(metric: str, finding: Finding) -> Missing:
    return Missing(
        code="too_good_to_be_true",
        metric=metric,
        text=f"{metric} fell by over 60 %: more often a silent feed than good news;"
        " a person has to look",
        values={"e_value": _e(finding.log_too_good)},
    )


def harm_suspected(metric: str, finding: Finding) -> Missing:
    return Missing(
        code="harm_suspected",
        metric=metric,
        text=f"{metric}: harm is suspected (e-value {_e(finding.log_e):.3g}) but not proven",
        values={"e_value": _e(finding.log_e)},
    )


def silent(metric: str, arm: str, users: float) -> Missing:
    return Missing(
        code="silent_feed",
        metric=metric,
        text=f"{metric}: nothing new from the {arm} arm for {users:,.0f} users, far longer than"
        " ever before; is the feed silent?",
        values={"users": users},
    )


def minimum_stay(t: float, minimum: float) -> Missing:
    return Missing(
        code="minimum_stay",
        text=f"the stage stays at least {minimum / 1440:.3g} days,"
        f" {(minimum - t) / 1440:.3g} to go",
        values={"minutes_left": minimum - t},
    )


def minimum_users(users: float, minimum: float) -> Missing:
    return Missing(
        code="minimum_users",
        text=f"{users:,.0f} of at least {minimum:,.0f} treated users",
        values={"users": users, "needed": minimum},
    )


def too_little_data(metric: str) -> Missing:
    return Missing(
        code="too_little_data", metric=metric, text=f"{metric}: too few events to prove anything"
    )


def severity(metric: str, z: float) -> Missing:
    return Missing(
        code="severity_suspected",
        metric=metric,
        text=f"{metric}: users are hit no more often, but bad requests per request exceed the"
        f" margin (z {z:.2f})",
        values={"z": z},
    )


def no_control(metric: str) -> Missing:
    return Missing(
        code="no_control",
        metric=metric,
        text=f"{metric}: this stage has no control arm, so a comparison can never conclude;"
        " use an absolute limit",
    )


def limit_not_proven(guard: Guard, finding: Finding, needed: float) -> Missing:
    log_safe = finding.log_safe or 0.0
    return Missing(
        code="limit_not_proven",
        metric=guard.name,
        text=f"{guard.name}: not yet proven to keep its limit {guard.metric.limit_abs:g}"
        f" (e-value {_e(log_safe):.3g} of {_e(needed):.3g})",
        values={"e_value": _e(log_safe), "needed": _e(needed)},
    )


def not_yet_proven(
    metric: str, z: float | None, bound: float | None, forecast: Forecast | None
) -> Missing:
    shown = "" if z is None or bound is None else f" (z {z:.2f} of {bound:.2f})"
    item = Missing(
        code="not_yet_proven",
        metric=metric,
        text=f"{metric}: not yet proven no worse than its margin{shown}",
        values={} if z is None or bound is None else {"z": z, "bound": bound},
    )
    return with_forecast(item, forecast)


def with_forecast(item: Missing, forecast: Forecast | None) -> Missing:
    """The reason with its forecast, where the forecast is about that metric."""
    if forecast is None or forecast.metric != item.metric:
        return item
    return msgspec.structs.replace(item, text=f"{item.text}; {forecast_text(forecast)}")


def forecast_text(forecast: Forecast) -> str:
    """As "needs about 12,800 more users, days 11-27"."""
    if forecast.users is None or forecast.day is None:
        return "this traffic can never conclude within ten times the time so far"
    late = "later" if forecast.day_late is None else f"{forecast.day_late:.0f}"
    early = forecast.day if forecast.day_early is None else forecast.day_early
    text = f"needs about {forecast.users:,} more users, days {early:.0f}-{late}"
    return text if forecast.within_horizon else f"{text}, beyond the horizon"


def horizon_over(horizon: float, unproven: tuple[str, ...]) -> Missing:
    left = f", unproven: {', '.join(unproven)}" if unproven else ""
    return Missing(
        code="horizon_over",
        text=f"the horizon of {horizon / 1440:.3g} days is over{left}; only a person can go on",
    )


def next_look(due: float) -> Missing:
    return Missing(
        code="next_planned_look",
        text=f"the next planned look is at minute {due:g} (day {due / 1440:.3g})",
        values={"due_min": due},
    )


def conditions(given: Conditions) -> list[Missing]:
    """What stands against a promotion outside the evidence."""
    table = (
        (given.paused, "paused", "the rollout is paused"),
        (not given.approved, "approval_missing", "the promotion is not approved"),
        (not given.compliance_signed, "compliance_unsigned", "compliance items are not signed"),
        (not given.capacity_left, "capacity_exhausted", "no funding capacity is left"),
        (given.frozen, "freeze_window", "changes are frozen now"),
        (given.ramping, "ramp_unfinished", "the stage has not reached its full share yet"),
    )
    return [Missing(code=code, text=text) for stands, code, text in table if stands]
