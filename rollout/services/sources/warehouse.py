"""Readings from a warehouse: one SELECT that answers one row.

    SELECT sum(bad) / sum(loans) AS value, max(loaded_at) AS at FROM daily_loans

`value` is the reading, `at` (optional) the moment it was true; without it, now. The file is
opened for reading only, without access to other files, extensions or the network, and the query is
interrupted at its deadline. Dates without a zone are taken as UTC.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import ibis  # type: ignore[import-untyped]
import sqlglot
from django.conf import settings
from sqlglot import exp
from sqlglot.errors import SqlglotError

from rollout.services.sources.sample import FRESH, Sample, SourceError, finite, fresh

DEADLINE_SECONDS: Final = 20.0
MEMORY: Final = "1GB"


def read(
    query: str,
    *,
    now: datetime,
    deadline: float = DEADLINE_SECONDS,
    most: timedelta = FRESH,
) -> Sample:
    """The query's one value.

    Args:
        deadline: seconds until the query is interrupted.
        most: how old its moment may be.
    Raises:
        SourceError: not one SELECT, it failed or took too long, not one row, not a number, or old.
    """
    only_a_select(query)
    rows = _run(query, deadline)
    if len(rows) != 1:
        raise SourceError(
            "expected one row, got none" if not rows else "expected one row, got several",
            code="source.several" if rows else "source.empty",
        )
    row = {str(name).lower(): value for name, value in rows[0].items()}
    if "value" not in row:
        if len(row) != 1:
            raise SourceError(
                f"expected a column `value`, got {', '.join(row)}", code="source.no_number"
            )
        row = {"value": next(iter(row.values()))}
    value = row["value"]
    if value is None:
        raise SourceError("the value is NULL: unknown, not zero", code="source.empty")
    number = finite(float(value) if isinstance(value, Decimal) else value)
    return Sample(number, fresh(_moment(row["at"]), now, most) if "at" in row else now)


def only_a_select(query: str) -> None:
    """Refuse everything but one SELECT.

    Raises:
        SourceError: it cannot be read as SQL, is several statements, or would change something.
    """
    try:
        found = [each for each in sqlglot.parse(query, dialect="duckdb") if each is not None]
    except SqlglotError as error:
        raise SourceError(f"the query is no SQL: {str(error)[:200]}") from error
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        raise SourceError("expected one SELECT statement", code="source.refused")


@contextmanager
def session(deadline: float) -> Iterator[Any]:
    """A read-only connection that is interrupted at its deadline, in seconds.

    Raises:
        SourceError: the warehouse cannot be opened, a query failed, or it took too long.
    """
    connection = _open()
    timer = threading.Timer(deadline, connection.con.interrupt)
    timer.start()
    try:
        yield connection
    except SourceError:
        raise
    except duckdb.InterruptException as error:
        raise SourceError(
            f"the query took longer than {deadline:g} s and was stopped", code="source.away"
        ) from error
    except Exception as error:  # ibis, sqlglot and duckdb each have errors of their own
        raise SourceError(f"the query failed: {str(error)[:300]}", code="source.refused") from error
    finally:
        timer.cancel()
        connection.disconnect()


def wrapped(query: str) -> str:
    """The query as a table of another one."""
    # The line breaks keep a comment at the end of the query from eating the bracket.
    return f"(\n{query.strip().rstrip(';')}\n)"


def _run(query: str, deadline: float) -> list[dict[str, Any]]:
    """Two rows at most: enough to see that there is not one."""
    limited = f"SELECT * FROM {wrapped(query)} LIMIT 2"  # noqa: S608 - an operator's own query
    with session(deadline) as connection:
        # Arrow keeps zones without packages that DuckDB's own rows would need.
        found: list[dict[str, Any]] = connection.con.sql(limited).to_arrow_table().to_pylist()
        return found


def _open() -> Any:
    url = str(getattr(settings, "HUIDU_WAREHOUSE_URL", "") or "")
    if not url:
        raise SourceError("no warehouse is configured: set HUIDU_WAREHOUSE_URL")
    path = Path(url.removeprefix("duckdb://"))
    try:
        return ibis.duckdb.connect(
            path,
            read_only=True,
            enable_external_access=False,
            autoinstall_known_extensions=False,
            memory_limit=MEMORY,
            threads=1,
        )
    except Exception as error:  # locked by a writer, missing, or no DuckDB file
        raise SourceError(
            f"the warehouse cannot be opened: {str(error)[:200]}", code="source.away"
        ) from error


def _moment(at: Any) -> datetime:
    if isinstance(at, datetime):
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if isinstance(at, date):
        return datetime(at.year, at.month, at.day, tzinfo=UTC)
    raise SourceError(f"expected a moment in column `at`, got {at!r}", code="source.no_number")
