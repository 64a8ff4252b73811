"""Latency guards: counts beyond edges, read as "so many times as slow"."""

from __future__ import annotations

import math

import numpy as np

from huidu.promotion.plan import Guard
from huidu.stats.noninferiority import Score, count_score
from huidu.stats.sequential import Floats


def latency_ratio(
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


def latency_score(guard: Guard, treated: Floats, control: Floats, rho: Floats) -> Score | None:
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
