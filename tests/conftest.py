"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis as redis_py

from local import checks


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
    with new ids, over which the next one stumbles.
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What `bin/test` noticed before pytest ran, where a reader of the last lines sees it."""
    if failed := os.environ.get(checks.FAILED_CHECKS):
        terminalreporter.write_line(f"CHECKS FAILED (see above): {failed}", red=True, bold=True)
    if note := os.environ.get(checks.BROWSER_NOTE):
        terminalreporter.write_line(note, red=True, bold=True)
