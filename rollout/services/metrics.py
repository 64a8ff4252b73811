"""Metrics: what is measured. A metric with evidence keeps its kind, or old sums would lie."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from huidu.errors import InputError, StateError
from rollout.models import Guard, Metric, Stage
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import changing, only

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
        if (fixed := sorted(changed & MEASURING)) and used.exists():
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
    return fresh


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
