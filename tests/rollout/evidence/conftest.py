"""A running stage that shows a loan to some users, with guards, and a clock that is given."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huidu.engine import bucketing
from huidu.model import FULL_THRESHOLD, PPM
from rollout.models import Arm, Exposure, Flag, Guard, Metric, Rollout, Snapshot, Stage
from rollout.services import events, publishing
from rollout.services.events import Event, Result

PLACE = "production"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(days: float = 0.0, **more: float) -> datetime:
    """A moment after the stage began."""
    return NOON + timedelta(days=days, **more)


class World:
    """One flag whose rollout stands in its first stage; `all` comes after it."""

    def __init__(self, share_ppm: int = 500_000, **stage: Any) -> None:
        self.flag = Flag.objects.create(environment=PLACE, key="weilidai", four_eyes=False)
        self.rollout = Rollout.objects.create(
            flag=self.flag, slot=1, salt="salt", started_at=NOON, status=Rollout.Status.RUNNING
        )
        full = share_ppm == PPM
        self.stage = Stage.objects.create(
            **{
                "rollout": self.rollout,
                "order": 1,
                "key": "some",
                "share_ppm": share_ppm,
                "threshold": FULL_THRESHOLD if full else bucketing.threshold_of(share_ppm),
                "status": Stage.Status.RUNNING,
                "entered_at": NOON,
                "drawn_at": NOON,
                "minimum_stay": timedelta(days=3),
                "maximum_stay": timedelta(days=10),
                "look_minutes": 60,
                "early_minutes": 0,
                **stage,
            }
        )
        self.last = Stage.objects.create(
            rollout=self.rollout,
            order=2,
            key="all",
            waiver="a test",
            waiver_by="ann",
            minimum_stay=timedelta(0),
        )
        self.rollout.current = self.stage
        self.rollout.save()
        self.publish()

    def publish(self) -> None:
        publishing.publish(PLACE, cause="test", by="test")
        # As if it had been published when the stage began.
        last = Snapshot.objects.latest("sequence")
        rows = Snapshot.objects.filter(pk=last.pk)
        blob, version = bytes(last.blob), last.version
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE rollout_snapshot DISABLE TRIGGER snapshot_is_immutable")
            rows.update(published_at=NOON - timedelta(minutes=1), blob=blob, version=version)
            cursor.execute("ALTER TABLE rollout_snapshot ENABLE TRIGGER snapshot_is_immutable")

    def guard(self, key: str, kind: str = "binary", **values: Any) -> Guard:
        """A metric and its guard; values that metrics have go to the metric."""
        columns = {"harm", "cap", "edges", "baseline_index", "margin_index", "label_en", "label_zh"}
        mine = {name: values.pop(name) for name in list(values) if name in columns}
        metric = Metric.objects.create(environment=PLACE, key=key, kind=kind, **mine)
        if kind != "gauge" and "limit_abs" not in values:
            values.setdefault("margin_rel", 0.5)
        return Guard.objects.create(stage=self.stage, metric=metric, **values)

    def send(self, *given: Event, now: datetime | None = None) -> Result:
        return events.ingest(PLACE, given, now=now or max(each.at for each in given))


def exposure(user: str, moment: datetime, event_id: str = "") -> Event:
    return Event(event_id or f"x-{user}-{moment.isoformat()}", "exposure", moment, user, "weilidai")


def outcome(
    user: str | None, metric: str, moment: datetime, value: float = 1.0, **more: Any
) -> Event:
    name = more.pop("event_id", f"o-{user}-{metric}-{moment.isoformat()}")
    return Event(name, "outcome", moment, user, None, metric, value, **more)


def complete(metric: str, moment: datetime) -> Event:
    return Event(f"c-{metric}-{moment.isoformat()}", "complete", moment, None, None, metric)


def live(
    world: World,
    users: Iterable[int],
    moment: datetime,
    *,
    seed: int,
    rates: dict[str, tuple[float, float]],
) -> None:
    """These users meet the flag and live on: `rates` per metric, for treated and control."""
    draw = random.Random(seed)
    names = [f"u{i}" for i in users]
    chunk = 2_000
    for start in range(0, len(names), chunk):
        part = names[start : start + chunk]
        world.send(*(exposure(each, moment) for each in part), now=moment)
        arm = dict(Exposure.objects.filter(user_id__in=part).values_list("user_id", "arm"))
        happened = [
            outcome(each, metric, moment)
            for each in part
            for metric, (treated, control) in rates.items()
            if draw.random() < (treated if arm.get(each) == Arm.TREATED else control)
        ]
        if happened:
            world.send(*happened, now=moment)
    if rates:
        world.send(*(complete(metric, moment) for metric in rates), now=moment)


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()
