"""Sample ratio: were as many enrolled users treated as the sampler says?

A share that is off means that users get lost on the way into one arm, and then no comparison of
the arms can be trusted, whatever it shows.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.special import betaln

from huidu.errors import EvidenceError
from huidu.stats.sequential import Floats

CONCENTRATIONS: Final[Floats] = np.array([100.0, 3_000.0, 100_000.0])
"""From "the share may be off by several points" to "by a tenth of a point"."""

BROKEN_AT: Final = 0.005
"""A right sampler is ever called broken with at most this probability."""

CHI_SQUARE_LIMIT: Final = 6.63
"""99th percentile of chi-square(1), asked at the look of a promotion."""


class SampleRatio:
    """The test for one set of cells, with what depends on rho alone worked out once."""

    def __init__(self, rho: Floats) -> None:
        rho = np.asarray(rho, dtype=np.float64)
        if not np.all((rho >= 0) & (rho <= 1)):
            raise EvidenceError(f"rho must lie in [0, 1], got {rho.tolist()}")
        self._two_armed = (rho > 0) & (rho < 1)
        self._rho = np.where(self._two_armed, rho, 0.5)
        self._prior_t = self._rho[:, None] * CONCENTRATIONS
        self._prior_c = (1.0 - self._rho)[:, None] * CONCENTRATIONS
        self._log_prior = betaln(self._prior_t, self._prior_c)
        self._log_rho = np.log(self._rho)
        self._log_rest = np.log1p(-self._rho)
        self._must_be_empty_t = rho == 0
        self._must_be_empty_c = rho == 1

    def log_evidence(self, treated: Floats, control: Floats) -> float:
        """Log e-value against "a user is treated with probability rho", summed over cells.

        Per cell a beta-binomial mixture over concentrations around rho; cells are independent, so
        their e-values multiply. A user in an arm that must be empty is proof by himself.

        Args:
            treated, control: enrolled users so far, shape (C,), whole numbers of 0 or more.
        Source:
            Lindon & Malek 2020, "Anytime-valid inference for multinomial count data".
        """
        if (treated[self._must_be_empty_t] > 0).any() or (control[self._must_be_empty_c] > 0).any():
            return math.inf
        return float(self.log_evidence_by_cell(treated, control).sum())

    def log_evidence_by_cell(self, treated: Floats, control: Floats) -> Floats:
        """The same per cell, shape (..., C) as the counts; 0 for a cell with one arm."""
        t, c = treated[..., None], control[..., None]
        mixture = betaln(self._prior_t + t, self._prior_c + c) - self._log_prior
        top = mixture.max(axis=-1)
        average = top + np.log(np.exp(mixture - top[..., None]).mean(axis=-1))
        log_e = average - treated * self._log_rho - control * self._log_rest
        return np.where(self._two_armed, log_e, 0.0)

    def chi_square(self, treated: Floats, control: Floats) -> float:
        """Chi-square statistic with one degree of freedom for the total over all cells.

        Returns 0 while nobody is enrolled.
        """
        users = np.where(self._two_armed, treated + control, 0.0)
        variance = float(users @ (self._rho * (1.0 - self._rho)))
        if variance == 0:
            return 0.0
        excess = float(np.where(self._two_armed, treated, 0.0).sum() - users @ self._rho)
        return excess * excess / variance


def is_broken(log_evidence: float) -> bool:
    """Whether the sample ratio is proven wrong; once true it stays true for the stage."""
    return log_evidence >= -math.log(BROKEN_AT)
