"""Reviews by a person: asked for once, answered in time, and never forgotten by accident."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cohorts import selectors as who
from cohorts.services import profiles
from huidu.errors import InputError, StateError
from rollout.models import AuditEntry, Case, CaseNote, ChangeRequest, Flag, Outbox, Rollout
from rollout.services import (
    case_outcomes,
    case_proposals,
    cases,
    changes,
    flags,
    forget,
    frozen,
    gates,
    keys,
    messages,
    webhooks,
)
from rollout.services.audit import Actor
from tests.rollout.admin.test_writes import act, logged_in
from tests.rollout.test_forget import tables_naming

pytestmark = pytest.mark.django_db(transaction=True)
WANG, LI = Actor("wang", "wang"), Actor("li", "li")
TOO_YOUNG, NOT_INVITED = "u0003", "u0001"


@pytest.fixture
def bank(running: Rollout) -> Flag:
    """A live flag with three gates: the first is absolute, the second secret, the third is not."""
    flag = running.flag
    for order, (key, dimension, rule, why, absolute) in enumerate(
        (
            ("adult", "compliance", {">=": [{"var": "age"}, 18]}, "compliance.age", True),
            ("risk", "fraud", {"<": [{"var": "risk_score"}, 60]}, "fraud.score", True),
            ("list", "product", {"==": [{"var": "invited"}, True]}, "product.not_invited", False),
        )
    ):
        values = {"order": order, "key": key, "dimension": dimension, "rule": rule, "why": why}
        gates.save_gate(flag, {**values, "absolute": absolute}, by=WANG, reason="r", approved_by=LI)
    profiles.ingest_profiles(
        [
            {"user_id": user, "age": age, "invited": False, "risk_score": 10}
            for user, age in ((NOT_INVITED, 30), (TOO_YOUNG, 15), ("u0009", 40))
        ],
        now=timezone.now(),
    )
    for name in ("wang", "li"):
        User.objects.create(username=name, is_staff=True, is_superuser=True)
    return flag


def opened(user: str = NOT_INVITED, **told: Any) -> Case:
    case, _ = cases.open_case("production", "weilidai", user, by=WANG, channel="support", **told)
    return case


def caller(kind: str) -> Client:
    _, token = keys.create("production", kind, f"key-{kind}", by=WANG)
    return Client(headers={"Authorization": f"Bearer {token}", "accept-language": "en"})


def test_the_receipt_keeps_the_answer_while_the_world_goes_on(bank: Flag) -> None:
    case = opened()
    assert case.why == "product.not_invited"
    profiles.ingest_profiles([{"user_id": NOT_INVITED, "invited": True}], now=timezone.now())
    now, _ = case_outcomes.would_be(case)
    assert now.why == "shown"
    case.refresh_from_db()
    assert case.receipt["answer"]["why"] == "product.not_invited"
    assert case.receipt["facts"]["attributes"]["invited"] is False
    assert case.receipt["told"]["customer"]["zh"]["text"].startswith("暂未获得邀请")
    assert case.receipt["code"].startswith("engine-")
    assert frozen.hash_of(case.receipt) == case.receipt_hash


def test_the_database_itself_refuses_another_receipt(bank: Flag) -> None:
    case = opened()
    with pytest.raises(IntegrityError, match="written once"), transaction.atomic():
        Case.objects.filter(pk=case.pk).update(receipt={"answer": "shown"})


def test_anti_fraud_facts_stay_out_of_what_support_reads(bank: Flag) -> None:
    case = opened()
    assert case.receipt["facts"]["attributes"]["risk_score"] == 10
    support = frozen.for_support(case.receipt)
    assert "risk_score" not in repr(support["facts"])
    assert "risk" not in support["told"]


def test_asked_again_it_is_the_same_case(bank: Flag) -> None:
    server = caller("server")
    url = f"/api/v1/flags/weilidai/users/{NOT_INVITED}/cases"
    body = {"claim": "why not me?", "request_id": "ticket-1"}
    first = server.post(url, body, content_type="application/json")
    assert first.status_code == 201
    again = server.post(url, body, content_type="application/json")
    other = server.post(url, {}, content_type="application/json")
    assert (again.status_code, other.status_code) == (200, 200)
    assert {each.json()["case"] for each in (first, again, other)} == {first.json()["case"]}
    elsewhere = server.post(
        "/api/v1/flags/weilidai/users/u0002/cases", body, content_type="application/json"
    )
    assert elsewhere.status_code == 409
    assert [each["status"] for each in server.get(url).json()["cases"]] == ["open"]
    assert "why" not in first.json()


def test_eight_at_once_open_one_case(bank: Flag) -> None:
    made: list[tuple[Case, bool]] = []

    def ask() -> None:
        try:
            made.append(
                cases.open_case("production", "weilidai", "u0005", by=WANG, channel="customer")
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({case.pk for case, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    assert len(made) == 8


def test_bad_questions_are_told_where(bank: Flag) -> None:
    url, server = f"/api/v1/flags/weilidai/users/{NOT_INVITED}/cases", caller("server")
    bad: list[tuple[Any, str]] = [
        ({"claim": "x" * 4_001}, "claim"),
        ({"request_id": ""}, "request_id"),
        ({"at": "yesterday"}, "at"),
        ({"at": "1999-01-01T00:00:00Z"}, "at"),
        ([], ""),
    ]
    for body, path in bad:
        answer = server.post(url, body, content_type="application/json")
        assert (answer.status_code, answer.json()["error"]["path"]) == (400, path)
    assert not Case.objects.exists()


def test_a_client_key_and_an_unknown_flag_are_refused(bank: Flag) -> None:
    url = "/api/v1/flags/{}/users/u1/cases"
    assert caller("client").post(url.format("weilidai")).status_code == 403
    unknown = caller("server").post(url.format("nothing"), {}, content_type="application/json")
    assert unknown.status_code == 404


def test_the_due_date_counts_working_days_and_is_told_once(bank: Flag, settings: Any) -> None:
    settings.HUIDU_REVIEW_WORKING_DAYS = 3
    webhooks.create("production", {"name": "ops", "url": "https://example.com/"}, by=WANG)
    case = opened()
    assert 3 <= (case.due_at - case.opened_at).days + 1 <= 8
    assert cases.tell_overdue(now=case.due_at - timedelta(seconds=1)) == 0
    assert cases.tell_overdue(now=case.due_at) == 1
    assert cases.tell_overdue(now=case.due_at + timedelta(days=1)) == 0
    told = Outbox.objects.filter(cause=messages.CASE_OVERDUE).get()
    assert told.payload["body"]["data"]["case"] == case.pk
    assert NOT_INVITED not in repr(told.payload)


def test_upheld_with_a_reply_that_the_customer_reads(bank: Flag) -> None:
    case = cases.assign(opened(), "li", by=WANG)
    assert case.status == "in_review"
    with pytest.raises(InputError):
        cases.uphold(case, by=LI, reply=" ")
    cases.wait(case, "needs a document", by=LI)
    cases.go_on(case, "it came", by=LI)
    done = cases.uphold(case, by=LI, reply="目前仍在内部测试。", text="staff only, checked")
    assert (done.status, done.outcome, done.decided_by) == ("decided", "upheld", "li")
    with pytest.raises(StateError, match="is decided"):
        cases.withdraw(done, "too late", by=LI)
    url = f"/api/v1/flags/weilidai/users/{NOT_INVITED}/cases"
    (told,) = caller("server").get(url).json()["cases"]
    assert (told["outcome"], told["reply"]) == ("upheld", "目前仍在内部测试。")
    assert [each.step for each in CaseNote.objects.all()] == [
        "opened",
        "assigned",
        "waiting",
        "goes_on",
        "decided_upheld",
    ]
    actions = list(AuditEntry.objects.filter(action__startswith="case.").order_by("sequence"))
    assert [each.action for each in actions][-1] == "case.decided"


def test_a_correction_of_a_live_flag_takes_two_people_and_decides_the_case(
    bank: Flag,
) -> None:
    case = opened(TOO_YOUNG)
    facts = {"age": 31}
    change = case_proposals.correct(case, facts, by=WANG, reason="moved", reply="已更正。")
    assert change is not None
    case.refresh_from_db()
    assert case.status == "approval"
    assert "age" not in repr(list(AuditEntry.objects.filter(action="change.requested").values()))
    with pytest.raises(StateError):
        cases.uphold(case, by=LI, reply="no")
    changes.reject(change, by=LI, note="no proof")
    case.refresh_from_db()
    assert case.status == "in_review"
    second = case_proposals.correct(case, facts, by=WANG, reason="proof", reply="已更正。")
    assert second is not None
    changes.approve(second, by=LI, note="seen")
    case.refresh_from_db()
    assert (case.status, case.outcome) == ("decided", "corrected")
    assert who.held_users([TOO_YOUNG])[TOO_YOUNG].attributes["age"] == 31
    entry = AuditEntry.objects.filter(action="case.decided").get()
    assert entry.after == {
        "outcome": "corrected",
        "attributes": ["age"],
        "approved_by": "li",
    }


def test_only_fitting_facts_are_corrected(bank: Flag) -> None:
    case = opened()
    bad: list[dict[str, Any]] = [{}, {"risk_score": 0}, {"age": "old"}, {"weekly_payments": 99}]
    for facts in bad:
        with pytest.raises(InputError):
            case_proposals.correct(case, facts, by=WANG, reason="r", reply="r")
    assert not ChangeRequest.objects.exists()


def test_a_grant_shows_the_flag_and_one_that_would_not_is_refused(bank: Flag) -> None:
    with pytest.raises(StateError, match="would not show"):
        case_proposals.grant(opened(TOO_YOUNG), by=WANG, reason="r", reply="r")
    case = opened()
    change = case_proposals.grant(case, by=WANG, reason="promised", reply="已开通。")
    assert change is not None
    changes.approve(change, by=LI, note="ok")
    case.refresh_from_db()
    assert case.outcome == "granted"
    answer, _ = case_outcomes.would_be(case)
    assert (answer.visible, answer.why) == (True, "allowed.list")


def test_a_key_decides_nothing(bank: Flag) -> None:
    case = opened()
    admin = caller("admin")
    url = f"/api/v1/manage/cases/{case.pk}"
    body = {"outcome": "upheld", "reply": "no"}
    answer = admin.post(f"{url}/decide", body, content_type="application/json")
    assert answer.status_code == 403
    assert admin.post(f"{url}/notes", {"text": "x"}, content_type="application/json").status_code
    assert admin.get(url).json()["receipt"]["answer"]["why"] == "product.not_invited"
    assert "risk" not in admin.get(url).json()["receipt"]["told"]
    assert admin.get(url, {"audience": "risk"}).status_code == 400
    assert "risk" in admin.get(url, {"audience": "risk", "reason": "x"}).json()["receipt"]["told"]
    found = admin.get("/api/v1/manage/cases", {"status": "open", "search": "u00"}).json()
    assert found["count"] == 1


def test_a_forgotten_person_leaves_only_that_there_was_a_case(bank: Flag) -> None:
    case = opened("u0009", claim="I am u0009")
    with pytest.raises(StateError, match="under way"):
        forget.forget_user("u0009", by=LI, reason="a letter")
    cases.uphold(case, by=LI, reply="u0009: no", text="about u0009")
    forget.forget_user("u0009", by=LI, reason="a letter")
    assert tables_naming("u0009") == []
    case.refresh_from_db()
    assert (case.user_id, case.receipt, case.outcome) == ("", None, "upheld")
    page = logged_in(User.objects.get(username="wang")).get(
        reverse("admin:rollout_case_change", args=(case.pk,))
    )
    assert "The person was forgotten" in page.content.decode()


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_support_opens_it_from_the_diagnosis_and_people_work_on_it(
    bank: Flag, language: str
) -> None:
    client = logged_in(User.objects.get(username="wang"))
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    where = reverse("admin:diagnose") + f"?flag=weilidai&user={NOT_INVITED}"
    assert 'name="claim"' in client.get(where).content.decode()
    page = client.post(where, {"claim": "一直没有"}, follow=True).content.decode()
    case = Case.objects.get()
    assert f'data-case="{case.pk}"' in page
    assert "一直没有" in page
    act(client, "case", case.pk, "take")
    act(client, "case", case.pk, "note", text="looked at it")
    act(client, "case", case.pk, "uphold", reply="no", reason="rules")
    case.refresh_from_db()
    assert (case.assignee, case.outcome) == ("wang", "upheld")
    rows = client.get(reverse("admin:rollout_case_changelist"), {"q": "u0001"}).content.decode()
    assert f"#{case.pk}" in rows
    for due in ("overdue", "open", "mine", "nobody"):
        url = reverse("admin:rollout_case_changelist")
        assert client.get(url, {"due": due}).status_code == 200


def test_an_overdue_case_is_on_the_board_and_risk_officers_read_for_a_reason(
    bank: Flag,
) -> None:
    case = opened()
    Case.objects.update(due_at=timezone.now() - timedelta(days=2))
    client = logged_in(User.objects.get(username="wang"))
    assert "data-late-cases" in client.get(reverse("admin:index")).content.decode()
    url = reverse("admin:rollout_case_change", args=(case.pk,))
    plain = client.get(url).content.decode()
    assert "overdue by 2 days" in plain
    assert "Risk score" not in plain
    assert "Risk score" in client.get(url, {"reason": "appeal"}).content.decode()
    assert AuditEntry.objects.filter(action="explanation.read_as_risk", reason="appeal").exists()


def test_a_killed_flags_answer_can_be_reviewed_too(bank: Flag) -> None:
    flags.kill(bank, by=WANG, reason="errors")
    assert opened().why == "killed"
