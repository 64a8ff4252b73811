"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis as redis_py
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

from local import checks

# The same examples on every machine, and no claim about its speed: a run that fails, fails again.
# Others are looked for with `bin/test --hypothesis-profile=explore tests/huidu`.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", UNHURRIED)
settings.register_profile("suite", UNHURRIED, derandomize=True)
settings.load_profile("suite")


@pytest.fixture
def redis() -> Iterator[redis_py.Redis]:
    """An empty Redis database of this worker's own."""
    from django.conf import settings

    client = redis_py.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def pytest_configure() -> None:
    """Passwords of tests guard nothing: their hash need not be slow, which takes a second each."""
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The test database; tests that commit give back what migrations put in."""
    from tests import tables

    with django_db_blocker.unblock():
        tables.keep_first_rows()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What `bin/test` noticed before pytest ran, where a reader of the last lines sees it."""
    if failed := os.environ.get(checks.FAILED_CHECKS):
        terminalreporter.write_line(f"CHECKS FAILED (see above): {failed}", red=True, bold=True)
    if note := os.environ.get(checks.BROWSER_NOTE):
        terminalreporter.write_line(note, red=True, bold=True)
