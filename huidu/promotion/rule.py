"""The promotion rule: plan, state and look in, state and outcome out. Nothing else is read.

One review, in order:
1. refuse what cannot be true; such a look moves nothing but is answered;
2. move each metric's evidence on, where its source was complete alike in both arms;
3. test the sample ratio (once broken, broken for the stage);
4. roll back for a gauge breached too long, or for harm that is proven;
5. promote at a planned look if every guard that must prove does, and nothing stands against it;
6. else hold, saying everything that is missing.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from huidu.errors import EvidenceError
from huidu.promotion import gather, proof, texts
from huidu.promotion.contract import (
    ACCEPTABLE,
    Conditions,
    Decision,
    Look,
    Missing,
    Outcome,
    Plan,
    Reading,
    Role,
    State,
)
from huidu.promotion.finding import Finding
from huidu.promotion.judge import judge
from huidu.promotion.plan import CompiledPlan, compiled
from huidu.stats.sequential import average, guilty
from huidu.stats.srm import is_broken

_LARGEST_LOG = 690.0  # e^690 ~ 1e299 still is a JSON number


def review(
    plan: Plan, state: State, look: Look, conditions: Conditions | None = None
) -> tuple[State, Outcome]:
    """What to do with a stage after one look. Pure: same arguments, same answer, everywhere.

    Args:
        plan: fixed when the stage started; later it may only gain cells (a new share opens a new
            epoch).
        state: as the previous review returned it, `State()` at the first look.
        look: cumulative readings; `t_min` must not go back. A repeated `t_min` changes nothing.
        conditions: what must hold outside the evidence; by default all is fine.
    Returns:
        The state to keep, and the outcome. After a promotion or rollback every look is held.
    Raises:
        EvidenceError: the plan cannot be run, or a metric changed or went during the stage. A look
            that cannot be true does not raise: it is held with the code `bad_evidence`.
    """
    ready = compiled(plan)
    _check_kinds(ready, state)
    if state.decided:
        return state, _hold([texts.already_decided(state.decided)])
    if not math.isfinite(look.t_min) or look.t_min < 0:
        return state, _hold([texts.bad_look("t_min", "a finite number of minutes", look.t_min)])
    if look.t_min < state.last_t_min:
        return state, _hold([texts.out_of_order(look.t_min, state.last_t_min)])
    return _Review(ready, state, look, conditions or Conditions()).run()


def _check_kinds(plan: CompiledPlan, state: State) -> None:
    removed = sorted(state.kinds.keys() - {metric.name for metric in plan.plan.metrics})
    if removed:
        raise EvidenceError(
            f"metric {removed[0]} was there when the stage started and is gone;"
            " start a new stage for other guards",
            path="metrics",
        )
    for metric in plan.plan.metrics:
        before = state.kinds.get(metric.name)
        if before is not None and before != metric.kind:
            raise EvidenceError(
                f"metric {metric.name} was {before} when the stage started, now {metric.kind};"
                " start a new stage for a new definition",
                path="metrics",
            )


def _hold(missing: list[Missing], **more: Any) -> Outcome:
    first = missing[0]
    return Outcome(
        decision=Decision.HOLD,
        code=first.code,
        text=first.text,
        metric=first.metric,
        missing=tuple(missing),
        **more,
    )


class _Review:
    """The working memory of one review; `changes` becomes the next state."""

    def __init__(
        self, plan: CompiledPlan, state: State, look: Look, conditions: Conditions
    ) -> None:
        self.plan, self.state, self.look, self.conditions = plan, state, look, conditions
        times = plan.plan.stage
        self.is_between = times.between(state.last_t_min, look.t_min)
        self.is_new = look.t_min > state.last_t_min and not self.is_between
        self.changes: dict[str, Any] = {"last_k": look.k, "last_t_min": look.t_min}
        self.accepted = ACCEPTABLE.intersection(conditions.accepted)
        self.gathered = gather.gather(plan, state, look, accepted=self.accepted)
        if not state.kinds:
            self.changes["kinds"] = {m.name: m.kind.value for m in plan.plan.metrics}

    def run(self) -> tuple[State, Outcome]:
        gathered = self.gathered
        self.changes.update(users=gathered.users, evidence=gathered.evidence)
        if not self.is_between:
            self.changes["pulses"] = gathered.pulses
        self._test_sample_ratio()
        streaks = gather.streaks(self.plan, self.state, self.look, count=self.is_new)
        self.changes["streaks"] = streaks
        self._judge_guards()
        for gauge in self.plan.gauges:
            if gauge.role is not Role.WATCH and streaks.get(gauge.name, 0) >= gauge.for_looks:
                reading = gather.reading_of(gauge, self.look)
                return self._finish(texts.gauge_rollback(gauge, reading, streaks[gauge.name]))
        name = guilty(
            {g.name: self.findings[g.name].log_e for g in self.plan.stoppers},
            {g.name: self.findings[g.name].material for g in self.plan.stoppers},
            alpha=self.plan.plan.alpha.rollback,
            weights=self.plan.weights,
        )
        if name is not None:
            guard = next(g for g in self.plan.stoppers if g.name == name)
            return self._finish(
                texts.harm_rollback(guard, self.findings[name], self.combined, self.look)
            )
        return self._promote_or_hold()

    def _test_sample_ratio(self) -> None:
        users = np.array([self.gathered.users[name] for name in self.plan.ids])
        self.treated_users = self.plan.enrolled(self.gathered.users)[0]
        test = self.plan.sample_ratio
        log_e = test.log_evidence(users[:, 0], users[:, 1])
        self.chi_square = test.chi_square(users[:, 0], users[:, 1])
        self.sample_ratio_log_e = min(log_e, _LARGEST_LOG)
        self.broken = self.state.sample_ratio_broken or is_broken(log_e)
        self.changes["sample_ratio_broken"] = self.broken
        self.changes["sample_ratio_log_e"] = max(
            self.state.sample_ratio_log_e, self.sample_ratio_log_e
        )
        self.enrolled_rho = None
        if self.broken:
            total = users.sum(axis=1)
            share = users[:, 0] / np.maximum(total, 1.0)
            self.enrolled_rho = np.where(total > 0, share, self.plan.rho)

    def _judge_guards(self) -> None:
        self.findings: dict[str, Finding] = {}
        for guard in self.plan.guards:
            evidence = self.gathered.evidence.get(guard.name)
            self.findings[guard.name] = (
                Finding()
                if evidence is None
                else judge(self.plan, guard, evidence, enrolled_rho=self.enrolled_rho)
            )
        stoppers = [self.findings[g.name].log_e for g in self.plan.stoppers]
        weights = self.plan.weights
        shares = None if weights is None else [weights[g.name] for g in self.plan.stoppers]
        self.combined = average(stoppers, shares) if stoppers else 0.0

    def _promote_or_hold(self) -> tuple[State, Outcome]:
        blocking = self._what_stands_against_it()
        if self.conditions.left:
            return self._finish(None, [texts.stage_left(), *blocking])
        step = proof.prove(
            self.plan,
            self.state,
            self.look,
            self.findings,
            evaluate=all(reason.code in gather.SEEN_IN_OUTCOMES for reason in blocking),
            treated_users=self.treated_users,
        )
        self.changes.update(step.changes)
        missing = [*blocking, *step.missing, *texts.conditions(self.conditions)]
        if missing:
            return self._finish(None, missing)
        self.changes["decided"] = Decision.PROMOTE.value
        outcome = Outcome(
            decision=Decision.PROMOTE,
            code="non_inferior" if self.plan.guards else "waived",
            text=texts.promotion(self.plan, self.look, self.treated_users),
            **self._shown(),
        )
        return self._next_state(), outcome

    def _what_stands_against_it(self) -> list[Missing]:
        missing: list[Missing] = []
        if self.broken:
            missing.append(texts.sample_ratio(self.changes["sample_ratio_log_e"]))
        elif self.chi_square >= texts.CHI_SQUARE_LIMIT:
            missing.append(texts.sample_ratio_now(self.chi_square))
        missing += self.gathered.problems
        missing += gather.unsure(self.plan, self.look, self.gathered, self.findings, self.accepted)
        return missing

    def _finish(
        self, rollback: tuple[str, str, str] | None, missing: list[Missing] | None = None
    ) -> tuple[State, Outcome]:
        if rollback is None:
            return self._next_state(), _hold(missing or [], **self._shown())
        metric, code, text = rollback
        self.changes["decided"] = Decision.ROLL_BACK.value
        return self._next_state(), Outcome(
            decision=Decision.ROLL_BACK, code=code, text=text, metric=metric, **self._shown()
        )

    def _next_state(self) -> State:
        return msgspec.structs.replace(self.state, **self.changes)

    def _shown(self) -> dict[str, Any]:
        return {
            "readings": self._readings(),
            "forecast": self.changes.get("forecast", self.state.forecast),
            "combined_e_value": math.exp(min(self.combined, _LARGEST_LOG)),
            "sample_ratio_e_value": math.exp(self.sample_ratio_log_e),
        }

    def _readings(self) -> tuple[Reading, ...]:
        proofs = self.changes.get("proofs", self.state.proofs)
        readings = []
        for guard in self.plan.guards:
            finding = self.findings[guard.name]
            evidence = self.gathered.evidence.get(guard.name)
            done = proofs.get(guard.name)
            score = finding.score
            readings.append(
                Reading(
                    metric=guard.name,
                    e_value=math.exp(min(finding.log_e, _LARGEST_LOG)),
                    estimate=finding.estimate,
                    low=finding.low,
                    high=finding.high,
                    z=None if score is None else score.z,
                    bound=done.bounds[-1] if done and done.bounds else None,
                    information=None if score is None else score.information,
                    as_of=evidence.as_of if evidence and evidence.as_of >= 0 else None,
                )
            )
        for gauge in self.plan.gauges:
            reading = gather.reading_of(gauge, self.look)
            finite = reading is not None and math.isfinite(reading)
            readings.append(Reading(metric=gauge.name, estimate=reading if finite else None))
        return tuple(readings)
