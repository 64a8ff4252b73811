"""What a look costs: one stage from stored cells, and many running stages in one tick.

    python bench/review.py [--stages 1000] [--seconds 40]

Starts a PostgreSQL and a Redis of its own in a temporary folder. A stage has six guards, two weight
classes, three regional ceilings and two weeks of hourly cells. When time allows fewer stages than
asked for, the figure is extrapolated and says so. Targets: a look below 50 ms, 1,000 stages below
30 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOURS = 14 * 24
CELLS = [(w, ceiling) for w in (1, 3) for ceiling in (50_000_000, 60_975_609, 116_279_069)]
METRICS: list[dict[str, Any]] = [
    {"key": "success", "kind": "binary", "harm": "decrease"},
    {"key": "complaint", "kind": "binary"},
    {"key": "errors", "kind": "users_ratio"},
    {
        "key": "latency",
        "kind": "latency",
        "edges": [120.0, 300.0, 800.0, 1000.0],
        "baseline_index": 2,
        "margin_index": 3,
    },
    {"key": "amount", "kind": "mean", "harm": "decrease", "cap": 50_000.0},
    {"key": "overdue", "kind": "binary_delayed"},
]
SUMS: dict[str, list[float]] = {
    "binary": [5.0],
    "binary_delayed": [1.0],
    "users_ratio": [2.0, 3.0, 400.0, 5.0, 2_000.0, 15.0],
    "latency": [50.0, 10.0, 2.0, 1.0],
    "mean": [40_000.0, 4e8, 39_000.0, 3.5e8],
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--stages", type=int, default=1_000)
    asked.add_argument("--seconds", type=float, default=40.0)
    options = asked.parse_args()
    home = Path(tempfile.mkdtemp(prefix="huidu-bench-"))
    from local.servers import Postgres, Redis, socket_folder

    sockets = socket_folder(home)
    postgres = Postgres(home / "postgres", sockets)
    redis = Redis(home / "redis", sockets)
    for server in (postgres, redis):
        server.start()
    try:
        os.environ["HUIDU_HOME"] = str(home)
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = postgres.url, redis.url
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        result = measure(options.stages, options.seconds)
    finally:
        for server in (postgres, redis):
            server.stop()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "bench" / "results" / "review.json").write_text(text + "\n")


def measure(stages: int, seconds: float) -> dict[str, Any]:
    import django
    import numpy as np
    from django.db import connection

    from rollout.models import Decision
    from rollout.services import review
    from rollout.tasks_evidence import review_running_stages

    metrics = make_metrics()
    first = make_stage(metrics, 1, hours=HOURS)
    looks = []
    for minute in range(0, 600, 5):
        now = NOON + timedelta(days=14, minutes=minute)
        began = time.perf_counter()
        found = review.review_stage(first.pk, now=now)
        looks.append((time.perf_counter() - began) * 1_000)
        assert found is not None
    Decision.objects.all().delete()
    made = 1
    began = time.perf_counter()
    while made < stages and time.perf_counter() - began < seconds / 2:
        made += 1
        make_stage(metrics, made, hours=1)
    add_rows()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    began, cpu = time.perf_counter(), time.process_time()
    decided = review_running_stages()
    tick, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert sum(decided.values()) == made, decided
    began = time.perf_counter()
    review_running_stages()
    idle = time.perf_counter() - began
    return {
        "command": f"python bench/review.py --stages {stages}",
        "machine": f"{platform.machine()} {platform.system()} {os.cpu_count()} cpus",
        "versions": {
            "python": platform.python_version(),
            "django": django.__version__,
            "numpy": np.__version__,
            "postgresql": server_version(),
        },
        "one_look_ms": {
            "median": round(statistics.median(looks), 1),
            "p95": round(sorted(looks)[int(len(looks) * 0.95)], 1),
            "target": 50,
        },
        "tick": {
            "stages": made,
            "seconds": round(tick, 2),
            "cpu_seconds_of_the_worker": round(cpu, 2),
            "seconds_per_1000_stages": round(tick / made * 1_000, 1),
            "extrapolated": made < stages,
            "target_per_1000": 30,
            "decisions": decided,
        },
        "tick_with_nothing_due_seconds": round(idle, 2),
    }


def server_version() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def make_metrics() -> list[Any]:
    from rollout.models import Metric

    return [Metric.objects.create(environment="production", **each) for each in METRICS]


def make_stage(metrics: list[Any], number: int, *, hours: int) -> Any:
    """A running stage with hourly cells; the later ones get only the newest hour."""
    from rollout.models import Flag, Guard, MetricCell, Rollout, RollupMark, Stage

    flag = Flag.objects.create(environment="production", key=f"flag{number}")
    rollout = Rollout.objects.create(flag=flag, slot=number, status="running", started_at=NOON)
    stage = Stage.objects.create(
        rollout=rollout,
        order=1,
        key="some",
        share_ppm=50_000,
        threshold=2**64 // 20,
        status="running",
        entered_at=NOON,
        drawn_at=NOON,
    )
    Rollout.objects.filter(pk=rollout.pk).update(current=stage)
    Guard.objects.bulk_create([Guard(stage=stage, metric=each, margin_rel=0.2) for each in metrics])
    RollupMark.objects.bulk_create(
        RollupMark(stage=stage, metric=each, complete_to=NOON + timedelta(days=15), rolled_at=NOON)
        for each in [None, *metrics]
    )
    rows = []
    for hour in range(hours):
        for arm, users in (("treated", 100), ("control", 1_900)):
            for weight, chance in CELLS:
                for metric in [None, *metrics]:
                    sums = [] if metric is None else SUMS[metric.kind]
                    share = users / 100 * (hour + 1)
                    rows.append(
                        MetricCell(
                            stage=stage,
                            metric=metric,
                            arm=arm,
                            stratum=weight,
                            chance_ppb=chance,
                            hour=NOON + timedelta(hours=hour),
                            latest=hour == hours - 1,
                            users=round(100 * share),
                            sums=[round(each * share) for each in sums],
                        )
                    )
    MetricCell.objects.bulk_create(rows, batch_size=2_000)
    return stage


def add_rows() -> None:
    """Raw rows of a busy minute that every stage has to look through."""
    from django.utils import timezone

    from rollout.services import outcomes

    happened = [
        outcomes.Happened(f"e{i}", f"u{i % 3_000}", each["key"], 1.0, None, timezone.now())
        for i in range(1_000)
        for each in METRICS
    ]
    outcomes.record("production", happened)


if __name__ == "__main__":
    main()
