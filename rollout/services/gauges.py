"""External readings, recorded like any other event: one number, and the moment it was true.

Where they come from is `rollout.services.sources`. A source that does not answer leaves no
reading, and a stage without readings is held; what went wrong stands at the metric.
"""

from __future__ import annotations

import logging
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


def read_all(*, now: datetime) -> int:
    """Read every gauge that guards a running stage; returns how many readings were new."""
    metrics = Metric.objects.filter(
        kind=Metric.Kind.GAUGE, guards__stage__status=Stage.Status.RUNNING
    ).exclude(query="")
    return sum(_read(metric, now) for metric in metrics.distinct())


def _read(metric: Metric, now: datetime) -> int:
    try:
        found = [*_gap(metric, now), sources.read(metric, now=now)]
    except SourceError as error:
        logger.warning("rollout.gauge_unread %s", error)
        _note(metric, error.message)
        return 0
    except Exception as error:  # one sick source must not keep the others waiting
        logger.exception("rollout.gauge_failed metric=%s", metric.key)
        _note(metric, f"metric {metric.key}: {error!r}"[:1_000])
        return 0
    _note(metric, "")
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


def _note(metric: Metric, fault: str) -> None:
    if metric.fault != fault:
        Metric.objects.filter(pk=metric.pk).update(fault=fault)
