"""Are explanations true, minimal, replayable, discreet and quick?

    HUIDU_HOME=... bin/up        # in another shell
    python bench/explain.py --demo $HUIDU_HOME/demo.json [--users 10000]

Asks a running installation with its demo: its own snapshot over generated users (in this process,
with the code of this checkout), and its HTTP interface. It makes users ``bench-...`` there, keeps
receipts of every check for the time of the run, and blocks the neutral twins.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

FLAG = "weilidai"
CITIES = ("440300", "310000", "410100", "130100", "540100", "510100")


class Caller:
    """One kept connection with one key."""

    def __init__(self, base: str, key: str) -> None:
        where = urlsplit(base)
        self.link = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body)
        try:
            self.link.request(method, path, data, self.headers)
            answer = self.link.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # it lay idle too long
            self.link.close()
            self.link.request(method, path, data, self.headers)
            answer = self.link.getresponse()
        return answer.status, answer.read()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        status, told = self.ask(method, path, body)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {told[:300]!r}")
        return json.loads(told) if told else None


def user_facts(rng: random.Random) -> dict[str, Any]:
    """Facts of a made-up user, most of whom miss something."""
    return {
        "region": rng.choice(CITIES),
        "staff": rng.random() < 0.5,
        "age": rng.randint(17, 70),
        "student": rng.random() < 0.05,
        "consent": rng.random() < 0.6,
        "optout": rng.random() < 0.2,
        "emulator": rng.random() < 0.05,
        "scripted": rng.random() < 0.05,
        "wifi_risk": rng.randint(0, 100),
        "risk_score": rng.randint(0, 100),
        "invited": rng.random() < 0.7,
        "holds_fenfu": rng.random() < 0.3,
        "friends": rng.randint(0, 300),
        "assets_cny": rng.randint(0, 50_000),
        "yearly_spend_cny": rng.randint(0, 120_000),
        "outstanding_balance_cny": rng.randint(0, 400_000),
    }


def counterfactuals(server: Caller, users: int, rng: random.Random) -> dict[str, int]:
    """Apply every advised set, and every proper subset of it, and check again."""
    import msgspec

    from huidu.engine import compile_snapshot
    from huidu.engine.counterfactual import changes
    from huidu.model import FULL_THRESHOLD, PPM, User, place_of, place_slot
    from huidu.wire import snapshot as wire
    from rollout.advice import CHANGEABLE

    status, blob = server.ask("GET", "/api/v1/snapshot")
    assert status == 200, status
    snapshot = wire.decode(blob)
    # With the draw open to everybody, what keeps a user out is what the user can change.
    flags = []
    for flag in snapshot.flags:
        rollout = flag.rollout
        if rollout is not None:
            stages = [
                msgspec.structs.replace(each, threshold=FULL_THRESHOLD, share_ppm=PPM)
                for each in rollout.stages
            ]
            rollout = msgspec.structs.replace(rollout, stages=stages)
        flags.append(msgspec.structs.replace(flag, rollout=rollout))
    compiled = compile_snapshot(msgspec.structs.replace(snapshot, flags=flags))
    # A place at a funding partner is no change of the user's: each is given the one he would get.
    slots = [flag.rollout.slot for flag in flags if flag.rollout is not None]
    places = {place_slot(slot): place_of(0) for slot in slots}
    done = dict.fromkeys(("users", "refused", "advised", "sets", "flip", "minimal"), 0)
    for number in range(users):
        facts = user_facts(rng) | {
            "weekly_payments": (week := rng.randint(0, 12)),
            "monthly_payments": week + rng.randint(0, 20),
        }
        user = User(f"generated-{number}", facts, admissions=places)
        done["users"] += 1
        for flag in compiled.flags:
            if compiled.check(flag, user).visible:
                continue
            done["refused"] += 1
            found = changes(compiled, flag, user, changeable=CHANGEABLE)
            done["advised"] += bool(found.sets)
            for one in found.sets:
                done["sets"] += 1
                done["flip"] += _shown(compiled, flag, user, one)
                smaller = itertools.chain.from_iterable(
                    itertools.combinations(one, size) for size in range(len(one))
                )
                done["minimal"] += not any(_shown(compiled, flag, user, each) for each in smaller)
    return done


def _shown(compiled: Any, flag: str, user: Any, moves: Any) -> bool:
    import msgspec

    changed = {**user.attributes, **{each.attribute: each.after for each in moves}}
    return bool(compiled.check(flag, msgspec.structs.replace(user, attributes=changed)).visible)


def twins(admin: Caller, ingest: Caller, server: Caller, pairs: int, rng: random.Random) -> Any:
    """A fraud and a neutral refusal of users alike in all else, as customers hear them."""
    profiles, neutral = [], []
    for number in range(pairs):
        facts = {
            **user_facts(rng),
            "region": "310000",
            "age": 30,
            "student": False,
            "consent": True,
            "optout": False,
            "outstanding_balance_cny": 0,
            "scripted": False,
            "wifi_risk": 0,
            "risk_score": 0,
        }
        for kind in ("fraud", "blind"):
            profiles.append(
                {**facts, "user_id": f"bench-{kind}-{number}", "emulator": kind == "fraud"}
            )
        neutral.append(f"bench-blind-{number}")
    told = ingest.json("POST", "/api/v1/profiles", {"profiles": profiles})
    assert not told["rejected"], told["rejected"][:2]
    admin.json(
        "PATCH", f"/api/v1/manage/flags/{FLAG}", {"block_users": neutral, "reason": "benchmark"}
    )
    time.sleep(3)
    equal, times = 0, {"fraud": [], "blind": []}
    path = f"/api/v1/flags/{FLAG}/users/bench-{{}}-{{}}/explanation?audience=customer"
    for number in range(pairs):
        heard = {}
        for kind in rng.sample(("fraud", "blind"), 2):
            begin = time.perf_counter()
            _, body = server.ask("GET", path.format(kind, number))
            times[kind].append((time.perf_counter() - begin) * 1000)
            heard[kind] = body.replace(kind.encode(), b"twin")
        same = {kind: _timeless(body) for kind, body in heard.items()}
        equal += same["fraud"] == same["blind"]
    admin.json("PATCH", f"/api/v1/manage/flags/{FLAG}", {"block_users": [], "reason": "benchmark"})
    medians = {kind: round(statistics.median(each), 2) for kind, each in times.items()}
    # How often a guess from one answer's time is right: 0.5 says nothing can be learned.
    wins = sum(a > b for a in times["fraud"] for b in times["blind"]) / pairs**2
    return {
        "pairs": pairs,
        "identical": equal,
        "median_ms": medians,
        "fraud_slower_than_neutral": round(wins, 3),
        "standard_error": round((1 / (6 * pairs)) ** 0.5, 3),
    }


def _timeless(body: bytes) -> bytes:
    """The answer's bytes without its moment; order and spelling of all else stay."""
    at = json.loads(body)["as_of"].encode()
    return body.replace(at, b"")


def latencies(server: Caller, users: int, audience: str) -> dict[str, float]:
    """One client, one connection, explanation after explanation."""
    times = []
    for number in range(1, users + 1):
        begin = time.perf_counter()
        status, _ = server.ask(
            "GET",
            f"/api/v1/flags/{FLAG}/users/u{number:06}/explanation?audience={audience}",
        )
        times.append((time.perf_counter() - begin) * 1000)
        assert status == 200, status
    cuts = statistics.quantiles(times[20:], n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2), "requests": users}


def replays(admin: Caller, server: Caller, checks: int, home: Path) -> dict[str, Any]:
    """Checks with receipts, across an edit of the flag and of the users; then replay them all."""
    admin.json(
        "PATCH", f"/api/v1/manage/flags/{FLAG}", {"receipts_ppm": 1_000_000, "reason": "benchmark"}
    )
    time.sleep(2)
    started = time.time()
    for number in range(1, checks + 1):
        if number == checks // 2:
            admin.json(
                "PATCH",
                f"/api/v1/manage/flags/{FLAG}",
                {"block_users": [f"u{each:06}" for each in range(1, 200)], "reason": "benchmark"},
            )
        server.ask("GET", f"/api/v1/flags/{FLAG}/users/u{number % 5_000 + 1:06}")
    time.sleep(6)
    admin.json(
        "PATCH",
        f"/api/v1/manage/flags/{FLAG}",
        {"block_users": [], "receipts_ppm": 0, "reason": "benchmark"},
    )
    since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(started))
    found = subprocess.run(
        [sys.executable, "manage.py", "verify_receipts", "--flag", FLAG, "--since", since],
        cwd=ROOT,
        env=os.environ | {"HUIDU_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    line = next((each for each in found.stdout.splitlines() if "replayed," in each), found.stderr)
    return {"checks": checks, "verify_receipts": line.strip()[-300:]}


def _journey(server: Caller, ingest: Caller, checks: int) -> dict[str, Any]:
    from replay_journey import journey

    return journey(
        lambda flag, user: server.json("GET", f"/api/v1/flags/{flag}/users/{user}"),
        lambda profiles: ingest.json("POST", "/api/v1/profiles", {"profiles": profiles}),
        checks,
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--demo", type=Path, required=True)
    asked.add_argument("--users", type=int, default=10_000)
    asked.add_argument("--pairs", type=int, default=300)
    asked.add_argument("--requests", type=int, default=1_000)
    asked.add_argument("--checks", type=int, default=3_000)
    options = asked.parse_args()
    demo = json.loads(options.demo.read_text())
    admin, server, ingest = (
        Caller(demo["url"], demo["keys"][kind]) for kind in ("admin", "server", "ingest")
    )
    import django

    os.environ["HUIDU_HOME"] = str(options.demo.parent)
    django.setup()
    rng = random.Random(7)
    result = {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "command": "python bench/explain.py " + " ".join(sys.argv[3:]),
        "counterfactual": counterfactuals(server, options.users, rng),
        "twins": twins(admin, ingest, server, options.pairs, rng),
        "explanation": {
            audience: latencies(server, options.requests, audience)
            for audience in ("customer", "support")
        },
        "replay": replays(admin, server, options.checks, options.demo.parent),
        "replay_journey": _journey(server, ingest, options.checks),
    }
    print(json.dumps(result, indent=2))
    (ROOT / "bench" / "results" / "explain.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
