from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from huidu.errors import EvidenceError
from huidu.stats.srm import SampleRatio, is_broken


def test_the_expected_e_value_of_a_right_sampler_is_exactly_one():
    rhos, users = np.array([0.05, 0.4]), np.array([25.0, 11.0])
    test = SampleRatio(rhos)
    total = 0.0
    for split in itertools.product(range(26), range(12)):
        t = np.array(split, dtype=float)
        chance = math.prod(binom.pmf(t, users, rhos))
        total += chance * math.exp(test.log_evidence(t, users - t))
    assert total == pytest.approx(1.0, abs=1e-9)


def test_one_lost_user_in_ten_is_found_within_ten_thousand_treated():
    test = SampleRatio(np.array([0.05]))
    assert not is_broken(test.log_evidence(np.array([10_000.0]), np.array([190_000.0])))
    assert is_broken(test.log_evidence(np.array([9_000.0]), np.array([190_000.0])))


def test_chi_square_agrees_with_scipy_for_one_cell():
    found = SampleRatio(np.array([0.05])).chi_square(np.array([540.0]), np.array([9_460.0]))
    assert found == pytest.approx(chisquare([540, 9_460], [500, 9_500]).statistic)


def test_nobody_enrolled_is_no_evidence():
    test = SampleRatio(np.array([0.05, 0.5]))
    nobody = np.zeros(2)
    assert test.log_evidence(nobody, nobody) == pytest.approx(0.0, abs=1e-9)
    assert test.chi_square(nobody, nobody) == 0.0


@pytest.mark.parametrize(("rho", "t", "c"), [(1.0, 5.0, 1.0), (0.0, 1.0, 5.0)])
def test_a_user_in_an_arm_that_must_be_empty_is_proof(rho, t, c):
    assert SampleRatio(np.array([rho])).log_evidence(np.array([t]), np.array([c])) == math.inf


def test_a_stage_for_everybody_is_never_suspected():
    test = SampleRatio(np.array([1.0]))
    assert test.log_evidence(np.array([5_000.0]), np.array([0.0])) == 0.0
    assert test.chi_square(np.array([5_000.0]), np.array([0.0])) == 0.0


def test_a_right_sampler_is_rarely_ever_called_broken():
    """Looked at 300 times each: at most 0.5 % of 400 stages, tolerance four standard errors."""
    rng = np.random.default_rng(11)
    test = SampleRatio(np.array([0.05, 0.15]))
    broken = 0
    for _ in range(400):
        users = rng.poisson([450, 50], (300, 2))
        treated = np.cumsum(rng.binomial(users, [0.05, 0.15]), axis=0).astype(float)
        control = np.cumsum(users, axis=0) - treated
        broken += any(
            is_broken(test.log_evidence(t, c)) for t, c in zip(treated, control, strict=True)
        )
    assert broken / 400 <= 0.005 + 4 * math.sqrt(0.005 * 0.995 / 400)


def test_a_probability_outside_its_range_is_refused():
    with pytest.raises(EvidenceError, match="rho"):
        SampleRatio(np.array([1.2]))
