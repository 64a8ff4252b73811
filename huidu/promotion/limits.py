"""Guards with an absolute limit: the treated users alone, for stages that have no control arm.

An e-value of a broken limit rolls back, an e-value of a kept limit proves; both may be read at
every look. Users whose event has yet to come count as without it, so the minimum stay must be
long enough for the event to show.
"""

from __future__ import annotations

import math

from huidu.promotion.contract import Evidence, Kind
from huidu.promotion.finding import Finding, radius_of
from huidu.promotion.plan import CompiledPlan, Guard
from huidu.stats.moments import Moments
from huidu.stats.sequential import (
    MINIMUM_USERS_PER_ARM,
    Floats,
    log_evidence_against_limit,
    log_evidence_of_mean,
)


def judge_limit(plan: CompiledPlan, guard: Guard, evidence: Evidence, treated: Floats) -> Finding:
    limit = guard.metric.limit_abs or 0.0
    if guard.metric.kind is Kind.MEAN:
        return _judge_mean_limit(guard, treated, limit)
    events = float(treated[:, guard.harm_columns - 1].sum())
    users = plan.enrolled(evidence.users)[0]
    if users <= 0:
        return Finding(log_safe=0.0)
    share = events / users
    deviation = math.sqrt(max(share * (1.0 - share), 1.0 / users) / users)
    radius = radius_of(deviation / limit) * limit
    return Finding(
        log_e=log_evidence_against_limit(events, users, limit=limit, above=guard.increase),
        estimate=share,
        low=max(0.0, share - radius),
        high=min(1.0, share + radius),
        material=share > limit if guard.increase else share < limit,
        log_safe=log_evidence_against_limit(events, users, limit=limit, above=not guard.increase),
    )


def _judge_mean_limit(guard: Guard, treated: Floats, limit: float) -> Finding:
    capped = moments_of(treated)[1]
    n = float(capped.n.sum())
    if n < MINIMUM_USERS_PER_ARM:
        return Finding(log_safe=0.0)
    mean = float(capped.total.sum()) / n
    scatter = max(float(capped.squares.sum()) - n * mean * mean, 0.0)
    variance = scatter / (n - 1.0) / n
    radius = radius_of(math.sqrt(variance) / limit) * limit
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


def moments_of(rows: Floats) -> tuple[Moments, Moments]:
    """Plain and capped moments."""
    n = rows[:, 0]
    return Moments(n, rows[:, 1], rows[:, 2]), Moments(n, rows[:, 3], rows[:, 4])
