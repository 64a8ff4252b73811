"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py


@pytest.fixture
def redis() -> Iterator[redis_py.Redis]:
    """An empty Redis database of this worker's own."""
    from django.conf import settings

    client = redis_py.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()
