"""Decides a stage's threshold when it is entered: once and for all, by an exact draw."""

from __future__ import annotations

from django.utils import timezone

from cohorts.services import draws
from huidu.model import FULL_THRESHOLD, PPM
from rollout.models import Rollout, Stage
from rollout.services.eligibility import eligible


def draw(rollout: Rollout, stage: Stage) -> None:
    """Set the stage's threshold, and what was drawn; the caller saves the row.

    A stage for its whole audience needs no draw: its threshold admits everybody. Thresholds never
    fall, so a draw begins where an earlier stage for the same audience ended.
    """
    stage.drawn_at = timezone.now()
    if stage.share_ppm == PPM:
        stage.threshold = FULL_THRESHOLD
        return
    receipt = draws.draw_stage(
        subject=f"{rollout.flag.key}#{rollout.slot}",
        slot=rollout.slot,
        stage_key=stage.key,
        salt=rollout.salt,
        audience=eligible(stage),
        weights=stage.weights,
        share_ppm=stage.share_ppm,
        previous_threshold=previous_threshold(rollout, stage),
        now=stage.drawn_at,
    )
    # 2**64 says "everybody"; a share below that never does.
    stage.threshold = min(int(receipt.threshold), FULL_THRESHOLD - 1)
    stage.population = receipt.population
    stage.drawn = receipt.n
    stage.strata = receipt.strata


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
