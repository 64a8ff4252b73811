"""The score fades by 40 % in 15 calm days, and never rises by itself."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu.errors import EvidenceError
from huidu.risk import risk_now

NEW_YEAR = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param(0, 100.0, id="as it was given"),
        pytest.param(15, 60.0, id="one period"),
        pytest.param(30, 36.0, id="two periods"),
        pytest.param(1, 96.6521, id="smoothly in between"),
        pytest.param(-3, 100.0, id="a day to come counts as today"),
    ],
)
def test_the_score_fades_with_calm_days(days, expected):
    assert risk_now(100, NEW_YEAR, NEW_YEAR + timedelta(days=days)) == pytest.approx(expected, 1e-5)


@given(st.floats(0, 1e6), st.integers(0, 4000), st.integers(0, 4000))
def test_a_later_day_never_has_a_higher_score(base, first, more):
    early = risk_now(base, NEW_YEAR, NEW_YEAR + timedelta(days=first))
    late = risk_now(base, NEW_YEAR, NEW_YEAR + timedelta(days=first + more))
    assert 0 <= late <= early <= base


@pytest.mark.parametrize("base", [-0.1, float("nan"), float("inf")])
def test_an_impossible_score_is_refused(base):
    with pytest.raises(EvidenceError):
        risk_now(base, NEW_YEAR, NEW_YEAR)
