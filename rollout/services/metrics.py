"""Metrics: what is measured. A metric with evidence keeps its kind, or old sums would lie."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from django.db import transaction

from huidu.errors import InputError, StateError
from rollout.models import Guard, Metric, Stage
from rollout.services import audit, sources
from rollout.services.audit import Actor
from rollout.services.changing import changing, only
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
        used = Guard.objects.filter(metric=metric, stage__status=Stage.Status.RUNNING)
        measuring = MEASURING
        if metric.kind != Metric.Kind.GAUGE:
            measuring |= {"source", "query"}  # the query is what is measured
        if (fixed := sorted(changed & measuring)) and used.exists():
            raise StateError(
                f"metric {metric.key} judges a running stage: {', '.join(fixed)} cannot change "
                "before it ends"
            )
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


def _check_edges(metric: Metric) -> None:
    if metric.kind != Metric.Kind.LATENCY:
        return
    edges = metric.edges
    rising = all(low < high for low, high in pairwise(edges))
    if len(edges) < 2 or edges[0] <= 0 or not rising:
        raise InputError(
            f"expected two or more rising edges in milliseconds, got {edges}", path="edges"
        )
    for name in ("baseline_index", "margin_index"):
        index = getattr(metric, name)
        if index is None or index >= len(edges):
            raise InputError(f"expected the index of one of {len(edges)} edges", path=name)
