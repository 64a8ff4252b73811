"""What a check over HTTP costs, beside nginx answering an empty 200 in the same run.

    .venv/bin/python bench/edge.py [--seconds 4] [--rounds 3] [--granian /path/to/bin/granian]

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
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.edge_world import USERS, fill  # noqa: E402
from bench.load import pace, resident_kb, run  # noqa: E402
from bench.others import LEAST, NGINX, NGINX_PORT, commands, prototype, serving, versions  # noqa: E402
from huidu.wire import profile  # noqa: E402
from tests.edge.running import Running, Store, wait_for  # noqa: E402

FEW = 1_000
SINGLE, BULK = "single", "bulk of 100"
LEAST_PORT = 9465


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="of all measurements")
    parser.add_argument(
        "--first", action="store_true", help="measure latency before all other work (root)"
    )
    parser.add_argument("--granian", help="a granian to measure as a candidate")
    parser.add_argument("--cost-only", action="store_true", help="no latency; keep no result")
    arguments = parser.parse_args()
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
    others = commands(folder, granian)
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
        least = prototype(LEAST_PORT, "--socket", where, "--buckets", buckets)
        others[LEAST] = least, LEAST_PORT
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
            SINGLE: [pace(edge.port, rate, seconds, users=USERS) for _ in range(paces)],
            NGINX: [pace(NGINX_PORT, rate, seconds) for _ in range(paces)],
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


if __name__ == "__main__":
    main()
