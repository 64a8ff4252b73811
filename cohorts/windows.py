"""The one definition of payment windows, as an ibis expression that any engine can run.

    tile(user, day)       payments of a user on a calendar day of the platform's zone: distinct
                          event ids, and their amount
    window(user, day, n)  the sum of the tiles of day-n+1 .. day

It runs on DuckDB here, and as SQL of Spark, ClickHouse, Trino and others in a company's warehouse
(`sql`). Live ingest keeps the same tiles row by row; a test holds both to an independent count.
`event_id` and `paid_at` of a payment never change, so repeats of one event meet in one tile. The
engine's session must be set to UTC.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

import ibis  # type: ignore[import-untyped]

from huidu.wire.profile import MONTH_DAYS, WEEK_DAYS

EVENTS: Final = ibis.schema(
    {
        "event_id": "string",
        "user_id": "string",
        "paid_at": "timestamp('UTC')",
        "amount_cny": "decimal(18, 2)",
    }
)
"""What a table of payments must have; moments are instants, told in UTC."""


def tiles(events: Any, utc_offset: datetime.timedelta = datetime.timedelta(hours=8)) -> Any:
    """One row per user and day: ``user_id, day, count, amount``.

    Args:
        events: a table with the columns of `EVENTS`; an event may be there more than once.
        utc_offset: of the platform's zone. Shanghai has had no other since 1991-09-15. A fixed
            offset means the same to every engine, where names of zones may not.
    """
    minutes = int(utc_offset.total_seconds() // 60)
    local = events.paid_at.cast("timestamp") + ibis.interval(minutes=minutes)
    once = (
        events.mutate(day=local.date())
        .group_by("event_id")
        # Repeats are equal but for what callers may have changed: the earliest moment decides.
        .aggregate(
            user_id=lambda t: t.user_id.min(),
            day=lambda t: t.day.min(),
            amount_cny=lambda t: t.amount_cny.min(),
        )
    )
    return once.group_by(["user_id", "day"]).aggregate(
        count=lambda t: t.count(),
        amount=lambda t: t.amount_cny.sum().fill_null(0),
    )


def windows(tiles: Any, day: datetime.date) -> Any:
    """One row per user who paid in the month that ends with `day`: ``user_id, weekly, monthly``."""
    first_of_week = day - datetime.timedelta(days=WEEK_DAYS - 1)
    first_of_month = day - datetime.timedelta(days=MONTH_DAYS - 1)
    recent = tiles.filter((tiles.day >= first_of_month) & (tiles.day <= day))
    return recent.group_by("user_id").aggregate(
        weekly=lambda t: ibis.cases((t.day >= first_of_week, t["count"]), else_=0).sum(),
        monthly=lambda t: t["count"].sum(),
    )


def counts_of_files(
    pattern: str, day: datetime.date, columns: Mapping[str, str] | None = None
) -> dict[str, tuple[int, int]]:
    """Weekly and monthly payments by user, from CSV or Parquet files, by DuckDB.

    Args:
        pattern: path or glob of the files.
        columns: our name: the files' name, where they differ.
    """
    connection = ibis.duckdb.connect()
    try:
        connection.raw_sql("SET TimeZone = 'UTC'")
        if pattern.endswith(".parquet"):
            events = connection.read_parquet(pattern)
        else:
            # As text: a guess would take the user "00042" for the number 42.
            events = connection.read_csv(pattern, all_varchar=True)
        for ours, theirs in (columns or {}).items():
            events = events.rename({ours: theirs})
        if "amount_cny" not in events.columns:
            events = events.mutate(amount_cny=ibis.null("decimal(18, 2)"))
        events = events.select(*EVENTS.names).cast(dict(EVENTS.items()))
        rows = windows(tiles(events), day).to_pyarrow().to_pylist()
    finally:
        connection.disconnect()
    return {row["user_id"]: (int(row["weekly"]), int(row["monthly"])) for row in rows}


def sql(dialect: str, day: datetime.date) -> str:
    """The windows of `day` over a table ``payments``, in an engine's SQL.

    Args:
        dialect: as ibis names it: ``duckdb``, ``pyspark``, ``clickhouse``, ``trino``, ``flink``...
    """
    payments = ibis.table(EVENTS, name="payments")
    return str(ibis.to_sql(windows(tiles(payments), day), dialect=dialect))
