"""The latest external reading of a gauge, as far as it still speaks for now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from rollout.models import Metric, OutcomeEvent

GAUGE_FRESH: Final = timedelta(minutes=60)
"""An older external reading is no reading."""


def gauge_reading(environment: str, metric: Metric, now: datetime) -> float | None:
    """The latest external reading, unless it is too old to speak for now."""
    rows = OutcomeEvent.objects.filter(
        environment=environment, metric=metric.key, at__gt=now - GAUGE_FRESH, at__lte=now
    )
    return rows.order_by("-at", "-pk").values_list("value", flat=True).first()
