"""What each voice is told: customers nothing of fraud; readers of risk are noted."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from cohorts.services import profiles
from huidu import history
from huidu.engine import compile_snapshot
from huidu.model import Attribute, AttributeType, User
from huidu.wire import ring
from rollout.advice import CHANGEABLE, advice
from rollout.explanations import Wording, tell
from rollout.models import AuditEntry, Flag, Gate, Rollout
from rollout.services import gates, keys
from rollout.services.pseudonyms import target
from rollout.wording import Text
from tests.huidu.engine.worlds import flag as flag_of
from tests.huidu.engine.worlds import gate, world
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.test_api import Caller, key_of

PATH = "/api/v1/flags/weilidai/users/u1/explanation"

RISKY = frozenset({"emulator", "risk_score", "wifi_risk"})
REGISTRY = [
    Attribute(id=1, name="emulator", type=AttributeType.BOOLEAN),
    Attribute(id=2, name="risk_score", type=AttributeType.NUMBER),
    Attribute(id=3, name="wifi_risk", type=AttributeType.NUMBER),
    Attribute(id=4, name="invited", type=AttributeType.BOOLEAN),
    Attribute(id=5, name="monthly_payments", type=AttributeType.INTEGER, minimum=0),
    Attribute(id=6, name="consent", type=AttributeType.BOOLEAN),
]
GATES = [
    gate({"var": "consent"}, key="consent", dimension="compliance", why="compliance.consent"),
    gate({"==": [{"var": "emulator"}, False]}, key="d", dimension="fraud", why="fraud.device"),
    gate({"<": [{"var": "risk_score"}, 50]}, key="r", dimension="fraud", why="fraud.score"),
    gate({"<": [{"var": "wifi_risk"}, 60]}, key="n", dimension="fraud", why="fraud.network"),
    gate({"var": "invited"}, key="i", dimension="product", why="product.not_invited"),
    gate(
        {">": [{"var": "monthly_payments"}, 10]},
        key="activity",
        dimension="activity",
        why="activity.too_low",
    ),
]


def heard(user: User, gates: list[Any], language: str) -> str:
    """All a customer hears, as the bytes that go over the wire."""
    snapshot = world(flag_of(gates=gates))
    compiled = compile_snapshot(msgspec.structs.replace(snapshot, attributes=REGISTRY))
    words = Wording(labels={"monthly_payments": Text("笔数", "Payments")}, secret=RISKY)
    found = compiled.explain("f", user)
    options = {"audience": "customer", "language": language, "words": words}
    told = tell(found, compiled.flags["f"], **options)  # type: ignore[arg-type]
    told["changes"] = advice(compiled, found, user, **options)  # type: ignore[arg-type]
    return json.dumps(told, ensure_ascii=False)


def twins() -> list[tuple[User, User, list[Any]]]:
    """500 pairs that differ in nothing but who of them a fraud gate refuses."""
    chance, pairs = random.Random(20_260), []
    for number in range(500):
        clean = {"emulator": False, "risk_score": chance.uniform(0, 49), "wifi_risk": 5.0}
        facts = {"monthly_payments": chance.randrange(30), "consent": chance.random() < 0.8}
        fraud = {
            "emulator": chance.choice([True, False, None]),
            "risk_score": chance.choice([50.0, 99.0, None]),
            "wifi_risk": chance.choice([5, 60, 90]),
        }
        block = GATES[1:5]  # fraud and invitation side by side, at any place among the others
        chance.shuffle(block)
        parts = [[GATES[0]], block, [GATES[5]]]
        chance.shuffle(parts)
        order = [each for part in parts for each in part]
        known = {name: value for name, value in fraud.items() if value is not None}
        suspect = User(f"u{number}", {**facts, **known, "invited": True})
        neutral = User(f"u{number}", {**facts, **clean, "invited": False})
        pairs.append((suspect, neutral, order))
    return pairs


@pytest.mark.parametrize("language", ["zh", "en"])
def test_customers_refused_for_fraud_hear_what_the_uninvited_hear(language: str):
    for suspect, neutral, order in twins():
        assert heard(suspect, order, language) == heard(neutral, order, language)


def test_no_fraud_gate_behind_the_named_step_shows_in_the_advice():
    order = [GATES[0], GATES[5], *GATES[1:4]]
    clean = {"emulator": False, "risk_score": 1.0, "wifi_risk": 5.0}
    user = {"consent": True, "monthly_payments": 7}
    told = heard(User("u", {**user, **clean}), order, "en")
    assert told == heard(User("u", {**user, "emulator": True, "risk_score": 99.0}), order, "en")
    assert "Payments: 4 more (7 → 11)" in told


def test_nobody_is_told_how_to_move_a_fraud_signal():
    assert not RISKY & set(CHANGEABLE)
    assert "scripted" not in CHANGEABLE


def activity(flag: Flag, more_than: int) -> None:
    rule = {">": [{"var": "age"}, more_than]}
    values = {"order": 1, "key": "adult", "dimension": "compliance", "why": "compliance.age"}
    gates.save_gate(flag, values | {"rule": rule}, by=ANN, reason="the law", approved_by=BOB)


@pytest.mark.django_db(transaction=True)
def test_the_risk_voice_needs_a_reason_and_is_noted(flag: Flag):
    admin = Caller(keys.create(PLACE, "admin", "desk", by=ANN)[1])
    assert admin.get(PATH + "?audience=risk").status_code == 400
    assert admin.get(PATH + "?audience=risk&reason=%20").status_code == 400
    assert not AuditEntry.objects.filter(action="explanation.read_as_risk").exists()
    assert admin.get(PATH + "?audience=risk&reason=appeal+12").status_code == 200
    entry = AuditEntry.objects.get(action="explanation.read_as_risk")
    assert (entry.actor, entry.target, entry.reason) == (
        "ann (key desk)",
        target("u1"),
        "appeal 12",
    )
    assert entry.after == {"flag": "weilidai"}


@pytest.mark.django_db(transaction=True)
def test_the_past_is_answered_as_it_was_and_the_edit_named(running: Rollout, flag: Flag):
    profiles.ingest_profiles([{"user_id": "u1", "age": 20}], now=timezone.now())
    server, before = key_of("server"), timezone.now()
    assert server.get(PATH).json()["visible"]
    activity(flag, 30)
    now = server.get(PATH, {"since": before.isoformat()}).json()
    assert (now["visible"], now["why"]) == (False, "compliance.age")
    then = server.get(PATH, {"at": before.isoformat()}).json()
    assert (then["visible"], then["why"]) == (True, "shown")
    changed = now["changed"]
    assert (changed["then"]["why"], changed["now"]["why"]) == ("shown", "compliance.age")
    assert changed["because"] == {"settings": True, "user": False}
    assert changed["facts"] == []
    edit = changed["edits"][0]
    assert (edit["actor"], edit["reason"]) == ("ann", "the law")
    assert edit["target"] == "gate:weilidai/adult"
    assert {"kind": "gate", "key": "adult", "before": None, "after": "fail"} in changed["steps"]


@pytest.mark.django_db(transaction=True)
def test_a_fact_that_changed_is_named_and_the_settings_are_not_blamed(running: Rollout, flag: Flag):
    profiles.ingest_profiles([{"user_id": "u1", "age": 40}], now=timezone.now())
    activity(flag, 30)
    server, before = key_of("server"), timezone.now()
    profiles.ingest_profiles([{"user_id": "u1", "age": 20}], now=timezone.now())
    changed = server.get(PATH, {"since": before.isoformat()}).json()["changed"]
    assert changed["because"] == {"settings": False, "user": True}
    (fact,) = changed["facts"]
    assert fact == {"attribute": "age", "before": 40, "after": 20, "cause": "update"}
    assert changed["edits"] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["at", "since"])
def test_a_moment_to_come_or_before_everything_is_refused(running: Rollout, name: str):
    server = key_of("server")
    for moment in (timezone.now() + timedelta(days=1), timezone.now() - timedelta(days=4000)):
        answer = server.get(PATH, {name: moment.isoformat()})
        assert (answer.status_code, answer.json()["error"]["path"]) == (400, name)


@pytest.mark.django_db(transaction=True)
def test_support_hears_the_stage_that_takes_the_user_risk_also_the_calm_day(flag: Flag):
    values = {"order": 1, "key": "score", "dimension": "fraud", "why": "fraud.score"}
    gates.save_gate(flag, values | {"rule": {"<": [{"var": "risk_score"}, 30]}}, by=ANN)
    profiles.ingest_profiles([{"user_id": "u1", "risk_score": 50}], now=timezone.now())
    told = key_of("admin").get(PATH + "?audience=risk&reason=appeal").json()
    assert [(each["gate"], each["days"]) for each in told["calm"]] == [("score", 16)]
    support = key_of("server").get(PATH).json()
    assert "calm" not in support
    assert support["changes"]["sets"] == []
    assert support["changes"]["immovable"][0]["key"] == "score"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("audience", "most"), [("customer", 2), ("support", 3)])
def test_what_is_no_users_is_read_once_and_never_out_of_date(
    running: Rollout, flag: Flag, django_assert_num_queries: Any, audience: str, most: int
):
    profiles.ingest_profiles([{"user_id": "u1", "age": 20}], now=timezone.now())
    activity(flag, 30)
    server, path = key_of("server"), f"{PATH}?audience={audience}"
    server.get(path)
    with django_assert_num_queries(most):
        before = server.get(path, headers={"Accept-Language": "en"}).json()["text"]
    Gate.objects.update(**{f"{audience}_en": "Come back at thirty."})
    after = server.get(path, headers={"Accept-Language": "en"}).json()["text"]
    assert before != after
    assert after.startswith("Come back at thirty.")


def test_what_is_missing_is_told_by_the_line_that_holds_for_the_user():
    rule = {"hysteresis": [{"var": "weekly_payments"}, 20, 15]}
    compiled = compile_snapshot(world(flag_of(gates=[gate(rule)])))
    told = []
    for days in ([0, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3], [2, 2, 2]):  # fell out today; never inside
        facts = {"weekly_payments": sum(days[:7]), history.NAME: history.Paid(ring.pack(days))}
        found = compiled.explain("f", User("u", facts))
        words = Wording()
        support = tell(found, compiled.flags["f"], audience="support", language="en", words=words)
        told.append([(each["wanted"], each["gap"]) for each in support["missing"]])
    assert told == [[(">= 15", 1)], [("> 20", 15)]]


def test_a_stage_is_told_by_its_name_in_the_readers_language() -> None:
    words = Wording(stages={"five-percent": Text("5% 用户", "5 % of users"), "bare": Text("", "")})
    assert words.stage("five-percent", "zh") == "5% 用户"
    assert words.stage("five-percent", "en") == "5 % of users"
    assert (words.stage("bare", "en"), words.stage(None, "en")) == ("bare", "")
