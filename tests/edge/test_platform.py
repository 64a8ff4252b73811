"""What SDKs load from the check server: the snapshot, and packed profiles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from huidu.model import MAX_ID_CHARACTERS, Admission
from huidu.sdk import Client
from huidu.wire import names, profile
from tests.edge.running import (
    ADMIN,
    BUCKETS,
    CLIENT,
    ENVIRONMENT,
    INGEST,
    SERVER,
    Response,
    Running,
    Store,
    bearer,
    flags,
)
from tests.waiting import wait_for

SNAPSHOT = "/api/v1/snapshot"


def packed(edge: Running, user: str, key: str = SERVER, method: str = "GET") -> Response:
    return edge.ask(method, f"/api/v1/profiles/{user}/packed", headers=bearer(key))


@pytest.mark.parametrize("key", [SERVER, ADMIN])
def test_a_packed_profile_is_the_record_in_redis(edge: Running, store: Store, key: str) -> None:
    answer = packed(edge, "ada", key)
    where, field = profile.address("ada", BUCKETS)
    assert (answer.status, answer.body) == (200, store.client.hget(where, field))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "no-store"


def test_head_tells_how_long_a_record_is(edge: Running) -> None:
    answer = packed(edge, "ada", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(packed(edge, "ada").body))


@pytest.mark.parametrize(
    ("user", "key", "status", "code"),
    [
        pytest.param("stranger", SERVER, 404, "profile.unknown", id="nobody"),
        pytest.param("ada", CLIENT, 403, "key.not_allowed", id="client key"),
        pytest.param("ada", INGEST, 403, "key.not_allowed", id="ingest key"),
        pytest.param("ada", "nonsense", 401, "key.unknown", id="no key"),
        pytest.param("", SERVER, 400, "input.invalid", id="empty"),
        pytest.param("%FF", SERVER, 400, "input.invalid", id="not UTF-8"),
        pytest.param("x" * MAX_ID_CHARACTERS, SERVER, 404, "profile.unknown", id="longest"),
        pytest.param("x" * (MAX_ID_CHARACTERS + 1), SERVER, 400, "input.invalid", id="too long"),
    ],
)
def test_profiles_are_refused_with_a_code(
    edge: Running, user: str, key: str, status: int, code: str
) -> None:
    answer = packed(edge, user, key)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


def test_while_redis_does_not_answer_no_profile_is_said_to_be_missing(
    own_edge: Running, own_store: Store
) -> None:
    own_store.stall()
    for _ in range(2):  # the one that waits in vain, and one after it
        answer = packed(own_edge, "ada")
        assert (answer.status, answer.json["error"]["code"]) == (503, "system.not_ready")
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("key", [SERVER, ADMIN])
def test_the_snapshot_is_the_published_blob(edge: Running, store: Store, key: str) -> None:
    blob = store.client.get(names.snapshot(ENVIRONMENT))
    answer = edge.ask("GET", SNAPSHOT, headers=bearer(key))
    assert (answer.status, answer.body) == (200, blob)
    version = edge.ask("GET", "/health/ready").json["snapshot"]
    assert answer.headers["etag"] == f'"{version}"'
    again = edge.ask("GET", SNAPSHOT, headers=bearer(key) | {"If-None-Match": f'"{version}"'})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == f'"{version}"'
    other = edge.ask("GET", SNAPSHOT, headers=bearer(key) | {"If-None-Match": '"other"'})
    assert other.status == 200
    head = edge.ask("HEAD", SNAPSHOT, headers=bearer(key))
    assert (head.body, head.headers["content-length"]) == (b"", str(len(answer.body)))


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(CLIENT, 403, "key.not_allowed"), (INGEST, 403, "key.not_allowed"), ("", 401, "key.unknown")],
)
def test_the_snapshot_is_for_servers(edge: Running, key: str, status: int, code: str) -> None:
    answer = edge.ask("GET", SNAPSHOT, headers=bearer(key))
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


def test_what_only_the_application_can_answer_goes_on_to_it(store: Store) -> None:
    running = Running(store, "--app", "tests.edge.behind:application")
    try:
        for headers in (bearer(SERVER) | {"Accept": "application/json"}, bearer(CLIENT), {}):
            assert running.ask("GET", SNAPSHOT, headers=headers).json == {"path": SNAPSHOT}
        assert running.ask("GET", SNAPSHOT, headers=bearer(SERVER)).body[:4] != b'{"pa'
    finally:
        running.stop()


# The SDK beside the check server


@pytest.fixture
def client(own_edge: Running) -> Iterator[Client]:
    made = own_edge.client()
    yield made
    made.close()


def test_the_sdk_with_held_facts_answers_as_the_check_server_does(
    own_edge: Running, own_store: Store, client: Client
) -> None:
    own_store.hold("drawn", admissions={2: Admission(weight=3, admitted=True)})
    own_store.hold("listed", lists=frozenset({9}))
    users = ["ada", "bob", "eve", "drawn", "listed", "stranger", "用户/1"]
    users += [f"half-{number}" for number in range(20)]
    seen = set()
    for user in users:
        for flag in flags():
            remote = own_edge.check(flag.key, user, app_version="8.1.0").json
            local = client.check(flag.key, user, {"app_version": "8.1.0"})
            assert (local.value, local.variant, local.reason, local.why) == (
                remote["value"],
                remote["variant"],
                remote["reason"],
                remote["metadata"]["why"],
            ), (user, flag.key)
            seen.add((flag.key, local.visible))
    assert seen >= {(key, shown) for key in ("half", "weilidai", "blocked") for shown in (0, 1)}


def test_the_sdk_hears_of_a_publication_and_loads_it_from_the_check_server(
    own_store: Store, client: Client
) -> None:
    assert client.visible("rate", "ada")
    wait_for(lambda: client.streaming)
    own_store.publish([flag for flag in flags() if flag.key != "rate"])
    wait_for(lambda: client.check("rate", "ada").why == "flag.unknown")


def test_the_sdk_hides_what_it_cannot_decide_while_redis_stands_still(
    own_store: Store, client: Client
) -> None:
    own_store.stall()
    answer = client.check("weilidai", "ada")
    assert (answer.visible, answer.reason) == (False, "ERROR")
