"""The world an edge server is measured in: a hundred flags, and users with every usual fact."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from huidu.model import Flag  # noqa: E402
from huidu.wire import profile, ring  # noqa: E402
from tests.edge.running import ZONE, Store, flags, rollout  # noqa: E402

USERS = 100_000
BULK_FLAGS = 100


def user_number(number: int, today: date) -> profile.Profile:
    """One of the users: every usual fact is known, and payments on most days."""
    return profile.Profile(
        updated=today,
        region="440300",
        staff=False,
        friends=number % 500,
        assets_cny=number,
        yearly_spend_cny=number % 20_000,
        risk_score=number % 50,
        risk_scored_on=today,
        wifi_risk=number % 30,
        registered_at=today - timedelta(days=number % 2_000),
        age=18 + number % 60,
        student=False,
        consent=True,
        invited=True,
        holds_fenfu=False,
        emulator=False,
        scripted=False,
        optout=False,
        outstanding_balance_cny=0,
        last_day=today,
        counts=ring.pack([(number >> day) % 4 for day in range(31)]),
    )


def fill(store: Store) -> None:
    """A hundred flags and all users."""
    store.fill()
    more = [
        Flag(key=f"flag-{number}", version=1, gates=flags()[0].gates, rollout=rollout(100 + number))
        for number in range(BULK_FLAGS - 1)
    ]
    store.publish([flags()[0], *more])
    today = datetime.now(ZONE).date()
    buckets = profile.buckets_for(USERS)
    pipe = store.client.pipeline(transaction=False)
    for number in range(USERS):
        key, field = profile.address(f"u{number}", buckets)
        pipe.hset(key, field, profile.encode(user_number(number, today)))
        if number % 5_000 == 0:
            pipe.execute()
    pipe.execute()
    store.client.hset("huidu:profiles", mapping={"buckets": buckets})
    store.tell("snapshot")
