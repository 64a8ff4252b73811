"""Proof of non-inferiority at planned looks: spending, bounds, and the score statistics.

A guard passes a look when its z reaches the bound. The chance that a guard sitting exactly at
its margin ever passes is at most alpha over all planned looks together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from huidu.errors import EvidenceError
from huidu.stats.sequential import Floats, treated_probability

UNREACHABLE: Final = 12.0
"""Bound of a look at which nothing may be spent."""

_GRID: Final = 401  # odd, for Simpson's rule
_REACH: Final = 8.0  # standard deviations of the score that the grid covers on the low side
_LEAST_GROWTH: Final = 1.01


def spend(fraction: float, alpha: float) -> float:
    """Error that may be spent by information fraction t: alpha ln(1 + (e - 1) t).

    Args:
        fraction: information so far over information at the horizon; clipped to [0, 1].
        alpha: the whole budget, in (0, 1).
    Source:
        Lan & DeMets 1983; this function gives nearly constant (Pocock-type) bounds.
    """
    t = min(1.0, max(0.0, fraction))
    return alpha * math.log1p((math.e - 1.0) * t)


class _Density(NamedTuple):
    """Sub-density of the score on a grid for paths that have not passed before, with weights."""

    points: Floats
    mass: Floats  # density times integration weight


@functools.lru_cache(maxsize=2048)
def _density(information: tuple[float, ...], bounds: tuple[float, ...]) -> _Density:
    """Where the score is after these looks if no bound was reached: recursive integration."""
    now = information[-1]
    deviation = math.sqrt(now)
    points = np.linspace(-_REACH * deviation, bounds[-1] * deviation, _GRID)
    step = points[1] - points[0]
    weights = np.full(_GRID, 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    weights *= step / 3.0
    if len(information) == 1:
        density = np.exp(-0.5 * points * points / now) / math.sqrt(2.0 * math.pi * now)
        return _Density(points, density * weights)
    before = _density(information[:-1], bounds[:-1])
    growth = now - information[-2]
    gaps = points[:, None] - before.points[None, :]
    kernel = np.exp(-0.5 * gaps * gaps / growth) / math.sqrt(2.0 * math.pi * growth)
    return _Density(points, (kernel @ before.mass) * weights)


def crossing_probability(
    information: Sequence[float], bounds: Sequence[float], *, drift: float = 0.0
) -> float:
    """Chance that the last look is the first one whose z reaches its bound.

    Args:
        information, bounds: of all looks so far, information strictly rising.
        drift: expected score per unit of information; 0 sits exactly at the margin, and z is
            expected to be drift x sqrt(information).
    """
    info, limits = tuple(information), tuple(bounds)
    edge = limits[-1] * math.sqrt(info[-1])
    if len(info) == 1:
        return float(ndtr(drift * math.sqrt(info[0]) - limits[0]))
    before = _density(info[:-1], limits[:-1])
    growth = info[-1] - info[-2]
    passes = ndtr((before.points + drift * growth - edge) / math.sqrt(growth))
    if drift == 0:
        return float(passes @ before.mass)
    # Density under a drift = density without it x likelihood ratio of the Brownian path's end.
    tilt = np.exp(drift * before.points - 0.5 * drift * drift * info[-2])
    return float((passes * tilt) @ before.mass)


def grown(information: Sequence[float], latest: float) -> float:
    """The information to count for a new look: at least 1 % more than at the look before.

    Estimated information may fall when a heavy tail shows. Counting more growth than there was
    makes looks appear less alike than they are, and so the bound only higher.
    """
    return max(latest, information[-1] * _LEAST_GROWTH) if information else latest


def next_bound(
    information: Sequence[float], bounds: Sequence[float], latest: float, spendable: float
) -> float:
    """The bound of a new look that spends exactly `spendable`.

    Args:
        information, bounds: of the looks so far, information strictly rising.
        latest: information of the new look, above the last one (see `grown`).
        spendable: probability that may be spent at this look, >= 0.
    Returns:
        The z to reach; `UNREACHABLE` if (almost) nothing may be spent.
    Raises:
        EvidenceError: information that does not rise.
    Source:
        Armitage, McPherson & Rowe 1969, recursive integration; Jennison & Turnbull 2000, ch. 19.
    """
    if latest <= (information[-1] if information else 0.0):
        raise EvidenceError(
            f"information must rise from look to look, got {latest} after {list(information)}"
        )
    if spendable < 1e-12:
        return UNREACHABLE
    if not information:
        return float(-ndtri(spendable))
    info = (*information, latest)
    done = tuple(bounds)
    low, high = -4.0, UNREACHABLE
    for _ in range(48):
        middle = 0.5 * (low + high)
        if crossing_probability(info, (*done, middle)) > spendable:
            low = middle
        else:
            high = middle
    return high


class Score(NamedTuple):
    """A non-inferiority statistic.

    Args:
        z: standard normal at the margin, larger is better.
        if_harmless: what z is expected to be at this information if nothing changed.
        information: grows with the evidence; only ratios between looks matter.
        treated, control: events (or users, for means) in each arm that carry it.
    """

    z: float
    if_harmless: float
    information: float
    treated: float
    control: float


def count_score(
    treated: Floats, control: Floats, rho: Floats, *, ratio: float, increase: bool
) -> Score | None:
    """`z = -+(a - theta(r_m)(a+b)) / sqrt((a+b) theta (1-theta))`, summed over cells.

    Args:
        treated, control: users with the event, shape (C,).
        rho: probability of treatment per cell; cells at 0 or 1 are left out.
        ratio: the risk ratio at the margin, > 0.
        increase: True if more events are harm.
    Returns:
        None while there is no event in a cell with two arms.
    """
    two_armed = (rho > 0) & (rho < 1)
    events = np.where(two_armed, treated + control, 0.0)
    theta = treated_probability(rho, ratio)
    information = float(events @ (theta * (1.0 - theta)))
    if information <= 0:
        return None
    a = float(np.where(two_armed, treated, 0.0).sum())
    sign = -1.0 if increase else 1.0
    scale = sign / math.sqrt(information)
    expected = float(events @ theta)
    return Score(
        z=scale * (a - expected),
        if_harmless=scale * (float(events @ rho) - expected),
        information=information,
        treated=a,
        control=float(events.sum()) - a,
    )


def mean_score(
    difference: float, variance: float, *, gap: float, base: float, increase: bool
) -> tuple[float, float, float] | None:
    """Two-sample z of treated - ratio x control, what it is if harmless, and its information.

    Args:
        difference: treated mean - (1 -+ margin) x control mean.
        variance: of that difference.
        gap: margin x control mean, the difference expected of a harmless stage, > 0.
        base: control mean, > 0; puts information into relative units.
    """
    if not (variance > 0 and base > 0):
        return None
    sign = -1.0 if increase else 1.0
    deviation = math.sqrt(variance)
    return sign * difference / deviation, gap / deviation, base * base / variance
