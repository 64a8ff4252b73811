"""What happened to users, as a warehouse tells it: one SELECT that answers one row per happening.

    SELECT customer AS user_id, paid AS at, amount AS value FROM loans

    user_id      text                the user, by the id that checks are asked with
    at           a moment or date    when it happened; without a zone it is UTC
    value        a number            as events carry it, by kind of metric; by default 1
    denominator  a number            for ratios: out of how many requests
    event_id     text                optional: rows that share one count once
    loaded_at    a moment            optional: the source is complete up to its latest one

The query is asked for all of a stage's time at every reading, so a row that comes late, changes or
goes away restates its hour. Arms, weights and hours are added here, by one ibis expression: whoever
writes the query needs no statistics, and cannot get them wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import ibis  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]

from rollout.models import Metric
from rollout.services.sources.sample import SourceError
from rollout.services.sources.warehouse import only_a_select, session, wrapped

DEADLINE_SECONDS: Final = 120.0
TRY_SECONDS: Final = 15.0
AHEAD: Final = timedelta(minutes=5)
"""As of events: a later row would make the source look fresh."""

LARGEST_VALUE: Final = 1e15
FIRST_ROWS: Final = 10
HOUR_US: Final = 3_600_000_000
FOREVER_US: Final = 2**62

Kind = Metric.Kind
NEEDS_VALUE: Final = frozenset({Kind.LATENCY, Kind.MEAN, Kind.USERS_RATIO})
_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
_TYPES: Final = {
    "user_id": ("text", ("VARCHAR",)),
    "event_id": ("text", ("VARCHAR",)),
    "at": ("a moment or a date", ("TIMESTAMP", "DATE")),
    "loaded_at": ("a moment or a date", ("TIMESTAMP", "DATE")),
    "value": ("a number", (*_NUMBERS, "U", "DECIMAL", "BOOLEAN")),
    "denominator": ("a number", (*_NUMBERS, "U", "DECIMAL")),
}

WINDOWS: Final = pa.schema(
    {
        "exposure": pa.int64(),
        "user_id": pa.string(),
        "arm": pa.string(),
        "stratum": pa.int32(),
        "epoch": pa.int32(),
        "chance_ppb": pa.int64(),
        "starts_us": pa.int64(),
        "ends_us": pa.int64(),
    }
)
"""When a user's happenings count, and where: microseconds since 1970, the end not included."""

type_of_key = tuple[str, int, int, int]
"""Arm, weight, epoch and chance (ppb): one series of cells."""


class Counted(NamedTuple):
    """Cumulative numbers by series and hour (users with a row first, then `sums` of the kind),
    and up to when the source is complete."""

    cells: dict[type_of_key, dict[datetime, list[float]]]
    complete_to: datetime


class FirstRows(NamedTuple):
    """What a query answers: columns with their types, the first rows, and the latest moment."""

    columns: dict[str, str]
    rows: list[dict[str, Any]]
    latest: datetime | None
    total: int


def first_rows(metric: Metric, *, now: datetime) -> FirstRows:
    """Ask the query once, change nothing, and show what it answers.

    Raises:
        SourceError: it could not be counted as it is; the sentence says why.
    """
    with _rows(metric, TRY_SECONDS) as (connection, columns):
        found = connection.con.sql("SELECT * FROM huidu_given LIMIT 10").to_arrow_table()
        total, latest = _check(connection, metric, now)
        rows = [{name: _shown(each[name]) for name in each} for each in found.to_pylist()]
        return FirstRows(columns, rows, latest, total)


def count(metric: Metric, windows: pa.Table, *, now: datetime, deadline: float) -> Counted:
    """The cells of one metric for these users.

    Args:
        windows: of schema `WINDOWS`; a user's windows share their `exposure` and do not overlap.
        deadline: seconds until the query is interrupted.
    Raises:
        SourceError: the source is away, empty, or tells something that cannot be true.
    """
    with _rows(metric, deadline) as (connection, _columns):
        _total, latest = _check(connection, metric, now)
        if latest is None:
            raise SourceError("the query answers no row: unknown, not zero", code="source.empty")
        connection.con.register("huidu_windows", windows)
        query = str(ibis.to_sql(_growth(metric, windows.schema), dialect="duckdb"))
        grown = connection.con.sql(query).to_arrow_table().to_pylist()
    return Counted(_cumulated(grown), min(latest, now))


@contextmanager
def _rows(metric: Metric, deadline: float) -> Iterator[tuple[Any, dict[str, str]]]:
    """A session in which ``huidu_rows`` is the query's answer with the types that are expected."""
    only_a_select(metric.query)
    with session(deadline) as connection:
        connection.con.execute(
            f"CREATE TEMP VIEW huidu_given AS {wrapped(metric.query)}"
        ).fetchall()
        told = connection.con.sql("DESCRIBE huidu_given").to_arrow_table().to_pylist()
        columns = {str(row["column_name"]).lower(): str(row["column_type"]) for row in told}
        _check_columns(metric, columns)
        connection.con.execute(_typed(metric, columns)).fetchall()
        yield connection, columns


def _check_columns(metric: Metric, columns: dict[str, str]) -> None:
    needed = ["user_id", "at", *(["value"] if metric.kind in NEEDS_VALUE else [])]
    allowed = [*needed, "value", "event_id", "loaded_at"]
    if metric.kind == Kind.USERS_RATIO:
        allowed.append("denominator")
    for name in needed:
        if name not in columns:
            raise SourceError(
                f"expected columns {', '.join(needed)}, got {', '.join(columns)}: {name} is "
                "missing",
                code="source.columns",
            )
    for name, kind in columns.items():
        if name not in allowed:
            raise SourceError(
                f"column {name[:60]!r}: expected only {', '.join(dict.fromkeys(allowed))} for a "
                f"metric of kind {metric.kind}",
                code="source.columns",
            )
        words, starts = _TYPES[name]
        if not kind.startswith(starts) or kind.endswith("]"):
            raise SourceError(
                f"column {name}: expected {words}, got {kind}; a CAST in the query may do",
                code="source.columns",
            )


def _typed(metric: Metric, columns: dict[str, str]) -> str:
    value = "1.0" if "value" not in columns else "CAST(value AS DOUBLE)"
    of = "CAST(denominator AS DOUBLE)" if "denominator" in columns else "CAST(NULL AS DOUBLE)"
    # Of rows that share an id the first counts, so that no order of reading matters.
    once = (
        " QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY at_us, value, user_id) = 1"
        if "event_id" in columns
        else ""
    )
    loaded = 'epoch_us(CAST("loaded_at" AS TIMESTAMP))' if "loaded_at" in columns else "at_us"
    if columns.get("loaded_at", "").startswith("TIMESTAMP WITH"):
        loaded = "epoch_us(loaded_at)"
    moment = 'epoch_us("at")'
    if not columns["at"].startswith("TIMESTAMP WITH"):
        moment = 'epoch_us(CAST("at" AS TIMESTAMP))'
    return (
        "CREATE TEMP VIEW huidu_rows AS "  # noqa: S608 - our own names
        f"SELECT user_id, {moment} AS at_us, {value} AS value, {of} AS of, {loaded} AS loaded_us "
        f"FROM huidu_given{once}"
    )


_FAULTS: Final = (
    ("user_id IS NULL OR user_id = ''", "have no user_id"),
    ("at_us IS NULL", "have no moment in column at"),
    ("loaded_us IS NULL AND at_us IS NOT NULL", "have no moment in column loaded_at"),
    ("value IS NULL", "have no value: unknown, not zero"),
    ("NOT isfinite(value)", "have a value that is no finite number"),
    (f"abs(value) > {LARGEST_VALUE:.0f}", f"have a value beyond {LARGEST_VALUE:g}"),
    ("NOT isfinite(of)", "have a denominator that is no finite number"),
    ("of < value", "count more than their denominator"),
)


def _check(connection: Any, metric: Metric, now: datetime) -> tuple[int, datetime | None]:
    """How many rows there are, and the moment up to which the source is complete.

    Raises:
        SourceError: rows that cannot be true, with their number and the reason.
    """
    faults = list(_FAULTS)
    if metric.kind != Kind.MEAN:
        faults.insert(4, ("value < 0", f"have a negative value, where {metric.kind} counts from 0"))
    late = _us(now + AHEAD)
    faults.append((f"greatest(at_us, loaded_us) > {late}", "lie in the future"))
    asked = ", ".join(f"count(*) FILTER (WHERE {where})" for where, _ in faults)
    (row,) = connection.con.execute(
        f"SELECT count(*), max(loaded_us), {asked} FROM huidu_rows"  # noqa: S608 - our own names
    ).fetchall()
    for found, (_where, sentence) in zip(row[2:], faults, strict=True):
        if found:
            raise SourceError(f"{found:,} of {row[0]:,} rows {sentence}", code="source.impossible")
    latest = None if row[1] is None else datetime.fromtimestamp(row[1] / 1e6, UTC)
    return int(row[0]), latest


def _growth(metric: Metric, windows: Any) -> Any:
    """By how much each cell grew in each hour, as an ibis expression.

    Users' sums are taken before anything is squared or capped; the growth of an hour is what the
    user contributes by its end, less what was contributed by the end of the hour before.
    """
    rows = ibis.table(
        {"user_id": "string", "at_us": "int64", "value": "float64", "of": "float64"},
        name="huidu_rows",
    )
    users = ibis.table(ibis.Schema.from_pyarrow(windows), name="huidu_windows").rename(
        windowed="user_id"
    )
    inside = (rows.at_us >= users.starts_us) & (rows.at_us < users.ends_us)
    met = rows.join(users, (rows.user_id == users.windowed) & inside)
    # A bad request without a word on how many there were is one of at least as many.
    of = ibis.coalesce(met.of, ibis.greatest(met.value, 1.0))
    series = ("arm", "stratum", "epoch", "chance_ppb")
    by_user = (
        met.mutate(hour=met.at_us // HOUR_US, of_all=of)
        .group_by("exposure", *series, "hour")
        .aggregate(
            value=lambda t: t.value.sum(), of=lambda t: t.of_all.sum(), most=lambda t: t.value.max()
        )
    )
    so_far = ibis.cumulative_window(group_by="exposure", order_by=["hour", "epoch"])
    known = by_user.mutate(
        value=by_user.value.sum().over(so_far),
        of=by_user.of.sum().over(so_far),
        most=by_user.most.max().over(so_far),
    )
    numbers = [ibis.literal(1.0), *_contribution(metric, known)]
    told = known.mutate(**{f"n{i}": each for i, each in enumerate(numbers)})
    before = ibis.window(group_by="exposure", order_by=["hour", "epoch"])
    names = [f"n{i}" for i in range(len(numbers))]
    grown = told.mutate(
        **{name: told[name] - told[name].lag().over(before).fill_null(0.0) for name in names}
    )
    sums = {name: grown[name].sum() for name in names}
    return grown.group_by([*series, "hour"]).aggregate(**sums)


def _contribution(metric: Metric, known: Any) -> list[Any]:
    """What a user's sums add to a cell: the twin of `UserSum.sums`, held to it by a test."""
    kind, value, of = metric.kind, known.value, known.of
    if kind == Kind.USERS_RATIO:
        return [_one(value > 0), value, of, value * value, of * of, value * of]
    if kind == Kind.LATENCY:
        return [_one(known.most > edge) for edge in metric.edges]
    if kind in (Kind.MEAN, Kind.COUNT):
        capped = value if metric.cap is None else ibis.least(value, metric.cap)
        return [value, value * value, capped, capped * capped]
    return [_one(known.most > 0)]


def _one(holds: Any) -> Any:
    return holds.cast("int64").cast("float64")


def _cumulated(grown: list[dict[str, Any]]) -> dict[type_of_key, dict[datetime, list[float]]]:
    cells: dict[type_of_key, dict[datetime, list[float]]] = defaultdict(dict)
    names = [name for name in (grown[0] if grown else ()) if name.startswith("n")]
    for row in sorted(grown, key=lambda each: each["hour"]):
        key = (row["arm"], row["stratum"], row["epoch"], row["chance_ppb"])
        hour = datetime.fromtimestamp(row["hour"] * 3600, UTC)
        before = next(reversed(cells[key].values()), [0.0] * len(names))
        cells[key][hour] = [a + float(row[name]) for a, name in zip(before, names, strict=True)]
        if not all(map(math.isfinite, cells[key][hour])):
            raise SourceError("the sums are no finite numbers", code="source.impossible")
    return dict(cells)


def _shown(value: Any) -> Any:
    """A value as JSON and people can read it."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return value if value is None or isinstance(value, int | float) else str(value)[:200]


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
