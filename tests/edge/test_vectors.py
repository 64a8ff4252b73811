"""The conformance cases over HTTP: what the engine answers, the check server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from edge.context import said, sayable
from huidu import reasons, vectors
from huidu.errors import InputError
from huidu.wire import names, ofrep, snapshot
from huidu.wire.access import KeyKind
from tests.edge.running import BUCKETS, Running, Store
from tests.waiting import wait_for

ENVIRONMENT = "vectors"


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Store, Running]]:
    store = Store()
    store.client.hset(names.PROFILE_META, mapping={"buckets": BUCKETS})
    store.admit(KeyKind, environment=ENVIRONMENT)
    running = Running(store, environment_name=ENVIRONMENT)
    yield store, running
    running.stop()
    store.close()


def acceptable(suite: vectors.Suite, case: vectors.Case) -> bool:
    """Whether HTTP takes the question at all: it refuses what the engine holds for unknown."""
    context = {"targetingKey": case.user.key, **case.user.attributes}
    try:
        ofrep.targeting_key(context)
        said(context, sayable(suite.snapshot.attributes, KeyKind.SERVER))
    except InputError:
        return False
    return True


@pytest.mark.parametrize("name", vectors.SUITES)
def test_http_answers_the_vectors_as_the_engine_does(
    world: tuple[Store, Running], name: str
) -> None:
    store, edge = world
    suite = vectors.load(name)
    store.sequence += 1
    made = msgspec.structs.replace(suite.snapshot, sequence=store.sequence)
    store.client.set(names.snapshot(ENVIRONMENT), snapshot.encode(made))
    store.client.set(names.sequence(ENVIRONMENT), store.sequence)
    store.tell("snapshot")
    wait_for(lambda: f"edge.snapshot_taken sequence={store.sequence}" in edge.words())
    for case in suite.cases:
        user, expect = case.user, case.expect
        if case.needs_memory:
            store.hold(user.key, admissions=user.admissions, lists=user.lists)
        elif user.key:
            store.forget(user.key)
        answer = edge.check(case.flag, user.key, **user.attributes)
        if expect.why == reasons.FLAG_UNKNOWN:
            assert answer.status in (400, 404), case.description
        elif not acceptable(suite, case):
            assert answer.status == 400, case.description
        else:
            got = answer.json
            assert answer.status == 200, (case.description, got)
            assert (got["variant"], got["value"], got["reason"]) == (
                expect.variant,
                json.loads(json.dumps(expect.value)),
                expect.reason,
            ), case.description
            assert got["metadata"]["why"] == expect.why, case.description
            assert got["metadata"].get("stage") == expect.stage, case.description
            scalars = {
                key: value
                for key, value in expect.payload.items()
                if isinstance(value, (str, int, float))
            }
            assert scalars.items() <= got["metadata"].items(), case.description
