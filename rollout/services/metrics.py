"""Metrics: what is measured. A metric with evidence keeps its kind, or old sums would lie."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from huidu.errors import InputError, StateError
from rollout.models import Guard, Metric, Stage
from rollout.models.guards import MOST_FRESH_MINUTES, USUAL_FRESH_MINUTES
from rollout.services import audit, late, sources
from rollout.services.audit import Actor
from rollout.services.changing import changing, finite, only
from rollout.services.sources import SourceError, happenings, warehouse
from rollout.services.sources.happenings import FirstRows

EDITABLE: Final = frozenset(
    {
        "key",
        "label_zh",
        "label_en",
        "description",
        "kind",
        "harm",
        "unit",
        "owner",
        "lag",
        "fresh_minutes",
        "cap",
        "edges",
        "baseline_index",
        "margin_index",
        "source",
        "query",
    }
)
MEASURING: Final = frozenset(
    {"key", "kind", "harm", "cap", "edges", "baseline_index", "margin_index"}
)


def save_metric(
    environment: str,
    values: Mapping[str, Any],
    *,
    by: Actor,
    metric: Metric | None = None,
    reason: str = "",
) -> Metric:
    """Add a metric, or change one.

    Raises:
        StateError: a running stage is judged by it and the change would alter what is measured.
        InputError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    if metric is not None:
        changed = {name for name, value in values.items() if getattr(metric, name) != value}
        # Stages that were left are judged on, as long as outcomes may come late.
        judged = Q(status=Stage.Status.RUNNING) | late.watched(timezone.now())
        used = Guard.objects.filter(metric=metric, stage__in=Stage.objects.filter(judged))
        measuring = MEASURING
        if metric.kind != Metric.Kind.GAUGE:
            measuring |= {"source", "query"}  # the query is what is measured
        if (fixed := sorted(changed & measuring)) and used.exists():
            raise StateError(
                f"metric {metric.key} judges a running stage: {', '.join(fixed)} cannot change "
                "before it ends",
                path=fixed[0],
            )
        if "fresh_minutes" in changed and used.exists():
            _only_tightened(metric, values["fresh_minutes"])
    row = metric if metric is not None else Metric(environment=environment)
    with changing(
        row,
        "metric.updated" if metric is not None else "metric.created",
        environment=environment,
        target=f"metric:{values.get('key', row.key)}",
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        publishes=False,
    ) as fresh:
        for name, value in values.items():
            setattr(fresh, name, value)
        _check_numbers(fresh)
        _check_fresh(fresh)
        _check_edges(fresh)
        _check_source(fresh)
    return fresh


def try_out(environment: str, metric: Metric, *, by: Actor, now: datetime) -> FirstRows:
    """Ask a metric's query once, and keep nothing but that it was asked.

    Args:
        metric: saved or not; its kind, source and query count.
    Raises:
        InputError: the query cannot be used as it is; the sentence says why.
    """
    metric.environment = environment
    with transaction.atomic():
        audit.record(
            by,
            "metric.query_tried",
            f"metric:{metric.key or 'new'}"[:200],
            environment=environment,
            after={"kind": metric.kind, "source": metric.source, "query": metric.query[:2_000]},
        )
    try:
        if metric.kind == Metric.Kind.GAUGE:
            found = sources.read(metric, now=now)
            return FirstRows({"value": "DOUBLE"}, [{"value": found.value}], found.at, 1)
        if not metric.from_warehouse:
            raise InputError(
                "expected SQL on the warehouse and a SELECT, or a metric of kind gauge: events "
                "tell of this one",
                path="source",
            )
        return happenings.first_rows(metric, now=now)
    except SourceError as error:
        raise InputError(error.message, path="query", code=error.code) from error


def _check_source(metric: Metric) -> None:
    """A query needs somebody to ask it: gauges are read, other kinds come from a warehouse."""
    if not metric.query.strip():
        if metric.kind != Metric.Kind.GAUGE and metric.source == Metric.Source.SQL:
            raise InputError("expected one SELECT, got nothing", path="query")
        return
    if metric.source == Metric.Source.SQL:
        try:
            warehouse.only_a_select(metric.query)
        except SourceError as error:
            raise InputError(error.message, path="query") from error
    elif metric.kind != Metric.Kind.GAUGE:
        raise InputError(
            f"expected SQL on the warehouse, or no query: events tell of a metric of kind "
            f"{metric.kind}",
            path="source",
        )


def _only_tightened(metric: Metric, asked: Any) -> None:
    """Nobody loosens alone what a running stage waits for."""
    now, then = metric.fresh_minutes or USUAL_FRESH_MINUTES, asked or USUAL_FRESH_MINUTES
    if isinstance(then, int) and then > now:
        raise StateError(
            f"metric {metric.key} judges a running stage: its data may be {now} minutes old, and "
            f"{then} would let it promote on older data; shorten it, or wait until the stage ends",
            path="fresh_minutes",
        )


def _check_fresh(metric: Metric) -> None:
    most = metric.fresh_minutes
    if most is None:
        return
    if type(most) is not int or not 1 <= most <= MOST_FRESH_MINUTES:
        raise InputError(
            f"expected whole minutes from 1 to {MOST_FRESH_MINUTES:,}, or nothing for the usual "
            f"{USUAL_FRESH_MINUTES}, got {str(most)[:40]}",
            path="fresh_minutes",
        )


def _check_numbers(metric: Metric) -> None:
    metric.cap = finite(metric.cap, "cap")
    if metric.cap is not None and metric.cap <= 0:
        raise InputError(f"expected a cap above 0, got {metric.cap:g}", path="cap")
    if isinstance(metric.lag, timedelta) and metric.lag < timedelta(0):
        raise InputError(f"expected a delay of 0 or more, got {metric.lag}", path="lag")
    if isinstance(metric.edges, list | tuple):
        metric.edges = [finite(each, f"edges[{i}]") or 0.0 for i, each in enumerate(metric.edges)]


def _check_edges(metric: Metric) -> None:
    if metric.kind != Metric.Kind.LATENCY:
        return
    edges = metric.edges
    if not isinstance(edges, list):
        raise InputError(f"expected a list of milliseconds, got {str(edges)[:60]}", path="edges")
    rising = all(low < high for low, high in pairwise(edges))
    if len(edges) < 2 or edges[0] <= 0 or not rising:
        raise InputError(
            f"expected two or more rising edges in milliseconds, got {edges}", path="edges"
        )
    for name in ("baseline_index", "margin_index"):
        index = getattr(metric, name)
        if type(index) is not int or not 0 <= index < len(edges):
            raise InputError(f"expected the index of one of {len(edges)} edges", path=name)
