"""How many bytes a packed profile takes in Redis, all included, and how fast it is read.

    python bench/profiles.py [--users 200000]

Starts the Redis that `bin/up` uses, writes so many made-up users as `cohorts.services.packing`
would, and divides the growth of `used_memory` by the users. Results go to
bench/results/profiles.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy  # noqa: E402
import redis  # noqa: E402
import xxhash  # noqa: E402

from huidu.model import Admission  # noqa: E402
from huidu.wire import ring  # noqa: E402
from huidu.wire.profile import (  # noqa: E402
    Profile,
    address,
    buckets_for,
    decode,
    encode,
    user,
    user_of,
)
from local.servers import Redis, socket_folder  # noqa: E402

TODAY = datetime.date(2026, 5, 20)
REGIONS = [f"{code}00" for code in random.Random(1).sample(range(1101, 6543), 330)]
DICE = numpy.random.default_rng(7)
CHUNK = 20_000
DAY = datetime.timedelta(days=1)


def counts() -> bytes:
    """30 days of one user: rates are log-normal, about 10 % pay more than 20 times a week."""
    rates = numpy.minimum(numpy.exp(DICE.normal(-0.3, 1.05)), 12)
    return ring.pack(DICE.poisson(rates, 30).tolist())


def ring_only(chance: random.Random) -> Profile:
    return Profile(updated=TODAY, last_day=TODAY - DAY * chance.randint(0, 2), counts=counts())


def base_facts(chance: random.Random) -> Profile:
    """The facts that the rules of the demo ask for, known for everybody, and the ring."""
    return Profile(
        updated=TODAY - DAY * chance.randint(0, 20),
        region=chance.choice(REGIONS),
        staff=False,
        friends=int(chance.lognormvariate(4.8, 0.8)),
        assets_cny=round(chance.lognormvariate(8.5, 1.6)),
        yearly_spend_cny=round(chance.lognormvariate(10, 1)),
        risk_score=chance.randint(0, 40),
        risk_scored_on=TODAY - DAY * chance.randint(0, 60),
        registered_at=TODAY - DAY * chance.randint(30, 4_500),
        age=chance.randint(16, 75),
        student=chance.random() < 0.1,
        consent=chance.random() < 0.9,
        invited=chance.random() < 0.3,
        holds_fenfu=chance.random() < 0.2,
        emulator=False,
        scripted=False,
        optout=False,
        last_day=TODAY - DAY * chance.randint(0, 2),
        counts=counts(),
    )


def everything(chance: random.Random) -> Profile:
    """Every fact known, money to the fen, and one in seven remembered by a rollout."""
    some = base_facts(chance)
    base = {name: getattr(some, name) for name in Profile.__struct_fields__}
    admissions = {1: Admission(3, chance.random() < 0.15)} if chance.random() < 0.14 else {}
    return Profile(
        **base
        | {
            "assets_cny": round(chance.lognormvariate(8.5, 1.6), 2),
            "yearly_spend_cny": round(chance.lognormvariate(10, 1), 2),
            "wifi_risk": chance.randint(0, 60),
            "outstanding_balance_cny": round(chance.lognormvariate(8, 1)) * (chance.random() < 0.2),
            "admissions": admissions,
        }
    )


def measure(
    client: redis.Redis, users: int, make: Callable[[random.Random], Profile]
) -> dict[str, float]:
    client.flushall()
    before = client.info("memory")["used_memory"]
    buckets = buckets_for(users)
    chance = random.Random(7)
    size = 0
    for start in range(0, users, CHUNK):
        by_key: dict[bytes, dict[Any, Any]] = {}
        for number in range(start, min(start + CHUNK, users)):
            record = encode(make(chance))
            size += len(record)
            key, field = address(f"openid-{number:08d}", buckets)
            by_key.setdefault(key, {})[field] = record
        pipeline = client.pipeline(transaction=False)
        for key, mapping in by_key.items():
            pipeline.hset(key, mapping=mapping)
        pipeline.execute()
    encodings = {client.object("encoding", key) for key in client.scan_iter("p*", count=500)}
    return {
        "bytes_per_user": round((client.info("memory")["used_memory"] - before) / users, 2),
        "record_bytes": round(size / users, 2),
        "users_per_hash": round(users / buckets, 1),
        "compact": encodings <= {b"ziplist", b"listpack"},
    }


def times() -> dict[str, float]:
    """Microseconds per call, the best of five rounds, and their ratio to one hash of an id."""
    chance = random.Random(3)
    profile = everything(chance)
    record = encode(profile)
    calls: dict[str, Callable[[], Any]] = {
        "hash of an id": lambda: xxhash.xxh3_64_intdigest(b"openid-00000042"),
        "decode": lambda: decode(record),
        "user_of (record to user)": lambda: user_of(record, "u", TODAY, {}),
        "user of decode": lambda: user(decode(record), "u", TODAY, {}),
        "encode": lambda: encode(profile),
        "address": lambda: address("openid-00000042", 16384),
    }
    return {
        name: round(min(timeit.repeat(call, number=5_000, repeat=5)) / 5_000 * 1e6, 2)
        for name, call in calls.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200_000)
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = Redis(home / "redis", socket_folder(home))
        server.start()
        try:
            client = redis.Redis(unix_socket_path=str(server.socket))
            client.config_set("appendonly", "no")
            version = client.info("server")["redis_version"]
            sizes = {
                make.__name__: measure(client, users, make)
                for make in (ring_only, base_facts, everything)
            }
        finally:
            server.stop()
    result = {
        "command": f"python bench/profiles.py --users {users}",
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {"python": platform.python_version(), "redis": version},
        "users": users,
        "sizes": sizes,
        "microseconds": times(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "bench" / "results" / "profiles.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
