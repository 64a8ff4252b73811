"""Texts of codes: two people, versions that stay, one neutral text for all that must read alike."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from cohorts.services import profiles
from huidu.errors import InputError
from rollout.models import Flag, Gate, ReasonText, Rollout
from rollout.services import gates, keys
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.test_api import MANAGE, Caller

pytestmark = pytest.mark.django_db(transaction=True)
TEXTS = f"{MANAGE}/texts"
ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
def ann(flag: Flag) -> Caller:
    return Caller(keys.create(PLACE, "admin", "ann's", by=ANN)[1])


@pytest.fixture
def bob(flag: Flag) -> Caller:
    return Caller(keys.create(PLACE, "admin", "bob's", by=BOB)[1])


@pytest.fixture
def gated(running: Rollout, flag: Flag) -> None:
    """Refuses who is under 18, runs an emulator, or is on the block list."""
    for order, (key, dimension, why, rule) in enumerate(
        [
            ("adult", "compliance", "compliance.age", {">=": [{"var": "age"}, 18]}),
            ("device", "fraud", "fraud.device", {"==": [{"var": "emulator"}, False]}),
            ("invited", "product", "product.not_invited", {"==": [{"var": "invited"}, True]}),
        ]
    ):
        values = {"order": order, "key": key, "dimension": dimension, "why": why, "rule": rule}
        gates.save_gate(flag, values, by=ANN, approved_by=BOB)
    good: dict[str, Any] = {"age": 30, "emulator": False, "invited": True}
    facts = {"young": {"age": 9}, "clone": {"emulator": True}, "guest": {"invited": False}}
    told = [{"user_id": name, **good, **own} for name, own in facts.items()]
    assert not profiles.ingest_profiles(told, now=timezone.now()).rejected


def put_in_force(ann: Caller, bob: Caller, code: str, texts: dict[str, str]) -> None:
    filed = ann.send(f"{TEXTS}/{code}", {**texts, "reason": "clearer"}, "patch")
    assert filed.status_code == 202, filed.content
    decided = bob.send(f"{MANAGE}/changes/{filed.json()['id']}/approve", {"note": "read it"})
    assert decided.status_code == 200, decided.content


def hear(user: str, audience: str, **query: str) -> dict[str, Any]:
    path = f"/api/v1/flags/weilidai/users/{user}/explanation"
    caller = Caller(keys.create(PLACE, "server", f"asks {uuid.uuid4()}", by=ANN)[1])
    answer = caller.get(path, {"audience": audience, **query}, headers=ENGLISH)
    assert answer.status_code == 200, answer.content
    told: dict[str, Any] = answer.json()
    return told


def test_a_text_takes_two_people_and_the_past_keeps_the_one_it_was_told(
    gated: None,
    ann: Caller,
    bob: Caller,
):
    path = f"{TEXTS}/compliance.age"
    shipped = ann.get(path).json()
    assert (shipped["version"], shipped["neutral"]) == (0, False)
    filed = ann.send(
        path,
        {
            "customer_zh": "{product}：未满年龄",
            "customer_en": "{product}: under age",
            "reason": "x",
        },
        "patch",
    )
    assert filed.status_code == 202
    approve = f"{MANAGE}/changes/{filed.json()['id']}/approve"
    assert ann.send(approve, {"note": "mine"}).status_code == 409
    assert hear("young", "customer")["text"].startswith(shipped["customer_en"])
    before = timezone.now()
    assert bob.send(approve, {"note": "read it"}).status_code == 200
    assert hear("young", "customer")["text"].startswith("Loan: under age")
    script = hear("young", "support")["script"]
    assert script["say"].startswith("Loan: under age")
    assert (script["version"], script["approved_by"]) == (1, "bob")
    then = hear("young", "customer", at=before.isoformat())
    assert then["text"].startswith(shipped["customer_en"])


def test_the_neutral_text_is_one_for_all_and_support_still_knows_what_to_do(
    gated: None,
    ann: Caller,
    bob: Caller,
):
    put_in_force(
        ann,
        bob,
        "product.not_invited",
        {"customer_zh": "{product}尚未邀请您。", "customer_en": "{product} did not invite you."},
    )
    put_in_force(
        ann, bob, "fraud.device", {"next_step_zh": "转风控。", "next_step_en": "Call risk: {code}."}
    )
    heard = [hear(user, "customer") for user in ("clone", "guest")]
    for each in heard:
        del each["user"], each["as_of"]
    assert heard[0] == heard[1]
    assert heard[0]["text"].startswith("Loan did not invite you.")
    clone, guest = (hear(user, "support")["script"] for user in ("clone", "guest"))
    assert clone["say"] == guest["say"]
    assert clone["say"].startswith("Loan did not invite you.")
    assert clone["next_step"] == "Call risk: fraud.device."
    assert guest["next_step"] != clone["next_step"]


@pytest.mark.parametrize(
    ("code", "texts", "path"),
    [
        ("fraud.device", {"customer_zh": "设备", "customer_en": "your device"}, "customer_zh"),
        ("fraud.device", {"say_zh": "设备", "say_en": "your device"}, "say_zh"),
        ("blocked.list", {"advice_zh": "黑名单", "advice_en": "blocked"}, "advice_zh"),
        ("compliance.age", {"customer_zh": "只有中文"}, "customer_en"),
        ("compliance.age", {"advice_zh": "{score}", "advice_en": "x"}, "advice_zh"),
        ("compliance.age", {"advice_zh": "{product.pk}", "advice_en": "x"}, "advice_zh"),
        ("compliance.age", {"advice_zh": "{product", "advice_en": "x"}, "advice_zh"),
        ("compliance.age", {"say_zh": "{code}", "say_en": "x"}, "say_zh"),
        ("compliance.age", {"say_zh": "长" * 501, "say_en": "x"}, "say_zh"),
        ("compliance.age", {}, "code"),
        ("Not A Code", {"say_zh": "a", "say_en": "b"}, "code"),
    ],
)
def test_a_text_that_may_not_stand_is_refused_before_anybody_approves_it(
    gated: None,
    ann: Caller,
    code: str,
    texts: dict[str, str],
    path: str,
):
    answer = ann.send(f"{TEXTS}/{code}", {**texts, "reason": "why not"}, "patch")
    assert (answer.status_code, answer.json()["error"]["path"]) == (400, path)
    assert not ReasonText.objects.exists()


def test_versions_are_written_once(gated: None, ann: Caller, bob: Caller):
    put_in_force(ann, bob, "compliance.age", {"say_zh": "甲", "say_en": "one"})
    put_in_force(ann, bob, "compliance.age", {"say_zh": "乙", "say_en": "two"})
    found = ann.get(TEXTS, {"code": "compliance.age"}).json()["results"]
    assert [(each["version"], each["say_en"]) for each in found] == [(2, "two"), (1, "one")]
    with pytest.raises(IntegrityError), transaction.atomic():
        ReasonText.objects.update(say_en="never said")


def test_a_gates_own_words_are_told_of_their_time_and_never_set_a_fraud_gate_apart(
    gated: None, flag: Flag
):
    adult, device = (Gate.objects.get(flag=flag, key=key) for key in ("adult", "device"))
    before = timezone.now()
    gates.save_gate(flag, {"customer_en": "Come back at 18."}, by=ANN, approved_by=BOB, gate=adult)
    assert hear("young", "customer")["text"].startswith("Come back at 18.")
    then = hear("young", "customer", at=before.isoformat())
    assert not then["text"].startswith("Come back at 18.")
    with pytest.raises(InputError, match=r"reads as product\.not_invited"):
        gates.save_gate(flag, {"customer_en": "Your device!"}, by=ANN, approved_by=BOB, gate=device)
