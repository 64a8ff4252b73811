"""How long packing everybody anew takes, and where the time goes.

    python bench/rebuild.py [--users 200000]

Starts a PostgreSQL and a Redis of its own in a temporary folder, makes so many users by SQL (all
usual facts, six days with payments in the last month, one in seven remembered by a rollout, one in
a hundred on a list; one in fifty is known by such a row alone), flushes Redis and runs
`cohorts.services.rebuild.rebuild_profiles`. Where other work runs on the machine, the processor
seconds of Python, PostgreSQL and Redis together say what one core would need. Results go to
bench/results/rebuild.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.review import cpu_of_postgres, servers  # noqa: E402

_RATE: Final = "exp(2 * random() - 1)"
MAKE: Final = (
    # Ids look like openids: nothing in their order tells anything.
    "CREATE TEMP TABLE made AS SELECT 'o' || substr(md5(i::text), 1, 27) AS user_id, i"
    " FROM generate_series(1, %(users)s) AS t (i)",
    "INSERT INTO cohorts_profile (user_id, region, staff, friends, assets_cny, yearly_spend_cny,"
    " risk_score, risk_scored_on, registered_at, age, student, consent, invited, holds_fenfu,"
    " emulator, wifi_risk, scripted, outstanding_balance_cny, optout, attributes, updated_at)"
    " SELECT user_id, (1101 + i %% 300)::text || '00', false, (random() * 500)::int,"
    " round((random() * 50000)::numeric), round((random() * 90000)::numeric),"
    " round((random() * 60)::numeric), current_date - (random() * 60)::int,"
    " current_date - (random() * 4000)::int, 16 + (random() * 60)::int, random() < 0.1,"
    " random() < 0.9, random() < 0.3, random() < 0.2, false, round((random() * 60)::numeric),"
    " false, 0, false, '{}', now() - random() * interval '20 days' FROM made WHERE i %% 50 > 0",
    "INSERT INTO cohorts_dailypayments (user_id, day, count, amount)"
    f" SELECT user_id, current_date - day, 1 + ({_RATE})::int, 30"
    " FROM made, LATERAL (SELECT DISTINCT ((i * 7 + n * 13 + n * n) %% 30)::int AS day"
    " FROM generate_series(1, 6) AS t (n)) AS days WHERE i %% 50 > 0",
    "INSERT INTO cohorts_admission (user_id, slot, weight, admitted, since, via)"
    " SELECT user_id, 1, 3, i %% 14 = 0, CASE WHEN i %% 14 = 0 THEN now() END,"
    " CASE WHEN i %% 14 = 0 THEN 'draw' ELSE '' END FROM made WHERE i %% 7 = 0 OR i %% 50 = 0",
    "INSERT INTO cohorts_userlistmember (user_id, list_id, state, since)"
    " SELECT user_id, %(list)s, 'accepted', now() FROM made WHERE i %% 100 = 1",
    "ANALYZE",
)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--users", type=int, default=200_000)
    asked.add_argument("--profile", action="store_true", help="also print where Python spends it")
    options = asked.parse_args()
    with servers() as postmaster:
        result = measure(options.users, postmaster, options.profile)
    path = ROOT / "bench" / "results" / "rebuild.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[str(options.users)] = result
    print(json.dumps(result, indent=2))
    path.write_text(json.dumps(kept, indent=2) + "\n")


def measure(users: int, postmaster: int, profiled: bool) -> dict[str, Any]:
    from django.db import connection
    from django.utils import timezone

    from cohorts.models import UserList
    from cohorts.services import rebuild, store

    some = UserList.objects.create(key="blocked", kind="block")
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for statement in MAKE:
            cursor.execute(statement, {"users": users, "list": some.pk})
        cursor.execute("RESET statement_timeout")
    store.client().flushall()
    assert rebuild.needs_rebuild(store.read_meta())
    before = cpu_of_postgres(postmaster), of_redis(), time.process_time()
    began = time.perf_counter()
    if profiled:
        import cProfile

        with cProfile.Profile() as profile:
            packed = rebuild.rebuild_profiles(timezone.now())
        import pstats

        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    else:
        packed = rebuild.rebuild_profiles(timezone.now())
    seconds = time.perf_counter() - began
    theirs, of_the_store, ours = (
        now - then
        for now, then in zip(
            (cpu_of_postgres(postmaster), of_redis(), time.process_time()), before, strict=True
        )
    )
    assert packed == users, packed
    assert not rebuild.needs_rebuild(store.read_meta())
    held = sum(store.client().hlen(key) for key in store.client().scan_iter("p*", count=1_000))
    assert held == users, held
    return {
        "command": f"python bench/rebuild.py --users {users}",
        "machine": f"{platform.machine()} {platform.system()} {os.cpu_count()} cpus",
        "versions": {
            "python": platform.python_version(),
            "postgresql": connection.cursor().connection.info.server_version,
            "redis": store.client().info("server")["redis_version"],
        },
        "seconds": round(seconds, 1),
        "processor_seconds": round(theirs + of_the_store + ours, 1),
        "of_python": round(ours, 1),
        "of_postgresql": round(theirs, 1),
        "of_redis": round(of_the_store, 1),
        "processor_us_a_user": round((theirs + of_the_store + ours) / users * 1e6, 1),
    }


def of_redis() -> float:
    """Processor seconds of Redis so far."""
    from cohorts.services import store

    told = store.client().info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


if __name__ == "__main__":
    main()
