"""The packed profile: what goes in comes out, what is damaged is refused, windows slide."""

from __future__ import annotations

import contextlib
import datetime
import string
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huidu import history
from huidu.errors import ProfileError
from huidu.model import Admission, Attribute, AttributeType
from huidu.wire import ring
from huidu.wire.profile import Profile, address, buckets_for, decode, encode, user, user_of
from huidu.wire.record import FIRST_DAY, FLAGS, LAST_DAY

TODAY = datetime.date(2026, 5, 20)
DAY = datetime.timedelta(days=1)


def money(top: int) -> st.SearchStrategy[int | float]:
    return st.integers(0, top * 100).map(lambda fen: fen / 100 if fen % 100 else fen // 100)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


days = st.dates(FIRST_DAY, LAST_DAY)
counts = st.lists(
    st.integers(0, 5) | st.integers(0, 40) | st.integers(0, 10_000_000), max_size=ring.DAYS
)
numbers = st.integers(1, 1000)
custom_values = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=5), max_size=3)
)


@st.composite
def usual_profiles(draw: Callable[..., Any]) -> Profile:
    """All usual facts known and most of them small: mostly format 2, at the edges format 1."""
    updated = draw(st.dates(datetime.date(2009, 12, 30), datetime.date(2054, 11, 15)))
    near = st.integers(-70, 130).map(lambda days: updated + DAY * days)
    score = st.integers(0, 100) | money(100)
    facts: dict[str, Any] = {name: draw(st.booleans()) for name in FLAGS}
    facts |= {
        "updated": updated,
        "region": draw(st.integers(0, 9_999).map(lambda code: f"{code:04d}00")),
        "friends": draw(st.integers(0, 5_000)),
        "age": draw(st.integers(0, 110)),
        "assets_cny": draw(money(10**9)),
        "yearly_spend_cny": draw(money(10**9)),
        "outstanding_balance_cny": draw(st.just(0) | money(10**6)),
        "wifi_risk": draw(score),
        "risk_score": draw(score),
        "risk_scored_on": draw(near),
        "registered_at": draw(st.dates(datetime.date(2009, 6, 1), datetime.date(2056, 1, 1))),
    }
    packed = ring.pack(draw(counts))
    if packed:
        facts |= {"counts": packed, "last_day": draw(near)}
    if draw(st.booleans()):
        facts["admissions"] = {draw(numbers): Admission(3, draw(st.booleans()))}
    if draw(st.booleans()):
        facts["lists"] = frozenset(draw(st.lists(numbers, max_size=2)))
    return Profile(**facts)


@st.composite
def odd_profiles(draw: Callable[..., Any]) -> Profile:
    facts: dict[str, Any] = {
        "admissions": draw(
            st.dictionaries(
                numbers, st.builds(Admission, st.integers(1, 300), st.booleans()), max_size=4
            )
        ),
        "lists": frozenset(draw(st.lists(numbers, max_size=4))),
        "custom": draw(st.dictionaries(st.integers(100, 30_000), custom_values, max_size=4)),
    }
    if not draw(st.booleans()):
        return Profile(**facts)
    facts["updated"] = draw(days)
    for name in FLAGS:
        facts[name] = draw(maybe(st.booleans()))
    facts["region"] = draw(maybe(st.text(string.digits, min_size=6, max_size=6)))
    facts["friends"] = draw(maybe(st.integers(0, 2**31)))
    facts["age"] = draw(maybe(st.integers(0, 150)))
    for name in ("assets_cny", "yearly_spend_cny", "outstanding_balance_cny"):
        facts[name] = draw(maybe(money(10**11)))
    facts["wifi_risk"] = draw(maybe(money(100)))
    for name in ("registered_at", "applied_fenfu_at"):
        facts[name] = draw(maybe(days))
    if draw(st.booleans()):
        facts |= {"risk_score": draw(money(100)), "risk_scored_on": draw(days)}
    packed = ring.pack(draw(counts))
    if packed:
        facts |= {"counts": packed, "last_day": draw(days)}
    return Profile(**facts)


def profiles() -> st.SearchStrategy[Profile]:
    return odd_profiles() | usual_profiles()


@given(profiles())
@example(Profile())
@example(Profile(updated=TODAY))
def test_what_goes_in_comes_out(profile: Profile):
    assert decode(encode(profile)) == profile


@given(profiles(), st.data())
def test_a_cut_record_is_refused(profile: Profile, data: st.DataObject):
    record = encode(profile)
    cut = record[: data.draw(st.integers(0, len(record) - 1))]
    try:
        short = decode(cut)
    except ProfileError:
        return
    # The only cut that still reads is exactly before the custom facts, where a tail may end.
    assert msgspec.structs.replace(profile, custom={}) == short


@given(st.binary(max_size=80))
def test_noise_is_a_profile_or_a_profile_error(noise: bytes):
    with contextlib.suppress(ProfileError):
        assert isinstance(decode(noise), Profile)


@given(profiles(), st.binary(min_size=1, max_size=3))
def test_bytes_too_many_are_refused(profile: Profile, more: bytes):
    record = encode(msgspec.structs.replace(profile, admissions={}, lists=frozenset(), custom={}))
    with pytest.raises(ProfileError):
        decode(record + more)


def test_a_record_of_another_format_is_refused_by_its_number():
    with pytest.raises(ProfileError, match="expected format 1, got 3"):
        decode(bytes([3, 0, 0, 0]))


@given(counts)
def test_the_ring_returns_its_counts(each: list[int]):
    padded = (*each, *[0] * (ring.DAYS - len(each)))
    packed = ring.pack(each)
    assert ring.unpack(packed) == padded
    assert not packed or ring.length(packed + b"more", 0) == len(packed)


@given(counts, st.integers(-40, 40), st.integers(0, 40))
def test_the_ring_sums_any_window(each: list[int], skip: int, days: int):
    expected = sum(count for ago, count in enumerate(each) if skip <= ago < skip + days)
    assert ring.windows(ring.pack(each), skip, (days, 0)) == [expected, 0]


@pytest.mark.parametrize(
    ("each", "size"),
    [
        pytest.param([], 0, id="never paid"),
        pytest.param([1] + [0] * 29, 2, id="once, today"),
        pytest.param([1] * 30, 9, id="once a day"),
        pytest.param([4, 3, 5] * 10, 15, id="four a day"),
        pytest.param([1000] * 31, 63, id="a thousand a day"),
    ],
)
def test_the_ring_is_small(each: list[int], size: int):
    assert len(ring.pack(each)) <= size


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=ring.DAYS),
    st.integers(-1, 70),
    st.sampled_from([7, 30]),
)
def test_windows_slide_with_the_reader_and_need_no_midnight_job(
    each: list[int], later: int, length: int
):
    by_day = {TODAY - DAY * ago: count for ago, count in enumerate(each)}
    profile = Profile(updated=TODAY, last_day=TODAY, counts=ring.pack(each))
    today = TODAY + DAY * later
    expected = sum(by_day.get(today - DAY * ago, 0) for ago in range(length))
    assert profile.payments(today, length) == expected


def test_no_payments_are_0_when_facts_are_held_and_unknown_when_not():
    held = user(Profile(updated=TODAY), "u1", TODAY, {})
    none = {"weekly_payments": 0, "monthly_payments": 0, history.NAME: history.Paid()}
    assert held.attributes == none
    assert user(Profile(admissions={1: Admission(3, True)}), "u1", TODAY, {}).attributes == {}


def test_false_and_0_are_facts_and_unknown_is_absent():
    profile = Profile(updated=TODAY, staff=False, friends=0, assets_cny=0, student=None)
    facts = user(decode(encode(profile)), "u1", TODAY, {}).attributes
    assert (facts["staff"], facts["friends"], facts["assets_cny"]) == (False, 0, 0)
    assert "student" not in facts
    assert "region" not in facts


def test_the_risk_score_decays_at_the_reader():
    profile = Profile(updated=TODAY, risk_score=50, risk_scored_on=TODAY - DAY * 15)
    facts = user(decode(encode(profile)), "u1", TODAY, {}).attributes
    assert facts["risk_score"] == pytest.approx(30)


@given(profiles(), days)
def test_the_short_way_from_record_to_user_leads_to_the_same_user(
    profile: Profile, today: datetime.date
):
    registry = {"vip": Attribute(id=101, name="vip", type=AttributeType.INTEGER)}
    long_way = user(profile, "u1", today, registry)
    assert user_of(encode(profile), "u1", today, registry) == long_way


def test_today_may_be_told_as_an_ordinal():
    profile = Profile(updated=TODAY, last_day=TODAY, counts=ring.pack([2, 1]))
    assert user(profile, "u1", TODAY.toordinal(), {}) == user(profile, "u1", TODAY, {})


def test_custom_facts_are_named_by_the_registry():
    level = Attribute(id=101, name="vip_level", type=AttributeType.INTEGER)
    profile = Profile(updated=TODAY, custom={101: 4, 102: "of a deleted attribute"})
    facts = user(decode(encode(profile)), "u1", TODAY, {"vip_level": level}).attributes
    assert facts["vip_level"] == 4
    assert "of a deleted attribute" not in facts.values()


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        (Profile(staff=True), "updated"),
        (Profile(updated=TODAY, region="Shenzhen"), "region"),
        (Profile(updated=TODAY, friends=-1), "friends"),
        (Profile(updated=TODAY, assets_cny=float("nan")), "assets_cny"),
        (Profile(updated=TODAY, yearly_spend_cny=float("inf")), "yearly_spend_cny"),
        (Profile(updated=TODAY, risk_score=5), "risk_scored_on"),
        (Profile(updated=TODAY, registered_at=datetime.date(1969, 12, 31)), "registered_at"),
        (Profile(updated=TODAY, counts=ring.pack([1])), "last_day"),
        (Profile(updated=TODAY, custom={100: object()}), "custom"),
        (Profile(admissions={1: Admission(-1)}), "admissions"),
    ],
)
def test_what_a_record_cannot_hold_is_refused_with_its_place(profile: Profile, path: str):
    with pytest.raises(ProfileError) as refused:
        encode(profile)
    assert refused.value.path.startswith(path)


def test_addresses_are_frozen():
    """Written down once: a change would lose every record in Redis."""
    assert address("u1", 1024) == (b"pa:17d", b"%F\x85M]\xf1")
    assert address("u1", 1)[0] == b"p0:0"


def test_users_of_one_hash_have_their_own_fields():
    fields = {address(f"user-{number}", 1) for number in range(10_000)}
    assert len(fields) == 10_000


@pytest.mark.parametrize("users", [0, 1, 99, 1_000, 100_000, 1_000_000, 1_400_000_000])
def test_hashes_hold_about_a_hundred_users(users: int):
    buckets = buckets_for(users)
    assert buckets & (buckets - 1) == 0
    assert users / buckets <= 160
    assert users < 160 or users / buckets >= 80
