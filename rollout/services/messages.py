"""What people and their tools are told: promotions, rollbacks, kills, overdue stages.

    a change's transaction -> outbox row -> one `Delivery` per receiver -> `deliveries.deliver_due`

The outbox row is written with the change, so nothing that was rolled back is told and nothing that
happened is kept quiet. Its message id never changes, so a receiver that is told twice can tell.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from rollout.models import Case, Decision, Delivery, Flag, Outbox, Rollout, Stage, Webhook
from rollout.services.audit import Actor

logger = logging.getLogger(__name__)

PROMOTED: Final = "rollout.stage_promoted"
ROLLED_BACK: Final = "rollout.rolled_back"
KILLED: Final = "flag.killed"
OVERDUE: Final = "rollout.held_over_horizon"
CASE_OPENED: Final = "case.opened"
CASE_OVERDUE: Final = "case.overdue"
CASE_DECIDED: Final = "case.decided"
TEST: Final = "huidu.test"
EVENTS: Final = (
    PROMOTED,
    ROLLED_BACK,
    KILLED,
    OVERDUE,
    CASE_OPENED,
    CASE_OVERDUE,
    CASE_DECIDED,
)
"""What a webhook may subscribe to; a test is sent whatever it subscribes to."""

OF_STEP: Final = {"promoted": PROMOTED, "completed": PROMOTED, "rolled_back": ROLLED_BACK}
"""Which steps of a rollout are told, and as what."""

MOST_READINGS: Final = 20


def tell_step(rollout: Rollout, verb: str, *, by: Actor, reason: str, before: Any) -> None:
    """Tell a step of a rollout, if it is one people are told of; inside its transaction."""
    event = OF_STEP.get(verb)
    if event is None:
        return
    flag = rollout.flag
    latest = Decision.objects.filter(stage__rollout=rollout).order_by("-at", "-pk")
    decision = latest.select_related("stage").first()
    stage = rollout.current
    told = {
        "rollout": rollout.slot,
        "status": rollout.status,
        "from_stage": before.get("stage"),
        "stage": stage.key if stage else None,
        "share_ppm": stage.share_ppm if stage else None,
        "by": by.name,
        "reason": reason,
        "evidence": evidence_of(decision),
        "link": link("rollout_rollout", rollout.pk),
    }
    _tell(flag, event, told, by)


def tell_killed(flag: Flag, *, by: Actor, reason: str) -> None:
    """Tell a kill. Nothing that goes wrong here may keep the kill from happening."""
    told = {"by": by.name, "reason": reason, "link": link("rollout_flag", flag.pk)}
    try:
        with transaction.atomic():
            _tell(flag, KILLED, told, by)
    except DatabaseError:
        logger.exception("rollout.kill_not_told flag=%s", flag.key)


def tell_overdue(stage: Stage, decision: Decision, *, by: Actor) -> None:
    """Tell that a stage's horizon is over without a proof: only a person can go on."""
    told = {
        "rollout": stage.rollout.slot,
        "stage": stage.key,
        "share_ppm": stage.share_ppm,
        "reason": decision.text,
        "evidence": evidence_of(decision),
        "link": link("rollout_decision", decision.pk),
    }
    _tell(stage.rollout.flag, OVERDUE, told, by)


def tell_case(case: Case, event: str, *, by: Actor) -> None:
    """Tell what became of a review case: its number and dates, nothing about the person."""
    told = {
        "case": case.pk,
        "status": case.status,
        "outcome": case.outcome,
        "due_at": case.due_at.isoformat(timespec="seconds"),
        "assignee": case.assignee,
        "by": by.name,
        "link": link("rollout_case", case.pk),
    }
    _tell(case.flag, event, told, by)


def _tell(flag: Flag, event: str, told: Mapping[str, Any], by: Actor) -> None:
    listening = Webhook.objects.filter(environment=flag.environment, enabled=True)
    addresses = Flag.objects.filter(pk=flag.pk).values_list("notify", flat=True).first() or []
    if not addresses and not listening.exists():
        return
    body = envelope(event, flag.environment, f"flag:{flag.key}", {"flag": flag.key, **told})
    Outbox.objects.create(
        kind=Outbox.Kind.WEBHOOK,
        environment=flag.environment,
        cause=event,
        by=by.name,
        payload={"body": body, "addresses": list(addresses)},
    )


def envelope(event: str, environment: str, subject: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The message as it is sent: CloudEvents 1.0 in JSON, with an id of its own."""
    return {
        "specversion": "1.0",
        "id": f"msg_{uuid.uuid4().hex}",
        "source": f"{settings.HUIDU_PUBLIC_URL}/{environment}",
        "type": event,
        "time": timezone.now().isoformat(timespec="milliseconds"),
        "subject": subject,
        "datacontenttype": "application/json",
        "data": {"environment": environment, **data},
    }


def evidence_of(decision: Decision | None) -> dict[str, Any] | None:
    """What a decision rests on, short enough for a message; the link leads to the rest."""
    if decision is None:
        return None
    kept = ("metric", "estimate", "low", "high", "e_value", "z", "bound")
    readings = (decision.outcome or {}).get("readings") or []
    return {
        "decision": decision.pk,
        "verdict": decision.decision,
        "code": decision.code,
        "text": decision.text,
        "at": decision.at.isoformat(timespec="seconds"),
        "stage": decision.stage.key,
        "look": decision.look,
        "readings": [{name: each.get(name) for name in kept} for each in readings[:MOST_READINGS]],
        "link": link("rollout_decision", decision.pk),
    }


def link(model: str, pk: int) -> str:
    """The page of a row in the admin, as people open it."""
    return f"{settings.HUIDU_PUBLIC_URL}/admin/{model.replace('_', '/', 1)}/{pk}/change/"


def fan_out(*, now: datetime) -> int:
    """Make the deliveries of what waits in the outbox; returns how many.

    Webhooks are matched here and not in the change, which so stays short.
    """
    made = 0
    with transaction.atomic():
        waiting = Outbox.objects.select_for_update(skip_locked=True).filter(
            kind=Outbox.Kind.WEBHOOK, done_at__isnull=True
        )
        for row in waiting.order_by("pk")[:200]:
            made += len(_deliveries(row, now))
            row.done_at = now
            row.save(update_fields=["done_at"])
    return made


def _deliveries(row: Outbox, now: datetime) -> list[Delivery]:
    body = row.payload["body"]
    shared: dict[str, Any] = {
        "message": body["id"],
        "event": body["type"],
        "body": body,
        "next_at": now,
    }
    hooks = [
        each
        for each in Webhook.objects.filter(environment=row.environment, enabled=True)
        if not each.events or body["type"] in each.events
    ]
    return Delivery.objects.bulk_create(
        [
            *(Delivery(webhook=each, **shared) for each in hooks),
            *(Delivery(address=each, **shared) for each in row.payload.get("addresses", [])),
        ],
        ignore_conflicts=True,
    )
