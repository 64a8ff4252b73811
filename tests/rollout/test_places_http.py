"""Places over HTTP: real check servers, a real desk, PostgreSQL and a Redis that may die."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cohorts.models import Place, Profile
from cohorts.services import rebuild
from rollout.models import Rollout
from rollout.services import flags, funding, keys, publishing, store
from rollout.services.desk import Desk
from tests.edge.running import Running, Store
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.test_places import LHASA, bank, gated
from tests.waiting import PATIENCE, wait_for

__all__ = ["gated"]
TOKEN = "hd_server_" + "t" * 24
NO_PLACE = "funding.no_capacity"
UNAVAILABLE = "funding.unavailable"


class Shop:
    """Two check servers, and a desk that can be closed."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.redis = Store()
        self.edges: list[Running] = []
        self._stop = Event()
        self._desk: Thread | None = None

    def open_desk(self) -> None:
        self._stop = Event()
        self._desk = Thread(target=self._serve, args=(self._stop,))
        self._desk.start()

    def _serve(self, stop: Event) -> None:
        try:
            Desk("test").run(stop.is_set)
        finally:
            connection.close()

    def close_desk(self) -> None:
        self._stop.set()
        if self._desk is not None:
            self._desk.join()

    def see(self, user: str, edge: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = self.edges[edge].see("weilidai", user, key=TOKEN).json
        return answer

    def close(self) -> None:
        self.close_desk()
        for edge in self.edges:
            edge.stop()
        self.redis.close()


@pytest.fixture
def shop(gated: Rollout, settings: Any) -> Iterator[Shop]:
    made = Shop(gated)
    settings.REDIS_URL = made.redis.url
    store.client.cache_clear()
    try:
        Profile.objects.bulk_create(
            Profile(user_id=user, region=region, updated_at=timezone.now())
            for user, region in [
                *((f"u{number:03d}", "440300") for number in range(300)),
                ("far", LHASA),
                ("nowhere", None),
            ]
        )
        keys.create(PLACE, "server", "a test", by=ANN, token=TOKEN)
        publishing.publish(PLACE, cause="a test", by="ann")
        publishing.publish_access()
        rebuild.rebuild_profiles(timezone.now())
        made.edges = [Running(made.redis), Running(made.redis)]
        made.open_desk()
        yield made
    finally:
        made.close()
        store.client.cache_clear()


def ask_until_told(shop: Shop, users: list[str], clients: int) -> dict[str, str]:
    """What each user was told at last; clients go on asking while nobody can tell."""

    def told(user: str, edge: int) -> str:
        deadline = time.monotonic() + 2 * PATIENCE
        for turn in count(edge):
            try:
                answer = shop.see(user, turn % len(shop.edges))
            except (AssertionError, OSError, http.client.HTTPException, json.JSONDecodeError):
                answer = {"why": UNAVAILABLE}
            if answer["why"] not in (UNAVAILABLE, "system.error"):
                return str(answer["why"])
            if time.monotonic() > deadline:
                break
            # A desk that was late once is not asked again before it speaks, within a second.
            time.sleep(0.02)
        return "nothing"

    with ThreadPoolExecutor(clients) as pool:
        answers = pool.map(lambda i: told(users[i], i % 2), range(len(users)))
        return dict(zip(users, answers, strict=True))


def test_a_place_is_taken_by_the_check_and_kept(shop: Shop):
    partner = bank(shop.rollout.flag, "a", regions=["440000"], total_cap=2)
    wait_for(lambda: shop.see("far")["why"] == NO_PLACE)
    wait_for(lambda: shop.see("u001")["visible"])
    wait_for(lambda: shop.see("u001")["payload"] == {"funding_partner": "a"})
    wait_for(lambda: shop.see("u001", edge=1)["visible"])
    wait_for(lambda: shop.edges[0].bulk("u002", key=TOKEN) and Place.objects.count() == 2)
    wait_for(lambda: shop.see("u003")["why"] == NO_PLACE)
    assert shop.see("nowhere")["why"] == "data.missing"
    funding.save_partner(
        shop.rollout.flag, {"total_cap": 3}, by=ANN, partner=partner, approved_by=BOB
    )
    wait_for(lambda: shop.see("u003")["visible"])
    funding.save_partner(shop.rollout.flag, {"is_open": False}, by=ANN, partner=partner)
    assert Place.objects.count() == 3
    shop.close_desk()
    for user in ("u001", "u002", "u003"):  # nobody is there to give another
        wait_for(lambda user=user: shop.see(user)["visible"])
    wait_for(lambda: shop.see("u004")["why"] == NO_PLACE)


def test_without_a_desk_only_those_with_a_place_are_shown(shop: Shop):
    partner = bank(shop.rollout.flag, "a", total_cap=9)
    wait_for(lambda: shop.see("u001")["visible"])
    shop.close_desk()
    waited = shop.edges[0].see("weilidai", "u002", key=TOKEN)
    assert (waited.json["why"], waited.json["reason"]) == (UNAVAILABLE, "ERROR")
    wait_for(lambda: shop.see("u001")["visible"])
    shop.redis.stall()
    assert not shop.see("u001")["visible"]  # nobody can say what is in the profile
    shop.redis.resume()
    shop.open_desk()
    wait_for(lambda: shop.see("u002")["visible"])
    flags.kill(shop.rollout.flag, by=ANN, reason="stop")
    wait_for(lambda: shop.see("u003")["why"] == "killed")
    assert Place.objects.filter(partner=partner.pk).count() == 2


def test_exactly_the_cap_is_admitted_although_a_check_server_is_killed(shop: Shop):
    bank(shop.rollout.flag, "a", total_cap=30)
    bank(shop.rollout.flag, "b", total_cap=30, order=2)
    wait_for(lambda: shop.see("u299")["visible"])
    users = [f"u{number:03d}" for number in range(200)] * 2
    killer = Thread(target=lambda: _kill_when(shop, 20))
    killer.start()
    told = ask_until_told(shop, users, clients=16)
    killer.join()
    assert Counter(told.values()).keys() <= {"shown", NO_PLACE}
    admitted = set(Place.objects.values_list("user_id", flat=True)) - {"u299"}
    assert Place.objects.count() == 60
    # Who was granted a place while his check server died finds it by asking once more.
    again = ask_until_told(shop, sorted(admitted), clients=8)
    assert set(again.values()) == {"shown"}
    assert {user for user, why in told.items() if why == "shown"} <= admitted


def test_a_redis_that_dies_midway_lets_nobody_in_beyond_the_cap_and_loses_nobody(shop: Shop):
    bank(shop.rollout.flag, "a", total_cap=40)
    wait_for(lambda: shop.see("u299")["visible"])
    before = ask_until_told(shop, [f"u{number:03d}" for number in range(20)], clients=8)
    server = shop.redis.server
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert shop.see("u150")["why"] in (UNAVAILABLE, "data.missing")
    server.start()
    rebuild.heal_profiles(timezone.now())
    wait_for(lambda: shop.see("u021")["visible"])
    after = ask_until_told(shop, [f"u{number:03d}" for number in range(120)], clients=16)
    assert Place.objects.count() == 40
    assert {user for user, why in before.items() if why == "shown"} <= {
        user for user, why in after.items() if why == "shown"
    }
    assert Counter(after.values()).keys() == {"shown", NO_PLACE}


def _kill_when(shop: Shop, given: int) -> None:
    try:
        wait_for(lambda: Place.objects.count() >= given)
        shop.edges[1].process.send_signal(signal.SIGKILL)
    finally:
        connection.close()
