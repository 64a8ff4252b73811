"""Means of amounts, compared inside cells and combined across them.

Cells are weighted by n_t n_c / (n_t + n_c), which does not look at the values: weights taken from
sample variances favour, on heavy tails, exactly the cells whose means came out low.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from huidu.stats.sequential import Floats


class Moments(NamedTuple):
    """Per cell: users, sum of values, sum of squares; arrays of shape (C,)."""

    n: Floats
    total: Floats
    squares: Floats


class Difference(NamedTuple):
    """A stratified comparison: treated and control mean under the same weights, and variances.

    `variance` is that of treated - ratio x control for the `ratio` it was made with.
    """

    treated: float
    control: float
    variance: float
    users_treated: float
    users_control: float


NOTHING = Difference(0.0, 0.0, 0.0, 0.0, 0.0)


def stratified_difference(treated: Moments, control: Moments, *, ratio: float = 1.0) -> Difference:
    """Both means under common cell weights, and the variance of treated - ratio x control.

    The variance of a cell is the larger of the pooled and the unpooled one: with "5 % against the
    rest" the unpooled alone rests on the few treated users, is small exactly when they happen to
    hold no large value, and gave 11-27 % false alarms at a nominal 1 %.

    Args:
        treated, control: moments per cell; cells with an empty arm or fewer than 3 users in all
            are left out.
        ratio: the factor on the control mean, 1 for harm, 1 -+ margin for a proof, > 0.
    Returns:
        `Difference`; all zeros if no cell can be compared.
    """
    # A plain loop: for the few cells a stage has, it is four times as fast as arrays.
    weights = mean_t = mean_c = variance = users_t = users_c = 0.0
    for nt, total_t, squares_t, nc, total_c, squares_c in zip(
        *(column.tolist() for column in (*treated, *control)), strict=True
    ):
        if nt < 1 or nc < 1 or nt + nc < 3:
            continue
        scatter_t = max(squares_t - total_t * total_t / nt, 0.0)
        # Under "treated = ratio x control" the control's scatter is that of the treated / ratio^2.
        scatter_c = max(squares_c - total_c * total_c / nc, 0.0) * ratio * ratio
        pooled = (scatter_t + scatter_c) / (nt + nc - 2.0) * (1.0 / nt + 1.0 / nc)
        unpooled = scatter_t / (max(nt - 1.0, 1.0) * nt) + scatter_c / (max(nc - 1.0, 1.0) * nc)
        weight = nt * nc / (nt + nc)
        weights += weight
        mean_t += weight * total_t / nt
        mean_c += weight * total_c / nc
        variance += weight * weight * max(pooled, unpooled)
        users_t += nt
        users_c += nc
    if weights == 0:
        return NOTHING
    return Difference(
        mean_t / weights, mean_c / weights, variance / (weights * weights), users_t, users_c
    )


class RatioMoments(NamedTuple):
    """Per cell sums over users of a numerator and a denominator, squares and products; (C,)."""

    n: Floats
    num: Floats
    den: Floats
    num2: Floats
    den2: Floats
    numden: Floats


def linearised(arm: RatioMoments, ratio: Floats) -> Moments:
    """Moments of the per-user value num - ratio x den, whose mean is 0 at that ratio.

    Source:
        The delta method for ratios of means over users (Deng, Knoblich & Lu 2018): requests of one
        user are not independent, users are.
    """
    return Moments(
        arm.n,
        arm.num - ratio * arm.den,
        np.maximum(arm.num2 - 2.0 * ratio * arm.numden + ratio * ratio * arm.den2, 0.0),
    )
