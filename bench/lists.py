"""How long an uploaded list takes to be read, compared and applied, and how much memory.

    python bench/lists.py [--users 5000000] [--apply | --against]

Starts a PostgreSQL and a Redis as `bin/up` does, uploads so many ids in random order, with one
repeated and one invalid line in a hundred, to an empty list; with `--apply` applies them, packed
profiles included, then uploads a file in which a tenth is new; with `--against` the list has those
members from the beginning (put there by SQL, which is not measured). Seconds are of the clock and
of the processors (this process and PostgreSQL's together: on a busy machine the clock says little).
Results go to bench/results/lists.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from math import gcd
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.servers import Postgres, Redis, socket_folder  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=5_000_000)
    parser.add_argument("--apply", action="store_true")
    parser.add_argument("--against", action="store_true")
    asked = parser.parse_args()
    users = asked.users
    with tempfile.TemporaryDirectory() as folder:
        result = with_servers(Path(folder), users, asked.apply, asked.against)
    path = ROOT / "bench" / "results" / "lists.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    held[f"{users} against as many" if asked.against else str(users)] = result
    path.write_text(json.dumps(held, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def with_servers(folder: Path, users: int, apply: bool, against: bool) -> dict[str, Any]:
    sockets = socket_folder(folder)
    servers = [Postgres(folder / "pg", sockets), Redis(folder / "redis", sockets)]
    try:
        for server in servers:
            server.start()
        os.environ.update(
            DJANGO_SETTINGS_MODULE="config.settings",
            HUIDU_SECRET="only-for-benchmarks",
            DATABASE_URL=servers[0].url,  # type: ignore[attr-defined]
            REDIS_URL=servers[1].url,  # type: ignore[attr-defined]
        )
        return measured(folder, users, apply, against)
    finally:
        for server in reversed(servers):
            server.stop()


def measured(folder: Path, users: int, apply: bool, against: bool) -> dict[str, Any]:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection, transaction
    from django.utils import timezone

    from cohorts.models import UserList
    from cohorts.services import list_uploads, list_versions, rebuild

    rebuild.rebuild_profiles(timezone.now())
    number = UserList.objects.create(key="long", kind="audience").pk
    figures: dict[str, Any] = {
        "users": users,
        "command": f"python bench/lists.py --users {users}"
        f"{' --apply' if apply else ' --against' if against else ''}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    if against:
        has_members(number, users)
    else:
        write_file(folder / "first.csv", 0, users)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, start in (("first", 0), ("second", users // 10)):
        path = folder / f"{name}.csv"
        if name == "first" and against:
            continue
        if name == "second":
            if not apply and not against:
                break
            write_file(path, start, users)
        figures["file_mb"] = round(path.stat().st_size / 1e6)
        with Clock(figures, f"{name}_compare"), path.open("rb") as file:
            version = list_uploads.upload(number, file, file_name=path.name, by="bench")
        for each in ("added", "removed", "unchanged", "duplicates", "invalid"):
            figures[f"{name}_{each}"] = getattr(version, each)
        if name == "first" and apply:
            with Clock(figures, "apply"):
                with transaction.atomic():
                    list_versions.begin_apply(version)
                list_versions.carry_on(seconds=3_600)
            version.refresh_from_db()
            figures["applied_state"] = version.state
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_memory_mb"] = round(after / 1024)
    figures["of_which_before_mb"] = round(before / 1024)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('cohorts_listblock')")
        figures["version_storage_mb"] = round(cursor.fetchall()[0][0] / 1e6, 1)
    connection.close()
    return figures


def has_members(number: int, users: int) -> None:
    """Let the list have the ids of the first file already, and the planner know of them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cohorts_userlistmember (user_id, list_id, state, since)"
            " SELECT 'wx_' || lpad(n::text, 12, '0'), %s, 'accepted', now()"
            " FROM generate_series(0, %s - 1) AS n",
            [number, users],
        )
        cursor.execute("UPDATE cohorts_userlist SET size = %s", [users])
        cursor.execute("ANALYZE cohorts_userlistmember")


class Clock:
    """Seconds of the clock and of the processors that a block takes."""

    def __init__(self, figures: dict[str, Any], name: str) -> None:
        self.figures, self.name = figures, name

    def __enter__(self) -> None:
        self.began, self.cpu = time.perf_counter(), cpu_seconds()

    def __exit__(self, *_: object) -> None:
        self.figures[f"{self.name}_seconds"] = round(time.perf_counter() - self.began, 1)
        self.figures[f"{self.name}_cpu_seconds"] = round(cpu_seconds() - self.cpu, 1)


def cpu_seconds() -> float:
    """Of this process and everything it started, those that ended included."""
    import psutil

    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            told = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += told.user + told.system + told.children_user + told.children_system
    return total


def write_file(path: Path, start: int, users: int) -> None:
    """Ids in random order; one line in a hundred once more, one in a hundred invalid."""
    # A fixed stride visits every number once in an order that looks random, without a list of all.
    stride = next(each for each in range(users * 5 // 8 | 1, 2 * users, 2) if gcd(each, users) == 1)
    with path.open("w") as file:
        for index in range(users):
            user = start + index * stride % users
            file.write(f"wx_{user:012d}\n")
            if index % 100 == 0:
                file.write(f"wx_{user:012d}\n")
            elif index % 100 == 1:
                file.write("not an id,with a comma\n")


if __name__ == "__main__":
    main()
