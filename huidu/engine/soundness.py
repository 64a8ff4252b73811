"""Whether a snapshot makes sense, rules aside. One that contradicts itself is refused as a whole.

Rules are read by `huidu.engine.rules`; here are the numbers, keys and references around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Final

from huidu import history
from huidu.engine import values
from huidu.engine.answers import open_stages
from huidu.engine.constants import shown
from huidu.engine.plan import REGION_ATTRIBUTE
from huidu.engine.sound_values import FITS, few, json_value, key_text, share, unique
from huidu.errors import SnapshotError
from huidu.model import (
    FULL_THRESHOLD,
    PLACES,
    PPM,
    Attribute,
    AttributeType,
    Capacity,
    Cohort,
    Exclusion,
    Flag,
    Gate,
    RegionPolicy,
    Rollout,
    Stage,
)
from huidu.turns import Pause, no_pause

MAX_PREREQUISITE_CHECKS: Final = 200
"""Most checks one check may lead to through prerequisites, all levels together."""

MAX_WEIGHT: Final = 1_000_000


def check_attributes(attributes: Sequence[Attribute]) -> None:
    """Names and ids are unique, ranges are ranges.

    Raises:
        SnapshotError: with the path of the fault, as everywhere in this module.
    """
    unique("attributes", "name", (each.name for each in attributes))
    unique("attributes", "id", (each.id for each in attributes))
    for each in attributes:
        at = f"attribute {each.name}"
        key_text(each.name, f"{at}, name")
        if each.name == history.NAME:
            raise SnapshotError("expected a name that the engine does not use itself", path=at)
        least, most = each.minimum, each.maximum
        for bound, name in ((least, "minimum"), (most, "maximum")):
            if bound is not None and not isfinite(bound):
                raise SnapshotError(f"expected a number, got {bound}", path=f"{at}, {name}")
        if least is not None and most is not None and least > most:
            raise SnapshotError(
                f"expected minimum <= maximum, got {least:.15g} and {most:.15g}", path=at
            )


def check_cohorts(cohorts: Sequence[Cohort]) -> None:
    """Keys are unique."""
    unique("cohorts", "key", (each.key for each in cohorts))
    for each in cohorts:
        key_text(each.key, f"cohort {each.key}, key")


def check_flags(
    flags: Sequence[Flag],
    attributes: Mapping[str, Attribute],
    *,
    sound: frozenset[str] = frozenset(),
    pause: Pause = no_pause,
) -> None:
    """Each flag makes sense, and so do they together.

    Args:
        sound: flags without prerequisites that were looked at before, with the same attributes.
        pause: called after each flag, and between what is asked of all of them.
    """
    unique("flags", "key", (each.key for each in flags))
    pause()
    by_key = {each.key: each for each in flags}
    for each in flags:
        if each.key not in sound:
            _check_flag(each, by_key, attributes)
        pause()
    unique("rollouts", "slot", (each.rollout.slot for each in flags if each.rollout is not None))
    pause()
    _check_groups([(each.key, each.exclusion) for each in flags if each.exclusion is not None])
    costs: dict[str, int] = {}
    for each in flags:
        _prerequisite_checks(each, by_key, costs, [])
        pause()


def _check_flag(flag: Flag, flags: Mapping[str, Flag], attributes: Mapping[str, Attribute]) -> None:
    at = f"flag {flag.key}, "
    key_text(flag.key, f"{at}key")
    for name in ("variants", "prerequisites", "gates", "tiers"):
        few(getattr(flag, name), f"{at}{name}")
    _check_variants(flag, at)
    json_value(flag.payload, f"{at}payload")
    unique(f"{at}gates", "key", (each.key for each in flag.gates))
    for index, gate in enumerate(flag.gates):
        _check_gate(gate, f"{at}gates[{index}]", attributes)
    if sum(gate.capacity is not None for gate in flag.gates) > 1:
        raise SnapshotError("expected at most one capacity gate, got more", path=f"{at}gates")
    unique(f"{at}tiers", "key", (each.key for each in flag.tiers))
    for index, tier in enumerate(flag.tiers):
        json_value(tier.payload, f"{at}tiers[{index}].payload")
    for index, needed in enumerate(flag.prerequisites):
        path = f"{at}prerequisites[{index}]"
        key_text(needed.why, f"{path}.why")
        if needed.flag not in flags:
            raise SnapshotError(f"expected a flag, got {shown(needed.flag)}", path=path)
        offered = {each.key for each in flags[needed.flag].variants}
        for variant in needed.variants:
            if variant not in offered:
                raise SnapshotError(
                    f"expected a variant of {needed.flag}, got {shown(variant)}", path=path
                )
    if flag.exclusion is not None:
        _check_exclusion(flag.exclusion, f"{at}exclusion")
    if flag.rollout is not None:
        _check_rollout(flag.rollout, open_stages(flag), f"{at}rollout")


def _check_variants(flag: Flag, at: str) -> None:
    path = f"{at}variants"
    if not flag.variants:
        raise SnapshotError("expected at least one variant, got none", path=path)
    unique(path, "key", (each.key for each in flag.variants))
    fits = FITS[flag.type]
    for index, each in enumerate(flag.variants):
        key_text(each.key, f"{path}[{index}].key")
        share(each.share_ppm, f"{path}[{index}].share_ppm")
        json_value(each.payload, f"{path}[{index}].payload")
        json_value(each.value, f"{path}[{index}].value")
        if not fits(each.value):
            raise SnapshotError(
                f"expected a value of type {flag.type}, got {shown(each.value)}",
                path=f"{path}[{index}].value",
            )
    json_value(flag.off_value, f"{at}off_value")
    if flag.off_value is not None and not fits(flag.off_value):
        raise SnapshotError(
            f"expected a value of type {flag.type} or null, got {shown(flag.off_value)}",
            path=f"{at}off_value",
        )
    total = sum(each.share_ppm for each in flag.variants)
    if total != PPM:
        raise SnapshotError(f"expected shares that sum to {PPM}, got {total}", path=path)


def _check_gate(gate: Gate, path: str, attributes: Mapping[str, Attribute]) -> None:
    key_text(gate.key, f"{path}.key")
    key_text(gate.why, f"{path}.why")
    key_text(gate.unknown_why, f"{path}.unknown_why")
    kinds = (gate.rule, gate.region, gate.capacity)
    found = sum(each is not None for each in kinds)
    if found != 1:
        raise SnapshotError(
            f"expected one of a rule, a region policy and a capacity, got {found or 'none'}",
            path=path,
        )
    if gate.capacity is not None:
        _check_capacity(gate, gate.capacity, path, attributes)
    if gate.region is not None:
        _check_region_policy(gate.region, f"{path}.region", attributes)


def _check_capacity(
    gate: Gate, capacity: Capacity, path: str, attributes: Mapping[str, Attribute]
) -> None:
    _check_regions_are_known(path, attributes)
    if gate.keeps_shown:
        raise SnapshotError(
            "expected false: whoever has a place keeps it, and being drawn is no place",
            path=f"{path}.keeps_shown",
        )
    few(capacity.partners, f"{path}.capacity.partners")
    unique(f"{path}.capacity.partners", "number", (each.number for each in capacity.partners))
    for index, each in enumerate(capacity.partners):
        at = f"{path}.capacity.partners[{index}]"
        key_text(each.key, f"{at}.key")
        if not 1 <= each.number < PLACES:
            raise SnapshotError(
                f"expected 1 to {PLACES - 1}, got {each.number}", path=f"{at}.number"
            )
        for code in each.regions:
            _check_region_code(code, f"{at}.regions")


def _check_regions_are_known(path: str, attributes: Mapping[str, Attribute]) -> None:
    registered = attributes.get(REGION_ATTRIBUTE)
    if registered is None or registered.type is not AttributeType.REGION:
        raise SnapshotError(
            f'expected a registered attribute "{REGION_ATTRIBUTE}" of type region', path=path
        )


def _check_region_code(code: str, path: str) -> None:
    if values.region_code(code) is None:
        raise SnapshotError(f"expected a region code of six digits, got {shown(code)}", path=path)


def _check_region_policy(
    policy: RegionPolicy, path: str, attributes: Mapping[str, Attribute]
) -> None:
    _check_regions_are_known(path, attributes)
    unique(f"{path}.classes", "key", (each.key for each in policy.classes))
    for index, each in enumerate(policy.classes):
        share(each.ceiling_ppm, f"{path}.classes[{index}].ceiling_ppm")
        json_value(each.payload, f"{path}.classes[{index}].payload")
    keys = {each.key for each in policy.classes}
    if policy.default not in keys:
        raise SnapshotError(
            f"expected the key of a class, got {shown(policy.default)}", path=f"{path}.default"
        )
    for code, key in policy.regions.items():
        _check_region_code(code, f"{path}.regions")
        if key not in keys:
            raise SnapshotError(
                f"expected the key of a class, got {shown(key)}", path=f"{path}.regions.{code}"
            )


def _check_exclusion(exclusion: Exclusion, path: str) -> None:
    key_text(exclusion.group, f"{path}.group")
    key_text(exclusion.salt, f"{path}.salt")
    key_text(exclusion.why, f"{path}.why")
    if not 0 <= exclusion.from_ppm < exclusion.to_ppm <= PPM:
        raise SnapshotError(
            f"expected 0 <= from_ppm < to_ppm <= {PPM}, "
            f"got {exclusion.from_ppm} and {exclusion.to_ppm}",
            path=path,
        )


def _check_rollout(rollout: Rollout, opened: list[Stage], path: str) -> None:
    key_text(rollout.salt, f"{path}.salt")
    few(rollout.stages, f"{path}.stages")
    unique(f"{path}.stages", "key", (each.key for each in rollout.stages))
    if rollout.slot < 0:
        raise SnapshotError(f"expected 0 or more, got {rollout.slot}", path=f"{path}.slot")
    if not -1 <= rollout.current < len(rollout.stages):
        raise SnapshotError(
            f"expected -1 or the index of one of {len(rollout.stages)} stages, "
            f"got {rollout.current}",
            path=f"{path}.current",
        )
    for index, stage in enumerate(rollout.stages):
        _check_stage(stage, f"{path}.stages[{index}]", is_open=index < len(opened))
    for index, stage in enumerate(opened):
        for earlier in opened[:index]:
            if earlier.audience == stage.audience and earlier.threshold > stage.threshold:
                raise SnapshotError(
                    f"expected a threshold of at least {earlier.threshold}, as the earlier stage "
                    f"{earlier.key} has for the same audience, got {stage.threshold}",
                    path=f"{path}.stages[{index}].threshold",
                )


def _check_stage(stage: Stage, path: str, *, is_open: bool) -> None:
    key_text(stage.key, f"{path}.key")
    key_text(stage.audience_why, f"{path}.audience_why")
    share(stage.share_ppm, f"{path}.share_ppm")
    json_value(stage.payload, f"{path}.payload")
    few(stage.weights, f"{path}.weights")
    if not 0 <= stage.threshold <= FULL_THRESHOLD:
        raise SnapshotError(f"expected 0 to 2**64, got {stage.threshold}", path=f"{path}.threshold")
    for index, each in enumerate(stage.weights):
        if not 1 <= each.weight <= MAX_WEIGHT:
            raise SnapshotError(
                f"expected 1 to {MAX_WEIGHT}, got {each.weight}",
                path=f"{path}.weights[{index}].weight",
            )
    if not is_open:
        return  # its threshold means nothing before it is drawn
    takes_all, takes_none = stage.threshold == FULL_THRESHOLD, stage.threshold == 0
    if takes_all != (stage.share_ppm == PPM) or (stage.share_ppm == 0 and not takes_none):
        raise SnapshotError(
            f"expected a threshold that fits the share: 2**64 exactly for {PPM} ppm and 0 for "
            f"0 ppm; got {stage.threshold} for {stage.share_ppm} ppm",
            path=f"{path}.threshold",
        )


def _check_groups(slices: list[tuple[str, Exclusion]]) -> None:
    """Within a group all flags cut the same line, and no two slices overlap."""
    groups: dict[str, list[tuple[int, int, str, str]]] = {}
    for flag, each in slices:
        groups.setdefault(each.group, []).append((each.from_ppm, each.to_ppm, flag, each.salt))
    for group, members in groups.items():
        members.sort()
        for (_, end, first, salt), (start, _, second, other) in pairwise(members):
            path = f"flag {second}, exclusion"
            if salt != other:
                raise SnapshotError(
                    f"expected one salt in group {group}, got another than {first} has", path=path
                )
            if start < end:
                raise SnapshotError(
                    f"expected a slice of group {group} that begins at {end} ppm or later, where "
                    f"{first}'s ends, got {start}",
                    path=path,
                )


def _prerequisite_checks(
    flag: Flag, flags: Mapping[str, Flag], costs: dict[str, int], above: list[str]
) -> int:
    """How many checks one check of the flag leads to, itself included."""
    if flag.key in above:
        circle = " -> ".join([*above[above.index(flag.key) :], flag.key])
        raise SnapshotError(
            f"expected prerequisites that do not come back: {circle}",
            path=f"flag {flag.key}, prerequisites",
        )
    if len(above) >= MAX_PREREQUISITE_CHECKS:
        raise SnapshotError(
            f"expected at most {MAX_PREREQUISITE_CHECKS} checks through prerequisites",
            path=f"flag {above[0]}, prerequisites",
        )
    if flag.key not in costs:
        below = [*above, flag.key]
        costs[flag.key] = 1 + sum(
            _prerequisite_checks(flags[needed.flag], flags, costs, below)
            for needed in flag.prerequisites
        )
        if costs[flag.key] > MAX_PREREQUISITE_CHECKS:
            raise SnapshotError(
                f"expected at most {MAX_PREREQUISITE_CHECKS} checks through prerequisites, "
                f"got {costs[flag.key]}",
                path=f"flag {flag.key}, prerequisites",
            )
    return costs[flag.key]
