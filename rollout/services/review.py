"""One look at one running stage: decided by `huidu.promotion`, recorded once, acted upon once.

    1. which look is due, by the stage's own clock      nothing due: nothing is done
    2. plan, state, look and conditions from rows
    3. `promotion.review`, a pure function
    4. one `Decision` row, unique by stage and look
    5. the act, in the transaction that marks the decision as acted upon; a hold may let the
       stage's ramp take its next step

The stage's row is locked during 1 to 4 (`deciding`); a second reviewer passes it by. Killed after
4, the next tick goes on: a rollback is carried out, a promotion is decided anew, because what was
proven before a pause of unknown length may no longer hold.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery

from huidu.errors import HuiduError
from rollout.models import Decision, Stage
from rollout.services import deciding, look_rows, rolling, rollouts, widening
from rollout.services.audit import ENGINE
from rollout.services.evidence_reach import Reach

logger = logging.getLogger(__name__)

Verdict = Decision.Verdict


class Reviewed(NamedTuple):
    """What a review did: the decision it wrote, and whether it moved the rollout."""

    decision: Decision
    acted: bool


def review_stage(stage_id: int, *, now: datetime) -> Reviewed | None:
    """Review a stage if a look is due; None when nothing was to be done.

    Raises:
        Nothing that a sick stage causes by its evidence: that is a recorded hold.
    """
    return next(iter(_review([stage_id], now)), None)


def roll_up_and_review(
    stage_id: int, *, now: datetime, up_to: Reach | None = None
) -> Reviewed | None:
    """Bring the cells up to date first, if a look is due at all."""
    return next(iter(review_together([stage_id], now=now, up_to=up_to)), None)


def review_together(
    stage_ids: Collection[int], *, now: datetime, up_to: Reach | None = None
) -> list[Reviewed]:
    """The same for some stages, read and recorded together: either all of them or none.

    Args:
        stage_ids: few enough that people who would move one can wait for its lock.
    """
    stages = list(deciding.reviewed(stage_ids, now))
    last = look_rows.last_looks([each.pk for each in stages])
    wanted, due_now = [], []
    for stage in stages:
        before = last.get(stage.pk)
        if deciding.is_cut_short(before, stage):
            wanted.append(stage.pk)
        elif deciding.is_due(before, deciding.look_number(stage, now)):
            wanted.append(stage.pk)
            due_now.append(stage)
    if not wanted:
        return []
    rolling.roll_up(due_now, now=now, up_to=up_to)
    return _review(wanted, now)


def _review(stage_ids: Collection[int], now: datetime) -> list[Reviewed]:
    decided = deciding.decide(stage_ids, now)
    decided.sort(key=lambda each: each.decision != Verdict.ROLL_BACK)  # harm waits for nobody
    return [_carried_out(each) for each in decided]


def _carried_out(decision: Decision) -> Reviewed:
    acted = False
    if not decision.stage.decides_only:
        acted = grow(decision) if decision.decision == Verdict.HOLD else act(decision.pk)
    return Reviewed(decision, acted)


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
        if stage.cut_short
        or stage.last_look is None
        or deciding.look_number(stage, now) > stage.last_look
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
                running = None if decision.evidence["conditions"].get("left") else stage
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
