"""Protected values: masked for everybody, shown to those who may, once they say why."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cohorts.services import profiles
from rollout.models import AuditEntry
from rollout.services import attribute_edits, keys, pseudonyms, roles
from tests.rollout.admin import world
from tests.rollout.admin.test_writes import logged_in
from tests.rollout.test_api import Caller

pytestmark = pytest.mark.django_db
USER = "person-7f3e"
SECRETS = ("91,234.5", "91234.5", "87.5", "asthma")


@pytest.fixture
def held(redis: object) -> None:
    attribute_edits.save_attribute(
        {"name": "illness", "type": "string", "sensitivity": "sensitive", "label_en": "Illness"},
        by=world.WANG,
    )
    facts = {"age": 30, "assets_cny": 91_234.5, "risk_score": 87.5, "illness": "asthma"}
    assert profiles.ingest_profiles([{"user_id": USER, **facts}], timezone.now()).accepted


def person(role: str) -> Client:
    roles.make_missing()
    user = User.objects.create_user(role.replace(" ", "-"), password="x", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return logged_in(user)


def page(client: Client, **asked: str) -> str:
    url = reverse("admin:cohorts_profile_change", args=(USER,))
    return client.get(url, asked).content.decode()


def told(text: str) -> list[str]:
    return [each for each in SECRETS if each in text]


@pytest.mark.parametrize("role", ["support", "operator", "auditor", "risk officer"])
def test_nobody_reads_protected_values_in_passing(held: None, role: str) -> None:
    client = person(role)
    text = page(client)
    assert told(text) == []
    assert "Illness" in text
    assert told(client.get(reverse("admin:cohorts_profile_changelist")).content.decode()) == []
    for asked in ("risk_score__gte=80", "attributes__illness=asthma"):
        listed = client.get(f"{reverse('admin:cohorts_profile_changelist')}?{asked}")
        assert listed.status_code == 400
    answer = client.get(f"/api/v1/profiles/{USER}").json()
    assert answer["masked"] == ["assets_cny", "illness", "risk_score"]
    assert told(str(answer)) == []
    assert not AuditEntry.objects.filter(action="profile.read_protected").exists()


def test_who_may_reads_them_after_a_reason_that_is_logged(held: None) -> None:
    act = reverse("admin:cohorts_profile_act", args=(USER, "reveal"))
    assert person("operator").get(act).status_code == 403
    officer = person("risk officer")
    assert act in page(officer)
    assert officer.post(act, {"reason": " "}).status_code == 200
    assert not AuditEntry.objects.filter(action="profile.read_protected").exists()
    there = officer.post(act, {"reason": f"appeal of {USER}"})
    shown = officer.get(there["Location"])
    assert told(shown.content.decode()) == ["91,234.5", "87.5", "asthma"]
    assert "no-store" in shown.headers["Cache-Control"]
    (token,) = re.findall(r"shown=(.+)", there["Location"])
    assert told(person("support").get(there["Location"]).content.decode()) == []
    assert told(page(officer, shown=token[:-1])) == []
    entry = AuditEntry.objects.get(action="profile.read_protected")
    assert (entry.actor, entry.target) == ("risk-officer", pseudonyms.target(USER))
    assert entry.after == {"attributes": ["assets_cny", "illness", "risk_score"]}
    assert USER not in entry.reason


def test_the_api_tells_people_with_a_reason_and_notes_every_key(held: None) -> None:
    officer = person("risk officer")
    url = f"/api/v1/profiles/{USER}"
    answer: Any = officer.get(url, {"reason": "appeal 7"}).json()
    assert (answer["masked"], answer["attributes"]["illness"]) == ([], "asthma")
    key = Caller(keys.create("production", "admin", "warehouse", by=world.WANG)[1])
    assert key.get(url).json()["attributes"]["assets_cny"] == 91_234.5
    entries = AuditEntry.objects.filter(action="profile.read_protected").order_by("sequence")
    assert [(each.actor, each.reason) for each in entries] == [
        ("risk-officer", "appeal 7"),
        ("wang (key warehouse)", ""),
    ]
    assert officer.get(f"{url}?reason=" + "x" * 3_000).status_code == 400
