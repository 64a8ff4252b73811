"""Whom a share is a share of: users of the stage's audience who pass every gate, as one rule.

5 % means 5 % of the users who could be shown the product, so the gates are part of the rule. Three
things are not: gates that ask what only the caller knows (the platform cannot judge them ahead of
a check), region ceilings (they cut the same ranks as the draw itself), and funding capacity (places
go to those who come).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cohorts import mappers as who
from cohorts.models import Cohort
from huidu import model
from rollout.models import Flag, Gate, RegionPolicy, Stage

EVERYBODY: Final[dict[str, Any]] = {}
NOBODY: Final[dict[str, Any]] = {"!": {}}
NOWHERE: Final = "999999"
"""No region's code: "not within nowhere" is true of every known region, and of no unknown one."""

_REGION: Final = {"var": "region"}
# GB/T 2260: province, prefecture, county. The finest level that names a region decides.
_LEVELS: Final = ("0000", "00", "")


def eligible(stage: Stage) -> dict[str, Any]:
    """The rule of who may be drawn in a stage."""
    return eligible_of(stage.rollout.flag, stage.audience)


def eligible_of(flag: Flag, audience: Cohort | None) -> dict[str, Any]:
    """The rule of who may be drawn in a stage of this flag with this audience."""
    rules = [{"cohort": audience.key}] if audience is not None else []
    gates = Gate.objects.filter(flag=flag, enabled=True).select_related("region_policy")
    callers_own = {
        each.name for each in who.attributes() if each.source is model.AttributeSource.CALLER
    }
    cohorts = {each.key: each.rule for each in who.cohorts()}
    for gate in gates.order_by("order"):
        if gate.capacity:
            continue  # how many places there are has no say in who is drawn
        rule = gate.rule if gate.region_policy is None else open_regions(gate.region_policy)
        if rule and not callers_own & names_in(rule, cohorts):
            rules.append(rule)
    return {"and": rules} if rules else EVERYBODY


def open_regions(policy: RegionPolicy) -> dict[str, Any]:
    """The rule of who lives where the policy is not closed; unknown regions do not."""
    assigned = [
        (each.code, each.region_class.ceiling_ppm > 0)
        for each in policy.assignments.select_related("region_class")
    ]
    default = policy.classes.filter(key=policy.default_class).first()
    is_open = default is not None and default.ceiling_ppm > 0
    rule = _not(_within([NOWHERE])) if is_open else NOBODY
    for level in range(len(_LEVELS)):
        here = [pair for pair in assigned if _level(pair[0]) == level]
        opened = [code for code, is_open in here if is_open]
        closed = [code for code, is_open in here if not is_open]
        if closed:
            rule = {"and": [_not(_within(closed)), rule]}
        if opened:
            rule = {"or": [_within(opened), rule]}
    return rule


def names_in(rule: Any, cohorts: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
    """Every attribute a rule asks about, cohorts included."""
    if isinstance(rule, list):
        return set().union(*(names_in(each, cohorts, seen) for each in rule)) if rule else set()
    if not isinstance(rule, dict):
        return set()
    found: set[str] = set()
    for operator, argument in rule.items():
        first = argument[0] if isinstance(argument, list) and argument else argument
        if operator == "var" and isinstance(first, str):
            found.add(first)
        elif operator == "cohort" and isinstance(first, str):
            if first not in seen:
                found |= names_in(cohorts.get(first, {}), cohorts, seen | {first})
        else:
            found |= names_in(argument, cohorts, seen)
    return found


def _level(code: str) -> int:
    return next(index for index, zeros in enumerate(_LEVELS) if code.endswith(zeros))


def _within(codes: Iterable[str]) -> dict[str, Any]:
    return {"within": [_REGION, sorted(codes)]}


def _not(rule: dict[str, Any]) -> dict[str, Any]:
    return {"!": rule}
