"""Holds the live daily counts against a warehouse's tiles: tells the drift, and takes it away.

Nothing is remembered between runs: what was applied no longer differs, so a killed run goes on by
being run again. A count that live payments moved after it was compared is left alone, for the next
run: an acknowledged payment is never overwritten unseen.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import ibis  # type: ignore[import-untyped]
import msgspec
from django.db import connection, transaction

from cohorts import windows
from cohorts.safe_csv import write_rows
from cohorts.services.engines import DuckDB
from cohorts.services.ingest import ingest_profiles
from cohorts.services.items import id_fault
from cohorts.services.outbox import MARK
from cohorts.services.tile_store import Store
from huidu.errors import InputError
from huidu.wire import ring

CHUNK: Final = 5_000
"""Differing days that are applied in one transaction."""

_HELD: Final = """
COPY (SELECT user_id, day, count, amount FROM cohorts_dailypayments
      WHERE day BETWEEN {first} AND {last}) TO STDOUT (FORMAT csv)
"""

_HELD_SPENDS: Final = """
COPY (SELECT user_id, yearly_spend_cny FROM cohorts_profile) TO STDOUT (FORMAT csv)
"""
_READ_HELD: Final = """
CREATE TEMP TABLE held AS SELECT * FROM read_csv({file}, header=false, columns={{
    'user_id': 'VARCHAR', 'day': 'DATE', 'count': 'BIGINT', 'amount': 'DECIMAL(30, 2)'}})
"""
_COMPARE_SPENDS: Final = """
CREATE TEMP TABLE spend AS
SELECT held.user_id, coalesce(told.yearly_cny, 0)::DECIMAL(30, 2) AS yearly_cny
FROM read_csv({file}, header=false, columns={{
    'user_id': 'VARCHAR', 'spend': 'DECIMAL(30, 2)'}}) AS held
LEFT JOIN ({told}) AS told USING (user_id)
WHERE held.spend IS DISTINCT FROM coalesce(told.yearly_cny, 0)
"""
_DRIFT: Final = """
SELECT user_id, day, was, was_amount, count, amount FROM drift WHERE {wanted} ORDER BY user_id, day
"""

# In the order of ingest: daily counts, profiles, outbox; each sorted. Only what is still as it was
# compared is changed.
_APPLY: Final = f"""
WITH sent AS (
    SELECT * FROM unnest(%(users)s::text[], %(days)s::date[], %(was)s::bigint[],
                         %(was_amount)s::numeric[], %(count)s::bigint[], %(amount)s::numeric[])
    AS t (user_id, day, was, was_amount, count, amount)
),
same AS (
    SELECT held.user_id, held.day, sent.count, sent.amount
    FROM cohorts_dailypayments AS held JOIN sent USING (user_id, day)
    WHERE held.count = sent.was AND held.amount = sent.was_amount
    ORDER BY held.user_id, held.day FOR UPDATE OF held
),
lowered AS (
    DELETE FROM cohorts_dailypayments AS held USING same
    WHERE held.user_id = same.user_id AND held.day = same.day AND same.count = 0
    RETURNING held.user_id
),
moved AS (
    UPDATE cohorts_dailypayments AS held SET count = same.count, amount = same.amount FROM same
    WHERE held.user_id = same.user_id AND held.day = same.day AND same.count > 0
    RETURNING held.user_id
),
made AS (
    INSERT INTO cohorts_dailypayments (user_id, day, count, amount)
    SELECT user_id, day, count, amount FROM sent
    WHERE was = 0 AND count > 0 AND (SELECT count(*) FROM same) >= 0 ORDER BY user_id, day
    ON CONFLICT (user_id, day) DO NOTHING
    RETURNING user_id
),
touched AS (
    SELECT user_id FROM lowered UNION ALL SELECT user_id FROM moved
    UNION ALL SELECT user_id FROM made
),
payers AS (SELECT DISTINCT user_id FROM touched),
known AS (
    INSERT INTO cohorts_profile (user_id, attributes, updated_at)
    SELECT user_id, '{{}}', %(now)s FROM payers ORDER BY user_id
    ON CONFLICT (user_id) DO NOTHING
    RETURNING user_id
),
changed AS (SELECT user_id FROM payers WHERE (SELECT count(*) FROM known) >= 0),
marked AS ({MARK.format(source="changed")})
SELECT (SELECT count(*) FROM touched), (SELECT count(*) FROM marked)
"""  # noqa: S608 - no input in it


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How the live counts differ from the tiles, over the days of the packed profiles.

    Args:
        first: the first day compared; the last is the day asked for.
        days: (user, day) pairs that differ.
        most: the largest difference of one user's payments over the days compared.
        missing: payments in the warehouse that are not held.
        surplus: payments held that the warehouse does not have.
        lowered: users who would have fewer payments than now.
        spends: users whose held yearly spend differs; None when it was not compared.
        unfit: users whose ids a profile cannot have; left out.
    """

    first: datetime.date
    last: datetime.date
    users: int
    days: int
    most: int
    missing: int
    surplus: int
    lowered: int
    compared: int
    spends: int | None
    unfit: int


class Comparison:
    """The differences between the tiles and the rows, in a DuckDB of their own."""

    def __init__(self, store: Store, engine: DuckDB, day: datetime.date, scratch: Path) -> None:
        self._store = store
        self._engine = engine
        self._day = day
        self._scratch = scratch
        complete = store.state.complete_from
        if complete is None:
            raise InputError(
                "expected --complete-from DAY: the first day of which the source files hold all "
                "payments; earlier days are not compared"
            )
        self.first = max(complete, day - datetime.timedelta(days=ring.DAYS - 1))
        if self.first > day:
            raise InputError(f"the source files are complete from {complete}, after {day}")

    def drift(self, *, spend: bool) -> Drift:
        """Compare: daily counts of the days a packed profile holds and, if asked, yearly spend."""
        tiles = [
            batch.part
            for batch in self._store.state.batches
            if any(self.first <= day <= self._day for day in batch.days)
        ]
        if not tiles:
            raise InputError(f"the source files hold no payments from {self.first} to {self._day}")
        raw = self._engine.raw
        raw("DROP TABLE IF EXISTS held; DROP TABLE IF EXISTS told; DROP TABLE IF EXISTS drift")
        held = self._scratch / "held.csv"
        _export(_HELD.format(first=f"'{self.first}'", last=f"'{self._day}'"), held)
        raw(_READ_HELD.format(file=_quoted(held)))
        held.unlink()
        table = self._store.tiles(self._engine, tiles)
        days = table.filter((table.day >= self.first) & (table.day <= self._day))
        sums = days.group_by(["user_id", "day"]).aggregate(
            count=days["count"].sum(), amount=days.amount.sum()
        )
        raw(f"CREATE TEMP TABLE told AS {ibis.to_sql(sums, dialect='duckdb')}")
        # A day without one payment in the warehouse is missing there: no quiet day.
        raw(
            "CREATE TEMP TABLE drift AS SELECT coalesce(t.user_id, h.user_id) AS user_id,"
            " coalesce(t.day, h.day) AS day, coalesce(h.count, 0) AS was,"
            " coalesce(h.amount, 0) AS was_amount, coalesce(t.count, 0)::BIGINT AS count,"
            " coalesce(t.amount, 0)::DECIMAL(30, 2) AS amount"
            " FROM told AS t FULL JOIN held AS h ON t.user_id = h.user_id AND t.day = h.day"
            " WHERE coalesce(t.day, h.day) IN (SELECT DISTINCT day FROM told)"
            " AND (coalesce(t.count, 0) <> coalesce(h.count, 0)"
            " OR coalesce(t.amount, 0) <> coalesce(h.amount, 0))"
        )
        unfit = self._leave_out_unfit()
        ((users, days_differing, most, missing, surplus, lowered),) = raw(
            "SELECT count(*), coalesce(sum(days), 0), coalesce(max(abs(more)), 0),"
            " coalesce(sum(missing), 0), coalesce(sum(surplus), 0),"
            " count(*) FILTER (more < 0) FROM (SELECT user_id, count(*) AS days,"
            " sum(count - was) AS more, sum(greatest(count - was, 0)) AS missing,"
            " sum(greatest(was - count, 0)) AS surplus FROM drift GROUP BY user_id)"
        ).fetchall()
        ((compared,),) = raw(
            "SELECT count(*) FROM (SELECT user_id FROM told UNION SELECT user_id FROM held)"
        ).fetchall()
        return Drift(
            first=self.first,
            last=self._day,
            users=users,
            days=int(days_differing),
            most=int(most),
            missing=int(missing),
            surplus=int(surplus),
            lowered=lowered,
            compared=compared,
            spends=self._compare_spend() if spend else None,
            unfit=unfit,
        )

    def _leave_out_unfit(self) -> int:
        """Ids that ingest would refuse: control characters."""
        raw = self._engine.raw
        found = raw(
            "SELECT DISTINCT user_id FROM drift WHERE regexp_matches(user_id, '[\\x00-\\x1f\\x7f]')"
        ).fetchall()
        unfit = [user for (user,) in found if id_fault(user)]
        for user in unfit:
            raw(f"DELETE FROM drift WHERE user_id = {_quoted(user)}")  # noqa: S608 - quoted
        return len(unfit)

    def _compare_spend(self) -> int:
        complete = self._store.state.complete_from
        first = self._day - datetime.timedelta(days=windows.YEAR_DAYS - 1)
        if complete is None or complete > first:
            raise InputError(
                f"yearly spend on {self._day} needs payments from {first} on; "
                f"the source files are complete from {complete}"
            )
        held = self._scratch / "spend.csv"
        _export(_HELD_SPENDS, held)
        raw = self._engine.raw
        made = self._store.state.windows
        if made is None or made.day != self._day:
            raise InputError(f"the windows of {self._day} have not been made")
        told = self._engine.parquet([self._store.path(made.part)])
        raw("DROP TABLE IF EXISTS spend")
        raw(_COMPARE_SPENDS.format(file=_quoted(held), told=ibis.to_sql(told, dialect="duckdb")))
        held.unlink()
        ((users,),) = raw("SELECT count(*) FROM spend").fetchall()
        return int(users)

    def write_report(self, path: Path) -> None:
        """The differing days as CSV."""
        rows = self._rows("SELECT user_id, day, was, count, was_amount, amount FROM drift", CHUNK)
        with path.open("w", newline="", encoding="utf-8") as file:
            head = ["user_id", "day", "held", "warehouse", "held_cny", "warehouse_cny"]
            write_rows(file, [head])
            for some in rows:
                write_rows(file, some)

    def apply(
        self,
        now: datetime.datetime,
        *,
        only_raise: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[int, int]:
        """Make the live counts what the tiles say; how many days moved, and how many did not.

        Args:
            only_raise: leave alone where more is held than the warehouse has.
            progress: told how many more differing days were gone through.
        """
        wanted = "count > was" if only_raise else "true"
        applied = left = 0
        for rows in self._rows(_DRIFT.format(wanted=wanted), CHUNK):
            moved = _apply(rows, now)
            applied += moved
            left += len(rows) - moved
            if progress is not None:
                progress(len(rows))
        return applied, left

    def apply_spend(
        self, now: datetime.datetime, progress: Callable[[int], object] | None = None
    ) -> int:
        """Bring `yearly_spend_cny` of known users up to date; how many."""
        users = 0
        for rows in self._rows("SELECT user_id, yearly_cny FROM spend ORDER BY user_id", CHUNK):
            items = [{"user_id": user, "yearly_spend_cny": spend} for user, spend in rows]
            users += ingest_profiles(items, now, pack=False).accepted
            if progress is not None:
                progress(len(rows))
        return users

    def _rows(self, sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._engine.raw(sql)
        while rows := cursor.fetchmany(size):
            yield rows


def _apply(rows: Sequence[tuple[Any, ...]], now: datetime.datetime) -> int:
    users, days, was, was_amount, count, amount = (
        list(column) for column in zip(*rows, strict=True)
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            _APPLY,
            {
                "users": users,
                "days": days,
                "was": was,
                "was_amount": [Decimal(each) for each in was_amount],
                "count": count,
                "amount": [Decimal(each) for each in amount],
                "now": now,
            },
        )
        moved: int = cursor.fetchall()[0][0]
    return moved


def _export(sql: str, path: Path) -> None:
    """What PostgreSQL copies out, in bounded memory."""
    with path.open("wb") as file, connection.cursor() as cursor, cursor.copy(sql) as copy:
        for block in copy:
            file.write(block)


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
