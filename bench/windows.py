"""Windows over many payments: by daily tiles as `roll_windows` keeps them, beside one bare query.

    python bench/windows.py [--payments 100000000] [--users 9000000] [--folder DIR]

Makes 28 Parquet files, one a day of arrival (1 % repeats, 2 % late by up to 35 days), and one of
a day more. Then, each in a process of its own with the same threads and memory limit:

    bare     one DuckDB query, files to windows: distinct events, then sums by user
    first    tiles and windows of all files
    one day  the day more: its tiles, and windows rolled on
    nothing  a run without new files

`bare` and `first` must give the same windows. Results go to bench/results/windows.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import duckdb  # noqa: E402

DAYS = 28
FIRST = datetime.date(2026, 4, 23)
MEMORY = "3GB"
DAY = datetime.timedelta(days=1)

MAKE = """
COPY (
    WITH made AS (
        SELECT i, 'pay-' || lpad(i::text, 12, '0') AS event_id,
               'u' || lpad(({users} * pow(random(), 1.7))::bigint::text, 9, '0') AS user_id,
               TIMESTAMPTZ '2026-04-22 16:00:00+00' + to_days({day})
               + to_seconds((random() * 86399)::int)
               - to_days(CASE WHEN random() < 0.02 THEN least({day}, (random() * 35)::int)
                         ELSE 0 END) AS paid_at,
               ((random() * 50000)::int / 100.0)::decimal(18, 2) AS amount_cny
        FROM range({first}, {last}) t(i)
    )
    SELECT event_id, user_id, paid_at, amount_cny FROM made
    UNION ALL SELECT event_id, user_id, paid_at, amount_cny FROM made WHERE i % 100 = 0
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""

BARE = """
COPY (
    SELECT user_id, count(*) FILTER (day > DATE '{day}' - 7) AS weekly,
           count(*) FILTER (day > DATE '{day}' - 30) AS monthly, sum(amount_cny) AS yearly_cny
    FROM (
        SELECT event_id, min(user_id) AS user_id, min(amount_cny) AS amount_cny,
               min((paid_at::timestamp + INTERVAL 480 MINUTE)::date) AS day
        FROM read_parquet('{pattern}') WHERE amount_cny IS NULL OR amount_cny >= 0
        GROUP BY event_id
    )
    WHERE day > DATE '{day}' - 365 AND day <= DATE '{day}' GROUP BY user_id
) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""


def make(folder: Path, payments: int, users: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY}'; SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    each = payments // DAYS
    for day in range(DAYS + 1):
        path = folder / ("more" if day == DAYS else "raw") / f"arrived-{day:02d}.parquet"
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            continue
        new = path.with_suffix(".new")
        connection.execute(
            MAKE.format(users=users, day=day, first=day * each, last=(day + 1) * each, path=new)
        )
        new.rename(path)


def bare(folder: Path) -> None:
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY}'; SET TimeZone = 'UTC'")
    connection.execute(
        f"SET preserve_insertion_order = false; SET temp_directory = '{folder / 'spill'}'"
    )
    day = FIRST + (DAYS - 1) * DAY
    connection.execute(
        BARE.format(day=day, pattern=folder / "raw" / "*.parquet", out=folder / "bare.parquet")
    )


def tiled(folder: Path, *, more: bool) -> dict[str, Any]:
    from cohorts.services import engines, tile_sources, tile_store, tiles

    paths = sorted((folder / "raw").iterdir())
    if more:
        paths += sorted((folder / "more").iterdir())
    with tile_store.Store(folder / "tiles").opened() as store:
        engine = engines.engine(
            "duckdb", memory=MEMORY, scratch=folder / "spill", spark_master="local[*]"
        )
        found = tiles.update(store, engine, tile_sources.Plan(paths=paths))
        tiles.roll(store, engine, FIRST + (DAYS - 1 + more) * DAY)
        engine.close()
    return {"counted": found.counted, "duplicates": found.duplicates, "days": len(found.days)}


def differences(folder: Path) -> int:
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    columns = "user_id, weekly, monthly, yearly_cny::decimal(38, 2)"
    (made,) = (folder / "tiles").glob("windows-*.parquet")
    query = " UNION ALL ".join(
        f"(SELECT {columns} FROM '{one}' EXCEPT SELECT {columns} FROM '{other}')"
        for one, other in [(folder / "bare.parquet", made), (made, folder / "bare.parquet")]
    )
    return int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])


def step(name: str, folder: Path) -> None:
    """Runs in a process of its own; prints what it took."""
    start = time.perf_counter()
    found: Any = None
    if name == "bare":
        bare(folder)
    elif name == "compare":
        found = {"differing_users": differences(folder)}
    else:
        found = tiled(folder, more=name in ("one day", "nothing"))
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall_s": round(wall, 1),
                "cpu_s": round(used.ru_utime + used.ru_stime, 1),
                "peak_rss_gb": round(used.ru_maxrss / 1e6, 2),
                **(found or {}),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=100_000_000)
    parser.add_argument("--users", type=int, default=9_000_000)
    parser.add_argument("--folder", type=Path, help="Kept; a temporary one is removed.")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(options.step, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="huidu-windows-") as temporary:
        folder = options.folder or Path(temporary)
        make(folder, options.payments, options.users)
        steps = {}
        for name in ("bare", "first", "compare", "one day", "nothing"):
            command = [sys.executable, __file__, "--folder", str(folder), "--step", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            steps[name] = json.loads(output.splitlines()[-1])
            print(name, steps[name], flush=True)
        size = sum(path.stat().st_size for path in folder.glob("*/arrived-*.parquet"))
    result = {
        "command": f"python bench/windows.py --payments {options.payments} --users {options.users}",
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, shared",
        "versions": {"python": platform.python_version(), "duckdb": duckdb.__version__},
        "parquet_gb": round(size / 1e9, 2),
        "memory_limit": MEMORY,
        "steps": steps,
        "ratios": {
            "first to bare, CPU": round(steps["first"]["cpu_s"] / steps["bare"]["cpu_s"], 2),
            "first to bare, wall": round(steps["first"]["wall_s"] / steps["bare"]["wall_s"], 2),
            "one day to first, CPU": round(steps["one day"]["cpu_s"] / steps["first"]["cpu_s"], 3),
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "bench" / "results" / "windows.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
