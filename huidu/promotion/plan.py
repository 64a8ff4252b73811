"""A plan checked once and made ready: canonical cell order, likelihood factors, kinds of guard."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from huidu.errors import EvidenceError
from huidu.promotion.contract import DESIGN, Cell, Harm, Kind, Metric, Plan, Role
from huidu.stats.sequential import (
    HARM_GRID,
    Floats,
    Sizes,
    count_factors,
    harm_grid,
    harm_sizes,
)
from huidu.stats.srm import SampleRatio

TOO_GOOD: Final = 0.4
"""A bad event that became 60 % rarer is more often a silent feed than good news."""

_WEIGHTS: Final[dict[Kind, float]] = {Kind.MEAN: 3.0, Kind.USERS_RATIO: 2.0}
"""Of a guard in the average of e-values; 1 for other kinds. Amounts need the most users until harm
shows, and failing requests hit the most users in the few minutes in which it does."""

_COUNTS: Final = frozenset({Kind.BINARY, Kind.BINARY_DELAYED, Kind.USERS_RATIO, Kind.LATENCY})


class Guard:
    """One metric with what follows from its definition."""

    def __init__(self, metric: Metric, design: int = 1) -> None:
        self.metric = metric
        self.weight = guard_weight(metric.kind, design)
        self.name = metric.name
        self.increase = metric.harm is Harm.INCREASE
        self.counts_users = metric.kind in _COUNTS
        self.absolute = metric.limit_abs is not None
        self.margin = metric.margin_rel or 0.0
        self.must_prove = metric.role is Role.MUST_PROVE
        # How many numbers one arm of one cell carries.
        width = {Kind.LATENCY: len(metric.edges_ms), Kind.USERS_RATIO: 6, Kind.MEAN: 5}
        self.nobody = (0.0,) * width.get(metric.kind, 1)
        self.delayed = metric.kind is Kind.BINARY_DELAYED
        # Latency: edges whose counts the harm test reads; other kinds have one count.
        self.harm_columns = (metric.baseline_index or 0) + 1
        # The ratio treated over control at the margin, and at half of it.
        sign = 1.0 if self.increase else -1.0
        self.ratio_at_margin = 1.0 + sign * self.margin
        self.ratio_material = 1.0 + sign * self.margin / 2.0
        self.sizes = Sizes(HARM_GRID) if self.absolute else self._sizes(design)

    def _sizes(self, design: int) -> Sizes:
        of_mean = self.metric.kind is Kind.MEAN
        if design == 1:
            return Sizes(harm_grid(self.ratio_at_margin, of_mean=of_mean))
        return harm_sizes(self.ratio_at_margin, increase=self.increase, of_mean=of_mean)


def guard_weight(kind: Kind, design: int = DESIGN) -> float:
    """The weight of a guard of this kind in the average of all guards' e-values."""
    return 1.0 if design == 1 else _WEIGHTS.get(kind, 1.0)


class CompiledPlan:
    """Everything `review` needs that depends on the plan alone. Cells are in order of their id."""

    def __init__(self, plan: Plan) -> None:
        check_plan(plan)
        self.plan = plan
        order = sorted(range(len(plan.cells)), key=lambda i: str(plan.cells[i].id))
        self.cells: tuple[Cell, ...] = tuple(plan.cells[i] for i in order)
        self.given_ids = tuple(str(cell.id) for cell in plan.cells)
        self.ids = tuple(str(cell.id) for cell in self.cells)
        self.rho: Floats = np.array([cell.rho for cell in self.cells], dtype=np.float64)
        self._again = frozenset(str(cell.id) for cell in self.cells if cell.again)
        self.rho_of = dict(zip(self.ids, self.rho.tolist(), strict=True))
        self.has_control = bool(((self.rho > 0) & (self.rho < 1)).any())
        self.sample_ratio = SampleRatio(self.rho)
        guards = [
            Guard(metric, plan.design) for metric in plan.metrics if metric.kind is not Kind.GAUGE
        ]
        self.guards = tuple(guards)
        self.gauges = tuple(metric for metric in plan.metrics if metric.kind is Kind.GAUGE)
        self.stoppers = tuple(g for g in guards if g.metric.role is not Role.WATCH)
        # Without weights the arithmetic is the first design's, to the last digit.
        self.weights = None if plan.design == 1 else {g.name: g.weight for g in self.stoppers}
        self.factors = {
            guard.name: count_factors(self.rho, increase=guard.increase, grid=guard.sizes.logs)
            for guard in guards
            if guard.counts_users
        }
        self.too_good_factors = count_factors(self.rho, increase=False, null_ratio=TOO_GOOD)

    def enrolled(self, users: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
        """Treated and control users over all cells, each counted once."""
        pairs = [pair for name, pair in users.items() if name not in self._again]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


@functools.lru_cache(maxsize=256)
def compiled(plan: Plan) -> CompiledPlan:
    """The plan, checked and ready. Raises `EvidenceError` for a plan that cannot be run."""
    return CompiledPlan(plan)


def check_plan(plan: Plan) -> None:
    """Refuse a plan that contradicts itself.

    Raises:
        EvidenceError: naming the path, what stood there, and what would be right.
    """
    stage, alpha = plan.stage, plan.alpha
    for name in ("horizon_min", "look_min", "promotion_every_min"):
        _require(_positive(getattr(stage, name)), f"stage.{name}", "minutes above 0", stage)
    _require(
        math.isfinite(stage.min_min) and 0 <= stage.min_min <= stage.horizon_min,
        "stage.min_min",
        f"minutes between 0 and horizon_min={stage.horizon_min}",
        stage.min_min,
    )
    _require(
        math.isfinite(stage.early_min) and stage.early_min >= 0,
        "stage.early_min",
        "minutes, 0 or more",
        stage.early_min,
    )
    for name in ("rollback", "promote"):
        level = getattr(alpha, name)
        _require(0 < level <= 0.5, f"alpha.{name}", "a share in (0, 0.5]", level)
    _require(plan.design in (1, DESIGN), "design", f"1 or {DESIGN}", plan.design)
    _require(plan.minimum_users >= 0, "minimum_users", "0 or more", plan.minimum_users)
    _require(len(plan.cells) > 0, "cells", "at least one cell", "none")
    seen: set[str] = set()
    for i, cell in enumerate(plan.cells):
        _require(0 <= cell.rho <= 1, f"cells[{i}].rho", "a probability in [0, 1]", cell.rho)
        _require(str(cell.id) not in seen, f"cells[{i}].id", "an id of its own", cell.id)
        seen.add(str(cell.id))
    names: set[str] = set()
    for i, metric in enumerate(plan.metrics):
        _require(metric.name != "", f"metrics[{i}].name", "a name", metric.name)
        _require(
            metric.name not in names, f"metrics[{i}].name", "one guard per metric", metric.name
        )
        names.add(metric.name)
        _check_metric(metric, f"metrics[{i}]")
    guarded = any(metric.role is Role.MUST_PROVE for metric in plan.metrics)
    _require(
        guarded or plan.waiver.strip() != "",
        "metrics",
        "at least one guard that must prove, or a waiver saying why none is needed",
        "none",
    )


def _check_metric(metric: Metric, path: str) -> None:
    if metric.fresh_min is not None:
        _require(
            _positive(metric.fresh_min), f"{path}.fresh_min", "minutes above 0", metric.fresh_min
        )
    if metric.kind is Kind.GAUGE:
        limits = [limit for limit in (metric.max, metric.min) if limit is not None]
        _require(
            bool(limits) and all(map(math.isfinite, limits)), path, "a gauge's max or min", limits
        )
        _require(metric.for_looks >= 1, f"{path}.for_looks", "1 or more looks", metric.for_looks)
        _require(metric.limit_abs is None, f"{path}.limit_abs", "max or min for a gauge", metric)
        return
    if metric.kind is Kind.LATENCY:
        _check_edges(metric, path)
    if metric.limit_abs is not None:
        _require(
            metric.margin_rel is None,
            f"{path}.margin_rel",
            "either margin_rel (against control) or limit_abs (without control), not both",
            metric.margin_rel,
        )
        share = metric.kind is not Kind.MEAN
        _require(
            _positive(metric.limit_abs) and (not share or metric.limit_abs < 1),
            f"{path}.limit_abs",
            "a share in (0, 1)" if share else "a mean above 0",
            metric.limit_abs,
        )
        return
    largest = 10.0 if metric.harm is Harm.INCREASE else 1.0
    margin = metric.margin_rel
    _require(
        margin is not None
        and 0 < margin <= largest
        and not (margin >= 1 and metric.harm is Harm.DECREASE),
        f"{path}.margin_rel",
        f"a relative margin above 0 and {'up to 10' if largest > 1 else 'below 1'}",
        margin,
    )


def _check_edges(metric: Metric, path: str) -> None:
    edges = metric.edges_ms
    rising = all(a < b for a, b in itertools.pairwise(edges))
    _require(
        len(edges) > 0 and all(map(_positive, edges)) and rising,
        f"{path}.edges_ms",
        "latencies above 0 in rising order",
        list(edges),
    )
    for name in ("baseline_index", "margin_index"):
        index = getattr(metric, name)
        if name == "margin_index" and metric.limit_abs is not None and index is None:
            continue
        _require(
            index is not None and 0 <= index < len(edges),
            f"{path}.{name}",
            f"an index of edges_ms, 0 to {len(edges) - 1}",
            index,
        )


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _require(holds: bool, path: str, right: str, found: object) -> None:
    if not holds:
        raise EvidenceError(f"expected {right}, got {found}", path=path)
