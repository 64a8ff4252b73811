"""Four eyes: one person asks for a change, another decides, and approving applies it.

    do_or_request(kind, target, payload, by=..., reason=...)

tries the change; where a second person is needed it files a request instead. What a request may
hold is listed in `KINDS`; its payload is the JSON that the management API was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from huidu.errors import InputError, StateError
from rollout.models import AuditEntry, ChangeRequest
from rollout.services import audit, case_outcomes, pseudonyms
from rollout.services.audit import Actor
from rollout.services.change_kinds import KINDS
from rollout.services.changing import ApprovalNeededError

Status = ChangeRequest.Status


def do_or_request(
    kind: str, target: int, payload: Mapping[str, Any], *, environment: str, by: Actor, reason: str
) -> ChangeRequest | None:
    """Do it now, or file a request when a second person is needed.

    Returns:
        The request that waits, or None when the change was done.
    Raises:
        InputError, StateError, RuleError, SnapshotError: as the change itself.
    """
    try:
        KINDS[kind](target, dict(payload), by, reason, None)
    except ApprovalNeededError:
        return request(kind, target, payload, environment=environment, by=by, reason=reason)
    return None


def request(
    kind: str, target: int, payload: Mapping[str, Any], *, environment: str, by: Actor, reason: str
) -> ChangeRequest:
    """File a request for another person to decide.

    Raises:
        InputError: no such kind, or no reason.
        StateError: one for the same target is waiting.
    """
    if kind not in KINDS:
        raise InputError(f"expected one of {', '.join(KINDS)}, got {kind[:60]!r}", path="kind")
    reason = audit.clean_reason(reason)
    try:
        with transaction.atomic():
            row = ChangeRequest.objects.create(
                kind=kind,
                environment=environment,
                target=str(target) if target else _new_target(payload),
                payload=dict(payload),
                reason=reason,
                requested_by=by.person,
            )
            _log(row, "change.requested", by, reason, after={"change": dict(payload)})
    except IntegrityError as error:
        waits = f"another {kind} of the same target is waiting: decide or withdraw it first"
        raise StateError(waits) from error
    return row


def approve(change: ChangeRequest, *, by: Actor, note: str = "") -> ChangeRequest:
    """Apply what another person asked for, in one transaction with the decision.

    Raises:
        ApprovalNeededError: asked for by the same person.
        StateError: decided before, or the change no longer applies.
    """
    if by.person == change.requested_by:
        raise ApprovalNeededError(
            f"change {change.pk} was requested by {by.person}: somebody else must decide it"
        )
    requester = Actor(name=change.requested_by, person=change.requested_by)
    with transaction.atomic():
        _decide(change, Status.APPLIED, by, note)
        target = int(change.target) if change.target.isdigit() else 0
        with audit.approved_by(by):
            KINDS[change.kind](target, change.payload, requester, change.reason, by)
        _log(change, "change.approved", by, note, after={"status": Status.APPLIED.value})
    change.refresh_from_db()
    return change


def values_before(change: ChangeRequest) -> dict[str, Any]:
    """What an applied change found, field by field, as the audit log tells it."""
    name = f"change:{change.pk} {change.kind} {change.target}"
    done = AuditEntry.objects.filter(target=name, action="change.approved").first()
    if done is None or change.decided_at is None:
        return {}
    found: dict[str, Any] = {}
    # Applied in the transaction of the decision: its entries stand right before `done`.
    entries = AuditEntry.objects.filter(at__gte=change.decided_at, sequence__lt=done.sequence)
    for entry in entries.order_by("sequence"):
        for field, value in (entry.before or {}).items():
            found.setdefault(field, value)
    return found


def reject(change: ChangeRequest, *, by: Actor, note: str) -> ChangeRequest:
    """Refuse what another person asked for.

    Raises:
        ApprovalNeededError: asked for by the same person (who may withdraw it).
        StateError: decided before.
    """
    note = audit.clean_reason(note)
    if by.person == change.requested_by:
        raise ApprovalNeededError(
            f"change {change.pk} was requested by {by.person}: withdraw it instead"
        )
    with transaction.atomic():
        _decide(change, Status.REJECTED, by, note)
        _log(change, "change.rejected", by, note, after={"status": Status.REJECTED.value})
        change.refresh_from_db()
        case_outcomes.return_to_review(change, by=by)
    return change


def withdraw(change: ChangeRequest, *, by: Actor) -> ChangeRequest:
    """Take one's own request back.

    Raises:
        StateError: decided before, or somebody else's.
    """
    if by.person != change.requested_by:
        raise StateError(f"change {change.pk} belongs to {change.requested_by}: reject it instead")
    with transaction.atomic():
        _decide(change, Status.WITHDRAWN, by, "")
        _log(change, "change.withdrawn", by, "", after={"status": Status.WITHDRAWN.value})
        change.refresh_from_db()
        case_outcomes.return_to_review(change, by=by)
    return change


def _decide(change: ChangeRequest, status: Status, by: Actor, note: str) -> None:
    decided = ChangeRequest.objects.filter(pk=change.pk, status=Status.PENDING).update(
        status=status,
        decided_by=by.person,
        decided_at=timezone.now(),
        decision_note=audit.clean_reason(note, needed=False),
    )
    if not decided:
        raise StateError(f"change {change.pk} is decided already")


def _log(
    change: ChangeRequest, action: str, by: Actor, reason: str, *, after: dict[str, Any]
) -> None:
    audit.record(
        by,
        action,
        f"change:{change.pk} {change.kind} {change.target}",
        environment=change.environment,
        after=after,
        reason=pseudonyms.hidden_reason(reason, change.payload),
    )


def _new_target(payload: Mapping[str, Any]) -> str:
    """What a request for a new row is about: its parent and key, as far as they are told."""
    parts = [payload.get(name) for name in ("flag", "rollout", "stage", "key", "metric", "code")]
    return f"new {'/'.join(str(part) for part in parts if part is not None)}"[:200]
