"""A rule that cannot be meant is refused, and the message says where and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.engine import rules
from huidu.engine.leaves import OPERATORS
from huidu.errors import RuleError
from huidu.model import Attribute, AttributeType, Cohort
from tests.huidu.engine.strategies import ATTRIBUTES
from tests.huidu.engine.strategies import rules as sound_rules

REGISTRY = {each.name: each for each in ATTRIBUTES}
WEEKLY = {"var": "weekly_payments"}


def fault(rule: Any, cohorts: dict[str, Cohort] | None = None, path: str = "rule") -> RuleError:
    with pytest.raises(RuleError) as caught:
        rules.validate(rule, REGISTRY, cohorts or {}, path=path)
    return caught.value


def test_a_fault_names_place_finding_and_remedy():
    rule = {"and": [{}, {"var": "staff"}, {">": [WEEKLY, "twenty"]}]}
    registry = {**REGISTRY, "weekly_payments": attribute("weekly_payments", minimum=0)}
    with pytest.raises(RuleError) as caught:
        rules.validate(rule, registry, {}, path="cohort heavy_payers, rules")
    assert str(caught.value) == (
        "cohort heavy_payers, rules[2].weekly_payments: "
        'expected a whole number of 0 or more, got "twenty"'
    )
    assert caught.value.path == "cohort heavy_payers, rules[2].weekly_payments"
    assert caught.value.code == "rule.invalid"


def attribute(name: str, **others: Any) -> Attribute:
    return Attribute(**{"id": 1, "name": name, "type": AttributeType.INTEGER, **others})


@settings(max_examples=100, deadline=None)
@given(sound_rules())
def test_sound_rules_pass(rule: dict[str, Any]):
    rules.validate(rule, REGISTRY, {})


@pytest.mark.parametrize(
    ("rule", "path", "part"),
    [
        pytest.param([], "rule", "expected a rule, got []", id="no object"),
        pytest.param(None, "rule", "expected a rule, got null", id="nothing"),
        pytest.param(True, "rule", "expected a rule, got true", id="a constant"),
        pytest.param({"==": [], "!=": []}, "rule", "expected one operator, got 2", id="two"),
        pytest.param({"log": ["x"]}, "rule", 'got "log"', id="an operator of plain JsonLogic"),
        pytest.param({"map": [[], {}]}, "rule", 'got "map"', id="a loop"),
        pytest.param({"__import__": ["os"]}, "rule", 'got "__import__"', id="mischief"),
        pytest.param({1: []}, "rule", "got 1", id="a key that is no text"),
        pytest.param({"and": []}, "rule", "one or more rules", id="and of nothing"),
        pytest.param({"or": {}}, "rule", "one or more rules", id="or of no list"),
        pytest.param({"and": [{}, {"or": [{}, 5]}]}, "rule[1][1]", "got 5", id="deep inside"),
        pytest.param({"!": [{}, {}]}, "rule", "expected a rule", id="not of two"),
        pytest.param({"==": [{"var": "age"}, 1]}, "rule.age", "registered", id="unregistered"),
        pytest.param({"==": [{"var": ["staff", True]}, True]}, "rule", "default", id="a default"),
        pytest.param({"==": [{"var": 3}, 1]}, "rule", "name", id="a name that is no text"),
        pytest.param({"==": [1, 2]}, "rule", '{"var": name}', id="no attribute"),
        pytest.param({"==": [WEEKLY, WEEKLY]}, "rule", "a constant", id="two attributes"),
        pytest.param({"==": [WEEKLY]}, "rule", "a list of 2", id="too few"),
        pytest.param({">": [1, WEEKLY, 3]}, "rule", "a list of 2", id="more with a middle"),
        pytest.param({"<": [WEEKLY, 1, 3]}, "rule", "between two constants", id="middle misplaced"),
        pytest.param({">": [WEEKLY, True]}, "rule.weekly_payments", "got true", id="a boolean"),
        pytest.param({">": [WEEKLY, 2.5]}, "rule.weekly_payments", "got 2.5", id="a fraction"),
        pytest.param({">": [WEEKLY, -1]}, "rule.weekly_payments", "from 0 to 500", id="too small"),
        pytest.param({">": [WEEKLY, 501]}, "rule.weekly_payments", "from 0 to 500", id="too big"),
        pytest.param({">": [{"var": "friends"}, 2**64]}, "rule.friends", "whole", id="huge"),
        pytest.param({">": [{"var": "risk"}, float("nan")]}, "rule.risk", "got NaN", id="NaN"),
        pytest.param({">": [{"var": "risk"}, float("inf")]}, "rule.risk", "infinity", id="inf"),
        pytest.param({">": [{"var": "risk"}, "1"]}, "rule.risk", 'got "1"', id="number as text"),
        pytest.param({">": [{"var": "tier"}, "a"]}, "rule.tier", "of type", id="texts in order"),
        pytest.param({"==": [{"var": "tier"}, 1]}, "rule.tier", "a text", id="a text as number"),
        pytest.param({"==": [{"var": "tier"}, "x" * 1001]}, "rule.tier", "1000", id="long text"),
        pytest.param({"==": [{"var": "staff"}, 1]}, "rule.staff", "true or false", id="1 for true"),
        pytest.param({"var": "tier"}, "rule.tier", "boolean", id="a bare text"),
        pytest.param({"==": [{"var": "tags"}, "x"]}, "rule.tags", "of type", id="list equality"),
        pytest.param({"in": [{"var": "tags"}, ["x"]]}, "rule.tags", "of type", id="list in list"),
        pytest.param({"in": ["x", {"var": "risk"}]}, "rule.risk", "of type", id="in a number"),
        pytest.param({"in": [{"var": "tier"}, []]}, "rule.tier", "1 to", id="in nothing"),
        pytest.param({"in": [{"var": "tier"}, "gold"]}, "rule.tier", "a list", id="in a text"),
        pytest.param({"in": [{"var": "tier"}, ["a", 1]]}, "rule.tier[1]", "a text", id="in mixed"),
        pytest.param({"between": [WEEKLY, 5, 3]}, "rule.weekly_payments", "lower end", id="ends"),
        pytest.param({"starts_with": [{"var": "region"}, "44"]}, "rule.region", "type", id="start"),
        pytest.param({"within": [{"var": "region"}, "44"]}, "rule.region[0]", "six", id="code"),
        pytest.param({"within": [{"var": "tier"}, "440000"]}, "rule.tier", "type", id="no region"),
        pytest.param({"<": [{"var": "registered"}, "2026-02-30"]}, "rule.registered", "a date"),
        pytest.param({"<": [{"var": "registered"}, 20260101]}, "rule.registered", "a date"),
        pytest.param(
            {"sem_ver": [{"var": "app_version"}, "~>", "1"]}, "rule.app_version", "one of ="
        ),
        pytest.param(
            {"sem_ver": [{"var": "app_version"}, "=", "new"]}, "rule.app_version", "a version"
        ),
        pytest.param({"==": [{"var": "app_version"}, "1"]}, "rule.app_version", "of type"),
        pytest.param({"cohort": "nobody"}, "rule", "key of a cohort", id="no such cohort"),
        pytest.param({"cohort": 5}, "rule", "key of a cohort", id="a number for a cohort"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(rule, path, part):
    error = fault(rule)
    assert error.path == path
    assert part in error.message


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=3),
            st.sampled_from([{"var": name} for name in REGISTRY]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(OPERATORS), inner, max_size=2),
        ),
        max_leaves=8,
    )
)
def test_whatever_is_written_is_read_or_refused_but_never_breaks(rule):
    refusal = None
    try:
        rules.validate(rule, REGISTRY, {"c": Cohort(key="c")})
    except RuleError as error:
        refusal = error
    assert refusal is None or (refusal.path.startswith("rule") and refusal.message)


def test_nesting_has_an_end():
    rule: dict[str, Any] = {}
    for _ in range(rules.MAX_DEPTH - 1):
        rule = {"!": rule}
    rules.validate(rule, REGISTRY, {})
    assert "levels" in fault({"!": rule}).message


def test_a_rule_has_an_end():
    assert "steps" in fault({"or": [{"var": "staff"}] * rules.MAX_NODES}).message


def test_cohorts_that_fan_out_have_an_end():
    cohorts = {"c0": Cohort(key="c0", rule={"var": "staff"})}
    for level in range(1, 15):
        below = {"cohort": f"c{level - 1}"}
        cohorts[f"c{level}"] = Cohort(key=f"c{level}", rule={"or": [below, below, below]})
    assert "steps" in fault({"cohort": "c14"}, cohorts).message


def test_a_long_chain_of_cohorts_has_an_end():
    cohorts = {"c0": Cohort(key="c0", rule={"var": "staff"})}
    for level in range(1, 3_000):
        cohorts[f"c{level}"] = Cohort(key=f"c{level}", rule={"cohort": f"c{level - 1}"})
    assert "levels" in fault({"cohort": "c2999"}, cohorts).message
    assert "levels" in fault({"!": {"!": {"cohort": "c23"}}}, cohorts).message


@pytest.mark.parametrize("size", [1, 2, 5])
def test_cohorts_may_not_form_a_circle(size):
    cohorts = {
        f"c{index}": Cohort(key=f"c{index}", rule={"!": {"cohort": f"c{(index + 1) % size}"}})
        for index in range(size)
    }
    error = fault({"cohort": "c0"}, cohorts)
    assert "c0 -> " in error.message
    assert error.message.endswith("c0")


def test_a_fault_in_a_cohort_is_told_with_its_name():
    cohorts = {"heavy": Cohort(key="heavy", rule={"and": [{">": [WEEKLY, -5]}]})}
    assert fault({"cohort": "heavy"}, cohorts).path == "cohort heavy, rules[0].weekly_payments"
