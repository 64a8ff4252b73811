"""What a user could change: it shows the flag, nothing less does, and "nothing" means nothing."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.engine import compile_snapshot
from huidu.engine.counterfactual import Change, Changes, Direction, changes, changes_past
from huidu.engine.explain import StepKind
from huidu.engine.values import known_value
from huidu.model import Admission, Snapshot, Stage, User
from tests.huidu.engine import strategies
from tests.huidu.engine.worlds import flag, gate, running, world

CHANGEABLE = {
    "weekly_payments": Direction.UP,
    "friends": Direction.UP,
    "yearly_spend": Direction.UP,
    "risk": Direction.DOWN,
    "staff": Direction.TRUE,
}


def weekly(operator: str, bound: int) -> dict[str, Any]:
    return {operator: [{"var": "weekly_payments"}, bound]}


def found(*rules: dict[str, Any], **attributes: Any) -> Changes:
    gates = [gate(rule, key=f"g{index}") for index, rule in enumerate(rules)]
    compiled = compile_snapshot(world(flag(gates=gates)))
    return changes(compiled, "f", User("u", attributes), changeable=CHANGEABLE)


def told(result: Changes) -> list[dict[str, Any]]:
    return [{each.attribute: each.after for each in one} for one in result.sets]


def test_three_more_payments_are_enough():
    result = found(weekly(">=", 20), weekly_payments=17)
    assert result.sets == [(Change(attribute="weekly_payments", before=17, after=20),)]
    assert result.sets[0][0].gap == 3


def test_whoever_sees_it_needs_no_change():
    assert found(weekly(">=", 20), weekly_payments=20) == Changes(visible=True)


def test_counts_only_go_up_and_debts_only_down():
    assert found(weekly("<=", 5), weekly_payments=17).immovable[0].key == "g0"
    assert told(found({"<": [{"var": "risk"}, 50]}, risk=71.5)) == [{"risk": 49.99}]
    assert told(found({">": [{"var": "yearly_spend"}, 80_000]}, yearly_spend=1.0)) == [
        {"yearly_spend": 80_000.01}
    ]


def test_changes_that_only_work_together_are_told_together():
    result = found(weekly(">", 5), {"var": "staff"}, weekly_payments=2, staff=False)
    assert told(result) == [{"staff": True, "weekly_payments": 6}]


def test_alternatives_are_told_side_by_side():
    result = found({"or": [weekly(">", 5), {"var": "staff"}]}, weekly_payments=2)
    assert told(result) == [{"staff": True}, {"weekly_payments": 6}]


def test_what_is_unknown_may_become_known():
    assert told(found(weekly(">=", 20))) == [{"weekly_payments": 20}]
    assert told(found({"!": {"var": "staff"}})) == []


def test_a_closed_region_is_named_as_what_does_not_move():
    result = found(
        weekly(">", 5),
        {"within": [{"var": "region"}, "440300"]},
        weekly_payments=2,
        region="540100",
    )
    assert result.sets == []
    assert [step.key for step in result.immovable] == ["g1"]


def test_conditions_that_contradict_each_other_leave_nothing_and_blame_nobody():
    assert found(weekly("==", 6), weekly("==", 7), weekly_payments=2) == Changes(visible=False)


def test_who_is_not_drawn_cannot_move_the_draw():
    stage = Stage(key="none", share_ppm=0, threshold=0)
    compiled = compile_snapshot(world(flag(rollout=running(stage))))
    result = changes(compiled, "f", User("u", {}), changeable=CHANGEABLE)
    assert [step.kind for step in result.immovable] == [StepKind.STAGE]


def test_a_step_alone_is_passed_whatever_the_others_say():
    gates = [gate(weekly(">", 5), key="a"), gate({"==": [{"var": "tier"}, "gold"]}, key="b")]
    compiled = compile_snapshot(world(flag(gates=gates)))
    user = User("u", {"weekly_payments": 1, "tier": "go"})
    assert changes(compiled, "f", user, changeable=CHANGEABLE).sets == []
    step = compiled.explain("f", user).refusals[0]
    assert told(changes_past(compiled, "f", user, step, changeable=CHANGEABLE)) == [
        {"weekly_payments": 6}
    ]


def test_a_search_without_end_says_that_it_was_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huidu.engine.counterfactual.MAX_TRIES", 3)
    rules = [weekly("==", 400 - each) for each in range(9)]
    assert found({"and": rules}, weekly_payments=1).cut


@settings(max_examples=200, deadline=None)
@given(strategies.snapshots(), strategies.users())
def test_every_change_shows_the_flag_and_no_part_of_it_does(snapshot: Snapshot, user: User):
    compiled = compile_snapshot(snapshot)
    for key in compiled.flags:
        result = changes(compiled, key, user, changeable=CHANGEABLE)
        assert result.visible == compiled.check(key, user).visible
        assert not (result.visible and result.sets)
        for one in result.sets:
            _is_allowed(one, user)
            assert compiled.check(key, _with(user, one)).visible
            for size in range(len(one)):
                for part in itertools.combinations(one, size):
                    assert not compiled.check(key, _with(user, part)).visible


VALUES: dict[str, list[Any]] = {
    "weekly_payments": [*range(-1, 16), 500],
    "friends": list(range(-5, 8)),
    "yearly_spend": [0.0, 0.5, 0.51, 1, 1.01, 2.51, 3, 4.01, 5.01, 1e9, 1e9 + 1],
    "risk": [-1, -0.01, 0, 0.49, 0.5, 1.99, 2.49, 2.5, 3.99, 4.99, 5, 1e9 - 1],
    "staff": [True],
}


@settings(max_examples=150, deadline=None)
@given(strategies.snapshots(), strategies.users(), st.sampled_from(sorted(VALUES)))
def test_when_one_change_would_do_it_is_found_and_no_nearer_value_does(
    snapshot: Snapshot, user: User, name: str
):
    compiled = compile_snapshot(snapshot)
    registry = {each.name: each for each in snapshot.attributes}
    known = known_value(registry[name], user.attributes.get(name))
    for key in compiled.flags:
        result = changes(compiled, key, user, changeable=CHANGEABLE)
        mine = [one[0].after for one in result.sets if [each.attribute for each in one] == [name]]
        for value in VALUES[name]:
            if known_value(registry[name], value) is None:
                continue
            up = CHANGEABLE[name] is Direction.UP
            if (
                known is not None
                and name != "staff"
                and not (value > known if up else value < known)
            ):
                continue
            change = Change(attribute=name, before=None, after=value)
            if not result.visible and compiled.check(key, _with(user, (change,))).visible:
                assert mine, (name, value)
                assert name == "staff" or (mine[0] <= value if up else mine[0] >= value)


def _with(user: User, one: tuple[Change, ...]) -> User:
    moved = {each.attribute: each.after for each in one}
    return msgspec.structs.replace(user, attributes={**user.attributes, **moved})


def _is_allowed(one: tuple[Change, ...], user: User) -> None:
    for each in one:
        assert each.before == user.attributes.get(each.attribute) or each.before != each.before
        direction = CHANGEABLE[each.attribute]
        if each.gap is not None and each.before == each.before:
            assert each.after > each.before or direction is Direction.DOWN or each.before < 0


def test_what_is_remembered_of_a_user_is_kept():
    compiled = compile_snapshot(world(flag(gates=[gate(weekly(">", 5))])))
    user = User("u", {}, {0: Admission(3, True)}, frozenset({1}))
    assert told(changes(compiled, "f", user, changeable=CHANGEABLE)) == [{"weekly_payments": 6}]
