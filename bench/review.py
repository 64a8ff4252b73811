"""What a look costs: one stage from stored cells, and many running stages in one tick.

    python bench/review.py [--stages 1000]

Starts a PostgreSQL and a Redis of its own in a temporary folder. A stage has six guards, two weight
classes, three regional ceilings; the one whose looks are timed has two weeks of hourly cells, the
others the newest hour. Every stage of the tick is due, rolls up a busy minute's raw rows, is judged
and leaves its decision; the second tick finds a decision before it. Where other work runs on the
machine, the processor seconds of worker and PostgreSQL together say what one core would need.
Targets: a look below 50 ms, 1,000 stages below 30 s.
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
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HOURS = 10 * 24
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS)
"""When all stages began; they still run."""
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
    options = asked.parse_args()
    with servers() as postmaster:
        result = measure(options.stages, postmaster)
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "bench" / "results" / "review.json").write_text(text + "\n")


@contextmanager
def servers() -> Iterator[int]:
    """A migrated PostgreSQL and a Redis of our own, Django set up; the postmaster's process."""
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
        yield int((home / "postgres" / "postmaster.pid").read_text().split()[0])
    finally:
        for server in (postgres, redis):
            server.stop()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)


def measure(stages: int, postmaster: int) -> dict[str, Any]:
    import django
    import numpy as np
    from django.db import connection
    from django.db.models import F

    from rollout.models import Decision, Stage
    from rollout.services import review
    from rollout.tasks_evidence import review_running_stages

    metrics = make_metrics()
    (first,) = make_stages(metrics, range(1, 2), hours=HOURS)
    looks = []
    for minute in range(0, 600, 5):
        now = NOON + timedelta(hours=HOURS, minutes=minute)
        began = time.perf_counter()
        found = review.review_stage(first.pk, now=now)
        looks.append((time.perf_counter() - began) * 1_000)
        assert found is not None
    Decision.objects.all().delete()
    if stages > 1:
        make_stages(metrics, range(2, stages + 1), hours=1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    ticks = []
    for number in (1, 2):
        add_rows(number)
        began, cpu, theirs = time.perf_counter(), time.process_time(), cpu_of_postgres(postmaster)
        decided = review_running_stages()
        tick, cpu = time.perf_counter() - began, time.process_time() - cpu
        theirs = cpu_of_postgres(postmaster) - theirs
        ticks.append(
            {
                "seconds": round(tick, 2),
                "cpu_seconds": round(cpu + theirs, 2),
                "of_the_worker": round(cpu, 2),
                "of_postgresql": round(theirs, 2),
                "ms_a_stage": round(tick / stages * 1_000, 1),
                "decisions": decided,
            }
        )
        assert sum(decided.values()) == stages, decided
        assert Decision.objects.count() == number * stages
        if number < 2:  # the next look is due at once instead of in five minutes
            Stage.objects.update(entered_at=F("entered_at") - timedelta(minutes=5))
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
        "stages_in_a_tick": stages,
        "ticks": ticks,
        "target_seconds_for_1000": 30,
        "load_of_the_machine": [round(load, 1) for load in os.getloadavg()],
        "tick_with_nothing_due_seconds": round(idle, 2),
    }


def cpu_of_postgres(postmaster: int) -> float:
    """Processor seconds that PostgreSQL's processes have used so far; Linux only."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(path.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))  # with its children that have ended
        elif int(fields[1]) == postmaster:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def server_version() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def make_metrics() -> list[Any]:
    from rollout.models import Metric

    return [Metric.objects.create(environment="production", **each) for each in METRICS]


def make_stages(metrics: list[Any], numbers: range, *, hours: int) -> list[Any]:
    """Running stages with hourly cells, all of them two weeks old at the last hour."""
    from rollout.models import Flag, Guard, MetricCell, Rollout, RollupMark, Stage

    flags = Flag.objects.bulk_create(
        Flag(environment="production", key=f"flag{number}") for number in numbers
    )
    rollouts = Rollout.objects.bulk_create(
        Rollout(flag=flag, slot=number, status="running", started_at=NOON)
        for flag, number in zip(flags, numbers, strict=True)
    )
    stages = Stage.objects.bulk_create(
        Stage(
            rollout=rollout,
            order=1,
            key="some",
            share_ppm=50_000,
            threshold=2**64 // 20,
            status="running",
            entered_at=NOON,
            drawn_at=NOON,
            needs_approval=True,  # what is proven must not end a stage of the bench
        )
        for rollout in rollouts
    )
    for rollout, stage in zip(rollouts, stages, strict=True):
        rollout.current = stage
    Rollout.objects.bulk_update(rollouts, ["current"], batch_size=500)
    last = NOON + timedelta(hours=HOURS - 1)
    fresh = last + timedelta(days=1)
    Guard.objects.bulk_create(
        Guard(stage=stage, metric=each, margin_rel=0.2) for stage in stages for each in metrics
    )
    RollupMark.objects.bulk_create(
        RollupMark(stage=stage, metric=each, complete_to=fresh, rolled_at=fresh)
        for stage in stages
        for each in [None, *metrics]
    )
    MetricCell.objects.bulk_create(
        (
            MetricCell(
                stage=stage,
                metric=metric,
                arm=arm,
                stratum=weight,
                chance_ppb=chance,
                hour=last - timedelta(hours=hours - 1 - hour),
                latest=hour == hours - 1,
                users=round(users * (hour + 1)),
                sums=[
                    round(each * users / 100 * (hour + 1))
                    for each in ([] if metric is None else SUMS[metric.kind])
                ],
            )
            for stage in stages
            for hour in range(hours)
            for weight, chance in CELLS
            for arm, users in arms(chance)
            for metric in [None, *metrics]
        ),
        batch_size=4_000,
    )
    return stages


def arms(chance_ppb: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """Users of an hour in either arm, as the chance of their cell has them."""
    treated = round(2_000 * chance_ppb / 1_000_000_000)
    return ("treated", treated), ("control", 2_000 - treated)


def add_rows(minute: int) -> None:
    """Raw rows of a busy minute that every stage has to look through."""
    from django.utils import timezone

    from rollout.services import outcomes

    happened = [
        outcomes.Happened(
            f"{each['key']}{minute}-{i}", f"u{i % 3_000}", each["key"], 1.0, None, timezone.now()
        )
        for i in range(1_000)
        for each in METRICS
    ]
    outcomes.record("production", happened)


if __name__ == "__main__":
    main()
