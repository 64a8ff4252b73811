"""How long an uploaded list takes to be read and compared, and how much memory.

    python bench/lists.py [--users 1000000]

Starts a PostgreSQL as `bin/up` does, uploads so many ids to an empty list, applies them, then
uploads a file in which a tenth is new. Results go to bench/results/lists.json.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.servers import Postgres, Redis, socket_folder  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory() as folder:
        result = with_servers(Path(folder), users)
    path = ROOT / "bench" / "results" / "lists.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    held[str(users)] = result
    path.write_text(json.dumps(held, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def with_servers(folder: Path, users: int) -> dict[str, Any]:
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
        return measured(folder, users)
    finally:
        for server in reversed(servers):
            server.stop()


def measured(folder: Path, users: int) -> dict[str, Any]:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection, transaction

    from cohorts.models import UserList
    from cohorts.services import list_versions

    number = UserList.objects.create(key="long", kind="audience").pk
    figures: dict[str, Any] = {"users": users, "python": platform.python_version()}
    figures["command"] = f"python bench/lists.py --users {users}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, start in (("first", 0), ("second", users // 10)):
        path = folder / f"{name}.csv"
        with path.open("w") as file:
            file.writelines(f"wx_{each:012d}\n" for each in range(start, start + users))
        began = time.perf_counter()
        with path.open("rb") as file:
            version = list_versions.upload(number, file, file_name=path.name, by="bench")
        figures[f"{name}_compare_seconds"] = round(time.perf_counter() - began, 1)
        figures[f"{name}_added_removed"] = [version.added, version.removed]
        if name == "first":
            began = time.perf_counter()
            with transaction.atomic():
                list_versions.begin_apply(version)
            list_versions.carry_on(seconds=600)
            figures["apply_seconds"] = round(time.perf_counter() - began, 1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_memory_mb"] = round(after / 1024)
    figures["of_which_before_mb"] = round(before / 1024)
    connection.close()
    return figures


if __name__ == "__main__":
    main()
