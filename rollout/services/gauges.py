"""External readings: one number from a Prometheus-like address, recorded like any other event.

`Metric.query` is a URL that answers JSON. Of Prometheus' answer to an instant query the first
value is taken; any other JSON must be a number, or an object with ``value``.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime
from typing import Any, Final

import httpx
from django.db import transaction

from rollout.models import Metric, Stage
from rollout.services import exposures, outcomes
from rollout.services.outcomes import Happened

logger = logging.getLogger(__name__)

DEADLINE_SECONDS: Final = 5.0
MOST_BYTES: Final = 100_000


def read_all(*, now: datetime) -> int:
    """Read every gauge that guards a running stage; returns how many answered.

    A source that does not answer leaves no reading, and a stage without readings is held.
    """
    metrics = Metric.objects.filter(
        kind=Metric.Kind.GAUGE, guards__stage__status=Stage.Status.RUNNING
    ).exclude(query="")
    done = 0
    for metric in metrics.distinct():
        try:
            value = _ask(metric.query)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, IndexError) as error:
            logger.warning("rollout.gauge_unread metric=%s error=%s", metric.key, error)
            continue
        reading = Happened(
            f"gauge:{metric.key}:{int(now.timestamp())}", "", metric.key, value, None, now
        )
        with transaction.atomic():
            exposures.write_evidence()
            done += len(outcomes.record(metric.environment, [reading]))
    return done


def _ask(url: str) -> float:
    answer = httpx.get(url, timeout=DEADLINE_SECONDS, follow_redirects=False)
    answer.raise_for_status()
    if len(answer.content) > MOST_BYTES:
        raise ValueError(f"expected a short answer, got {len(answer.content):,} bytes")
    return number_of(answer.json())


def number_of(answer: Any) -> float:
    """The number in an answer.

    Raises:
        ValueError, KeyError, IndexError: there is none.
    """
    if isinstance(answer, dict) and "data" in answer:
        result = answer["data"]["result"]
        # An instant query answers a scalar [at, "1.5"] or a vector of {"value": [at, "1.5"]}.
        pair = result if answer["data"].get("resultType") == "scalar" else result[0]["value"]
        answer = float(pair[1])
    elif isinstance(answer, dict):
        answer = answer["value"]
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise ValueError(f"expected a number, got {str(answer)[:100]!r}")
    if not math.isfinite(answer):
        raise ValueError(f"expected a finite number, got {answer}")
    return float(answer)
