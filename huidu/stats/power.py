"""Honest planning: what this traffic can prove, when, and how small a harm it would catch.

Said before a stage starts, so that nobody waits for a proof that cannot come: 20,000 treated users
prove a 5 % margin on a 5 % rate in only few harmless stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from huidu.errors import EvidenceError
from huidu.stats.noninferiority import crossing_probability, next_bound, spend
from huidu.stats.sequential import (
    Floats,
    count_factors,
    harm_sizes,
    log_evidence_of_counts,
    log_evidence_of_mean,
    treated_probability,
)

FARTHEST: Final = 10.0
"""Forecasts reach to ten times the evidence so far; beyond it the answer is "never"."""

LIKELY: Final = 0.8
"""A margin counts as provable if this share of harmless stages proves it by the horizon."""

HOPELESS: Final = 0.05
"""Below this chance of proof by the horizon the answer is "can never conclude"."""

_QUANTILE_80: Final = 1.2816
"""10 % and 90 % of a standard normal: the range that holds 8 of 10 harmless stages."""


@dataclass(frozen=True)
class Stratum:
    """A weight class in planning.

    Args:
        users_per_day: users enrolled a day, both arms.
        rho: probability that one is treated, in (0, 1).
        base: control's share of users with the event (counts) or mean amount, > 0.
        deviation: standard deviation of the amount per user; None for counts.
    """

    users_per_day: float
    rho: float
    base: float
    deviation: float | None = None


@dataclass(frozen=True)
class Phase:
    """A time before the last share of a stage: how many days, with what traffic.

    `strata` is empty where the share leaves nobody to compare.
    """

    days: float
    strata: tuple[Stratum, ...]


@dataclass(frozen=True)
class Outlook:
    """What one guard can be expected to do in a stage that changes nothing.

    Args:
        proven: probability of a proof by the horizon.
        day_early, day, day_late: planned looks by which 10, 50 and 90 % of harmless stages have
            their proof; None if that many never do.
        users: treated users enrolled by the middle one.
        smallest_margin: margin that `LIKELY` of harmless stages prove by the horizon; None if none
            up to 1 is provable.
        smallest_harm: treated-over-control ratio that a typical stage catches within a day; None
            if none up to twelvefold is.
        can_conclude: False if a proof by the horizon is all but impossible.
    """

    proven: float
    day_early: float | None
    day: float | None
    day_late: float | None
    users: int | None
    smallest_margin: float | None
    smallest_harm: float | None
    can_conclude: bool

    @property
    def text(self) -> str:
        """One English sentence for the person who plans the stage."""
        parts = []
        if not self.can_conclude:
            parts.append("this stage can never conclude: its traffic cannot prove the margin")
        elif self.day is None:
            parts.append(f"only {self.proven:.0%} of harmless stages prove the margin in time")
        else:
            late = "never" if self.day_late is None else f"{self.day_late:g}"
            parts.append(
                f"needs about {self.users or 0:,} treated users, day {self.day:g}"
                f" (8 of 10 harmless stages: day {self.day_early:g} to {late})"
            )
        if self.smallest_margin is not None:
            parts.append(f"smallest margin provable by the horizon {self.smallest_margin:.1%}")
        if self.smallest_harm is not None:
            parts.append(f"smallest harm caught within a day x{self.smallest_harm:.2f}")
        return "; ".join(parts)


def outlook(
    strata: Sequence[Stratum],
    *,
    margin: float,
    increase: bool,
    minimum_days: float,
    horizon_days: float,
    every_days: float = 1.0,
    alpha_promote: float = 0.05,
    alpha_rollback: float = 0.05,
    share: float = 1.0,
    ramp: Sequence[Phase] = (),
) -> Outlook:
    """What a guard with this margin can prove and catch with this traffic.

    Args:
        strata: expected traffic and base values, in the end of the ramp where there is one.
        margin: largest acceptable relative change for the worse, > 0 (below 1 for a decrease).
        increase: True if more is harm.
        minimum_days, horizon_days, every_days: when planned looks happen.
        share: the guard's weight in the average of all guards' evidence of harm, in (0, 1].
        ramp: smaller shares that come first. Their evidence counts with its own traffic, the first
            day's harm meets the first of them, and no look before their end promotes.
    Raises:
        EvidenceError: no strata, or numbers outside their ranges.
    Source:
        Crossing probabilities by recursive integration under drift (Jennison & Turnbull 2000);
        the harm test on expected counts, which is its typical, not its certain, delay.
    """
    _check(strata, margin, increase, minimum_days, horizon_days, every_days)
    phases = [each for each in ramp if each.days > 0]
    for each in phases:
        if each.strata:
            _check(each.strata, margin, increase, minimum_days, horizon_days, every_days)
    ramped = math.fsum(each.days for each in phases)
    if ramped > horizon_days:
        raise EvidenceError(
            f"expected a ramp within horizon_days={horizon_days}, got {ramped} days", path="ramp"
        )
    days = _looks(max(minimum_days, ramped), horizon_days, every_days)
    information = _information(days, phases, strata, margin, increase)
    # Counted in shares of what the last look knows, as tiny and huge numbers tell apart badly.
    times = [each / information[-1] for each in information]
    bounds = _bounds(times, days, horizon_days, alpha_promote)
    first_time = _first_passes(times, bounds, math.sqrt(information[-1]))
    by_then = np.cumsum(first_time)
    early, middle, late = (_first_at(days, by_then, share) for share in (0.1, 0.5, 0.9))
    first = next((each.strata for each in phases if each.days >= 1), strata) or strata

    def proven_with(other: float) -> float:
        known = _information(days[-1:], phases, strata, other, increase)[-1]
        return float(_first_passes(times, bounds, math.sqrt(known)).sum())

    def caught_with(log_ratio: float) -> float:
        evidence = _typical_evidence(first, log_ratio, margin, increase)
        return evidence + math.log(share * alpha_rollback)

    harm = _least(caught_with, 0.0, 2.5, target=0.0)
    largest = 1.0 if increase else 0.99
    return Outlook(
        proven=min(1.0, float(by_then[-1])),
        day_early=early,
        day=middle,
        day_late=late,
        users=None if middle is None else round(_treated(middle, phases, strata)),
        smallest_margin=_least(proven_with, 1e-4, largest, target=LIKELY),
        smallest_harm=None if harm is None else math.exp(harm if increase else -harm),
        can_conclude=bool(by_then[-1] >= HOPELESS),
    )


def growth_needed(
    z: float, if_harmless: float, *, bound: float
) -> tuple[float | None, float | None, float | None]:
    """By which factor information must grow until a guard passes, if the stage is harmless.

    After growth f the statistic is `(z + (f-1) if_harmless + q sqrt(f-1)) / sqrt(f)`, q standard
    normal: what was seen stays, what comes is harmless.

    Args:
        z: the statistic now.
        if_harmless: its expectation now for a stage that changes nothing, > 0.
        bound: what it has to reach.
    Returns:
        Early (10 %), middle and late (90 %) factor, >= 1; None beyond `FARTHEST`.
    """
    return (
        _growth(z, if_harmless, bound, _QUANTILE_80),
        _growth(z, if_harmless, bound, 0.0),
        _growth(z, if_harmless, bound, -_QUANTILE_80),
    )


def _growth(z: float, drift: float, bound: float, q: float) -> float | None:
    if z >= bound:
        return 1.0

    def surplus(growth: float) -> float:
        late = z + (growth - 1) * drift + q * math.sqrt(growth - 1)
        return late - bound * math.sqrt(growth)

    return _least(surplus, 1.0, FARTHEST, target=0.0)


def _least(
    value: Callable[[float], float], low: float, high: float, *, target: float
) -> float | None:
    """The smallest argument at which a rising function reaches the target, None beyond `high`."""
    if value(high) < target:
        return None
    for _ in range(40):
        middle = 0.5 * (low + high)
        if value(middle) < target:
            low = middle
        else:
            high = middle
    return high


def _looks(minimum: float, horizon: float, every: float) -> list[float]:
    days = [minimum + i * every for i in range(int((horizon - minimum) / every + 1e-9) + 1)]
    if days[-1] < horizon - 1e-9:
        days.append(horizon)
    return [day for day in days if day > 0] or [horizon]


def _bounds(
    times: Sequence[float], days: Sequence[float], horizon: float, alpha: float
) -> list[float]:
    """The bound of each look; the error is spent by the calendar, whatever the traffic brings."""
    bounds: list[float] = []
    spent = 0.0
    for i, (time, day) in enumerate(zip(times, days, strict=True)):
        total = spend(day / horizon, alpha)
        bounds.append(next_bound(times[:i], bounds, time, total - spent))
        spent = total
    return bounds


def _information(
    days: Sequence[float],
    phases: Sequence[Phase],
    strata: Sequence[Stratum],
    margin: float,
    increase: bool,
) -> list[float]:
    """Squared expected z of a harmless stage by each day: what every share brings adds up."""
    rates = [
        _drift_per_root_day(each.strata, margin, increase) ** 2 if each.strata else 0.0
        for each in phases
    ]
    last = _drift_per_root_day(strata, margin, increase) ** 2
    found = []
    for day in days:
        known, left = 0.0, day
        for phase, rate in zip(phases, rates, strict=True):
            known += rate * min(left, phase.days)
            left = max(left - phase.days, 0.0)
        # A look at the very end of a ramp without control knows nothing yet.
        found.append(max(known + last * left, 1e-12 * last * day))
    return found


def _treated(day: float, phases: Sequence[Phase], strata: Sequence[Stratum]) -> float:
    """Treated users enrolled by a day."""
    users, left = 0.0, day
    for phase in phases:
        users += min(left, phase.days) * sum(s.users_per_day * s.rho for s in phase.strata)
        left = max(left - phase.days, 0.0)
    return users + left * sum(s.users_per_day * s.rho for s in strata)


def _drift_per_root_day(strata: Sequence[Stratum], margin: float, increase: bool) -> float:
    """Expected z of a harmless stage after one day; it grows with the square root of time."""
    users = np.array([s.users_per_day for s in strata])
    rho = np.array([s.rho for s in strata])
    base = np.array([s.base for s in strata])
    ratio = 1.0 + margin if increase else 1.0 - margin
    if strata[0].deviation is None:
        theta = treated_probability(rho, ratio)
        events = users * base
        return float(abs(events @ (theta - rho)) / math.sqrt(events @ (theta * (1.0 - theta))))
    mean, variance = _daily_mean(strata, users, rho, base, ratio)
    return margin * mean / math.sqrt(variance)


def _daily_mean(
    strata: Sequence[Stratum], users: Floats, rho: Floats, base: Floats, ratio: float
) -> tuple[float, float]:
    """Weighted control mean and variance of treated - ratio x control after one day."""
    squares = np.array([(s.deviation or 0.0) ** 2 for s in strata])
    weight = users * rho * (1.0 - rho)
    weight = weight / weight.sum()
    variance = squares * (1.0 / (users * rho) + ratio * ratio / (users * (1.0 - rho)))
    return float(weight @ base), float((weight * weight) @ variance)


def _typical_evidence(
    strata: Sequence[Stratum], log_ratio: float, margin: float, increase: bool
) -> float:
    """Log e-value after one day if counts are as expected under this harm."""
    users = np.array([s.users_per_day for s in strata])
    rho = np.array([s.rho for s in strata])
    base = np.array([s.base for s in strata])
    ratio = math.exp(log_ratio if increase else -log_ratio)
    is_mean = strata[0].deviation is not None
    at_margin = 1.0 + margin if increase else 1.0 - margin
    sizes = harm_sizes(at_margin, increase=increase, of_mean=is_mean)
    if strata[0].deviation is None:
        treated = users * rho * np.minimum(base * ratio, 1.0)
        control = users * (1.0 - rho) * base
        factors = count_factors(rho, increase=increase, grid=sizes.logs)
        return float(log_evidence_of_counts(treated, control, factors, sizes.shares))
    mean, variance = _daily_mean(strata, users, rho, base, 1.0)
    return log_evidence_of_mean(
        mean * (ratio - 1.0),
        variance,
        base=mean,
        increase=increase,
        grid=sizes.logs,
        shares=sizes.shares,
    )


def _first_passes(times: Sequence[float], bounds: Sequence[float], drift: float) -> Floats:
    """Probability that each look is the first to pass."""
    chances = [
        crossing_probability(times[: i + 1], bounds[: i + 1], drift=drift)
        for i in range(len(times))
    ]
    return np.array([min(1.0, max(0.0, chance)) for chance in chances], dtype=np.float64)


def _first_at(days: Sequence[float], by_then: Floats, share: float) -> float | None:
    reached = np.nonzero(by_then >= share)[0]
    return float(days[int(reached[0])]) if reached.size else None


def _check(
    strata: Sequence[Stratum],
    margin: float,
    increase: bool,
    minimum: float,
    horizon: float,
    every: float,
) -> None:
    if not strata:
        raise EvidenceError("an outlook needs at least one stratum", path="strata")
    for i, s in enumerate(strata):
        good = 0 < s.rho < 1 and 0 < s.users_per_day < math.inf and 0 < s.base < math.inf
        if not good or (s.deviation is None) != (strata[0].deviation is None):
            raise EvidenceError(
                f"expected users_per_day > 0, rho in (0, 1), base > 0, all counts or all means,"
                f" got {s}",
                path=f"strata[{i}]",
            )
        if s.deviation is None and s.base >= 1:
            raise EvidenceError(f"expected a share below 1, got {s.base}", path=f"strata[{i}].base")
        if s.deviation is not None and not s.deviation > 0:
            raise EvidenceError(
                f"expected a standard deviation above 0, got {s.deviation}",
                path=f"strata[{i}].deviation",
            )
    if not 0 < margin <= (10 if increase else 0.99):
        raise EvidenceError(f"expected a relative margin above 0, got {margin}", path="margin")
    if not (0 <= minimum <= horizon < math.inf and horizon > 0 and every > 0):
        raise EvidenceError(
            f"expected 0 <= minimum_days <= horizon_days and every_days > 0,"
            f" got {minimum}, {horizon}, {every}"
        )
