"""How evidence of harm is divided belongs to the plan: old plans go on as they began."""

from __future__ import annotations

import msgspec
import pytest

from huidu.errors import EvidenceError
from huidu.promotion import DESIGN, Decision, Look, Plan, State, review
from huidu.promotion.protocol import Session
from tests.huidu.promotion_stages import AMOUNT, ERRORS, RHO, SUCCESS, counts, look, plan

METRICS = (SUCCESS, ERRORS, AMOUNT)


def smaller_amounts(times: float, users: int = 260_000) -> Look:
    """Everything as in control, but amounts, of which one user in ten has a 10."""
    treated = round(users * RHO)
    arms = (treated, users - treated)

    def amounts(n: int, ratio: float) -> dict[str, float]:
        total, squares = n * ratio, 10.0 * n * ratio * ratio
        return {
            "n": n,
            "sum": total,
            "sumsq": squares,
            "sum_cap": total,
            "sumsq_cap": squares,
        }

    def requests(n: int) -> dict[str, float]:
        bad = round(n * 0.02)
        return {
            "bad": bad, "num": bad, "den": 10 * n, "num2": 6 * bad, "den2": 120 * n,
            "numden": 25 * bad,
        }  # fmt: skip

    readings = {
        "success": tuple(round(n * 0.05) for n in arms),
        "errors": tuple(map(requests, arms)),
        "amount": (amounts(arms[0], times), amounts(arms[1], 1.0)),
    }
    return look(1, counts(users, readings))


@pytest.mark.parametrize(("design", "weights"), [(1, (1.0, 1.0, 1.0)), (DESIGN, (1.0, 2.0, 3.0))])
def test_the_combined_evidence_is_the_guards_weighted_average(design, weights):
    _, outcome = review(plan(*METRICS, design=design), State(), smaller_amounts(0.95))
    values = [reading.e_value for reading in outcome.readings]
    expected = sum(w * e for w, e in zip(weights, values, strict=True)) / sum(weights)
    assert outcome.combined_e_value == pytest.approx(expected)


def test_a_plan_stored_before_there_were_designs_is_replayed_by_the_first():
    stored = msgspec.to_builtins(plan(*METRICS))
    del stored["design"]
    old = msgspec.convert(stored, Plan)
    assert old.design == 1
    _, outcome = review(old, State(), smaller_amounts(0.95))
    # As the rule answered when there was but one division.
    recorded = {
        "success": 0.00902654292935699,
        "errors": 0.0003470384379766922,
        "amount": 1.2237624937613607,
    }
    told = {each.metric: each.e_value for each in outcome.readings}
    assert told == pytest.approx(recorded, rel=1e-9)
    assert outcome.combined_e_value == pytest.approx(0.41104535837623146, rel=1e-9)


def test_harm_that_shows_in_amounts_is_found_with_less_evidence():
    given = smaller_amounts(0.911)
    _, before = review(plan(*METRICS), State(), given)
    _, now = review(plan(*METRICS, design=DESIGN), State(), given)
    assert before.decision is Decision.HOLD
    assert (now.decision, now.metric) == (Decision.ROLL_BACK, "amount")


@pytest.mark.parametrize(
    ("asked", "expected"), [({}, "rollback"), ({"design": 1}, "hold"), ({"design": 2}, "rollback")]
)
def test_a_stage_put_before_the_rule_from_outside_is_judged_by_the_newest(asked, expected):
    session = Session()
    start = {"type": "start", "protocol": 1, **msgspec.to_builtins(plan(*METRICS))}
    del start["design"]
    assert session.answer(msgspec.json.encode({**start, **asked})) is None
    given = {"type": "look", **msgspec.to_builtins(smaller_amounts(0.911))}
    answer = session.answer(msgspec.json.encode(given))
    assert answer is not None
    assert answer["decision"] == expected


def test_a_plan_of_an_unknown_design_is_refused():
    with pytest.raises(EvidenceError, match="design: expected 1 or 2, got 3"):
        review(plan(design=3), State(), smaller_amounts(1.0))
