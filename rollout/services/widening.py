"""Growing the share of a stage that users have met already: by hand, by its ramp, or to the end.

Thresholds never fall and weights stay frozen, so whoever was drawn stays drawn. Each new share
opens a new epoch: evidence is compared within epochs and added up over them, and the error budget
goes on.
"""

from __future__ import annotations

from huidu.errors import StateError
from huidu.model import PPM
from rollout.models import Rollout, Stage
from rollout.services import compliance, stage_draws
from rollout.services.audit import ENGINE, Actor
from rollout.services.changing import require_second_person
from rollout.services.steps import Status, move, step


def widen(
    stage: Stage,
    share_ppm: int,
    *,
    by: Actor,
    reason: str,
    approved_by: Actor | None = None,
    seen_ppm: int | None = None,
) -> Stage:
    """Draw a running stage again with a larger share; a new epoch of its evidence begins.

    The engine may take the steps of a ramp, which was approved with the stage; anything else needs
    whom the flag asks for. From many users the share is drawn by a worker first, and stays as it is
    until then.

    Args:
        seen_ppm: the share the caller believes to be in force; another one is refused.
    Raises:
        StateError: not running, or not a larger share.
        ApprovalNeededError: the flag asks for two people.
    """
    rollout = stage.rollout
    if rollout.flag.four_eyes and by != ENGINE:
        require_second_person(rollout.flag, by, approved_by, "widening")
    _require_wider(stage, rollout, share_ppm, by, seen_ppm)
    if stage_draws.awaited(
        rollout,
        stage,
        "widen",
        by=by,
        reason=reason,
        approved_by=approved_by,
        share_ppm=share_ppm,
    ):
        return stage
    with step(rollout, "stage_widened", by, reason, approved_by):
        # NO KEY: users who meet the stage meanwhile are written down and do not wait for the draw.
        row = Stage.objects.select_for_update(no_key=True).get(pk=stage.pk)
        _require_wider(row, rollout, share_ppm, by, seen_ppm)
        _redraw(rollout, row, share_ppm)
    stage.refresh_from_db()
    return stage


def _redraw(rollout: Rollout, row: Stage, share_ppm: int) -> None:
    """Draw the locked row with its new share.

    Where users admitted since fill the new share already, the threshold stays: nobody is treated
    who was not, so it is no new period of evidence, and nobody may be counted in it again.
    """
    before = row.threshold
    row.share_ppm = share_ppm
    stage_draws.draw(rollout, row)
    if row.threshold != before:
        row.epoch += 1
    row.save()


def _require_wider(
    stage: Stage, rollout: Rollout, share_ppm: int, by: Actor, seen_ppm: int | None
) -> None:
    if by == ENGINE and share_ppm not in [each["share_ppm"] for each in stage.ramp]:
        raise StateError(f"{share_ppm:,} ppm is no step of the ramp of stage {stage}")
    if seen_ppm not in (None, stage.share_ppm):
        raise StateError(f"stage {stage} reaches {stage.share_ppm:,} ppm by now")
    if stage.status != Stage.Status.RUNNING or rollout.status != Status.RUNNING:
        raise StateError(f"stage {stage} is not running, so it cannot be widened")
    if not stage.share_ppm < share_ppm <= PPM:
        raise StateError(
            f"expected a share above {stage.share_ppm:,} ppm and at most {PPM:,}, "
            f"got {share_ppm:,}: a running stage never shrinks"
        )


def release_holdback(
    rollout: Rollout, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> Rollout:
    """Show the product to those a full release held back. Evidence ends: nobody is left to compare.

    Raises:
        StateError: the current stage keeps no holdback, or the rollout is neither running, paused
            nor completed.
        ApprovalNeededError: the flag asks for two people.
    """
    if rollout.flag.four_eyes:
        require_second_person(rollout.flag, by, approved_by, "releasing the holdback")
    compliance.require_signed(rollout.flag)
    with step(rollout, "holdback_released", by, reason, approved_by):
        rollout.refresh_from_db()
        rows = Stage.objects.select_for_update(no_key=True)
        row = rows.filter(pk=rollout.current_id or 0).first()
        if row is None or not row.holdback or row.share_ppm == PPM:
            raise StateError(f"rollout {rollout} holds nobody back, so there is nothing to release")
        move(
            rollout,
            [Status.RUNNING, Status.PAUSED, Status.COMPLETED],
            Status(rollout.status),
            {"current": row},
        )
        row.holdback = False
        _redraw(rollout, row, PPM)
    return rollout
