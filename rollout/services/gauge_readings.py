"""The latest external reading of a gauge, as far as it still speaks for now."""

from __future__ import annotations

from datetime import datetime

from rollout.models import Metric, OutcomeEvent


def gauge_reading(environment: str, metric: Metric, now: datetime) -> float | None:
    """The latest external reading, unless it is too old to speak for now."""
    rows = OutcomeEvent.objects.filter(
        environment=environment, metric=metric.key, at__gt=now - metric.fresh_limit, at__lte=now
    )
    return rows.order_by("-at", "-pk").values_list("value", flat=True).first()
