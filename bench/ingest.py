"""How fast payments come in, beside the bare SQL statement, in one run on real servers.

    python bench/ingest.py [--events 100000]

Starts the PostgreSQL (fsync and synchronous_commit on), Redis and web process that `bin/up` uses.
The bare statement and HTTP take turns, batch by batch, one connection each. Results go to
bench/results/ingest.json. Rates depend on the machine and its neighbours; the ratios much less.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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


def arrays(group: list[dict[str, Any]]) -> list[str]:
    """The columns of a batch as PostgreSQL reads arrays, so that no driver's work is timed."""
    names = ("event_id", "user_id", "paid_at", "amount_cny")
    return ["{" + ",".join(str(item[name]) for item in group) + "}" for name in names]


def bare(groups: list[list[str]]) -> None:
    """Only ledger and daily counts, `arrays` ready made: the least that exact counting costs."""
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
    for group in groups:
        with connection.cursor() as cursor:
            cursor.execute(statement, group)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(home: Path, *commands: list[str]) -> Iterator[None]:
    """The processes of these modules, in the environment that this one has."""
    log = (home / "processes.log").open("ab")
    started = [
        subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=log, stderr=log)
        for command in commands
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def ready(port: int) -> http.client.HTTPConnection:
    """A connection to a web process that answers."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            return connection
        time.sleep(0.1)
    raise SystemExit("the web process does not answer")


class Turns:
    """Batches by the bare statement and over HTTP in turns, and what the ledger then holds."""

    def __init__(self, port: int, token: str) -> None:
        self.web = ready(port)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def send(self, body: bytes) -> dict[str, Any]:
        self.web.request("POST", "/api/v1/payments", body, self.headers)
        answer = self.web.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"HTTP {answer.status}: {told}")
        return told

    def take(self, many: int, users: int, prefix: str) -> dict[str, Any]:
        plain = [arrays(group) for group in batches(events(many, users, f"{prefix}-bare"))]
        sent = batches(events(many, users, prefix))
        bodies = [json.dumps({"payments": group}).encode() for group in sent]
        spent = {"bare": 0.0, "http": 0.0}
        accepted = duplicates = 0
        for group, body in zip(plain, bodies, strict=True):
            start = time.perf_counter()
            bare([group])
            middle = time.perf_counter()
            told = self.send(body)
            spent["http"] += time.perf_counter() - middle
            spent["bare"] += middle - start
            accepted += told["accepted"]
            duplicates += told["duplicates"]
        distinct = len({item["event_id"] for group in sent for item in group})
        replayed = seconds(lambda: [self.send(body) for body in bodies])
        return {
            "bare_per_second": round(many / spent["bare"]),
            "http_per_second": round(many / spent["http"]),
            "replayed_per_second": round(many / replayed),
            "http_to_bare": round(spent["bare"] / spent["http"], 2),
            "exact": (accepted, duplicates) == (distinct, many - distinct) and books_agree(),
        }


def books_agree() -> bool:
    """Whether the daily counts add up to the rows of the ledger."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT sum(count) FROM cohorts_dailypayments)"
            " = (SELECT count(*) FROM cohorts_paymentevent)"
        )
        return bool(cursor.fetchall()[0][0])


def over_http(home: Path, many: int, users: int) -> dict[str, Any]:
    """One web process as `bin/up` starts it, alone and with its worker packing profiles."""
    from rollout.services import keys, publishing
    from rollout.services.audit import Actor

    token = f"hd_ingest_{secrets.token_hex(16)}"
    keys.create("production", "ingest", "bench", by=Actor("bench", "script"), token=token)
    publishing.ensure_published("production")
    port = free_port()
    web = ["edge", "--app", "config.asgi:application", "--port", str(port)]
    worker = ["local.worker", "-c", "2", "--without-gossip", "--without-mingle"]
    beat = ["celery", "-A", "config.celery", "beat", "--pidfile=", "-s", str(home / "beat")]
    with running(home, web):
        turns = Turns(port, token)
        turns.take(2 * BATCH, users, "warm")
        alone = turns.take(many, users, "alone")
        with running(home, worker, beat):
            time.sleep(15)  # they start, and pack what waits
            return {"web process": alone, "web and worker": turns.take(many, users, "beside")}


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
    bare([arrays(warm[0])])
    for group in warm[1:]:
        ingest_payments(group, NOW, pack=False)
    ready_made = [arrays(group) for group in batches(events(many, users, "a"))]
    second = batches(events(many, users, "b"))
    rate("payments, bare statement", many, lambda: bare(ready_made))
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
    parser.add_argument("--only-http", action="store_true", help="print, and keep nothing")
    many, only_http = (told := parser.parse_args()).events, told.only_http
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
            result = measure(many) if not only_http else {}
            result["over_http"] = over_http(home, many, max(many // 5, 1_000))
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
    if not only_http:
        (ROOT / "bench" / "results" / "ingest.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
