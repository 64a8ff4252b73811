"""What the editor tells about whom a rule or a stage reaches."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from cohorts.admin.fields import RuleWidget
from rollout.models import Tier
from tests.rollout.admin import world

pytestmark = pytest.mark.django_db
PAYS = {">": [{"var": "weekly_payments"}, 3]}


@pytest.fixture
def bank(redis: object) -> world.World:
    made = world.build(40)
    # World: every user pays 4 times a week, every fifth 25 times.
    Tier.objects.update(rule={">=": [{"var": "monthly_payments"}, 20]})
    return made


def ask(user: User, language: str = "en", **asked: Any) -> dict[str, Any]:
    client = Client(headers={"accept-language": language})
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    sent = json.dumps({"rule": {}, "count": True, **asked})
    answer = client.post(reverse("admin:rule_check"), sent, content_type="application/json")
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert told["ok"], told
    return dict(told["reach"])


def bars(reach: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        each["title"]: {line["name"]: line["users"] for line in each["lines"]}
        for each in reach["groups"]
    }


def test_the_matched_are_told_by_region_tier_and_weekly_count(bank: world.World) -> None:
    found = ask(world.people()[0], rule=PAYS, flag="weilidai")
    assert found["text"] == "40 of 40 known users match"
    assert found["as_of"].startswith("Exact")
    told = bars(found)
    assert set(told["By region"].values()) == {10}
    assert len(told["By region"]) == 4
    assert told["By tier of Weilidai"] == {"Very active": 8, "no tier": 32}
    weekly = told["By payments in 7 days"]
    assert {name: users for name, users in weekly.items() if users} == {"4–7": 32, "21–30": 8}
    assert len(weekly) == 8
    assert weekly["0"] == 0
    assert weekly["≥ 51"] == 0
    assert "20 %" in json.dumps(found, ensure_ascii=False)


def test_ten_users_are_named_to_those_who_may_read_profiles(bank: world.World) -> None:
    found = ask(world.people()[0], rule=PAYS, flag="weilidai")["sample"]
    assert len({each["user"] for each in found}) == 10
    asked = parse_qs(urlsplit(found[0]["url"]).query)
    assert asked == {"user": [found[0]["user"]], "flag": ["weilidai"]}
    assert found == ask(world.people()[0], rule=PAYS, flag="weilidai")["sample"]
    few = ask(world.people()[0], rule={"==": [{"var": "staff"}, True]})["sample"]
    assert [each["user"] for each in few] == ["u0000", "u0010", "u0020", "u0030"]

    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_cohort"))
    told = ask(guest, rule=PAYS)
    assert told["matched"] == 40
    assert told["sample"] == []


def test_everybody_and_nobody_are_said_so(bank: world.World) -> None:
    assert "No conditions: everybody." in ask(world.people()[0])["notes"]
    nobody = ask(world.people()[0], rule={">": [{"var": "assets_cny"}, 1]})
    assert nobody["matched"] == 0
    assert nobody["groups"] == []
    assert nobody["sample"] == []
    assert "40 cannot be judged: data is missing" in nobody["notes"]


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_stage_is_counted_as_it_stands_in_the_form(bank: world.World, language: str) -> None:
    stage = {"stage": str(bank.planned.pk), "share": "25"}
    operator = world.people()[0]
    found = ask(operator, language, stage={**stage, "audience": str(bank.staff.pk)})
    # Four of 40 are staff, two in 深圳 and two in 郑州, where the product is not closed.
    assert found["matched"] == 4
    told = " ".join(found["notes"])
    assert ("25 % draws 1 of them" if language == "en" else "25 %") in told
    active = ask(operator, language, stage={**stage, "audience": str(bank.cohort.pk)})
    assert active["matched"] == 30  # three of the four cities
    odd = ask(operator, language, stage={"stage": "x", "rollout": "9" * 30, "share": "nan"})
    assert "matched" not in odd
    assert odd["groups"] == []


def test_one_form_does_not_tell_the_next_what_it_edits() -> None:
    from rollout.admin.cohorts import CohortForm

    first, second = CohortForm(), CohortForm()
    widget = first.fields["rule"].widget
    assert isinstance(widget, RuleWidget)
    widget.options["cohort"] = "vip"
    assert second.fields["rule"].widget.options == {"preview": True}
    assert "cohort" not in CohortForm().fields["rule"].widget.options
