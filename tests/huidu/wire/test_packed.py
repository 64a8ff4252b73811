"""A check that takes its facts from a record answers as one that is given them by name."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huidu.engine import compile_snapshot
from huidu.model import Attribute, AttributeSource, AttributeType, Prerequisite, Snapshot
from huidu.wire import compact
from huidu.wire.facts import Reading
from huidu.wire.packed import check_of
from huidu.wire.profile import Profile, encode
from huidu.wire.record import FLAGS
from tests.huidu.engine.strategies import KEYS, snapshots
from tests.huidu.engine.worlds import flag, full, gate, running, world
from tests.huidu.wire.test_profile import TODAY, usual_profiles

HELD = {
    "friends": "age",
    "yearly_spend": "wifi_risk",
    "risk": "risk_score",
    "staff": "student",
    "registered": "registered_at",
}
"""The facts in a record's number that rules of the strategies are made to look at."""


def renamed(snapshot: Snapshot) -> Snapshot:
    text = msgspec.json.encode(snapshot)
    for name, held in HELD.items():
        text = text.replace(f'"{name}"'.encode(), f'"{held}"'.encode())
    return msgspec.json.decode(text, type=Snapshot)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    snapshots().map(renamed), st.lists(usual_profiles(), min_size=2, max_size=2), st.integers(-9, 9)
)
def test_both_ways_to_the_facts_come_to_one_answer(
    snapshot: Snapshot, profiles: list[Profile], later: int
) -> None:
    compiled = compile_snapshot(snapshot)
    for each in snapshot.flags:
        names = compiled.reads([each.key])
        checks = check_of(compiled, each.key, names)
        for profile in profiles:
            assert profile.updated is not None
            today = profile.updated.toordinal() + later
            record = encode(profile)
            if packed := checks[record[0]]:
                held = Reading(names, {}).of(record, today)
                for key in KEYS[-2:]:
                    assert packed(key, record, today) == compiled.check_of(each.key)(key, *held)


def a_record(**others: Any) -> bytes:
    facts: dict[str, Any] = dict.fromkeys(FLAGS, True)
    facts |= {"updated": TODAY, "region": "440300", "friends": 7, "age": 30}
    facts |= {"assets_cny": 5, "yearly_spend_cny": 6, "wifi_risk": 2, "risk_score": 50}
    facts |= {"risk_scored_on": TODAY, "registered_at": TODAY, "outstanding_balance_cny": 0}
    return encode(Profile(**facts | others))


def test_facts_are_those_of_the_day() -> None:
    snapshot = world(flag(gates=[gate({"<": [{"var": "risk_score"}, 40]})]))
    attribute = Attribute(id=1, name="risk_score", type=AttributeType.NUMBER)
    snapshot = msgspec.structs.replace(snapshot, attributes=[attribute])
    record = a_record()
    packed = check_of(compile_snapshot(snapshot), "f", frozenset({"risk_score"}))[record[0]]
    assert packed is not None
    shown = [packed("u", record, TODAY.toordinal() + days).visible for days in (-3, 0, 1, 15)]
    assert shown == [False, False, False, True]
    with pytest.raises(Exception, match="unpack"):
        packed("u", record[: compact.SIZE - 1], TODAY.toordinal())


def test_only_what_lies_in_the_number_is_taken_from_it() -> None:
    rule = {"==": [{"var": "age"}, 30]}
    snapshot = world(
        flag("held", gates=[gate(rule)]),
        flag(
            "behind", rollout=running(full(), slot=1), gates=[gate({"<": [{"var": "friends"}, 40]})]
        ),
        flag(
            "paid",
            rollout=running(full(), slot=2),
            gates=[gate({">": [{"var": "weekly_payments"}, 0]})],
        ),
        flag(
            "after",
            rollout=running(full(), slot=3),
            prerequisites=[Prerequisite(flag="held", why="held.first")],
        ),
    )
    age = Attribute(id=20, name="age", type=AttributeType.INTEGER)
    snapshot = msgspec.structs.replace(snapshot, attributes=[*snapshot.attributes, age])
    compiled = compile_snapshot(snapshot)
    checks = {
        each.key: check_of(compiled, each.key, compiled.reads([each.key]))
        for each in snapshot.flags
    }
    usual, tailed = a_record(), a_record(lists=frozenset({9}))
    assert usual[0] & 3 == tailed[0] & 3 == compact.FORMAT
    fits = {
        key: [each[record[0]] is not None for record in (usual, tailed)]
        for key, each in checks.items()
    }
    assert fits == {
        "held": [True, False],
        "behind": [False, False],
        "paid": [False, False],
        "after": [False, False],
    }
    assert not any(checks["held"][first] for first in (0, 1, 3, 5))  # other formats


def test_what_only_callers_may_tell_is_not_taken_from_a_record() -> None:
    snapshot = world(flag(gates=[gate({"==": [{"var": "age"}, 30]})]))
    age = Attribute(id=1, name="age", type=AttributeType.INTEGER, source=AttributeSource.CALLER)
    snapshot = msgspec.structs.replace(snapshot, attributes=[age])
    record = a_record()
    packed = check_of(compile_snapshot(snapshot), "f", frozenset())[record[0]]
    assert packed is not None
    assert not packed("u", record, datetime.date(2026, 1, 1).toordinal()).visible
