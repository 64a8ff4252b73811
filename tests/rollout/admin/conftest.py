"""The small bank that tests of pages share, and an operator who may do everything."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.rollout.admin import world


@pytest.fixture
def bank(redis: object) -> world.World:
    return world.build(40)


@pytest.fixture
def operator(bank: world.World) -> Client:
    client = Client()
    client.force_login(world.people()[0], "django.contrib.auth.backends.ModelBackend")
    return client
