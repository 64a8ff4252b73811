from __future__ import annotations

import math

import numpy as np
import pytest

from huidu.errors import EvidenceError
from huidu.stats.power import Outlook, Phase, Stratum, growth_needed, outlook

MID_TRAFFIC = [Stratum(259_200, 0.0417, 0.045), Stratum(28_800, 0.125, 0.095)]


def plan(strata: list[Stratum], **changes: object) -> Outlook:
    terms = {
        "margin": 0.1,
        "increase": False,
        "minimum_days": 7,
        "horizon_days": 14,
        "share": 0.2,
    } | changes
    return outlook(strata, **terms)  # type: ignore[arg-type]


def test_mid_traffic_proves_a_ten_percent_margin_at_the_first_planned_look():
    found = plan(MID_TRAFFIC)
    assert found.can_conclude
    assert (found.day_early, found.day, found.day_late) == (7, 7, 7)
    assert found.users == pytest.approx(100_860, abs=10)
    assert found.text.startswith("needs about 100,860 treated users, day 7")


def test_a_village_can_never_conclude_and_is_told_so():
    found = plan([Stratum(500, 0.05, 0.05)], margin=0.02)
    assert found.proven < 0.1
    hopeless = plan([Stratum(500, 0.05, 0.005)], margin=0.001, alpha_promote=0.02)
    assert not hopeless.can_conclude
    assert "can never conclude" in hopeless.text


def test_more_traffic_proves_smaller_margins_and_catches_smaller_harm():
    small = plan([Stratum(50_000, 0.05, 0.05)])
    large = plan([Stratum(500_000, 0.05, 0.05)])
    assert large.proven > small.proven
    assert large.smallest_margin < small.smallest_margin
    assert large.smallest_harm > small.smallest_harm  # nearer to 1: a decrease is harm


def test_the_chance_of_proof_agrees_with_simulated_stages():
    """One planned look at the horizon: z is normal around its drift, the bound is 1.645."""
    found = plan([Stratum(20_000, 0.05, 0.05)], minimum_days=14)
    rng = np.random.default_rng(2)
    rho, ratio, days = 0.05, 0.9, 14
    events = rng.poisson(20_000 * 0.05 * days, 4_000)
    treated = rng.binomial(events, rho)
    theta = rho * ratio / (rho * ratio + 1 - rho)
    z = (treated - theta * events) / np.sqrt(events * theta * (1 - theta))
    assert found.proven == pytest.approx(
        np.mean(z >= 1.6449), abs=4 * math.sqrt(0.25 / 4_000) + 0.01
    )


def test_the_smallest_margin_is_proven_by_four_of_five_harmless_stages():
    found = plan([Stratum(50_000, 0.05, 0.05)])
    assert found.smallest_margin is not None
    again = plan([Stratum(50_000, 0.05, 0.05)], margin=found.smallest_margin)
    assert again.proven == pytest.approx(0.8, abs=0.001)


def test_means_are_planned_by_their_spread():
    narrow = plan([Stratum(50_000, 0.05, 10.0, deviation=20.0)])
    wide = plan([Stratum(50_000, 0.05, 10.0, deviation=80.0)])
    assert narrow.proven > wide.proven


@pytest.mark.parametrize(
    ("z", "harmless", "bound", "expected"),
    [
        pytest.param(2.5, 3.0, 2.0, 1.0, id="already there"),
        pytest.param(1.0, 1.0, 2.0, 4.0, id="on course: z grows with the square root"),
        pytest.param(0.5, 0.1, 2.0, None, id="never within ten times the evidence"),
    ],
)
def test_the_growth_that_is_still_needed(z, harmless, bound, expected):
    early, middle, late = growth_needed(z, harmless, bound=bound)
    if expected is None:
        assert middle is None
    else:
        assert middle == pytest.approx(expected, abs=1e-3)
        assert early <= middle
        assert late is None or late >= middle


@pytest.mark.parametrize(
    ("strata", "changes"),
    [
        ([], {}),
        ([Stratum(1_000, 0.0, 0.05)], {}),
        ([Stratum(0, 0.05, 0.05)], {}),
        ([Stratum(1_000, 0.05, 1.5)], {}),
        ([Stratum(1_000, 0.05, math.nan)], {}),
        ([Stratum(1_000, 0.05, 5.0, deviation=0.0)], {}),
        ([Stratum(1_000, 0.05, 0.05), Stratum(1_000, 0.05, 5.0, deviation=1.0)], {}),
        ([Stratum(1_000, 0.05, 0.05)], {"margin": 0.0}),
        ([Stratum(1_000, 0.05, 0.05)], {"margin": 1.0}),
        ([Stratum(1_000, 0.05, 0.05)], {"minimum_days": 20}),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(strata, changes):
    with pytest.raises(EvidenceError):
        plan(strata, **changes)


def test_a_ramp_of_the_same_share_changes_nothing_but_the_first_look():
    whole = plan(MID_TRAFFIC)
    parts = plan(MID_TRAFFIC, ramp=[Phase(3, tuple(MID_TRAFFIC))])
    assert parts.proven == pytest.approx(whole.proven, rel=1e-9)
    assert (parts.day, parts.users) == (whole.day, whole.users)
    assert parts.smallest_harm == whole.smallest_harm


def test_a_small_share_first_proves_later_and_catches_only_larger_harm_at_once():
    last = [Stratum(20_000, 0.05, 0.05)]
    small = Phase(8, (Stratum(20_000, 0.0025, 0.05),))
    direct, ramped = plan(last), plan(last, ramp=[small])
    assert ramped.proven < direct.proven
    assert ramped.smallest_margin > direct.smallest_margin
    assert direct.smallest_harm is not None
    assert ramped.smallest_harm is None or ramped.smallest_harm < direct.smallest_harm
    assert ramped.day is None or ramped.day >= 8


def test_time_without_a_control_teaches_nothing_and_a_ramp_must_fit():
    last = [Stratum(100_000, 0.5, 0.05)]
    late = plan(last, ramp=[Phase(10, ())], minimum_days=1)
    short = plan(last, minimum_days=1, horizon_days=4)
    assert late.day >= 10
    assert late.proven == pytest.approx(short.proven, abs=0.2)
    with pytest.raises(EvidenceError, match="expected a ramp within"):
        plan(last, ramp=[Phase(20, ())])
