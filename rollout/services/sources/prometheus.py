"""Readings from Prometheus, or whatever speaks its HTTP API (Thanos, Mimir, VictoriaMetrics).

    instant   GET /api/v1/query         what the expression says now
    window    GET /api/v1/query_range   what it said at each step of a past time

An expression must come to one series: several mean that somebody forgot to aggregate, and choosing
one of them would be guessing. An empty answer is unknown, also where zero is what people think of:
`or vector(0)` in the expression says so if it is.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from django.conf import settings

from huidu.errors import HuiduError
from rollout.services import outbound
from rollout.services.sources.sample import Sample, SourceError, finite, fresh

DEADLINE_SECONDS: Final = 5.0
MOST_POINTS: Final = 1_000


def instant(expression: str, *, now: datetime) -> Sample:
    """The expression's one value now, with the sample's own time.

    Raises:
        SourceError: no answer, an error, no series or several, not finite, or too old.
    """
    asked = {"query": expression, "time": f"{now.timestamp():.3f}"}
    found = _ask("query", asked)
    kind, result = found.get("resultType"), found.get("result")
    if kind == "scalar":
        return _sample(result, now)
    if kind != "vector":
        raise SourceError(
            f"expected one number, and the expression answers a {str(kind)[:20]}",
            code="source.no_number",
        )
    return _sample(_only_series(result).get("value"), now)


def window(expression: str, *, start: datetime, end: datetime, step: timedelta) -> list[Sample]:
    """The expression's values from start to end; steps without a finite value are left out.

    Raises:
        SourceError: no answer, an error, several series, or more than a thousand steps.
    """
    if end < start:
        return []
    if (end - start) / step > MOST_POINTS:
        raise SourceError(f"expected at most {MOST_POINTS:,} steps of {step}")
    asked = {
        "query": expression,
        "start": f"{start.timestamp():.3f}",
        "end": f"{end.timestamp():.3f}",
        "step": f"{step.total_seconds():g}",
    }
    found = _ask("query_range", asked)
    if found.get("resultType") != "matrix":
        raise SourceError("expected a matrix of samples", code="source.no_number")
    if not found.get("result"):
        return []
    samples = []
    for pair in _only_series(found.get("result")).get("values") or []:
        try:
            samples.append(_read(pair))
        except SourceError:
            continue  # a hole in the past stays a hole
    return samples


def _ask(what: str, asked: dict[str, str]) -> dict[str, Any]:
    base = str(getattr(settings, "HUIDU_PROMETHEUS_URL", "") or "").rstrip("/")
    if not base:
        raise SourceError("no Prometheus is configured: set HUIDU_PROMETHEUS_URL")
    asked["timeout"] = f"{DEADLINE_SECONDS:g}s"  # Prometheus gives up when we do
    try:
        # The installation's own setting names the host, so it may well be a private one.
        with httpx.Client(timeout=DEADLINE_SECONDS, follow_redirects=False) as client:
            answer = client.get(f"{base}/api/v1/{what}?{urlencode(asked)}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"Prometheus did not answer: {error!r}", code="source.away") from error
    if len(answer.content) > outbound.MOST_BYTES:
        raise SourceError(f"expected a short answer, got {len(answer.content):,} bytes")
    try:
        told = json.loads(answer.content)
    except ValueError as error:
        raise SourceError(
            f"Prometheus answered {answer.status_code} without JSON", code="source.away"
        ) from error
    if not isinstance(told, dict) or told.get("status") != "success":
        why = told.get("error", "") if isinstance(told, dict) else ""
        raise SourceError(
            f"Prometheus answered {answer.status_code}: {str(why)[:300]}", code="source.refused"
        )
    data = told.get("data")
    if not isinstance(data, dict):
        raise SourceError("Prometheus answered without data", code="source.no_number")
    return data


def _only_series(result: Any) -> dict[str, Any]:
    if not isinstance(result, list) or not result:
        raise SourceError(
            "the expression answers no series: unknown, not zero", code="source.empty"
        )
    if len(result) > 1:
        raise SourceError(
            f"the expression answers {len(result)} series: aggregate them, as with sum() or max()",
            code="source.several",
        )
    if not isinstance(result[0], dict):
        raise SourceError("Prometheus answered a series that is none", code="source.no_number")
    return result[0]


def _sample(pair: Any, now: datetime) -> Sample:
    found = _read(pair)
    return Sample(found.value, fresh(found.at, now))


def _read(pair: Any) -> Sample:
    try:
        at, text = pair
        return Sample(finite(float(text)), datetime.fromtimestamp(float(at), UTC))
    except HuiduError:
        raise
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise SourceError(
            f"expected a sample [seconds, number], got {str(pair)[:100]}", code="source.no_number"
        ) from error
