"""How a rollout takes a step: locked, moved from a known state, checked, logged, published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from huidu.errors import StateError
from rollout.models import Flag, Rollout
from rollout.services import audit, messages, outbox, publishing
from rollout.services.audit import Actor
from rollout.services.changing import grow_version

Status = Rollout.Status

FORWARD: Final = frozenset(
    {"started", "resumed", "promoted", "completed", "stage_widened", "holdback_released"}
)
"""Steps that a kill forbids, also one that comes while they are on their way."""


def target_of(rollout: Rollout) -> str:
    return f"rollout:{rollout.flag.key}#{rollout.slot}"


@contextmanager
def step(
    rollout: Rollout,
    verb: str,
    by: Actor,
    reason: str,
    approved_by: Actor | None = None,
    *,
    publishes: bool = True,
) -> Iterator[None]:
    """One step in one transaction: move, check what would be published, log, leave an outbox row.

    The row is locked first, so the log tells the state the step really found.
    """
    reason = audit.clean_reason(reason)
    flag, target = rollout.flag, target_of(rollout)
    try:
        with transaction.atomic():
            # NO KEY keeps every other step out, and lets in who only refers to the rollout: users
            # who meet it while its next share is drawn.
            rows = Rollout.objects.select_for_update(of=("self",), no_key=True)
            before = _told(rows.get(pk=rollout.pk))
            yield
            rollout.refresh_from_db()
            after = _told(rollout)
            if approved_by is not None:
                after["with"] = approved_by.name
            if publishes:
                # The flag is locked last: a kill never waits for a draw.
                grow_version(flag)
                _refuse_if_killed(flag, verb)
                publishing.check(flag.environment)
            audit.record(
                by,
                f"rollout.{verb}",
                target,
                environment=flag.environment,
                before=before,
                after=after,
                reason=reason,
            )
            messages.tell_step(rollout, verb, by=by, reason=reason, before=before)
            if publishes:
                cause = f"rollout.{verb} {target}"
                outbox.publish_after_commit(flag.environment, cause=cause, by=by)
    except IntegrityError as error:
        # A constraint caught what the WHERE could not see: another rollout of the flag won.
        raise StateError(f"{target} was not {verb}: another step was faster") from error


def _refuse_if_killed(flag: Flag, verb: str) -> None:
    if verb in FORWARD and Flag.objects.filter(pk=flag.pk, killed=True).exists():
        raise StateError(f"flag {flag.key} is killed: resume it first", code="state.killed")


def move(
    rollout: Rollout,
    old: list[Status],
    new: Status,
    where: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """Move the rollout if it still is in one of the old states."""
    rows = Rollout.objects.filter(pk=rollout.pk, status__in=old, **(where or {}))
    if rows.update(status=new, updated_at=timezone.now(), **values):
        return
    now = Rollout.objects.get(pk=rollout.pk)
    raise StateError(
        f"rollout {rollout} is {now.status}"
        + (f" in stage {now.current.key}" if now.current else "")
        + f"; this step needs it to be {' or '.join(each.value for each in old)}"
    )


def _told(rollout: Rollout) -> dict[str, Any]:
    """What the log tells about a rollout."""
    stage = rollout.current
    told: dict[str, Any] = {"status": rollout.status, "stage": stage.key if stage else None}
    if stage is not None:
        told["share_ppm"] = stage.share_ppm
        told["threshold"] = None if stage.threshold is None else int(stage.threshold)
    return told
