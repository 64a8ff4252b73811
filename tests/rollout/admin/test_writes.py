"""What people change here goes through the services: validated, logged, seen by two."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from cohorts.admin.fields import shown_percent
from cohorts.models import Cohort
from config.templatetags.huidu import span
from rollout.admin import targets
from rollout.models import ApiKey, AuditEntry, ChangeRequest, ComplianceItem, Flag, Gate, Stage
from rollout.services import changes, publishing, reach
from tests.rollout.admin import world

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def wang(bank: world.World) -> Client:
    return logged_in(world.people()[0])


@pytest.fixture
def li(bank: world.World) -> Client:
    return logged_in(world.people()[1])


def logged_in(user: User) -> Client:
    client = Client(headers={"accept-language": "en"})
    client.force_login(user, BACKEND)
    return client


def act(
    client: Client, model: str, pk: int, name: str, reason: str = "because", **more: str
) -> Any:
    url = reverse(f"admin:rollout_{model}_act", args=(pk, name))
    return client.post(url, {"reason": reason, **more}, follow=True)


def form_of(client: Client, url: str) -> dict[str, Any]:
    """What a browser would send back unchanged."""
    form = client.get(url).context["adminform"].form
    sent: dict[str, Any] = {}
    for bound in form:
        value = bound.value()
        if bound.field.disabled or value is None or value is False:
            continue
        if hasattr(bound.field.widget, "decompress"):
            continue
        sent[bound.html_name] = "on" if value is True else value
    return sent


def test_a_kill_without_a_reason_stops_nothing(wang: Client, bank: world.World) -> None:
    page = act(wang, "flag", bank.flag.pk, "kill", reason=" ")
    assert "Say in one sentence why." in page.content.decode()
    assert not Flag.objects.get(pk=bank.flag.pk).killed


def test_the_confirmation_counts_exactly_who_sees_it(wang: Client, bank: world.World) -> None:
    publishing.publish("production", cause="test", by="wang")
    url = reverse("admin:rollout_flag_act", args=(bank.flag.pk, "kill"))
    told = wang.get(url, {"reach": "1"}).content.decode()
    # Four of 40 are staff; all live where it is open or capped, and the engine says who is in.
    users = reach.users_shown(bank.flag).users.users
    assert 0 < users <= 4
    assert told.startswith(f"{users} user")


def test_a_kill_and_the_way_back_need_two_people(
    wang: Client, li: Client, bank: world.World
) -> None:
    act(wang, "flag", bank.flag.pk, "kill", reason="complaints rise")
    assert Flag.objects.get(pk=bank.flag.pk).killed
    act(wang, "flag", bank.flag.pk, "resume", reason="fixed")
    assert Flag.objects.get(pk=bank.flag.pk).killed
    change = ChangeRequest.objects.get(kind="flag.resume")
    act(wang, "changerequest", change.pk, "approve")
    assert Flag.objects.get(pk=bank.flag.pk).killed
    act(li, "changerequest", change.pk, "approve", reason="checked")
    assert not Flag.objects.get(pk=bank.flag.pk).killed


@pytest.mark.parametrize("name", ["promote", "hold", "pause", "rollback"])
def test_every_step_of_a_running_rollout_is_logged_or_filed(
    wang: Client, bank: world.World, name: str
) -> None:
    before = AuditEntry.objects.count()
    page = act(wang, "rollout", bank.rollout.pk, name, reason=f"test of {name}")
    assert page.status_code == 200
    assert AuditEntry.objects.count() == before + 1
    assert AuditEntry.objects.first().reason == f"test of {name}"  # type: ignore[union-attr]


def test_a_share_is_typed_in_percent_and_stored_in_ppm(wang: Client, bank: world.World) -> None:
    url = reverse("admin:rollout_stage_change", args=(bank.planned.pk,))
    sent = form_of(wang, url)
    page = wang.get(url).content.decode()
    assert re.search(r'name="share_ppm" value="5"', page)
    wang.post(url, {**sent, "share_ppm": "7.5", "reason": "more"}, follow=True)
    assert ChangeRequest.objects.get().payload == {"share_ppm": 75_000}


@pytest.mark.parametrize("typed", ["101", "-1", "five", "0.00001", "NaN", "1e9"])
def test_an_odd_share_is_refused_with_a_sentence(
    wang: Client, bank: world.World, typed: str
) -> None:
    url = reverse("admin:rollout_stage_change", args=(bank.planned.pk,))
    page = wang.post(url, {**form_of(wang, url), "share_ppm": typed})
    assert page.status_code == 200
    assert page.context["adminform"].form.errors["share_ppm"]
    assert Stage.objects.get(pk=bank.planned.pk).share_ppm == 50_000


def test_an_unchanged_form_changes_nothing(wang: Client, bank: world.World) -> None:
    before = AuditEntry.objects.count()
    for name, pk in (("stage", bank.planned.pk), ("gate", bank.gate.pk), ("flag", bank.flag.pk)):
        url = reverse(f"admin:rollout_{name}_change", args=(pk,))
        assert wang.post(url, form_of(wang, url), follow=True).status_code == 200
    assert AuditEntry.objects.count() == before
    assert not ChangeRequest.objects.exists()


def test_an_entered_stage_shows_its_share_but_takes_no_other(
    wang: Client, bank: world.World
) -> None:
    url = reverse("admin:rollout_stage_change", args=(bank.stage.pk,))
    wang.post(url, {**form_of(wang, url), "share_ppm": "50"}, follow=True)
    assert Stage.objects.get(pk=bank.stage.pk).share_ppm == 1_000_000


def test_a_wrong_rule_is_refused_at_its_field(wang: Client, bank: world.World) -> None:
    page = wang.post(
        reverse("admin:cohorts_cohort_add"),
        {"key": "wrong", "rule": '{">": [{"var": "weekly_payments"}, "many"]}', "include": ""},
    )
    errors = page.context["adminform"].form.errors
    assert "a whole number" in errors["rule"][0]
    assert not Cohort.objects.filter(key="wrong").exists()


def test_a_gate_of_a_live_flag_waits_for_another(
    wang: Client, li: Client, bank: world.World
) -> None:
    url = reverse("admin:rollout_gate_change", args=(bank.gate.pk,))
    sent = form_of(wang, url) | {"rule": '{">=": [{"var": "age"}, 21]}', "reason": "new rule"}
    wang.post(url, sent, follow=True)
    assert Gate.objects.get(pk=bank.gate.pk).rule != {">=": [{"var": "age"}, 21]}
    change = ChangeRequest.objects.get()
    act(li, "changerequest", change.pk, "approve", reason="checked")
    assert Gate.objects.get(pk=bank.gate.pk).rule == {">=": [{"var": "age"}, 21]}


def test_an_applied_change_tells_what_it_found_and_what_it_made(
    wang: Client, bank: world.World
) -> None:
    was = bank.gate.label_en
    filed = changes.request(
        "gate.save", bank.gate.pk, {"label_en": "Clearer"}, environment="production", by=world.WANG,
        reason="clearer",
    )  # fmt: skip
    changes.approve(filed, by=world.LI, note="read it")
    [line] = targets.differences(ChangeRequest.objects.get(pk=filed.pk))
    assert (line["now"], line["then"]) == (was, "Clearer")
    page = wang.get(reverse("admin:rollout_changerequest_change", args=(filed.pk,)))
    assert "Became" in page.content.decode()


def test_a_filed_change_needs_a_reason(wang: Client, bank: world.World) -> None:
    url = reverse("admin:rollout_gate_change", args=(bank.gate.pk,))
    sent = form_of(wang, url) | {"rule": '{">=": [{"var": "age"}, 21]}'}
    page = wang.post(url, sent)
    assert page.context["adminform"].form.errors["reason"]


def test_a_region_policy_is_saved_whole(wang: Client, bank: world.World) -> None:
    from rollout.services import region_policies

    policy = region_policies.save_region_policy(
        "production", "spare", classes={"open": {}}, regions={}, default="open", by=world.WANG
    )
    url = reverse("admin:rollout_regionpolicy_change", args=(policy.pk,))
    sent = form_of(wang, url) | {
        "classes": 'open | 82.5% | 开放, 全部 | Open, all | {"cap": 1}\nshut | 0 | 关闭 | Closed |',
        "regions": "深圳市 open\n540100 拉萨市 shut",
    }
    page = wang.post(url, sent, follow=True)
    assert page.status_code == 200
    told = region_policies.told(policy)
    assert told["classes"]["open"] == {"ceiling_ppm": 825_000, "payload": {"cap": 1}}
    assert told["regions"] == {"440300": "open", "540100": "shut"}
    faulty = wang.post(url, sent | {"regions": "Atlantis open"})
    assert "Line 1" in str(faulty.context["adminform"].form.errors["regions"])


def test_a_key_is_shown_once_and_revoked_for_good(wang: Client, bank: world.World) -> None:
    made = wang.post(
        reverse("admin:rollout_apikey_add"),
        {"environment": "production", "kind": "server", "name": "new"},
    )
    token = re.search(r"(?<=data-token>)hd_server_[\w-]+", made.content.decode())
    key = ApiKey.objects.get(name="new")
    assert token is not None
    assert "no-store" in made["Cache-Control"]
    later = wang.get(reverse("admin:rollout_apikey_change", args=(key.pk,))).content.decode()
    assert token.group() not in later
    act(wang, "apikey", key.pk, "revoke", reason="leaked")
    assert ApiKey.objects.get(pk=key.pk).revoked_at is not None


def test_a_signature_names_who_signed_and_ends_with_the_text(
    wang: Client, li: Client, bank: world.World
) -> None:
    url = reverse("admin:rollout_complianceitem_change", args=(bank.item.pk,))
    wang.post(url, form_of(wang, url), follow=True)
    assert ComplianceItem.objects.get(pk=bank.item.pk).signed_by == "li"  # nothing changed
    wang.post(url, form_of(wang, url) | {"text_en": "Filed everywhere"}, follow=True)
    assert ComplianceItem.objects.get(pk=bank.item.pk).signed_by == ""
    act(wang, "complianceitem", bank.item.pk, "sign", reason="receipts checked")
    assert ComplianceItem.objects.get(pk=bank.item.pk).signed_by == "wang"


def test_who_may_only_look_gets_no_buttons_and_no_steps(bank: world.World) -> None:
    auditor = User.objects.create_user("auditor", password=world.PASSWORD, is_staff=True)
    auditor.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = logged_in(auditor)
    board = client.get(reverse("admin:index")).content.decode()
    assert "/act/kill/" not in board
    assert act(client, "flag", bank.flag.pk, "kill").status_code == 403
    page = client.get(reverse("admin:rollout_flag_change", args=(bank.flag.pk,)))
    assert page.status_code == 200
    assert "/act/" not in page.content.decode()
    stage = client.get(reverse("admin:rollout_stage_change", args=(bank.stage.pk,)))
    told = stage.content.decode()
    assert str(shown_percent(bank.stage.share_ppm)) in told
    assert span(bank.stage.minimum_stay) in told
    assert str(bank.stage.minimum_stay) not in told


def test_who_does_not_write_gates_reads_no_fraud_signals(bank: world.World) -> None:
    support = User.objects.create_user("support", password=world.PASSWORD, is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = logged_in(support)
    page = client.get(reverse("admin:diagnose"), {"flag": "weilidai", "user": "u0001"})
    assert "Risk score, decayed" not in page.content.decode()
    row = client.get(reverse("admin:cohorts_profile_change", args=("u0001",)))
    assert "risk_score" not in row.content.decode()


@pytest.mark.parametrize("user", ["u0001", "nobody", "\u0000", "用户", "x" * 128])
def test_diagnosis_answers_about_anybody(wang: Client, bank: world.World, user: str) -> None:
    page = wang.get(reverse("admin:diagnose"), {"flag": "weilidai", "user": user})
    assert page.status_code == 200
