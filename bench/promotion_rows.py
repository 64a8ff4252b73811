"""The questions `bench/promotion.py` asks of the rule, each with its rows of simulated worlds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from promotion_world import MARGINS, TIGHT, World

SEED = 20_240_501
EARLY = 30
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
