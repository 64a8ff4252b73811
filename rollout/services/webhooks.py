"""Webhooks: made with a secret that is shown once, changed, tried out, removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from huidu.errors import InputError
from rollout.models import Delivery, Webhook
from rollout.services import audit, deliveries, messages, outbound, signing
from rollout.services.audit import Actor
from rollout.services.changing import changing, only

EDITABLE: Final = frozenset({"name", "url", "events", "enabled"})


def create(
    environment: str, values: Mapping[str, Any], *, by: Actor, reason: str = ""
) -> tuple[Webhook, str]:
    """Make a webhook; the second value is its signing secret, which is never shown again.

    Raises:
        InputError: a value is wrong, or the name is taken.
    """
    secret = signing.new_secret()
    row = Webhook(environment=environment, secret=secret)
    return _save(row, "webhook.created", values, by, reason), secret


def update(row: Webhook, values: Mapping[str, Any], *, by: Actor, reason: str = "") -> Webhook:
    """Change a webhook. Switched on again it begins without failures.

    Raises:
        InputError: as `create`.
    """
    return _save(row, "webhook.updated", values, by, reason)


def _save(row: Webhook, action: str, values: Mapping[str, Any], by: Actor, reason: str) -> Webhook:
    only(values, EDITABLE)
    if "url" in values:
        outbound.check(str(values["url"]))
    events = values.get("events", [])
    if not isinstance(events, list | tuple):
        raise InputError(f"expected a list of events, got {type(events).__name__}", path="events")
    for each in events:
        if each not in messages.EVENTS:
            raise InputError(
                f"expected events among {', '.join(messages.EVENTS)}, got {str(each)[:60]!r}",
                path="events",
            )
    with changing(
        row,
        action,
        environment=row.environment,
        target=f"webhook:{row.environment}/{values.get('name', row.name)}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        publishes=False,
    ) as fresh:
        if values.get("enabled") and not fresh.enabled:
            fresh.failures, fresh.failing_since, fresh.last_error = 0, None, ""
        for name, value in values.items():
            setattr(fresh, name, value)
    return fresh


def remove(row: Webhook, *, by: Actor, reason: str) -> None:
    """Delete a webhook with its deliveries; what is on its way is not sent."""
    reason = audit.clean_reason(reason)
    with transaction.atomic():
        audit.record(
            by,
            "webhook.removed",
            f"webhook:{row.environment}/{row.name}",
            environment=row.environment,
            before=audit.state_of(row),
            reason=reason,
        )
        row.delete()


def try_out(row: Webhook, *, by: Actor) -> Delivery:
    """Send a test message right now; the delivery says what came of it. It is not tried again."""
    now = timezone.now()
    body = messages.envelope(
        messages.TEST,
        row.environment,
        f"webhook:{row.name}",
        {"by": by.name, "reason": "a test", "link": messages.link("rollout_webhook", row.pk)},
    )
    made = Delivery.objects.create(message=body["id"], event=messages.TEST, webhook=row, body=body)
    deliveries.attempt(made, now=now)
    Delivery.objects.filter(pk=made.pk).update(next_at=None)
    made.refresh_from_db()
    return made
