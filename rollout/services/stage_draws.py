"""Decides a stage's threshold when it is entered: once and for all, by an exact draw.

From few users it is drawn within the step. From many a worker draws first (`draw_jobs`), and takes
the step once that is done; until then the rollout stays where it is and shows nobody anything new.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from cohorts.models import DrawJob
from cohorts.services import draw_jobs, draws
from huidu.errors import StateError
from huidu.model import FULL_THRESHOLD, PPM
from rollout.models import Rollout, Stage
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.eligibility import eligible


def awaited(
    rollout: Rollout,
    stage: Stage,
    verb: str,
    *,
    by: Actor,
    reason: str,
    approved_by: Actor | None = None,
    share_ppm: int | None = None,
) -> DrawJob | None:
    """The draw that has to be done before the step; begun if it is not yet. None: go ahead.

    Args:
        verb: the step that is taken once the draw is done: start, promote or widen.
        share_ppm: the stage's new share, where that is the step.
    Raises:
        StateError: another draw of the rollout is under way.
        RuleError: the audience or a weight cannot be read.
    """
    share = stage.share_ppm if share_ppm is None else share_ppm
    if share == PPM or not draw_jobs.is_large():
        return None
    job = draw_jobs.active(rollout.slot)
    if job is not None:
        if job.state == DrawJob.State.REMEMBERING:
            raise StateError(f"{job} was drawn a moment ago and is still being written down: wait")
        if (job.stage_key, job.share_ppm) != (stage.key, share):
            raise StateError(f"{job} is being drawn for {job.share_ppm:,} ppm: wait or cancel it")
        return None if job.state == DrawJob.State.READY else job
    then = {
        "verb": verb,
        "rollout": rollout.pk,
        "stage": stage.pk,
        "running": rollout.current_id,
        "share_ppm": share,
        "by": [by.name, by.person],
        "approved_by": [approved_by.name, approved_by.person] if approved_by else None,
        "reason": audit.clean_reason(reason),
    }
    with transaction.atomic():
        job = draw_jobs.begin(_plan(rollout, stage, share), then, timezone.now())
        audit.record(
            by,
            "rollout.draw_begun",
            f"rollout:{rollout.flag.key}#{rollout.slot}",
            environment=rollout.flag.environment,
            after={"stage": stage.key, "share_ppm": share, "users": job.users, "step": verb},
            reason=audit.clean_reason(reason),
        )
    return job


def draw(rollout: Rollout, stage: Stage) -> None:
    """Set the stage's threshold, and what was drawn; the caller saves the row.

    A stage for its whole audience needs no draw: its threshold admits everybody. Thresholds never
    fall, so a draw begins where an earlier stage for the same audience ended.

    Raises:
        StateError: the draw was made by rules that have changed since.
    """
    stage.drawn_at = timezone.now()
    if stage.share_ppm == PPM:
        stage.threshold = FULL_THRESHOLD
        return
    plan = _plan(rollout, stage, stage.share_ppm)
    job = draw_jobs.active(rollout.slot)
    if job is not None and job.state == DrawJob.State.READY:
        if not draw_jobs.fits(job, plan):
            raise StateError(
                f"{job}: the audience, gates or weights changed while it was drawn: draw again"
            )
        receipt = draw_jobs.use(job, stage.drawn_at)
    else:
        parts: dict[str, Any] = {name: getattr(plan, name) for name in plan.__struct_fields__}
        receipt = draws.draw_stage(**parts, now=stage.drawn_at)
    # 2**64 says "everybody"; a share below that never does.
    stage.threshold = min(int(receipt.threshold), FULL_THRESHOLD - 1)
    stage.population = receipt.population
    stage.drawn = receipt.n
    stage.strata = receipt.strata


def _plan(rollout: Rollout, stage: Stage, share_ppm: int) -> draw_jobs.Plan:
    return draw_jobs.Plan(
        subject=f"{rollout.flag.key}#{rollout.slot}",
        slot=rollout.slot,
        stage_key=stage.key,
        salt=rollout.salt,
        audience=eligible(stage),
        weights=stage.weights,
        share_ppm=share_ppm,
        previous_threshold=previous_threshold(rollout, stage),
    )


def previous_threshold(rollout: Rollout, stage: Stage) -> int:
    """How far users of this audience were drawn already; 0 at first."""
    thresholds = [
        int(each.threshold)
        for each in rollout.stages.all()
        if each.threshold is not None
        and each.audience_id == stage.audience_id
        and each.order <= stage.order
    ]
    return max(thresholds, default=0)
