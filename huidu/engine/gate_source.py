"""Writes the first part of a flag's check: identity, lists, prerequisites, exclusion, gates."""

from __future__ import annotations

from collections.abc import Mapping

from huidu import reasons
from huidu.engine.answers import Answers
from huidu.engine.nodes import FALSE, TRUE, both, either
from huidu.engine.plan import GatePlan, Plan, RegionTable, StagePlan
from huidu.engine.writer import Check, Writer
from huidu.model import FULL_THRESHOLD


class GateWriter:
    """Writes what a user must get past before any stage is asked."""

    def __init__(self, plan: Plan, checks: Mapping[str, Check], out: Writer | None = None) -> None:
        """`out` takes the lines; by default a writer for this flag alone."""
        self.plan = plan
        self.flag = plan.flag
        self.checks = checks
        self.answers = Answers(plan.flag)
        self.out = out or Writer(plan.readable)
        self.has_allow_list = bool(self.flag.allow_list or self.flag.allow_lists)
        sticky = self.flag.rollout is not None and self.flag.rollout.sticky
        self.remembers = sticky and self.out.holds
        self._has_bucket = False
        self._weights: dict[int, str] = {}
        self._tables: list[tuple[str, RegionTable]] = []

    # -- answers

    def _hidden(self, why: str, reason: str = reasons.TARGETING_MATCH) -> str:
        return self.out.answer(self.answers.hidden(why, reason))

    def _return_hidden(self, why: str, reason: str) -> None:
        self.out.line(f"return {self._hidden(why, reason)}")

    def _refuse(self, condition: str, why: str, reason: str = reasons.TARGETING_MATCH) -> None:
        if condition != FALSE:
            self.out.line(f"if {condition}: return {self._hidden(why, reason)}")

    # -- before the gates

    def _identity(self) -> None:
        missing = self._hidden(reasons.IDENTITY_MISSING, reasons.ERROR)
        self.out.identity(missing)

    def _block_list(self) -> None:
        self._refuse(
            self._listed(self.flag.block_list, self.flag.block_lists), reasons.BLOCKED_LIST
        )

    def _allow_list(self) -> None:
        if self.has_allow_list:
            self.out.line(f"allowed = {self._listed(self.flag.allow_list, self.flag.allow_lists)}")

    def _listed(self, names: frozenset[str], numbers: list[int]) -> str:
        """Source that is true when the user is on one of the lists."""
        named = f"key in {self.out.constant(names)}" if names else FALSE
        if not numbers or not self.out.holds:
            return named
        all_numbers = self.out.constant(frozenset(numbers))
        return either(named, f"(lists and not {all_numbers}.isdisjoint(lists))")

    def _prerequisites(self) -> None:
        for needed in self.flag.prerequisites:
            other = self.out.constant(self.checks[needed.flag])
            held = "admissions, lists" if self.out.holds else "None, None"
            self.out.line(f"other = {other}(key, attributes, {held})")
            variant = FALSE
            if needed.variants:
                variant = f"other.variant not in {self.out.constant(frozenset(needed.variants))}"
            self._refuse(either("not other.visible", variant), needed.why)

    def _exclusion(self) -> None:
        exclusion = self.flag.exclusion
        if exclusion is None:
            return
        low, high = self.plan.exclusion_from, self.plan.exclusion_to
        if low == 0 and high == FULL_THRESHOLD:
            return
        self.out.bucket("slice", self.plan.exclusion_seed)
        low_name, high_name = self.out.constant(low), self.out.constant(high)
        self._refuse(f"not {low_name} <= slice < {high_name}", exclusion.why, reasons.SPLIT)

    def _remember(self) -> None:
        """What the platform remembers of the user: `memory`, an `Admission` or None."""
        if self.remembers:
            assert self.flag.rollout is not None
            slot = self.out.constant(self.flag.rollout.slot)
            self.out.line(f"memory = admissions.get({slot}) if admissions else None")

    # -- gates

    def _excuses(self, gate: GatePlan) -> str:
        """Source that is true when the user must pass the gate at all."""
        kept = TRUE
        if gate.gate.keeps_shown and self.remembers:
            kept = "(memory is None or not memory.admitted)"
        allowed = "not allowed" if not gate.gate.absolute and self.has_allow_list else TRUE
        return both(kept, allowed)

    def _rule_gate(self, gate: GatePlan) -> None:
        assert gate.rule is not None
        passes = gate.rule.source(True, self.out)
        if passes == TRUE:
            return
        fails = gate.rule.fails(self.out)
        self.out.line(f"if {both(self._excuses(gate), f'not ({passes})')}:")
        self.out.line(f"    {self._refusal(fails, gate.gate.why, gate.gate.unknown_why)}")

    def _refusal(self, fails: str, why: str, unknown_why: str) -> str:
        refused, unknown = self._hidden(why), self._hidden(unknown_why)
        return (
            f"return {refused}"
            if refused == unknown
            else (f"return {refused} if {fails} else {unknown}")
        )

    def _region_gate(self, gate: GatePlan, table: RegionTable) -> None:
        assert self.plan.region is not None
        region = self.out.variable(self.plan.region)
        name = self.out.region_class(table, region)
        self._tables.append((name, table))
        excuses = self._excuses(gate)
        self._refuse(both(excuses, f"{name} is None"), gate.gate.unknown_why)
        if table.closed:
            closed = f"{name} < {self.out.constant(table.closed)}"
            self._refuse(both(excuses, closed), gate.gate.why)
        if table.has_ceilings and self.plan.rollout_seed is not None:
            current = self.plan.stages[0] if self.plan.stages else None
            ranks_below = self._ranks_below(f"{self.out.constant(table.limits)}[{name}]", current)
            self._refuse(both(excuses, f"not {ranks_below}"), reasons.REGION_CEILING)

    # -- draws

    def _ranks_below(self, limit: str, stage: StagePlan | None) -> str:
        """Source that is true when the user's rank on the rollout's line is below a limit.

        The weight is only looked at by those it can help, since it is never below 1.
        """
        assert self.plan.rollout_seed is not None
        if not self._has_bucket:
            self._has_bucket = True
            self.out.bucket("u", self.plan.rollout_seed)
        if self.remembers:
            return f"(u < {limit} or memory is not None and u < {limit} * memory.weight)"
        if stage is None or not stage.weights:
            return f"(u < {limit})"
        if id(stage) not in self._weights:
            name = self._weights[id(stage)] = f"w{len(self._weights)}"
            tests = [
                (rule.source(True, self.out), self.out.constant(weight))
                for rule, weight in stage.weights
            ]
            self._choose(name, tests, self.out.constant(1))
        weight = self._weights[id(stage)]
        return f"(u < {limit} or {weight} > 1 and u < {limit} * {weight})"

    def _choose(self, name: str, tests: list[tuple[str, str]], otherwise: str) -> None:
        """Set a variable to the first choice whose test holds."""
        self.out.line(f"{name} = {otherwise}")
        # No chain of else branches, which would nest: a flag may have a hundred tiers.
        if len(tests) == 1:
            self.out.line(f"if {tests[0][0]}: {name} = {tests[0][1]}")
            return
        self.out.line("while True:")
        for test, choice in tests:
            self.out.line(f"    if {test}:", f"        {name} = {choice}", "        break")
        self.out.line("    break")

    def _drawn(self, stage: StagePlan) -> str:
        """Source that is true when the draw of the stage takes the user."""
        threshold = stage.stage.threshold
        if threshold <= 0:
            return FALSE
        if threshold >= FULL_THRESHOLD:
            return TRUE
        return self._ranks_below(self.out.constant(threshold), stage)
