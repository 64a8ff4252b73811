"""An explanation tells every step, what was found and what would be needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu import vectors
from huidu.engine import compile_snapshot
from huidu.engine.bucketing import bucket, threshold_of
from huidu.engine.explain import Explanation, Outcome, StepKind, enters_at
from huidu.model import FULL_THRESHOLD, PPM, Admission, Stage, User
from tests.huidu.engine.worlds import flag, gate, running, world


def explain(flag_, user: User) -> Explanation:
    return compile_snapshot(world(flag_)).explain(flag_.key, user)


def five(**others) -> Stage:
    return Stage(**{"key": "5%", "share_ppm": 50_000, "threshold": threshold_of(50_000), **others})


def test_it_goes_on_after_the_first_refusal():
    gates = [
        gate({"var": "staff"}, key="staff", why="not.staff"),
        gate({">": [{"var": "weekly_payments"}, 20]}, key="weekly", why="too.low", version=7),
        gate({"==": [{"var": "tier"}, "gold"]}, key="tier", why="not.gold"),
    ]
    told = explain(flag(gates=gates), User("u", {"staff": False, "weekly_payments": 5}))
    assert told.answer.why == "not.staff"
    assert [step.why for step in told.refusals] == ["not.staff", "too.low", "unknown"]
    outcomes = {step.key: step.outcome for step in told.steps if step.kind is StepKind.GATE}
    assert outcomes == {"staff": "fail", "weekly": "fail", "tier": "unknown"}


def test_a_step_tells_what_was_found_and_what_was_wanted():
    rule = {"!": {"or": [{"<": [{"var": "weekly_payments"}, 3]}, {"var": "staff"}]}}
    told = explain(flag(gates=[gate(rule, version=4)]), User("u", {"weekly_payments": 2}))
    (step,) = [step for step in told.steps if step.kind is StepKind.GATE]
    assert (step.version, step.dimension) == (4, "activity")
    few, staff = step.needs
    assert (few.attribute, few.operator, few.wanted, few.value) == ("weekly_payments", "<", 3, 2)
    assert (few.outcome, few.negated) == (Outcome.PASS, True)
    assert (staff.value, staff.outcome) == (None, Outcome.UNKNOWN)


def test_the_steps_come_in_the_order_of_a_check():
    suite = vectors.load("payload")
    told = compile_snapshot(suite.snapshot).explain("pay", User("u", {"region": "440300"}))
    order = list(StepKind)
    places = [order.index(step.kind) for step in told.steps]
    assert places == sorted(places)
    assert {StepKind.GATE, StepKind.STAGE, StepKind.TIER, StepKind.VARIANT} <= {
        step.kind for step in told.steps
    }


def test_a_region_gate_tells_class_ceiling_and_payload():
    suite = vectors.load("regions")
    told = compile_snapshot(suite.snapshot).explain("region", User("user-1", {"region": "410100"}))
    (step,) = [step for step in told.steps if step.kind is StepKind.GATE]
    assert step.details == {
        "region_class": "restricted",
        "ceiling_ppm": 430_000,
        "payload": {"single_loan_cap_cny": 5000},
    }


def test_who_was_admitted_or_allowed_is_told_as_excused():
    kept = flag(
        gates=[gate({"var": "staff"}, keeps_shown=True)],
        allow_list=frozenset({"vip"}),
        rollout=running(five()),
    )
    told = explain(kept, User("u", {}, {0: Admission(1, True)}))
    assert [step.outcome for step in told.steps if step.kind is StepKind.GATE] == ["skipped"]
    assert [step.outcome for step in told.steps if step.kind is StepKind.STAGE] == ["skipped"]
    assert told.answer.visible
    assert told.refusals == []


def test_the_draw_tells_place_weight_threshold_and_when_the_user_enters():
    stage = five()
    for number in range(200):
        key = f"user-{number}"
        told = explain(flag(rollout=running(stage)), User(key, {}, {0: Admission(3)}))
        draw = told.draw
        assert draw is not None
        assert (draw.bucket, draw.weight) == (bucket("salt", key), 3)
        assert (draw.threshold, draw.share_ppm) == (stage.threshold, 50_000)
        assert draw.remembered
        assert draw.drawn == told.answer.visible == (draw.enters_at_ppm <= 50_000)


def test_without_a_draw_there_is_nothing_to_tell():
    assert explain(flag(rollout=None), User("u", {})).draw is None
    assert explain(flag(), User("", {})).draw is None


def test_a_flag_that_is_not_there_is_explained_as_unknown():
    told = compile_snapshot(world()).explain("nothing", User("u", {}))
    assert (told.answer.why, told.steps) == ("flag.unknown", [])


@pytest.mark.parametrize("share_ppm", [1, 2, 50_000, 999_999, PPM])
def test_on_a_plain_line_a_user_enters_at_the_exact_share(share_ppm):
    def enters(rank: int) -> int:
        return enters_at(rank, {}, whole=PPM, full=FULL_THRESHOLD)

    assert enters(threshold_of(share_ppm) - 1) == share_ppm
    assert enters(threshold_of(share_ppm - 1)) in (share_ppm - 1 or 1, share_ppm)


stages_drawn = st.lists(
    st.tuples(st.integers(1, PPM - 1), st.integers(1, FULL_THRESHOLD - 1)),
    max_size=4,
    unique_by=(lambda each: each[0], lambda each: each[1]),
).map(lambda drawn: dict(zip(*map(sorted, zip(*drawn, strict=True)), strict=True)) if drawn else {})


@given(stages_drawn, st.integers(0, FULL_THRESHOLD - 1))
def test_a_user_never_enters_on_the_other_side_of_a_drawn_stage(drawn, rank):
    enters = enters_at(rank, drawn, whole=PPM, full=FULL_THRESHOLD)
    assert 1 <= enters <= PPM
    for share, threshold in drawn.items():
        assert (rank < threshold) == (enters <= share)
