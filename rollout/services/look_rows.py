"""What looks read from rows, for many stages in a handful of queries.

A tick reviews every running stage. Asked stage by stage, most of its time went into writing SQL and
waiting for it, not into deciding; so the rows of some stages are read together, in plain values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from django.db import connection
from django.utils import timezone

from huidu.promotion import contract
from rollout import selectors, selectors_funding
from rollout.models import Guard, Metric, Stage
from rollout.services.gauge_readings import gauge_reading


class CellRow(NamedTuple):
    """The newest row of one series: see `MetricCell`."""

    metric_id: int | None
    arm: str
    stratum: int
    epoch: int
    chance_ppb: int
    users: int
    sums: list[float]


class MarkRow(NamedTuple):
    """How fresh a metric was when its cells were brought up to date: see `RollupMark`."""

    complete_to: datetime | None
    rolled_at: datetime | None


class LastLook(NamedTuple):
    """The newest decision of a stage, as far as the next look goes on from it.

    `left`: it was made after the stage was left; `overdue`: it found the horizon over.
    """

    pk: int
    look: int
    decision: str
    acted: bool
    left: bool
    overdue: bool
    state: contract.State


class Rows:
    """What the looks of these stages rest on; a stage without rows has empty ones."""

    def __init__(self, stages: Sequence[Stage], now: datetime) -> None:
        self.now = now
        ids = [each.pk for each in stages]
        flags = [each.rollout.flag_id for each in stages]
        self.guards = guards_of(ids)
        self.cells = _cells(ids)
        self.marks = _marks(ids)
        self.unsigned = selectors.flags_with_unsigned_items(flags, timezone.localdate(now))
        self.needs_places = selectors_funding.flags_with_capacity_gate(flags)
        self._gauges: dict[int, float | None] = {}

    def gauge(self, metric: Metric) -> float | None:
        """The latest reading of a gauge, asked for once."""
        if metric.pk not in self._gauges:
            self._gauges[metric.pk] = gauge_reading(metric.environment, metric, self.now)
        return self._gauges[metric.pk]


def guards_of(stage_ids: Collection[int]) -> dict[int, list[Guard]]:
    """The guards of stages in order of their metrics' keys; stages share their metrics' objects."""
    found: dict[int, list[Guard]] = {each: [] for each in stage_ids}
    rows = Guard.objects.filter(stage__in=stage_ids).order_by("metric__key")
    for guard in rows.prefetch_related("metric"):
        found[guard.stage_id].append(guard)
    return found


# By stage, because the planner would rather read all looks of all stages than the last of each.
_LAST: Final = """
SELECT given.id, last.* FROM unnest(%s::bigint[]) AS given(id), LATERAL (
    SELECT id, look, decision, acted,
           decision = 'roll_back' AND (evidence->'conditions'->>'left')::boolean IS TRUE,
           reasons @> '[{"code": "horizon_over"}]', state_after::text
    FROM rollout_decision WHERE stage_id = given.id ORDER BY look DESC LIMIT 1
) AS last
"""
_state = msgspec.json.Decoder(contract.State)


def last_looks(stage_ids: Collection[int]) -> dict[int, LastLook]:
    """The newest decision of each stage that has any."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [list(stage_ids)])
        return {
            stage: LastLook._make((*plain, _state.decode(state)))
            for stage, *plain, state in cursor.fetchall()
        }


# One text a stage: a thousand stages have some hundred thousand cells.
_CELLS: Final = """
SELECT stage_id,
       json_agg(json_build_array(metric_id, arm, stratum, epoch, chance_ppb, users, sums))::text
FROM rollout_metriccell WHERE stage_id = ANY(%s) AND latest GROUP BY stage_id
"""
_cell_rows = msgspec.json.Decoder(list[CellRow])


def _cells(stage_ids: list[int]) -> dict[int, list[CellRow]]:
    with connection.cursor() as cursor:
        cursor.execute(_CELLS, [stage_ids])
        found = {stage: _cell_rows.decode(rows) for stage, rows in cursor.fetchall()}
    return {each: found.get(each, []) for each in stage_ids}


_MARKS: Final = """
SELECT stage_id, metric_id, complete_to, rolled_at FROM rollout_rollupmark WHERE stage_id = ANY(%s)
"""


def _marks(stage_ids: list[int]) -> dict[int, dict[int | None, MarkRow]]:
    found: dict[int, dict[int | None, MarkRow]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(_MARKS, [stage_ids])
        for stage, metric, complete_to, rolled_at in cursor.fetchall():
            found[stage][metric] = MarkRow(complete_to, rolled_at)
    return found
