"""Rules mean what JsonLogic means: the same answers as datalogic, where both speak the same words.

Shared are `and`, `or`, `!`, the comparisons (of two and of three), `==`, `!=` and `in`, on known
attributes of their own type. Ours alone are three-valued logic, dates, versions and regions.

Source:
    datalogic-py, an independent implementation in Rust (https://jsonlogic.com/operations.html).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huidu.engine.predicate import predicate
from huidu.engine.rules import Reader
from huidu.model import Attribute, AttributeType

datalogic = pytest.importorskip("datalogic_py")

WHOLES, NUMBERS = st.integers(-3, 12), st.sampled_from([-1.5, 0, 0.25, 2, 2.5, 1e9])
TEXTS, TAGS = st.sampled_from(["gold", "silver", "go", "金"]), ["a", "b", "gold"]
ATTRIBUTES = [
    Attribute(id=1, name="weekly_payments", type=AttributeType.INTEGER),
    Attribute(id=2, name="spend", type=AttributeType.NUMBER),
    Attribute(id=3, name="tier", type=AttributeType.STRING),
    Attribute(id=4, name="staff", type=AttributeType.BOOLEAN),
    Attribute(id=5, name="tags", type=AttributeType.STRINGS),
]
ORDERED = {"weekly_payments": WHOLES, "spend": NUMBERS}
EQUAL = {**ORDERED, "tier": TEXTS, "staff": st.booleans()}
USERS = st.fixed_dictionaries({**EQUAL, "tags": st.lists(st.sampled_from(TAGS), max_size=3)})


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["order", "chain", "equal", "listed", "holds", "flag"]))
    if kind == "flag":
        return {"var": "staff"}
    if kind == "holds":
        return {
            "in": [draw(st.sampled_from(TAGS)), {"var": draw(st.sampled_from(["tags", "tier"]))}]
        }
    known = EQUAL if kind == "equal" else ORDERED
    if kind == "listed":
        known = {**ORDERED, "tier": TEXTS}
    name = draw(st.sampled_from(sorted(known)))
    if kind == "listed":
        return {"in": [{"var": name}, draw(st.lists(known[name], min_size=1, max_size=3))]}
    if kind == "chain":
        low, high = sorted([draw(known[name]), draw(known[name])])
        return {draw(st.sampled_from(["<", "<="])): [low, {"var": name}, high]}
    symbols = ["==", "!="] if kind == "equal" else ["<", "<=", ">", ">="]
    sides = draw(st.permutations([{"var": name}, draw(known[name])]))
    return {draw(st.sampled_from(symbols)): sides}


RULES = st.recursive(
    claims(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"and": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"or": each}),
        inner.map(lambda each: {"!": each}),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(RULES, st.lists(USERS, min_size=1, max_size=4))
def test_a_rule_is_true_where_datalogic_says_so(rule: dict[str, Any], asked: list[dict[str, Any]]):
    node = Reader({each.name: each for each in ATTRIBUTES}, {}).read(rule, "rule")
    is_true, is_false = predicate(node), predicate(node, False)
    for attributes in asked:
        theirs = bool(datalogic.apply(rule, attributes))
        assert is_true("u", attributes) is theirs
        assert is_false("u", attributes) is not theirs
