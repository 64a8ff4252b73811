"""No cell that we export is run as a formula."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import pytest

from cohorts import safe_csv

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_text_that_a_spreadsheet_would_calculate_is_shown_as_text(first: str) -> None:
    assert safe_csv.safe(f"{first}1+1") == f"'{first}1+1"


def test_numbers_and_other_texts_stay_as_they_are() -> None:
    text = io.StringIO()
    safe_csv.write_rows(text, [(-5, 1.5, "user-1", "张三", "", None)])
    assert text.getvalue() == "-5,1.5,user-1,张三,,\r\n"


def test_a_cell_never_leaves_its_quotes() -> None:
    cells = ['=HYPERLINK("http://x","y")', "a\n=b", 'a","=b']
    text = io.StringIO()
    safe_csv.write_rows(text, [cells])
    assert next(csv.reader(io.StringIO(text.getvalue(), newline=""))) == [
        f"'{cells[0]}",
        *cells[1:],
    ]


def test_every_csv_is_written_by_the_one_helper() -> None:
    others = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("cohorts", "rollout", "config", "huidu", "edge", "local")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "safe_csv.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("writer", "DictWriter")
        and isinstance(node.value, ast.Name)
        and node.value.id == "csv"
    ]
    assert others == []
