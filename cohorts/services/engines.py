"""The engines that run `cohorts.windows` over files: DuckDB here, Spark by one setting."""

from __future__ import annotations

import datetime
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import ibis  # type: ignore[import-untyped]
import ibis.expr.datatypes as dt  # type: ignore[import-untyped]
import numpy

from cohorts import windows
from cohorts.services import files
from huidu.errors import InputError

NAMES: Final = ("duckdb", "spark")

# A time, then an offset: the day of "2026-05-20" must not pass for one.
_HAS_OFFSET: Final = r":[0-9]{2}.*([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$"


_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_DAY_US: Final = 86_400_000_000
_BEFORE_1970: Final = 719_528
"""Days from year 0: from there on, a division towards 0 goes down."""


class Engine(Protocol):
    """Reads payments, runs expressions over them, and writes Parquet."""

    name: str
    sorts_marks: bool
    """Whether `repeated` is cheaper than grouping by ids."""

    def read(self, paths: Sequence[Path]) -> Any:
        """Files of one kind, as they are: CSV as text."""

    def parquet(self, paths: Sequence[Path]) -> Any:
        """Parquet files, or folders of them, that an engine wrote."""

    def instant(self, local: Any, zone: str) -> Any:
        """The moment of a local time in a zone."""

    def day_of(self, moment: Any, utc_offset: datetime.timedelta) -> Any:
        """`windows.day_of`, as is cheapest here."""

    def mark_of(self, event_id: Any) -> Any:
        """A number for an id, equal for equal ids as long as the engine is open."""

    def kept(self, table: Any) -> Any:
        """The table, worked out once if it is asked for more than once."""

    def repeated(self, marks: Any) -> Any:
        """The marks that a column ``mark`` holds more than once."""

    def write(self, table: Any, path: Path) -> None:
        """One Parquet file, or a folder of them; whole once the call returns."""

    def rows(self, table: Any) -> list[dict[str, Any]]:
        """A small table."""

    def close(self) -> None: ...


def engine(name: str, *, memory: str, scratch: Path, spark_master: str) -> Engine:
    """The engine of that name.

    Args:
        memory: how much DuckDB may take before it goes on in `scratch`, such as ``3GB``.
        spark_master: where Spark runs, such as ``local[*]`` or ``spark://host:7077``.
    Raises:
        InputError: no such engine, or Spark or Java is missing.
    """
    if name == "duckdb":
        return DuckDB(memory, scratch)
    if name == "spark":
        return Spark(spark_master, memory)
    raise InputError(f"expected an engine of {', '.join(NAMES)}, got {name!r}")


class DuckDB:
    """In this process, with bounded memory."""

    name = "duckdb"
    sorts_marks = True

    def __init__(self, memory: str, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._connection = ibis.duckdb.connect()
        for name, value in {
            "TimeZone": "UTC",
            "memory_limit": memory,
            "temp_directory": str(scratch),
            "preserve_insertion_order": "false",
        }.items():
            try:
                self._connection.raw_sql(f"SET {name} = '{value.replace(chr(39), '')}'")
            except Exception as error:
                raise InputError(f"DuckDB refused {name}={value!r}: {error}") from error

    def read(self, paths: Sequence[Path]) -> Any:
        texts = [str(path) for path in paths]
        try:
            if files.is_parquet(paths[0]):
                return self._connection.read_parquet(texts, union_by_name=True)
            # As text: a guess would take the user "00042" for the number 42.
            return self._connection.read_csv(
                texts, all_varchar=True, header=True, union_by_name=True
            )
        except Exception as error:
            raise InputError(f"{paths[0].name}: {_first_line(error)}") from error

    def parquet(self, paths: Sequence[Path]) -> Any:
        return self._connection.read_parquet(
            [str(path / "*.parquet" if path.is_dir() else path) for path in paths]
        )

    def instant(self, local: Any, zone: str) -> Any:
        return _timezone(zone, local)

    def day_of(self, moment: Any, utc_offset: datetime.timedelta) -> Any:
        # In whole numbers: a quarter of what a cast, an interval and a date cost it.
        shift = utc_offset // _MICROSECOND + _BEFORE_1970 * _DAY_US
        number = _divide(_epoch_us(moment) + shift, _DAY_US) - _BEFORE_1970
        return _make_date(number.cast("int32"))

    def mark_of(self, event_id: Any) -> Any:
        return _hash(event_id)

    def kept(self, table: Any) -> Any:
        try:
            return self._connection.create_table(ibis.util.gen_name("huidu"), table, temp=True)
        except Exception as error:
            raise InputError(_first_line(error)) from error

    def repeated(self, marks: Any) -> Any:
        # Sorting numbers costs a fifth of what grouping texts does.
        try:
            numbers = self._connection.to_pyarrow(marks)["mark"].to_numpy().copy()
        except Exception as error:
            raise InputError(_first_line(error)) from error
        numbers.sort()
        again = numpy.unique(numbers[1:][numbers[1:] == numbers[:-1]])
        return ibis.memtable({"mark": again}, schema={"mark": "uint64"})

    def write(self, table: Any, path: Path) -> None:
        try:
            self._connection.to_parquet(table, path, compression="zstd", compression_level=1)
        except Exception as error:
            raise InputError(_first_line(error)) from error

    def rows(self, table: Any) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self._connection.to_pyarrow(table).to_pylist()
        except Exception as error:
            raise InputError(_first_line(error)) from error
        return found

    def raw(self, sql: str) -> Any:
        """The cursor of a statement that has no expression."""
        return self._connection.raw_sql(sql)

    def close(self) -> None:
        self._connection.disconnect()


class Spark:
    """Spark through PySpark, which is not among the requirements."""

    name = "spark"
    sorts_marks = False

    def __init__(self, master: str, memory: str) -> None:
        if importlib.util.find_spec("pyspark") is None:
            raise InputError(
                "the engine spark needs the package pyspark: "
                "python -m pip install 'pyspark>=4,<5'; or choose HUIDU_WINDOWS_ENGINE=duckdb"
            )
        java = os.environ.get("JAVA_HOME")
        if not (shutil.which("java") or (java and (Path(java) / "bin" / "java").exists())):
            raise InputError(
                "the engine spark needs Java 17 or newer, and there is none in PATH or JAVA_HOME; "
                "or choose HUIDU_WINDOWS_ENGINE=duckdb"
            )
        from pyspark.sql import SparkSession  # type: ignore[import-not-found,unused-ignore]

        self._session = (
            SparkSession.builder.master(master)
            .appName("huidu windows")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.driver.memory", memory.lower().replace("ib", "").replace("b", ""))
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "ERROR")
            .config("spark.sql.shuffle.partitions", "16" if master.startswith("local") else "200")
            .getOrCreate()
        )
        self._connection = ibis.pyspark.connect(self._session)

    def read(self, paths: Sequence[Path]) -> Any:
        texts = [path.absolute().as_uri() for path in paths]
        try:
            if files.is_parquet(paths[0]):
                return self._view(self._session.read.option("mergeSchema", "true").parquet(*texts))
            return ibis.union(
                *(
                    self._view(self._session.read.csv(text, header=True, inferSchema=False))
                    for text in texts
                )
            )
        except Exception as error:
            raise InputError(f"{paths[0].name}: {_first_line(error)}") from error

    def parquet(self, paths: Sequence[Path]) -> Any:
        return self._view(self._session.read.parquet(*(path.absolute().as_uri() for path in paths)))

    def _view(self, frame: Any) -> Any:
        from pyspark.sql import types  # type: ignore[import-not-found,unused-ignore]

        name = ibis.util.gen_name("huidu")
        frame.createOrReplaceTempView(name)
        table = self._connection.table(name)
        # Spark's TIMESTAMP is a moment, which ibis takes for a local time as it does TIMESTAMP_NTZ.
        moments = [each.name for each in frame.schema if type(each.dataType) is types.TimestampType]
        return table.cast(dict.fromkeys(moments, dt.Timestamp(timezone="UTC")))

    def instant(self, local: Any, zone: str) -> Any:
        return _to_utc_timestamp(local, zone)

    def day_of(self, moment: Any, utc_offset: datetime.timedelta) -> Any:
        return windows.day_of(moment, utc_offset)

    def mark_of(self, event_id: Any) -> Any:
        return event_id.hash()

    def kept(self, table: Any) -> Any:
        return table

    def repeated(self, marks: Any) -> Any:
        return marks.group_by("mark").having(marks.count() > 1).select("mark")

    def write(self, table: Any, path: Path) -> None:
        try:
            self._connection.to_parquet(table, path.absolute().as_uri())
        except Exception as error:
            raise InputError(_first_line(error)) from error

    def rows(self, table: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._connection.to_pyarrow(table).to_pylist()
        return found

    def close(self) -> None:
        self._session.stop()


@ibis.udf.scalar.builtin(name="timezone")  # type: ignore[untyped-decorator]
def _timezone(zone: str, local: dt.timestamp) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """DuckDB's, by its own name."""


@ibis.udf.scalar.builtin(name="hash")  # type: ignore[untyped-decorator]
def _hash(text: str) -> dt.uint64:
    """DuckDB's; that of ibis goes through texts of bits."""


@ibis.udf.scalar.builtin(name="epoch_us")  # type: ignore[untyped-decorator]
def _epoch_us(moment: dt.Timestamp(timezone="UTC")) -> dt.int64:  # type: ignore[valid-type]
    """DuckDB's microseconds since 1970."""


@ibis.udf.scalar.builtin(name="divide")  # type: ignore[untyped-decorator]
def _divide(number: dt.int64, by: dt.int64) -> dt.int64:
    """DuckDB's division of whole numbers, towards 0; that of ibis goes through floats."""


@ibis.udf.scalar.builtin(name="make_date")  # type: ignore[untyped-decorator]
def _make_date(number: dt.int32) -> dt.date:
    """DuckDB's day by its number since 1970-01-01."""


@ibis.udf.scalar.builtin(name="to_utc_timestamp")  # type: ignore[untyped-decorator]
def _to_utc_timestamp(local: dt.timestamp, zone: str) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """Spark's, by its own name."""


def events(
    engine: Engine, paths: Sequence[Path], columns: Mapping[str, str], zone: str | None
) -> Any:
    """Payments of files of one kind, in the columns of `windows.EVENTS`.

    What cannot be read is NULL, which `windows.payments` leaves out. A NULL amount reads as
    unknown, so one that is none takes the event's id away.

    Args:
        columns: our name: the files' name.
        zone: where moments without an offset from UTC belong; None: they cannot be read.
    Raises:
        InputError: a column is missing or holds another kind of value.
    """
    read = as_told(engine, paths, columns, zone)
    if "unreadable" not in read.columns:
        return read
    kept = read.unreadable.ifelse(ibis.null("string"), read.event_id)
    return read.mutate(event_id=kept).drop("unreadable")


def as_told(
    engine: Engine, paths: Sequence[Path], columns: Mapping[str, str], zone: str | None
) -> Any:
    """`events` with every id that a file has, and where an amount may be none, ``unreadable``."""
    table = engine.read(paths)
    missing = [theirs for theirs in columns.values() if theirs not in table.columns]
    if missing:
        raise InputError(f"{paths[0].name}: expected a column {missing[0]}, found none")
    event_id, user_id = (_text(table[columns[name]]) for name in ("event_id", "user_id"))
    paid_at = _moment(engine, table[columns["paid_at"]], zone, paths[0])
    return table.select(
        event_id=event_id, user_id=user_id, paid_at=paid_at, **_amount(table, columns)
    )


def _amount(table: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """``amount_cny`` and, where an amount may be none, ``unreadable``."""
    if "amount_cny" not in columns:
        return {"amount_cny": ibis.null("decimal(18, 2)")}
    raw = table[columns["amount_cny"]]
    amount = raw.try_cast("decimal(18, 2)")
    if raw.type() == dt.Decimal(18, 2):
        return {"amount_cny": raw}
    given = raw.notnull()
    if raw.type().is_string():
        given &= raw.strip() != ""
    elif raw.type().is_floating():
        given |= raw.isnan().fill_null(False)  # which Spark, by ibis, takes for missing
    return {"amount_cny": amount, "unreadable": given & amount.isnull()}


def _text(column: Any) -> Any:
    return column if column.type().is_string() else column.cast("string")


def _moment(engine: Engine, column: Any, zone: str | None, path: Path) -> Any:
    kind = column.type()
    instant: Any = dt.Timestamp(timezone="UTC")
    if kind.is_timestamp() and kind.timezone is not None:
        return column.cast(instant)
    if kind.is_timestamp() or kind.is_date():
        if zone is None:
            raise InputError(
                f"{path.name}: {column.get_name()} holds moments without an offset from UTC; "
                "say where they belong with --zone, such as --zone Asia/Shanghai"
            )
        local = column.cast("timestamp")
        if kind.is_date():
            local = local + ibis.interval(hours=12)  # a bare day is its noon
        return engine.instant(local, zone)
    if not kind.is_string():
        raise InputError(f"{path.name}: expected moments in {column.get_name()}, got {kind}")
    text = column.strip()
    told = text.re_search(_HAS_OFFSET).ifelse(text.try_cast(instant), ibis.null(instant))
    if zone is None:
        return told
    noon = (text.length() == 10).ifelse(text.concat(" 12:00:00"), text)
    return text.re_search(_HAS_OFFSET).ifelse(
        text.try_cast(instant), engine.instant(noon.try_cast("timestamp"), zone)
    )


def columns_of(engine: Engine, path: Path) -> list[str]:
    """The names of a file's columns."""
    return list(engine.read([path]).columns)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]
