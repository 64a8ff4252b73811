from __future__ import annotations

import math

import numpy as np
import pytest

from huidu.stats.moments import Moments, RatioMoments, linearised, stratified_difference


def moments(*samples: list[float]) -> Moments:
    return Moments(
        np.array([float(len(s)) for s in samples]),
        np.array([float(sum(s)) for s in samples]),
        np.array([float(sum(x * x for x in s)) for s in samples]),
    )


def test_one_cell_gives_the_usual_means_and_the_larger_variance():
    t, c = [1.0, 4.0, 7.0], [2.0, 2.0, 3.0, 9.0]
    found = stratified_difference(moments(t), moments(c))
    assert (found.treated, found.control) == (4.0, 4.0)
    unpooled = np.var(t, ddof=1) / 3 + np.var(c, ddof=1) / 4
    scatter = 2 * np.var(t, ddof=1) + 3 * np.var(c, ddof=1)
    pooled = scatter / 5 * (1 / 3 + 1 / 4)
    assert found.variance == pytest.approx(max(unpooled, pooled))


def test_a_richer_stratum_drawn_more_often_makes_no_difference():
    """Heavy users spend ten times as much and are four times as often treated: no effect."""
    light_t, light_c = [1.0, 3.0] * 10, [1.0, 3.0] * 190
    heavy_t, heavy_c = [10.0, 30.0] * 10, [10.0, 30.0] * 40
    found = stratified_difference(moments(light_t, heavy_t), moments(light_c, heavy_c))
    assert found.treated == pytest.approx(found.control)
    pooled_t = np.mean(light_t + heavy_t)
    pooled_c = np.mean(light_c + heavy_c)
    assert pooled_t > 2 * pooled_c


def test_cells_with_an_empty_arm_are_left_out():
    found = stratified_difference(moments([1.0, 2.0], []), moments([1.0, 2.0], [50.0, 70.0]))
    assert found.control == pytest.approx(1.5)
    assert found.users_control == 2
    assert stratified_difference(moments([]), moments([1.0, 2.0])).variance == 0.0


def test_the_variance_is_honest_on_heavy_tails_with_a_large_control():
    """5 % against the rest, log-normal amounts: false alarms stay near their nominal 1 %."""
    rng = np.random.default_rng(8)
    alarms, runs = 0, 1_500
    for _ in range(runs):
        t, c = np.exp(rng.normal(0, 1.5, 60)), np.exp(rng.normal(0, 1.5, 1_140))
        cap = math.exp(1.5 * 2.326)
        t, c = np.minimum(t, cap), np.minimum(c, cap)
        found = stratified_difference(moments(list(t)), moments(list(c)))
        alarms += (found.treated - found.control) / math.sqrt(found.variance) < -2.326
    assert alarms / runs <= 0.01 + 4 * math.sqrt(0.01 * 0.99 / runs)


def test_linearised_users_have_mean_zero_at_their_own_ratio():
    num, den = np.array([0.0, 2.0, 1.0, 5.0]), np.array([4.0, 9.0, 2.0, 11.0])
    ratio = num.sum() / den.sum()
    arm = RatioMoments(
        np.array([4.0]), *(np.array([x.sum()]) for x in (num, den, num**2, den**2, num * den))
    )
    found = linearised(arm, np.array([ratio]))
    residual = num - ratio * den
    assert float(found.total[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(found.squares[0]) == pytest.approx((residual**2).sum())
