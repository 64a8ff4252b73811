"""Bringing the cells of many stages up to date: those without news only move their marks.

One query a tick finds the stages whose users did anything since the last one; those are rolled up
together, see `evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from django.db import transaction

from rollout.models import Guard, Metric, RollupMark, Stage
from rollout.services import evidence, look_rows
from rollout.services.evidence import Moved
from rollout.services.evidence_reach import Reach, reach

MOST_NEW: Final = 1_000_000
"""Raw rows among which it is asked who has news. A stage further behind is taken to have some."""


def roll_up(stages: Sequence[Stage], *, now: datetime, up_to: Reach | None = None) -> None:
    """Bring the cells of stages up to date.

    Safe to run twice at once, to lose, and to kill: marks and cells move in one transaction.
    """
    if not stages:
        return
    end = up_to or reach()
    guards = look_rows.guards_of([each.pk for each in stages])
    quiet = _move_quiet(stages, guards, end, now)
    busy = [each for each in stages if each.pk not in quiet]
    together = [each for each in busy if each.status == Stage.Status.RUNNING]
    evidence.roll_up_together(
        [evidence.job_of(each, guards[each.pk]) for each in together], now=now, end=end
    )
    for stage in busy:
        if stage not in together:
            evidence.roll_up(stage, now=now, up_to=end, guards=guards[stage.pk])


def _move_quiet(
    stages: Iterable[Stage], guards: Mapping[int, Sequence[Guard]], end: Reach, now: datetime
) -> set[int]:
    """Move the marks of stages without news; returns which these were."""
    quiet: set[int] = set()
    moved: list[Moved] = []
    with transaction.atomic():
        marks = _marks([each.pk for each in stages])
        for stage in stages:
            metrics = {
                each.metric_id: each.metric
                for each in guards[stage.pk]
                if evidence.comes_as_events(each.metric)
            }
            mine = marks.get(stage.pk, {})
            # A stage that was left is looked at in parts, which only `evidence` knows.
            if stage.status != Stage.Status.RUNNING or not {None, *metrics} <= mine.keys():
                continue
            if _has_news(stage, metrics, mine, end):
                continue
            quiet.add(stage.pk)
            moved += _moved(stage, metrics, mine, end, now)
        if moved:
            evidence.move(moved)
    return quiet


class _Mark(NamedTuple):
    pk: int
    exposures: int
    outcomes: int
    complete_to: datetime | None
    rolled_at: datetime | None


def _marks(stage_ids: Sequence[int]) -> dict[int, dict[int | None, _Mark]]:
    """Marks that nobody else is moving, locked."""
    rows = RollupMark.objects.select_for_update(skip_locked=True).filter(stage__in=stage_ids)
    found: dict[int, dict[int | None, _Mark]] = {}
    for stage, metric, *mark in rows.order_by("pk").values_list("stage", "metric", *_Mark._fields):
        found.setdefault(stage, {})[metric] = _Mark._make(mark)
    return found


def _has_news(
    stage: Stage, metrics: Mapping[int, Metric], marks: Mapping[int | None, _Mark], end: Reach
) -> bool:
    used = [marks[each] for each in (None, *metrics)]
    exposures = min(each.exposures for each in used)
    # The mark of enrolment reads no outcomes.
    outcomes = min((marks[each].outcomes for each in metrics), default=end.outcomes)
    if max(end.exposures - exposures, end.outcomes - outcomes) > MOST_NEW:
        return True
    told = end.news(stage.rollout.flag.environment, exposures, outcomes).get(stage.pk, set())
    return not told.isdisjoint({"", *(each.key for each in metrics.values())})


def _moved(
    stage: Stage,
    metrics: Mapping[int, Metric],
    marks: Mapping[int | None, _Mark],
    end: Reach,
    now: datetime,
) -> Iterable[Moved]:
    keys = [each.key for each in metrics.values()]
    fresh = end.complete_up_to(stage.rollout.flag.environment, keys)
    enrolment = marks[None]
    yield Moved(
        enrolment.pk,
        max(enrolment.exposures, end.exposures),
        enrolment.outcomes,
        enrolment.complete_to,
        enrolment.rolled_at,
    )
    for pk, metric in metrics.items():
        mark = marks[pk]
        yield Moved(
            mark.pk,
            max(mark.exposures, end.exposures),
            max(mark.outcomes, end.outcomes),
            fresh.get(metric.key),
            now,
        )
