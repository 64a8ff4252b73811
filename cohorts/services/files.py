"""Rows of CSV, gzipped CSV and Parquet files, a batch at a time in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cohorts.services import csv_rows
from cohorts.services.csv_rows import Row
from huidu.errors import InputError

BATCH: Final = 5_000
_HASH_CHUNK: Final = 1 << 20

Progress = Callable[[int], object]
"""Told how many more bytes of the file (CSV) or rows (Parquet) were read."""


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex: the file's identity whatever it is called."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def columns_of(path: Path, encoding: str) -> list[str]:
    """The file's column names.

    Raises:
        InputError: no such file, of another kind, in another encoding, or empty.
    """
    if not path.is_file():
        raise InputError(f"expected a file, found none at {path}")
    if is_parquet(path):
        return [str(name) for name in _parquet(path).schema_arrow.names]
    with csv_rows.opened(path, encoding) as file:
        return file.names


def batches(
    path: Path, encoding: str, skip: int, progress: Progress | None = None
) -> Iterator[list[Row]]:
    """The file's rows after the first `skip`, at most `BATCH` at a time.

    Raises:
        InputError: the file cannot be read further; says the line.
    """
    read = _parquet_batches if is_parquet(path) else _csv_batches
    return read(path, encoding, skip, progress or (lambda _: None))


def size_of(path: Path) -> int:
    """What `Progress` adds up to."""
    return int(_parquet(path).metadata.num_rows) if is_parquet(path) else path.stat().st_size


def nulls_of(path: Path, name: str) -> int:
    """How many cells of a column of a Parquet file are missing, as far as it says."""
    return sum((told.null_count or 0) for told in _statistics(path, name) if told is not None)


def is_whole(path: Path, name: str) -> bool:
    """Whether a column of a Parquet file says that no cell is missing and no text empty."""
    return all(
        told is not None and told.has_null_count and told.null_count == 0
        for told in _statistics(path, name)
    ) and least_of(path, name) not in (None, "", b"")


def is_floating(path: Path, name: str) -> bool:
    """Whether a column of a Parquet file may hold what is no number."""
    import pyarrow  # type: ignore[import-untyped]

    return bool(pyarrow.types.is_floating(_parquet(path).schema_arrow.field(name).type))


def least_of(path: Path, name: str) -> Any:
    """The least value of a column of a Parquet file, NULL aside; None where it does not say so."""
    bounds = bounds_of(path, name)
    return None if bounds is None else bounds[0]


def bounds_of(path: Path, name: str) -> tuple[Any, Any] | None:
    """The least and greatest value of a column of a Parquet file; None where it does not say."""
    least = most = None
    for told in _statistics(path, name):
        if told is None or not told.has_min_max:
            return None
        try:
            low, high = told.min, told.max
        except (ValueError, OverflowError):  # a moment beyond what Python can say
            return None
        least = low if least is None else min(least, low)
        most = high if most is None else max(most, high)
    return None if least is None else (least, most)


def _statistics(path: Path, name: str) -> Iterator[Any]:
    """What each row group of a Parquet file says of a column; None where it says nothing."""
    metadata = _parquet(path).metadata
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema == name:
                yield column.statistics


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _csv_batches(path: Path, encoding: str, skip: int, progress: Progress) -> Iterator[list[Row]]:
    with csv_rows.opened(path, encoding) as file:
        told = 0
        rows = islice(file.rows(), skip, None)
        while batch := list(islice(rows, BATCH)):
            yield batch
            progress(file.raw.tell() - told)
            told = file.raw.tell()


def _parquet_batches(path: Path, _: str, skip: int, progress: Progress) -> Iterator[list[Row]]:
    row = 0
    for batch in _parquet(path).iter_batches(batch_size=BATCH):
        first = max(skip - row, 0)
        row += batch.num_rows
        if first < batch.num_rows:
            yield batch.slice(first).to_pylist()
        progress(batch.num_rows)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path.name}: expected a Parquet file: {error}") from error


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """The row by our names.

    Args:
        columns: our name: the file's name. Cells that are empty are left out.
    """
    taken = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    return {name: cell for name, cell in taken.items() if cell is not None and cell != ""}
