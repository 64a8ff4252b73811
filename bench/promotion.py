"""Does the promotion rule keep its promises? A seeded simulation of whole stages.

    python bench/promotion.py --runs 1000              every question; hours on a busy machine
    python bench/promotion.py --runs 20 --minutes 5    as far as five minutes reach
    python bench/promotion.py --only false_promotion --runs 1000
    python bench/promotion.py --report                 tell what has been run so far

Five guards, a look every five minutes for 14 days (4,032 looks), a weighted draw, drifting base
rates, clustered errors, outages in both arms. Rates carry exact 95 % intervals (Clopper-Pearson).

Looks at which nothing can be decided are left out, see promotion_screen.py; the question `screen`
puts every look of some stages before the rule and fails unless all is the same. Each finished
stage is one line of the log, so a run that was stopped goes on where it was, and a longer one adds
to a shorter one; `run` i of a row always is the same stage. Results per question go to
bench/results/promotion-QUESTION.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import scipy
from scipy.stats import beta

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import promotion_screen  # noqa: E402
from promotion_world import MARGINS, TIGHT, Stage, World, plan  # noqa: E402

from huidu.promotion import CODE_VERSION, DESIGN  # noqa: E402

SEED = 20_240_501
EARLY = 30
BLOCK = 10
"""Stages of one row before the next row has its turn, so that all rows grow together."""

HARMLESS = {
    "weighted draw only": World(drift=0.0, outages=0),
    "drifting base rates": World(drift=0.6, outages=0),
    "clustered errors": World(bursts=1.0),
    "outages in both arms": World(outages=20),
    "delayed outcomes": World(overdue=True),
    "micro-ramp": World(epochs=((0, 0.0025), (1, 0.01), (3, 0.05))),
    "ramps to a third": World(epochs=((0, 0.01), (2, 0.05), (5, 0.15), (9, 0.33)), overdue=True),
    "restarts": World(epochs=((0, 0.05), (4, 0.05), (9, 0.05)), closed=((3.0, 4.0), (8.5, 9.0))),
    "heavy tails": World(spread=2.2),
    "little traffic": World(users_per_look=100.0),
}

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


@dataclass(frozen=True)
class Row:
    """One line of one question: a world, and how its stages are put before the rule."""

    question: str
    label: str
    world: World
    minimum_days: float = 7.0
    how: str = "screened"  # screened | compared | hourly
    share_of_runs: float = 1.0
    rolls_back: bool = True
    facts: tuple[tuple[str, Any], ...] = ()


class Ended(NamedTuple):
    """One simulated stage, as the log keeps it."""

    decision: str
    metric: str | None
    k: int
    users: int
    asked: int
    knew: int | None


def rows() -> list[Row]:
    found = [*_false_rollback(), *_false_promotion(), *_harmless(), *_users_harmed()]
    return [*found, *_broken_feeds(), *_screen(found), *_early_looks()]


def _false_rollback() -> list[Row]:
    """Harmless stages that may not be promoted before the horizon, looked at until then."""
    return [
        Row("false_rollback", label, world, minimum_days=world.days)
        for label, world in HARMLESS.items()
    ]


def _false_promotion() -> list[Row]:
    """One guard exactly at its margin, all others harmless.

    Most such stages are rolled back before they could be promoted. What the proof is worth without
    that help is seen where nothing is rolled back.
    """
    found = []
    for kind, margins in (("tight", TIGHT), ("ordinary", MARGINS)):
        for name, margin in margins.items():
            effect = 1 - margin if name in ("success", "amount") else 1 + margin
            world = World(effects={name: effect}, margins=tuple(margins.items()))
            label = f"{name} at its {kind} margin of {margin:.0%}"
            few = 0.4 if kind == "tight" else 0.1
            found.append(Row("false_promotion", label, world, share_of_runs=few))
            if kind == "tight":
                label += ", nothing rolled back"
                found.append(Row("false_promotion", label, world, rolls_back=False))
    return found


def _harmless() -> list[Row]:
    """How many harmless stages are promoted by the horizon, and on which day."""
    labels = ("weighted draw only", "drifting base rates", "outages in both arms", "heavy tails")
    return [Row("harmless", label, HARMLESS[label], share_of_runs=0.4) for label in labels]


def _users_harmed() -> list[Row]:
    """Treated users enrolled before a harmful stage is rolled back."""
    return [
        Row(
            "users_harmed",
            f"{name} x{effect:g}",
            World(effects={name: effect}, days=days),
            minimum_days=days,
            share_of_runs=0.4,
            facts=(("metric", name), ("reference", reference), ("effect", effect)),
        )
        for name, effect, reference, days in HARM_SIZES
    ]


def _early_looks() -> list[Row]:
    """A look every minute in the first half hour, or none: harms found in it, harmless stages of
    one day, in which nearly all of the difference lies, and whole ones."""
    found = []
    for early in (0, EARLY):
        how = f"every minute for {early}" if early else "every five minutes"
        for row in _users_harmed():
            if row.world.days == 1:
                world = replace(row.world, early_min=early)
                found.append(
                    replace(row, question="early_looks", label=f"{row.label}, {how}", world=world)
                )
        for label in (
            "weighted draw only",
            "outages in both arms",
            "heavy tails",
            "clustered errors",
        ):
            world = replace(HARMLESS[label], days=1, early_min=early)
            found.append(Row("early_looks", f"{label}, {how}", world, minimum_days=1))
    for label, world in HARMLESS.items():
        world = replace(world, early_min=EARLY)
        found.append(
            Row(
                "early_looks", f"{label}, every minute for {EARLY}, 14 days", world, minimum_days=14
            )
        )
    return found


def _broken_feeds() -> list[Row]:
    """Harmless stages with one feed dead, stalled or silently zero, from the start or day 3.

    Put before the rule once an hour, all planned looks among them: between two planned looks
    nothing is promoted, and a feed seen more rarely is found silent only later.
    """
    found = []
    for fault in ("dead", "stalled", "zero"):
        for arm in ("t", "c", "both"):
            for name in MARGINS:
                for day in (0.0, 3.0):
                    world = World(fault=fault, fault_metric=name, fault_arm=arm, fault_day=day)
                    label = f"{fault}, {arm}"
                    fact = (("from", f"{name}, day {day:g}"),)
                    found.append(
                        Row(
                            "broken_feeds", label, world, how="hourly", share_of_runs=0.01,
                            facts=fact,
                        )
                    )  # fmt: skip
    return found


def _screen(others: list[Row]) -> list[Row]:
    """Some stages of every kind with every look put before the rule: the answers are the same."""
    wanted = [row for row in others if row.question in ("false_rollback", "harmless")]
    wanted += [row for row in others if "tight" in row.label or row.question == "users_harmed"]
    return [
        replace(row, question="screen", label=f"{row.question}: {row.label}", how="compared",
                share_of_runs=0.003)
        for row in wanted
    ]  # fmt: skip


def simulate(row: Row, i: int) -> Ended:
    """Run i of a row: always the same stage."""
    name = row.label.partition(": ")[2] if row.question == "screen" else row.label
    origin = f"{name} {dict(row.facts).get('from', '')}".encode()
    stage = Stage(row.world, np.random.SeedSequence([SEED, crc32(origin), i]))
    given = plan(row.world, minimum_days=row.minimum_days, rolls_back=row.rolls_back)
    if row.how == "hourly":
        end = promotion_screen.run_all(given, stage, every=60 // row.world.look_min)
    else:
        end = {"screened": promotion_screen.run, "compared": promotion_screen.compare}[row.how](
            given, stage
        )
    outcome, effect = end.outcome, dict(row.facts).get("effect")
    knew = None
    if effect is not None:
        name = dict(row.facts)["metric"]
        look = promotion_screen.known_in_advance(given, stage, name, effect)
        knew = None if look is None else stage.treated_users(look)
    users = stage.treated_users(end.k)
    return Ended(outcome.decision.value, outcome.metric, end.k, users, end.asked, knew)


# The log.


def key_of(row: Row) -> str:
    return "|".join([row.question, row.label, str(dict(row.facts).get("from", ""))])


def read_log(path: Path) -> dict[str, dict[int, Ended]]:
    """Finished stages by row and number; a line cut short by a kill is skipped."""
    found: dict[str, dict[int, Ended]] = defaultdict(dict)
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                key, i, told = json.loads(line)
            except ValueError:
                continue
            found[key][i] = Ended(*told)
    return found


def work(asked: list[Row], runs: int, log: Path, minutes: float) -> None:
    """Fill the log until every row has its runs or the time is over."""
    done = read_log(log)
    until = time.monotonic() + 60 * minutes
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write("\n")
        for end in range(BLOCK, runs + BLOCK, BLOCK):
            for row in asked:
                for i in range(math.ceil(min(end, runs) * row.share_of_runs)):
                    if i in done[key_of(row)]:
                        continue
                    if time.monotonic() > until:
                        return
                    ended = simulate(row, i)
                    done[key_of(row)][i] = ended
                    out.write(json.dumps([key_of(row), i, list(ended)]) + "\n")
                    out.flush()


# The report.


def rate(hits: int, runs: int) -> dict[str, Any]:
    """A share with its exact 95 % interval."""
    low = beta.ppf(0.025, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, runs - hits) if hits < runs else 1.0
    return {
        "hits": hits,
        "runs": runs,
        "rate": round(hits / runs, 4),
        "ci95": [round(float(low), 4), round(float(high), 4)],
    }


def tell_rollback(_: Row, ends: list[Ended]) -> dict[str, Any]:
    return rate(sum(e.decision == "roll_back" for e in ends), len(ends)) | {"promise": "<= 5 %"}


def tell_promotion(_: Row, ends: list[Ended]) -> dict[str, Any]:
    found = rate(sum(e.decision == "promote" for e in ends), len(ends))
    return found | {
        "rolled_back": sum(e.decision == "roll_back" for e in ends),
        "promise": "<= 5 %",
    }


def tell_harmless(row: Row, ends: list[Ended]) -> dict[str, Any]:
    minutes = np.cumsum(row.world.spans())
    days = [float(minutes[e.k - 1]) / 1440 for e in ends if e.decision == "promote"]
    return rate(len(days), len(ends)) | {
        "median_day": statistics.median(days) if days else None,
        "rolled_back": sum(e.decision == "roll_back" for e in ends),
        # One large amount may carry the mean of heavy tails: there the outlook warns beforehand.
        "promise": "none" if "heavy" in row.label else ">= 95 %",
    }


def tell_users(row: Row, ends: list[Ended]) -> dict[str, Any]:
    facts = dict(row.facts)
    users = sorted(e.users for e in ends if e.decision == "roll_back")
    knew = [math.inf if e.knew is None else e.knew for e in ends]
    named = Counter(e.metric for e in ends)
    median = statistics.median(users) if users else None
    low, high = _median_interval(users)
    return {
        "median": median,
        "ci95": [low, high],
        "quartiles": [float(q) for q in np.percentile(users, [25, 75])] if users else None,
        "reference": facts["reference"],
        "times_a_test_that_knew": round(median / statistics.median(knew), 2) if median else None,
        "rolled_back": len(users),
        "runs": len(ends),
        "named_rightly": round(named[facts["metric"]] / len(ends), 3),
    }


def tell_early(row: Row, ends: list[Ended]) -> dict[str, Any]:
    return tell_users(row, ends) if row.facts else tell_rollback(row, ends)


def _median_interval(values: list[int]) -> tuple[int | None, int | None]:
    """Order statistics that hold the median with at least 95 % (binomial)."""
    if len(values) < 8:
        return None, None
    reach = 0.98 * math.sqrt(len(values))
    middle = len(values) / 2
    return values[max(0, math.floor(middle - reach))], values[
        min(len(values) - 1, math.ceil(middle + reach))
    ]


def tell_screen(_: Row, ends: list[Ended]) -> dict[str, Any]:
    return {
        "stages": len(ends),
        "looks": sum(e.k for e in ends),
        "asked": sum(e.asked for e in ends),
    }


TELL: dict[str, Callable[[Row, list[Ended]], dict[str, Any]]] = {
    "false_rollback": tell_rollback,
    "false_promotion": tell_promotion,
    "harmless": tell_harmless,
    "users_harmed": tell_users,
    "broken_feeds": tell_promotion,
    "screen": tell_screen,
    "early_looks": tell_early,
}


def report(asked: list[Row], log: Path, out: Path, command: str) -> None:
    """Print every question's rows and write its JSON."""
    done = read_log(log)
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": f"{platform.machine()} {platform.system()} {os.cpu_count()} cpus",
        "code": f"{CODE_VERSION}, design {DESIGN}",
    }
    print(command, versions)
    for question, tell in TELL.items():
        found: dict[str, Any] = {}
        grouped: dict[str, tuple[Row, list[Ended]]] = {}
        for row in asked:
            if row.question == question and done[key_of(row)]:
                grouped.setdefault(row.label, (row, []))[1].extend(done[key_of(row)].values())
        for label, (row, ends) in grouped.items():
            found[label] = tell(row, ends)
        if not found:
            continue
        if question == "broken_feeds":
            total = [e for _, ends in grouped.values() for e in ends]
            found["all"] = tell_promotion(next(iter(grouped.values()))[0], total)
        if question in ("false_rollback", "broken_feeds"):
            for each in found.values():
                each["promise"] = "<= 5 %" if question == "false_rollback" else "none"
        print(question)
        for label, told in found.items():
            print(f"  {label:<48} {json.dumps(told)}")
        out.mkdir(exist_ok=True)
        whole = {
            "command": command,
            "seed": SEED,
            "look_min": 5,
            "versions": versions,
            "rows": found,
        }
        path = out / f"promotion-{question.replace('_', '-')}.json"
        path.write_text(json.dumps(whole, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=1_000, help="stages of a row; some rows run a share of them"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--only", choices=sorted(TELL), action="append")
    parser.add_argument("--row", action="append", help="only rows with this in their label")
    parser.add_argument("--report", action="store_true", help="run nothing, tell what there is")
    parser.add_argument(
        "--log",
        type=Path,
        default=HERE.parent / ".huidu" / "bench" / f"{CODE_VERSION}-design-{DESIGN}.jsonl",
        help="finished stages, one a line",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON")
    given = parser.parse_args()
    asked = [row for row in rows() if given.only is None or row.question in given.only]
    if given.row:
        asked = [row for row in asked if any(part in row.label for part in given.row)]
    if not given.report:
        work(asked, given.runs, given.log, given.minutes)
    command = f"python bench/promotion.py --runs {given.runs}"
    command += "".join(f" --only {name}" for name in given.only or ())
    report(asked, given.log, given.out, command)


if __name__ == "__main__":
    main()
