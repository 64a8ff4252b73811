"""How fast, how flat and how big the engine is, and how good its hash; everything in one run.

    python bench/engine.py [--quick] [--only speed|size|forms|hash|draw]

Times are the best of several rounds, as ratios to a floor measured in the same process: an empty
Python call plus one XXH3 hash of the user's id. Results go to bench/results/engine.json.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import platform
import random
import resource
import subprocess
import sys
import time
import timeit
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import xxhash

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from huidu import sampling  # noqa: E402
from huidu.engine import bucketing, compile_snapshot  # noqa: E402
from huidu.model import (  # noqa: E402
    Admission,
    Attribute,
    AttributeType,
    Cohort,
    Flag,
    Gate,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    User,
)
from huidu.wire import snapshot as wire  # noqa: E402

UID = "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"
FACTS = {"region": "440300", "weekly_payments": 12, "staff": False}

ATTRIBUTES = [
    Attribute(id=1, name="weekly_payments", type=AttributeType.INTEGER, minimum=0),
    Attribute(id=2, name="region", type=AttributeType.REGION),
    Attribute(id=3, name="staff", type=AttributeType.BOOLEAN),
]


def flag(index: int, *, sticky: bool = True, gates: int = 2) -> Flag:
    """A region rule, a weekly-count rule, a 5 % draw; more rules on demand."""
    rules: list[dict[str, Any]] = [
        {"within": [{"var": "region"}, ["440000", "310000"]]},
        {">=": [{"var": "weekly_payments"}, 3]},
    ]
    rules += [{"<": [{"var": "weekly_payments"}, 1000 + n]} for n in range(gates - 2)]
    return Flag(
        key=f"flag-{index}",
        version=1,
        gates=[
            Gate(key=f"g{n}", dimension="activity", why=f"refused.{n}", rule=rule)
            for n, rule in enumerate(rules)
        ],
        rollout=Rollout(
            slot=index,
            salt=f"flag-{index}",
            status=RolloutStatus.RUNNING,
            sticky=sticky,
            current=0,
            stages=[Stage(key="5%", share_ppm=50_000, threshold=bucketing.threshold_of(50_000))],
        ),
    )


def snapshot(flags: int, cohorts: int = 0, *, gates: int = 2) -> Snapshot:
    return Snapshot(
        environment="bench",
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=[
            Cohort(key=f"c{n}", rule={">": [{"var": "weekly_payments"}, n]}) for n in range(cohorts)
        ],
        flags=[flag(n, gates=gates) for n in range(flags)],
    )


def best(statement: str, names: dict[str, Any], rounds: int = 800) -> float:
    """Nanoseconds of one execution, in the least disturbed of many rounds.

    Rounds last half a millisecond, so that some escape whatever else the machine does; one long
    round would be interrupted for sure, and the floor's short ones would not.
    """
    number = 2_000
    return min(timeit.repeat(statement, globals=names, number=number, repeat=rounds)) / number * 1e9


def empty(_key: str) -> None:
    pass


def floor() -> float:
    """An empty Python call plus one hash of the id, which `xxhash` takes as bytes."""
    names = {"empty": empty, "hash64": xxhash.xxh3_64_intdigest, "uid": UID}
    return best("empty(uid)", names) + best("hash64(uid.encode())", names)


def speed() -> dict[str, Any]:
    """The ratio of one check to the floor, and how it depends on the snapshot's size."""
    found: dict[str, Any] = {}
    for flags, cohorts in ((1, 0), (10_000, 0), (1, 1_000)):
        compiled = compile_snapshot(snapshot(flags, cohorts))
        name = f"flag-{flags // 2}"
        names = {
            "compiled": compiled,
            "name": name,
            "uid": UID,
            "facts": FACTS,
            "user": User(UID, FACTS),
            "drawn": {flags // 2: Admission(weight=3, admitted=False)},
            "far": {**FACTS, "region": "540100"},
            "none": {},
        }
        base = floor()
        ratios = {"floor_ns": round(base, 1)}
        for label, statement in (
            ("evaluate", "compiled.evaluate(name, uid, facts)"),
            ("check(User)", "compiled.check(name, user)"),
            ("with an admission", "compiled.evaluate(name, uid, facts, drawn)"),
            ("refused by region", "compiled.evaluate(name, uid, far)"),
            ("nothing known", "compiled.evaluate(name, uid, none)"),
        ):
            eval(statement, names)  # compiled at its first check
            ratios[label] = round(best(statement, names) / base, 2)
        found[f"{flags} flags, {cohorts} cohorts"] = ratios
    one, *others = (each["evaluate"] for each in found.values())
    found["evaluate, largest / smallest snapshot"] = round(max(others) / one, 2)
    return found


def forms() -> dict[str, Any]:
    """Closures against generated source, for the same flag."""
    base = floor()
    hash64, seed = xxhash.xxh3_64_intdigest, bucketing.seed_of("flag-0")
    limit = bucketing.threshold_of(50_000)
    compiled = compile_snapshot(snapshot(1))
    answers = [object(), object(), object()]
    codes = {"440300": True}

    def within(attributes: dict[str, Any]) -> bool | None:
        region = attributes.get("region")
        return codes[region] if type(region) is str else None

    def at_least(attributes: dict[str, Any]) -> bool | None:
        weekly = attributes.get("weekly_payments")
        return weekly >= 3 if type(weekly) is int else None

    gates = [(within, answers[0]), (at_least, answers[0])]

    def closures(_name: str, key: str, attributes: dict[str, Any]) -> object:
        if type(key) is not str or not key:
            return answers[0]
        for passes, refusal in gates:
            if passes(attributes) is not True:
                return refusal
        return answers[1] if hash64(key.encode(), seed) < limit else answers[2]

    names = {"closures": closures, "compiled": compiled, "uid": UID, "facts": FACTS}
    compiled.warm()
    return {
        "closures": round(best("closures('flag-0', uid, facts)", names) / base, 2),
        "generated": round(best("compiled.evaluate('flag-0', uid, facts)", names) / base, 2),
    }


def size() -> dict[str, Any]:
    """A snapshot of 1,000 flags with 10 rules each: bytes, memory, and time to swap it in."""
    blob = wire.encode(snapshot(1_000, gates=10))
    code = (
        "import sys, resource, gc; sys.path.insert(0, sys.argv[1])\n"
        "from huidu.engine import compile_snapshot; from huidu.wire import snapshot as wire\n"
        "blob = open(0, 'rb').read()\n"
        "rss = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = rss(); compiled = compile_snapshot(wire.decode(blob)); gc.collect()\n"
        "swapped = rss(); compiled.warm(); gc.collect(); print(swapped - before, rss() - before)"
    )
    lazy, warm = map(
        int,
        subprocess.run(
            [sys.executable, "-c", code, str(ROOT)], input=blob, capture_output=True, check=True
        ).stdout.split(),
    )
    tracemalloc.start()
    compiled = compile_snapshot(wire.decode(blob))
    gc.collect()
    traced_lazy = tracemalloc.get_traced_memory()[0]
    compiled.warm()
    gc.collect()
    traced_warm = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    began = time.perf_counter()
    compiled = compile_snapshot(wire.decode(blob))
    swap = time.perf_counter() - began
    began = time.perf_counter()
    compiled.warm()
    return {
        "blob_kb": round(len(blob) / 1e3, 1),
        "rss_mb": round(lazy / 1e6, 1),
        "rss_warm_mb": round(warm / 1e6, 1),
        "tracemalloc_mb": round(traced_lazy / 1e6, 1),
        "tracemalloc_warm_mb": round(traced_warm / 1e6, 1),
        "decode_and_validate_ms": round(swap * 1e3),
        "compile_one_flag_ms": round(time.perf_counter() - began, 3),  # of 1,000,
    }


def hash_quality(users: int) -> dict[str, Any]:
    """Uniformity, and how far the 5 % samples of 28 near-identical flags overlap by accident."""
    import numpy

    rng = random.Random(7)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    populations = {
        "sequential": [str(n) for n in range(users)],
        "openid-like": ["o6_bm" + "".join(rng.choices(letters, k=23)) for _ in range(users)],
    }
    limit = numpy.uint64(bucketing.threshold_of(50_000))
    found: dict[str, Any] = {
        "users": users,
        "expected lift rms": round(0.95 / math.sqrt(0.0025 * users), 4),
    }
    for kind, ids in populations.items():
        inside = []
        for index in range(28):
            places = numpy.asarray(sampling.bucket_many(f"weilidai-{index}", ids))
            inside.append(places < limit)
        counts = numpy.bincount((places >> numpy.uint64(54)).astype(int), minlength=1024)
        expected = users / 1024
        chi_square = float((((counts - expected) ** 2) / expected).sum())
        drawn = numpy.array(inside, dtype=numpy.float32)
        both, size_of = drawn @ drawn.T, drawn.sum(axis=1)
        lifts = [
            both[a, b] * users / (size_of[a] * size_of[b]) - 1
            for a, b in itertools.combinations(range(28), 2)
        ]
        found[kind] = {
            "lift rms": round(float(numpy.sqrt(numpy.mean(numpy.square(lifts)))), 4),
            "largest lift": round(float(numpy.abs(lifts).max()), 4),
            "chi-square, 1023 degrees": round(chi_square),
        }
    return found


def draw(users: int) -> dict[str, Any]:
    """Seconds and memory of one exact weighted draw."""
    import numpy

    began = time.perf_counter()
    places = sampling.bucket_many("draw", (f"openid-{n}" for n in range(users)))
    hashed = time.perf_counter()
    weights = numpy.where(numpy.random.default_rng(7).random(users) < 0.085, 3, 1)
    weights = weights.astype(numpy.uint8)
    ready = time.perf_counter()
    result = sampling.draw_share(places, weights, 50_000)
    return {
        "users": users,
        "hash_s": round(hashed - began, 1),
        "draw_s": round(time.perf_counter() - ready, 2),
        "admitted": result.admitted,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the users")
    parser.add_argument("--only", choices=["speed", "size", "forms", "hash", "draw"])
    chosen = parser.parse_args()
    shrink = 10 if chosen.quick else 1
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": speed,
        "forms": forms,
        "size": size,
        "hash": lambda: hash_quality(1_000_000 // shrink),
        "draw": lambda: draw(10_000_000 // shrink),
    }
    found: dict[str, Any] = {
        "command": " ".join(["python", "bench/engine.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "xxhash": xxhash.VERSION,
        "msgspec": msgspec.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    for name, part in parts.items():
        if chosen.only in (None, name):
            found[name] = part()
    print(json.dumps(found, indent=2, ensure_ascii=False))
    if chosen.only is None and not chosen.quick:
        target = ROOT / "bench" / "results" / "engine.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
