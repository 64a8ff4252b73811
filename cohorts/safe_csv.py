"""CSV for people's spreadsheets: no cell of it is ever run as a formula.

Spreadsheets calculate a text that begins with ``=``, ``+``, ``-``, ``@`` (also in their full-width
forms), a tab or a line end, and a formula may fetch pages or start programs. Users choose some of
what we export, so such a text gets an apostrophe in front, which spreadsheets show as plain text.
Numbers stay numbers. Every CSV this product writes is written here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

DANGEROUS: Final = tuple("=+-@\t\r\n＝＋－＠")


class Text(Protocol):
    """Where the lines go: a file, a response."""

    def write(self, text: str, /) -> object: ...


def safe(cell: Any) -> Any:
    """The cell as it may be shown in a spreadsheet."""
    if isinstance(cell, str) and cell.startswith(DANGEROUS):
        return "'" + cell
    return cell


def write_rows(text: Text, rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to `text` as CSV, each cell made safe."""
    csv.writer(text).writerows([safe(cell) for cell in row] for row in rows)
