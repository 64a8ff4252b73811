"""A filled store and a running check server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge.running import Running, Store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A Redis of this module's own, with flags, keys and users in it."""
    made = Store()
    made.fill()
    yield made
    made.close()


@pytest.fixture(scope="module")
def edge(store: Store) -> Iterator[Running]:
    """A check server for tests that leave store and server as they found them."""
    running = Running(store)
    yield running
    assert running.stop() in (0, -15), running.process.returncode


@pytest.fixture
def own_store() -> Iterator[Store]:
    """A Redis for one test, which may do to it what it likes."""
    made = Store()
    made.fill()
    yield made
    made.close()


@pytest.fixture
def own_edge(own_store: Store) -> Iterator[Running]:
    running = Running(own_store)
    yield running
    running.stop()
