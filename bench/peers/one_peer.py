"""Times one peer in this process; see `bench/local_check.py`, which starts it."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import sys
import time
from functools import partial
from typing import Any

from world import Check, population

Users = list[tuple[str, dict[str, Any]]]

TIMED = 1_000  # few enough that memory is not what is measured
ROUND_SECONDS = 0.0007
SECONDS = 3.0
FEWEST_ROUNDS = 15


def main() -> None:
    logging.disable(logging.CRITICAL)
    peer = sys.argv[1]
    name, _, way = peer.partition("-")
    module = importlib.import_module(f"peer_{name}")
    check, shown_version = getattr(module, f"make_{way}" if way else "make")()
    users = population()
    answers = [check(*each) for each in users]
    admitted = sum(getattr(each, "visible", each) for each in answers) / len(users)
    if not 0.02 < admitted < 0.03:
        raise SystemExit(f"{peer} admits {admitted:.2%}, expected about 2.5 %")
    timed = {"check": check, "floor": floor()}
    if way == "openfeature":
        timed["bare"] = module.bare_openfeature()
    result: dict[str, Any] = {"version": shown_version, "admitted": admitted}
    for each, seconds in cheapest(timed, users[:TIMED]).items():
        result[f"{each}_us"] = seconds * 1e6
    result["floors"] = result["check_us"] / result["floor_us"]
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # some peers hold the process with threads of theirs


def cheapest(checks: dict[str, Check], users: Users) -> dict[str, float]:
    """Seconds for one check of each, in the least disturbed of many short rounds, taken in turns.

    A round of the slowest peer is as short as one of the quickest, so each is disturbed as seldom.
    """
    taken, best = {}, {}
    gc.disable()
    for name, check in checks.items():
        count = int(len(users) * ROUND_SECONDS / round_of(check, users)) // 2 * 2
        taken[name] = users[: max(20, count)]
        best[name] = float("inf")
    until = time.perf_counter() + SECONDS
    rounds = 0
    while rounds < FEWEST_ROUNDS or time.perf_counter() < until:
        rounds += 1
        for name, check in checks.items():
            seconds = round_of(check, taken[name]) / len(taken[name])
            best[name] = min(best[name], seconds)
    gc.enable()
    return best


def round_of(check: Check, users: Users) -> float:
    """Seconds for one check of each user."""
    if isinstance(check, partial):  # called as an application would, without the partial's cost
        function, (flag,) = check.func, check.args
        started = time.perf_counter()
        for user, attributes in users:
            function(flag, user, attributes)
        return time.perf_counter() - started
    started = time.perf_counter()
    for user, attributes in users:
        check(user, attributes)
    return time.perf_counter() - started


def floor() -> Check:
    """An empty call plus one hash, timed in the same loop as the checks."""
    from xxhash import xxh3_64_intdigest

    def hashed(user: str, attributes: dict[str, Any]) -> int:
        return xxh3_64_intdigest(user.encode())

    return hashed  # type: ignore[return-value]


if __name__ == "__main__":
    main()
