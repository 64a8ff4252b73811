"""Rules and whole flags as SQL say what the engine says, of everybody, unknown values included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts.population import columns, flags
from cohorts.population.columns import Kept
from cohorts.population.marks import Marks
from cohorts.population.sql import NotHeld, Terms, Unsayable, Users
from huidu.engine import compile_snapshot
from huidu.engine.claims import Hysteresis
from huidu.engine.known import Known
from huidu.engine.nodes import Node
from huidu.engine.rules import Reader
from huidu.engine.values import known_value
from huidu.model import Attribute, AttributeSource, AttributeType, Cohort, Snapshot, User
from tests.huidu.engine import strategies

REGISTRY = {each.name: each for each in strategies.ATTRIBUTES}
EVERY_SOURCE = frozenset(AttributeSource)
CONNECTION = duckdb.connect(config={"threads": 1})


def table_of(users: Sequence[User], kept: Kept) -> Users:
    made = columns.batch(users, kept)  # noqa: F841 (DuckDB finds it by its name)
    CONNECTION.execute("CREATE OR REPLACE TABLE users AS SELECT * FROM made")
    return Users(kept)


def rows(select: str, terms: Terms) -> list[tuple[Any, ...]]:
    # One thread reads a small table in its order.
    users = "(SELECT rowid AS row, * FROM users)"
    statement = f"{select.format(users=users)} ORDER BY row"
    return CONNECTION.execute(statement, terms.parameters(statement)).fetchall()


def storable(users: Sequence[User]) -> list[User]:
    """Users as the platform can hold them."""
    return [each for each in users if each.key and each.key.isprintable()]


def sayable(node: Node) -> bool:
    """Whether SQL can say the rule at all; hysteresis asks for counts by day."""
    return not any(isinstance(leaf, Hysteresis) for leaf in node.leaves())


COHORTS = {
    "c0": Cohort(key="c0", rule={">": [{"var": "weekly_payments"}, 4]}, include=frozenset(["u1"])),
    "c1": Cohort(key="c1", rule={"!": {"cohort": "c0"}}, exclude=frozenset(["u2", "用户"])),
}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(strategies.rules(tuple(COHORTS)), min_size=5, max_size=10),
    st.lists(strategies.users(), min_size=5, max_size=20),
)
def test_a_rule_in_sql_is_as_true_as_in_the_engine(
    rules: list[Mapping[str, Any]], users: list[User]
):
    people = storable(users)
    terms = Terms(table_of(people, Kept(strategies.ATTRIBUTES)))
    read = [Reader(REGISTRY, COHORTS).read(rule, "rule") for rule in rules]
    read = [node for node in read if sayable(node)]
    if not read:
        return
    told = ", ".join(f"({terms.rule(node)}) AS r{index}" for index, node in enumerate(read))
    for user, truths in zip(people, rows(f"SELECT {told} FROM {{users}}", terms), strict=True):
        expected = [node.truth(Known(user, user.key, EVERY_SOURCE)) for node in read]
        assert list(truths) == expected


@settings(max_examples=40, deadline=None)
@given(strategies.snapshots(), st.lists(strategies.users(), min_size=5, max_size=15))
def test_a_flag_in_sql_shows_whom_the_check_shows_and_refuses_as_it_does(
    snapshot: Snapshot, users: list[User]
):
    people = storable(users)
    compiled = compile_snapshot(snapshot)
    seeds, slots = flags.lines_of(compiled)
    table = table_of(people, Kept(strategies.ATTRIBUTES, sorted(seeds), sorted(slots)))
    for key, model in compiled.flags.items():
        terms = Terms(table)
        try:
            flag = flags.FlagSql(compiled, key, terms)
        except Unsayable:  # a rule with hysteresis: the engine counts user by user
            continue
        marks = Marks()
        tests = [marks.add(step.ways) for step in flag.steps]
        each_step = ", ".join(f"({step.passes}) IS TRUE" for step in flag.steps) or "TRUE"
        inner = f"SELECT row, {flag.shown()}, [{each_step}], {marks.columns()}"
        told = f"SELECT *, {marks.first(tests)}, {marks.none(tests)}, {marks.one(tests)}"
        said = rows(f"{told} FROM ({inner} FROM {terms.users()})", terms)
        gates = {gate.key: gate for gate in model.gates}
        for user, (_, shown, passed, *_, first, none, one) in zip(people, said, strict=True):
            answer = compiled.check(key, user)
            assert shown is answer.visible
            assert (first is None) is none is answer.visible is all(passed)
            assert one is (passed.count(False) == 1)
            if first is None:
                continue
            step = flag.steps[first]
            if step.kind == "gate":
                gate = gates[step.key]
                assert answer.why in (gate.why, gate.unknown_why, "region.ceiling")
            else:
                assert answer.why in (step.why, "data.missing")


def test_more_steps_than_a_number_has_bits_are_told_apart():
    marks = Marks()
    tests = [marks.add((f"user <> {number}",)) for number in range(70)]
    assert marks.like(("user <> 3",)) == 3
    told = f"SELECT {marks.first(tests[2:])}, {marks.one(tests)}, {marks.none(tests[:65])}"
    users = f"SELECT {marks.columns()}, user FROM range(80) AS t (user)"
    said = CONNECTION.execute(f"{told} FROM ({users}) ORDER BY user").fetchall()
    for user, found in enumerate(said):
        first = user - 2 if 2 <= user < 70 else None
        assert found == (first, user < 70, user >= 65)


@pytest.mark.parametrize("how", ["<", "==", ">"])
@given(st.lists(strategies.GOOD["app_version"], min_size=2, max_size=2))
@settings(max_examples=30, deadline=None)
def test_versions_sort_as_texts(how: str, texts: list[str]):
    one, two = (known_value(REGISTRY["app_version"], each) for each in texts)
    a, b = columns.version_key(one), columns.version_key(two)
    told = {"<": (one < two, a < b), "==": (one == two, a == b), ">": (one > two, a > b)}[how]
    assert told[0] is told[1]


def test_what_has_no_exact_form_is_refused_and_never_bent():
    friends = Attribute(id=1, name="friends", type=AttributeType.INTEGER)
    spend = Attribute(id=2, name="spend", type=AttributeType.NUMBER)
    tier = Attribute(id=3, name="tier", type=AttributeType.STRING)
    newer = Attribute(id=4, name="newer", type=AttributeType.STRING)
    registry = {each.name: each for each in (friends, spend, tier, newer)}
    terms = Terms(Users(Kept([friends, spend, tier])))
    for rule in (
        {">": [{"var": "spend"}, (1 << 53) + 1]},
        {"==": [{"var": "tier"}, "a\0b"]},
        {"==": [{"var": "tier"}, "\ud800"]},
        {"==": [{"var": "newer"}, "x"]},
    ):
        with pytest.raises(NotHeld):
            terms.rule(Reader(registry, {}).read(rule, "rule"))
    ranged = Attribute(id=1, name="friends", type=AttributeType.INTEGER, minimum=0)
    with pytest.raises(NotHeld):  # what was out of range then may be known now
        terms.rule(Reader({"friends": ranged}, {}).read({">": [{"var": "friends"}, 1]}, "rule"))
    with pytest.raises(OverflowError, match="friends"):
        columns.batch([User("u1", {"friends": 1 << 64})], Kept([friends]))
    with pytest.raises(OverflowError, match="spend"):
        columns.batch([User("u1", {"spend": (1 << 53) + 1})], Kept([spend]))
