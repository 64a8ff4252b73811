"""Deciding without acting: looks are decided and recorded, and nobody is promoted or rolled back.

It is how a team learns to trust the engine. It also means that proven harm stops nothing, so
switching it on for users is as grave as promoting by hand.
"""

from __future__ import annotations

from huidu.errors import StateError
from rollout.models import Rollout
from rollout.services.audit import Actor
from rollout.services.changing import needs_second_person, require_second_person
from rollout.services.steps import Status, step

OPEN = (Status.DRAFT, Status.AWAITING_APPROVAL, Status.RUNNING, Status.PAUSED)


def set_dry_run(
    rollout: Rollout, on: bool, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> Rollout:
    """Let a rollout only decide, or let it act again.

    Raises:
        StateError: it has ended, or is so already.
        ApprovalNeededError: the flag is live and asks for two people.
    """
    if needs_second_person(rollout.flag):
        require_second_person(rollout.flag, by, approved_by, "deciding with or without acting")
    verb = "acting_stopped" if on else "acting_resumed"
    with step(rollout, verb, by, reason, approved_by, publishes=False):
        rows = Rollout.objects.filter(pk=rollout.pk, status__in=OPEN, dry_run=not on)
        if not rows.update(dry_run=on):
            raise StateError(
                f"rollout {rollout} has ended, or {'only decides' if on else 'acts'} already"
            )
    return rollout
