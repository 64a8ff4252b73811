"""Finished stages of `bench/promotion.py`, one a line, so that a run goes on where one stopped."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from promotion_rows import Row


class Ended(NamedTuple):
    """One simulated stage, as the log keeps it."""

    decision: str
    metric: str | None
    k: int
    users: int
    asked: int
    knew: int | None


def key_of(row: Row) -> str:
    return "|".join([row.question, row.label, str(dict(row.facts).get("from", ""))])


def read_log(path: Path) -> dict[str, dict[int, Ended]]:
    """Finished stages by row and number; a line cut short by a kill is skipped."""
    found: dict[str, dict[int, Ended]] = defaultdict(dict)
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                key, i, told = json.loads(line)
            except ValueError:
                continue
            found[key][i] = Ended(*told)
    return found
