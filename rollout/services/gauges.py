"""External readings, recorded like any other event: one number, and the moment it was true.

Where they come from is `rollout.services.sources`. A source that does not answer leaves no
reading, and a stage without readings is held; what went wrong stands at the metric.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from rollout.models import Metric, OutcomeEvent, Stage
from rollout.services import exposures, outcomes, sources
from rollout.services.outcomes import Happened
from rollout.services.sources import Sample, SourceError

logger = logging.getLogger(__name__)

GAP: Final = timedelta(minutes=3)
"""A longer silence is filled from a source that remembers."""


def wanted() -> list[Metric]:
    """The gauges that guard a running stage, in the order in which to ask them.

    Those whose source answered come first, so that dead sources wait for each other only; and
    these by chance, so that none of them is the last one at every tick.
    """
    metrics = Metric.objects.filter(
        kind=Metric.Kind.GAUGE, guards__stage__status=Stage.Status.RUNNING
    ).exclude(query="")
    found = list(metrics.distinct())
    random.shuffle(found)
    return sorted(found, key=lambda metric: metric.fault != "")


def read(metric: Metric, *, now: datetime) -> int:
    """Read one gauge; returns how many readings were new. A source that does not answer gives
    none, and what it said instead stands at the metric."""
    try:
        found = [*_gap(metric, now), sources.read(metric, now=now)]
    except SourceError as error:
        logger.warning("rollout.gauge_unread %s", error)
        note(metric, error.message)
        return 0
    note(metric, "")
    return _record(metric, found)


def _gap(metric: Metric, now: datetime) -> list[Sample]:
    """What was missed while nobody asked, no older than a reading may be."""
    last = (
        OutcomeEvent.objects.filter(
            environment=metric.environment,
            metric=metric.key,
            at__gt=now - metric.fresh_limit,
            at__lte=now,
        )
        .order_by("-at")
        .values_list("at", flat=True)
        .first()
    )
    if last is None or now - last < GAP:
        return []
    return sources.missed(metric, since=last, now=now)


def _record(metric: Metric, samples: Sequence[Sample]) -> int:
    readings = [
        Happened(
            f"gauge:{metric.key}:{each.at.timestamp():.3f}",
            "",
            metric.key,
            each.value,
            None,
            each.at,
        )
        for each in samples
    ]
    with transaction.atomic():
        exposures.write_evidence()
        return len(outcomes.record(metric.environment, readings))


def note(metric: Metric, fault: str) -> None:
    """Say at the metric why it has no reading, or that it has one."""
    Metric.objects.filter(pk=metric.pk).exclude(fault=fault).update(fault=fault)
