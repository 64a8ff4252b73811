"""Evidence of harm that stays valid however often one looks: e-processes, and how to combine them.

Everything here returns natural logs of e-values. Under "no harm" an e-process reaches 1/alpha
at any time at all with probability at most alpha (Ville 1939), so it may be read at every look.

Arrays: C cells, J count columns, G grid points. A cell is a weight class during one epoch, inside
which an enrolled user is treated with known probability rho.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from huidu.errors import EvidenceError

Floats = npt.NDArray[np.float64]

HARM_GRID: Final[Floats] = np.geomspace(0.03, 2.5, 8)
"""Sizes of harm (log ratios) watched for where no margin says which matter: 3 % to twelvefold."""

_STEP: Final = 2.7
"""Neighbouring sizes of harm are at most so many times apart: one between them is then caught with
at least 80 % of the evidence per user that its own size would give."""

_STEP_OF_MEAN: Final = 3.1
"""The same for means, which are slow: a size fewer costs at most another tenth of the evidence
between two sizes, and spares all of them the third that every size takes from the mixture."""

GUILTY_SHARE: Final = 0.2
"""A guard is named only if it brings this share of the evidence that a rollback takes."""

MINIMUM_USERS_PER_ARM: Final = 50
"""Below it the normal approximation behind means is not trusted."""


class Sizes(NamedTuple):
    """Sizes of harm that a guard watches for, and how the evidence is divided among them.

    Args:
        logs: log ratios above 0, rising, shape (G,).
        shares: of the mixture, above 0 with sum 1, shape (G,); None divides equally.
    """

    logs: Floats
    shares: Floats | None = None


def _log_mean_exp(exponents: Floats, shares: Floats | None = None) -> Floats:
    """ln(mean(exp(x))) over the first axis; scipy's logsumexp costs ten times as much here."""
    # The plain reductions, because ndarray.max and .mean spend most of their time in Python.
    top = np.maximum.reduce(exponents)
    powers = np.exp(exponents - top)
    if shares is None:
        return np.asarray(top + np.log(np.add.reduce(powers) / len(exponents)), dtype=np.float64)
    return np.asarray(top + np.log(shares @ powers), dtype=np.float64)


def harm_grid(ratio_at_margin: float, *, of_mean: bool = False) -> Floats:
    """Sizes of harm that matter to a guard with this margin.

    Every size in the mixture costs the others some evidence (n equal weights cost ln n), so none is
    spent on harm too small to roll back for.

    Args:
        ratio_at_margin: treated over control at the margin, > 0 and not 1.
        of_mean: for means of capped amounts, which move by less than the plain ones do.
    Returns:
        Log ratios, rising, at most about 2.7 apart: from the margin to sevenfold; for means from
        half of the margin to threefold. A margin beyond that is followed by twice itself.
    """
    margin = abs(math.log(ratio_at_margin))
    least, largest = (margin / 2.0, 1.2) if of_mean else (margin, 2.0)
    largest = max(largest, 2.0 * least)
    points = 1 + math.ceil(math.log(largest / least) / math.log(_STEP))
    return np.geomspace(least, largest, points)


def harm_sizes(ratio_at_margin: float, *, increase: bool, of_mean: bool = False) -> Sizes:
    """Sizes of harm that matter to a guard with this margin, and their shares of the evidence.

    What is slow to find is given more. Means are watched from a little more than half of the
    margin on, and their largest size, found within few users anyway, takes a small share. Counts
    that must not rise (errors, complaints) do rise manyfold when something breaks, and the look
    at which that is found decides how many users are hit: there the largest size takes half as much
    again as the others do. Counts that must not fall seldom fall to an eighth: half of it.

    Args:
        ratio_at_margin: treated over control at the margin, > 0 and not 1.
        increase: True if more is harm.
        of_mean: for means of capped amounts, which move by less than the plain ones do.
    """
    if of_mean:
        least = 0.58 * abs(math.log(ratio_at_margin))
        largest = max(1.2, 2.0 * least)
        points = 1 + math.ceil(math.log(largest / least) / math.log(_STEP_OF_MEAN))
        logs, last = np.geomspace(least, largest, points), 0.2
    else:
        logs, last = harm_grid(ratio_at_margin), 1.5 if increase else 0.5
    shares = np.ones(len(logs))
    shares[-1] = last
    return Sizes(logs, shares / shares.sum())


def treated_probability(rho: Floats, ratio: float) -> Floats:
    """Probability that an event belongs to the treated arm when treated risk is `ratio` x control.

    Args:
        rho: probability that an enrolled user is treated, in [0, 1], any shape.
        ratio: risk ratio, > 0.
    Source:
        Bayes' rule; the event's own rate cancels, which is why drifting base rates do no harm.
    """
    odds = rho * ratio
    return np.asarray(odds / (odds + 1.0 - rho), dtype=np.float64)


def count_factors(
    rho: Floats, *, increase: bool, null_ratio: float = 1.0, grid: Floats = HARM_GRID
) -> tuple[Floats, Floats]:
    """Log likelihood ratios of one event, per cell and size of harm: if treated, and if control.

    Args:
        rho: shape (C,), in [0, 1]; a cell at 0 or 1 has one arm only and is given no weight.
        increase: True if more events are harm.
        null_ratio: the risk ratio at the edge of what is still called harmless, > 0.
        grid: sizes of harm, log ratios above 0, shape (G,).
    Returns:
        Two arrays of shape (C, G) for `log_evidence_of_counts`.
    Raises:
        EvidenceError: a rho outside [0, 1] or a ratio not above 0.
    """
    rho = np.asarray(rho, dtype=np.float64)
    if not np.all((rho >= 0) & (rho <= 1)):
        raise EvidenceError(f"rho must lie in [0, 1], got {rho.tolist()}")
    if not null_ratio > 0:
        raise EvidenceError(f"the ratio called harmless must be above 0, got {null_ratio}")
    ratios = null_ratio * np.exp(grid if increase else -grid)
    column = rho[:, None]
    base = treated_probability(column, null_ratio)
    harmed = treated_probability(column, ratios)  # type: ignore[arg-type]
    with np.errstate(divide="ignore", invalid="ignore"):
        treated = np.log(harmed / base)
        control = np.log((1.0 - harmed) / (1.0 - base))
    compares = ((rho > 0) & (rho < 1))[:, None]
    return np.where(compares, treated, 0.0), np.where(compares, control, 0.0)


def log_evidence_of_counts(
    treated: Floats,
    control: Floats,
    factors: tuple[Floats, Floats],
    shares: Floats | None = None,
) -> Floats:
    """Log e-values against "the treated have no more events than they should", per count column.

    `E = mean over g of exp(sum_i a_i ln(theta_i(r_g)/theta_i(r0)) + b_i ln(...))`: given an event
    in cell i, it is a treated user's with probability theta_i; the mixture runs over sizes of harm.

    Args:
        treated, control: users with the event so far, shape (C, J) or (C,).
        factors: from `count_factors`.
        shares: of the sizes of harm in the mixture, see `Sizes`.
    Returns:
        Shape (J,) or scalar array. Exact in finite samples: no approximation is used.
    Source:
        Wald 1945; Ville 1939; Robbins 1970 (mixtures); Lindon & Malek 2020 (counts).
    """
    exponents = factors[0].T @ treated + factors[1].T @ control
    return _log_mean_exp(exponents, shares)


def log_evidence_against_limit(events: float, users: float, *, limit: float, above: bool) -> float:
    """Log e-value that a share of users lies beyond an absolute limit; needs no control.

    Against "share <= limit" (`above`) or "share >= limit" (not `above`); a mixture over odds
    ratios exp(+-g) of Bernoulli likelihood ratios.

    Args:
        events: users with the event, 0 <= events <= users.
        users: users observed so far. Users whose event has yet to come count as without it.
        limit: the share at the edge, in (0, 1).
        above: True gathers evidence for a share above the limit.
    Returns:
        Log e-value, valid at every look.
    Raises:
        EvidenceError: the counts cannot be true or the limit is not a share.
    Source:
        Wald 1945, likelihood ratio; Ville 1939, maximal inequality; Robbins 1970, mixture.
    """
    if not 0 <= events <= users:
        raise EvidenceError(f"events={events} must lie between 0 and users={users}")
    if not 0 < limit < 1:
        raise EvidenceError(f"an absolute limit on a share must lie in (0, 1), got {limit}")
    shifts = HARM_GRID if above else -HARM_GRID
    # With odds exp(g) times as high: ln(p_g/p) = g - k and ln((1-p_g)/(1-p)) = -k.
    normaliser = np.log1p(limit * np.expm1(shifts))
    return float(_log_mean_exp(events * shifts - users * normaliser))


def log_evidence_of_mean(
    difference: float,
    variance: float,
    *,
    base: float,
    increase: bool,
    grid: Floats = HARM_GRID,
    shares: Floats | None = None,
) -> float:
    """Log of an asymptotic e-value that a mean moved in the harmful direction.

    With score S = difference/variance and information I = 1/variance,
    `E = mean over g of exp(d_g S - d_g^2 I / 2)`, d_g = base (exp(+-g) - 1): the score of an
    accumulating difference behaves as Brownian motion in its information.

    Args:
        difference: estimated treated minus reference mean.
        variance: its variance (see `moments.stratified_difference`), >= 0.
        base: the reference mean, the unit of the sizes of harm. Not above 0: no evidence.
        increase: True if a larger mean is harm.
        grid: sizes of harm, log ratios above 0.
        shares: of these sizes in the mixture, see `Sizes`.
    Returns:
        Log e-value; 0 where nothing can be said.
    Source:
        Robbins 1970; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, asymptotic confidence
        sequences. Asymptotic: callers ask for `MINIMUM_USERS_PER_ARM` and capped values.
    """
    if not (variance > 0 and base > 0 and math.isfinite(difference)):
        return 0.0
    shifts = base * np.expm1(grid if increase else -grid)
    exponents = (shifts * difference - 0.5 * shifts * shifts) / variance
    return float(_log_mean_exp(exponents, shares))


def average(
    log_e_values: Sequence[float] | Floats, weights: Sequence[float] | None = None
) -> float:
    """Log of the average of e-values: again an e-value, whatever their dependence.

    Args:
        weights: fixed before the first look, > 0, of any sum; None weighs alike.
    Raises:
        EvidenceError: there is none to average.
    Source:
        Vovk & Wang 2021, "E-values: calibration, combination and applications".
    """
    values = [float(value) for value in log_e_values]
    if not values:
        raise EvidenceError("an average of e-values needs at least one")
    top = max(values)
    if top == -math.inf:
        return -math.inf
    powers = [math.exp(value - top) for value in values]
    if weights is None:
        return top + math.log(sum(powers) / len(values))
    weighted = math.fsum(w * power for w, power in zip(weights, powers, strict=True))
    return top + math.log(weighted / math.fsum(weights))


def guilty(
    log_e_values: Mapping[str, float],
    is_material: Mapping[str, bool],
    *,
    alpha: float,
    weights: Mapping[str, float] | None = None,
) -> str | None:
    """The guard to roll back for, or None while harm is not proven.

    Args:
        log_e_values: of all K guards that could stop the stage, by name.
        is_material: guards whose estimate lies beyond half of their margin, so that a difference
            that is proven but trivial, as huge traffic proves many, does not roll back.
        alpha: chance over the whole stage of rolling back a harmless one, in (0, 1).
        weights: of the guards in the average, see `average`; None weighs alike.
    Returns:
        The guard that brings most to the average among the material ones that bring at least
        `GUILTY_SHARE` / alpha (with K equal weights: e >= 0.2 K / alpha), once the average of all
        reaches 1 / alpha.
    """
    if not log_e_values:
        return None
    names = list(log_e_values)
    given = None if weights is None else [weights[name] for name in names]
    if average([log_e_values[name] for name in names], given) < -math.log(alpha):
        return None
    if weights is None or given is None:
        brings = {name: value - math.log(len(names)) for name, value in log_e_values.items()}
    else:
        whole = math.fsum(given)
        brings = {
            name: value + math.log(weights[name] / whole) for name, value in log_e_values.items()
        }
    needed = math.log(GUILTY_SHARE / alpha)
    named = [
        (value, name)
        for name, value in brings.items()
        if value >= needed and is_material.get(name, False)
    ]
    return max(named)[1] if named else None
