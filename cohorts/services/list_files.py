"""Reads the user ids of an uploaded list, line by line, in bounded memory."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from typing import IO, Final, Protocol

import msgspec

from cohorts.services.items import id_fault
from huidu.errors import InputError

ENCODINGS: Final = ("utf-8", "gb18030")
MOST_ROWS: Final = 20_000_000
MOST_CHARACTERS: Final = 3_000_000_000
"""Of all lines together: a small .gz file may hold a very long one."""

MOST_LINE: Final = 100_000
"""Characters; a longer line is no list of ids, and must not fill the memory."""

MOST_FAULTS: Final = 100
"""Invalid lines that are told one by one; the rest is counted."""

NAMES: Final = frozenset(
    {"user_id", "userid", "user id", "user", "uid", "openid", "id", "用户", "用户id", "用户编号"}
)
"""Names of the column that holds the ids, in small letters."""

_SHORTENED: Final = re.compile(r"\d(?:\.\d+)?E\+\d+")


class _Reader(Protocol):
    """What `csv.reader` makes."""

    @property
    def line_num(self) -> int: ...
    def __iter__(self) -> Iterator[list[str]]: ...


class Counts(msgspec.Struct):
    """What was read so far; `faults` are ``{"line", "reason"}`` of the first invalid lines."""

    rows: int = 0
    empty: int = 0
    invalid: int = 0
    faults: list[dict[str, int | str]] = []

    def fault(self, line: int, reason: str) -> None:
        self.invalid += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append({"line": line, "reason": reason})


def user_ids(file: IO[bytes], counts: Counts, encoding: str = "utf-8") -> Iterator[str]:
    """The valid ids of a CSV file, gzipped or not, repeated ones included; fills `counts`.

    One id a line, or a column with one of `NAMES`. Blanks around an id do not belong to it.

    Args:
        file: at its beginning; can be searched.
        encoding: one of `ENCODINGS`.
    Raises:
        InputError: the file as a whole cannot be read; says the line and what would be right.
    """
    if encoding not in ENCODINGS:
        expected = " or ".join(ENCODINGS)
        raise InputError(f"expected {expected}, got {encoding[:40]!r}", path="encoding")
    head = file.read(4)
    file.seek(0)
    raw: IO[bytes] = gzip.GzipFile(fileobj=file) if head[:2] == b"\x1f\x8b" else file  # type: ignore[assignment]
    if head[:4] == b"PK\x03\x04":
        raise InputError("expected CSV, got a zip or Excel file: save it as CSV", path="file")
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise InputError("expected UTF-8, got UTF-16: save the file as CSV UTF-8", path="file")
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    text = io.TextIOWrapper(raw, encoding=name, newline="")
    reader = csv.reader(_lines(text))
    try:
        yield from _ids(reader, counts)
    except UnicodeDecodeError as error:
        raise _not_text(error, reader.line_num) from None
    except csv.Error as error:
        raise InputError(f"line {reader.line_num}: {error}", path="file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"after line {reader.line_num}: expected a whole .gz file: {error}", path="file"
        ) from None
    finally:
        text.detach()  # the caller's file stays open


def _ids(reader: _Reader, counts: Counts) -> Iterator[str]:
    column, width = 0, 1
    for first in reader:
        column, is_header = _column(first)
        width = len(first)
        if not is_header:
            yield from _id(first, column, width, counts, reader.line_num)
        break
    for row in reader:
        if len(row) == width:
            found = row[column].strip()
            if found.isalnum() and len(found) <= 128:  # nearly all: no more to look at
                counts.rows += 1
                yield found
                continue
        yield from _id(row, column, width, counts, reader.line_num)


def _column(first: list[str]) -> tuple[int, bool]:
    """Where the ids stand, and whether the first line is a header."""
    named = [at for at, cell in enumerate(first) if cell.strip().lower() in NAMES]
    if named:
        return named[0], True
    if len(first) > 1:
        raise InputError(
            f"line 1: expected a column named user_id, got {len(first)} columns without one",
            path="file",
        )
    return 0, False


def _id(row: list[str], column: int, width: int, counts: Counts, line: int) -> Iterator[str]:
    if not any(cell.strip() for cell in row):
        counts.empty += 1
        return
    if len(row) != width:
        counts.fault(line, f"expected {width} cells, got {len(row)}")
        return
    found = row[column].strip()
    if sentence := id_fault(found):
        counts.fault(line, sentence)
    elif _SHORTENED.fullmatch(found):
        counts.fault(line, "expected an id, got a number that a spreadsheet has shortened")
    else:
        counts.rows += 1
        yield found


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    left, characters = MOST_ROWS, MOST_CHARACTERS
    while line := text.readline(MOST_LINE):
        left -= 1
        characters -= len(line)
        if len(line) == MOST_LINE or left < 0 or characters < 0:
            raise csv.Error(
                f"expected lines of at most {MOST_LINE:,} characters, {MOST_ROWS:,} lines and "
                f"{MOST_CHARACTERS:,} characters in all"
            )
        yield line


def _not_text(error: UnicodeDecodeError, line: int) -> InputError:
    """Says which encoding it looks like: files from Chinese Excel are GBK more often than not."""
    try:
        told = codecs.getincrementaldecoder("gb18030")().decode(error.object)
        chinese = any("\u4e00" <= each <= "\u9fff" for each in told)
    except UnicodeDecodeError:
        chinese = False
    like = "it looks like GBK: choose GBK, or save the file as CSV UTF-8"
    other = "save the file as CSV UTF-8"
    return InputError(
        f"after line {line}: expected {error.encoding.upper()}, got other bytes; "
        f"{like if chinese and error.encoding != 'gb18030' else other}",
        path="encoding",
    )
