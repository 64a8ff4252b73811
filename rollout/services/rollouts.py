"""A rollout's journey. Every step moves state with the old state in the WHERE.

    draft -> awaiting approval -> running <-> paused -> completed
                                     └────────┴────────────┴──> rolled back

Two workers cannot both take a step: the second finds nothing to move and says so. Steps that show
the product to more people may need two of them; steps that show it to fewer never wait.
"""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from huidu.errors import StateError
from rollout.models import Flag, Rollout, Stage
from rollout.services import audit, compliance, places, stage_draws, waivers
from rollout.services.audit import ENGINE, Actor
from rollout.services.changing import (
    ApprovalNeededError,
    changing,
    require_second_person,
)
from rollout.services.steps import Status, move, step, target_of

_SLOT_LOCK = 0x4855_4944_0002


def create(
    flag: Flag, *, by: Actor, name: str = "", sticky: bool = True, reason: str = ""
) -> Rollout:
    """Make a draft with a slot and a salt of its own; stages are added by `stages.save_stage`."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SLOT_LOCK])
        last = Rollout.objects.aggregate(last=Max("slot"))["last"]
        row = Rollout(
            flag=flag,
            name=name,
            slot=1 if last is None else last + 1,
            sticky=sticky,
            created_by=by.person,
        )
        with changing(
            row,
            "rollout.created",
            environment=flag.environment,
            target=target_of(row),
            by=by,
            reason=audit.clean_reason(reason, needed=False),
            flag=flag,
        ):
            pass
    return row


def submit(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Ask another person to approve the draft. From here on its stages do not change.

    Raises:
        StateError: not a draft, without stages, or a waiver is unsigned.
    """
    if not rollout.stages.exists():
        raise StateError(f"rollout {rollout} has no stages yet: add one before asking for approval")
    waivers.require_signed(rollout)
    with step(rollout, "submitted", by, reason, publishes=False):
        move(
            rollout,
            [Status.DRAFT],
            Status.AWAITING_APPROVAL,
            submitted_by=by.person,
            approved_by="",
            approved_at=None,
        )
    return rollout


def approve(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Approve what another person submitted; the rollout may then be started.

    Raises:
        StateError: not awaiting approval.
        ApprovalNeededError: the same person submitted it.
    """
    rollout.refresh_from_db()
    if by.person == rollout.submitted_by:
        raise ApprovalNeededError(
            f"rollout {rollout} was submitted by {by.person}: somebody else must approve it"
        )
    with step(rollout, "approved", by, reason, publishes=False):
        move(
            rollout,
            [Status.AWAITING_APPROVAL],
            Status.AWAITING_APPROVAL,
            where={"approved_by": "", "submitted_by": rollout.submitted_by},
            approved_by=by.person,
            approved_at=timezone.now(),
        )
    return rollout


def reject(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Send it back to the drawing board.

    Raises:
        StateError: not awaiting approval.
    """
    with step(rollout, "rejected", by, reason, publishes=False):
        move(
            rollout,
            [Status.AWAITING_APPROVAL],
            Status.DRAFT,
            submitted_by="",
            approved_by="",
            approved_at=None,
        )
    return rollout


def start(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Enter the first stage: draw it, publish it; from many users, once a worker has drawn it.

    Raises:
        StateError: another rollout of the flag is in effect, something is unsigned,
            or the state does not allow it.
        ApprovalNeededError: the flag asks for two people and nobody else has approved.
    """
    flag = rollout.flag
    rollout.refresh_from_db()
    before = (
        [Status.AWAITING_APPROVAL]
        if flag.four_eyes
        else [
            Status.AWAITING_APPROVAL,
            Status.DRAFT,
        ]
    )
    if flag.four_eyes and rollout.status in (Status.DRAFT, Status.AWAITING_APPROVAL):
        approver = rollout.approved_by
        if not approver:
            raise ApprovalNeededError(
                f"rollout {rollout} needs the approval of a second person before it starts"
            )
    compliance.require_signed(flag)
    waivers.require_signed(rollout)
    first = rollout.stages.order_by("order").first()
    if first is None:
        raise StateError(f"rollout {rollout} has no stages yet: add one before starting")
    if other := Rollout.objects.filter(flag=flag, status__in=Rollout.IN_EFFECT).first():
        raise StateError(
            f"rollout {other} of {flag.key} is {other.get_status_display()}: roll it back first, "
            "because a flag has one rollout in effect"
        )
    if stage_draws.awaited(rollout, first, "start", by=by, reason=reason):
        return rollout
    with step(rollout, "started", by, reason):
        move(rollout, before, Status.RUNNING, started_at=timezone.now(), current=first)
        _enter(rollout, first)
    return rollout


def pause(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Stop promotions. Nobody loses what they were shown, and nobody new is drawn.

    A paused rollout is still reviewed: harm that is proven meanwhile rolls it back.

    Raises:
        StateError: not running.
    """
    with step(rollout, "paused", by, reason):
        move(rollout, [Status.RUNNING], Status.PAUSED)
    return rollout


def resume(
    rollout: Rollout, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> Rollout:
    """Go on with a paused rollout.

    Raises:
        StateError: not paused.
        ApprovalNeededError: the flag asks for two people.
    """
    if rollout.flag.four_eyes:
        require_second_person(rollout.flag, by, approved_by, "resuming the rollout")
    compliance.require_signed(rollout.flag)
    with step(rollout, "resumed", by, reason, approved_by):
        move(rollout, [Status.PAUSED], Status.RUNNING)
    return rollout


def promote(
    rollout: Rollout,
    *,
    by: Actor,
    reason: str,
    stage: Stage | None = None,
    approved_by: Actor | None = None,
) -> Rollout:
    """Leave the running stage for the next one; after the last one the rollout is completed.

    From many users the next stage is drawn first: the rollout stays as it is until then.

    Args:
        stage: the stage the caller believes to be running. When another worker has moved on, the
            step is refused, so one piece of evidence promotes once.
    Raises:
        StateError: not running, another stage runs, or compliance items are unsigned.
        ApprovalNeededError: the stage wants a person's approval (engine), or the flag two people.
    """
    rollout.refresh_from_db()
    running = stage or rollout.current
    if running is None or rollout.status != Status.RUNNING or rollout.current_id != running.pk:
        raise StateError(
            f"rollout {rollout} is {rollout.get_status_display()}"
            + (f" in stage {rollout.current.key}" if rollout.current else "")
            + ", so this promotion does not apply"
        )
    _require_promotion_approval(rollout, running, by, approved_by)
    compliance.require_signed(rollout.flag)
    following = rollout.stages.filter(order__gt=running.order).order_by("order").first()
    if following is not None and stage_draws.awaited(
        rollout, following, "promote", by=by, reason=reason, approved_by=approved_by
    ):
        return rollout
    now = timezone.now()
    verb = "promoted" if following else "completed"
    with step(rollout, verb, by, reason, approved_by):
        left = Stage.objects.filter(pk=running.pk, status=Stage.Status.RUNNING).update(
            status=Stage.Status.DONE, left_at=now
        )
        if not left:
            raise StateError(f"stage {running} is no longer running: another worker moved it first")
        if following is None:
            move(rollout, [Status.RUNNING], Status.COMPLETED, {"current": running}, ended_at=now)
        else:
            move(rollout, [Status.RUNNING], Status.RUNNING, {"current": running}, current=following)
            _enter(rollout, following)
    return rollout


def hold(rollout: Rollout, *, by: Actor, reason: str) -> Rollout:
    """Keep the running stage: from now on only a person's approval promotes it.

    Raises:
        StateError: no stage is running.
    """
    rollout.refresh_from_db()
    with step(rollout, "held", by, reason, publishes=False):
        held = Stage.objects.filter(pk=rollout.current_id or 0, status=Stage.Status.RUNNING).update(
            needs_approval=True, approved_by=""
        )
        if not held:
            raise StateError(f"rollout {rollout} has no running stage to hold")
    return rollout


def approve_stage(stage: Stage, *, by: Actor, reason: str) -> Stage:
    """Allow the engine to promote the running stage once its evidence is there.

    Raises:
        StateError: the stage is not running.
    """
    with step(stage.rollout, "stage_approved", by, reason, publishes=False):
        if not Stage.objects.filter(pk=stage.pk, status=Stage.Status.RUNNING).update(
            approved_by=by.person
        ):
            raise StateError(f"stage {stage} is not running, so there is nothing to approve")
    stage.refresh_from_db()
    return stage


def rollback(rollout: Rollout, *, by: Actor, reason: str, stage: Stage | None = None) -> Rollout:
    """Take the product back from everybody this rollout showed it to. Never waits for anybody.

    Args:
        stage: as in `promote`; evidence about another stage moves nothing.
    Raises:
        StateError: nothing is in effect, or another stage runs.
    """
    now = timezone.now()
    in_effect = list(Rollout.IN_EFFECT)
    with step(rollout, "rolled_back", by, reason):
        move(
            rollout,
            in_effect,
            Status.ROLLED_BACK,
            {"current": stage} if stage is not None else None,
            ended_at=now,
            ended_reason=audit.clean_reason(reason),
        )
        places.give_back(rollout, now=now)
        Stage.objects.filter(rollout=rollout, status=Stage.Status.RUNNING).update(
            status=Stage.Status.DONE, left_at=now
        )
    return rollout


def complete(
    rollout: Rollout, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> Rollout:
    """End a journey at its last stage; whoever was shown the product keeps it.

    Raises:
        StateError: not running in its last stage.
    """
    rollout.refresh_from_db()
    if rollout.current is None or rollout.stages.filter(order__gt=rollout.current.order).exists():
        raise StateError(f"rollout {rollout} is not in its last stage: promote it instead")
    return promote(rollout, by=by, reason=reason, stage=rollout.current, approved_by=approved_by)


def _enter(rollout: Rollout, stage: Stage) -> None:
    """Make `stage` the running one, with its threshold decided once and for all."""
    row = Stage.objects.select_for_update(no_key=True).get(pk=stage.pk)
    if row.status != Stage.Status.PENDING:
        raise StateError(f"stage {stage} was entered before: a stage runs once")
    if waivers.is_unsigned(row):
        raise StateError(waivers.sentence(row), code="state.waiver_unsigned", path="waiver")
    row.status, row.entered_at = Stage.Status.RUNNING, timezone.now()
    stage_draws.draw(rollout, row)
    row.save()


def _require_promotion_approval(
    rollout: Rollout, stage: Stage, by: Actor, approved_by: Actor | None
) -> None:
    """The engine needs a person where the stage says so; a person, a second one where the flag
    says so."""
    if by == ENGINE:
        if stage.needs_approval and not stage.approved_by:
            raise ApprovalNeededError(f"stage {stage} waits for a person's approval")
    elif rollout.flag.four_eyes:
        require_second_person(rollout.flag, by, approved_by, "promotion without evidence")
