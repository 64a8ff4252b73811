"""What news costs: a tick in which every running stage has users who are new or did something.

    python bench/news.py [--stages 100 300 1000] [--users own|shared]

Starts a PostgreSQL and a Redis of its own in a temporary folder. Stages are those of `review.py`:
six guards, two weight classes, three regional ceilings. Before each tick two new users meet every
stage, and ten of its 200 users have an outcome: users of their own in each stage, or the
same users in all of them (every outcome then counts in every stage, which is the worst there is).
Told are seconds, processor seconds and queries of the tick and of the roll-up in it. Stages grow in
one run, so figures of different numbers can be compared. Target: 1,000 stages within 30 s, and
within the minute between two ticks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.review import (  # noqa: E402
    CELLS,
    METRICS,
    cpu_of_postgres,
    make_metrics,
    make_stages,
    server_version,
    servers,
)

USERS = 200
NEW = 2
HAPPENED = 10


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--stages", type=int, nargs="+", default=[100, 300, 1_000])
    asked.add_argument("--users", default="own", choices=["own", "shared"])
    options = asked.parse_args()
    with servers() as postmaster:
        ticks = measure(sorted(options.stages), options.users == "shared", postmaster)
        version = server_version()
    result = {
        "command": f"python bench/news.py {' '.join(sys.argv[1:])}",
        "machine": f"{platform.machine()} {platform.system()} {os.cpu_count()} cpus",
        "versions": {"python": platform.python_version(), "postgresql": version},
        "users_of_a_stage": USERS,
        "new_users_a_stage": NEW,
        "outcomes_a_stage": HAPPENED,
        "target_seconds_for_1000": 30,
        "ticks": ticks,
        "load_of_the_machine": [round(load, 1) for load in os.getloadavg()],
    }
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "bench" / "results" / f"news-{options.users}.json").write_text(text + "\n")


def measure(sizes: list[int], shared: bool, postmaster: int) -> list[dict[str, Any]]:
    from django.db import connection

    from rollout.models import Exposure, Stage

    metrics, told = make_metrics(), []
    for before, size in zip([0, *sizes], sizes, strict=False):
        made = make_stages(metrics, range(before + 1, size + 1), hours=1)
        Exposure.objects.bulk_create(
            (
                each
                for stage in made
                for each in exposures(stage, range(USERS), shared, datetime.now(UTC))
            ),
            batch_size=5_000,
        )
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        stages = list(Stage.objects.select_related("rollout").order_by("pk"))
        for tick in range(2):
            told.append(one_tick(stages, tick, shared, postmaster))
            print(json.dumps(told[-1]), file=sys.stderr)
    return told


def one_tick(stages: list[Any], tick: int, shared: bool, postmaster: int) -> dict[str, Any]:
    from django.db import connection
    from django.db.models import F

    from rollout.models import Decision, MetricCell, Stage
    from rollout.services import rolling
    from rollout.tasks_evidence import review_running_stages

    add_news(stages, f"{len(stages)}-{tick}", shared)
    Stage.objects.update(entered_at=F("entered_at") - timedelta(minutes=5))
    spent = {"seconds": 0.0, "cpu": 0.0, "queries": 0}
    asked = 0
    plain = rolling.roll_up

    def counting(execute: Callable[..., Any], *given: Any) -> Any:
        nonlocal asked
        asked += 1
        return execute(*given)

    def timed(*given: Any, **more: Any) -> None:
        began, cpu, queries = time.perf_counter(), time.process_time(), asked
        theirs = cpu_of_postgres(postmaster)
        plain(*given, **more)
        spent["seconds"] += time.perf_counter() - began
        spent["cpu"] += time.process_time() - cpu + cpu_of_postgres(postmaster) - theirs
        spent["queries"] += asked - queries

    rolling.roll_up = timed
    try:
        with connection.execute_wrapper(counting):
            began, cpu = time.perf_counter(), time.process_time()
            theirs = cpu_of_postgres(postmaster)
            decided = review_running_stages()
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            theirs = cpu_of_postgres(postmaster) - theirs
    finally:
        rolling.roll_up = plain
    assert sum(decided.values()) == len(stages), decided
    assert Decision.objects.count() >= len(stages)
    enrolled = sum(
        MetricCell.objects.filter(metric=None, latest=True).values_list("users", flat=True)
    )
    return {
        "stages": len(stages),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu + theirs, 2),
        "of_postgresql": round(theirs, 2),
        "queries": asked,
        "rolled_up": {name: round(value, 2) for name, value in spent.items()},
        "cpu_ms_a_stage": round((cpu + theirs) / len(stages) * 1_000, 1),
        "users_in_cells": enrolled,
    }


def exposures(stage: Any, numbers: range, shared: bool, at: datetime) -> list[Any]:
    from rollout.models import Exposure

    found = []
    for number in numbers:
        weight, chance = CELLS[number % len(CELLS)]
        treated = number % 1_000 < chance / 1_000_000
        found.append(
            Exposure(
                rollout=stage.rollout,
                stage=stage,
                user_id=f"u{number}" if shared else f"s{stage.pk}-u{number}",
                arm="treated" if treated else "control",
                stratum=weight,
                chance_ppb=chance,
                first_at=at,
            )
        )
    return found


def add_news(stages: list[Any], tick: str, shared: bool) -> None:
    """New users of every stage, and outcomes of known ones."""
    from django.db import transaction
    from django.utils import timezone

    from rollout.models import Exposure
    from rollout.services import outcomes
    from rollout.services.exposures import write_evidence

    now = timezone.now()
    new = 1_000_000 + 1_000 * sum(map(ord, tick))
    with transaction.atomic():
        write_evidence()
        Exposure.objects.bulk_create(
            (
                each
                for stage in stages
                for each in exposures(stage, range(new, new + NEW), shared, now)
            ),
            batch_size=5_000,
        )
        happened = [
            outcomes.Happened(
                f"{tick}-{who}-{i}",
                f"{who}{(i * 17) % USERS}",
                METRICS[i % len(METRICS)]["key"],
                1.0,
                None,
                now,
            )
            for who in (["u"] if shared else [f"s{stage.pk}-u" for stage in stages])
            for i in range(HAPPENED)
        ]
        outcomes.record("production", happened)


if __name__ == "__main__":
    main()
