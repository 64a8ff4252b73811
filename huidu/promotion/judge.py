"""One guard's evidence judged: how strong is the case for harm, and how near is the proof.

`judge` answers for any kind of guard; what to do about all guards together is `rule`'s business.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from huidu.promotion.contract import Evidence, Kind
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
    log_evidence_against_limit,
    log_evidence_of_counts,
    log_evidence_of_mean,
)

INTERVAL_ALPHA: Final = 0.05
MINIMUM_EVENTS_PER_ARM: Final = 10
"""Below it the normal approximation behind the score statistic is not trusted."""

_TUNED_INFORMATION: Final = 100.0
"""Information (1/variance of a log ratio) at which the interval is tightest: effects of ~10 %."""


class Finding(NamedTuple):
    """What one guard says at this look.

    Args:
        log_e: log e-value of harm; 0 says nothing.
        material: the estimate lies beyond half of the margin (or beyond the absolute limit).
        score: the non-inferiority statistic, None while there is too little.
        log_too_good: log e-value that a bad event became 60 % rarer.
        log_safe: for absolute limits, log e-value that the limit is kept; else None.
        z_severity: for users with bad requests, z of bad requests per request against the same
            margin: below 0 those users are hit harder than the margin allows.
    """

    log_e: float = 0.0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    material: bool = False
    score: Score | None = None
    log_too_good: float = 0.0
    log_safe: float | None = None
    z_severity: float | None = None


def judge(
    plan: CompiledPlan, guard: Guard, evidence: Evidence, *, enrolled_rho: Floats | None = None
) -> Finding:
    """The finding of one guard.

    Args:
        evidence: its last balanced reading.
        enrolled_rho: where the sample ratio is proven wrong, the share of each cell's users that
            really was treated: harm then counts only as far as both shares show it.
    """
    treated, control = _rows(plan, evidence.t), _rows(plan, evidence.c)
    if guard.absolute:
        return _judge_limit(plan, guard, evidence, treated)
    if not plan.has_control:
        return Finding()
    if guard.metric.kind is Kind.MEAN:
        return _judge_mean(guard, treated, control)
    finding = _judge_counts(plan, guard, treated, control, enrolled_rho)
    if guard.metric.kind is Kind.USERS_RATIO:
        finding = finding._replace(z_severity=_severity(plan, guard, evidence, treated, control))
    return finding


def _rows(plan: CompiledPlan, by_cell: dict[str, tuple[float, ...]]) -> Floats:
    width = len(next(iter(by_cell.values()))) if by_cell else 1
    nobody = (0.0,) * width
    return np.array([by_cell.get(name, nobody) for name in plan.ids], dtype=np.float64)


def _judge_counts(
    plan: CompiledPlan,
    guard: Guard,
    treated: Floats,
    control: Floats,
    enrolled_rho: Floats | None,
) -> Finding:
    columns, rho = guard.harm_columns, plan.rho
    a, b = treated[:, :columns], control[:, :columns]
    log_es = log_evidence_of_counts(a, b, plan.factors[guard.increase])
    if enrolled_rho is not None:
        factors = count_factors(enrolled_rho, increase=guard.increase)
        log_es = np.minimum(log_es, log_evidence_of_counts(a, b, factors))
    column = int(log_es.argmax())
    ratio, deviation = _count_ratio(a[:, column], b[:, column], rho)
    if guard.metric.kind is Kind.LATENCY:
        ratio, deviation = _latency_ratio(guard, treated, control, rho, column, ratio, deviation)
        score = _latency_score(guard, treated, control, rho)
    else:
        score = count_score(
            a[:, 0], b[:, 0], rho, ratio=guard.ratio_at_margin, increase=guard.increase
        )
    low, high = _interval(ratio, deviation)
    log_too_good = 0.0
    if guard.increase:
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


def _latency_ratio(
    guard: Guard,
    treated: Floats,
    control: Floats,
    rho: Floats,
    column: int,
    ratio: float | None,
    deviation: float,
) -> tuple[float | None, float]:
    """From "r times as many users beyond this edge" to "q times as slow" at this quantile.

    Between neighbouring edges the tail is taken as a power law: the latency x at which the treated
    tail equals the control's tail beyond edge e satisfies ln(x/e) = ln(r) / slope.
    """
    edges = guard.metric.edges_ms
    other = column + 1 if column + 1 < len(edges) else column - 1
    if ratio is None or ratio <= 0 or other < 0:
        return ratio, deviation
    here, there = float(treated[:, column].sum()), float(treated[:, other].sum())
    if here <= 0 or there <= 0 or here == there:
        return ratio, deviation
    slope = abs(math.log(here / there) / math.log(edges[column] / edges[other]))
    # A tail that hardly falls between the edges would promise absurd latencies.
    slope = max(slope, 0.2)
    return math.exp(max(-5.0, min(5.0, math.log(ratio) / slope))), deviation / slope


def _latency_score(guard: Guard, treated: Floats, control: Floats, rho: Floats) -> Score | None:
    """Treated users beyond the margin's edge against control users beyond the baseline edge.

    A treated latency slower by exactly the margin makes the two equally frequent.
    """
    baseline, margin = guard.metric.baseline_index or 0, guard.metric.margin_index or 0
    score = count_score(
        treated[:, margin], control[:, baseline], rho, ratio=1.0, increase=guard.increase
    )
    if score is None:
        return None
    two_armed = (rho > 0) & (rho < 1)
    odds = np.where(two_armed, rho / np.where(two_armed, 1.0 - rho, 1.0), 0.0)
    gap = float((odds * (control[:, baseline] - control[:, margin])) @ (1.0 - rho))
    return score._replace(if_harmless=abs(gap) / math.sqrt(score.information))


def _judge_mean(guard: Guard, treated: Floats, control: Floats) -> Finding:
    plain_t, capped_t = _moments(treated)
    plain_c, capped_c = _moments(control)
    now = stratified_difference(capped_t, capped_c)
    if min(now.users_treated, now.users_control) < MINIMUM_USERS_PER_ARM or now.control <= 0:
        return Finding()
    difference = now.treated - now.control
    log_e = log_evidence_of_mean(
        difference, now.variance, base=now.control, increase=guard.increase
    )
    ratio = now.treated / now.control
    deviation = math.sqrt(now.variance) / now.control / max(ratio, 0.1)
    low, high = _interval(ratio, deviation)
    log_too_good = 0.0
    if guard.increase:
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


def _judge_limit(plan: CompiledPlan, guard: Guard, evidence: Evidence, treated: Floats) -> Finding:
    limit = guard.metric.limit_abs or 0.0
    if guard.metric.kind is Kind.MEAN:
        return _judge_mean_limit(guard, treated, limit)
    events = float(treated[:, guard.harm_columns - 1].sum())
    users = sum(evidence.users.get(name, (0.0, 0.0))[0] for name in plan.ids)
    if users <= 0:
        return Finding(log_safe=0.0)
    share = events / users
    deviation = math.sqrt(max(share * (1.0 - share), 1.0 / users) / users)
    radius = _radius(deviation / limit) * limit
    return Finding(
        log_e=log_evidence_against_limit(events, users, limit=limit, above=guard.increase),
        estimate=share,
        low=max(0.0, share - radius),
        high=min(1.0, share + radius),
        material=share > limit if guard.increase else share < limit,
        log_safe=log_evidence_against_limit(events, users, limit=limit, above=not guard.increase),
    )


def _judge_mean_limit(guard: Guard, treated: Floats, limit: float) -> Finding:
    capped = _moments(treated)[1]
    n = float(capped.n.sum())
    if n < MINIMUM_USERS_PER_ARM:
        return Finding(log_safe=0.0)
    mean = float(capped.total.sum()) / n
    scatter = max(float(capped.squares.sum()) - n * mean * mean, 0.0)
    variance = scatter / (n - 1.0) / n
    radius = _radius(math.sqrt(variance) / limit) * limit
    up = log_evidence_of_mean(mean - limit, variance, base=limit, increase=True)
    down = log_evidence_of_mean(mean - limit, variance, base=limit, increase=False)
    return Finding(
        log_e=up if guard.increase else down,
        estimate=mean,
        low=mean - radius,
        high=mean + radius,
        material=mean > limit if guard.increase else mean < limit,
        log_safe=down if guard.increase else up,
    )


def _moments(rows: Floats) -> tuple[Moments, Moments]:
    """Plain and capped moments."""
    n = rows[:, 0]
    return Moments(n, rows[:, 1], rows[:, 2]), Moments(n, rows[:, 3], rows[:, 4])


def _is_material(guard: Guard, ratio: float | None) -> bool:
    if ratio is None:
        # No control event at all: any harm by more events is beyond every margin.
        return guard.increase
    return ratio >= guard.ratio_material if guard.increase else ratio <= guard.ratio_material


def _enough(score: Score | None, least: float) -> Score | None:
    return score if score is not None and min(score.treated, score.control) >= least else None


def _radius(deviation: float) -> float:
    """Half-width of an interval valid at every look, for an estimate of this standard deviation.

    `sd sqrt((1 + w) ln((1 + w) / alpha^2 / w))`-type normal mixture, w = tuned / information.
    Source: Robbins 1970; Waudby-Smith et al. 2021, theorem 2.2.
    """
    if not 0 < deviation < math.inf:
        return math.inf
    information = 1.0 / (deviation * deviation)
    grown = information + _TUNED_INFORMATION
    return (
        math.sqrt(grown / information * math.log(grown / (_TUNED_INFORMATION * INTERVAL_ALPHA**2)))
        * deviation
    )


def _interval(ratio: float | None, deviation: float) -> tuple[float | None, float | None]:
    """Interval of a ratio on the log scale; None where it has no end worth printing."""
    if ratio is None or ratio <= 0 or not 0 < deviation < math.inf:
        return None, None
    radius = _radius(deviation)
    if radius > 12:
        return None, None
    return ratio * math.exp(-radius), ratio * math.exp(radius)
