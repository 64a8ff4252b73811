"""Bounds against published tables; the score statistic against its formula and exact counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from huidu.errors import EvidenceError
from huidu.stats.noninferiority import (
    UNREACHABLE,
    count_score,
    crossing_probability,
    grown,
    mean_score,
    next_bound,
    spend,
)


def bounds_for(spent: list[float], information: list[float]) -> list[float]:
    bounds: list[float] = []
    before = 0.0
    for i, total in enumerate(spent):
        bounds.append(next_bound(information[:i], bounds, information[i], total - before))
        before = total
    return bounds


def test_pocock_type_spending_gives_the_published_bounds():
    """Five equal looks, one-sided 2.5 %: Reboussin, DeMets, Kim & Lan 2000 (program ld98)."""
    times = [0.2, 0.4, 0.6, 0.8, 1.0]
    found = bounds_for([spend(t, 0.025) for t in times], times)
    assert found == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.0015)


def test_obrien_fleming_type_spending_gives_the_published_bounds():
    """Five equal looks, one-sided 2.5 %: 4.8769, 3.3569, 2.6803, 2.2898, 2.0310 (the same)."""
    times = [0.2, 0.4, 0.6, 0.8, 1.0]
    spent = [2 - 2 * norm.cdf(norm.ppf(1 - 0.0125) / math.sqrt(t)) for t in times]
    found = bounds_for(spent, times)
    assert found == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=0.0015)


@pytest.mark.parametrize(
    ("looks", "constant"), [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)]
)
def test_pococks_constants_spend_two_and_a_half_percent_a_side(looks, constant):
    """Jennison & Turnbull 2000, table 2.1, alpha = 0.05 two-sided."""
    info = [float(k) for k in range(1, looks + 1)]
    total = sum(crossing_probability(info[:k], [constant] * k) for k in range(1, looks + 1))
    assert total == pytest.approx(0.025, abs=0.0002)


@pytest.mark.parametrize(("looks", "constant"), [(2, 1.977), (3, 2.004), (5, 2.040), (10, 2.087)])
def test_obrien_and_flemings_constants_spend_two_and_a_half_percent_a_side(looks, constant):
    """Jennison & Turnbull 2000, table 2.3, alpha = 0.05 two-sided."""
    info = [float(k) for k in range(1, looks + 1)]
    bounds = [constant * math.sqrt(looks / k) for k in range(1, looks + 1)]
    total = sum(crossing_probability(info[:k], bounds[:k]) for k in range(1, looks + 1))
    assert total == pytest.approx(0.025, abs=0.0002)


def test_crossing_under_a_drift_agrees_with_simulation():
    info, bounds, drift = [1.0, 2.5, 4.0], [2.0, 2.1, 1.9], 0.8
    rng = np.random.default_rng(3)
    steps = np.diff([0.0, *info])
    scores = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (200_000, 3)), axis=1)
    passed = scores / np.sqrt(info) >= bounds
    for k in range(3):
        first = passed[:, k] & ~passed[:, :k].any(axis=1)
        exact = crossing_probability(info[: k + 1], bounds[: k + 1], drift=drift)
        assert exact == pytest.approx(first.mean(), abs=4 * math.sqrt(0.25 / 200_000))


def test_all_is_spent_at_the_horizon_and_nothing_before_the_start():
    assert spend(0.0, 0.05) == 0.0
    assert spend(1.0, 0.05) == pytest.approx(0.05)
    assert spend(7.0, 0.05) == pytest.approx(0.05)


def test_a_look_that_may_spend_nothing_cannot_be_passed():
    assert next_bound([1.0], [2.0], 2.0, 0.0) == UNREACHABLE


def test_information_must_rise_and_is_made_to():
    with pytest.raises(EvidenceError, match="information must rise"):
        next_bound([2.0], [2.0], 2.0, 0.01)
    assert grown([2.0], 1.5) == pytest.approx(2.02)
    assert grown([], 1.5) == 1.5


def test_counting_more_growth_than_there_was_only_raises_the_bound():
    close = next_bound([1.0], [2.0], 1.001, 0.01)
    counted = next_bound([1.0], [2.0], 1.01, 0.01)
    assert counted >= close


def test_the_count_score_is_its_formula():
    rho, ratio = np.array([0.05, 0.15]), 0.9
    a, b = np.array([40.0, 22.0]), np.array([800.0, 110.0])
    theta = rho * ratio / (rho * ratio + 1 - rho)
    expected = (a - theta * (a + b)).sum() / math.sqrt(((a + b) * theta * (1 - theta)).sum())
    found = count_score(a, b, rho, ratio=ratio, increase=False)
    assert found is not None
    assert found.z == pytest.approx(expected)
    mirrored = count_score(a, b, rho, ratio=ratio, increase=True)
    assert mirrored is not None
    assert mirrored.z == pytest.approx(-expected)


@pytest.mark.parametrize(("increase", "ratio"), [(True, 1.25), (False, 0.9)])
def test_at_the_margin_the_score_passes_no_oftener_than_the_normal_says(increase, ratio):
    """Exact over all splits of 2,000 events: within half a point of 2.5 %."""
    rho, events = 0.05, 2_000
    theta = rho * ratio / (rho * ratio + 1 - rho)
    total = 0.0
    for a in range(events + 1):
        score = count_score(
            np.array([float(a)]), np.array([float(events - a)]), np.array([rho]),
            ratio=ratio, increase=increase,
        )  # fmt: skip
        if score is not None and score.z >= 1.96:
            total += binom.pmf(a, events, theta)
    assert total == pytest.approx(0.025, abs=0.005)


def test_no_events_are_no_score():
    nothing = np.zeros(1)
    assert count_score(nothing, nothing, np.array([0.05]), ratio=0.9, increase=False) is None
    one_armed = count_score(np.array([9.0]), nothing, np.array([1.0]), ratio=0.9, increase=False)
    assert one_armed is None
    assert mean_score(0.0, 0.0, gap=1.0, base=1.0, increase=False) is None
