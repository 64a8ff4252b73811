"""The sample deployment loads through the services, once, and shows a yes and a no."""

from __future__ import annotations

from collections import Counter

import pytest
from django.utils import timezone
from redis import Redis

from cohorts import mappers, selectors
from cohorts.models import DrawJob
from cohorts.services import draw_jobs
from huidu.engine import compile_snapshot
from huidu.wire import names, profile
from huidu.wire import snapshot as wire
from rollout.models import AuditEntry, Rollout, Stage
from rollout.services import demo
from rollout.services.audit import verify_chain
from tests.rollout.conftest import PLACE

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_sample_deployment_loads_once_and_answers_every_way(redis: Redis):
    list(demo.load(users=3_000))
    compiled = compile_snapshot(wire.decode(redis.get(names.snapshot(PLACE))))
    users = selectors.every_user(selectors.day_of(timezone.now()), mappers.registry())
    whys = Counter(compiled.check("weilidai", user).why for user in users)
    assert sum(whys.values()) == 3_000
    assert {"shown", "stage.not_drawn", "activity.too_low", "region.closed"} <= set(whys)
    assert whys["funding.not_reserved"] > 0
    stage = Stage.objects.get(key="five-percent", rollout__flag__key="weilidai")
    assert stage.drawn == round(stage.population * 0.05)
    assert verify_chain().whole
    before = AuditEntry.objects.count()
    list(demo.load(users=3_000))
    assert AuditEntry.objects.count() == before
    assert Rollout.objects.count() == 2


def test_a_sample_that_a_worker_would_draw_from_is_drawn_and_packed_as_its_rows_say(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draw_jobs, "AT_ONCE", 200)
    list(demo.load(users=300))
    stage = Stage.objects.get(key="five-percent", rollout__flag__key="weilidai")
    assert stage.rollout.current == stage
    assert stage.drawn == round(stage.population * 0.05)
    assert DrawJob.objects.get().state == DrawJob.State.DONE
    compiled = compile_snapshot(wire.decode(redis.get(names.snapshot(PLACE))))
    buckets = int(redis.hget(names.PROFILE_META, "buckets"))
    today = selectors.day_of(timezone.now())
    for user in selectors.every_user(today, mappers.registry()):
        key, field = profile.address(user.key, buckets)
        packed = profile.user_of(redis.hget(key, field), user.key, today, mappers.registry())
        assert compiled.check("weilidai", packed) == compiled.check("weilidai", user)
