"""Cells as rows: cumulative numbers by stage, metric, series and hour, and how they grow.

What is to be added to many cells of many stages is read and written by a few statements: a tick in
which a thousand stages have news would else spend most of its time in writing SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from django.db import connection

from rollout.models import MetricCell


class Series(NamedTuple):
    """One arm of one cell."""

    arm: str
    stratum: int
    epoch: int
    chance_ppb: int


type_of_growth = dict[Series, dict[datetime, list[float]]]
"""What is to be added, per series and hour: users first, then `sums`."""

type_of_place = tuple[int, int | None]
"""A stage and a metric; None where enrolled users are counted."""


class _Row(msgspec.Struct):
    """A cell of one hour; `pk` is 0 until it is written."""

    pk: int
    hour: datetime
    users: int
    sums: list[float]
    latest: bool
    changed: bool = False


type_of_rows = dict[tuple[type_of_place, Series], dict[datetime, _Row]]


def add(growth: Mapping[type_of_place, type_of_growth]) -> None:
    """Add to the cells: the hours that grew, and every later hour, which includes them.

    Inside the caller's transaction, which holds the marks of these stages and metrics.
    """
    kept = _newest(growth)
    for place, first in _reaching_back(growth, kept).items():
        for series, row in _from(place, first):
            kept[place, series][row.hour] = row
    added: list[tuple[type_of_place, Series, _Row]] = []
    for place, grown in growth.items():
        for series, hours in grown.items():
            known = kept[place, series]
            for hour in sorted(hours):
                more = hours[hour]
                if hour not in known:
                    known[hour] = _begun(known, hour, len(more) - 1)
                    added.append((place, series, known[hour]))
                for later in (row for at, row in known.items() if at >= hour):
                    later.users += round(more[0])
                    later.sums = [a + b for a, b in zip(later.sums, more[1:], strict=True)]
                    later.changed = True
            newest = max(known)
            for at, row in known.items():
                if row.latest != (at == newest):
                    row.latest, row.changed = at == newest, True
    _update(row for rows in kept.values() for row in rows.values() if row.pk and row.changed)
    _insert(added)


def _begun(known: Mapping[datetime, _Row], hour: datetime, width: int) -> _Row:
    before = [each for each in known if each < hour]
    base = known[max(before)] if before else None
    if base is None:
        return _Row(0, hour, 0, [0.0] * width, latest=True)
    return _Row(0, hour, base.users, list(base.sums), latest=True)


_NEWEST: Final = """
SELECT stage_id, metric_id, json_agg(json_build_array(
    json_build_array(arm, stratum, epoch, chance_ppb),
    json_build_object('pk', id, 'hour', hour, 'users', users, 'sums', sums, 'latest', latest)
))::text
FROM rollout_metriccell WHERE stage_id = ANY(%s) AND latest GROUP BY stage_id, metric_id
"""
_rows = msgspec.json.Decoder(list[tuple[Series, _Row]])


def _newest(places: Iterable[type_of_place]) -> type_of_rows:
    wanted = set(places)
    found: type_of_rows = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [list({stage for stage, _ in wanted})])
        for stage, metric, told in cursor.fetchall():
            if (stage, metric) in wanted:
                for series, row in _rows.decode(told):
                    found[(stage, metric), series][row.hour] = row
    return found


def _reaching_back(
    growth: Mapping[type_of_place, type_of_growth], newest: type_of_rows
) -> dict[type_of_place, datetime]:
    """The first hours of places where an hour before a series' newest one grew: rows that were
    recorded earlier are read later in a long backlog."""
    back: dict[type_of_place, datetime] = {}
    for place, grown in growth.items():
        for series, hours in grown.items():
            first = min(hours)
            if any(at > first for at in newest[place, series]):
                back[place] = min(first, back.get(place, first))
    return back


def _from(place: type_of_place, hour: datetime) -> Iterable[tuple[Series, _Row]]:
    """The rows of an hour and those after it, and the newest of each series before it."""
    stage, metric = place
    rows = MetricCell.objects.filter(stage=stage, metric=metric)
    series = Series._fields
    before = rows.filter(hour__lt=hour).order_by(*series, "-hour").distinct(*series)
    columns = ("pk", "hour", "users", "sums", "latest")
    for some in (rows.filter(hour__gte=hour), before):
        for row in some.values_list(*series, *columns):
            yield Series(*row[: len(series)]), _Row(*row[len(series) :])


# Both as one text, because escaping arrays of JSON takes a driver longer than all the rest.
_UPDATE: Final = """
UPDATE rollout_metriccell AS cell SET users = told.users, sums = told.sums, latest = told.latest
FROM jsonb_to_recordset(%s::jsonb) AS told(pk bigint, users bigint, sums jsonb, latest boolean)
WHERE cell.id = told.pk
"""
_COLUMNS: Final = "stage_id, metric_id, arm, stratum, epoch, chance_ppb, hour, users, sums, latest"
_INSERT: Final = f"""
INSERT INTO rollout_metriccell ({_COLUMNS})
SELECT {_COLUMNS} FROM jsonb_to_recordset(%s::jsonb) AS told(
    stage_id bigint, metric_id bigint, arm text, stratum smallint, epoch smallint,
    chance_ppb integer, hour timestamptz, users bigint, sums jsonb, latest boolean)
"""  # noqa: S608 - our own names


def _update(rows: Iterable[_Row]) -> None:
    told = [
        {"pk": row.pk, "users": row.users, "sums": row.sums, "latest": row.latest} for row in rows
    ]
    _write(_UPDATE, told)


def _insert(rows: Iterable[tuple[type_of_place, Series, _Row]]) -> None:
    told = [
        {
            "stage_id": place[0],
            "metric_id": place[1],
            **series._asdict(),
            "hour": row.hour,
            "users": row.users,
            "sums": row.sums,
            "latest": row.latest,
        }
        for place, series, row in rows
    ]
    _write(_INSERT, told)


def _write(statement: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(statement, [msgspec.json.encode(rows).decode()])
