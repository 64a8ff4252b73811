"""A wider share, a pause and a restart neither deal the error budgets again nor use them twice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from huidu.promotion import Cell, Conditions, Decision
from huidu.stats.srm import BROKEN_AT, SampleRatio
from tests.huidu.promotion_stages import after, codes, counts, look, plan, steady

OLD = Cell(id="all", rho=0.05)
NEW = Cell(id="wider", rho=0.2)


def two_epochs(day: float, users: int, *, success: float = 0.95) -> tuple:
    """The first epoch as it stood on day 8, and a second one with `users` and the same effect."""
    first = steady(8, success=success, users_per_day=10_000).cells[0]
    treated = round(users * NEW.rho)
    happy = (round(treated * 0.05 * success), round((users - treated) * 0.05))
    return look(day, first, counts(users, {"success": happy}, id="wider", rho=NEW.rho))


def test_a_wider_share_goes_on_spending_where_the_smaller_one_stopped():
    looks = [steady(day, success=0.95, users_per_day=10_000) for day in (7, 8)]
    state, _ = after(plan(), *looks)
    wider = plan(cells=(OLD, NEW))
    later, outcome = after(wider, two_epochs(9, 20_000), state=state)
    assert outcome.decision is Decision.HOLD
    before, now = state.proofs["success"], later.proofs["success"]
    assert now.spent[:2] == before.spent
    assert now.bounds[:2] == before.bounds
    assert now.information[:2] == before.information
    assert now.spent[2] == pytest.approx(0.05 * math.log1p((math.e - 1) * 9 / 14))


def test_evidence_of_harm_of_both_shares_counts_as_one():
    """The second share alone shows too little, and so does the first; together they show harm."""
    alone, first = after(plan(), steady(2, success=0.85, users_per_day=25_000))
    assert first.decision is Decision.HOLD
    cells = (steady(2, success=0.85, users_per_day=25_000).cells[0],)
    users = 20_000
    treated = round(users * NEW.rho)
    happy = (round(treated * 0.05 * 0.8), round((users - treated) * 0.05))
    second = counts(users, {"success": happy}, id="wider", rho=NEW.rho)
    empty = counts(0, {"success": (0, 0)})
    _, without = after(plan(cells=(OLD, NEW)), look(3, empty, second))
    assert without.decision is Decision.HOLD
    _, together = after(plan(cells=(OLD, NEW)), look(3, *cells, second), state=alone)
    assert (together.decision, together.metric) == (Decision.ROLL_BACK, "success")


def test_after_a_pause_of_two_days_nothing_was_spent_and_nothing_is_given_back():
    """Three planned looks fell into the pause; the next one spends what time allows by then."""
    state, _ = after(plan(), steady(7, success=0.95, users_per_day=10_000))
    halted = steady(7, success=0.95, users_per_day=10_000).cells[0]
    quiet, _ = after(plan(), look(7.5, halted), state=state, conditions=Conditions(paused=True))
    assert quiet.proofs == state.proofs
    later, _ = after(plan(), look(10, halted), state=quiet)
    spent = later.proofs["success"].spent
    assert len(spent) == 2
    assert spent[-1] == pytest.approx(0.05 * math.log1p((math.e - 1) * 10 / 14))


def test_a_rule_that_starts_anew_from_a_stored_state_answers_as_if_it_had_never_stopped():
    looks = [steady(day, success=0.96, users_per_day=20_000) for day in (1, 3, 7, 8, 9)]
    _, whole = after(plan(), *looks)
    state, _ = after(plan(), *looks[:3])
    _, resumed = after(plan(), *looks[3:], state=state)
    assert resumed == whole


def test_over_all_looks_of_a_ramp_no_more_than_the_budget_is_ever_spent():
    state = None
    for day in range(7, 15):
        given = plan() if day < 9 else plan(cells=(OLD, NEW))
        one = (
            steady(day, success=0.93, users_per_day=10_000)
            if day < 9
            else two_epochs(day, 1_000 * (day - 8), success=0.93)
        )
        state, outcome = after(given, one, state=state)
    assert outcome.decision is Decision.HOLD
    spent = state.proofs["success"].spent
    assert len(spent) == 8
    assert list(spent) == sorted(spent)
    assert spent[-1] == pytest.approx(0.05)


def test_after_the_stage_was_left_only_harm_is_judged_and_no_budget_is_touched():
    state, _ = after(plan(), steady(7, success=0.95, users_per_day=10_000))
    gone = Conditions(left=True)
    late, outcome = after(plan(), steady(9, users_per_day=100_000), state=state, conditions=gone)
    assert (outcome.decision, outcome.code) == (Decision.HOLD, "stage_left")
    assert late.proofs == state.proofs
    _, worse = after(plan(), steady(9, success=0.5), state=state, conditions=gone)
    assert worse.decision is Decision.ROLL_BACK


def test_users_of_a_cell_that_counts_them_again_are_told_once():
    again = Cell(id="late", rho=0.06, again=True)
    given = plan(cells=(OLD, again), minimum_users=8_000)
    first = steady(7, users_per_day=20_000).cells[0]
    second = counts(100_000, {"success": (300, 4_700)}, id="late", rho=0.06)
    _, outcome = after(given, look(7, first, second))
    assert "minimum_users" in codes(outcome)


@pytest.mark.parametrize("rho", [0.0025, 0.05, 0.5])
def test_a_right_sampler_is_ever_called_broken_in_at_most_one_of_200_histories(rho):
    """Every order of 1,000 arrivals, summed exactly; looked at after each of them."""
    test = SampleRatio(np.array([rho]))
    chances, reached = np.array([1.0]), 0.0
    for users in range(1, 1_001):
        chances = np.convolve(chances, [1.0 - rho, rho])
        treated = np.arange(users + 1.0)
        log_e = test.log_evidence_by_cell(treated[:, None], (users - treated)[:, None])[:, 0]
        there = log_e >= -math.log(BROKEN_AT)
        reached += float(chances[there].sum())
        chances[there] = 0.0
    assert reached <= BROKEN_AT


def test_one_stratum_that_is_off_breaks_the_sample_ratio_though_the_total_is_right():
    test = SampleRatio(np.array([0.05, 0.15]))
    treated, control = np.array([5_400.0, 1_100.0]), np.array([94_600.0, 8_900.0])
    assert test.chi_square(treated, control) < 6.63
    assert test.log_evidence(treated, control) >= -math.log(BROKEN_AT)
