"""The one definition of payment windows, as ibis expressions that any engine can run.

    payment               an event with ids and no negative amount: a refund is no payment
    tile(user, day)       payments of a user on a calendar day of the platform's zone: distinct
                          event ids, and their amount
    window(user, day, n)  the sum of the tiles of day-n+1 .. day

`cohorts.services.tiles` runs them on DuckDB or Spark and keeps the tiles; `sql` renders them for a
company's own warehouse. Live ingest keeps the same tiles row by row; a test holds all of them to
an independent count. `event_id` and `paid_at` of a payment never change, so repeats of one event
meet in one tile. The engine's session must be set to UTC.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import ibis  # type: ignore[import-untyped]

from huidu.wire.profile import MONTH_DAYS, WEEK_DAYS

YEAR_DAYS: Final = 365

EVENTS: Final = ibis.schema(
    {
        "event_id": "string",
        "user_id": "string",
        "paid_at": "timestamp('UTC')",
        "amount_cny": "decimal(18, 2)",
    }
)
"""What a table of payments must have; moments are instants, told in UTC."""

TILES: Final = ibis.schema(
    {"user_id": "string", "day": "date", "count": "int64", "amount": "decimal(18, 2)"}
)
"""A tile may come in several rows, which add up: late payments append theirs."""

WINDOWS: Final[dict[str, tuple[str, int]]] = {
    "weekly": ("count", WEEK_DAYS),
    "monthly": ("count", MONTH_DAYS),
    "yearly_cny": ("amount", YEAR_DAYS),
}
"""Name of a window: what it adds up, over how many days."""

_TYPES: Final = {"count": "int64", "amount": "decimal(38, 2)"}

SHANGHAI: Final = datetime.timedelta(hours=8)
DayOf = Callable[[Any, datetime.timedelta], Any]
DIALECTS: Final = ("duckdb", "pyspark", "clickhouse", "trino", "flink", "postgres")


def payments(events: Any) -> Any:
    """The events that are payments; a missing amount is unknown, not a refund."""
    return events.filter(
        events.event_id != "",
        events.user_id != "",
        events.paid_at.notnull(),
        events.amount_cny.isnull() | (events.amount_cny >= 0),
    )


def day_of(moment: Any, utc_offset: datetime.timedelta) -> Any:
    """The calendar day of a moment.

    Args:
        utc_offset: of the zone. Shanghai has had no other since 1991-09-15. A fixed offset means
            the same to every engine, where names of zones may not.
    """
    minutes = int(utc_offset.total_seconds() // 60)
    return (moment.cast("timestamp") + ibis.interval(minutes=minutes)).date()


def tiles(events: Any, utc_offset: datetime.timedelta = SHANGHAI, day_of: DayOf = day_of) -> Any:
    """One row per user and day: ``user_id, day, count, amount``.

    Args:
        events: a table with the columns of `EVENTS`; an event may be there more than once.
        day_of: `day_of`, or what means the same to an engine and costs it less.
    """
    per_day = (
        _once(payments(events), utc_offset, day_of)
        .group_by(["user_id", "day"])
        .aggregate(
            count=lambda t: t.count(),
            amount=lambda t: t.amount_cny.sum().fill_null(0),
        )
    )
    return per_day.cast(dict(TILES.items()))


def tile_rows(
    events: Any,
    marks: Any,
    mark_of: Callable[[Any], Any],
    utc_offset: datetime.timedelta = SHANGHAI,
    day_of: DayOf = day_of,
) -> Any:
    """`tiles` with one row per payment, which add up to them: nothing is grouped but what repeats.

    Args:
        marks: in a column ``mark``, those of all events that are there more than once. Marks of
            others do no harm.
        mark_of: a number for an id, equal for equal ids.
    """
    kept = payments(events)
    marked = kept.mutate(mark=mark_of(kept.event_id))
    doubtful = marked.semi_join(marks, "mark")
    sure = marked.anti_join(marks, "mark").select(
        "user_id", day=lambda t: day_of(t.paid_at, utc_offset), amount_cny=lambda t: t.amount_cny
    )
    once = _once(doubtful, utc_offset, day_of).select("user_id", "day", "amount_cny")
    rows = ibis.union(sure, once)
    return rows.select(
        "user_id", "day", count=ibis.literal(1), amount=rows.amount_cny.fill_null(0)
    ).cast(dict(TILES.items()))


def _once(payments: Any, utc_offset: datetime.timedelta, day_of: DayOf) -> Any:
    # Repeats are equal but for what callers may have changed: the earliest moment decides.
    return payments.group_by("event_id").aggregate(
        user_id=lambda t: t.user_id.min(),
        day=lambda t: day_of(t.paid_at.min(), utc_offset),
        amount_cny=lambda t: t.amount_cny.min(),
    )


def repeats(events: Any, seen: Any) -> Any:
    """The ``event_id`` of events that are among those counted before, once each.

    Args:
        seen: events that were counted; only `event_id` is looked at.
    """
    return seen.semi_join(events.select("event_id"), "event_id").select("event_id").distinct()


def windows(tiles: Any, day: datetime.date) -> Any:
    """One row per user who paid in the year that ends with `day`: ``user_id`` and `WINDOWS`."""
    return _summed(_weighted(tiles, day, None))


def rolled(before: Any, old: Any, new: Any, was: datetime.date, day: datetime.date) -> Any:
    """`windows` of a later day from those of an earlier one: only what moved is read.

    Args:
        before: `windows` of the day `was`, over the tiles `old`.
        old: the tiles that `before` was made of.
        new: tiles that came since; None when none did.
    """
    edges = [
        (old.day > first - datetime.timedelta(days=days))
        & (old.day <= last - datetime.timedelta(days=days))
        for first, last in [(was, day)]
        for days in (0, *(days for _, days in WINDOWS.values()))
    ]
    moved = _weighted(old.filter(reduce(lambda a, b: a | b, edges)), day, was)
    parts = [before.select("user_id", *WINDOWS), moved]
    if new is not None:
        parts.append(_weighted(new, day, None))
    types = {name: _TYPES[what] for name, (what, _) in WINDOWS.items()}
    return _summed(ibis.union(*(part.cast(types) for part in parts)))


def _weighted(tiles: Any, day: datetime.date, was: datetime.date | None) -> Any:
    """What each tile adds to the windows of `day`; less what it added to those of `was`."""

    def inside(end: datetime.date, days: int) -> Any:
        first = end - datetime.timedelta(days=days - 1)
        return (tiles.day >= first) & (tiles.day <= end)

    added = {}
    longest = max(days for _, days in WINDOWS.values())
    for name, (what, days) in WINDOWS.items():
        figure = tiles[what]
        added[name] = ibis.cases((inside(day, days), figure), else_=0)
        if was is not None:
            added[name] = added[name] - ibis.cases((inside(was, days), figure), else_=0)
    if was is None:
        tiles = tiles.filter(inside(day, longest))
    return tiles.select("user_id", **added)


def _summed(parts: Any) -> Any:
    def total(name: str, what: str) -> Any:
        figure = parts[name].sum()
        # DuckDB adds whole numbers up in 128 bits, which Parquet has not: ibis calls both int64.
        return figure.cast("decimal(18, 0)").cast("int64") if what == "count" else figure

    sums = parts.group_by("user_id").aggregate(
        **{name: total(name, what).cast(_TYPES[what]) for name, (what, _) in WINDOWS.items()}
    )
    return sums.filter((sums.weekly != 0) | (sums.monthly != 0) | (sums.yearly_cny != 0))


def sql(dialect: str, day: datetime.date) -> str:
    """The windows of `day` over a table ``payments``, in an engine's SQL.

    Args:
        dialect: one of `DIALECTS`, or another that ibis knows.
    """
    table = ibis.table(EVENTS, name="payments")
    return str(ibis.to_sql(windows(tiles(table), day), dialect=dialect))


def tiles_sql(dialect: str) -> str:
    """The tiles of a table ``payments``, in an engine's SQL."""
    return str(ibis.to_sql(tiles(ibis.table(EVENTS, name="payments")), dialect=dialect))
