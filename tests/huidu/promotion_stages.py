"""Small stages for the tests of the promotion rule: exact counts, no randomness unless seeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from huidu.promotion import (
    Arm,
    AsOf,
    Cell,
    CellCounts,
    Conditions,
    Harm,
    Kind,
    Look,
    Metric,
    Outcome,
    Plan,
    StageTimes,
    State,
    review,
)

DAY = 1440.0
SUCCESS = Metric(name="success", kind=Kind.BINARY, harm=Harm.DECREASE, margin_rel=0.1)
COMPLAINTS = Metric(name="complaints", kind=Kind.BINARY, margin_rel=0.25)
ERRORS = Metric(name="errors", kind=Kind.USERS_RATIO, margin_rel=0.25)
SLOWNESS = Metric(
    name="slowness",
    kind=Kind.LATENCY,
    margin_rel=0.25,
    edges_ms=(100.0, 300.0, 800.0, 1000.0),
    baseline_index=2,
    margin_index=3,
)
AMOUNT = Metric(name="amount", kind=Kind.MEAN, harm=Harm.DECREASE, margin_rel=0.1)
QUEUE = Metric(name="queue", kind=Kind.GAUGE, max=0.9, for_looks=3)

RHO = 0.05


def plan(*metrics: Metric, **changes: Any) -> Plan:
    """Seven to fourteen days, one cell of 5 %."""
    terms: dict[str, Any] = {
        "stage": StageTimes(horizon_min=14 * DAY, min_min=7 * DAY),
        "cells": (Cell(id="all", rho=RHO),),
        "metrics": metrics or (SUCCESS,),
    }
    return Plan(**(terms | changes))


def counts(n: int, m: Mapping[str, Any], *, id: str = "all", rho: float = RHO) -> CellCounts:
    """A cell of n users split exactly by rho; `m` gives (treated, control) readings."""
    treated = round(n * rho)
    return CellCounts(
        Arm(treated, {name: pair[0] for name, pair in m.items()}),
        Arm(n - treated, {name: pair[1] for name, pair in m.items()}),
        id,
    )


def look(day: float, *cells: CellCounts, fresh: tuple[str, ...] | None = None, **more: Any) -> Look:
    """A look at a day of the stage, every metric complete up to now."""
    names = fresh if fresh is not None else tuple({name for c in cells for name in c.t.m})
    as_of = {name: AsOf(day * DAY, day * DAY) for name in names}
    terms = {"as_of": as_of} | more
    return Look(k=round(day * 288), t_min=day * DAY, cells=cells, **terms)


def steady(day: float, *, success: float = 1.0, users_per_day: int = 280_000) -> Look:
    """A stage with 5 % success in control and exactly `success` times that in treated."""
    n = round(users_per_day * day)
    treated = round(n * RHO)
    happy = (round(treated * 0.05 * success), round((n - treated) * 0.05))
    return look(day, counts(n, {"success": happy}))


def after(
    given: Plan, *looks: Look, conditions: Conditions | None = None, state: State | None = None
) -> tuple[State, Outcome]:
    """Review looks one after the other; the state goes through JSON each time."""
    state = state or State()
    outcome: Outcome | None = None
    for one in looks:
        state, outcome = review(given, state, one, conditions)
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)
    assert outcome is not None
    return state, outcome


def codes(outcome: Outcome) -> list[str]:
    return [item.code for item in outcome.missing]
