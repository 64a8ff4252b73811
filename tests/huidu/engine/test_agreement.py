"""Check, explanation and reference come to one answer, for every kind of snapshot and user."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.engine import compile_snapshot
from huidu.engine.explain import Outcome
from huidu.engine.known import Known
from huidu.engine.predicate import predicate
from huidu.engine.rules import Reader
from huidu.model import AttributeSource, Snapshot, User
from huidu.wire import snapshot as wire
from tests.huidu.engine import reference
from tests.huidu.engine.strategies import ATTRIBUTES, rules, snapshots, users
from tests.huidu.engine.worlds import gate_on

several_users = st.lists(users(), min_size=1, max_size=4)


@settings(max_examples=120, deadline=None)
@given(snapshots(), several_users)
def test_a_check_answers_as_the_reference_does(snapshot: Snapshot, asked: list[User]):
    compiled = compile_snapshot(snapshot)
    for flag in snapshot.flags:
        for user in asked:
            assert compiled.check(flag.key, user) == reference.check(snapshot, flag.key, user)


@settings(max_examples=80, deadline=None)
@given(snapshots(), several_users)
def test_flags_checked_together_answer_as_they_do_alone(snapshot: Snapshot, asked: list[User]):
    compiled = compile_snapshot(snapshot)
    keys = [flag.key for flag in snapshot.flags] * 4  # more than one function takes
    together = compiled.together(keys)
    for user in asked:
        found = together(user.key, user.attributes, user.admissions, user.lists)
        assert found == [compiled.check(key, user) for key in keys]


@settings(max_examples=80, deadline=None)
@given(snapshots(), several_users)
def test_no_answer_depends_on_facts_the_checks_do_not_read(snapshot: Snapshot, asked: list[User]):
    compiled = compile_snapshot(snapshot)
    for flag in snapshot.flags:
        names = compiled.reads([flag.key])
        for user in asked:
            read = {name: fact for name, fact in user.attributes.items() if name in names}
            with_less = compiled.evaluate(flag.key, user.key, read, user.admissions, user.lists)
            assert with_less == compiled.check(flag.key, user)


@settings(max_examples=80, deadline=None)
@given(snapshots(), several_users)
def test_an_explanation_comes_to_the_answer_of_the_check(snapshot: Snapshot, asked: list[User]):
    compiled = compile_snapshot(snapshot)
    for flag in snapshot.flags:
        for user in asked:
            told = compiled.explain(flag.key, user)
            assert told.answer == compiled.check(flag.key, user)
            if not told.answer.visible:
                assert told.answer.why in {step.why for step in told.refusals}
            else:
                stages = {step.why for step in told.refusals if step.kind != "stage"}
                assert not stages
            if told.draw is not None:
                inside = told.draw.enters_at_ppm <= told.draw.share_ppm
                assert told.draw.drawn == inside


@settings(max_examples=80, deadline=None)
@given(rules(), several_users)
def test_a_rule_by_itself_is_as_true_as_in_a_walk(rule: dict[str, Any], asked: list[User]):
    node = Reader({each.name: each for each in ATTRIBUTES}, {}).read(rule, "rule")
    is_true, is_false = predicate(node), predicate(node, False)
    for user in asked:
        truth = node.truth(Known(user, user.key, frozenset(AttributeSource)))
        assert is_true(user.key, user.attributes) is (truth is True)
        assert is_false(user.key, user.attributes) is (truth is False)


@settings(max_examples=40, deadline=None)
@given(snapshots(), several_users)
def test_the_ways_to_ask_agree(snapshot: Snapshot, asked: list[User]):
    compiled = compile_snapshot(snapshot)
    travelled = compile_snapshot(wire.decode(wire.encode(snapshot)))
    for flag in snapshot.flags:
        for user in asked:
            answer = compiled.check(flag.key, user)
            assert answer == compiled.evaluate(
                flag.key, user.key, user.attributes, user.admissions, user.lists
            )
            assert answer == travelled.check(flag.key, user)
            bare = compiled.bare_check_of(flag.key)
            assert bare(user.key, user.attributes) == compiled.evaluate(
                flag.key, user.key, user.attributes
            )


@settings(max_examples=200, deadline=None)
@given(rules(), several_users)
def test_compiled_truth_is_three_valued(rule: dict[str, Any], asked: list[User]):
    compiled = compile_snapshot(gate_on(rule))
    for user in asked:
        if not user.key:
            continue
        truth = reference.Rules(gate_on(rule), user).truth(rule)
        expected = {True: "shown", False: "refused", None: "unknown"}[truth]
        assert compiled.check("f", user).why == expected
        (step,) = [s for s in compiled.explain("f", user).steps if s.kind == "gate"]
        outcome = {True: Outcome.PASS, False: Outcome.FAIL, None: Outcome.UNKNOWN}[truth]
        assert step.outcome is outcome
