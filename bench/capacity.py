"""Whether a cap on admissions holds over HTTP, whatever is killed meanwhile.

    .venv/bin/python bench/capacity.py [--users 10000] [--cap 1000] [--clients 64]

Starts the PostgreSQL and Redis that `bin/up` uses, two check servers and a desk. Every user asks
until somebody can tell; a quarter of the places is given when something is killed with signal 9:
nothing, a check server, the desk, or Redis, each on a flag of its own with two partners. Then all
who have a place are asked once more. Results go to bench/results/capacity.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from redis import Redis as Store  # noqa: E402

from huidu.wire import names  # noqa: E402
from local.servers import Postgres, Redis, socket_folder  # noqa: E402

PLACE: Final = "production"
TOKEN: Final = "hd_server_" + "b" * 24
UNDECIDED: Final = {"funding.unavailable", "system.error", "data.missing"}
MOST_TRIES: Final = 400
PAUSE_SECONDS: Final = 0.05


class Process:
    """A child of this benchmark that can be killed and started again."""

    def __init__(self, *command: str) -> None:
        self.command = [sys.executable, *command]
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as out:
            self.child = subprocess.Popen(self.command, cwd=ROOT, stdout=out, stderr=out)

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait()
        self.log.unlink(missing_ok=True)


class CheckServer(Process):
    def __init__(self) -> None:
        super().__init__("-m", "edge", "--port", "0")

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        words = self.log.read_text()
        found = re.search(r"edge.listens host=\S+ port=(\d+)", words)
        return int(found[1]) if found and "edge.serves" in words else 0


class Asker:
    """One client: a kept-alive connection, another server when it breaks."""

    def __init__(self, servers: list[CheckServer], first: int) -> None:
        self.servers = servers
        self.turn = first
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.broken = 0

    async def ask(self, flag: str, user: str) -> str:
        """The `why`; "" when the connection broke."""
        try:
            if self.streams is None:
                port = self.servers[self.turn % len(self.servers)].port
                self.streams = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = self.streams
            writer.write(
                f"GET /api/v1/flags/{flag}/users/{user} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length, head
            return str(json.loads(await reader.readexactly(int(length[1])))["why"])
        except (OSError, asyncio.IncompleteReadError):
            self.broken += 1
            self.turn += 1
            self.streams = None
            return ""


async def ask_all(
    servers: list[CheckServer], flag: str, users: list[str], clients: int
) -> dict[str, Any]:
    """What every user was told at last, and how long the yes took that took a place."""
    waiting = list(reversed(users))
    told: dict[str, str] = {}
    first_yes: list[float] = []
    tries: Counter[str] = Counter()

    async def client(number: int) -> None:
        asker = Asker(servers, number)
        while waiting:
            user = waiting.pop()
            for _ in range(MOST_TRIES):
                began = time.perf_counter()
                why = await asker.ask(flag, user)
                if why and why not in UNDECIDED:
                    break
                tries[why or "connection broken"] += 1
                await asyncio.sleep(PAUSE_SECONDS)
            told[user] = why
            if why == "shown":
                first_yes.append((time.perf_counter() - began) * 1000)
        if asker.streams is not None:
            asker.streams[1].close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {"told": told, "first_yes_ms": sorted(first_yes), "asked_again": dict(tries)}


def seed(users: int) -> list[str]:
    from django.utils import timezone

    from cohorts.models import Profile
    from cohorts.services import rebuild
    from rollout.services import keys, publishing
    from rollout.services.audit import Actor

    names = [f"u{number:05d}" for number in range(users)]
    now = timezone.now()
    rows = [Profile(user_id=name, region="440300", updated_at=now) for name in names]
    Profile.objects.bulk_create(rows, batch_size=2_000)
    rebuild.rebuild_profiles(now)
    keys.create(PLACE, "server", "bench", by=Actor("bench", "bench"), token=TOKEN)
    publishing.publish_access()
    return names


def release(key: str, cap: int) -> int:
    """A flag open to everybody with a place of one of two partners; its slot."""
    from datetime import timedelta

    from rollout.services import flags, funding, gates, rollouts, stages
    from rollout.services.audit import Actor

    ann, bob = Actor("ann", "ann"), Actor("bob", "bob")
    flag = flags.create(PLACE, key, by=ann, label_en=key)
    gate = {"key": "places", "order": 1, "dimension": "funding", "capacity": True}
    gates.save_gate(flag, gate | {"why": "funding.no_capacity"}, by=ann)
    for order, part in enumerate((cap - cap // 3, cap // 3), start=1):
        bank = {"key": f"bank-{order}", "order": order, "kind": "city", "everywhere": True}
        terms = {"is_open": True, "share_ppm": 300_000, "total_cap": part, "daily_cap": part}
        funding.save_partner(flag, bank | terms, by=ann)
    row = rollouts.create(flag, by=ann)
    stay = {"minimum_stay": timedelta(0), "waiver": "a benchmark"}
    stages.save_stage(row, {"order": 0, "key": "all", **stay}, by=ann)
    rollouts.submit(row, by=ann, reason="bench")
    rollouts.approve(row, by=bob, reason="bench")
    rollouts.start(row, by=ann, reason="bench")
    return int(row.slot)


def given(slot: int) -> set[str]:
    from cohorts.models import Place

    return set(Place.objects.filter(slot=slot).values_list("user_id", flat=True))


async def scenario(
    name: str,
    disturb: Callable[[], None],
    servers: list[CheckServer],
    users: list[str],
    cap: int,
    clients: int,
) -> dict[str, Any]:
    slot = await asyncio.to_thread(release, f"cap-{name}", cap)
    await asyncio.sleep(3)  # every server has the snapshot, and has heard the desk
    random.Random(name).shuffle(users)

    async def watch() -> None:
        while len(await asyncio.to_thread(given, slot)) < cap // 4:  # noqa: ASYNC110 - a database
            await asyncio.sleep(0.02)
        await asyncio.to_thread(disturb)

    began = time.perf_counter()
    watching = asyncio.create_task(watch())
    found = await ask_all(servers, f"cap-{name}", users, clients)
    seconds = time.perf_counter() - began
    await watching
    holders = await asyncio.to_thread(given, slot)
    again = await ask_all(servers, f"cap-{name}", sorted(holders), 8)
    yes = {user for user, why in found["told"].items() if why == "shown"}
    times = found["first_yes_ms"]
    return {
        "killed": name,
        "users": len(users),
        "cap": cap,
        "admitted": len(holders),
        "exact": len(holders) == cap,
        "told_yes": len(yes),
        "told_yes_without_a_place": len(yes - holders),
        "holders_shown_when_asked_again": sum(why == "shown" for why in again["told"].values()),
        "told": dict(Counter(found["told"].values())),
        "asked_again": found["asked_again"],
        "seconds": round(seconds, 1),
        "first_yes_ms": {
            "p50": round(times[len(times) // 2], 1),
            "p99": round(times[int(len(times) * 0.99)], 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--cap", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="huidu-bench-"))
    sockets = socket_folder(home)
    postgres, redis = Postgres(home / "postgres", sockets), Redis(home / "redis", sockets)
    for server in (postgres, redis):
        server.start()
    os.environ |= {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "HUIDU_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from cohorts.services import rebuild

    processes: list[Process] = []
    try:
        call_command("migrate", verbosity=0)
        users = seed(options.users)
        servers = [CheckServer(), CheckServer()]
        desk = Process("manage.py", "give_places")
        processes += [*servers, desk]
        deadline = time.monotonic() + 60
        while not all(each.port for each in servers):
            assert time.monotonic() < deadline, "a check server does not start"
            time.sleep(0.05)
        store = Store.from_url(redis.url)
        while not store.exists(names.PLACES_STREAM):  # the desk makes it, and then listens
            assert time.monotonic() < deadline, "the desk does not start"
            time.sleep(0.05)

        def kill_server() -> None:
            servers[1].kill()
            servers[1].start()

        def kill_desk() -> None:
            desk.kill()
            desk.start()

        def kill_redis() -> None:
            assert redis.process is not None
            redis.process.send_signal(signal.SIGKILL)
            redis.process.wait()
            redis.start()
            with suppress(Exception):  # what the worker's tick does
                rebuild.heal_profiles(timezone.now())

        acts: list[tuple[str, Callable[[], None]]] = [
            ("nothing", lambda: None),
            ("check-server", kill_server),
            ("desk", kill_desk),
            ("redis", kill_redis),
        ]

        async def run() -> list[dict[str, Any]]:
            results = []
            for name, act in acts:
                found = await scenario(name, act, servers, users, options.cap, options.clients)
                print(json.dumps(found), flush=True)
                results.append(found)
            return results

        results = asyncio.run(run())
    finally:
        for process in processes:
            process.stop()
        for server in (redis, postgres):
            server.stop()
    report = {
        "command": " ".join(["python", "bench/capacity.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "clients": options.clients,
        "scenarios": results,
    }
    out = ROOT / "bench" / "results" / "capacity.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    ok = all(each["exact"] and not each["told_yes_without_a_place"] for each in results)
    print("the cap held exactly" if ok else "THE CAP DID NOT HOLD", out)
    sys.exit(not ok)


if __name__ == "__main__":
    main()
