"""Rows of CSV, gzipped CSV and Parquet files, a batch at a time in bounded memory."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from huidu.errors import InputError

BATCH: Final = 5_000
MAX_CELL_CHARACTERS: Final = 100_000
_HASH_CHUNK: Final = 1 << 20

Row = dict[str, Any]
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
    with _text(path, encoding) as text:
        return _header(path, text, encoding)


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


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _csv_batches(path: Path, encoding: str, skip: int, progress: Progress) -> Iterator[list[Row]]:
    with path.open("rb") as raw, _decoded(raw, path, encoding) as text:
        names = _header(path, text, encoding)
        reader = csv.reader(text)
        batch: list[Row] = []
        told = 0
        row = -1
        try:
            for row, cells in enumerate(reader):
                if row < skip:
                    continue
                batch.append(_row(names, cells))
                if len(batch) == BATCH:
                    yield batch
                    batch = []
                    progress(raw.tell() - told)
                    told = raw.tell()
        except UnicodeDecodeError as error:
            raise _not_text(path, encoding, f"after line {row + 2}") from error
        except (csv.Error, EOFError, gzip.BadGzipFile, OSError) as error:
            raise InputError(f"{path.name}, after line {row + 2}: {error}") from error
        if batch:
            yield batch
        progress(raw.tell() - told)


def _row(names: list[str], cells: list[str]) -> Row:
    """Cells by column name; a line with too many or too few cells says so."""
    if len(cells) != len(names):
        return {"": f"expected {len(names)} cells, got {len(cells)}"}
    return dict(zip(names, cells, strict=True))


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


def _text(path: Path, encoding: str) -> IO[str]:
    return _decoded(path.open("rb"), path, encoding)


def _decoded(raw: IO[bytes], path: Path, encoding: str) -> IO[str]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    start = raw.read(4)
    raw.seek(0)
    binary: Any = raw
    if start[:2] == b"\x1f\x8b":
        binary = gzip.GzipFile(fileobj=raw)
        try:
            start = binary.read(4)
        except (OSError, EOFError) as error:
            raise InputError(f"{path.name}: expected gzip: {error}") from error
        binary.seek(0)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and "16" not in encoding:
        raise InputError(
            f"{path.name} is UTF-16 (it begins with a byte order mark): save it as CSV UTF-8, "
            "or pass --encoding utf-16"
        )
    if start[:2] == b"PK":
        raise InputError(f"{path.name} is a ZIP or Excel file: save the sheet as CSV UTF-8")
    # utf-8-sig also takes the byte order mark that Excel writes.
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        return io.TextIOWrapper(binary, encoding=name, newline="")
    except LookupError:
        raise InputError(f"expected an encoding such as utf-8 or gb18030, got {encoding}") from None


def _header(path: Path, text: IO[str], encoding: str) -> list[str]:
    try:
        names = next(csv.reader(text), [])
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding, "in line 1") from error
    except (csv.Error, EOFError, OSError) as error:
        raise InputError(f"{path.name}, line 1: {error}") from error
    names = [name.strip() for name in names]
    if not any(names):
        raise InputError(f"{path.name}: expected a first line of column names, found none")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path.name}: expected each column once, got twice: {', '.join(twice)}")
    return names


def _not_text(path: Path, encoding: str, where: str) -> InputError:
    looks = "it looks like GBK" if _reads_as(path, "gb18030") else "it is some other encoding"
    return InputError(
        f"{path.name} is not {encoding} {where}: {looks}; pass --encoding gb18030, or save it as "
        "CSV UTF-8"
    )


def _reads_as(path: Path, encoding: str) -> bool:
    """Whether the beginning of the file is text in the encoding."""
    with path.open("rb") as raw:
        opener: Any = gzip.GzipFile(fileobj=raw) if raw.read(2) == b"\x1f\x8b" else raw
        raw.seek(0)
        sample = opener.read(_HASH_CHUNK)
    try:
        sample[: len(sample) - 4].decode(encoding)
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 8  # only cut in the middle of a character
    return True


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """The row by our names.

    Args:
        columns: our name: the file's name. Cells that are empty are left out.
    """
    taken = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    return {name: cell for name, cell in taken.items() if cell is not None and cell != ""}
