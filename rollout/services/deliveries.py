"""Messages on their way: claimed, sent, tried again, given up; each receiver by itself.

A delivery is claimed by moving its next attempt ahead, so two workers never send it at once, and a
worker that dies leaves it to be sent again: at least once, always with the same id.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime, timedelta
from typing import Final

import httpx
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from huidu.errors import HuiduError
from rollout.models import Delivery, Webhook
from rollout.services import audit, messages, outbound, signing
from rollout.services.audit import ENGINE

logger = logging.getLogger(__name__)

DEADLINE_SECONDS: Final = 10.0
LEASE: Final = timedelta(minutes=2)
"""How long a claimed delivery is left alone; longer than any attempt takes."""

PAUSES: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 36_000, 50_400, 72_000)
)
"""Time to the next attempt after the first, second, ... failure; afterwards it is given up."""

DISABLED_AFTER: Final = timedelta(days=3)
"""A webhook that has answered nothing for so long is switched off, and that is on record."""

KEPT_FOR: Final = timedelta(days=30)
GONE: Final = 410
"""The receiver's own word for "never again"."""


def deliver_due(*, now: datetime, budget: float = 40.0) -> dict[str, int]:
    """Send what is due, until nothing is or the budget (seconds) is spent.

    A webhook that fails once is left alone for the rest of the call, so a receiver that hangs
    costs the others one deadline.
    """
    messages.fan_out(now=now)
    sick: set[int] = set()
    done = {"delivered": 0, "failed": 0}
    began = time.monotonic()
    while time.monotonic() - began < budget:
        row = _claim(now, sick)
        if row is None:
            break
        if attempt(row, now=timezone.now()):
            done["delivered"] += 1
        else:
            done["failed"] += 1
            sick.update([row.webhook_id] if row.webhook_id is not None else [])
    return done


def _claim(now: datetime, sick: set[int]) -> Delivery | None:
    with transaction.atomic():
        row = (
            Delivery.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(next_at__lte=now)
            .exclude(webhook__in=sick)
            .order_by("next_at", "pk")
            .first()
        )
        if row is not None:
            row.next_at = max(now, timezone.now()) + LEASE
            row.save(update_fields=["next_at"])
    return row


def attempt(row: Delivery, *, now: datetime) -> bool:
    """Send one delivery once and note what came of it."""
    hook = row.webhook
    if hook is not None and not hook.enabled:
        Delivery.objects.filter(pk=row.pk).update(next_at=None, error="the webhook is switched off")
        return False
    status: int | None = None
    try:
        if hook is None:
            _mail(row)
            fault = ""
        else:
            status = _post(hook, row, now)
            fault = "" if 200 <= status < 300 else f"the receiver answered {status}"
    except (HuiduError, httpx.HTTPError) as error:
        fault = str(error) or repr(error)
    except Exception as error:  # mail servers fail in many ways, and one must not stop the others
        logger.exception("rollout.delivery_failed delivery=%s", row.pk)
        fault = repr(error)
    _note(row, hook, status, fault[:500], now)
    return not fault


def _post(hook: Webhook, row: Delivery, now: datetime) -> int:
    body = json.dumps(row.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "Huidu-Webhooks/1.0",
        **signing.headers(hook.secret, row.message, body, now),
    }
    status, _answer = outbound.send(
        "POST", hook.url, content=body, headers=headers, deadline=DEADLINE_SECONDS
    )
    return status


def _mail(row: Delivery) -> None:
    data = row.body["data"]
    evidence = data.get("evidence") or {}
    lines = [
        f"{row.event}: {data.get('flag', '')} ({data.get('environment', '')})",
        f"stage: {data['stage']}" if data.get("stage") else "",
        f"by: {data['by']}" if data.get("by") else "",
        f"why: {data['reason']}" if data.get("reason") else "",
        f"evidence: {evidence['text']}" if evidence.get("text") else "",
        data.get("link", ""),
    ]
    subject = f"[Huidu] {row.event} {data.get('flag', '')}".strip()
    EmailMessage(
        subject,
        "\n".join(line for line in lines if line) + "\n",
        to=[row.address],
        headers={"Message-ID": f"<{row.message}@huidu>"},
    ).send()


def _note(
    row: Delivery, hook: Webhook | None, status: int | None, fault: str, now: datetime
) -> None:
    attempts = row.attempts + 1
    pause = PAUSES[attempts - 1] if fault and attempts <= len(PAUSES) else None
    Delivery.objects.filter(pk=row.pk).update(
        attempts=attempts,
        status=status,
        error=fault,
        delivered_at=None if fault else now,
        next_at=None if pause is None or status == GONE else now + pause,
    )
    if hook is None:
        return
    rows = Webhook.objects.filter(pk=hook.pk)
    if not fault:
        rows.update(failures=0, failing_since=None, last_ok=now, last_error="")
        return
    logger.warning("rollout.webhook_failed webhook=%s attempt=%s %s", hook.name, attempts, fault)
    rows.filter(failing_since__isnull=True).update(failing_since=now)
    rows.update(failures=F("failures") + 1, last_error=fault)
    hook.refresh_from_db()
    since = hook.failing_since or now
    if status == GONE or now - since >= DISABLED_AFTER:
        _disable(
            hook, fault if status == GONE else f"failing since {since:%Y-%m-%d %H:%M}: {fault}"
        )


def _disable(hook: Webhook, why: str) -> None:
    """Switch a dead webhook off, on record: nobody should find out by its silence."""
    with transaction.atomic():
        if not Webhook.objects.filter(pk=hook.pk, enabled=True).update(enabled=False):
            return
        Delivery.objects.filter(webhook=hook, next_at__isnull=False).update(next_at=None)
        audit.record(
            ENGINE,
            "webhook.disabled",
            f"webhook:{hook.environment}/{hook.name}",
            environment=hook.environment,
            before={"enabled": True},
            after={"enabled": False},
            reason=why[:2_000],
        )
    logger.error("rollout.webhook_disabled webhook=%s %s", hook.name, why)


def forget_old(*, now: datetime) -> int:
    """Drop deliveries that ended long ago."""
    return Delivery.objects.filter(next_at__isnull=True, created_at__lt=now - KEPT_FOR).delete()[0]
