"""Ticks do what requests left, and bear a Redis that is away."""

from __future__ import annotations

import pytest
import redis as redis_py

from cohorts import tasks
from cohorts.models import DirtyProfile
from cohorts.services import store
from cohorts.services.ingest import ingest_payments
from tests.cohorts.conftest import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

PAYMENT = {"event_id": "e1", "user_id": "u1", "paid_at": "2026-05-20T10:00:00+08:00"}


def test_the_healer_and_the_drain_bring_an_empty_redis_up(redis):
    ingest_payments([PAYMENT], NOW, pack=False)
    assert tasks.drain_profiles() == 0
    assert tasks.heal_profiles() == 1
    assert tasks.drain_profiles() == 1
    assert tasks.drain_profiles() == 0


def test_ticks_bear_a_redis_that_is_away(packed, settings):
    ingest_payments([PAYMENT], NOW, pack=False)
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with pytest.raises(redis_py.ConnectionError):
        store.read_meta()
    assert tasks.drain_profiles() == 0
    assert tasks.heal_profiles() == 0
    assert DirtyProfile.objects.exists()


def test_the_schedule_names_tasks_that_exist():
    assert all(hasattr(tasks, name.rpartition(".")[2]) for name in tasks.SCHEDULE)
