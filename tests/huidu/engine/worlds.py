"""Small worlds for tests: snapshots with one thing in them."""

from __future__ import annotations

from typing import Any

from huidu.model import (
    Cohort,
    Flag,
    Gate,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
)
from tests.huidu.engine.strategies import ATTRIBUTES


def world(*flags: Flag, cohorts: list[Cohort] | None = None) -> Snapshot:
    """A snapshot of these flags."""
    return Snapshot(
        environment="test",
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=cohorts or [],
        flags=list(flags),
    )


def running(*stages: Stage, **others: Any) -> Rollout:
    """A running rollout whose last stage is the current one."""
    return Rollout(
        **{
            "slot": 0,
            "salt": "salt",
            "status": RolloutStatus.RUNNING,
            "stages": list(stages),
            "current": len(stages) - 1,
            **others,
        }
    )


def full(**others: Any) -> Stage:
    """A stage for everybody."""
    return Stage(**{"key": "full", **others})


def flag(key: str = "f", **others: Any) -> Flag:
    """A flag everybody sees."""
    return Flag(**{"key": key, "version": 1, "rollout": running(full()), **others})


def gate(rule: dict[str, Any] | None = None, **others: Any) -> Gate:
    """A gate that refuses with `refused`, and what it does not know with `unknown`."""
    return Gate(
        **{
            "key": "gate",
            "dimension": "activity",
            "why": "refused",
            "unknown_why": "unknown",
            "rule": rule,
            **others,
        }
    )


def gate_on(rule: dict[str, Any], cohorts: list[Cohort] | None = None) -> Snapshot:
    """One flag everybody sees who passes the rule."""
    return world(flag(gates=[gate(rule)]), cohorts=cohorts)
