"""The diagnosis says what would change the answer; the waterfall counts everybody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cohorts.models import Profile
from rollout.models import AuditEntry, Gate
from rollout.services import pseudonyms, waterfall_days
from tests.rollout.admin import world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bank(transactional_db: None, redis: object) -> world.World:
    return world.build(40)


@pytest.fixture
def wang(operator: Client) -> Client:
    return operator


@pytest.mark.parametrize(
    ("language", "nothing", "head"),
    [
        ("zh-hans", "用户自己无法改变以下步骤", "怎样才能改变结果"),
        ("en", "Nothing the user does moves these steps", "What would change the answer"),
    ],
)
def test_a_closed_region_is_told_as_what_the_user_cannot_move(
    wang: Client, language: str, nothing: str, head: str
) -> None:
    asked = {"flag": "weilidai", "user": "u0003"}
    page = wang.get(reverse("admin:diagnose"), asked, headers={"accept-language": language})
    text = page.content.decode()
    assert head in text
    assert nothing in text


def test_fraud_signals_show_for_a_reason_and_the_reader_is_noted(wang: Client) -> None:
    asked = {"flag": "weilidai", "user": "u0001"}
    plain = wang.get(reverse("admin:diagnose"), asked, headers={"accept-language": "en"})
    assert "Risk score, decayed" not in plain.content.decode()
    assert not AuditEntry.objects.filter(action="explanation.read_as_risk").exists()
    asked["reason"] = "appeal 7"
    page = wang.get(reverse("admin:diagnose"), asked, headers={"accept-language": "en"})
    assert "Risk score, decayed" in page.content.decode()
    entry = AuditEntry.objects.get(action="explanation.read_as_risk")
    assert (entry.actor, entry.target, entry.reason) == (
        "wang",
        pseudonyms.target("u0001"),
        "appeal 7",
    )


def test_what_changed_since_is_told_or_refused_with_a_sentence(wang: Client) -> None:
    asked = {"flag": "weilidai", "user": "u0001"}
    asked["since"] = timezone.localtime().strftime("%Y-%m-%d %H:%M:%S.%f")
    page = wang.get(reverse("admin:diagnose"), asked)
    assert page.status_code == 200
    assert "data-changed" in page.content.decode()
    for days in (-4000, 4000):
        asked["since"] = (timezone.now() + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")
        page = wang.get(reverse("admin:diagnose"), asked)
        assert page.status_code == 200
        assert 'role="alert"' in page.content.decode()


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_the_waterfall_counts_everybody_and_comes_as_a_file(wang: Client, language: str) -> None:
    url, heads = reverse("admin:waterfall"), {"accept-language": language}
    assert wang.get(url, headers=heads).status_code == 200
    page = wang.get(url, {"flag": "weilidai"}, headers=heads).content.decode()
    assert 'data-waterfall="weilidai"' in page
    assert ("拉萨" if language == "zh-hans" else "Lhasa") in page
    file = wang.get(url, {"flag": "weilidai", "format": "csv"})
    assert file["Content-Type"].startswith("text/csv")
    assert file.content.decode("utf-8-sig").startswith("table,key,why")
    assert 'role="alert"' in wang.get(url, {"flag": "no\0such"}).content.decode()


def test_the_page_answers_as_of_a_past_moment_and_refuses_others(wang: Client) -> None:
    asked = {"flag": "weilidai", "user": "u0001"}
    asked["at"] = timezone.localtime().strftime("%Y-%m-%d %H:%M:%S.%f")
    english = {"accept-language": "en"}
    told = wang.get(reverse("admin:diagnose"), asked, headers=english).content.decode()
    assert "data-answer" in told
    # Names of the past lead to the rows of today.
    where = Gate.objects.get(region_policy__isnull=False)
    assert reverse("admin:rollout_gate_change", args=(where.pk,)) in told
    assert "/None/" not in told
    user = Profile.objects.get(pk="u0001")
    (found,) = where.region_policy.classes.filter(assignments__code=user.region)
    assert found.label_en in told
    for days in (-4000, 4000):
        asked["at"] = (timezone.now() + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")
        page = wang.get(reverse("admin:diagnose"), asked)
        assert page.status_code == 200
        assert "data-answer" not in page.content.decode()


def test_who_reads_no_profiles_sees_no_waterfall(bank: world.World) -> None:
    guest = User.objects.create_user("guest", password=world.PASSWORD, is_staff=True)
    guest.user_permissions.set(Permission.objects.filter(codename="view_flag"))
    client = Client()
    client.force_login(guest, "django.contrib.auth.backends.ModelBackend")
    assert client.get(reverse("admin:waterfall"), {"flag": "weilidai"}).status_code == 403


def test_the_count_of_each_day_is_kept_once_and_drawn(wang: Client) -> None:
    now = timezone.now()
    assert waterfall_days.count_missing(now=now) == 1
    assert waterfall_days.count_missing(now=now) == 0
    assert waterfall_days.count_missing(now=now + timedelta(days=1)) == 1
    first, second = waterfall_days.course("production", "weilidai")
    assert (first.day < second.day, first.users, first.stage) == (True, 40, "internal")
    assert first.shown + sum(each["refused"] for each in first.steps) == first.users
    for groups in first.groups.values():
        assert [sum(each) for each in zip(*groups.values(), strict=True)] == [40, first.shown]
    url = reverse("admin:waterfall")
    page = wang.get(url, {"flag": "weilidai"}, headers={"accept-language": "en"}).content.decode()
    assert "data-days" in page
    assert first.day.isoformat() in page
    file = wang.get(url, {"flag": "weilidai", "format": "days"}).content.decode()
    assert f"{first.day},internal" in file
