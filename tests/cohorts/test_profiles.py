"""Facts in: partial, typed, kept with their time."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from cohorts import mappers, selectors
from cohorts.models import Attribute, Profile, ProfileHistory, UserList
from cohorts.services import admissions, lists, packing
from cohorts.services.ingest import ingest_payments, ingest_profiles
from huidu.history import NAME, Paid
from tests.cohorts.conftest import NOW, TODAY

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

HOUR = datetime.timedelta(hours=1)
ALL = {
    "user_id": "u1",
    "region": "440300",
    "staff": False,
    "friends": 120,
    "assets_cny": 15000.5,
    "yearly_spend_cny": 82000,
    "risk_score": 12.25,
    "risk_scored_on": "2026-05-05",
    "registered_at": "2015-06-01",
    "age": 33,
    "student": False,
    "consent": True,
    "invited": True,
    "holds_fenfu": False,
    "applied_fenfu_at": "2026-01-31",
    "emulator": False,
    "wifi_risk": 0,
    "scripted": False,
    "outstanding_balance_cny": 0,
    "optout": False,
}


def send(*items: dict[str, Any], at: datetime.datetime = NOW):
    result = ingest_profiles(list(items), at)
    packing.drain_dirty()  # these tests never commit
    return result


def test_every_fact_arrives_as_it_was_sent(packed):
    send(ALL)
    facts = {k: v for k, v in ALL.items() if k not in ("user_id", "risk_scored_on")}
    facts |= {
        "weekly_payments": 0,
        "monthly_payments": 0,
        NAME: Paid(),
        "risk_score": pytest.approx(12.25 * 0.6),
        "registered_at": datetime.date(2015, 6, 1),
        "applied_fenfu_at": datetime.date(2026, 1, 31),
    }
    user = packed("u1")
    assert user is not None
    assert user.attributes == facts
    assert selectors.held_users(["u1"], NOW)["u1"].attributes == facts


def test_a_missing_field_leaves_the_value_and_null_clears_it():
    send({"user_id": "u1", "region": "440300", "staff": True, "age": 30})
    send({"user_id": "u1", "staff": None, "age": 31}, at=NOW + HOUR)
    row = Profile.objects.get()
    assert (row.region, row.staff, row.age) == ("440300", None, 31)


def test_later_items_of_one_user_win_within_a_request():
    send({"user_id": "u1", "age": 30, "staff": True}, {"user_id": "u1", "age": 31})
    row = Profile.objects.get()
    assert (row.staff, row.age) == (True, 31)


def test_facts_of_any_past_moment_can_be_told():
    send({"user_id": "u1", "region": "440300"})
    send({"user_id": "u1", "region": "310000", "age": 30}, at=NOW + HOUR)
    send({"user_id": "u1", "region": None}, at=NOW + 2 * HOUR)

    def known(at: datetime.datetime) -> dict[str, Any] | None:
        past = selectors.profile_at("u1", at)
        return past and {k: v for k, v in past.attributes.items() if "payments" not in k}

    assert known(NOW - HOUR) is None
    assert known(NOW) == {"region": "440300"}
    assert known(NOW + HOUR) == {"region": "310000", "age": 30}
    assert known(NOW + 3 * HOUR) == {"age": 30}


def test_the_same_facts_again_leave_no_history():
    send(ALL)
    send(ALL, at=NOW + HOUR)
    assert ProfileHistory.objects.count() == 1
    assert Profile.objects.get().updated_at == NOW + HOUR


def test_a_score_without_its_day_was_given_today():
    send({"user_id": "u1", "risk_score": 40})
    assert Profile.objects.get().risk_scored_on == TODAY
    send({"user_id": "u1", "risk_score": None}, at=NOW + HOUR)
    assert Profile.objects.get().risk_scored_on is None


def test_custom_attributes_travel_by_their_slot(packed):
    Attribute.objects.create(name="vip_level", type="integer", minimum=0, maximum=9)
    Attribute.objects.create(name="tags", type="strings")
    Attribute.objects.create(name="joined_club", type="date")
    sent = {"vip_level": 4, "tags": ["beta", "灰度"], "joined_club": "2020-02-29"}
    send({"user_id": "u1", **sent})
    user = packed("u1")
    assert {name: user.attributes[name] for name in sent} == sent
    send({"user_id": "u1", "tags": None}, at=NOW + HOUR)
    assert "tags" not in packed("u1").attributes
    assert selectors.profile_at("u1", NOW).attributes["tags"] == ["beta", "灰度"]


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        pytest.param({"shoe_size": 42}, "attribute.unknown", "shoe_size", id="unknown"),
        pytest.param({"weekly_payments": 3}, "attribute.computed", "payments", id="computed"),
        pytest.param({"app_version": "8.0"}, "attribute.caller_only", "app_version", id="caller"),
        pytest.param({"age": "33"}, "attribute.invalid", "whole number", id="text for number"),
        pytest.param({"age": 33.5}, "attribute.invalid", "whole number", id="half a year"),
        pytest.param({"age": -1}, "attribute.invalid", "0 to 150", id="below"),
        pytest.param({"age": 151}, "attribute.invalid", "0 to 150", id="above"),
        pytest.param({"staff": 1}, "attribute.invalid", "true or false", id="1 for true"),
        pytest.param({"region": "Shenzhen"}, "attribute.invalid", "six digits", id="a name"),
        pytest.param(
            {"region": "４４０３００"}, "attribute.invalid", "six digits", id="wide digits"
        ),
        pytest.param({"friends": 2**31}, "attribute.invalid", "at most", id="too many friends"),
        pytest.param({"friends": 10**400}, "attribute.invalid", "friends", id="huge"),
        pytest.param({"assets_cny": float("nan")}, "attribute.invalid", "number", id="NaN"),
        pytest.param({"assets_cny": 1e300}, "attribute.invalid", "at most", id="too rich"),
        pytest.param({"assets_cny": {"a": [1]}}, "attribute.invalid", "number", id="nested"),
        pytest.param({"registered_at": "9999-12-31"}, "attribute.invalid", "day", id="year 9999"),
        pytest.param({"registered_at": "1969-12-31"}, "attribute.invalid", "day", id="1969"),
        pytest.param({"registered_at": "2026-13-01"}, "attribute.invalid", "date", id="month 13"),
        pytest.param({"risk_scored_on": "2026-05-01"}, "attribute.invalid", "risk", id="lone day"),
        pytest.param({"user_id": ""}, "user_id.invalid", "1 to 128", id="empty user"),
        pytest.param({"user_id": None}, "user_id.missing", "none", id="no user"),
        pytest.param({"user_id": ["u1"]}, "user_id.invalid", "text", id="list as user"),
        pytest.param({"user_id": "a\0"}, "user_id.invalid", "control", id="NUL"),
    ],
)
def test_a_faulty_item_is_rejected_whole_and_named(fields: dict[str, Any], code: str, told: str):
    result = send({"user_id": "u1", "consent": True, **fields}, {"user_id": "u2", "age": 20})
    assert [(each.index, each.code) for each in result.rejected] == [(0, code)]
    assert told in result.rejected[0].detail
    assert [row.user_id for row in Profile.objects.all()] == ["u2"]


def test_an_unknown_attribute_is_told_with_what_is_registered():
    detail = send({"user_id": "u1", "shoe_size": 42}).rejected[0].detail
    assert "yearly_spend_cny" in detail
    assert "weekly_payments" not in detail


def test_weekly_payments_of_any_moment():
    at = datetime.datetime(2026, 5, 20, 2, 0, tzinfo=datetime.UTC)
    moments = [at - datetime.timedelta(days=days) for days in (0, 1, 6, 7, 29, 30)]
    ingest_payments(
        [
            {"event_id": f"e{i}", "user_id": "u1", "paid_at": each.isoformat()}
            for i, each in enumerate(moments)
        ],
        NOW,
    )
    assert selectors.weekly_payments("u1", NOW) == 3
    assert selectors.weekly_payments("u1", at - HOUR) == 2
    assert selectors.payments_until("u1", NOW, 30) == 5
    assert selectors.counts_on(TODAY)["u1"] == selectors.Counts(3, 5)
    past = selectors.profile_at("u1", at - HOUR)
    assert past.attributes == {"weekly_payments": 2, "monthly_payments": 4}


def test_a_scan_over_everybody_says_the_same_as_reading_each(packed):
    Attribute.objects.create(name="tags", type="strings")
    number = UserList.objects.create(key="watched", kind="audience").number
    send(ALL, {"user_id": "u2", "tags": ["beta"]}, {"user_id": "u3", "assets_cny": 0.1})
    days = ["2026-05-20", "2026-05-14", "2026-05-13", "2026-04-21", "2026-04-20", "2026-05-21"]
    ingest_payments(
        [
            {"event_id": f"e{i}", "user_id": f"u{i % 2 + 3}", "paid_at": f"{day}T11:00:00+08:00"}
            for i, day in enumerate(days)
        ],
        NOW,
    )
    admissions.admit(5, ["u1"], now=NOW)
    lists.add_members(number, ["u2"])
    packing.drain_dirty()
    everybody = list(selectors.every_user(TODAY, mappers.registry(), by_day=True))
    assert [each.key for each in everybody] == ["u1", "u2", "u3", "u4"]
    for each in everybody:
        assert each == selectors.held_users([each.key], NOW)[each.key] == packed(each.key)
        end_of_day = NOW.replace(hour=15, minute=59)  # in UTC
        assert selectors.held_user(each.key, end_of_day).attributes[NAME] == each.attributes[NAME]
    without = list(selectors.every_user(TODAY, mappers.registry()))
    assert sum(sum(each.attributes.pop(NAME).days()) for each in everybody) == 4
    assert without == everybody
