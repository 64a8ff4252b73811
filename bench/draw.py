"""How long an exact weighted draw takes, how exact it is, and whom it drops in half a year.

    python bench/draw.py [--users 10000000] [--weeks 26]

One draw: hash every id, take the n smallest ranks; seconds, memory, error, and how much likelier
heavy users are, in standard errors of the binomial. Then weeks of payment counts that go up and
down around each user's own rate, new users every week, and a share that grows every other week: a
draw remembers weights as the platform does (they never fall). Who sees the product is worked out
every week as a check does it, and anybody who saw it the week before and does not now is counted;
beside it, how many a draw with each week's live weights would have dropped. Results go to
bench/results/draw.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from huidu import sampling  # noqa: E402
from huidu.engine.bucketing import FORMULA  # noqa: E402

HEAVY: Final = 20
"""More payments a week than these weigh three times as much."""

SHARES: Final = tuple(
    percent * 10_000 for percent in (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60)
)
ARRIVING: Final = 0.001
"""Of the users there at the beginning, so many come each week."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--weeks", type=int, default=26)
    asked = parser.parse_args()
    figures: dict[str, Any] = {
        "command": f"python bench/draw.py --users {asked.users} --weeks {asked.weeks}",
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "cores": os.cpu_count(),
        "formula": FORMULA,
    }
    random = numpy.random.default_rng(20260528)
    figures["one_draw"], places = one_draw(asked.users, random)
    figures["weeks"] = half_a_year(places, asked.weeks, random)
    path = ROOT / "bench" / "results" / "draw.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def one_draw(users: int, random: Any) -> tuple[dict[str, Any], Any]:
    """A first stage of 5 %, and its users' places on the line."""
    weights = numpy.where(random.random(users) < 0.085, 3, 1).astype(numpy.uint8)
    began = time.perf_counter()
    places = sampling.bucket_many("draw", (f"openid-{n}" for n in range(users)))
    hashed = time.perf_counter()
    result = sampling.draw_share(places, weights, 50_000)
    done = time.perf_counter()
    inside = places // weights < numpy.uint64(result.threshold)
    heavy = weights == 3
    figures = {
        "users": users,
        "hash_seconds": round(hashed - began, 1),
        "draw_seconds": round(done - hashed, 1),
        "all_seconds": round(done - began, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "wanted": result.wanted,
        "admitted": result.admitted,
        "error": int(inside.sum()) - result.wanted,
        **ratio(inside, heavy),
    }
    return figures, places


def ratio(inside: Any, heavy: Any) -> dict[str, float]:
    """How much likelier the heavy are in, and how far from 3 that is in standard errors."""
    drawn = int((inside & heavy).sum()), int((inside & ~heavy).sum())
    chance = drawn[0] / int(heavy.sum()), drawn[1] / int((~heavy).sum())
    found = chance[0] / chance[1]
    error = found * sum((1 - p) / n for p, n in zip(chance, drawn, strict=True)) ** 0.5
    return {"ratio": round(found, 4), "standard_errors_from_3": round((found - 3) / error, 2)}


def half_a_year(places: Any, weeks: int, random: Any) -> dict[str, Any]:
    """Weeks of changing counts; see the head of this file."""
    users = len(places)
    rates = random.gamma(0.9, 9.5, users).astype(numpy.float32)  # about a tenth above 20 a week
    frozen = numpy.ones(users, dtype=numpy.uint8)
    shown: Any = None
    live_shown: Any = None
    threshold = draws = dropped = live_dropped = crossed = 0
    was_heavy: Any = None
    largest_error = 0
    arriving = round(users * ARRIVING)
    for week in range(weeks):
        places, rates, frozen = arrive(places, rates, frozen, arriving, week, random)
        live = numpy.where(random.poisson(rates) > HEAVY, 3, 1).astype(numpy.uint8)
        if was_heavy is not None:
            crossed += int((was_heavy != (live[: len(was_heavy)] == 3)).sum())
        was_heavy = live == 3
        if week % 2 == 0 and draws < len(SHARES):
            frozen = numpy.maximum(frozen, live)
            result = sampling.draw_share(places, frozen, SHARES[draws], at_least=threshold)
            threshold = result.threshold
            draws += 1
            error = int(below(places, frozen, threshold).sum()) - result.wanted
            largest_error = max(largest_error, error, key=abs)
        # What a check says by threshold and remembered weight alone: that a user was admitted is
        # remembered as well, but nobody is to need it here.
        now = below(places, frozen, threshold)
        if shown is not None:
            dropped += int((shown & ~now[: len(shown)]).sum())
        shown = now
        live_now = below(places, live, threshold)
        if live_shown is not None:
            live_dropped += int((live_shown & ~live_now[: len(live_shown)]).sum())
        live_shown = live_now
    return {
        "users_at_the_end": len(places),
        "weeks": weeks,
        "draws": draws,
        "last_share_ppm": SHARES[draws - 1],
        "users_who_crossed_20_payments": crossed,
        "dropped": dropped,
        "dropped_had_weights_been_live": live_dropped,
        "largest_error_of_a_draw": largest_error,
    }


def arrive(
    places: Any, rates: Any, frozen: Any, users: int, week: int, random: Any
) -> tuple[Any, Any, Any]:
    """New users; whether they are in is decided by the threshold of the last draw."""
    if week == 0:
        return places, rates, frozen
    new = sampling.bucket_many("draw", (f"new-{week}-{n}" for n in range(users)))
    return (
        numpy.concatenate([places, new]),
        numpy.concatenate([rates, random.gamma(0.9, 9.5, users).astype(numpy.float32)]),
        numpy.concatenate([frozen, numpy.ones(users, dtype=numpy.uint8)]),
    )


def below(places: Any, weights: Any, threshold: int) -> Any:
    if threshold == 0:
        return numpy.zeros(len(places), dtype=bool)
    return places // weights <= numpy.uint64(threshold - 1)


if __name__ == "__main__":
    main()
