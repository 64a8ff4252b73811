"""The facts a check reads are the facts that decoding makes."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huidu.errors import ProfileError
from huidu.model import Attribute, AttributeType
from huidu.wire import ring
from huidu.wire.facts import BUILT_IN, Reading
from huidu.wire.profile import Profile, encode, user_of
from tests.huidu.wire.test_profile import TODAY, days, profiles

REGISTRY = {"vip": Attribute(id=101, name="vip", type=AttributeType.INTEGER)}
NAMES = {101: "vip"}
RING: dict[str, Any] = {"last_day": TODAY, "counts": ring.pack([1, 2, 3])}
FULL = Profile(updated=TODAY, region="440300", friends=300, assets_cny=12.5, **RING)


EVERY = frozenset({*BUILT_IN, "vip"})


@given(profiles(), days, st.frozensets(st.sampled_from(sorted(EVERY))) | st.just(EVERY))
def test_the_facts_asked_for_are_those_that_decoding_makes(
    profile: Profile, today: datetime.date, names: frozenset[str]
) -> None:
    record = encode(profile)
    user = user_of(record, "u", today, REGISTRY)
    facts, admissions, lists = Reading(names, NAMES).of(record, today.toordinal())
    asked = {name: value for name, value in user.attributes.items() if name in names}
    assert facts == asked
    assert {name: type(value) for name, value in facts.items()} == {
        name: type(value) for name, value in asked.items()
    }
    assert (admissions, lists) == (user.admissions, user.lists)


@pytest.mark.parametrize("record", [b"", b"\1", b"\0\0\0", b"\1\0\0\0left over", encode(FULL)[:7]])
def test_what_is_no_record_is_refused_at_once(record: bytes) -> None:
    with pytest.raises(ProfileError):
        Reading((), {}).of(record, TODAY.toordinal())


@pytest.mark.parametrize("record", [encode(FULL)[:-1], encode(FULL) + b"\1"])
def test_damage_is_found_where_a_fact_is_asked_for(record: bytes) -> None:
    facts, _, _ = Reading(["region"], {}).of(record, TODAY.toordinal())
    assert facts == {"region": "440300"}
    with pytest.raises(ProfileError):
        Reading(["region", "weekly_payments"], {}).of(record, TODAY.toordinal())


@given(st.binary(max_size=40))
def test_no_bytes_harm_a_reader(data: bytes) -> None:
    with contextlib.suppress(ProfileError):
        Reading(EVERY, NAMES).of(b"\1" + data, TODAY.toordinal())
