"""A flag made ready: rules read, shares turned into thresholds, salts into seeds.

Both readers of a plan, the compiled check and *explain*, take every number from here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from huidu.engine import bucketing, values
from huidu.engine.answers import is_killed, open_stages
from huidu.engine.claims import REGION_MEMO_LIMIT
from huidu.engine.nodes import Node
from huidu.engine.rules import Reader
from huidu.engine.values import Table
from huidu.model import (
    FULL_THRESHOLD,
    Attribute,
    AttributeSource,
    Capacity,
    Flag,
    Gate,
    Partner,
    RegionClass,
    RegionPolicy,
    RolloutStatus,
    Stage,
    Tier,
    place_slot,
)

REGION_ATTRIBUTE = "region"
"""The attribute region gates look at."""


class Opening(enum.Enum):
    """Whether a flag's stages admit anybody at all."""

    OPEN = "open"
    NOT_STARTED = "not_started"
    ROLLED_BACK = "rolled_back"
    KILLED = "killed"


class RegionTable(Table[int | None]):
    """By region code: index of its class; None for what is not a region code.

    `classes` are sorted closed ones first, so "closed" is one comparison with `closed`.
    """

    __slots__ = ("classes", "closed", "default", "limits", "regions")

    def __init__(self, policy: RegionPolicy) -> None:
        super().__init__(REGION_MEMO_LIMIT)
        self.classes: list[RegionClass] = sorted(
            policy.classes, key=lambda each: each.ceiling_ppm > 0
        )
        self.closed = sum(each.ceiling_ppm == 0 for each in self.classes)
        self.limits = tuple(bucketing.threshold_of(each.ceiling_ppm) for each in self.classes)
        index = {each.key: position for position, each in enumerate(self.classes)}
        self.regions: dict[str, int] = {code: index[key] for code, key in policy.regions.items()}
        self.default = index[policy.default]

    @property
    def has_ceilings(self) -> bool:
        """Whether some class is neither closed nor open to all."""
        return any(0 < limit < FULL_THRESHOLD for limit in self.limits)

    def payload(self, region_class: int | None) -> dict[str, Any]:
        """What the class adds to an answer.

        A user who keeps the product although the region is not known gets the default class's.
        """
        return self.classes[self.default if region_class is None else region_class].payload

    def make(self, argument: Any) -> int | None:
        code = values.region_code(argument)
        if code is None:
            return None
        for each in values.region_and_parents(code):
            if each in self.regions:
                return self.regions[each]
        return self.default


class PlaceTable(Table[tuple[int, ...] | None]):
    """By region code: the open partners that serve it; None for what is not a region code."""

    __slots__ = ("capacity", "gate", "slot")

    def __init__(self, gate: Gate, capacity: Capacity, slot: int) -> None:
        super().__init__(REGION_MEMO_LIMIT)
        self.gate = gate
        self.capacity = capacity
        self.slot = place_slot(slot)

    def make(self, argument: Any) -> tuple[int, ...] | None:
        code = values.region_code(argument)
        if code is None:
            return None
        return tuple(
            each.number for each in self.capacity.partners if each.is_open and serves(each, code)
        )


def serves(partner: Partner, region: str) -> bool:
    """Whether the partner lends in this region, open or not."""
    return partner.everywhere or not partner.regions.isdisjoint(values.region_and_parents(region))


class GatePlan(msgspec.Struct, frozen=True):
    """A gate with its rule read or its regions tabled; exactly one of them is set."""

    gate: Gate
    rule: Node | None
    regions: RegionTable | None


class StagePlan(msgspec.Struct, frozen=True):
    """An open stage. `weights` is empty in a sticky rollout, where admissions remember them."""

    stage: Stage
    audience: Node
    weights: tuple[tuple[Node, int], ...]

    def covers(self, older: StagePlan) -> bool:
        """Whether everybody the older stage admits is admitted here too, and so before it."""
        return (
            self.stage.audience in ({}, older.stage.audience)
            and self.stage.threshold >= older.stage.threshold
            and (self.stage.threshold >= FULL_THRESHOLD or self.weights == older.weights)
        )


class Plan(msgspec.Struct, frozen=True):
    """Everything a check of one flag needs, in the order of `huidu.model.Flag`.

    `stages` are the open ones, newest first: the first is the current stage. `places` is the
    capacity gate, which is not among `gates` because it is asked last.
    """

    flag: Flag
    opening: Opening
    region: Attribute | None
    gates: tuple[GatePlan, ...]
    places: PlaceTable | None
    stages: tuple[StagePlan, ...]
    tiers: tuple[tuple[Node, Tier], ...]
    rollout_seed: int | None
    variant_seed: int
    variant_limits: tuple[int, ...]
    exclusion_seed: int
    exclusion_from: int
    exclusion_to: int
    readable: frozenset[AttributeSource]


def plan_of(
    flag: Flag,
    reader: Reader,
    attributes: Mapping[str, Attribute],
    readable: frozenset[AttributeSource],
) -> Plan:
    """Make a sound flag ready; see `huidu.engine.soundness` for what is sound.

    Args:
        readable: attributes of other sources are unknown, whatever a check is told about them.

    Raises:
        RuleError: one of its rules is wrong.
    """
    at = f"flag {flag.key}, "
    gates = tuple(
        GatePlan(
            gate,
            None if gate.rule is None else reader.read(gate.rule, f"{at}gates[{index}].rule"),
            None if gate.region is None else RegionTable(gate.region),
        )
        for index, gate in enumerate(flag.gates)
        if gate.capacity is None
    )
    tiers = tuple(
        (reader.read(tier.rule, f"{at}tiers[{index}].rule"), tier)
        for index, tier in enumerate(flag.tiers)
    )
    running, total = [], 0
    for variant in flag.variants:
        total += variant.share_ppm
        running.append(bucketing.threshold_of(total))
    exclusion = flag.exclusion
    return Plan(
        flag=flag,
        opening=_opening(flag),
        region=attributes.get(REGION_ATTRIBUTE),
        gates=gates,
        places=_places(flag),
        stages=_open_stages(flag, reader, at),
        tiers=tiers,
        rollout_seed=bucketing.seed_of(flag.rollout.salt) if flag.rollout else None,
        variant_seed=bucketing.seed_of(bucketing.variants_salt(flag.salt, flag.key)),
        variant_limits=tuple(running),
        exclusion_seed=bucketing.seed_of(bucketing.exclusion_salt(exclusion.salt))
        if exclusion
        else 0,
        exclusion_from=bucketing.threshold_of(exclusion.from_ppm) if exclusion else 0,
        exclusion_to=bucketing.threshold_of(exclusion.to_ppm) if exclusion else FULL_THRESHOLD,
        readable=readable,
    )


def _places(flag: Flag) -> PlaceTable | None:
    for gate in flag.gates:
        if gate.capacity is not None and flag.rollout is not None:
            return PlaceTable(gate, gate.capacity, flag.rollout.slot)
    return None


def _opening(flag: Flag) -> Opening:
    if is_killed(flag):
        return Opening.KILLED
    if flag.rollout is not None and flag.rollout.status is RolloutStatus.ROLLED_BACK:
        return Opening.ROLLED_BACK
    return Opening.OPEN if open_stages(flag) else Opening.NOT_STARTED


def _open_stages(flag: Flag, reader: Reader, at: str) -> tuple[StagePlan, ...]:
    """All stages' rules are read, so that a fault in a later stage shows now; the open are kept."""
    rollout = flag.rollout
    if rollout is None:
        return ()
    plans = []
    for index, stage in enumerate(rollout.stages):
        where = f"{at}rollout.stages[{index}]"
        weights = tuple(
            (reader.read(each.rule, f"{where}.weights[{position}].rule"), each.weight)
            for position, each in enumerate(stage.weights)
        )
        plans.append(
            StagePlan(
                stage,
                reader.read(stage.audience, f"{where}.audience"),
                () if rollout.sticky else weights,
            )
        )
    return tuple(reversed(plans[: len(open_stages(flag))]))
