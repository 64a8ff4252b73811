"""Exposures taken at the check."""

from __future__ import annotations

import json
from typing import Any

from huidu import reasons
from huidu.model import Admission
from huidu.wire import names
from tests.edge.running import Running, Store
from tests.waiting import wait_for


def sent(store: Store) -> list[dict[str, Any]]:
    entries: Any = store.client.xrange(names.EXPOSURES_STREAM)
    return [json.loads(fields[b"exposure"]) for _, fields in entries]


def met(store: Store) -> set[str]:
    """Whose exposures arrived. One may arrive again when a connection broke: the first counts."""
    return {each["user_id"] for each in sent(store)}


def test_shown_is_treated_and_not_drawn_is_control(own_store: Store, own_edge: Running) -> None:
    users = [f"u{number}" for number in range(30)]
    answers = {user: own_edge.see("half", user).json for user in users}
    wait_for(lambda: met(own_store) == set(users))
    for exposure in sent(own_store):
        answer = answers[exposure["user_id"]]
        assert exposure["arm"] == ("treated" if answer["visible"] else "control")
        assert exposure["why"] in (reasons.SHOWN, reasons.STAGE_NOT_DRAWN)
        assert (exposure["flag"], exposure["slot"], exposure["stage"]) == ("half", 2, "half")
        assert exposure["decision_id"] == answer["decision_id"]
        assert (exposure["environment"], exposure["sequence"]) == ("production", 1)
        assert exposure["weight"] == 1
    assert {each["arm"] for each in sent(own_store)} == {"treated", "control"}


def test_the_weight_frozen_at_the_draw_goes_with_the_exposure(
    own_store: Store, own_edge: Running
) -> None:
    own_store.hold("heavy", admissions={2: Admission(3, True)})
    own_edge.check("half", "heavy")
    wait_for(lambda: {each["weight"] for each in sent(own_store)} == {3})


def test_an_exposure_is_sent_once(own_store: Store, own_edge: Running) -> None:
    for _ in range(3):
        own_edge.check("half", "ada")
        own_edge.bulk("ada")
    own_edge.check("half", "bob")
    wait_for(lambda: "bob" in met(own_store))
    once = [each["user_id"] for each in sent(own_store)] == ["ada", "bob"]
    assert once or "edge.redis_lost" in own_edge.words()


def test_exposures_wait_while_redis_is_away(own_store: Store, own_edge: Running) -> None:
    users = {f"u{number}" for number in range(20)}
    for user in users:
        own_edge.check("half", user)
    own_store.server.stop()  # the last of them had no time to leave
    own_store.server.start()
    wait_for(lambda: met(own_store) == users)


def test_an_answer_without_profiles_is_no_exposure(own_store: Store, own_edge: Running) -> None:
    own_store.stall()
    # He is shown it on his caller's word, but the weight he was drawn with is not known.
    assert own_edge.check("half", "bob").json["value"] is True
    own_store.resume()
    wait_for(lambda: own_edge.ask("GET", "/health/ready").json["profiles_readable"])
    own_edge.check("half", "ada")
    wait_for(lambda: met(own_store) == {"ada"})
    own_edge.check("half", "bob")
    wait_for(lambda: met(own_store) == {"ada", "bob"})
