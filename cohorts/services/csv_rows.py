"""Rows of CSV files, gzipped or not: every fault is told with the line it stands in."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from cohorts.services.file_kinds import GZIP, HEAD, fault_of_bytes, is_chinese, looks_like
from huidu.errors import InputError

LINE: Final = "\0line"
"""Key of a row's line number, among cells by column name; no column can have this name."""

BROKEN: Final = ""
"""Key of the sentence that says why a row is none."""

MOST_LINE: Final = 1_000_000
"""Bytes; a longer line is no row, and must not fill the memory."""

MOST_CELL: Final = 100_000

Row = dict[str, Any]


class CsvFile:
    """One open file: its column names, then its rows.

    Raises:
        InputError: of another kind or encoding, or without a first line of column names.
    """

    def __init__(self, raw: IO[bytes], path: Path, encoding: str) -> None:
        self.raw = raw
        self._path = path
        self._encoding = encoding.lower().replace("_", "-")
        self._line = 0
        self._mistaken = self._encoding not in ("utf-8", "utf8")
        csv.field_size_limit(MOST_CELL)
        self._reader = csv.reader(self._lines(self._opened()))
        self.names = self._header()

    def rows(self) -> Iterator[Row]:
        """Cells by column name; a line with too many or too few cells says so. Empty lines are
        no rows."""
        names, width = self.names, len(self.names)
        while True:
            before = self._line
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise self._fault(f"line {self._line}: {error}") from error
            if cells is None:
                return
            # A quoted cell may hold line ends: the row begins after the last row's end.
            if len(cells) == width:
                row: Row = dict(zip(names, cells, strict=True))
                row[LINE] = before + 1
                yield row
            elif cells:
                yield {BROKEN: f"expected {width} cells, got {len(cells)}", LINE: before + 1}

    def _opened(self) -> IO[bytes]:
        head = self.raw.read(4)
        self.raw.seek(0)
        binary: Any = gzip.GzipFile(fileobj=self.raw) if head[:2] == GZIP else self.raw
        try:
            start = binary.read(HEAD)
        except (OSError, EOFError, zlib.error) as error:
            raise self._fault(f"expected gzip: {error}") from error
        binary.seek(0)
        kind = looks_like(start)
        if kind and not ("16" in self._encoding and kind.startswith("UTF-16")):
            raise self._fault(f"expected CSV text, got {kind}")
        return binary  # type: ignore[no-any-return]

    def _lines(self, binary: IO[bytes]) -> Iterator[str]:
        try:
            yield from self._wide(binary) if "16" in self._encoding else self._narrow(binary)
        except LookupError:
            raise InputError(
                f"expected an encoding such as utf-8 or gb18030, got {self._encoding}"
            ) from None
        except (EOFError, OSError, zlib.error) as error:
            raise self._fault(f"after line {self._line}: {error}") from error

    def _narrow(self, binary: IO[bytes]) -> Iterator[str]:
        """Encodings in which the byte of a line end is nothing else."""
        encoding = self._encoding
        while data := binary.readline(MOST_LINE):
            self._line += 1
            if len(data) == MOST_LINE:
                raise self._fault(
                    f"line {self._line}: expected at most {MOST_LINE:,} bytes, got more"
                )
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                advice = fault_of_bytes(data, encoding).replace("choose ", "pass --encoding ")
                raise self._fault(
                    f"line {self._line}: expected {encoding}, got other bytes; "
                    + advice.replace("GBK / GB18030", "gb18030")
                ) from None
            if self._mistaken and not text.isascii():
                if is_chinese(data, "utf-8"):
                    raise self._fault(f"line {self._line}: it looks like UTF-8, not {encoding}")
                self._mistaken = False
            if self._line == 1:
                text = text.removeprefix("\ufeff")  # the mark that Excel writes
            yield text

    def _wide(self, binary: IO[bytes]) -> Iterator[str]:
        text = io.TextIOWrapper(binary, encoding=self._encoding, newline="")
        try:
            while line := text.readline(MOST_LINE):
                self._line += 1
                if len(line) == MOST_LINE:
                    raise self._fault(f"line {self._line}: expected less than {MOST_LINE:,}")
                yield line
        except UnicodeError:
            raise self._fault(f"after line {self._line}: expected {self._encoding}") from None
        finally:
            text.detach()  # whoever opened the file closes it

    def _header(self) -> list[str]:
        try:
            names = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            raise self._fault(f"line 1: {error}") from error
        if not any(names):
            raise self._fault("expected a first line of column names, found none")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise self._fault(f"expected each column once, got twice: {', '.join(twice)}")
        if any("\0" in name for name in names):
            raise self._fault("line 1: expected column names without NUL bytes")
        return names

    def _fault(self, sentence: str) -> InputError:
        return InputError(f"{self._path.name}: {sentence}")


@contextmanager
def opened(path: Path, encoding: str) -> Iterator[CsvFile]:
    with path.open("rb") as raw:
        yield CsvFile(raw, path, encoding)
