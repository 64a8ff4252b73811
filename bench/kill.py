"""How long a kill takes: from the admin API's call to the last answer that still shows the flag.

    .venv/bin/python bench/kill.py [--kills 32] [--listeners 100]

Runs all of `bin/up` (PostgreSQL, Redis, worker, Django and checks on one port) on a home of its
own, with three more check servers beside it. Each of the four web processes is asked all the time,
and a quarter of the listeners waits at its event stream and asks as soon as it hears. One kill is
over when all four processes and all listeners were answered hidden; every kill has its own flag.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PROCESSES: Final = 4
READY_SECONDS: Final = 180
GIVE_UP_SECONDS: Final = 20
POLL_SECONDS: Final = 0.005
USER: Final = "somebody"


class Asker:
    """One kept-alive connection that asks whether a flag is shown."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def shows(self, flag: str) -> bool:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(
            f"GET /api/v1/flags/{flag}/users/{USER} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self.key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        body = json.loads(await reader.readexactly(int(length[1])))
        return bool(body["visible"])


class Listener:
    """One client of an event stream, as an SDK is one."""

    def __init__(self, port: int, key: str) -> None:
        self.asker = Asker(port, key)
        self.heard = asyncio.Event()
        self.listens = asyncio.Event()

    async def listen(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.asker.port)
        writer.write(
            b"GET /events/v1/stream HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + self.asker.key.encode() + b"\r\n\r\n"
        )
        while line := await reader.readline():
            self.listens.set()
            if line.startswith(b"event: snapshot"):
                self.heard.set()

    async def hidden(self, flag: str) -> float:
        """When this client was first told that the flag is hidden."""
        while True:
            await self.heard.wait()
            self.heard.clear()
            if not await self.asker.shows(flag):
                return time.perf_counter()


async def poll(asker: Asker, flag: str) -> float:
    """When a process first answered hidden; it must have shown the flag before."""
    while await asker.shows(flag):  # noqa: ASYNC110 - nobody else tells
        await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter()


async def kill(port: int, key: str, flag: str) -> float:
    """Call the API; how long its answer took."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"reason": "a benchmark"}'
    writer.write(
        f"POST /api/v1/manage/flags/{flag}/kill HTTP/1.1\r\nHost: localhost\r\n"
        f"Connection: close\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
    writer.close()
    return time.perf_counter() - begun


async def measure(
    ports: list[int], keys: dict[str, str], flags: list[str], listeners: int
) -> dict[str, list[float]]:
    waiting = [Listener(ports[index % len(ports)], keys["server"]) for index in range(listeners)]
    tasks = [asyncio.create_task(each.listen()) for each in waiting]
    askers = [Asker(port, keys["server"]) for port in ports]
    took: dict[str, list[float]] = {"processes": [], "listeners": [], "call": []}
    await asyncio.gather(*(each.listens.wait() for each in waiting))
    for flag in flags:
        for asker in [*askers, *(each.asker for each in waiting)]:
            assert await asker.shows(flag), f"{flag} is not shown before it is killed"
        for each in waiting:
            each.heard.clear()
        begun = time.perf_counter()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            call, asked, heard = await asyncio.gather(
                kill(ports[0], keys["admin"], flag),
                asyncio.gather(*(poll(each, flag) for each in askers)),
                asyncio.gather(*(each.hidden(flag) for each in waiting)),
            )
        took["call"].append(call)
        took["processes"].append(max(asked) - begun)
        took["listeners"].append(max(heard) - begun)
    for task in tasks:
        task.cancel()
    return took


def make_flags(home: Path, number: int) -> list[str]:
    """Flags of this run, each with a rollout to everybody."""
    os.environ["HUIDU_HOME"] = str(home)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from rollout.services import flags, rollouts, stages
    from rollout.services.audit import Actor

    ann, bob = Actor(name="ann", person="ann"), Actor(name="bob", person="bob")
    keys = [f"bench-{index}" for index in range(number)]
    for key in keys:
        flag = flags.create("production", key, by=ann, label_en="A benchmark's")
        rollout = rollouts.create(flag, by=ann)
        plan = {"order": 0, "key": "all", "minimum_stay": timedelta(0), "waiver": "a benchmark"}
        stages.save_stage(rollout, plan, by=ann)
        rollouts.submit(rollout, by=ann, reason="ready")
        rollouts.approve(rollout, by=bob, reason="read it")
        rollouts.start(rollout, by=ann, reason="go")
    return keys


def started(command: list[str], environment: dict[str, str], log: Path, words: str) -> Any:
    """A process that has said that it is ready."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    deadline = time.monotonic() + READY_SECONDS
    while words not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)
    return process


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed, in milliseconds."""
    ordered = sorted(values)
    return round(1000 * ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--listeners", type=int, default=100)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="huidu-kill-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("HUIDU_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    environment |= {
        "HUIDU_HOME": str(home),
        "HUIDU_PORT": str(port),
        "HUIDU_DEMO_USERS": "1000",
    }
    running = []
    try:
        up = [sys.executable, "-m", "local.up"]
        running.append(started(up, environment, home / "up.log", "Ctrl-C stops it"))
        keys = json.loads((home / "demo.json").read_text())["keys"]
        flags = make_flags(home, arguments.kills)
        ports = [port]
        for number in range(PROCESSES - 1):
            log = home / f"edge-{number}.log"
            edge = [sys.executable, "-m", "edge", "--port", "0"]
            running.append(started(edge, environment, log, "edge.serves"))
            found = re.search(r"edge.listens host=\S+ port=(\d+)", log.read_text())
            assert found
            ports.append(int(found[1]))
        took = asyncio.run(measure(ports, keys, flags, arguments.listeners))
    finally:
        for process in reversed(running):
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait(60)
        shutil.rmtree(home, ignore_errors=True)
    report = {
        "command": "python bench/kill.py " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "kills": len(flags),
        "processes": PROCESSES,
        "listeners": arguments.listeners,
        "milliseconds": {
            name: {
                "p50": percentile(values, 0.5),
                "p99": percentile(values, 0.99),
                "most": round(1000 * max(values), 1),
            }
            for name, values in took.items()
        },
    }
    text = json.dumps(report, indent=1)
    (ROOT / "bench" / "results" / "kill.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
