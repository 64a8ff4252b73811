"""Readings of guards that live elsewhere: a web address, Prometheus, a warehouse.

    read(metric, now=...) -> Sample      one number and the moment it was true

Whatever is not plainly one fresh, finite number is unknown, and unknown is never zero: the reader
raises `SourceError` with a sentence that names the metric, no reading is written, and the stage
is held. Where a source lives is a setting (`HUIDU_PROMETHEUS_URL`, `HUIDU_WAREHOUSE_URL`); people
who edit metrics write expressions, not addresses.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from rollout.models import Metric
from rollout.services.sources import address, prometheus, warehouse
from rollout.services.sources.sample import FRESH, Sample, SourceError

__all__ = ["Sample", "SourceError", "missed", "read"]

STEP: Final = timedelta(minutes=1)
"""How often gauges are read, and so the step in which a gap is filled."""


def read(metric: Metric, *, now: datetime) -> Sample:
    """The metric's reading now.

    Raises:
        SourceError: it is unknown; the sentence names the metric and says why.
    """
    try:
        if metric.source == Metric.Source.PROMETHEUS:
            return prometheus.instant(metric.query, now=now)
        if metric.source == Metric.Source.SQL:
            most = FRESH if metric.fresh_minutes is None else metric.fresh_limit
            return warehouse.read(metric.query, now=now, most=most)
        return address.read(metric.query, now=now)
    except SourceError as error:
        raise SourceError(f"metric {metric.key}: {error.message}", code=error.code) from error


def missed(metric: Metric, *, since: datetime, now: datetime) -> list[Sample]:
    """Readings of the time nobody asked, where the source remembers; else none.

    Raises:
        SourceError: as `read`.
    """
    if metric.source != Metric.Source.PROMETHEUS or now - since < 2 * STEP:
        return []
    try:
        return prometheus.window(metric.query, start=since + STEP, end=now - STEP, step=STEP)
    except SourceError as error:
        raise SourceError(f"metric {metric.key}: {error.message}", code=error.code) from error
