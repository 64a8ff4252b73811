"""Ticks that tell people; lost, doubled and late ones are harmless."""

from __future__ import annotations

from typing import Final

from celery import shared_task
from django.utils import timezone

from rollout.services import cases, deliveries

SCHEDULE: Final[dict[str, float]] = {
    "rollout.tasks_messages.deliver": 5.0,
    "rollout.tasks_messages.forget_deliveries": 86_400.0,
    "rollout.tasks_messages.tell_overdue_cases": 300.0,
}
"""Task name to seconds between ticks."""


@shared_task(acks_late=True, soft_time_limit=80, time_limit=90)
def deliver() -> dict[str, int]:
    """Send what is due to webhooks and e-mail addresses."""
    return deliveries.deliver_due(now=timezone.now())


@shared_task(acks_late=True)
def forget_deliveries() -> int:
    """Drop deliveries that ended long ago."""
    return deliveries.forget_old(now=timezone.now())


@shared_task(acks_late=True)
def tell_overdue_cases() -> int:
    """Tell of review cases whose due date has passed."""
    return cases.tell_overdue(now=timezone.now())
