"""Whole stages of thousands of looks, with the real rule asked only where it could answer.

Whether a look can end in anything but "hold" is worked out for all looks of a stage at once; the
others need not be put before `huidu.promotion.review`, which decides on all that remain:

* looks at which the average of the guards' e-values reaches 1/alpha (no rollback without);
* the look at which the sample ratio breaks (it stays broken);
* planned looks, and the looks after one while its proof is due or good (no promotion elsewhere).

The state that `review` carries depends on the looks in between only through the pulses of the
feeds, which a feed that never goes silent does not use: stages with a broken feed are not run this
way. `compare` puts every single look before the rule and fails unless decision, guard and look are
the same and every e-value agrees; bench/promotion.py does so for some stages of each row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from promotion_world import Stage

from huidu.promotion import Kind, Outcome, Plan, State, review
from huidu.promotion.plan import CompiledPlan, Guard, compiled
from huidu.stats.sequential import MINIMUM_USERS_PER_ARM, Sizes, count_factors
from huidu.stats.srm import BROKEN_AT

ROOM = 1e-6
"""Added to log e-values: sums in another order must not hide a look that just decides."""


class End(NamedTuple):
    """The last outcome of a stage, the look it came at, and how many looks the rule was asked."""

    outcome: Outcome
    k: int
    asked: int


def run(plan: Plan, stage: Stage) -> End:
    """One whole stage, its looks screened."""
    ready = compiled(plan)
    weights = np.array([guard.weight for guard in ready.guards])
    may_roll_back = _log_mean(evidence_of_harm(ready, stage), weights / weights.sum()) >= (
        -math.log(plan.alpha.rollback) - ROOM
    )
    asked, k, state = 0, 0, State()
    broken = _sample_ratio(ready, stage) >= -math.log(BROKEN_AT) - ROOM
    worth = np.nonzero(may_roll_back | (broken & (np.cumsum(broken) == 1)))[0] + 1
    while True:
        k = _next(plan, state, worth, k, stage)
        state, outcome = review(plan, state, stage.look(k))
        asked += 1
        if outcome.decision != "hold" or k == stage.looks:
            return End(outcome, k, asked)


def run_all(plan: Plan, stage: Stage, *, every: int = 1) -> End:
    """One whole stage, every look (or every so many) put before the rule."""
    state, asked = State(), 0
    for k in range(every, stage.looks + 1, every):
        state, outcome = review(plan, state, stage.look(k))
        asked += 1
        if outcome.decision != "hold":
            break
    return End(outcome, k, asked)


def compare(plan: Plan, stage: Stage) -> End:
    """Both ways; raises AssertionError where they differ."""
    short = run(plan, stage)
    told = evidence_of_harm(compiled(plan), stage)
    state = State()
    for k in range(1, stage.looks + 1):
        state, outcome = review(plan, state, stage.look(k))
        for reading, log_e in zip(outcome.readings, told[:, k - 1].tolist(), strict=True):
            # A burst can leave one feed still for so long that the rule takes it for silent.
            if reading.as_of == stage.minutes[k - 1] and not state.sample_ratio_broken:
                agree = math.isclose(math.log(reading.e_value), log_e, rel_tol=1e-6, abs_tol=1e-6)
                assert agree, (k, reading, log_e)
        if outcome.decision != "hold":
            break
    whole = (outcome.decision, outcome.metric, k)
    assert whole == (short.outcome.decision, short.outcome.metric, short.k), (whole, short)
    return short


def _next(plan: Plan, state: State, worth: np.ndarray, k: int, stage: Stage) -> int:
    """The next look that could decide, or change what a later one is based on."""
    at = int(np.searchsorted(worth, k, side="right"))
    candidates = [stage.looks, *worth[at : at + 1].tolist()]
    times = plan.stage
    due = times.min_min if state.next_promotion_min is None else state.next_promotion_min
    if due <= times.horizon_min:
        candidates.append(max(k + 1, int(np.searchsorted(stage.minutes, due)) + 1))
    if k < stage.looks and state.proven_until_min > stage.minutes[k]:
        candidates.append(k + 1)
    return min(candidate for candidate in candidates if candidate > k)


def _log_mean(log_e: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    top = log_e.max(axis=0)
    powers = np.exp(log_e - top)
    mean = powers.mean(axis=0) if shares is None else np.tensordot(shares, powers, axes=1)
    return np.asarray(top + np.log(mean))


def evidence_of_harm(ready: CompiledPlan, stage: Stage) -> np.ndarray:
    """Log e-values of all guards at all looks, shape (guards, looks)."""
    return np.stack(
        [
            _of_mean(guard, stage.values[guard.name], guard.sizes)
            if guard.metric.kind is Kind.MEAN
            else _log_mean(
                _of_counts(
                    ready.factors[guard.name],
                    stage.values[guard.name][..., : guard.harm_columns],
                    guard.sizes.shares,
                )
            )
            for guard in ready.guards
        ]
    )


def _of_counts(
    factors: tuple[np.ndarray, np.ndarray],
    columns: np.ndarray,
    shares: np.ndarray | None = None,
) -> np.ndarray:
    """From (looks, cells, arms, columns) to (columns, looks)."""
    looks, cells, _, numbers = columns.shape
    events = np.ascontiguousarray(columns.transpose(2, 1, 3, 0), dtype=float)
    by_arm = events.reshape(2, cells, numbers * looks)
    exponents = factors[0].T @ by_arm[0] + factors[1].T @ by_arm[1]
    return _log_mean(exponents, shares).reshape(numbers, looks)


def _of_mean(guard: Guard, values: np.ndarray, sizes: Sizes) -> np.ndarray:
    n, total, squares = (values[..., i].astype(float) for i in (0, 3, 4))
    (nt, nc), (tt, tc), (qt, qc) = (
        (x[..., 0], x[..., 1]) for x in (n, total, squares)
    )  # each of shape (looks, cells)
    ok = (nt >= 1) & (nc >= 1) & (nt + nc >= 3)
    nt, nc = np.where(ok, nt, 1.0), np.where(ok, nc, 2.0)
    scatter_t = np.maximum(qt - tt * tt / nt, 0.0)
    scatter_c = np.maximum(qc - tc * tc / nc, 0.0)
    pooled = (scatter_t + scatter_c) / (nt + nc - 2.0) * (1.0 / nt + 1.0 / nc)
    unpooled = scatter_t / (np.maximum(nt - 1, 1) * nt) + scatter_c / (np.maximum(nc - 1, 1) * nc)
    weight = np.where(ok, nt * nc / (nt + nc), 0.0)
    whole = np.maximum(weight.sum(axis=1), 1e-100)
    base = (weight * tc / nc).sum(axis=1) / whole
    difference = (weight * tt / nt).sum(axis=1) / whole - base
    variance = (weight**2 * np.maximum(pooled, unpooled)).sum(axis=1) / whole**2
    users = [np.where(ok, x, 0.0).sum(axis=1) for x in (nt, nc)]
    enough = (np.minimum(*users) >= MINIMUM_USERS_PER_ARM) & (base > 0) & (variance > 0)
    shifts = np.expm1(sizes.logs if guard.increase else -sizes.logs)[:, None] * base
    exponents = (shifts * difference - 0.5 * shifts**2) / np.where(enough, variance, 1.0)
    return np.where(enough, _log_mean(exponents, sizes.shares), 0.0)


def _sample_ratio(ready: CompiledPlan, stage: Stage) -> np.ndarray:
    """Log e-value of a wrong sample ratio at every look."""
    users = stage.enrolled.astype(float)
    return ready.sample_ratio.log_evidence_by_cell(users[..., 0], users[..., 1]).sum(axis=-1)


def known_in_advance(plan: Plan, stage: Stage, name: str, effect: float) -> int | None:
    """The look at which a test of this one guard and this one size of harm would roll back.

    Wald's sequential test that knew the answer: one guard, one size, e-value 1/alpha. No real test
    can know; it is the measure for what watching everything costs.
    """
    ready = compiled(plan)
    guard = next(each for each in ready.guards if each.name == name)
    size = np.array([abs(math.log(effect))])
    values = stage.values[name]
    if guard.metric.kind is Kind.MEAN:
        log_e = _of_mean(guard, values, Sizes(size))
    else:
        factors = count_factors(ready.rho, increase=guard.increase, grid=size)
        log_e = _of_counts(factors, values[..., : guard.harm_columns]).max(axis=0)
    reached = np.nonzero(log_e >= -math.log(plan.alpha.rollback))[0]
    return int(reached[0]) + 1 if reached.size else None
