"""Sample users: seeded, plausible, and of nobody. 100,000 profiles and 28 days of payments.

All figures are made up. About one user in ten pays more than 20 times a week, 500 are staff, a few
per cent fail each gate, and for a few per cent something is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection, transaction

from cohorts.models import Profile

USERS: Final = 100_000
STAFF: Final = 500
DAYS: Final = 28
SEED: Final = 20_150_519

REGIONS: Final[dict[str, float]] = {
    "310000": 8.0,
    "110000": 7.5,
    "440300": 9.0,
    "440100": 7.0,
    "510100": 6.0,
    "500000": 5.5,
    "330100": 5.0,
    "420100": 4.5,
    "610100": 4.0,
    "320500": 4.0,
    "410100": 4.0,
    "320100": 3.5,
    "120000": 3.5,
    "430100": 3.0,
    "441900": 3.0,
    "370200": 2.5,
    "210100": 2.0,
    "330200": 2.5,
    "530100": 2.0,
    "340100": 2.5,
    "440600": 2.5,
    "350200": 2.0,
    "370100": 2.0,
    "230100": 1.5,
    "130100": 2.5,
    "450100": 1.5,
    "520100": 1.5,
    "650100": 1.0,
    "540100": 0.5,
    "630100": 0.8,
}
"""City or province code to its share of the users, in any unit."""

_PROFILE: Final = """
COPY cohorts_profile (user_id, region, staff, friends, assets_cny, yearly_spend_cny, risk_score,
    risk_scored_on, registered_at, age, student, consent, invited, holds_fenfu, emulator, wifi_risk,
    scripted, outstanding_balance_cny, optout, attributes, updated_at) FROM STDIN
"""
_SPREAD: Final = """
INSERT INTO cohorts_dailypayments (user_id, day, count, amount)
SELECT user_id, %s::date + position::int, count, round(count * ticket, 2)
FROM demo_payments, unnest(counts) WITH ORDINALITY AS spread (count, position)
WHERE count > 0
"""
_REMEMBER: Final = """
INSERT INTO cohorts_profilehistory (user_id, at, changes)
SELECT user_id, %s, jsonb_strip_nulls(to_jsonb(held) - 'user_id' - 'attributes' - 'updated_at')
FROM cohorts_profile AS held
WHERE NOT EXISTS (SELECT FROM cohorts_profilehistory)
"""


def load(now: datetime, today: date, users: int = USERS) -> int:
    """Write the sample users, unless there are profiles already; returns how many were written.

    Args:
        now: when the platform learned the facts.
        today: the last of the 28 days, in the platform's zone.
    """
    if Profile.objects.exists():
        return 0
    random = np.random.default_rng(SEED)
    names = [f"u{number:06d}" for number in range(1, users + 1)]
    counts, ticket = _payments(random, users)
    with transaction.atomic(), connection.cursor() as cursor:
        _copy(cursor, _PROFILE, _profiles(random, names, counts, now, today))
        cursor.execute(
            "CREATE TEMP TABLE demo_payments (user_id text, ticket numeric, counts smallint[])"
            " ON COMMIT DROP"
        )
        rows = (
            f"{name}\t{each:.2f}\t{{{','.join(map(str, row))}}}\n"
            for name, each, row in zip(names, ticket.tolist(), counts.tolist(), strict=True)
        )
        _copy(cursor, "COPY demo_payments FROM STDIN", rows)
        cursor.execute(_SPREAD, [today - timedelta(days=DAYS)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cohorts_profile, cohorts_dailypayments")
    return users


def remember(now: datetime) -> None:
    """Write where every user's history begins, so that past answers can be replayed."""
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER, [now])


def _payments(random: np.random.Generator, users: int) -> tuple[Any, Any]:
    """Counts per user and day, oldest first, and the usual amount of one payment (CNY)."""
    # Users differ by a lognormal factor; they pay on some days and then several times.
    rate = random.lognormal(mean=-0.5, sigma=1.15, size=users)
    active_days = np.clip(0.1 + 0.11 * rate, 0.04, 0.9)
    a_day = np.clip(rate / active_days, 1, 40)
    active = random.random((users, DAYS)) < active_days[:, None]
    counts = np.where(
        active, 1 + random.poisson(np.maximum(a_day - 1, 0)[:, None], active.shape), 0
    )
    ticket = np.clip(random.lognormal(3.2, 0.7, users), 1, 2_000)
    return counts.astype(np.int16), ticket


def _profiles(
    random: np.random.Generator, names: list[str], counts: Any, now: datetime, today: date
) -> Iterable[str]:
    users = len(names)
    codes = np.array(list(REGIONS))
    shares = np.array(list(REGIONS.values()))
    weekly = counts[:, -7:].sum(axis=1)
    region = codes[random.choice(len(codes), users, p=shares / shares.sum())]
    region = np.where(random.random(users) < 0.02, r"\N", region)
    staff = np.zeros(users, bool)
    staff[random.choice(users, min(STAFF, users // 20), replace=False)] = True
    age = np.clip(random.normal(34, 10, users).round(), 15, 80).astype(int)
    spend = np.round(random.lognormal(9.6, 0.9, users) * (0.6 + np.minimum(weekly, 40) / 25), 2)
    risk = np.round(100 * random.beta(1.6, 7, users), 2)
    calm = random.integers(0, 60, users)
    since = random.integers(60, 3_600, users)
    holds = random.random(users) < 0.08
    days = [(today - timedelta(days=back)).isoformat() for back in range(3_600)]
    columns = (
        names,
        region.tolist(),
        _bits(staff),
        random.poisson(np.minimum(20 + weekly * 4, 300)).tolist(),
        np.round(random.lognormal(8.0, 1.5, users), 2).tolist(),
        spend.tolist(),
        risk.tolist(),
        [days[back] for back in calm.tolist()],
        [days[back] for back in since.tolist()],
        age.tolist(),
        _bits((age < 24) & (random.random(users) < 0.5)),
        _bits(random.random(users) < 0.93, random.random(users) < 0.01),
        _bits(random.random(users) < 0.3),
        _bits(holds),
        _bits(random.random(users) < 0.02),
        np.round(100 * random.beta(1.2, 8, users), 2).tolist(),
        _bits(random.random(users) < 0.01),
        np.where(
            random.random(users) < 0.7, 0, np.round(random.lognormal(9.5, 1.2, users), 2)
        ).tolist(),
        _bits(random.random(users) < 0.015),
    )
    tail = f"{{}}\t{now.isoformat()}\n"
    for row in zip(*columns, strict=True):
        yield "\t".join(map(str, row)) + "\t" + tail


def _bits(claims: Any, unknown: Any = None) -> list[str]:
    """COPY's text for booleans, ``\\N`` where unknown."""
    text = np.where(claims, "t", "f").astype("<U2")
    if unknown is not None:
        text[unknown] = r"\N"
    listed: list[str] = text.tolist()
    return listed


def _copy(cursor: Any, command: str, rows: Iterable[str]) -> None:
    with cursor.copy(command) as copy:
        block: list[str] = []
        for row in rows:
            block.append(row)
            if len(block) == 2_000:
                copy.write("".join(block))
                block.clear()
        copy.write("".join(block))
