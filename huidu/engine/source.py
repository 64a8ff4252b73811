"""Writes a flag's check as one Python function: no tree to walk, no object to make.

The order of the steps is the order of one check, as docs/reference/rules.md has it; the first
refusal is the answer. Claims that are settled when the flag is compiled leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from huidu import reasons
from huidu.engine.answers import Answers
from huidu.engine.gate_source import GateWriter
from huidu.engine.nodes import FALSE, TRUE, both
from huidu.engine.places import with_places
from huidu.engine.plan import REGION_ATTRIBUTE, Opening, Plan, RegionTable, StagePlan
from huidu.engine.values import Memo
from huidu.engine.writer import BareCheck, Check, Writer
from huidu.model import FULL_THRESHOLD, Answer, Stage


def compile_flag(plan: Plan, checks: Mapping[str, Check]) -> tuple[Check, frozenset[str]]:
    """The flag's check as a function, and the attributes it looks at itself.

    Args:
        plan: the flag made ready.
        checks: those of its prerequisites.
    """
    out = written(plan, checks)
    check, reads = out.function(), out.reads
    if plan.places is None:
        return check, reads
    return with_places(check, plan, plan.places), reads | {REGION_ATTRIBUTE}


def compile_bare(plan: Plan, checks: Mapping[str, Check]) -> BareCheck:
    """The flag's check for users about whom nothing is held; a sixth quicker than with Nones."""
    if plan.places is not None:
        whole, _ = compile_flag(plan, checks)
        return lambda key, attributes: whole(key, attributes, None, None)
    out = written(plan, checks, Writer(plan.readable, holds=False))
    return out.function()  # type: ignore[return-value]


def written(plan: Plan, checks: Mapping[str, Check], out: Writer | None = None) -> Writer:
    """The lines of a flag's check, in `out` where it is given."""
    return FlagWriter(plan, checks, out).write()


class FlagWriter(GateWriter):
    """Writes the whole check: what `GateWriter` writes, then stages, variant and payload."""

    def write(self) -> Writer:
        """The whole function, in the order of one check."""
        if self.plan.opening is Opening.KILLED:
            self._return_hidden(reasons.KILLED, reasons.DISABLED)
            return self.out
        self._identity()
        self._block_list()
        if not self.flag.enabled:
            self._return_hidden(reasons.FLAG_DISABLED, reasons.DISABLED)
            return self.out
        self._allow_list()
        self._prerequisites()
        self._exclusion()
        self._remember()
        for gate in self.plan.gates:
            if gate.regions is not None:
                self._region_gate(gate, gate.regions)
            else:
                self._rule_gate(gate)
        self.out.stages()
        if self.plan.opening is Opening.ROLLED_BACK:
            self._return_hidden(reasons.STAGE_ROLLED_BACK, reasons.DISABLED)
        elif self.plan.opening is Opening.NOT_STARTED:
            self._return_hidden(reasons.STAGE_NOT_STARTED, reasons.DEFAULT)
        else:
            self._stages()
        return self.out

    # -- stages

    def _stages(self) -> None:
        """The current stage first, then earlier ones, newest first; then what the admitted get."""
        self._find_dimensions()
        current, *older = self.plan.stages
        if self.deals:
            self.out.line("shown = None")
        if self.has_allow_list:
            answer = self._shown(current.stage, reasons.ALLOWED_LIST, reasons.TARGETING_MATCH)
            self._admit("allowed", answer)
        if self.remembers:
            answer = self._shown(current.stage, reasons.SHOWN, _reason(current))
            self._admit("memory is not None and memory.admitted", answer)
        fits = current.audience.source(True, self.out)
        if fits not in (TRUE, FALSE):
            self.out.line(f"fits = {fits}")
            fits = "fits"
        self._admit_by(current, fits)
        tried = [current]
        for stage in older:
            if not any(newer.covers(stage) for newer in tried):
                self._admit_by(stage, stage.audience.source(True, self.out))
                tried.append(stage)
        self._refuse_stage(current, fits)
        if self.deals:
            self._return_dealt()

    def _admit_by(self, stage: StagePlan, fits: str) -> None:
        answer = self._shown(stage.stage, reasons.SHOWN, _reason(stage))
        self._admit(both(fits, self._drawn(stage)), answer)

    def _admit(self, condition: str, answer: str) -> None:
        if condition == FALSE:
            return
        if self.deals:
            self.out.line(f"if {both('shown is None', condition)}: shown = {answer}")
        else:
            self.out.line(f"if {condition}: return {answer}")

    def _refuse_stage(self, current: StagePlan, fits: str) -> None:
        lines = []
        if fits != FALSE:
            why = current.stage.not_drawn_why
            refusal = f"return {self._hidden(why, reasons.SPLIT)}"
            lines.append(refusal if fits == TRUE else f"if {fits}: {refusal}")
        if fits != TRUE:
            misfits = current.audience.source(False, self.out)
            why = current.stage.audience_why
            lines.append(self._refusal(misfits, why, reasons.DATA_MISSING))
        if self.deals:
            lines = ["if shown is None:", *(f"    {line}" for line in lines)]
        self.out.line(*lines)

    # -- what an admitted user gets

    def _find_dimensions(self) -> None:
        """By what shown answers differ, besides the stage: region classes, tiers, variants."""
        paid = [
            (name, table)
            for name, table in self._tables
            if any(each.payload for each in table.classes)
        ]
        self.paid_regions = [name for name, _ in paid]
        tiers = [tier.payload for _, tier in self.plan.tiers]
        self._deal = Deal(self.answers, tiers, [table for _, table in paid])
        dealt = [index for index, each in enumerate(self.flag.variants) if each.share_ppm]
        self.only_variant = dealt[0] if len(dealt) == 1 else None
        self.has_tiers = any(tier.payload for _, tier in self.plan.tiers)
        self.deals = self.has_tiers or self.only_variant is None

    def _shown(self, stage: Stage, why: str, reason: str) -> str:
        """Source of the answer; with tiers or variants, of the table of answers by them."""
        make = partial(self._deal.answer, stage, why, reason)
        if self.deals:
            return self.out.answer(Memo(make))
        assert self.only_variant is not None
        if not self.paid_regions:
            return self.out.answer(make((-1, self.only_variant)))
        by_class = Memo(partial(_first_dealt, make, self.only_variant))
        return f"{self.out.answer(by_class)}[{', '.join(self.paid_regions)}]"

    def _return_dealt(self) -> None:
        tier, variant = "-1", str(self.only_variant)
        if self.has_tiers:
            tier = "tier"
            tests = [
                (rule.source(True, self.out), str(index))
                for index, (rule, _) in enumerate(self.plan.tiers)
            ]
            self._choose(tier, tests, "-1")
        if self.only_variant is None:
            variant = "variant"
            self.out.bucket("dealt", self.plan.variant_seed)
            tests = [
                (f"dealt < {self.out.constant(limit)}", str(index))
                for index, limit in enumerate(self.plan.variant_limits)
            ]
            self._choose(variant, tests, "-1")
        self.out.line(f"return shown[{', '.join([tier, variant, *self.paid_regions])}]")


class Deal:
    """Makes what the admitted get when somebody first gets it.

    It outlives the writer, and does not hold it: what is made of a snapshot must be let go with it,
    and not wait for the garbage collector.
    """

    def __init__(
        self, answers: Answers, tiers: list[dict[str, Any]], tables: list[RegionTable]
    ) -> None:
        self._answers = answers
        self._tiers = tiers
        self._tables = tables

    def answer(self, stage: Stage, why: str, reason: str, dealt: tuple[int | None, ...]) -> Answer:
        """The answer for a tier (-1: none), a variant and the classes of the regions that pay."""
        tier, variant, *classes = dealt
        assert tier is not None
        assert variant is not None
        payloads: list[dict[str, Any]] = [{} if tier < 0 else self._tiers[tier]]
        payloads += [table.payload(each) for table, each in zip(self._tables, classes, strict=True)]
        return self._answers.shown(stage, variant, payloads, why=why, reason=reason)


def _first_dealt(
    make: Callable[[tuple[int | None, ...]], Answer],
    variant: int,
    classes: int | tuple[int | None, ...] | None,
) -> Answer:
    """The answer of a flag without tiers and with one variant, by its region classes."""
    return make((-1, variant, *(classes if isinstance(classes, tuple) else (classes,))))


def _reason(stage: StagePlan) -> str:
    """A stage that takes its whole audience is targeting; one that draws is a split."""
    whole = stage.stage.threshold >= FULL_THRESHOLD
    return reasons.TARGETING_MATCH if whole else reasons.SPLIT
