"""Ticks: each looks at the rows again and does what is left; lost or doubled ones are harmless."""

from __future__ import annotations

import logging
from typing import Final

import redis
from celery import shared_task
from django.utils import timezone

from cohorts.services import draw_jobs, list_uploads, list_versions, member_moves, packing, rebuild

logger = logging.getLogger("huidu.cohorts")

SCHEDULE: Final[dict[str, float]] = {
    "cohorts.tasks.drain_profiles": 1.0,
    "cohorts.tasks.heal_profiles": 2.0,
    "cohorts.tasks.carry_on_lists": 2.0,
    "cohorts.tasks.compare_lists": 2.0,
    "cohorts.tasks.tidy_lists": 600.0,
    "cohorts.tasks.expire_invitations": 60.0,
    "cohorts.tasks.carry_on_draws": 2.0,
}
"""Task name to seconds between ticks; `config.celery` reads it."""

HEAL_SECONDS: Final = 240.0
"""A rebuild hands the worker back after so long; the next tick goes on."""


@shared_task(acks_late=True, soft_time_limit=50, time_limit=60)
def drain_profiles() -> int:
    """Pack the users whose rows changed and whose request could not pack them itself."""
    try:
        return packing.drain_dirty(seconds=20)
    except redis.RedisError as error:
        logger.warning("cohorts.drain_postponed error=%s", error)
        return 0


@shared_task(acks_late=True)
def heal_profiles() -> int:
    """Pack everybody anew when Redis lost its records, restarted, or its hashes are too full."""
    try:
        return rebuild.heal_profiles(timezone.now(), seconds=HEAL_SECONDS)
    except redis.RedisError as error:
        logger.warning("cohorts.heal_postponed error=%s", error)
        return 0


@shared_task(acks_late=True, soft_time_limit=50, time_limit=60)
def carry_on_lists() -> int:
    """Apply and revert versions of lists that were begun, piece by piece."""
    return list_versions.carry_on(seconds=20)


@shared_task(acks_late=True, soft_time_limit=3500, time_limit=3600)
def compare_lists() -> int:
    """Read and compare the long files that were uploaded."""
    return list_uploads.compare_waiting()


@shared_task(acks_late=True, soft_time_limit=240, time_limit=300)
def tidy_lists() -> int:
    """Discard comparisons that nobody applied, and what ended ones left behind."""
    return list_versions.discard_old(timezone.now()) + list_uploads.drop_leftovers()


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def expire_invitations() -> int:
    """Take users off lists whose invitation has lasted long enough."""
    return member_moves.expire(timezone.now())


@shared_task(acks_late=True, soft_time_limit=90, time_limit=110)
def carry_on_draws() -> int:
    """Judge users for draws from millions, and write down who was drawn."""
    return draw_jobs.carry_on(seconds=30)
