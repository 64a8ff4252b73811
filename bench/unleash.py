"""What one question costs a server of Unleash's, of its proxy, and ours, in the same run.

    mkdir peers && cd peers && npm install unleash-server @unleash/proxy
    .venv/bin/python bench/unleash.py --peers peers [--seconds 4]

The question: does user U, in Shenzhen, with 25 payments this week, see one flag (region in two,
more than 20 payments, 5 % by hash)? Each server runs on core 0, wrk asks from core 1 over 64
kept-alive connections. The cost is the CPU time (user and system) of the serving process a request;
PostgreSQL behind Unleash and Redis behind us are given beside it. Unleash is told the facts in the
query, since it holds none; ours reads a profile from Redis as well. Needs wrk, taskset and node.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench.edge_world import USERS, fill  # noqa: E402
from bench.load import cpu_seconds, load  # noqa: E402
from bench.others import versions  # noqa: E402
from local.servers import Postgres, socket_folder  # noqa: E402
from tests.edge.running import Running, Store, wait_for  # noqa: E402

ADMIN, CLIENT, FRONTEND = "*:*.admin-bench", "default:development.client", "*:development.front"
SECRET = "proxy-bench"
SERVER_PORT, PROXY_PORT = 9471, 9472
FLAG = "weilidai"
ASK = """
local n = 0
wrk.headers["Authorization"] = "%(token)s"
request = function()
  n = (n * 1103515245 + 12345) %% 2147483648
  return wrk.format(nil, "%(path)s?userId=u" .. (n %% 100000) ..
    "&properties[region]=440300&properties[weekly]=25")
end
"""
CONSTRAINTS = [
    {"contextName": "region", "operator": "IN", "values": ["440300", "310000"]},
    {"contextName": "weekly", "operator": "NUM_GT", "value": "20"},
]


def call(path: str, body: Any = None, method: str = "POST") -> Any:
    """One request to Unleash's admin API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{SERVER_PORT}{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": ADMIN, "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        said = answer.read()
    return json.loads(said) if said else None


def answers(url: str, token: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": token})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def make_flag() -> None:
    """The flag in question, on in Unleash's environment `development`."""
    features = "/api/admin/projects/default/features"
    call(features, {"name": FLAG, "type": "release"})
    strategy = {
        "name": "flexibleRollout",
        "constraints": CONSTRAINTS,
        "parameters": {"rollout": "5", "stickiness": "userId", "groupId": FLAG},
    }
    call(f"{features}/{FLAG}/environments/development/strategies", strategy)
    call(f"{features}/{FLAG}/environments/development/on")


def started(stack: ExitStack, script: str, peers: Path, environment: dict[str, str]) -> int:
    """Run a script of node on core 0 until the stack is left; gives its process id."""
    log = stack.enter_context((peers / "bench.log").open("a"))
    process = subprocess.Popen(
        ["taskset", "-c", "0", "node", "-e", script],
        cwd=peers,
        env=os.environ | environment,
        stdout=log,
        stderr=log,
    )
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    return process.pid


def children_cpu(process: int) -> float:
    """CPU time of a process and those it started, as PostgreSQL has them."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return cpu_seconds(process) + sum(cpu_seconds(int(each)) for each in listed)


def measured(ask: Any, process: int, store: int, seconds: int, rounds: int) -> dict[str, Any]:
    """The cheapest of some rounds; the first, which warms, is left out."""
    runs = []
    for turn in range(rounds + 1):
        before = cpu_seconds(process), children_cpu(store)
        said = ask(seconds if turn else 2)
        used = cpu_seconds(process) - before[0], children_cpu(store) - before[1]
        if turn:
            one, behind = (round(each / said["requests"] * 1e6, 1) for each in used)
            runs.append({"cpu_us": one, "store_cpu_us": behind} | said)
    return min(runs, key=lambda run: float(run["cpu_us"]))


def asking(folder: Path, url: str, path: str, token: str) -> Any:
    """A function that asks a server of Unleash's for some seconds."""
    script = folder / f"ask-{token[:5].strip('*:')}.lua"
    script.write_text(ASK % {"token": token, "path": path})

    def ask(seconds: int) -> dict[str, Any]:
        return load(folder, url, seconds, script=script)

    return ask


def peers_measured(folder: Path, peers: Path, seconds: int, rounds: int) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="huidu-unleash-"))
    sockets = socket_folder(home)
    postgres = Postgres(home / "postgres", sockets)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        postgres.start()
        stack.callback(postgres.stop)
        assert postgres.process is not None
        server = started(
            stack,
            "require('unleash-server').start({})",
            peers,
            {
                "DATABASE_URL": postgres.url.replace("@/", "@localhost/"),
                "DATABASE_SSL": "false",
                "PORT": str(SERVER_PORT),
                "HTTP_HOST": "127.0.0.1",
                "INIT_ADMIN_API_TOKENS": ADMIN,
                "INIT_BACKEND_API_TOKENS": CLIENT,
                "INIT_FRONTEND_API_TOKENS": FRONTEND,
                "CHECK_VERSION": "false",
                "SEND_TELEMETRY": "false",
                "LOG_LEVEL": "warn",
                "NODE_ENV": "production",
            },
        )
        base = f"http://127.0.0.1:{SERVER_PORT}"
        wait_for(lambda: answers(f"{base}/api/admin/projects", ADMIN), seconds=90)
        make_flag()
        wait_for(lambda: answers(f"{base}/api/frontend", FRONTEND), seconds=30)
        proxy = started(
            stack,
            "require('@unleash/proxy').start({})",
            peers,
            {
                "PORT": str(PROXY_PORT),
                "UNLEASH_URL": f"{base}/api/",
                "UNLEASH_API_TOKEN": CLIENT,
                "UNLEASH_PROXY_CLIENT_KEYS": SECRET,
                "UNLEASH_FETCH_INTERVAL": "5000",
                "LOG_LEVEL": "warn",
                "NODE_ENV": "production",
            },
        )
        wait_for(lambda: answers(f"http://127.0.0.1:{PROXY_PORT}/proxy", SECRET), seconds=60)
        time.sleep(11)  # both fetch flags every few seconds
        served = {
            "unleash-server, frontend API": (base, "/api/frontend", FRONTEND, server),
            "unleash-proxy": (f"http://127.0.0.1:{PROXY_PORT}", "/proxy", SECRET, proxy),
        }
        found = {}
        for name, (url, path, token, process) in served.items():
            shown = sum(sees(url + path, token, f"u{number}") for number in range(400))
            assert 5 <= shown <= 45, f"{name} shows the flag to {shown} of 400, expected about 20"
            ask = asking(folder, url, path, token)
            found[name] = measured(ask, process, postgres.process.pid, seconds, rounds)
        return found


def sees(url: str, token: str, user: str) -> bool:
    """Whether Unleash shows the flag to a user of the question's facts."""
    query = f"?userId={user}&properties[region]=440300&properties[weekly]=25"
    request = urllib.request.Request(url + query, headers={"Authorization": token})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return any(toggle["name"] == FLAG for toggle in json.load(answer)["toggles"])


def ours_measured(folder: Path, seconds: int, rounds: int) -> dict[str, Any]:
    """A check over HTTP with the profile read from Redis, as in `bench/edge.py`."""
    store = Store()
    with ExitStack() as stack:
        stack.callback(store.close)
        fill(store)
        edge = Running(store)
        stack.callback(edge.stop)
        wait_for(lambda: edge.ask("GET", "/health/ready").json["profiles_readable"])
        os.sched_setaffinity(edge.process.pid, {0})
        url = f"http://127.0.0.1:{edge.port}/ofrep/v1/evaluate/flags/weilidai"
        assert store.server.process is not None

        def ask(length: int) -> dict[str, Any]:
            return load(folder, url, length, users=USERS)

        return measured(ask, edge.process.pid, store.server.process.pid, seconds, rounds)


def version_of(peers: Path, package: str) -> str:
    manifest = peers / "node_modules" / package / "package.json"
    return str(json.loads(manifest.read_text())["version"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="where npm installed them")
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="the cheapest counts")
    arguments = parser.parse_args()
    peers = arguments.peers.resolve()
    folder = Path(tempfile.mkdtemp(prefix="huidu-bench-"))
    try:
        results = {"huidu": ours_measured(folder, arguments.seconds, arguments.rounds)}
        results |= peers_measured(folder, peers, arguments.seconds, arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for result in results.values():
        result["times_huidu"] = round(result["cpu_us"] / results["huidu"]["cpu_us"], 1)
        result["per_second"] = round(result["per_second"])
    report = {
        "command": "python bench/unleash.py --peers DIR",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "others_on_the_machine": f"load {os.getloadavg()[1]:.1f} over five minutes",
        "versions": versions(None)
        | {name: version_of(peers, name) for name in ("unleash-server", "@unleash/proxy")}
        | {
            "node": subprocess.run(
                ["node", "--version"], capture_output=True, text=True
            ).stdout.strip()
        },
        "results": results,
    }
    text = json.dumps(report, indent=1)
    (ROOT / "bench" / "results" / "unleash.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
