"""Takes the steps that waited for a worker's draw, as those who asked for them."""

from __future__ import annotations

import logging

from django.db import transaction

from cohorts.models import DrawJob
from cohorts.services import draw_jobs
from huidu.errors import HuiduError, StateError
from rollout.models import Decision, Rollout, Stage
from rollout.services import audit, rollouts, widening
from rollout.services.audit import ENGINE, Actor

logger = logging.getLogger(__name__)


def take_ready() -> int:
    """Enter every stage whose draw is ready; how many.

    The step is checked anew: a rollout that was rolled back, killed or moved meanwhile, or whose
    rules changed, keeps its state, and the draw says why it was in vain.
    """
    taken = 0
    for job in DrawJob.objects.filter(state=DrawJob.State.READY).order_by("pk"):
        try:
            _take(job)
            taken += 1
        except HuiduError as fault:
            logger.warning("rollout.draw_in_vain job=%s %s", job.pk, fault)
            draw_jobs.fail(job, fault)
    return taken


def cancel(rollout: Rollout, *, by: Actor, reason: str) -> None:
    """Stop the draw of a stage that is not entered yet.

    Raises:
        StateError: nothing is being drawn.
    """
    job = draw_jobs.active(rollout.slot)
    if job is None:
        raise StateError(f"nothing is being drawn for rollout {rollout}")
    with transaction.atomic():
        draw_jobs.cancel(job)
        audit.record(
            by,
            "rollout.draw_cancelled",
            f"rollout:{rollout.flag.key}#{rollout.slot}",
            environment=rollout.flag.environment,
            after={"stage": job.stage_key, "share_ppm": job.share_ppm},
            reason=audit.clean_reason(reason),
        )


def _take(job: DrawJob) -> None:
    then = job.then
    rollout = Rollout.objects.select_related("flag").get(pk=then["rollout"])
    stage = Stage.objects.get(pk=then["stage"])
    if rollout.current_id != then["running"]:
        raise StateError(f"rollout {rollout} has moved on while {job} was drawn")
    by, reason = Actor(*then["by"]), then["reason"]
    approved_by = Actor(*then["approved_by"]) if then["approved_by"] else None
    if then["verb"] == "start":
        rollouts.start(rollout, by=by, reason=reason)
    elif then["verb"] == "promote":
        rollouts.promote(
            rollout, by=by, reason=reason, stage=rollout.current, approved_by=approved_by
        )
    else:
        if by == ENGINE:
            _require_last_look(stage, then["share_ppm"])
        widening.widen(stage, then["share_ppm"], by=by, reason=reason, approved_by=approved_by)


def _require_last_look(stage: Stage, share_ppm: int) -> None:
    """A ramp's step is taken only if the look after the draw would still take it."""
    last = Decision.objects.filter(stage=stage).order_by("-look").first()
    answer = (last.ramp or {}).get("answer", {}) if last is not None else {}
    if not answer.get("grows") or answer.get("to_ppm") != share_ppm:
        raise StateError(
            f"the last look at stage {stage} no longer lets its share grow to {share_ppm:,} ppm"
        )
