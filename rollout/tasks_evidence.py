"""Ticks of evidence and review. Each re-reads the truth; lost, doubled and late ones are harmless.

Imported by `rollout.tasks`, which is where Celery looks.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from celery import shared_task
from django.db import OperationalError
from django.db.models import F, QuerySet
from django.utils import timezone

from rollout.models import Stage
from rollout.services import evidence, gauges, late, review, store, stream

logger = logging.getLogger(__name__)

SCHEDULE: Final[dict[str, float]] = {
    "rollout.tasks_evidence.drain_exposures": 2.0,
    "rollout.tasks_evidence.review_running_stages": 60.0,
    "rollout.tasks_evidence.review_fast_stages": 2.0,
    "rollout.tasks_evidence.read_gauges": 60.0,
    "rollout.tasks_evidence.review_left_stages": 3600.0,
}
"""Task name to seconds between ticks."""


@shared_task(acks_late=True, soft_time_limit=100, time_limit=120)
def drain_exposures() -> dict[str, int]:
    """Bring exposures noted at the check into the database."""
    try:
        return dict(stream.drain())
    except store.RedisError as error:
        logger.warning("rollout.exposures_wait %s", error)
        return {}


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def review_running_stages() -> dict[str, int]:
    """Review every stage whose look is due, each in its own transaction."""
    return _review(_reviewed())


@shared_task(acks_late=True, soft_time_limit=100, time_limit=120)
def review_fast_stages() -> dict[str, int]:
    """The same for demonstrations, whose clocks run too fast for a tick a minute."""
    return _review(_reviewed().filter(rollout__time_scale__gt=1))


def _reviewed() -> QuerySet[Stage]:
    return Stage.objects.filter(
        status=Stage.Status.RUNNING, rollout__status__in=review.REVIEWED
    ).order_by(F("entered_at").asc())


def _review(stages: QuerySet[Stage]) -> dict[str, int]:
    """How many stages came to which decision."""
    wanted = review.due(stages, now=timezone.now())
    if not wanted:
        return {}
    decided: Counter[str] = Counter()
    try:
        up_to = evidence.reach()
    except OperationalError as error:
        logger.warning("rollout.review_waits %s", error)
        return {}
    for pk in wanted:
        try:
            found = review.roll_up_and_review(pk, now=timezone.now(), up_to=up_to)
        except Exception:  # one sick stage must not keep the others waiting
            logger.exception("rollout.review_failed stage=%s", pk)
            decided["failed"] += 1
            continue
        if found is None:
            continue
        decided[found.decision.decision] += 1
        if found.acted:
            logger.info(
                "rollout.decided stage=%s decision=%s code=%s",
                pk,
                found.decision.decision,
                found.decision.code,
            )
    return dict(decided)


@shared_task(acks_late=True, soft_time_limit=100, time_limit=120)
def read_gauges() -> int:
    """Ask external sources for their readings."""
    return gauges.read_all(now=timezone.now())


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def review_left_stages() -> dict[str, int]:
    """Judge late outcomes of stages that were left: they can still roll back."""
    return _review(Stage.objects.filter(late.watched(timezone.now())).order_by("left_at"))
