"""Ticks: each re-reads the truth and does what is left to do; lost or doubled ones are harmless."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from rollout import selectors, tasks_evidence, tasks_messages
from rollout.services import (
    audit,
    drawn_steps,
    population,
    publishing,
    receipts,
    retention,
    store,
    waterfall_days,
)

logger = logging.getLogger(__name__)

SCHEDULE: Final[dict[str, float]] = {
    "rollout.tasks.drain_outbox": 2.0,
    "rollout.tasks.ensure_published": 5.0,
    "rollout.tasks.take_drawn_steps": 2.0,
    "rollout.tasks.verify_audit_chain": 3600.0,
    "rollout.tasks.drain_receipts": 2.0,
    "rollout.tasks.drop_old_receipts": 86_400.0,
    "rollout.tasks.count_waterfalls": 3_600.0,
    "rollout.tasks.build_population": 60.0,
    "rollout.tasks.apply_retention": 60.0,
    **tasks_evidence.SCHEDULE,
    **tasks_messages.SCHEDULE,
}
"""Task name to seconds between ticks; `config.celery` reads it."""

POPULATION_SECONDS: Final = 240.0
"""A build hands the worker back after so long."""


@shared_task(acks_late=True, soft_time_limit=50, time_limit=60)
def drain_outbox() -> int:
    """Publish what a committed change left behind when its own process could not."""
    return publishing.publish_pending()


@shared_task(acks_late=True, soft_time_limit=50, time_limit=60)
def ensure_published() -> int:
    """Bring the last snapshot and the keys back to a store that lost them."""
    healed = 0
    for environment in selectors.environments():
        try:
            healed += publishing.ensure_published(environment)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # one sick environment must not keep the others waiting
            logger.exception("rollout.ensure_published environment=%s", environment)
    return healed


@shared_task(acks_late=True)
def verify_audit_chain() -> bool:
    """Shout when somebody changed the audit log."""
    report = audit.verify_chain()
    if not report.whole:
        logger.critical("rollout.audit_broken entry=%s %s", report.broken_at, report.fault)
    return report.whole


@shared_task(acks_late=True, soft_time_limit=50, time_limit=60)
def drain_receipts() -> dict[str, int]:
    """Take in the receipts of checks."""
    try:
        return dict(receipts.drain())
    except store.RedisError as error:
        logger.warning("rollout.receipts_wait error=%s", error)
        return {}


@shared_task(acks_late=True)
def drop_old_receipts() -> list[str]:
    """Drop months of receipts that need not be kept any longer."""
    return receipts.drop_old(now=timezone.now())


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def take_drawn_steps() -> int:
    """Enter the stages that a worker has drawn."""
    return drawn_steps.take_ready()


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def count_waterfalls() -> int:
    """Count everybody once a day for each flag in effect."""
    return waterfall_days.count_missing(now=timezone.now())


@shared_task(acks_late=True)
def build_population() -> bool:
    """Read everybody into a new population file, if one is due; the next tick goes on."""
    return population.carry_on(POPULATION_SECONDS)


@shared_task(acks_late=True, soft_time_limit=90, time_limit=110)
def apply_retention() -> int:
    """At night, delete held values whose term is over."""
    return retention.carry_on(timezone.now(), seconds=40)
