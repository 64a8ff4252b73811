"""Ticks of evidence and review. Each re-reads the truth; lost, doubled and late ones are harmless.

Imported by `rollout.tasks`, which is where Celery looks.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError
from django.db.models import F, QuerySet
from django.utils import timezone

from rollout.models import Stage
from rollout.services import (
    deciding,
    evidence_reach,
    gauges,
    late,
    review,
    store,
    stream,
    warehouse_cells,
)

logger = logging.getLogger(__name__)

SCHEDULE: Final[dict[str, float]] = {
    "rollout.tasks_evidence.drain_exposures": 2.0,
    "rollout.tasks_evidence.review_running_stages": 60.0,
    "rollout.tasks_evidence.review_fast_stages": 2.0,
    "rollout.tasks_evidence.read_gauges": 60.0,
    "rollout.tasks_evidence.read_warehouse": 300.0,
    "rollout.tasks_evidence.review_left_stages": 3600.0,
}
"""Task name to seconds between ticks."""

TOGETHER: Final = 25
"""Stages that are read and locked together, for a few tenths of a second."""

GAUGE_SECONDS: Final = 60.0
WAREHOUSE_SECONDS: Final = 390.0
"""No source is begun later in a tick: the slowest (`sources.warehouse`, `sources.happenings`) then
still ends before the soft limit, which inside a query DuckDB would tell as the query's own failure.
"""


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
        status=Stage.Status.RUNNING, rollout__status__in=deciding.REVIEWED
    ).order_by(F("entered_at").asc())


def _review(stages: QuerySet[Stage]) -> dict[str, int]:
    """How many stages came to which decision."""
    wanted = review.due(stages, now=timezone.now())
    if not wanted:
        return {}
    decided: Counter[str] = Counter()
    try:
        up_to = evidence_reach.reach()
    except OperationalError as error:
        logger.warning("rollout.review_waits %s", error)
        return {}
    for start in range(0, len(wanted), TOGETHER):
        some = wanted[start : start + TOGETHER]
        try:
            found = review.review_together(some, now=timezone.now(), up_to=up_to)
        except SoftTimeLimitExceeded:
            raise  # the time is over for all of them; what is undone is due at the next tick
        except Exception:  # one sick stage must not keep the others waiting
            logger.warning("rollout.reviewed_one_by_one stages=%s", some, exc_info=True)
            found = list(_one_by_one(some, up_to, decided))
        for each in found:
            _tell(each)
            decided[each.decision.decision] += 1
    return dict(decided)


def _one_by_one(
    stage_ids: Iterable[int], up_to: evidence_reach.Reach, decided: Counter[str]
) -> Iterator[review.Reviewed]:
    for pk in stage_ids:
        try:
            found = review.roll_up_and_review(pk, now=timezone.now(), up_to=up_to)
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            logger.exception("rollout.review_failed stage=%s", pk)
            decided["failed"] += 1
            continue
        if found is not None:
            yield found


def _tell(found: review.Reviewed) -> None:
    if found.acted:
        logger.info(
            "rollout.decided stage=%s decision=%s code=%s",
            found.decision.stage_id,
            found.decision.decision,
            found.decision.code,
        )


@shared_task(acks_late=True, soft_time_limit=100, time_limit=120)
def read_gauges() -> int:
    """Ask external sources for their readings."""
    new, now, until = 0, timezone.now(), time.monotonic() + GAUGE_SECONDS
    for metric in gauges.wanted():
        if time.monotonic() >= until:
            logger.warning("rollout.gauges_cut_short metric=%s", metric.key)
            break
        try:
            new += gauges.read(metric, now=now)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # one sick source must not keep the others waiting
            logger.exception("rollout.gauge_failed metric=%s", metric.key)
            gauges.note(metric, f"metric {metric.key}: {error!r}"[:1_000])
    return new


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def read_warehouse() -> int:
    """Count the cells of metrics that a warehouse tells."""
    written, now, until = 0, timezone.now(), time.monotonic() + WAREHOUSE_SECONDS
    for guard in warehouse_cells.wanted(now):
        if time.monotonic() >= until:
            logger.warning("rollout.warehouse_cut_short guard=%s", guard.pk)
            break
        try:
            written += warehouse_cells.read_anew(guard, now=now)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            logger.exception("rollout.warehouse_failed guard=%s", guard.pk)
            gauges.note(guard.metric, f"metric {guard.metric.key}: {error!r}"[:1_000])
    return written


@shared_task(acks_late=True, soft_time_limit=540, time_limit=600)
def review_left_stages() -> dict[str, int]:
    """Judge late outcomes of stages that were left: they can still roll back."""
    return _review(Stage.objects.filter(late.watched(timezone.now())).order_by("left_at"))
