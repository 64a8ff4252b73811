"""Exact proofs first: under the null an e-value's expectation is 1, summed over every outcome."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from huidu.errors import EvidenceError
from huidu.stats.sequential import (
    HARM_GRID,
    average,
    count_factors,
    guilty,
    harm_grid,
    harm_sizes,
    log_evidence_against_limit,
    log_evidence_of_counts,
    log_evidence_of_mean,
    treated_probability,
)


def expectation(
    rhos: list[float],
    events: list[int],
    ratio: float,
    *,
    shares: np.ndarray | None = None,
    **how: object,
) -> float:
    """Expected e-value over all splits of the cells' events, at a true risk ratio."""
    factors = count_factors(np.array(rhos), **how)  # type: ignore[arg-type]
    total = 0.0
    for split in itertools.product(*(range(n + 1) for n in events)):
        chance = math.prod(
            binom.pmf(a, n, float(treated_probability(np.array(rho), ratio)))
            for a, n, rho in zip(split, events, rhos, strict=True)
        )
        a = np.array(split, dtype=float)
        e = math.exp(float(log_evidence_of_counts(a, np.array(events) - a, factors, shares)))
        total += chance * e
    return total


@pytest.mark.parametrize("increase", [True, False])
@pytest.mark.parametrize(
    ("rhos", "events"),
    [([0.5], [12]), ([0.05], [30]), ([0.04, 0.12], [9, 7]), ([0.01, 0.3, 0.9], [4, 3, 5])],
)
def test_the_expected_e_value_of_a_harmless_stage_is_exactly_one(rhos, events, increase):
    assert expectation(rhos, events, 1.0, increase=increase) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.3, 5.0])
def test_it_is_one_whatever_sizes_of_harm_a_margin_makes_matter(margin):
    sizes = harm_sizes(1.0 + margin, increase=True)
    for shares in (sizes.shares, None):
        found = expectation([0.04, 0.3], [9, 6], 1.0, increase=True, grid=sizes.logs, shares=shares)
        assert found == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("increase", [True, False])
@pytest.mark.parametrize("rho", [0.0025, 0.05, 0.5])
def test_a_harmless_stage_ever_reaches_one_in_alpha_in_at_most_alpha_of_all_histories(
    rho, increase
):
    """Every order of 600 events, summed exactly; a history that got there is not followed on."""
    alpha = 0.05
    sizes = harm_sizes(1.1 if increase else 0.9, increase=increase)
    factors = count_factors(np.array([rho]), increase=increase, grid=sizes.logs)
    chances, reached = np.array([1.0]), 0.0  # by number of events among the treated
    for events in range(1, 601):
        chances = np.convolve(chances, [1.0 - rho, rho])
        treated = np.arange(events + 1.0)
        log_e = log_evidence_of_counts(treated[None], events - treated[None], factors, sizes.shares)
        there = log_e >= -math.log(alpha)
        reached += float(chances[there].sum())
        chances[there] = 0.0
    assert reached <= alpha
    assert increase or rho < 0.1 or reached > alpha / 20  # the test is not empty


@pytest.mark.parametrize(("increase", "ratio"), [(True, 0.7), (False, 1.6)])
def test_a_stage_that_does_good_gathers_even_less_evidence_of_harm(increase, ratio):
    assert expectation([0.05, 0.2], [10, 8], ratio, increase=increase) < 1.0


@pytest.mark.parametrize(("ratio", "right"), [(0.4, 1.0), (0.6, None), (1.0, None)])
def test_too_good_to_be_true_is_an_e_value_against_sixty_percent_rarer(ratio, right):
    found = expectation([0.1, 0.3], [9, 6], ratio, increase=False, null_ratio=0.4)
    if right is None:
        assert found < 1.0
    else:
        assert found == pytest.approx(right, abs=1e-12)


def test_the_mixture_equals_its_formula_written_out():
    rho, a, b = 0.05, 9.0, 60.0
    terms = []
    for g in np.geomspace(0.03, 2.5, 8):
        r = math.exp(g)
        theta = rho * r / (rho * r + 1 - rho)
        terms.append((theta / rho) ** a * ((1 - theta) / (1 - rho)) ** b)
    factors = count_factors(np.array([rho]), increase=True)
    found = float(log_evidence_of_counts(np.array([a]), np.array([b]), factors))
    assert math.exp(found) == pytest.approx(sum(terms) / 8, rel=1e-12)


def test_many_columns_are_judged_as_each_alone():
    factors = count_factors(np.array([0.05, 0.2]), increase=True)
    treated, control = np.array([[5.0, 1.0], [7.0, 0.0]]), np.array([[40.0, 3.0], [20.0, 9.0]])
    together = log_evidence_of_counts(treated, control, factors)
    alone = [float(log_evidence_of_counts(treated[:, j], control[:, j], factors)) for j in (0, 1)]
    assert together == pytest.approx(alone)


def test_a_cell_without_two_arms_says_nothing():
    factors = count_factors(np.array([0.0, 1.0]), increase=True)
    found = log_evidence_of_counts(np.array([0.0, 500.0]), np.array([3.0, 0.0]), factors)
    assert float(found) == 0.0


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("limit", [0.02, 0.3])
def test_the_e_value_against_a_limit_has_expectation_one_at_the_limit(above, limit):
    n = 60
    total = sum(
        binom.pmf(x, n, limit)
        * math.exp(log_evidence_against_limit(x, n, limit=limit, above=above))
        for x in range(n + 1)
    )
    assert total == pytest.approx(1.0, abs=1e-12)
    kept = limit / 2 if above else min(0.99, limit * 2)
    inside = sum(
        binom.pmf(x, n, kept) * math.exp(log_evidence_against_limit(x, n, limit=limit, above=above))
        for x in range(n + 1)
    )
    assert inside < 1.0


@pytest.mark.parametrize(
    ("events", "users", "limit"), [(5, 4, 0.1), (-1, 4, 0.1), (1, 4, 0.0), (1, 4, 1.0)]
)
def test_impossible_counts_against_a_limit_are_refused(events, users, limit):
    with pytest.raises(EvidenceError):
        log_evidence_against_limit(events, users, limit=limit, above=True)


@pytest.mark.parametrize("rho", [-0.1, 1.1, math.nan])
def test_a_probability_outside_its_range_is_refused(rho):
    with pytest.raises(EvidenceError, match="rho"):
        count_factors(np.array([rho]), increase=True)


def test_the_e_value_of_a_mean_has_expectation_one_for_a_normal_difference():
    variance, base = 0.04, 3.0
    draws = np.random.default_rng(5).normal(0.0, math.sqrt(variance), 40_000)
    values = [
        math.exp(min(50, log_evidence_of_mean(d, variance, base=base, increase=False)))
        for d in draws
    ]
    # Large shifts make the e-value heavy-tailed; its expectation is 1, its sample mean below.
    assert np.mean(values) < 1.0 + 4 * np.std(values) / math.sqrt(len(values))
    assert np.mean(np.array(values) >= 20) <= 0.05


@pytest.mark.parametrize(
    ("variance", "base"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, -2.0)]
)
def test_a_mean_that_cannot_be_judged_says_nothing(variance, base):
    assert log_evidence_of_mean(-0.5, variance, base=base, increase=False) == 0.0


@given(st.lists(st.floats(-50, 600), min_size=1, max_size=9))
def test_the_average_lies_between_the_smallest_and_the_largest(values):
    found = average(values)
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9
    assert found >= max(values) - math.log(len(values)) - 1e-9


def test_a_weighted_average_counts_each_by_its_weight():
    found = average([math.log(40.0), math.log(1.0), -math.inf], [3.0, 1.0, 4.0])
    assert math.exp(found) == pytest.approx((3 * 40 + 1) / 8)
    assert average([2.0, 1.0], [0.5, 0.5]) == pytest.approx(average([2.0, 1.0]))


def test_the_average_of_nothing_is_refused():
    with pytest.raises(EvidenceError):
        average([])


LOG = math.log


@pytest.mark.parametrize(
    ("log_e", "material", "expected"),
    [
        pytest.param({"a": LOG(99), "b": 0.0}, {"a": True}, "a", id="proven and material"),
        pytest.param({"a": LOG(38), "b": -9.0}, {"a": True}, None, id="the average falls short"),
        pytest.param({"a": LOG(1e6), "b": 0.0}, {"a": False}, None, id="proven but trivial"),
        pytest.param(
            {"a": LOG(1e6), "b": LOG(50)}, {"b": True}, "b", id="a lesser guard is material"
        ),
        pytest.param(
            {"a": LOG(1e6), "b": LOG(7.9)}, {"b": True}, None, id="too weak to be named alone"
        ),
        pytest.param({}, {}, None, id="no guards"),
    ],
)
def test_the_guilty_guard_is_named(log_e, material, expected):
    assert guilty(log_e, material, alpha=0.05) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(27.0, 0.0, "a", id="a heavy guard needs less"),
        pytest.param(26.0, 0.0, None, id="but not too little"),
        pytest.param(0.0, 79.0, None, id="a light guard needs more"),
        pytest.param(0.0, 81.0, "b", id="and has it"),
        pytest.param(40.0, 90.0, "a", id="named is who brings most to the average"),
    ],
)
def test_a_weight_divides_the_error_budget(a, b, expected):
    log_e = {"a": math.log(a or 1e-9), "b": math.log(b or 1e-9)}
    material = {"a": True, "b": True}
    weights = {"a": 3.0, "b": 1.0}
    assert guilty(log_e, material, alpha=0.05, weights=weights) == expected


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("of_mean", [True, False])
@pytest.mark.parametrize("increase", [True, False])
def test_sizes_of_harm_share_the_evidence_and_leave_no_wide_gaps(margin, of_mean, increase):
    ratio = 1.0 + margin if increase else 1.0 - margin
    logs, shares = harm_sizes(ratio, increase=increase, of_mean=of_mean)
    assert shares is not None
    assert shares.sum() == pytest.approx(1.0)
    assert np.all(shares > 0.03)
    assert 0.5 <= logs[0] / abs(math.log(ratio)) <= 1.0 + 1e-9
    assert logs[-1] >= 1.2 - 1e-9
    assert np.all(logs[1:] / logs[:-1] <= 3.1 + 1e-9)


def test_the_grid_spans_three_percent_to_twelvefold():
    assert len(HARM_GRID) == 8
    assert math.exp(HARM_GRID[0]) == pytest.approx(1.03, abs=0.001)
    assert math.exp(HARM_GRID[-1]) == pytest.approx(12.2, abs=0.1)


@pytest.mark.parametrize("ratio", [1.02, 1.1, 0.9, 0.7, 1.3, 6.0, 0.05])
def test_the_sizes_of_harm_start_at_the_margin_and_lie_close_together(ratio):
    grid = harm_grid(ratio)
    assert grid[0] == pytest.approx(abs(math.log(ratio)))
    assert grid[-1] >= 2.0
    assert np.all(grid[1:] / grid[:-1] <= 2.7 + 1e-9)
    assert harm_grid(ratio, of_mean=True)[0] == pytest.approx(grid[0] / 2)
