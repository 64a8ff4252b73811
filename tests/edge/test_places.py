"""Places at the check server: what it says by itself, and what it waits for."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from msgspec.structs import replace

from huidu import reasons
from huidu.model import Capacity, Flag, Gate, Partner, place_of, place_slot
from huidu.wire import names, places
from tests.edge.running import ENVIRONMENT, ZONE, Running, Store, flags, rollout
from tests.waiting import wait_for

SLOT = 9


def loan(**gate: Any) -> Flag:
    banks = [
        Partner(number=3, key="south", regions=frozenset({"440000"})),
        Partner(number=4, key="closed", everywhere=True, is_open=False),
    ]
    values = {"absolute": True, "why": "funding.no_capacity"} | gate
    capacity = Gate(key="places", dimension="funding", capacity=Capacity(partners=banks), **values)
    return Flag(
        key="loan",
        version=1,
        gates=[capacity],
        rollout=rollout(SLOT),
        allow_list=frozenset({"guest"}),
        record_on_check=True,
    )


def also(*gates: Gate, partner: Partner | None = None) -> Flag:
    """The loan with more gates, or with one more partner."""
    made = loan()
    if partner is not None:
        (gate,) = made.gates
        assert gate.capacity is not None
        wider = replace(gate.capacity, partners=[*gate.capacity.partners, partner])
        made = replace(made, gates=[replace(gate, capacity=wider)])
    return replace(made, version=2, gates=[*gates, *made.gates])


@pytest.fixture
def asked(own_store: Store) -> Store:
    own_store.publish([*flags(), loan()])
    return own_store


@pytest.fixture
def shop(asked: Store, own_edge: Running) -> Running:
    return own_edge


def why(edge: Running, user: str, **context: Any) -> str:
    said = edge.check("loan", user, **context).json
    return f"{said['reason']} {said['metadata']['why']}"


def tell(store: Store, *full: int, environment: str = ENVIRONMENT) -> None:
    room = places.Room(environment, {SLOT: list(full)})
    wait_for(lambda: store.client.publish(names.ROOM_CHANNEL, places.encode_room(room)) == 1)


def give(store: Store, partner: int) -> int:
    """Answer every request of the stream as a desk would; how many there were."""
    entries: Any = store.client.xrange(names.PLACES_STREAM)
    asked = [places.decode_request(fields[b"request"]) for _, fields in entries]
    for each in asked:
        replies = places.encode_replies([places.Reply(each.number, partner)])
        store.client.publish(each.reply_to, replies)
    store.client.delete(names.PLACES_STREAM)
    return len(asked)


@contextmanager
def desk(store: Store, partner: int) -> Iterator[None]:
    """Answers all requests alike until it is left."""
    done = Event()

    def serve() -> None:
        while not done.wait(0.005):
            tell(store)
            give(store, partner)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_what_needs_no_desk_is_said_at_once(asked: Store, shop: Running):
    place = {place_slot(SLOT): place_of(3)}
    asked.hold("owner", admissions=place)
    answer = shop.check("loan", "owner").json
    assert (answer["value"], answer["metadata"]["funding_partner"]) == (True, "south")
    assert why(shop, "bob") == "TARGETING_MATCH funding.no_capacity"  # nobody serves Chengdu
    assert why(shop, "stranger") == "TARGETING_MATCH data.missing"
    assert not asked.client.exists(names.PLACES_STREAM)


def test_a_silent_desk_costs_one_check_its_deadline_and_the_others_nothing(
    asked: Store, shop: Running
):
    assert why(shop, "ada") == "ERROR funding.unavailable"
    assert asked.client.xlen(names.PLACES_STREAM) == 1
    assert why(shop, "ada") == "ERROR funding.unavailable"
    assert asked.client.xlen(names.PLACES_STREAM) == 1, "the second was not even sent"
    tell(asked)
    wait_for(lambda: why(shop, "ada") and asked.client.xlen(names.PLACES_STREAM) > 1)


def test_full_partners_are_told_from_memory_until_room_is_announced(asked: Store, shop: Running):
    tell(asked, 3, environment="staging")
    tell(asked, 3)
    wait_for(lambda: why(shop, "ada") == "TARGETING_MATCH funding.no_capacity")
    asked.client.delete(names.PLACES_STREAM)
    tell(asked, 3)
    assert why(shop, "ada") == "TARGETING_MATCH funding.no_capacity"
    assert not asked.client.exists(names.PLACES_STREAM)
    tell(asked)
    wait_for(lambda: why(shop, "ada") == "ERROR funding.unavailable")


@pytest.fixture(scope="module")
def slow_desk(store: Store) -> Iterator[Running]:
    """A check server where a check waits until a test gives it its place."""
    running = Running(store, module="tests.edge.patient")
    yield running
    running.stop()


STAFF = Gate(
    key="staff", dimension="staged", why="stage.not_internal", rule={"==": [{"var": "staff"}, True]}
)
WIDER = Partner(number=5, key="west", everywhere=True)


@pytest.mark.parametrize("together", [False, True], ids=["single", "bulk"])
@pytest.mark.parametrize(
    ("user", "later", "found"),
    [
        pytest.param("ada", loan(), "TARGETING_MATCH shown south", id="nothing"),
        pytest.param("ada", replace(loan(), killed=True), "DISABLED killed", id="killed"),
        pytest.param("ada", None, "FLAG_NOT_FOUND", id="gone"),
        pytest.param(
            "ada", also(STAFF), "TARGETING_MATCH shown south", id="a fact nobody read before"
        ),
        pytest.param(
            "dan", also(STAFF), "TARGETING_MATCH stage.not_internal", id="a gate that refuses"
        ),
        pytest.param(
            "ada", also(partner=WIDER), "TARGETING_MATCH shown south", id="one more partner"
        ),
    ],
)
def test_a_check_that_waited_for_its_place_is_answered_by_the_newest_snapshot(
    store: Store, slow_desk: Running, user: str, later: Flag | None, found: str, together: bool
):
    """Whatever changed meanwhile, above all a kill, and with the facts that the change asks for."""

    def answer() -> str:
        if together:
            said = next((e for e in slow_desk.bulk(user).json["flags"] if e["key"] == "loan"), None)
        else:
            said = slow_desk.check("loan", user).json
        if said is None or "errorCode" in said:
            return "FLAG_NOT_FOUND" if said is None else str(said["errorCode"])
        told = said["metadata"]
        words = (said["reason"], told["why"], told.get("funding_partner"))
        return " ".join(filter(None, words))

    def publish(*loans: Flag) -> None:
        made = store.publish([*flags(), *loans])
        wait_for(lambda: slow_desk.metric("huidu_snapshot_sequence") == made.sequence)

    today = datetime.datetime.now(ZONE).date()
    store.hold("dan", region="440300", staff=False, updated=today)
    publish(loan())
    tell(store)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(answer)
        wait_for(lambda: store.client.exists(names.PLACES_STREAM))
        publish(*([] if later is None else [later]))
        assert not waiting.done()
        assert give(store, 3) == 1
        assert waiting.result() == found


@pytest.mark.parametrize(
    ("partner", "found"),
    [
        pytest.param(3, "TARGETING_MATCH shown", id="a place"),
        pytest.param(places.NO_ROOM, "TARGETING_MATCH funding.no_capacity", id="no room"),
        pytest.param(places.CLOSED, "ERROR funding.unavailable", id="nobody gives places"),
    ],
)
def test_the_desks_word_decides(asked: Store, shop: Running, partner: int, found: str):
    def in_bulk() -> str:
        (told,) = [each for each in shop.bulk("ada").json["flags"] if each["key"] == "loan"]
        return f"{told['reason']} {told['metadata']['why']}"

    with desk(asked, partner):
        wait_for(lambda: why(shop, "ada") == found)
        wait_for(lambda: in_bulk() == found)


def test_nobody_is_let_in_while_profiles_cannot_be_read(asked: Store, shop: Running):
    tell(asked)
    asked.stall()
    assert why(shop, "ada", region="440300") == "ERROR funding.unavailable"
    assert why(shop, "bob", region="510100") == "ERROR funding.unavailable"
    assert why(shop, "guest", region="440300") == "ERROR funding.unavailable"


def test_a_gate_that_is_not_absolute_excuses_the_allow_list(asked: Store, shop: Running):
    asked.publish([*flags(), loan(absolute=False)])
    wait_for(lambda: why(shop, "guest") == "TARGETING_MATCH allowed.list")


def test_a_local_check_takes_no_place(asked: Store, shop: Running):
    today = datetime.datetime.now(ZONE).date()
    place = {place_slot(SLOT): place_of(3)}
    asked.hold("owner", region="440300", updated=today, admissions=place)
    with_held = shop.client()
    try:
        assert with_held.check("loan", "owner").visible
        answer = with_held.check("loan", "ada")
        assert (answer.why, answer.reason) == (reasons.FUNDING_NOT_RESERVED, reasons.ERROR)
        assert not with_held.visible("loan", "ada")
    finally:
        with_held.close()
    assert not asked.client.exists(names.PLACES_STREAM)
