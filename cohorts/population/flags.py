"""A whole flag as SQL over the table of users: every step that may refuse, in the check's order.

It says what the compiled check says (`huidu.engine.source`), for everybody at once. A test holds
both to each other on generated snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cohorts.population import columns
from cohorts.population.sql import FALSE, TRUE, NotHeld, Terms, Users, both, either, regions
from huidu import reasons
from huidu.engine import Compiled
from huidu.engine.nodes import Node
from huidu.engine.plan import GatePlan, Opening, PlaceTable, Plan, RegionTable, StagePlan
from huidu.model import FULL_THRESHOLD, PLACES

_MOST_DEPTH: Final = 8
"""Prerequisites of prerequisites, each written out whole."""


class Step(msgspec.Struct, frozen=True):
    """One step that may refuse.

    Args:
        kind: ``gate`` for gates, else ``code``.
        key: of the gate, else the code.
        why: the code of the refusal.
        ways: it lets pass for whom one of these expressions is TRUE, and refuses all others.
        lasting: a gate, or asked before the gates; not stages, draws and places, which come round.
    """

    kind: str
    key: str
    why: str
    ways: tuple[str, ...]
    lasting: bool = True

    @property
    def passes(self) -> str:
        """TRUE for those whom it lets pass."""
        return either(list(self.ways))


class FlagSql:
    """One flag of a compiled snapshot over the table of users.

    Attributes:
        steps: what refuses, in order, and all gates; who passes all is shown the product.
        tier: index of the user's tier, NULL for none.
    Args:
        weights: by slot, expressions that take the place of the weights frozen at a draw.
    Raises:
        NotHeld: the table lacks something the flag needs, such as the line of a draw.
    """

    def __init__(
        self,
        compiled: Compiled,
        flag_key: str,
        terms: Terms,
        *,
        weights: Mapping[int, str] | None = None,
        depth: int = 0,
    ) -> None:
        if depth > _MOST_DEPTH:
            raise NotHeld("prerequisites of prerequisites")
        self._compiled = compiled
        self._terms = terms
        self._table = terms.table
        self._weights = weights or {}
        self._depth = depth
        self._plan: Plan = compiled.plan(flag_key)
        self._flag = self._plan.flag
        rollout = self._flag.rollout
        self._sticky = rollout is not None and rollout.sticky
        self._kept = FALSE
        if rollout is not None and rollout.sticky and self._table.remembers(rollout.slot):
            self._kept = self._table.own(columns.admitted(rollout.slot))
        self._allowed = self._listed(self._flag.allow_list, self._flag.allow_lists)
        every = self._every_step()
        self.steps = [each for each in every if each.passes != TRUE or each.kind == "gate"]
        self.tier = self._chosen(
            [(rule, index) for index, (rule, _) in enumerate(self._plan.tiers)]
        )

    def shown(self) -> str:
        """TRUE for those whom no step refuses, else FALSE."""
        return f"({both([each.passes for each in self.steps])}) IS TRUE"

    # -- the steps

    def _every_step(self) -> list[Step]:
        flag, plan = self._flag, self._plan
        if plan.opening is Opening.KILLED:
            return [_code(reasons.KILLED)]
        blocked = self._listed(flag.block_list, flag.block_lists)
        steps = [_code(reasons.BLOCKED_LIST, _not(blocked))]
        if not flag.enabled:
            return [*steps, _code(reasons.FLAG_DISABLED)]
        steps += self._prerequisites() + self._exclusion()
        for gate in plan.gates:
            steps.append(self._gate(gate))
        if plan.opening is Opening.ROLLED_BACK:
            return [*steps, _passing(reasons.STAGE_ROLLED_BACK)]
        if plan.opening is Opening.NOT_STARTED:
            return [*steps, _passing(reasons.STAGE_NOT_STARTED)]
        return steps + self._stages() + self._places()

    def _listed(self, names: frozenset[str], numbers: list[int]) -> str:
        named = self._terms.one_of(columns.USER, names)
        if not numbers:
            return named
        told = ", ".join(str(int(each)) for each in numbers)
        lists = self._table.own(columns.LISTS)
        return either([named, f"coalesce(list_has_any({lists}, [{told}]), FALSE)"])

    def _prerequisites(self) -> list[Step]:
        steps = []
        for needed in self._flag.prerequisites:
            other = FlagSql(
                self._compiled,
                needed.flag,
                self._terms,
                weights=self._weights,
                depth=self._depth + 1,
            )
            met = [other.shown()]
            if needed.variants:
                met.append(other.dealt_one_of(frozenset(needed.variants)))
            steps.append(_code(needed.why, both(met)))
        return steps

    def dealt_one_of(self, keys: frozenset[str]) -> str:
        """The dealt variant is one of these."""
        place = self._bucket(self._plan.variant_seed)
        low, parts = 0, []
        for variant, high in zip(self._flag.variants, self._plan.variant_limits, strict=True):
            if variant.key in keys and low < high:
                parts.append(_between(place, low, high))
            low = high
        return either(parts)

    def _exclusion(self) -> list[Step]:
        exclusion, plan = self._flag.exclusion, self._plan
        if exclusion is None:
            return []
        if plan.exclusion_from == 0 and plan.exclusion_to == FULL_THRESHOLD:
            return []
        place = self._bucket(plan.exclusion_seed)
        inside = _between(place, plan.exclusion_from, plan.exclusion_to)
        return [_code(exclusion.why, inside)]

    # -- gates

    def _gate(self, gate: GatePlan) -> Step:
        ways = []
        if gate.gate.keeps_shown and self._sticky:
            ways.append(self._kept)
        if not gate.gate.absolute:
            ways.append(self._allowed)
        if gate.regions is not None:
            ways += self._within_policy(gate.regions)
        else:
            assert gate.rule is not None
            ways.append(self._terms.rule(gate.rule))
        return Step("gate", gate.gate.key, gate.gate.why, _open(ways))

    def _within_policy(self, table: RegionTable) -> list[str]:
        """For each class of regions: the user lives there, and his rank is below its ceiling."""
        assert self._plan.region is not None
        region = self._plan.region
        codes: dict[int, set[str]] = {}
        for code in self._table.codes(region):
            if (index := table[code]) is not None:
                codes.setdefault(index, set()).add(code)
        ways = []
        for index, here in sorted(codes.items()):
            lives_here = regions(self._table, region, here.__contains__)
            ways.append(both([lives_here, self._class_passes(table, index)]))
        return ways

    def _class_passes(self, table: RegionTable, index: int) -> str:
        if index < table.closed:
            return FALSE
        if self._plan.rollout_seed is None:
            return TRUE
        return self._ranks_below(table.limits[index], self._current())

    def _current(self) -> StagePlan | None:
        return self._plan.stages[0] if self._plan.stages else None

    # -- draws and stages

    def _bucket(self, seed: int) -> str:
        return self._table.own(columns.bucket(seed))

    def _ranks_below(self, limit: int, stage: StagePlan | None) -> str:
        if limit <= 0:
            return FALSE
        if limit >= FULL_THRESHOLD:
            return TRUE
        assert self._plan.rollout_seed is not None
        place = self._bucket(self._plan.rollout_seed)
        # u < limit * w, said without a product of more than 64 bits.
        return f"({self._rank(place, self._weight(stage))} < {limit}::UBIGINT)"

    def _rank(self, place: str, weight: str) -> str:
        """``place // weight``; most users weigh 1, and dividing takes time."""
        if weight == "1":
            return place
        weighs = self._terms.once(weight)
        return self._terms.once(
            f"CASE WHEN {weighs} > 1 THEN {place} // {weighs}::UBIGINT ELSE {place} END"
        )

    def _weight(self, stage: StagePlan | None) -> str:
        rollout = self._flag.rollout
        assert rollout is not None
        if rollout.slot in self._weights:
            return self._weights[rollout.slot]
        if self._sticky:
            return remembered_weight(self._table, rollout.slot)
        weights = stage.weights if stage is not None else ()
        chosen = self._chosen([(rule, weight) for rule, weight in weights])
        return "1" if chosen == "NULL" else f"coalesce({chosen}, 1)"

    def _places(self) -> list[Step]:
        """The capacity gate: asked last, and passed by who has a place already."""
        table = self._plan.places
        if table is None:
            return []
        excuses = []
        slot = table.slot - PLACES
        if self._table.remembers(slot):
            excuses.append(f"({self._table.own(columns.place(slot))} IS NOT NULL)")
        if not table.gate.absolute:
            excuses.append(self._allowed)
        served = self._served(table)
        gate = table.gate
        return [
            Step("gate", gate.key, gate.why, _open([*excuses, served]), lasting=False),
            _passing(reasons.FUNDING_NOT_RESERVED, *excuses, _not(served)),
        ]

    def _served(self, table: PlaceTable) -> str:
        """Some open partner lends in the user's region."""
        assert self._plan.region is not None
        return regions(self._table, self._plan.region, lambda code: bool(table[code]))

    def _drawn(self, stage: StagePlan) -> str:
        return self._ranks_below(stage.stage.threshold, stage)

    def _stages(self) -> list[Step]:
        """Admitted by any open stage; else the current one names the refusal."""
        current = self._plan.stages[0]
        audience = self._terms.rule(current.audience)
        ways = [self._allowed, self._kept]
        for stage in self._plan.stages:
            ways.append(both([self._terms.rule(stage.audience), self._drawn(stage)]))
        return [
            _passing(current.stage.audience_why, *ways, audience),
            _passing(current.stage.not_drawn_why, *ways, _not(audience)),
        ]

    def _chosen(self, tests: Sequence[tuple[Node, int]]) -> str:
        """The number of the first rule that is true, NULL where none is."""
        return _case([(self._terms.rule(rule), number) for rule, number in tests])


def remembered_weight(table: Users, slot: int) -> str:
    """The weight frozen at a rollout's draw; 1 where nothing is remembered."""
    if not table.remembers(slot):
        return "1"
    return f"greatest({table.own(columns.weight(slot))}, 1)"  # of NULL and 1 it is 1


def lines_of(compiled: Compiled) -> tuple[set[int], set[int]]:
    """The seeds of the lines that the flags of a snapshot cut, and the slots they remember by."""
    seeds: set[int] = set()
    slots: set[int] = set()
    asked = {
        needed.flag
        for flag in compiled.flags.values()
        for needed in flag.prerequisites
        if needed.variants
    }
    for key, flag in compiled.flags.items():
        plan = compiled.plan(key)
        if plan.rollout_seed is not None and flag.rollout is not None:
            seeds.add(plan.rollout_seed)
            slots.add(flag.rollout.slot)
        if flag.exclusion is not None:
            seeds.add(plan.exclusion_seed)
        if key in asked:
            seeds.add(plan.variant_seed)
    return seeds, slots


def _code(why: str, *ways: str) -> Step:
    return Step("code", why, why, _open(ways))


def _passing(why: str, *ways: str) -> Step:
    return Step("code", why, why, _open(ways), lasting=False)


def _open(ways: Iterable[str]) -> tuple[str, ...]:
    """Ways that may let somebody pass; the first that lets everybody is enough."""
    told = tuple(dict.fromkeys(each for each in ways if each != FALSE))
    return (TRUE,) if TRUE in told else told


def _not(claim: str) -> str:
    """The claim is not TRUE."""
    return {TRUE: FALSE, FALSE: TRUE}.get(claim, f"(({claim}) IS NOT TRUE)")


def _between(place: str, low: int, high: int) -> str:
    """Inside [low, high) of a line."""
    parts = [] if low <= 0 else [f"{place} >= {low}::UBIGINT"]
    if high < FULL_THRESHOLD:
        parts.append(f"{place} < {high}::UBIGINT")
    return f"({both(parts)})"


def _case(tests: list[tuple[str, int]]) -> str:
    """The number of the first test that is true, NULL where none is."""
    ways = [f"WHEN ({test}) IS TRUE THEN {number}" for test, number in tests if test != FALSE]
    return f"CASE {' '.join(ways)} END" if ways else "NULL"
