"""Deciding again from what was recorded: the same code must come to the same answer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from huidu import promotion
from huidu.errors import EvidenceError
from huidu.promotion.ramp import Ramp
from rollout.models import Decision
from rollout.services import deciding, recorded

TOLERANCE = 1e-9
"""Relative; another machine's arithmetic may differ in the last digits of an e-value."""


class Difference(NamedTuple):
    """Where a replay and the record part: a JSON path, and what stands on either side."""

    path: str
    recorded: Any
    replayed: Any


def replay(decision: Decision) -> list[Difference]:
    """Decide again; returns how the answer differs from the recorded one, empty if it agrees.

    Raises:
        EvidenceError: the record is incomplete.
    """
    material = recorded.material_of(decision)
    try:
        after, outcome = promotion.review(
            material.plan, material.state, material.look, material.conditions
        )
    except EvidenceError as error:
        after, outcome = material.state, deciding.refused(error, material.conditions)
    differences = list(_compare("outcome", decision.outcome, msgspec.to_builtins(outcome)))
    differences += _compare("state_after", decision.state_after, msgspec.to_builtins(after))
    columns = {"decision": outcome.decision.value, "code": outcome.code}
    for name, replayed in columns.items():
        differences += _compare(name, getattr(decision, name), replayed)
    if decision.ramp is not None:
        ramp = msgspec.convert(decision.ramp["given"], Ramp)
        differences += _compare("ramp", decision.ramp, deciding.ramp_told(ramp, outcome))
    return differences


def _compare(path: str, recorded: Any, replayed: Any) -> list[Difference]:
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        found: list[Difference] = []
        for name in sorted({*recorded, *replayed}):
            found += _compare(f"{path}.{name}", recorded.get(name), replayed.get(name))
        return found
    both = (recorded, replayed)
    if all(isinstance(each, list | tuple) for each in both) and len(recorded) == len(replayed):
        found = []
        for i, (one, other) in enumerate(zip(recorded, replayed, strict=True)):
            found += _compare(f"{path}[{i}]", one, other)
        return found
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in both):
        if math.isclose(recorded, replayed, rel_tol=TOLERANCE, abs_tol=1e-12):
            return []
    elif recorded == replayed:
        return []
    return [Difference(path, recorded, replayed)]
