"""Counting a stage's cells again from the beginning, and telling what differs.

Steps and recount must agree to the last user. Where they do not, either somebody wrote past the
services, or users were erased since: their raw rows are gone, and the cells they were counted in
stay, because decisions were made on them.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, NamedTuple

from django.db import transaction

from rollout.models import MetricCell, RollupMark, Stage
from rollout.services import audit, evidence, warehouse_cells
from rollout.services.audit import Actor
from rollout.services.evidence_reach import reach
from rollout.services.sources import SourceError

SAME: Final = 1e-9
"""Sums closer than this, relatively, are the same: numbers are added in another order."""


class Place(NamedTuple):
    """One cell: `metric` is "" for enrolled users."""

    metric: str
    arm: str
    stratum: int
    epoch: int
    chance_ppb: int
    hour: datetime


class Difference(NamedTuple):
    """A cell as it stands and as it was counted again; None: there is none."""

    place: Place
    kept: tuple[int, list[float]] | None
    recounted: tuple[int, list[float]] | None


class Recount(NamedTuple):
    """What a recount found; `unread` names warehouse metrics whose source gave no answer."""

    cells: int
    differences: list[Difference]
    unread: list[str]
    applied: bool


type_of_cells = dict[Place, tuple[int, list[float]]]


class _UndoError(Exception):
    """Takes everything back that a look at the difference wrote."""


def recount(
    stage: Stage, *, now: datetime, apply: bool = False, by: Actor | None = None, reason: str = ""
) -> Recount:
    """Bring the cells up to date, count them again from raw rows and queries, and compare.

    Args:
        apply: keep the recount where it differs, on record under `by` and `reason`; else nothing
            is written.
    Raises:
        InputError: it is to be applied without a reason.
        OperationalError: a writer of raw rows takes too long.
    """
    if apply:
        reason = audit.clean_reason(reason)
    end = reach()  # outside the transaction: its lock keeps all writers waiting
    metrics = [each.metric for each in evidence.guards_of(stage)]
    told = [each for each in metrics if each.from_warehouse]
    found: Recount | None = None
    try:
        with transaction.atomic():
            # Reviews lock the stage's row, roll-ups the marks: neither sees a half.
            Stage.objects.select_for_update(of=("self",)).get(pk=stage.pk)
            list(RollupMark.objects.select_for_update().filter(stage=stage).order_by("pk"))
            evidence.roll_up(stage, now=now, up_to=end)
            before = _cells(stage)
            evidence.recompute(stage, now=now, up_to=end)
            unread = []
            for metric in told:
                try:
                    warehouse_cells.read(stage, metric, now=now)
                except SourceError as error:
                    unread.append(error.message)
            after = _cells(stage)
            differences = _differences(before, after)
            found = Recount(len(after), differences, unread, apply and bool(differences))
            if not found.applied:
                raise _UndoError
            assert by is not None
            audit.record(
                by,
                "cells.recounted",
                f"stage:{stage}",
                environment=stage.rollout.flag.environment,
                before=_told(differences, kept=True),
                after=_told(differences, kept=False),
                reason=reason,
            )
    except _UndoError:
        pass
    assert found is not None
    return found


def _cells(stage: Stage) -> type_of_cells:
    rows = MetricCell.objects.filter(stage=stage).select_related("metric")
    return {
        Place(
            row.metric.key if row.metric else "",
            row.arm,
            row.stratum,
            row.epoch,
            row.chance_ppb,
            row.hour,
        ): (row.users, list(row.sums))
        for row in rows
    }


def _differences(before: type_of_cells, after: type_of_cells) -> list[Difference]:
    return [
        Difference(place, before.get(place), after.get(place))
        for place in sorted({*before, *after})
        if not _same(before.get(place), after.get(place))
    ]


def _same(a: tuple[int, list[float]] | None, b: tuple[int, list[float]] | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        a[0] == b[0]
        and len(a[1]) == len(b[1])
        and all(
            math.isclose(x, y, rel_tol=SAME, abs_tol=SAME) for x, y in zip(a[1], b[1], strict=True)
        )
    )


MOST_LOGGED: Final = 100


def _told(differences: list[Difference], *, kept: bool) -> dict[str, object]:
    """One side of the first differences, for the audit log."""
    cells = {
        in_words(each.place): each.kept if kept else each.recounted
        for each in differences[:MOST_LOGGED]
    }
    return {"differences": len(differences), "cells": cells}


def in_words(place: Place) -> str:
    """A cell's place in one line."""
    return (
        f"{place.metric or 'enrolled users'} {place.arm} weight {place.stratum} epoch "
        f"{place.epoch} chance {place.chance_ppb} ppb hour {place.hour:%Y-%m-%dT%H:%MZ}"
    )
