"""Facts made on demand are the facts that decoding makes."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given

from huidu.errors import ProfileError
from huidu.model import Attribute, AttributeType
from huidu.wire import ring
from huidu.wire.facts import BUILT_IN, Facts, facts_of
from huidu.wire.profile import Profile, encode, user_of
from tests.huidu.wire.test_profile import TODAY, days, profiles

REGISTRY = {"vip": Attribute(id=101, name="vip", type=AttributeType.INTEGER)}
NAMES = {101: "vip"}
RING: dict[str, Any] = {"last_day": TODAY, "counts": ring.pack([1, 2, 3])}
FULL = Profile(updated=TODAY, region="440300", friends=300, assets_cny=12.5, **RING)


@given(profiles(), days)
def test_each_fact_is_the_one_that_decoding_makes(profile: Profile, today: datetime.date) -> None:
    record = encode(profile)
    user = user_of(record, "u", today, REGISTRY)
    facts, admissions, lists = facts_of(record, today.toordinal(), NAMES)
    made = {}
    for name in [*BUILT_IN, "vip"]:
        with contextlib.suppress(KeyError):
            made[name] = facts[name]
    assert made == user.attributes
    assert {name: type(value) for name, value in made.items()} == {
        name: type(value) for name, value in user.attributes.items()
    }
    assert (admissions, lists) == (user.admissions, user.lists)


def test_what_was_made_once_is_kept() -> None:
    facts, _, _ = facts_of(encode(FULL), TODAY.toordinal(), {})
    assert facts["weekly_payments"] == 6
    assert dict(facts) == {"weekly_payments": 6, "monthly_payments": 6}


@pytest.mark.parametrize("record", [b"", b"\1", b"\0\0\0", b"\1\0\0\0left over", encode(FULL)[:7]])
def test_what_is_no_record_is_refused_at_once(record: bytes) -> None:
    with pytest.raises(ProfileError):
        facts_of(record, TODAY.toordinal(), {})


@pytest.mark.parametrize("record", [encode(FULL)[:-1], encode(FULL) + b"\1"])
def test_damage_nobody_met_is_found_by_looking_at_all(record: bytes) -> None:
    facts, _, _ = facts_of(record, TODAY.toordinal(), {})
    assert facts["region"] == "440300"
    assert isinstance(facts, Facts)
    with pytest.raises(ProfileError):
        facts.verify()
    with pytest.raises(ProfileError):
        facts["weekly_payments"]
