"""Source files of payments, and what must be known of each before it is counted."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import ibis  # type: ignore[import-untyped]
import msgspec

from cohorts import windows
from cohorts.services import cells, engines, files
from cohorts.services.engines import Engine
from cohorts.services.tile_store import Source

MANY_ROWS: Final = 100_000
"""A Parquet file of so many rows is taken at its word about its days, if it gives one."""

MOST_DAYS: Final = 62
"""A file whose payments span more days is read to learn which."""

MOST_AMOUNT: Final = 10**16
"""The first amount that 18 digits, two of them behind the point, cannot say."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where payments are and how to read them.

    Args:
        paths: Parquet, CSV or gzipped CSV files; told by content, not by name.
        mapped: the files' column name: ours, where they cannot be guessed.
        zone: where moments without an offset from UTC belong; None: they cannot be read.
        utc_offset: of the zone whose days are counted.
    """

    paths: Sequence[Path]
    mapped: Mapping[str, str] = {}
    zone: str | None = None
    utc_offset: datetime.timedelta = windows.SHANGHAI


def columns_of(
    engine: Engine, paths: Sequence[Path], mapped: Mapping[str, str]
) -> dict[Path, dict[str, str]]:
    return {
        path: cells.columns(
            engines.columns_of(engine, path),
            ("event_id", "user_id", "paid_at"),
            ("amount_cny",),
            mapped,
        )
        for path in paths
    }


def look(engine: Engine, path: Path, columns: Mapping[str, str], plan: Plan) -> Source:
    return _told(path, columns, plan) or _read(engine, path, columns, plan)


def _told(path: Path, columns: Mapping[str, str], plan: Plan) -> Source | None:
    """What a large Parquet file says of itself, without reading its rows.

    Days are all those from its first to its last payment: at worst too many are taken for shared
    with other files. None where it does not say enough.
    """
    if not files.is_parquet(path) or (rows := files.size_of(path)) < MANY_ROWS:
        return None
    bounds = files.bounds_of(path, columns["paid_at"])
    if bounds is None or _doubtful_ids(path, columns) or _doubtful_amounts(path, columns):
        return None
    if not all(isinstance(each, datetime.datetime) and each.tzinfo for each in bounds):
        return None
    zone = datetime.timezone(plan.utc_offset)
    first, last = (each.astimezone(zone).date() for each in bounds)
    if (last - first).days > MOST_DAYS:
        return None
    found = path.stat()
    return Source(
        size=found.st_size,
        changed_ns=found.st_mtime_ns,
        rows=rows,
        refunds=0,
        unreadable=files.nulls_of(path, columns["paid_at"]),
        days=[first + datetime.timedelta(days=day) for day in range((last - first).days + 1)],
    )


def _read(engine: Engine, path: Path, columns: Mapping[str, str], plan: Plan) -> Source:
    found = path.stat()
    read = engines.as_told(engine, [path], columns, plan.zone)
    events = with_day(engine, read, plan)
    bad = events.day.isnull()  # no moment, or one without end
    for name in _doubtful_ids(path, columns):
        bad |= events[name].fill_null("") == ""
    refund = ibis.literal(False)
    if _doubtful_amounts(path, columns):
        if "unreadable" in events.columns:
            bad |= events.unreadable
        refund = (events.amount_cny < 0).fill_null(False) & ~bad
    table = events.mutate(refund=refund, bad=bad)
    per_day = table.group_by("day").aggregate(
        rows=table.count(),
        refunds=table.refund.cast("int64").sum(),
        unreadable=table.bad.cast("int64").sum(),
    )
    rows = engine.rows(per_day)
    return Source(
        size=found.st_size,
        changed_ns=found.st_mtime_ns,
        rows=sum(row["rows"] for row in rows),
        refunds=sum(row["refunds"] for row in rows),
        unreadable=sum(row["unreadable"] for row in rows),
        days=sorted(row["day"] for row in rows if row["day"] is not None),
    )


def with_day(engine: Engine, events: ibis.Table, plan: Plan) -> ibis.Table:
    return events.mutate(day=engine.day_of(events.paid_at, plan.utc_offset))


def _doubtful_ids(path: Path, columns: Mapping[str, str]) -> list[str]:
    """Our names of ids that may be missing from rows.

    Where the file itself says that none is, reading them would cost as much as counting.
    """
    names = ["event_id", "user_id"]
    if not files.is_parquet(path):
        return names
    return [name for name in names if not files.is_whole(path, columns[name])]


def _doubtful_amounts(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether amounts may be refunds, or none at all."""
    if "amount_cny" not in columns:
        return False
    if not files.is_parquet(path) or files.is_floating(path, columns["amount_cny"]):
        return True  # what is no number stands in no statistics
    bounds = files.bounds_of(path, columns["amount_cny"])
    if bounds is None or not all(isinstance(each, int | Decimal) for each in bounds):
        return True
    return not (bounds[0] >= 0 and bounds[1] < MOST_AMOUNT)
