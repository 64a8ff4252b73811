"""How fast payments come in, beside the bare SQL statement, in one run on real servers.

    python bench/ingest.py [--events 100000]

Starts the PostgreSQL (fsync and synchronous_commit on) and Redis that `bin/up` uses. Results go to
bench/results/ingest.json. Rates depend on the machine and its neighbours; the ratios much less.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.servers import Postgres, Redis, socket_folder  # noqa: E402

NOW = datetime.datetime(2026, 5, 20, 4, tzinfo=datetime.UTC)
BATCH = 5_000
CDNOW = ROOT.parent / "shared" / "data" / "cdnow_purchases.csv.gz"


def events(many: int, users: int, prefix: str) -> list[dict[str, Any]]:
    """1 % duplicates, 2 % late by up to 6 days, as live traffic has."""
    chance = random.Random(prefix)
    made: list[dict[str, Any]] = []
    for number in range(many):
        if made and chance.random() < 0.01:
            made.append(chance.choice(made))
            continue
        late = chance.randint(1, 6) if chance.random() < 0.02 else 0
        at = NOW - datetime.timedelta(days=late, seconds=chance.randint(0, 40_000))
        made.append(
            {
                "event_id": f"{prefix}-{number}",
                "user_id": f"u{chance.randint(1, users)}",
                "paid_at": at.isoformat(),
                "amount_cny": chance.randint(1, 50_000) / 100,
            }
        )
    return made


def batches(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def bare(groups: list[list[dict[str, Any]]]) -> None:
    """Only ledger and daily counts, values ready made: the least that exact counting costs."""
    from django.db import connection

    statement = """
    WITH kept AS (
        INSERT INTO cohorts_paymentevent (event_id, user_id, day, paid_at, amount_cny)
        SELECT DISTINCT ON (e) e, u, (t AT TIME ZONE 'Asia/Shanghai')::date, t, a
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::numeric[]) AS s (e, u, t, a)
        ORDER BY e ON CONFLICT DO NOTHING RETURNING user_id, day, amount_cny
    )
    INSERT INTO cohorts_dailypayments AS held (user_id, day, count, amount)
    SELECT user_id, day, count(*), sum(amount_cny) FROM kept GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (user_id, day) DO UPDATE
    SET count = held.count + excluded.count, amount = held.amount + excluded.amount
    """
    names = ("event_id", "user_id", "paid_at", "amount_cny")
    for group in groups:
        with connection.cursor() as cursor:
            cursor.execute(statement, [[item[name] for item in group] for name in names])


def measure(many: int) -> dict[str, Any]:
    import msgspec
    from django.core.management import call_command
    from django.db import connection

    from cohorts import selectors
    from cohorts.services import draws, items, packing, rebuild
    from cohorts.services.ingest import ingest_payments, ingest_profiles

    users = max(many // 5, 1_000)
    rebuild.rebuild_profiles(NOW)
    rates: dict[str, float] = {}

    def rate(name: str, count: int, act: Callable[[], object]) -> None:
        rates[name] = round(count / seconds(act))

    warm = batches(events(10_000, users, "warm"))
    bare(warm[:1])
    for group in warm[1:]:
        ingest_payments(group, NOW, pack=False)
    first, second = batches(events(many, users, "a")), batches(events(many, users, "b"))
    rate("payments, bare statement", many, lambda: bare(first))
    rate(
        "payments, service",
        many,
        lambda: [ingest_payments(group, NOW, pack=False) for group in second],
    )
    bodies = [msgspec.json.encode({"payments": group}) for group in second]
    rate(
        "payments, service, replayed from JSON",
        many,
        lambda: [ingest_payments(items.read_payments(body), NOW, pack=False) for body in bodies],
    )
    chance = random.Random(5)
    people = [
        {"user_id": f"u{number}", "region": "440300", "age": chance.randint(18, 70), "staff": False}
        for number in range(1, users + 1)
    ]
    rate(
        "profiles, service",
        users,
        lambda: [ingest_profiles(group, NOW, pack=False) for group in batches(people)],
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cohorts_dirtyprofile")
        dirty = cursor.fetchall()[0][0]
        cursor.execute("ANALYZE")
    rate("users packed", dirty, lambda: packing.drain_dirty(seconds=600))
    day = selectors.day_of(NOW)
    registry = draws.Judge({}).registry
    rate("users judged", users, lambda: sum(1 for _ in selectors.every_user(day, registry)))
    rate(
        "users drawn from",
        users,
        lambda: draws.draw_stage(
            subject="bench#1",
            slot=1,
            salt="s",
            stage_key="five",
            share_ppm=50_000,
            weights=[{"rule": {">": [{"var": "weekly_payments"}, 8]}, "weight": 3}],
            now=NOW,
        ),
    )
    if CDNOW.exists():
        rate(
            "CDNOW rows imported",
            69_659,
            lambda: call_command("import_payments", CDNOW, verbosity=0),
        )
    one = [events(1, users, f"one-{number}") for number in range(200)]
    rates["single payments, committed and packed"] = round(
        200 / seconds(lambda: [ingest_payments(item, NOW) for item in one])
    )
    service = rates["payments, service"] / rates["payments, bare statement"]
    return {"per_second": rates, "service_to_bare": round(service, 2), "users": users}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    many = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sockets = socket_folder(home)
        servers = [Postgres(home / "postgres", sockets), Redis(home / "redis", sockets)]
        try:
            for server in servers:
                server.start()
            os.environ |= {
                "HUIDU_HOME": folder,
                "DATABASE_URL": servers[0].url,  # type: ignore[attr-defined]
                "REDIS_URL": servers[1].url,  # type: ignore[attr-defined]
                "DJANGO_SETTINGS_MODULE": "config.settings",
            }
            import django
            from django.core.management import call_command
            from django.db import connection

            django.setup()
            call_command("migrate", verbosity=0)
            result = measure(many)
            with connection.cursor() as cursor:
                cursor.execute("SHOW server_version")
                version = cursor.fetchall()[0][0]
            connection.close()
            connection.close_pool()
        finally:
            for server in reversed(servers):
                server.stop()
    told = {
        "command": f"python bench/ingest.py --events {many}",
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, shared",
        "versions": {"python": platform.python_version(), "postgresql": version},
        **result,
    }
    text = json.dumps(told, indent=2)
    print(text)
    (ROOT / "bench" / "results" / "ingest.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
