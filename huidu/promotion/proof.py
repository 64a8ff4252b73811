"""Planned looks: when they are due, what each guard has to reach, and how much is still missing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from huidu.promotion import texts
from huidu.promotion.contract import Forecast, Look, Missing, Proof, State
from huidu.promotion.finding import Finding
from huidu.promotion.plan import CompiledPlan, Guard
from huidu.stats.noninferiority import UNREACHABLE, grown, next_bound, spend
from huidu.stats.power import growth_needed

MINUTES_PER_DAY = 1440.0


class Step(NamedTuple):
    """What the planned look, if there was one, changes in the state, and what is missing."""

    changes: dict[str, Any]
    missing: list[Missing]


def prove(
    plan: CompiledPlan,
    state: State,
    look: Look,
    findings: dict[str, Finding],
    *,
    evaluate: bool,
    treated_users: float,
) -> Step:
    """Ask for the proof if a planned look is due and the evidence may be used.

    A due look that cannot be held now (`evaluate` false: data are late, the sample ratio looks
    wrong) stays due: nothing is spent on evidence that is not looked at. A proof stays good until
    the next planned look, so that an approval which comes an hour later need not wait a day.
    """
    stage = plan.plan.stage
    t = look.t_min
    missing: list[Missing] = []
    if t < stage.min_min:
        missing.append(texts.minimum_stay(t, stage.min_min))
    if treated_users < plan.plan.minimum_users:
        missing.append(texts.minimum_users(treated_users, plan.plan.minimum_users))
    provers = [guard for guard in plan.guards if guard.must_prove]
    if missing:
        return _with_forecast(plan, state, look, findings, provers, treated_users, missing)
    if not provers:
        return Step({}, [])
    due = state.next_promotion_min if state.next_promotion_min is not None else stage.min_min
    if t < due or not evaluate:
        if t < state.proven_until_min:
            return Step({}, [])
        if not evaluate:
            return Step({}, [])  # what blocks it is already among the reasons
        return Step({}, _between_looks(plan, state, t, due))
    if t > stage.horizon_min + stage.look_min / 2:
        return Step({}, [texts.horizon_over(stage.horizon_min, state.unproven)])
    return _planned_look(plan, state, look, findings, provers, treated_users)


def _between_looks(plan: CompiledPlan, state: State, t: float, due: float) -> list[Missing]:
    if due > plan.plan.stage.horizon_min:
        return [texts.horizon_over(plan.plan.stage.horizon_min, state.unproven)]
    reasons = [texts.not_yet_proven(name, None, None, state.forecast) for name in state.unproven]
    return [*reasons, texts.next_look(due)]


def _planned_look(
    plan: CompiledPlan,
    state: State,
    look: Look,
    findings: dict[str, Finding],
    provers: list[Guard],
    treated_users: float,
) -> Step:
    proofs = dict(state.proofs)
    missing: list[Missing] = []
    for guard in provers:
        finding = findings[guard.name]
        if guard.absolute:
            needed = -math.log(plan.plan.alpha.promote)
            if (finding.log_safe or 0.0) < needed:
                missing.append(texts.limit_not_proven(guard, finding, needed))
            continue
        if not plan.has_control:
            missing.append(texts.no_control(guard.name))
            continue
        if finding.score is None:
            missing.append(texts.too_little_data(guard.name))
            continue
        done = _after_look(plan, guard, proofs.get(guard.name, Proof()), finding, look.t_min)
        proofs[guard.name] = done
        if finding.z_severity is not None and finding.z_severity < 0:
            missing.append(texts.severity(guard.name, finding.z_severity))
        if finding.score.z < done.bounds[-1]:
            missing.append(texts.not_yet_proven(guard.name, finding.score.z, done.bounds[-1], None))
    stage = plan.plan.stage
    following = _following(plan, look.t_min)
    changes: dict[str, Any] = {
        "proofs": proofs,
        "next_promotion_min": following,
        "proven_until_min": -1.0 if missing else min(following, stage.horizon_min + stage.look_min),
        "unproven": tuple(sorted({item.metric for item in missing if item.metric})),
    }
    if not missing:
        return Step(changes | {"forecast": None}, [])
    forecast = _forecast(plan, look, findings, provers, treated_users, proofs)
    changes["forecast"] = forecast
    return Step(changes, [texts.with_forecast(item, forecast) for item in missing])


def _after_look(
    plan: CompiledPlan, guard: Guard, before: Proof, finding: Finding, t: float
) -> Proof:
    """Spend what the time elapsed allows, and find the bound that spends it.

    Calendar time stands for information time: the horizon's information is unknown, and a fraction
    that does not look at outcomes is what Lan & DeMets ask for. Of delayed events about the square
    has arrived. The bounds themselves use the information really gathered.
    """
    assert finding.score is not None
    fraction = min(1.0, t / plan.plan.stage.horizon_min)
    if guard.delayed:
        fraction *= fraction
    spent = before.spent[-1] if before.spent else 0.0
    total = max(spent, spend(fraction, plan.plan.alpha.promote))
    information = grown(before.information, finding.score.information)
    bound = next_bound(before.information, before.bounds, information, total - spent)
    return Proof(
        (*before.information, information), (*before.spent, total), (*before.bounds, bound)
    )


def _following(plan: CompiledPlan, t: float) -> float:
    """The planned look after the one at t; the horizon itself is one."""
    stage = plan.plan.stage
    rounds = math.floor((t - stage.min_min) / stage.promotion_every_min + 1e-9) + 1
    following = stage.min_min + rounds * stage.promotion_every_min
    return stage.horizon_min if t < stage.horizon_min < following else following


def _with_forecast(
    plan: CompiledPlan,
    state: State,
    look: Look,
    findings: dict[str, Finding],
    provers: list[Guard],
    treated_users: float,
    missing: list[Missing],
) -> Step:
    """Before the minimum stay a forecast is made once per promotion interval."""
    every = plan.plan.stage.promotion_every_min
    if math.floor(look.t_min / every) == math.floor(max(state.last_t_min, 0.0) / every):
        return Step({}, missing)
    forecast = _forecast(plan, look, findings, provers, treated_users, state.proofs)
    return Step({"forecast": forecast}, missing)


def _forecast(
    plan: CompiledPlan,
    look: Look,
    findings: dict[str, Finding],
    provers: list[Guard],
    treated_users: float,
    proofs: dict[str, Proof],
) -> Forecast | None:
    """When the slowest guard could pass if the stage changes nothing from here on."""
    slowest: Forecast | None = None
    for guard in provers:
        score = findings[guard.name].score
        if guard.absolute or score is None:
            continue
        bounds = [b for b in proofs.get(guard.name, Proof()).bounds if b < UNREACHABLE]
        found = growth_needed(score.z, score.if_harmless, bound=bounds[-1] if bounds else 2.0)
        days = [
            None if growth is None else round(look.t_min * growth / MINUTES_PER_DAY, 1)
            for growth in found
        ]
        middle = found[1]
        forecast = Forecast(
            metric=guard.name,
            users=None if middle is None else round(treated_users * (middle - 1.0)),
            day_early=days[0],
            day=days[1],
            day_late=days[2],
            within_horizon=middle is not None
            and look.t_min * middle <= plan.plan.stage.horizon_min,
        )
        if slowest is None or _later(forecast, slowest):
            slowest = forecast
    return slowest


def _later(one: Forecast, other: Forecast) -> bool:
    return (math.inf if one.day is None else one.day) > (
        math.inf if other.day is None else other.day
    )
