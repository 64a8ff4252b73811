"""Reads the members of an uploaded list, a piece at a time, in bounded memory.

Most pieces hold one plain id a line: one regular expression says so, and the piece goes on to the
database as it came. Only other pieces are taken apart line by line, and only files with quotes are
read by the `csv` module.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import IO, Final

import msgspec

from cohorts.models import ListState
from cohorts.services.file_kinds import GZIP, HEAD, fault_of_bytes, is_chinese, looks_like
from cohorts.services.items import id_fault
from huidu.errors import InputError

ENCODINGS: Final = ("utf-8", "gb18030")
MOST_ROWS: Final = 20_000_000
MOST_BYTES: Final = 3_000_000_000
"""Of all lines together: a small .gz file may hold a very long one."""

MOST_LINE: Final = 100_000
"""Bytes; a longer line is no list of ids, and must not fill the memory."""

MOST_FAULTS: Final = 100
"""Invalid lines that are shown; more of them are in the list to download."""

PIECE: Final = 1 << 20

NAMES: Final = frozenset(
    {"user_id", "userid", "user id", "user", "uid", "openid", "open_id", "id"}
    | {"用户", "用户id", "用户编号", "用户标识", "会员号"}
)
"""Names of the column that holds the ids, in small letters."""

STATE_NAMES: Final = frozenset({"state", "status", "状态"})
TIME_NAMES: Final = frozenset({"at", "time", "since", "state_at", "时间"})

STATES: Final = {
    **{each.value: each.value for each in ListState},
    "已邀请": "invited",
    "邀请": "invited",
    "已接受": "accepted",
    "接受": "accepted",
    "已过期": "expired",
    "过期": "expired",
    "已移除": "removed",
    "移除": "removed",
}
"""Words of the column that says how it stands with a member."""

_SHORTENED: Final = re.compile(r"\d(?:\.\d+)?[Ee]\+\d+")
_PLAIN: Final = re.compile(rb"(?:[0-9A-Za-z_.:@-]{1,128}\r?\n)+")
_QUOTE: Final = ord('"')

Reject = Callable[[int, str], object]
"""Told the line and the reason of each invalid one."""


class Counts(msgspec.Struct):
    """What was read so far; `faults` are ``{"line", "reason"}`` of the first invalid lines."""

    rows: int = 0
    empty: int = 0
    invalid: int = 0
    lines: int = 0
    bytes: int = 0
    faults: list[dict[str, int | str]] = []
    reject: Reject | None = None

    def fault(self, line: int, reason: str) -> None:
        self.invalid += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append({"line": line, "reason": reason})
        if self.reject is not None:
            self.reject(line, reason)


class Layout(msgspec.Struct, frozen=True):
    """Which column is which; `state` and `time` are None where the file has no such column."""

    user: int = 0
    width: int = 1
    delimiter: str = ","
    state: int | None = None
    time: int | None = None
    header: bool = False


class ListFile:
    """One uploaded file. `layout` is known at once, the rest as `rows` are read.

    Args:
        file: at its beginning; read once, forwards.
        encoding: one of `ENCODINGS`.
        counts: filled while reading.
    Raises:
        InputError: the file as a whole cannot be read; says the line and what would be right.
    """

    def __init__(self, file: IO[bytes], counts: Counts, encoding: str = "utf-8") -> None:
        if encoding not in ENCODINGS:
            expected = " or ".join(ENCODINGS)
            raise InputError(f"expected {expected}, got {encoding[:40]!r}", path="encoding")
        self.counts = counts
        self.encoding = encoding
        self._pieces = _pieces(file, counts)
        first = next(self._pieces, b"")
        if kind := looks_like(first[:HEAD]):
            raise InputError(f"expected CSV text, got {kind}", path="file")
        if first.startswith(codecs.BOM_UTF8):
            if encoding != "utf-8":
                raise InputError(
                    "the file begins with the mark of UTF-8: choose UTF-8", path="encoding"
                )
            first = first[len(codecs.BOM_UTF8) :]
        self._first = first
        self._mistaken = encoding != "utf-8"
        self.layout = self._layout(first)

    def rows(self) -> Iterator[bytes]:
        """Valid members for COPY, many lines at a time, repeated ones included.

        One id a line; of a file with states ``id <tab> state <tab> time``, backslashes escaped.
        """
        left = self._rest()
        take = self._mostly_plain if self.layout.width == 1 else self._taken_apart
        for piece in left:
            if _QUOTE in piece:
                yield from self._quoted(piece, left)
                return
            if told := take(piece):
                yield told

    def _rest(self) -> Iterator[bytes]:
        """The pieces after the header, each of whole lines."""
        first = self._first
        if self.layout.header:
            first = first[first.find(b"\n") + 1 :] if b"\n" in first else b""
            self.counts.lines = 1
        if first:
            yield first
        yield from self._pieces

    def _mostly_plain(self, piece: bytes) -> bytes:
        """Runs of plain ids as they are, and what lies between line by line."""
        if not piece.endswith(b"\n"):
            piece += b"\n"
        told, at = [], 0
        while at < len(piece):
            if (run := _PLAIN.match(piece, at)) is not None:
                told.append(run[0].replace(b"\r", b"") if b"\r" in run[0] else run[0])
                lines = run[0].count(b"\n")
                self.counts.rows += lines
                self._count_lines(lines)
                at = run.end()
            else:
                end = piece.index(b"\n", at) + 1
                if odd := self._taken_apart(piece[at:end]):
                    told.append(odd)
                at = end
        return b"".join(told)

    def _taken_apart(self, piece: bytes) -> bytes:
        text = self._text(piece)
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        delimiter, line = self.layout.delimiter, self.counts.lines
        told = []
        for each in lines:
            line += 1
            if (found := self._member(each.split(delimiter), line)) is not None:
                told.append(found)
        self._count_lines(len(lines))
        return "".join(told).encode()

    def _quoted(self, piece: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        """From the first quote on: quotes may hold line ends, so `csv` reads what is left."""
        csv.field_size_limit(MOST_LINE)
        before = self.counts.lines
        reader = csv.reader(self._text_lines(piece, rest), delimiter=self.layout.delimiter)
        told: list[str] = []
        try:
            for cells in reader:
                line = before + reader.line_num
                if (found := self._member(cells, line)) is not None:
                    told.append(found)
                if len(told) >= 20_000:
                    yield "".join(told).encode()
                    told.clear()
        except csv.Error as error:
            raise InputError(f"line {before + reader.line_num}: {error}", path="file") from None
        if told:
            yield "".join(told).encode()

    def _text_lines(self, piece: bytes | None, rest: Iterator[bytes]) -> Iterator[str]:
        while piece is not None:
            lines = self._text(piece).splitlines(keepends=True) if piece else []
            # Only line ends split records: other separators of Unicode may stand in a cell.
            for line in _joined(lines):
                self._count_lines(1)
                yield line
            piece = next(rest, None)

    def _member(self, cells: list[str], line: int) -> str | None:
        """One valid line for COPY, or None after counting why it is none."""
        layout, counts = self.layout, self.counts
        if not any(cell.strip() for cell in cells):
            counts.empty += 1
            return None
        if len(cells) != layout.width:
            counts.fault(line, f"expected {layout.width} cells, got {len(cells)}")
            return None
        found = cells[layout.user].strip()
        if not (found.isalnum() and found.isascii() and len(found) <= 128):
            if sentence := id_fault(found):
                counts.fault(line, sentence)
                return None
            if "\ufffd" in found:
                counts.fault(line, "expected an id, got one damaged by a wrong encoding")
                return None
            if _SHORTENED.fullmatch(found):
                counts.fault(line, "expected an id, got a number that a spreadsheet has shortened")
                return None
            found = found.replace("\\", "\\\\")
        if layout.state is None:
            counts.rows += 1
            return found + "\n"
        word = cells[layout.state].strip().lower()
        state = STATES.get(word)
        if state is None:
            expected = ", ".join(each.value for each in ListState)
            counts.fault(line, f"expected a state ({expected}), got {word[:20]!r}")
            return None
        moment = "\\N"
        if layout.time is not None and (cell := cells[layout.time].strip()):
            try:
                at = datetime.fromisoformat(cell)
            except ValueError:
                at = None
            if at is None or at.tzinfo is None:
                counts.fault(line, f"expected a time such as 2026-05-20T10:00+08:00: {cell[:40]!r}")
                return None
            moment = at.isoformat()
        counts.rows += 1
        return f"{found}\t{state}\t{moment}\n"

    def _text(self, piece: bytes) -> str:
        try:
            text = piece.decode(self.encoding)
        except UnicodeDecodeError as error:
            line = self.counts.lines + piece.count(b"\n", 0, error.start) + 1
            begin = piece.rfind(b"\n", 0, error.start) + 1
            advice = fault_of_bytes(piece[begin : begin + HEAD], self.encoding)
            raise InputError(
                f"line {line}: expected {self.encoding.upper()}, got other bytes; {advice}",
                path="encoding",
            ) from None
        if self._mistaken and not piece.isascii():
            # Chinese in UTF-8 reads as other, wrong Chinese in GB18030: nobody would be found.
            if is_chinese(piece, "utf-8"):
                raise InputError("the file looks like UTF-8: choose UTF-8", path="encoding")
            self._mistaken = False
        return text

    def _count_lines(self, lines: int) -> None:
        self.counts.lines += lines
        if self.counts.lines > MOST_ROWS:
            raise InputError(f"expected at most {MOST_ROWS:,} lines", path="file")

    def _layout(self, piece: bytes) -> Layout:
        """Where the ids stand, and whether the first line is a header."""
        line = self._text(piece[: piece.find(b"\n") + 1] or piece).rstrip("\r\n")
        for delimiter in (",", "\t", ";"):
            try:
                cells = next(csv.reader([line], delimiter=delimiter), [])
            except csv.Error as error:
                raise InputError(f"line 1: {error}", path="file") from None
            names = [cell.strip().lower() for cell in cells]
            if (user := _place(names, NAMES)) is not None:
                return Layout(
                    user=user,
                    width=len(names),
                    delimiter=delimiter,
                    state=_place(names, STATE_NAMES),
                    time=_place(names, TIME_NAMES),
                    header=True,
                )
        columns = line.split(",")
        if len(columns) > 1:
            raise InputError(
                f"line 1: expected a column named user_id, got {len(columns)} columns without "
                f"one: {', '.join(each.strip()[:40] for each in columns[:10])}",
                path="file",
            )
        return Layout()


def _place(names: list[str], wanted: frozenset[str]) -> int | None:
    return next((at for at, name in enumerate(names) if name in wanted), None)


def _joined(lines: list[str]) -> Iterator[str]:
    """Lines that end with a line feed, from a split at every separator Unicode knows."""
    held = ""
    for line in lines:
        held += line
        if held.endswith("\n"):
            yield held
            held = ""
    if held:
        yield held


def _pieces(file: IO[bytes], counts: Counts) -> Iterator[bytes]:
    """Whole lines, about `PIECE` bytes at a time, unpacked."""
    head = file.read(4)
    file.seek(0)
    packed = head[:2] == GZIP
    raw: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
    held, left = b"", MOST_BYTES
    while True:
        try:
            more = raw.read(PIECE)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"after line {counts.lines}: expected a whole .gz file: {error}", path="file"
            ) from None
        counts.bytes = file.tell() if packed else counts.bytes + len(more)
        left -= len(more)
        if left < 0:
            raise InputError(f"expected at most {MOST_BYTES:,} bytes in all", path="file")
        if not more:
            break
        end = more.rfind(b"\n") + 1
        if not end:
            held += more
        else:
            whole, held = held + more[:end], more[end:]
            if _longest(whole) <= MOST_LINE:
                yield whole
                continue
        if len(held) > MOST_LINE or end:
            raise _too_long(counts)
    if len(held) > MOST_LINE:
        raise _too_long(counts)
    if held:
        yield held


def _too_long(counts: Counts) -> InputError:
    return InputError(
        f"after line {counts.lines}: expected lines of at most {MOST_LINE:,} bytes, got a longer "
        "one",
        path="file",
    )


def _longest(piece: bytes) -> int:
    """Bytes of the longest line; exact only where some line may be too long."""
    at = 0
    while at + MOST_LINE < len(piece):
        end = piece.rfind(b"\n", at, at + MOST_LINE)
        if end < 0:
            return MOST_LINE + 1
        at = end + 1
    return 0
