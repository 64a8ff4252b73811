"""Files that people download."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import HttpResponse

from cohorts import safe_csv
from cohorts.models import ListVersion


def rejects(version: ListVersion) -> HttpResponse:
    """The invalid lines of an upload: line and reason; what stood there is not kept."""
    answer = as_csv([("line", "reason")], f"{version.list.key}-{version.pk}-invalid.csv")
    for held in version.rejects.values_list("lines", flat=True).iterator(chunk_size=10):
        answer.write(held)
    return answer


def as_csv(rows: Iterable[Sequence[Any]], name: str) -> HttpResponse:
    """A CSV download with safe cells, and the mark by which Excel knows UTF-8."""
    text = io.StringIO()
    safe_csv.write_rows(text, rows)
    answer = HttpResponse(
        codecs.BOM_UTF8 + text.getvalue().encode(), content_type="text/csv; charset=utf-8"
    )
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    answer["Content-Disposition"] = f'attachment; filename="{plain}"'
    return answer
