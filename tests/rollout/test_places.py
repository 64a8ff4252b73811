"""Funding partners and places: never more than a cap, once per user, and nobody loses one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from cohorts import selectors as who
from cohorts.models import Admission, DirtyProfile, Place
from cohorts.services import admissions, outbox, packing, rebuild, records, store
from huidu.errors import InputError
from huidu.model import User, place_of, place_slot
from huidu.wire import profile as wire
from rollout.explanations import tell
from rollout.models import AuditEntry, ChangeRequest, Flag, FundingPartner, PlacesGiven, Rollout
from rollout.selectors_funding import CapacityLeft, RoomNow, capacity_left, rooms
from rollout.services import changes, flags, funding, gates, places, places_told, rollouts
from rollout.services.answering import (
    compiled_snapshot,
    snapshot_in_force,
    standing,
    words_for,
)
from rollout.services.changing import ApprovalNeededError
from rollout.services.forget import forget_user
from tests.rollout.conftest import ANN, BOB, PLACE

NOON = datetime(2026, 3, 2, 4, tzinfo=UTC)  # noon in Shanghai
SHENZHEN, LHASA = "440300", "540100"
GATE = {
    "key": "places",
    "order": 9,
    "dimension": "funding",
    "why": "funding.no_capacity",
    "capacity": True,
}


def bank(flag: Flag, key: str, **values: Any) -> FundingPartner:
    defaults = {
        "key": key,
        "kind": "state",
        "is_open": True,
        "everywhere": not values.get("regions"),
        "share_ppm": 300_000,
        "total_cap": 100,
    }
    return funding.save_partner(flag, defaults | values, by=ANN, reason="a test", approved_by=BOB)


@pytest.fixture
def gated(running: Rollout) -> Rollout:
    """A running rollout whose users need a place."""
    gates.save_gate(running.flag, GATE, by=ANN, approved_by=BOB)
    running.refresh_from_db()
    return running


def take(rollout: Rollout, *users: str, region: str = SHENZHEN, now: datetime = NOON) -> list[int]:
    """The partner each user's place is from; -1 without a place."""
    taken = places.take(PLACE, rollout.slot, dict.fromkeys(users, region), now=now)
    return [taken.partners.get(user, -1) for user in users]


def given(partner: FundingPartner, on: date = date(2026, 3, 2)) -> tuple[int, int]:
    (room,) = rooms([partner], on)
    return room.today, room.total


def test_partners_are_tried_in_order_and_only_where_they_lend(gated: Rollout):
    local = bank(gated.flag, "local", order=1, regions=["440000"], total_cap=2)
    wide = bank(gated.flag, "wide", order=2)
    assert take(gated, "u1", "u2", "u3") == [local.pk, local.pk, wide.pk]
    assert take(gated, "u4", region=LHASA) == [wide.pk]
    assert given(local) == (2, 2)
    assert given(wide) == (2, 2)


def test_a_user_is_counted_once_however_often_he_asks(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=1)
    assert take(gated, "u1") == take(gated, "u1") == [partner.pk]
    assert take(gated, "u2") == [-1]
    assert take(gated, "u1", "u2") == [partner.pk, -1]
    assert given(partner) == (1, 1)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"is_open": False}, id="suspended"),
        pytest.param({"valid_to": date(2026, 3, 1)}, id="out of date"),
        pytest.param({"valid_from": date(2026, 3, 3)}, id="not yet valid"),
        pytest.param({"regions": [LHASA], "everywhere": False}, id="lends elsewhere"),
        pytest.param({"total_cap": 0}, id="no places"),
    ],
)
def test_no_place_is_given_by_a_partner_that_may_not(gated: Rollout, values: dict[str, Any]):
    bank(gated.flag, "a", **values)
    assert take(gated, "u1") == [-1]


def test_a_daily_cap_opens_again_at_midnight_in_shanghai(gated: Rollout):
    partner = bank(gated.flag, "a", daily_cap=1, total_cap=2)
    assert take(gated, "u1", "u2") == [partner.pk, -1]
    assert take(gated, "u2", now=NOON + timedelta(hours=11, minutes=59)) == [-1]
    assert take(gated, "u2", now=NOON + timedelta(hours=12)) == [partner.pk]
    assert take(gated, "u3", now=NOON + timedelta(days=9)) == [-1]


def test_workers_at_once_never_pass_a_cap(gated: Rollout):
    partner = bank(gated.flag, "a", daily_cap=50, total_cap=1_000)
    users = [f"u{number:03d}" for number in range(120)]

    def ask(worker: int) -> list[int]:
        try:
            mine = users[worker * 10 :] + users[: worker * 10]
            return [each for user in mine[::3] for each in take(gated, user)]
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert Place.objects.count() == 50
    assert given(partner) == (50, 50)


def test_suspending_and_lowering_a_cap_take_nothing_from_anybody(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=3)
    take(gated, "u1", "u2")
    funding.save_partner(gated.flag, {"total_cap": 1}, by=ANN, partner=partner)
    assert take(gated, "u1", "u2", "u3") == [partner.pk, partner.pk, -1]
    funding.save_partner(gated.flag, {"is_open": False}, by=ANN, partner=partner)
    assert take(gated, "u1", "u3") == [partner.pk, -1]


def test_only_what_may_let_more_in_waits_for_a_second_person(gated: Rollout):
    flags.update(gated.flag, {"four_eyes": True}, by=ANN, approved_by=BOB)
    gated.flag.refresh_from_db()
    partner = bank(gated.flag, "a", daily_cap=5, total_cap=10, regions=[SHENZHEN])

    def ask(**values: Any) -> ChangeRequest | None:
        partner.refresh_from_db()
        return changes.do_or_request(
            "partner.save", partner.pk, values, environment=PLACE, by=ANN, reason="a test"
        )

    for wider in (
        {"total_cap": 11},
        {"daily_cap": None},
        {"regions": [SHENZHEN, LHASA]},
        {"everywhere": True},
        {"valid_to": "2030-01-01"},
    ):
        filed = ask(**wider)
        assert filed is not None, wider
        changes.reject(filed, by=BOB, note="no")
    for narrower in ({"total_cap": 9}, {"daily_cap": 4}, {"label_en": "A"}, {"is_open": False}):
        assert ask(**narrower) is None, narrower
    filed = ask(is_open=True)
    assert filed is not None
    changes.approve(filed, by=BOB)
    partner.refresh_from_db()
    assert (partner.is_open, partner.total_cap, partner.daily_cap) == (True, 9, 4)
    with pytest.raises(ApprovalNeededError):
        funding.save_partner(gated.flag, {"key": "b", "kind": "city"} | OPEN, by=ANN)


OPEN = {"is_open": True, "everywhere": True, "share_ppm": 300_000, "total_cap": 1}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        pytest.param({"share_ppm": 299_999}, "share_ppm", id="contribution below the floor"),
        pytest.param({"regions": ["999999"]}, "regions[0]", id="no such region"),
        pytest.param({"everywhere": False}, "regions", id="lends nowhere"),
        pytest.param({"daily_cap": 0}, "daily_cap", id="no places a day"),
        pytest.param({"total_cap": -1}, "total_cap", id="fewer than none"),
        pytest.param({"total_cap": "many"}, "total_cap", id="not a number"),
        pytest.param({"kind": "pawnshop"}, "kind", id="no such kind of bank"),
        pytest.param({"colour": "red"}, "colour", id="no such field"),
    ],
)
def test_a_wrong_value_is_named(flag: Flag, values: dict[str, Any], path: str):
    with pytest.raises(InputError) as raised:
        funding.save_partner(flag, {"key": "a", "kind": "state"} | OPEN | values, by=ANN)
    assert raised.value.path == path


def test_a_rollback_returns_all_places_and_gives_no_more(gated: Rollout):
    partner = bank(gated.flag, "a", daily_cap=2, total_cap=2)
    take(gated, "u1", "u2")
    rollouts.rollback(gated, by=ANN, reason="harm")
    assert given(partner) == (0, 0)
    assert places.take(PLACE, gated.slot, {"u1": SHENZHEN}, now=NOON).closed
    assert PlacesGiven.objects.get().returned_at is not None


def test_a_kill_keeps_the_places_for_those_who_come_back(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=1)
    take(gated, "u1")
    flags.kill(gated.flag, by=ANN, reason="stop")
    assert places.take(PLACE, gated.slot, {"u2": SHENZHEN}, now=NOON).closed
    assert given(partner) == (1, 1)
    gated.flag.refresh_from_db()
    flags.resume(gated.flag, by=ANN, reason="go on", approved_by=BOB)
    assert take(gated, "u1", "u2") == [partner.pk, -1]


def test_a_released_place_goes_to_somebody_else(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=1)
    take(gated, "u1")
    places.release(Place.objects.get(), by=ANN, reason="the user asked")
    assert given(partner) == (0, 0)
    assert take(gated, "u2", "u1") == [partner.pk, -1]
    entry = AuditEntry.objects.filter(action="place.released").get()
    assert "u1" not in entry.target


def test_the_packed_profile_tells_of_the_place(gated: Rollout):
    partner = bank(gated.flag, "a")
    take(gated, "u1")
    ((_, profile),) = records.profiles(["u1"], {})
    assert profile is not None
    assert profile.admissions[place_slot(gated.slot)] == place_of(partner.pk)
    assert DirtyProfile.objects.filter(user_id="u1").exists()  # no Redis holds records here
    places.release(Place.objects.get(), by=ANN, reason="the user asked")
    assert records.profiles(["u1"], {}).__next__() == ("u1", None)


def test_full_is_not_said_while_a_profile_may_not_tell_of_a_place_yet(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=1)
    assert places.full_partners(PLACE, now=NOON).partners == {gated.slot: []}
    take(gated, "u1")
    assert places.full_partners(PLACE, now=NOON) == places.Full({}, ["u1"])
    DirtyProfile.objects.all().delete()  # as a packer does
    assert places.full_partners(PLACE, now=NOON).partners == {gated.slot: [partner.pk]}


def test_who_was_shown_the_flag_before_it_needed_places_keeps_it(running: Rollout):
    admissions.admit(running.slot, ["old"])
    admissions.admit(running.slot, ["drawn"], via=Admission.Via.DRAW)
    gates.save_gate(running.flag, GATE, by=ANN, approved_by=BOB)
    partner = bank(running.flag, "a", total_cap=0)
    assert take(running, "old", "drawn") == [0, -1]
    assert given(partner) == (0, 0)


def test_a_forgotten_users_place_is_deleted_and_stays_spent(gated: Rollout):
    partner = bank(gated.flag, "a", total_cap=1)
    take(gated, "u1")
    forget_user("u1", by=ANN, reason="asked for it")
    assert not Place.objects.exists()
    assert given(partner) == (1, 1)


def test_what_is_left_is_told_to_promotion(gated: Rollout):
    today = date(2026, 3, 2)
    assert capacity_left(gated, today) == CapacityLeft(0, 0)
    bank(gated.flag, "a", daily_cap=3, total_cap=10)
    bank(gated.flag, "b", is_open=False)
    take(gated, "u1")
    assert capacity_left(gated, today) == CapacityLeft(2, 9)
    gates.save_gate(
        gated.flag, {"enabled": False}, by=ANN, gate=gated.flag.gates.get(), approved_by=BOB
    )
    assert capacity_left(gated, today) is None


def test_a_capacity_gate_excuses_nobody_for_being_drawn(flag: Flag):
    with pytest.raises(InputError) as raised:
        gates.save_gate(flag, GATE | {"keeps_shown": True}, by=ANN)
    assert raised.value.path == "keeps_shown"


def test_users_with_new_places_are_packed_at_once_whatever_else_waits(gated: Rollout):
    partner = bank(gated.flag, "a")
    rebuild.rebuild_profiles(NOON)
    with transaction.atomic():
        outbox.mark_dirty(["somebody", "else"])
    taken = places.take(PLACE, gated.slot, {"u1": SHENZHEN}, now=NOON)
    packing.pack_marked(taken.new)
    assert set(DirtyProfile.objects.values_list("user_id", flat=True)) == {"somebody", "else"}
    key, field = wire.address("u1", store.read_meta().buckets)
    held: Any = store.client().hget(key.decode(), field)  # type: ignore[arg-type]
    assert wire.decode(held).admissions == {place_slot(gated.slot): place_of(partner.pk)}


def test_a_control_user_counts_only_where_a_drawn_one_would_have_found_room(gated: Rollout):
    bank(gated.flag, "a", regions=[SHENZHEN], total_cap=1)
    room = RoomNow(PLACE)
    assert room.for_user("weilidai", User("u1", {"region": SHENZHEN}))
    assert not room.for_user("weilidai", User("u1", {"region": LHASA}))
    assert not room.for_user("weilidai", User("u1", {}))
    take(gated, "u1", now=timezone.now())
    assert not RoomNow(PLACE).for_user("weilidai", User("u2", {"region": SHENZHEN}))
    assert RoomNow(PLACE).for_user("another", User("u2", {}))


def explained(rollout: Rollout, user: str, audience: str = "risk", region: str = SHENZHEN) -> Any:
    compiled, _ = compiled_snapshot(PLACE, snapshot_in_force(PLACE))
    held = who.held_users([user]).get(user) or User(user, {})
    known = User(user, {"region": region}, held.admissions)
    found = places_told.settled(compiled.explain("weilidai", known), standing(PLACE, "weilidai"))
    words = words_for(PLACE, "weilidai")
    return tell(found, compiled.flags["weilidai"], audience=audience, language="zh", words=words)


def test_an_explanation_tells_each_partner_and_takes_no_place(gated: Rollout):
    bank(gated.flag, "local", regions=[SHENZHEN], daily_cap=1, total_cap=9)
    bank(gated.flag, "far", regions=[LHASA])
    told = explained(gated, "u1")
    assert told["why"] == "funding.not_reserved"
    (step,) = [each for each in told["steps"] if each["kind"] == "gate"]
    local, far = step["details"]["partners"]
    assert (local["serves"], local["state"], local["left_today"]) == (True, "open", 1)
    assert (far["serves"], far["left_today"]) == (False, 100)
    assert not Place.objects.exists()
    (step,) = [e for e in explained(gated, "u1", "support")["steps"] if e["kind"] == "gate"]
    assert not any("left_today" in each for each in step["details"]["partners"])


def test_a_full_partner_is_told_with_the_day_places_come_again(gated: Rollout):
    bank(gated.flag, "local", regions=[SHENZHEN], daily_cap=1, total_cap=9)
    take(gated, "u1", now=timezone.now())
    assert explained(gated, "u1")["visible"]
    told = explained(gated, "u2", "customer")
    text = "名额已满，请稍后再来。如有疑问，可申请人工复核。"
    assert (told["why"], told["text"]) == ("funding.no_capacity", text)
    assert told["when"]["refill_at"].endswith("T00:00:00+08:00")
    assert explained(gated, "u3", region=LHASA)["why"] == "funding.no_capacity"
