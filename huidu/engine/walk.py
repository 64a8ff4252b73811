"""Walks a plan step by step for one user; `huidu.engine.explain` tells what it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from huidu import history, reasons
from huidu.engine import bucketing
from huidu.engine.answers import Answers
from huidu.engine.claims import Hysteresis, Leaf
from huidu.engine.explain import Drawn, Need, Outcome, Step, StepKind, enters_at
from huidu.engine.known import Known
from huidu.engine.nodes import Node, Not
from huidu.engine.places import Given, place_step
from huidu.engine.plan import GatePlan, Opening, Plan, RegionTable, StagePlan
from huidu.engine.values import text
from huidu.model import (
    FULL_THRESHOLD,
    PPM,
    Admission,
    Answer,
    Stage,
    User,
)

if TYPE_CHECKING:
    from huidu.engine.compile import Compiled

_OUTCOME = {True: Outcome.PASS, False: Outcome.FAIL, None: Outcome.UNKNOWN}


class Walk:
    """One walk. The first refusal decides the answer; the steps after it are told all the same."""

    def __init__(self, compiled: Compiled, plan: Plan, user: User) -> None:
        self.compiled = compiled
        self.plan = plan
        self.flag = plan.flag
        self.user = user
        self.key = text(user.key) or ""
        self.known = Known(user, self.key, plan.readable)
        self.answers = Answers(plan.flag)
        self.steps: list[Step] = []
        self.refusal: Answer | None = None
        self.admission = Admission()
        self.remembered = False
        rollout = plan.flag.rollout
        if rollout is not None and rollout.sticky:
            found = user.admissions.get(rollout.slot) if user.admissions else None
            self.remembered = found is not None
            self.admission = found or self.admission
        table, self.place = plan.places, None
        if table is not None and user.admissions:
            self.place = user.admissions.get(table.slot)
        self.allowed = self._on(self.flag.allow_list, self.flag.allow_lists)
        self.classes: list[dict[str, Any]] = []

    def to_the_end(self) -> tuple[Answer, list[Step], Drawn | None]:
        """The answer, the steps in order, and the draw of the current stage."""
        flag = self.flag
        killed = self.plan.opening is Opening.KILLED
        self._refuse_if(killed, StepKind.KILL, reasons.KILLED, reasons.DISABLED)
        missing = not self.key
        self._refuse_if(missing, StepKind.IDENTITY, reasons.IDENTITY_MISSING, reasons.ERROR)
        blocked = self._on(flag.block_list, flag.block_lists)
        self._refuse_if(blocked, StepKind.BLOCK_LIST, reasons.BLOCKED_LIST)
        disabled = not flag.enabled
        self._refuse_if(disabled, StepKind.ENABLED, reasons.FLAG_DISABLED, reasons.DISABLED)
        listed = Outcome.PASS if self.allowed else Outcome.SKIPPED
        self.steps.append(Step(kind=StepKind.ALLOW_LIST, outcome=listed))
        self._prerequisites()
        self._exclusion()
        for gate in self.plan.gates:
            if gate.regions is not None:
                self._region_gate(gate, gate.regions)
            else:
                self._rule_gate(gate)
        answer = self._rollout()
        return self.refusal or answer, self.steps, self._draw()

    # -- small helpers

    def _on(self, names: frozenset[str], numbers: list[int]) -> bool:
        return self.key in names or not frozenset(numbers).isdisjoint(self.user.lists or ())

    def _refuse(self, why: str, reason: str) -> None:
        if self.refusal is None:
            self.refusal = self.answers.hidden(why, reason)

    def _refuse_if(
        self, refused: bool, kind: StepKind, why: str, reason: str = reasons.TARGETING_MATCH
    ) -> None:
        outcome = Outcome.FAIL if refused else Outcome.PASS
        self._step(kind, outcome, why=why, reason=reason)

    def _step(
        self,
        kind: StepKind,
        outcome: Outcome,
        *,
        why: str,
        reason: str = reasons.TARGETING_MATCH,
        **told: Any,
    ) -> None:
        """A step that refuses unless it is passed or skipped."""
        refuses = outcome in (Outcome.FAIL, Outcome.UNKNOWN)
        if refuses:
            self._refuse(why, reason)
        self.steps.append(Step(kind=kind, outcome=outcome, why=why if refuses else None, **told))

    def _needs(self, node: Node, negated: bool = False) -> list[Need]:
        """Every claim of a rule, in reading order."""
        if isinstance(node, Leaf):
            given = self.known.given(node.attribute)
            return [
                Need(
                    attribute=node.attribute.name,
                    operator=node.operator,
                    wanted=node.wanted,
                    value=given,
                    outcome=_OUTCOME[node.truth(self.known)],
                    negated=negated,
                    crossing=self._crossing(node),
                )
            ]
        negated = negated is not isinstance(node, Not)
        return [need for part in node.parts() for need in self._needs(part, negated)]

    def _crossing(self, leaf: Leaf) -> history.Crossing | None:
        value = self.known.value(leaf.attribute)
        if not isinstance(leaf, Hysteresis) or value is None:
            return None
        return history.crossing(value, self.known.days(leaf.attribute), leaf.enter, leaf.leave)

    def _bucket(self, seed: int) -> int:
        return bucketing.seeded_bucket(seed, self.key)

    def _weight(self, stage: StagePlan | None) -> int:
        if self.flag.rollout is not None and self.flag.rollout.sticky:
            return self.admission.weight or 1
        weights = stage.weights if stage is not None else ()
        matching = (weight for rule, weight in weights if rule.truth(self.known) is True)
        return next(matching, 1)

    # -- up to the gates

    def _prerequisites(self) -> None:
        for needed in self.flag.prerequisites:
            other = self.compiled.check(needed.flag, self.user)
            met = other.visible and (not needed.variants or other.variant in needed.variants)
            self._step(
                StepKind.PREREQUISITE,
                _OUTCOME[met],
                why=needed.why,
                key=needed.flag,
                details={"variant": other.variant, "why": other.why},
            )

    def _exclusion(self) -> None:
        exclusion = self.flag.exclusion
        if exclusion is None:
            return
        low, high = self.plan.exclusion_from, self.plan.exclusion_to
        place = self._bucket(self.plan.exclusion_seed)
        self._step(
            StepKind.EXCLUSION,
            _OUTCOME[low <= place < high],
            why=exclusion.why,
            reason=reasons.SPLIT,
            key=exclusion.group,
            details={"group": exclusion.group, "bucket": place, "from": low, "to": high},
        )

    # -- gates

    def _excused(self, gate: GatePlan) -> bool:
        kept = gate.gate.keeps_shown and self.admission.admitted
        return kept or (self.allowed and not gate.gate.absolute)

    def _rule_gate(self, gate: GatePlan) -> None:
        assert gate.rule is not None
        outcome = _OUTCOME[gate.rule.truth(self.known)]
        needs = self._needs(gate.rule)
        why = gate.gate.unknown_why if outcome is Outcome.UNKNOWN else gate.gate.why
        self._gate_step(gate, outcome, why, needs, {})

    def _region_gate(self, gate: GatePlan, table: RegionTable) -> None:
        assert self.plan.region is not None
        region = self.known.value(self.plan.region)
        index = table[region]
        self.classes.append(table.payload(index))
        outcome, why, details = Outcome.UNKNOWN, gate.gate.unknown_why, {}
        if index is not None:
            region_class = table.classes[index]
            details = {
                "region_class": region_class.key,
                "ceiling_ppm": region_class.ceiling_ppm,
                "payload": region_class.payload,
            }
            outcome, why = Outcome.PASS, gate.gate.why
            if index < table.closed:
                outcome = Outcome.FAIL
            elif self.plan.rollout_seed is not None:
                weight = self._weight(self.plan.stages[0] if self.plan.stages else None)
                if self._bucket(self.plan.rollout_seed) >= table.limits[index] * weight:
                    outcome, why = Outcome.FAIL, reasons.REGION_CEILING
        need = Need(
            attribute=self.plan.region.name,
            operator="region policy",
            wanted=None,
            value=self.known.given(self.plan.region),
            outcome=outcome,
        )
        self._gate_step(gate, outcome, why, [need], details)

    def _gate_step(
        self,
        gate: GatePlan,
        outcome: Outcome,
        why: str,
        needs: list[Need],
        details: dict[str, Any],
    ) -> None:
        if self._excused(gate):
            outcome = Outcome.SKIPPED
        self._step(
            StepKind.GATE,
            outcome,
            why=why,
            key=gate.gate.key,
            dimension=gate.gate.dimension,
            needs=needs,
            details=details,
            version=gate.gate.version,
        )

    # -- stages

    def _rollout(self) -> Answer:
        """The answer unless something refused before."""
        opening = self.plan.opening
        if opening is Opening.ROLLED_BACK:
            self._refuse_if(True, StepKind.ROLLOUT, reasons.STAGE_ROLLED_BACK, reasons.DISABLED)
        elif opening is Opening.NOT_STARTED:
            self._refuse_if(True, StepKind.ROLLOUT, reasons.STAGE_NOT_STARTED, reasons.DEFAULT)
        elif opening is Opening.OPEN:
            self.steps.append(Step(kind=StepKind.ROLLOUT, outcome=Outcome.PASS))
            return self._stages()
        assert self.refusal is not None
        return self.refusal

    def _stages(self) -> Answer:
        current = self.plan.stages[0].stage
        admitted = [each.stage for each in self.plan.stages if self._stage(each)]
        self._place()
        why, reason = reasons.SHOWN, _reason(current)
        if self.allowed:
            why, reason = reasons.ALLOWED_LIST, reasons.TARGETING_MATCH
        elif not self.admission.admitted:
            if not admitted:
                assert self.refusal is not None
                return self.refusal
            current, reason = admitted[0], _reason(admitted[0])
        return self._dealt(current, why, reason)

    def _place(self) -> None:
        """The capacity gate: asked last, so that only who passes all else takes a place."""
        table = self.plan.places
        if table is None:
            return
        step = place_step(self.plan, table, self.known, self.place)
        if self.allowed and not table.gate.absolute:
            step = msgspec.structs.replace(step, outcome=Outcome.SKIPPED, why=None)
        if step.why is not None:
            to_take = step.why == reasons.FUNDING_NOT_RESERVED
            self._refuse(step.why, reasons.ERROR if to_take else reasons.TARGETING_MATCH)
        self.steps.append(step)

    def _stage(self, plan: StagePlan) -> bool:
        """Tell one stage; whether its audience and its draw both take the user."""
        stage = plan.stage
        audience = _OUTCOME[plan.audience.truth(self.known)]
        drawn = self._drawn(plan)
        outcome, why, reason = Outcome.PASS, stage.audience_why, reasons.TARGETING_MATCH
        if audience is not Outcome.PASS:
            outcome = audience
            why = reasons.DATA_MISSING if audience is Outcome.UNKNOWN else why
        elif not drawn:
            outcome, why, reason = Outcome.FAIL, stage.not_drawn_why, reasons.SPLIT
        takes = outcome is Outcome.PASS
        if self.allowed or self.admission.admitted:
            outcome = Outcome.SKIPPED
        if plan is self.plan.stages[0] and outcome in (Outcome.FAIL, Outcome.UNKNOWN):
            # An earlier stage may still admit; if none does, the current one names the refusal.
            others = self.plan.stages[1:]
            if not any(self._takes(each) for each in others):
                self._refuse(why, reason)
        self.steps.append(
            Step(
                kind=StepKind.STAGE,
                key=stage.key,
                outcome=outcome,
                why=why if outcome in (Outcome.FAIL, Outcome.UNKNOWN) else None,
                needs=self._needs(plan.audience),
                details={
                    "audience": audience,
                    "drawn": drawn,
                    "share_ppm": stage.share_ppm,
                    "threshold": stage.threshold,
                },
            )
        )
        return takes

    def _takes(self, plan: StagePlan) -> bool:
        return plan.audience.truth(self.known) is True and self._drawn(plan)

    def _drawn(self, plan: StagePlan) -> bool:
        threshold = plan.stage.threshold
        if threshold in (0, FULL_THRESHOLD):
            return threshold == FULL_THRESHOLD
        assert self.plan.rollout_seed is not None
        return self._bucket(self.plan.rollout_seed) < threshold * self._weight(plan)

    def _draw(self) -> Drawn | None:
        if not self.plan.stages or self.plan.rollout_seed is None or not self.key:
            return None
        current = self.plan.stages[0]
        stage, weight = current.stage, self._weight(current)
        bucket = self._bucket(self.plan.rollout_seed)
        same = [each.stage for each in self.plan.stages if each.stage.audience == stage.audience]
        known = {each.share_ppm: each.threshold for each in same if each.share_ppm}
        return Drawn(
            bucket=bucket,
            weight=weight,
            threshold=stage.threshold,
            share_ppm=stage.share_ppm,
            drawn=self._drawn(current),
            enters_at_ppm=enters_at(bucket // weight, known, whole=PPM, full=FULL_THRESHOLD),
            remembered=self.remembered,
        )

    # -- what the admitted get

    def _dealt(self, stage: Stage, why: str, reason: str) -> Answer:
        payloads: list[dict[str, Any]] = [{}]
        for rule, tier in self.plan.tiers:
            truth = rule.truth(self.known)
            details = {"payload": tier.payload}
            self.steps.append(
                Step(
                    kind=StepKind.TIER,
                    key=tier.key,
                    outcome=_OUTCOME[truth],
                    needs=self._needs(rule),
                    details=details,
                )
            )
            if truth is True:
                payloads = [tier.payload]
                break
        place = self._bucket(self.plan.variant_seed)
        limits = self.plan.variant_limits
        variant = next(index for index, limit in enumerate(limits) if place < limit)
        dealt = self.flag.variants[variant]
        told = {"bucket": place, "payload": dealt.payload}
        self.steps.append(
            Step(kind=StepKind.VARIANT, key=dealt.key, outcome=Outcome.PASS, details=told)
        )
        answer = self.answers.shown(stage, variant, payloads + self.classes, why=why, reason=reason)
        if self.plan.places is None or self.place is None:
            return answer
        return Given(self.plan.places).told(answer, self.place)


def _reason(stage: Stage) -> str:
    whole = stage.threshold >= FULL_THRESHOLD
    return reasons.TARGETING_MATCH if whole else reasons.SPLIT
