"""One look at one running stage: decided by `huidu.promotion`, recorded once, acted upon once.

    1. which look is due, by the stage's own clock      nothing due: nothing is done
    2. plan, state, look and conditions from rows
    3. `promotion.review`, a pure function
    4. one `Decision` row, unique by stage and look
    5. the act, in the transaction that marks the decision as acted upon; a hold may let the
       stage's ramp take its next step

The stage's row is locked during 1 to 4; a second reviewer passes it by. Killed after 4, the next
tick goes on: a rollback is carried out, a promotion is decided anew, because what was proven before
a pause of unknown length may no longer hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery

from huidu import promotion
from huidu.errors import EvidenceError, HuiduError
from huidu.promotion import contract
from huidu.promotion.ramp import Ramp, advance
from rollout.models import Decision, Guard, MetricCell, Rollout, RollupMark, Stage
from rollout.services import evidence, late, looks, messages, rollouts, widening
from rollout.services.audit import ENGINE
from rollout.services.evidence import Reach

logger = logging.getLogger(__name__)

Verdict = Decision.Verdict
REVIEWED = (Rollout.Status.RUNNING, Rollout.Status.PAUSED)


class Reviewed(NamedTuple):
    """What a review did: the decision it wrote, and whether it moved the rollout."""

    decision: Decision
    acted: bool


def review_stage(
    stage_id: int, *, now: datetime, guards: Sequence[Guard] | None = None
) -> Reviewed | None:
    """Review a stage if a look is due; None when nothing was to be done.

    Args:
        guards: of the stage, where the caller has read them: they are fixed once it was entered.

    Raises:
        Nothing that a sick stage causes by its evidence: that is a recorded hold.
    """
    decision = _decide(stage_id, now, guards)
    if decision is None:
        return None
    acted = False
    if not decision.stage.decides_only:
        acted = grow(decision) if decision.decision == Verdict.HOLD else act(decision.pk)
    return Reviewed(decision, acted)


def roll_up_and_review(
    stage_id: int, *, now: datetime, up_to: Reach | None = None
) -> Reviewed | None:
    """Bring the cells up to date first, if a look is due at all."""
    stage = _reviewed(stage_id, now).first()
    if stage is None:
        return None
    last = _last(stage)
    guards = None
    if not _is_cut_short(last, stage):
        if not _is_due(last, look_number(stage, now)):
            return None
        guards = evidence.guards_of(stage)
        evidence.roll_up(stage, now=now, up_to=up_to, guards=guards)
    return review_stage(stage_id, now=now, guards=guards)


def due(stages: QuerySet[Stage], *, now: datetime) -> list[int]:
    """Ids of those stages of which a look is due or a rollback was cut short: one query for all."""
    newest = Decision.objects.filter(stage=OuterRef("pk")).order_by("-look")
    rows = stages.select_related("rollout").annotate(
        last_look=Subquery(newest.values("look")[:1]),
        cut_short=Subquery(newest.values(cut=Q(decision=Verdict.ROLL_BACK.value, acted=False))[:1]),
    )
    return [
        stage.pk
        for stage in rows
        if stage.cut_short or stage.last_look is None or look_number(stage, now) > stage.last_look
    ]


def act(decision_id: int) -> bool:
    """Carry a decision out, at most once; False when it was, or when the rollout has moved on."""
    try:
        with transaction.atomic():
            decision = (
                Decision.objects.select_for_update(of=("self",))
                .select_related("stage__rollout__flag")
                .get(pk=decision_id)
            )
            stage, reason = decision.stage, reason_of(decision)
            # Read anew: somebody may have switched acting off since the look.
            if decision.acted or decision.decision == Verdict.HOLD or stage.decides_only:
                return False
            if decision.decision == Verdict.PROMOTE:
                rollouts.promote(stage.rollout, by=ENGINE, reason=reason, stage=stage)
            else:
                # Late harm of a stage's users speaks against whatever stage came after it.
                running = None if _is_of_left_stage(decision) else stage
                rollouts.rollback(stage.rollout, by=ENGINE, reason=reason, stage=running)
            decision.acted = True
            decision.save(update_fields=["acted"])
            return True
    except HuiduError as error:
        # Somebody moved the rollout meanwhile, or the next stage cannot be entered: told, and
        # tried again at the next look.
        logger.warning("rollout.decision_not_carried_out decision=%s %s", decision_id, error)
        with transaction.atomic():
            row = Decision.objects.select_for_update().get(pk=decision_id)
            told = {"code": f"not_carried_out.{error.code}", "text": str(error)}
            if told not in row.reasons:
                row.reasons = [*row.reasons, told]
                row.save(update_fields=["reasons"])
        return False


def grow(decision: Decision) -> bool:
    """Take the ramp's next step, if this look allows it and nobody was faster."""
    told = decision.ramp or {}
    if decision.acted or not told.get("answer", {}).get("grows"):
        return False
    answer = told["answer"]
    try:
        with transaction.atomic():
            rows = Decision.objects.select_for_update(of=("self",))
            row = rows.select_related("stage__rollout__flag").get(pk=decision.pk)
            if row.acted or row.stage.decides_only:
                return False
            stage = widening.widen(
                row.stage,
                answer["to_ppm"],
                by=ENGINE,
                reason=f"next share of the ramp: nothing speaks against it (decision {row.pk})",
                seen_ppm=told["given"]["share_ppm"],
            )
            if stage.share_ppm < answer["to_ppm"]:
                return False  # a worker draws it first; see `drawn_steps`
            row.acted = decision.acted = True
            row.save(update_fields=["acted"])
            return True
    except HuiduError as error:
        # Somebody widened, paused or killed it meanwhile: the next look decides anew.
        logger.warning("rollout.ramp_not_carried_out decision=%s %s", decision.pk, error)
        return False


def reason_of(decision: Decision) -> str:
    """What the audit log says: the decision's own sentence, and where to find its evidence."""
    return f"{decision.code}: {decision.text} (decision {decision.pk})"[:2_000]


def _reviewed(stage_id: int, now: datetime) -> Any:
    running = Q(status=Stage.Status.RUNNING, rollout__status__in=REVIEWED)
    rows = Stage.objects.filter(running | late.watched(now), pk=stage_id)
    return rows.select_related("rollout__flag")


def _last(stage: Stage) -> Decision | None:
    # Evidence and outcome are large, and nothing goes on from them.
    rows = Decision.objects.filter(stage=stage).defer("evidence", "outcome", "reasons")
    return rows.order_by("-look").first()


def _is_cut_short(last: Decision | None, stage: Stage) -> bool:
    """Whether harm was proven and the rollback not carried out: that waits for no other look."""
    if last is None or last.decision != Verdict.ROLL_BACK or last.acted or stage.decides_only:
        return False
    # Proven in the running stage, which somebody promoted meanwhile: the left stage looks anew.
    return stage.status == Stage.Status.RUNNING or _is_of_left_stage(last)


def _is_of_left_stage(decision: Decision) -> bool:
    return bool(decision.evidence["conditions"].get("left"))


def look_number(stage: Stage, now: datetime) -> int:
    """The look that is due: one per `look_minutes` of the stage's clock, the first at once."""
    return math.floor(looks.minute(stage, now) / stage.look_minutes)


def _is_due(last: Decision | None, k: int) -> bool:
    # A clock that was set back finds a look with a later number, and waits until it is past it.
    return k > (last.look if last is not None else -1)


def _decide(stage_id: int, now: datetime, guards: Sequence[Guard] | None) -> Decision | None:
    """The decision that is due, or the one still to be carried out."""
    with transaction.atomic():
        found = _reviewed(stage_id, now)
        stage = found.select_for_update(of=("self",), skip_locked=True).first()
        if stage is None:
            return None
        last = _last(stage)
        if _is_cut_short(last, stage):
            return last
        k = look_number(stage, now)
        if not _is_due(last, k):
            return None
        return _write(stage, evidence.guards_of(stage) if guards is None else guards, last, k, now)


def _write(
    stage: Stage, guards: Sequence[Guard], last: Decision | None, k: int, now: datetime
) -> Decision:
    cells = list(MetricCell.objects.filter(stage=stage, latest=True))
    marks = {each.metric_id: each for each in RollupMark.objects.filter(stage=stage)}
    before = None if last is None else _plan_kept(last)
    plan = looks.plan_of(stage, guards, cells, before)
    state = contract.State() if last is None else _state_after(last)
    # What stopped short of an act (dry run, next stage not ready) is decided anew.
    going_on = msgspec.structs.replace(state, decided="")
    look = looks.look_of(stage, guards, cells, marks, k=k, now=now)
    conditions = looks.conditions_of(stage, guards, now)
    try:
        after, outcome = promotion.review(plan, going_on, look, conditions)
    except EvidenceError as error:
        after, outcome = going_on, refused(error)
    ramp = looks.ramp_of(stage, cells, now)
    decision = Decision.objects.create(
        stage=stage,
        look=k,
        at=now,
        decision=outcome.decision.value,
        code=outcome.code,
        metric=outcome.metric or "",
        text=outcome.text,
        reasons=msgspec.to_builtins(outcome.missing),
        # An unchanged plan or state is not written again: see `material_of`.
        plan={} if plan == before else msgspec.to_builtins(plan),
        state={} if last is not None and going_on == state else msgspec.to_builtins(going_on),
        state_after=msgspec.to_builtins(after),
        evidence={
            "look": msgspec.to_builtins(look),
            "conditions": msgspec.to_builtins(conditions),
        },
        outcome=msgspec.to_builtins(outcome),
        ramp=None if ramp is None else ramp_told(ramp, outcome),
        dry_run=stage.decides_only,
        code_version=promotion.CODE_VERSION,
    )
    _plans[stage.pk] = (decision.pk, plan)
    if _is_overdue(decision) and not (last is not None and _was_overdue(stage, k)):
        messages.tell_overdue(stage, decision, by=ENGINE)
    return decision


def ramp_told(ramp: Ramp, outcome: contract.Outcome) -> dict[str, Any]:
    """Where a stage stood in its ramp, and what follows from it and the look."""
    answer = advance(ramp, outcome)
    return {"given": msgspec.to_builtins(ramp), "answer": msgspec.to_builtins(answer)}


def _is_overdue(decision: Decision) -> bool:
    """Whether the horizon is over, so that only a person can go on."""
    return any(each.get("code") == "horizon_over" for each in decision.reasons)


def _was_overdue(stage: Stage, k: int) -> bool:
    """Whether an earlier look found the horizon over: that is told once a stage."""
    earlier = Decision.objects.filter(stage=stage, look__lt=k)
    return earlier.filter(reasons__contains=[{"code": "horizon_over"}]).exists()


def refused(error: EvidenceError) -> contract.Outcome:
    """A plan that cannot be run is a hold that says so."""
    missing = contract.Missing(code="plan_invalid", text=str(error))
    return contract.Outcome(
        decision=contract.Decision.HOLD,
        code=missing.code,
        text=missing.text,
        missing=(missing,),
    )


_MOST_PLANS: Final = 5_000
_plans: dict[int, tuple[int, contract.Plan]] = {}
"""By stage: the newest decision this process wrote, and the plan it was made by. Rows say the same,
but an unchanged plan is written once, and may stand thousands of looks back."""


def _plan_kept(last: Decision) -> contract.Plan | None:
    # Numbers of rows are never dealt twice, so a decision that was undone is not found by this.
    known = _plans.get(last.stage_id)
    if known is not None and known[0] == last.pk:
        return known[1]
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    return plan_before(last)


def plan_before(decision: Decision) -> contract.Plan | None:
    """The plan a decision was made by: its own, or the last one written before it."""
    if decision.plan:
        return msgspec.convert(decision.plan, contract.Plan)
    rows = Decision.objects.filter(stage=decision.stage_id, look__lte=decision.look)
    row = rows.exclude(plan={}).order_by("-look").values_list("plan", flat=True).first()
    return None if row is None else msgspec.convert(row, contract.Plan)


def _state_after(decision: Decision) -> contract.State:
    return msgspec.convert(decision.state_after, contract.State)


class Material(NamedTuple):
    """Everything a decision was made from."""

    plan: contract.Plan
    state: contract.State
    look: contract.Look
    conditions: contract.Conditions


def material_of(decision: Decision) -> Material:
    """What a decision was made from, gathered from its row and those before it.

    Raises:
        EvidenceError: a row before it is missing.
    """
    plan = plan_before(decision)
    if plan is None:
        raise EvidenceError(f"decision {decision.pk}: no plan was written at or before it")
    if decision.state:
        state = msgspec.convert(decision.state, contract.State)
    else:
        rows = Decision.objects.filter(stage=decision.stage_id, look__lt=decision.look)
        previous = rows.order_by("-look").first()
        if previous is None:
            raise EvidenceError(f"decision {decision.pk}: the look before it is missing")
        state = _state_after(previous)
    return Material(
        plan,
        state,
        msgspec.convert(decision.evidence["look"], contract.Look),
        msgspec.convert(decision.evidence["conditions"], contract.Conditions),
    )
