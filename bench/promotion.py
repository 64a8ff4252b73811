"""Does the promotion rule keep its promises? A seeded simulation of whole stages.

    python bench/promotion.py --runs 20            quick: every question in under a minute
    python bench/promotion.py --full               200 stages a row, 5-minute looks (about an hour)
    python bench/promotion.py --runs 200 --only false_promotion

Five guards, a weighted draw, drifting base rates, clustered errors, outages in both arms. Rates
carry 95 % intervals (Clopper-Pearson). Results go to bench/results/promotion.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import scipy
from scipy.stats import beta

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from promotion_world import MARGINS, TIGHT, Stage, World, plan  # noqa: E402

from huidu.promotion import CODE_VERSION, Decision, Outcome, State, review  # noqa: E402

HARM_SIZES = [
    # metric, treated over control, treated users until rollback in the design, days simulated
    ("success", 0.8, 4_850, 3),
    ("success", 0.5, 750, 1),
    ("complaints", 2.0, 3_000, 3),
    ("complaints", 5.0, 350, 1),
    ("api_errors", 3.0, 260, 1),
    ("api_errors", 10.0, 53, 1),
    ("latency", 1.25, 300, 1),
    ("latency", 2.0, 52, 1),
    ("amount", 0.8, 13_000, 8),
    ("amount", 0.5, 1_700, 2),
]

HARMLESS = {
    "weighted draw": World(drift=0.0, outages=0),
    "drift and outages": World(),
    "heavy tails": World(spread=2.2),
    "micro-ramp": World(epochs=((0, 0.0025), (1, 0.01), (3, 0.05))),
    "delayed outcomes": World(overdue=True),
    "little traffic": World(users_per_look=100.0),
}


def run(world: World, seed: int, *, minimum_days: float = 7.0) -> tuple[Outcome, int, Stage]:
    """One whole stage; the last outcome and the look it came at."""
    stage, state = Stage(world, seed), State()
    given = plan(world, minimum_days=minimum_days)
    for k in range(1, stage.looks + 1):
        state, outcome = review(given, state, stage.look(k))
        if outcome.decision != "hold":
            return outcome, k, stage
    return outcome, stage.looks, stage


def rate(hits: int, runs: int) -> dict[str, Any]:
    """A share with its exact 95 % interval."""
    low = beta.ppf(0.025, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, runs - hits) if hits < runs else 1.0
    return {
        "hits": hits,
        "runs": runs,
        "rate": hits / runs,
        "ci95": [round(low, 4), round(high, 4)],
    }


def say(label: str, found: dict[str, Any], promise: str) -> None:
    low, high = found["ci95"]
    print(
        f"  {label:<34} {found['hits']:>4} of {found['runs']:<4} = {found['rate']:6.1%}"
        f"  (95 %: {low:.1%} to {high:.1%})  {promise}",
        flush=True,
    )


def false_rollback(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """Harmless stages that are never promoted, looked at until the horizon."""
    print(f"false rollback, a look every {look_min} minutes for 14 days")
    found = {}
    for label, world in HARMLESS.items():
        world = replace(world, look_min=look_min)
        ends = [run(world, seed + i, minimum_days=world.days)[0] for i in range(runs)]
        found[label] = rate(sum(o.decision == "roll_back" for o in ends), runs)
        say(label, found[label], "promise: at most 5 %")
    return found


def false_promotion(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """One guard exactly at its margin, all others harmless."""
    print(f"false promotion with one guard exactly at its margin, looks every {look_min} minutes")
    found = {}
    for label, margins in (("", MARGINS), (", tight", TIGHT)):
        for name, margin in margins.items():
            effect = 1 - margin if name in ("success", "amount") else 1 + margin
            world = World(effects={name: effect}, look_min=look_min, margins=tuple(margins.items()))
            ends = [run(world, seed + i)[0].decision for i in range(runs)]
            found[name + label] = rate(ends.count(Decision.PROMOTE), runs) | {
                "margin": margin,
                "rolled_back": ends.count(Decision.ROLL_BACK),
            }
            say(f"{name}{label}, {margin:.0%}", found[name + label], "promise: at most 5 %")
    return found


def harmless(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """Harmless stages: how many are promoted by the horizon, and on which day."""
    print(f"harmless stages promoted by the horizon, looks every {look_min} minutes")
    found: dict[str, Any] = {}
    for label in ("weighted draw", "drift and outages", "heavy tails"):
        world = replace(HARMLESS[label], look_min=look_min)
        ends = [run(world, seed + i) for i in range(runs)]
        days = [k * look_min / 1440 for o, k, _ in ends if o.decision == "promote"]
        found[label] = rate(len(days), runs) | {
            "median_day": statistics.median(days) if days else None,
            "rolled_back": sum(o.decision == "roll_back" for o, _, _ in ends),
        }
        # One large amount may carry the mean of heavy tails: there the outlook warns beforehand.
        promise = "no promise" if label == "heavy tails" else "promise: at least 95 %"
        say(label, found[label], f"{promise}; median day {found[label]['median_day']}")
    return found


def broken_feeds(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """Harmless stages with one feed dead, stalled or silently zero, from the start or day 3."""
    print(f"promotions with a broken feed, looks every {look_min} minutes")
    found = {}
    for fault in ("dead", "stalled", "zero"):
        for arm in ("t", "c", "both"):
            hits = total = 0
            for name in MARGINS:
                for day in (0.0, 3.0):
                    world = World(
                        look_min=look_min, fault=fault, fault_metric=name, fault_arm=arm,
                        fault_day=day,
                    )  # fmt: skip
                    for i in range(max(1, runs // 20)):
                        hits += run(world, seed + i)[0].decision == "promote"
                        total += 1
            found[f"{fault}, {arm}"] = rate(hits, total)
            say(f"{fault}, {arm}", found[f"{fault}, {arm}"], "promise: none")
    return found


def users_harmed(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """Treated users enrolled before a harmful stage is rolled back."""
    print(f"treated users until rollback, looks every {look_min} minutes, 50 treated each")
    found = {}
    for name, effect, reference, days in HARM_SIZES:
        world = World(effects={name: effect}, days=days)
        ends = [run(world, seed + i, minimum_days=days) for i in range(runs)]
        users = sorted(s.treated_users(k) for o, k, s in ends if o.decision == "roll_back")
        named = Counter(o.metric for o, _, _ in ends)
        row = {
            "rolled_back": len(users),
            "runs": runs,
            "median": statistics.median(users) if users else None,
            "quartiles": [float(q) for q in np.percentile(users, [25, 75])] if users else None,
            "reference": reference,
            "named_rightly": named[name] / runs,
        }
        found[f"{name} x{effect:g}"] = row
        print(
            f"  {name} x{effect:<6g} median {row['median']:>8,.0f}  quartiles {row['quartiles']}"
            f"  reference {reference:,}  rolled back {len(users)} of {runs},"
            f" guard named rightly {row['named_rightly']:.0%}",
            flush=True,
        )
    return found


def cost_of_a_look(runs: int, seed: int, look_min: int) -> dict[str, Any]:
    """Processor time of one review (five guards, two cells) and of its state through JSON."""
    world = World(look_min=5)
    stage, state, given = Stage(world, seed), State(), plan(world, minimum_days=14)
    looks = [stage.look(k) for k in range(1, 1001)]
    began = time.process_time()
    for look in looks:
        state, _ = review(given, state, look)
    middle = time.process_time()
    for _ in looks:
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)
    ended = time.process_time()
    found = {
        "review_us": round((middle - began) * 1e6 / len(looks), 1),
        "state_json_us": round((ended - middle) * 1e6 / len(looks), 1),
    }
    print(f"one look: {found['review_us']} us, state through JSON {found['state_json_us']} us")
    return found


QUESTIONS = {
    "cost_of_a_look": cost_of_a_look,
    "users_harmed": users_harmed,
    "broken_feeds": broken_feeds,
    "false_promotion": false_promotion,
    "harmless": harmless,
    "false_rollback": false_rollback,
}
# Looks too rare for harm only make promotions likelier, so these questions may look seldom.
LOOK_MIN = {"false_promotion": 720, "harmless": 60, "broken_feeds": 120, "false_rollback": 120}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="stages per row")
    parser.add_argument("--full", action="store_true", help="200 stages a row, 5-minute looks")
    parser.add_argument("--look-min", type=int, help="minutes between looks, for every question")
    parser.add_argument("--seed", type=int, default=20_240_501)
    parser.add_argument("--only", choices=sorted(QUESTIONS), action="append")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    given = parser.parse_args()
    runs = 200 if given.full else given.runs
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "cpu_count": __import__("os").cpu_count(),
        "code": CODE_VERSION,
    }
    asked = [word for word in sys.argv[1:] if word not in ("--out", str(given.out))]
    command = " ".join(["python", "bench/promotion.py", *asked])
    print(command, versions, flush=True)
    results: dict[str, Any] = {}
    for name in given.only or QUESTIONS:
        look_min = given.look_min or (5 if given.full else LOOK_MIN.get(name, 5))
        began = time.perf_counter()
        results[name] = QUESTIONS[name](runs, given.seed, look_min)
        results[name] = {"look_min": look_min, "rows": results[name]}
        print(f"  ({time.perf_counter() - began:.1f} s)", flush=True)
    tag = "-".join(sorted(given.only)) if given.only else "full" if given.full else "quick"
    out = given.out or Path(__file__).parent / "results" / f"promotion-{tag}.json"
    out.parent.mkdir(exist_ok=True)
    report = {"command": command, "seed": given.seed, "runs": runs, "versions": versions}
    out.write_text(json.dumps(report | {"results": results}, indent=1, default=float) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
