"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
import redis as redis_py
from pytest_django.plugin import blocking_manager_key

from local import checks

COMMITS = pytest.StashKey[bool]()


@pytest.fixture
def redis() -> Iterator[redis_py.Redis]:
    """An empty Redis database of this worker's own."""
    from django.conf import settings

    client = redis_py.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that commit give back what migrations put in, such as the built-in attributes.

    It has to be all of them: one that does not restore the rows leaves Django's own (content types)
    with new ids, over which the next one stumbles. See `pytest_runtest_teardown`.
    """
    for item in items:
        marker = item.get_closest_marker("django_db")
        told = dict(marker.kwargs) if marker is not None else {}
        by_fixture = {"transactional_db", "live_server"}.intersection(
            getattr(item, "fixturenames", ())
        )
        if told.get("transaction") or by_fixture:
            told |= {"transaction": True, "serialized_rollback": True}
            item.add_marker(pytest.mark.django_db(**told), append=False)
            item.stash[COMMITS] = True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Put the migrations' rows back at once; after the last test the database is gone already.

    Django would do so before the next test that commits; with whole files dealt to workers, tests
    that only roll back run in between and need the rows as well.
    """
    yield
    if COMMITS in item.stash and nextitem is not None:
        from django.db import connection

        with item.config.stash[blocking_manager_key].unblock():
            connection.creation.deserialize_db_from_string(connection._test_serialized_contents)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What `bin/test` noticed before pytest ran, where a reader of the last lines sees it."""
    if failed := os.environ.get(checks.FAILED_CHECKS):
        terminalreporter.write_line(f"CHECKS FAILED (see above): {failed}", red=True, bold=True)
    if note := os.environ.get(checks.BROWSER_NOTE):
        terminalreporter.write_line(note, red=True, bold=True)
