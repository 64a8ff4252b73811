"""What a check over HTTP costs, beside nginx answering an empty 200 in the same run.

    .venv/bin/python bench/edge.py [--seconds 4] [--rounds 3] [--granian /path/to/bin/granian]
    .venv/bin/python bench/edge.py --leak      (does memory stay flat? some seconds)

One process on core 0 serves, wrk on core 1 asks over 64 kept-alive connections. A cost is the CPU
time (user and system) of the serving process per request; Redis, a process of its own, is given
beside it. Everything is measured in turns, round after round, and the cheapest run of each counts:
others on the machine can only make a run dearer. The ratio to nginx still depends on the machine:
nginx lives in the kernel, we in an interpreter. Latency is measured by `bench/paced.py`, at a rate
that keeps half of the server's core busy. Needs wrk, nginx and taskset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from huidu.engine import compile_snapshot  # noqa: E402
from huidu.model import Flag, Snapshot  # noqa: E402
from huidu.wire import profile, ring  # noqa: E402
from tests.edge.running import (  # noqa: E402
    ATTRIBUTES,
    SERVER,
    ZONE,
    Running,
    Store,
    flags,
    rollout,
    wait_for,
)

USERS = 100_000
FEW = 1_000
BULK_FLAGS = 100
CONNECTIONS = 64
NGINX, SINGLE, BULK = "nginx, empty 200", "single", "bulk of 100"
UVICORN = "uvicorn, empty ASGI application"
GRANIAN = "granian, empty ASGI application"
CONSTANT, LEAST = "constant answer on uvloop", "prototype of a check"
ASGI = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive(); await send({"type": "lifespan.startup.complete"}); await receive(); return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})
"""
PROBE = '{"context":{"targetingKey":"u1"}}'
SCRIPT = """
local n, users = 0, %(users)d
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer %(key)s"
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = (n * 1103515245 + 12345) %% 2147483648
  local body = '{"context":{"targetingKey":"u' .. (n %% users) .. '"}}'
  return wrk.format(nil, nil, nil, body)
end
"""


def cpu_seconds(process: int) -> float:
    """User and system time a process has used."""
    return sum(cpu_times(process))


def cpu_times(process: int) -> tuple[float, float]:
    """User time a process has used, and system time."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def load(
    folder: Path, url: str, seconds: int, *, users: int = 0, script: Path | None = None
) -> dict[str, Any]:
    """Ask for some seconds, users in turn or by a script of wrk's; what wrk says."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    command += ["--timeout", "20s"]
    if users:
        script = folder / "ask.lua"
        script.write_text(SCRIPT % {"users": users, "key": SERVER})
    if script:
        command += ["-s", str(script)]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    number = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert number, said
    if bad := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise SystemExit(f"{url}: {bad[0]}")
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", said))
    return {"requests": int(number[1]), "per_second": int(number[1]) / float(number[2])} | latency


def run(
    folder: Path, url: str, seconds: int, process: int, redis: int, **options: int
) -> dict[str, Any]:
    """CPU time per request of the server and of Redis, in microseconds, and what wrk saw."""
    before, redis_before = cpu_times(process), cpu_seconds(redis)
    said = load(folder, url, seconds, **options)
    user, system = (
        (now - then) / said["requests"] * 1e6
        for now, then in zip(cpu_times(process), before, strict=True)
    )
    behind = (cpu_seconds(redis) - redis_before) / said["requests"] * 1e6
    return {
        "cpu_us": round(user + system, 2),
        "system_us": round(system, 2),
        "redis_cpu_us": round(behind, 2),
        "per_second": round(said["per_second"]),
        "p50": said["50"],
        "p99": said["99"],
    }


@contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """Another server on core 0; gives the id of the process that does the work."""
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            probe = ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/", "-d", PROBE]
            if subprocess.run(probe).returncode == 0:
                break
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0]) if children else process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def nginx(folder: Path, port: int) -> list[str]:
    settings = f"""
    worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
    events {{ worker_connections 1024; }}
    http {{ access_log off; keepalive_requests 1000000000;
      server {{ listen 127.0.0.1:{port}; location / {{ return 200 ""; }} }} }}"""
    (folder / "nginx.conf").write_text(settings)
    return [
        shutil.which("nginx") or "/usr/sbin/nginx",
        "-p",
        str(folder),
        "-c",
        f"{folder}/nginx.conf",
    ]


def user_number(number: int, today: date) -> profile.Profile:
    """One of the users: every usual fact is known, and payments on most days."""
    return profile.Profile(
        updated=today,
        region="440300",
        staff=False,
        friends=number % 500,
        assets_cny=number,
        yearly_spend_cny=number % 20_000,
        risk_score=number % 50,
        risk_scored_on=today,
        wifi_risk=number % 30,
        registered_at=today - timedelta(days=number % 2_000),
        age=18 + number % 60,
        student=False,
        consent=True,
        invited=True,
        holds_fenfu=False,
        emulator=False,
        scripted=False,
        optout=False,
        outstanding_balance_cny=0,
        last_day=today,
        counts=ring.pack([(number >> day) % 4 for day in range(31)]),
    )


def fill(store: Store) -> None:
    """A hundred flags and all users."""
    store.fill()
    more = [
        Flag(key=f"flag-{number}", version=1, gates=flags()[0].gates, rollout=rollout(100 + number))
        for number in range(BULK_FLAGS - 1)
    ]
    store.publish([flags()[0], *more])
    today = datetime.now(ZONE).date()
    buckets = profile.buckets_for(USERS)
    pipe = store.client.pipeline(transaction=False)
    for number in range(USERS):
        key, field = profile.address(f"u{number}", buckets)
        pipe.hset(key, field, profile.encode(user_number(number, today)))
        if number % 5_000 == 0:
            pipe.execute()
    pipe.execute()
    store.client.hset("huidu:profiles", mapping={"buckets": buckets})
    store.tell("snapshot")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="of all measurements")
    parser.add_argument(
        "--first", action="store_true", help="measure latency before all other work (root)"
    )
    parser.add_argument("--granian", help="a granian to measure as a candidate")
    parser.add_argument("--cost-only", action="store_true", help="no latency; keep no result")
    parser.add_argument("--leak", action="store_true", help="look at memory, not at time")
    arguments = parser.parse_args()
    if arguments.leak:
        leak(arguments.seconds)
        return
    report = compare(
        arguments.seconds,
        arguments.rounds,
        arguments.granian,
        first=arguments.first,
        paces=0 if arguments.cost_only else arguments.rounds,
    )
    text = json.dumps(report, indent=1)
    if arguments.cost_only:
        for name, result in report["results"].items():
            costs = f"{result['cpu_us']:7.2f} us, of it system {result['system_us']:5.2f}"
            each = result["times_nginx_in_each_round"]
            print(f"{name:34} {costs} {result['times_nginx']:6.2f} x nginx, {each}")
        return
    (ROOT / "bench" / "results" / "edge.json").write_text(text + "\n")
    print(text)


def compare(
    seconds: int, rounds: int, granian: str | None, *, first: bool = False, paces: int = 0
) -> dict[str, Any]:
    """Measure all in turns."""
    folder = Path(tempfile.mkdtemp(prefix="huidu-bench-"))
    (folder / "plain.py").write_text(ASGI)
    plain = ["--host", "127.0.0.1", "--port", "9462", "plain:application"]
    uvicorn = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--lifespan", "off", *plain,
    ]  # fmt: skip
    least = [sys.executable, str(ROOT / "bench" / "prototype.py"), "--port"]
    others = {
        NGINX: (nginx(folder, 9461), 9461),
        UVICORN: (uvicorn, 9462),
        CONSTANT: ([*least, "9464"], 9464),
    }
    if granian:
        plain[3] = "9463"
        command = [granian, "--interface", "asgi", "--workers", "1", "--no-access-log"]
        others[GRANIAN] = [*command, "--working-dir", str(folder), *plain], 9463
    runs: dict[str, list[dict[str, Any]]] = {}
    store = Store()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(store.close)
        fill(store)
        assert store.server.process is not None
        redis = store.server.process.pid
        edge = Running(store)
        wait_for(lambda: edge.ask("GET", "/health/ready").json["profiles_readable"])
        stack.callback(edge.stop)
        pid = edge.process.pid
        os.sched_setaffinity(pid, {0})
        base = f"http://127.0.0.1:{edge.port}/ofrep/v1/evaluate/flags"
        buckets = str(profile.buckets_for(USERS))
        where = store.url.removeprefix("unix://")
        others[LEAST] = [*least, "9465", "--socket", where, "--buckets", buckets], 9465
        asked = {
            name: (f"http://127.0.0.1:{port}/", stack.enter_context(serving(command, port)), 0)
            for name, (command, port) in others.items()
        }
        url, process, _ = asked[LEAST]
        asked[LEAST] = url + "ofrep/v1/evaluate/flags/weilidai", process, USERS
        asked[SINGLE] = base + "/weilidai", pid, USERS
        asked["single, users asked about before"] = base + "/weilidai", pid, FEW
        asked[BULK] = base, pid, USERS
        for turn in range(rounds + 1):  # the first one warms
            for name, (url, process, users) in asked.items():
                length = seconds if turn else 1
                said = run(folder, url, length, process, redis, users=users)
                if turn:
                    runs.setdefault(name, []).append(said)
        results = {name: min(each, key=lambda one: one["cpu_us"]) for name, each in runs.items()}
        rate = 0.5e6 / results[SINGLE]["cpu_us"]
        if first:  # whom other work makes wait, measures that work
            for process in (0, redis, *(process for _, process, _ in asked.values())):
                os.sched_setscheduler(process, os.SCHED_FIFO, os.sched_param(10))
        paced = {
            SINGLE: [pace(edge.port, rate, seconds, checks=True) for _ in range(paces)],
            NGINX: [pace(9461, rate, seconds) for _ in range(paces)],
        }
        memory = resident_kb(pid)
    for name, result in results.items():
        result["times_nginx"] = round(result["cpu_us"] / results[NGINX]["cpu_us"], 2)
        ratios = [
            one["cpu_us"] / nginx["cpu_us"]
            for one, nginx in zip(runs[name], runs[NGINX], strict=True)
        ]
        result["times_nginx_in_each_round"] = [round(each, 2) for each in ratios]
    return {
        "command": "python bench/edge.py " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "others_on_the_machine": f"load {os.getloadavg()[1]:.1f} over five minutes",
        "versions": versions(granian),
        "edge_resident_mb": memory // 1024,
        "bulk_to_single": round(results[BULK]["cpu_us"] / results[SINGLE]["cpu_us"], 1),
        "results": results,
        "latency_ms_with_half_of_the_core_busy": {"rate": round(rate)} | paced,
    }


def pace(port: int, rate: float, seconds: int, *, checks: bool = False) -> dict[str, Any]:
    """Ask at a steady rate from the other core; see `bench/paced.py`."""
    command = ["taskset", "-c", "1", sys.executable, str(ROOT / "bench" / "paced.py")]
    command += ["--port", str(port), "--rate", str(rate), "--seconds", str(seconds)]
    if checks:
        command += ["--path", "/ofrep/v1/evaluate/flags/weilidai"]
        command += ["--key", SERVER, "--users", str(USERS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured: dict[str, Any] = json.loads(said)
    return measured


def resident_kb(process: int) -> int:
    """Memory of a process that is in RAM, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1])


def leak(seconds: int) -> None:
    """Print how memory grows over ten million engine checks, and over checks by HTTP."""
    wanted = [*flags(), *(Flag(key=f"f{n}", version=1, rollout=rollout(20 + n)) for n in range(20))]
    compiled = compile_snapshot(
        Snapshot(
            environment="production",
            sequence=1,
            published_at="2026-01-01T00:00:00Z",
            attributes=ATTRIBUTES,
            cohorts=[],
            flags=wanted,
        )
    )
    keys = [flag.key for flag in wanted]
    ways = (partial(compiled.evaluate_all, keys), compiled.together(keys))
    for turn in range(10):
        for number in range(500_000 // len(keys)):
            facts = {"region": f"{number % 1_000_000:06d}", "risk_score": number % 100}
            for way in ways:
                way(f"user-{turn}-{number}", facts)
        print(f"engine: {turn + 1},000,000 checks, {resident_kb(os.getpid()):,} KiB", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="huidu-leak-"))
    store = Store()
    try:
        fill(store)
        edge = Running(store)
        wait_for(lambda: edge.ask("GET", "/health/ready").json["profiles_readable"])
        base = f"http://127.0.0.1:{edge.port}/ofrep/v1/evaluate/flags"
        asked = 0
        for path in ("/weilidai", "/weilidai", "/weilidai", "", "", "/weilidai", "/weilidai"):
            asked += load(folder, base + path, seconds, users=USERS)["requests"]
            print(
                f"HTTP: {asked:,} requests, {resident_kb(edge.process.pid):,} KiB {path or 'bulk'}"
            )
        edge.stop()
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)


def versions(granian: str | None) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("uvicorn", "uvloop", "httptools", "hiredis", "msgspec"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for name, command in {
        "nginx": [shutil.which("nginx") or "/usr/sbin/nginx", "-v"],
        "wrk": ["wrk", "-v"],
        "granian": [granian, "--version"] if granian else [],
    }.items():
        if command:
            said = subprocess.run(command, capture_output=True, text=True)
            words = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
            found[name] = words[0] if words else "unknown"
    return found


if __name__ == "__main__":
    main()
