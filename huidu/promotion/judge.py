"""One guard's evidence judged: how strong is the case for harm, and how near is the proof.

`judge` answers for any kind of guard; what to do about all guards together is `rule`'s business.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from huidu.promotion.contract import Evidence, Kind
from huidu.promotion.finding import Finding, interval
from huidu.promotion.latency import latency_ratio, latency_score
from huidu.promotion.limits import judge_limit, moments_of
from huidu.promotion.plan import TOO_GOOD, CompiledPlan, Guard
from huidu.stats.moments import (
    Moments,
    RatioMoments,
    linearised,
    stratified_difference,
)
from huidu.stats.noninferiority import Score, count_score, mean_score
from huidu.stats.sequential import (
    MINIMUM_USERS_PER_ARM,
    Floats,
    average,
    count_factors,
    log_evidence_of_counts,
    log_evidence_of_mean,
)

MINIMUM_EVENTS_PER_ARM: Final = 10
"""Below it the normal approximation behind the score statistic is not trusted."""


def judge(
    plan: CompiledPlan, guard: Guard, evidence: Evidence, *, enrolled_rho: Floats | None = None
) -> Finding:
    """The finding of one guard.

    Args:
        evidence: its last balanced reading.
        enrolled_rho: where the sample ratio is proven wrong, the share of each cell's users that
            really was treated: harm then counts only as far as both shares show it.
    """
    treated, control = _rows(plan, guard, evidence.t), _rows(plan, guard, evidence.c)
    if guard.absolute:
        return judge_limit(plan, guard, evidence, treated)
    if not plan.has_control:
        return Finding()
    if guard.metric.kind is Kind.MEAN:
        return _judge_mean(guard, treated, control)
    finding = _judge_counts(plan, guard, treated, control, enrolled_rho)
    if guard.metric.kind is Kind.USERS_RATIO:
        finding = finding._replace(z_severity=_severity(plan, guard, evidence, treated, control))
    return finding


def _rows(plan: CompiledPlan, guard: Guard, by_cell: dict[str, tuple[float, ...]]) -> Floats:
    """Shape (cells, numbers of this kind); a cell that is not there yet has nobody."""
    return np.array([by_cell.get(name, guard.nobody) for name in plan.ids], dtype=np.float64)


def _judge_counts(
    plan: CompiledPlan,
    guard: Guard,
    treated: Floats,
    control: Floats,
    enrolled_rho: Floats | None,
) -> Finding:
    columns, rho = guard.harm_columns, plan.rho
    a, b = treated[:, :columns], control[:, :columns]
    sizes = guard.sizes
    log_es = log_evidence_of_counts(a, b, plan.factors[guard.name], sizes.shares)
    if enrolled_rho is not None:
        factors = count_factors(enrolled_rho, increase=guard.increase, grid=sizes.logs)
        log_es = np.minimum(log_es, log_evidence_of_counts(a, b, factors, sizes.shares))
    column = int(log_es.argmax())
    ratio, deviation = _count_ratio(a[:, column], b[:, column], rho)
    # Nothing above it can be evidence of fewer; for latencies, other edges may have moved more.
    worth_a_test = TOO_GOOD if columns == 1 else 1.0
    seems_rarer = guard.increase and ratio is not None and ratio < worth_a_test
    if guard.metric.kind is Kind.LATENCY:
        ratio, deviation = latency_ratio(guard, treated, control, rho, column, ratio, deviation)
        score = latency_score(guard, treated, control, rho)
    else:
        score = count_score(
            a[:, 0], b[:, 0], rho, ratio=guard.ratio_at_margin, increase=guard.increase
        )
    low, high = interval(ratio, deviation)
    log_too_good = 0.0
    if seems_rarer:
        log_too_good = average(log_evidence_of_counts(a, b, plan.too_good_factors))
    return Finding(
        log_e=average(log_es),
        estimate=ratio,
        low=low,
        high=high,
        material=_is_material(guard, ratio),
        score=_enough(score, MINIMUM_EVENTS_PER_ARM),
        log_too_good=log_too_good,
    )


def _count_ratio(a: Floats, b: Floats, rho: Floats) -> tuple[float | None, float]:
    """Mantel-Haenszel risk ratio over cells, and the standard deviation of its log.

    `sum a (1-rho) / sum b rho`; variance after Greenland & Robins 1985 for person-time data.
    """
    top, bottom = float(a @ (1.0 - rho)), float(b @ rho)
    if top == 0 and bottom == 0:
        return None, math.inf
    if top == 0:
        return 0.0, math.inf
    if bottom == 0:
        return None, math.inf
    variance = float(a @ (1.0 - rho) ** 2) / top**2 + float(b @ rho**2) / bottom**2
    return top / bottom, math.sqrt(variance)


def _judge_mean(guard: Guard, treated: Floats, control: Floats) -> Finding:
    plain_t, capped_t = moments_of(treated)
    plain_c, capped_c = moments_of(control)
    now = stratified_difference(capped_t, capped_c)
    if min(now.users_treated, now.users_control) < MINIMUM_USERS_PER_ARM or now.control <= 0:
        return Finding()
    difference = now.treated - now.control
    log_e = log_evidence_of_mean(
        difference,
        now.variance,
        base=now.control,
        increase=guard.increase,
        grid=guard.sizes.logs,
        shares=guard.sizes.shares,
    )
    ratio = now.treated / now.control
    deviation = math.sqrt(now.variance) / now.control / max(ratio, 0.1)
    low, high = interval(ratio, deviation)
    log_too_good = 0.0
    if guard.increase and ratio < TOO_GOOD:
        rare = stratified_difference(capped_t, capped_c, ratio=TOO_GOOD)
        base = TOO_GOOD * rare.control
        log_too_good = log_evidence_of_mean(
            rare.treated - base, rare.variance, base=base, increase=False
        )
    return Finding(
        log_e=log_e,
        estimate=ratio,
        low=low,
        high=high,
        material=_is_material(guard, ratio),
        score=_mean_score(guard, (plain_t, plain_c), (capped_t, capped_c)),
        log_too_good=log_too_good,
    )


def _mean_score(guard: Guard, *versions: tuple[Moments, Moments]) -> Score | None:
    """The smaller z of the plain and the capped amounts.

    The margin is a promise about the plain mean, but one large value may carry it; the capped
    mean is steady, but a change by the margin moves it by a little less. Both must pass.
    """
    scores = []
    users_t = users_c = 0.0
    for treated, control in versions:
        found = stratified_difference(treated, control, ratio=guard.ratio_at_margin)
        users_t, users_c = found.users_treated, found.users_control
        score = mean_score(
            found.treated - guard.ratio_at_margin * found.control,
            found.variance,
            gap=guard.margin * found.control,
            base=found.control,
            increase=guard.increase,
        )
        if score is None:
            return None
        scores.append(score)
    least = min(scores)
    # Information of the plain amounts throughout: looks must be compared in one currency.
    return Score(least[0], least[1], scores[0][2], users_t, users_c)


def _severity(
    plan: CompiledPlan, guard: Guard, evidence: Evidence, treated: Floats, control: Floats
) -> float | None:
    """z of bad requests per request against the margin, by the delta method over users.

    The guard counts users, because requests of one user fail together. But as many users as before
    may each be hit more often, so a promotion also asks that this estimate keeps the margin.
    """
    users = np.array([evidence.users.get(name, (0.0, 0.0)) for name in plan.ids])
    arm_t = RatioMoments(users[:, 0], *treated.T[1:])
    arm_c = RatioMoments(users[:, 1], *control.T[1:])
    if not (arm_t.den.sum() > 0 and arm_c.den.sum() > 0):
        return None
    ratio_c = np.where(arm_c.den > 0, arm_c.num / np.maximum(arm_c.den, 1e-300), 0.0)
    reference = guard.ratio_at_margin * ratio_c
    lin_t, lin_c = linearised(arm_t, reference), linearised(arm_c, ratio_c)
    scale = guard.ratio_at_margin
    found = stratified_difference(lin_t, lin_c, ratio=scale)
    score = mean_score(
        found.treated - scale * found.control,
        found.variance,
        gap=1.0,
        base=1.0,
        increase=guard.increase,
    )
    return None if score is None else score[0]


def _is_material(guard: Guard, ratio: float | None) -> bool:
    if ratio is None:
        # No control event at all: any harm by more events is beyond every margin.
        return guard.increase
    return ratio >= guard.ratio_material if guard.increase else ratio <= guard.ratio_material


def _enough(score: Score | None, least: float) -> Score | None:
    return score if score is not None and min(score.treated, score.control) >= least else None
