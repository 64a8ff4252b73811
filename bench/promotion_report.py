"""What the finished stages of `bench/promotion.py` say, question by question."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from promotion_log import Ended, key_of, read_log
from promotion_rows import SEED, Row
from scipy.stats import beta

from huidu.promotion import CODE_VERSION, DESIGN


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
