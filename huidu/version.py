"""Which code answered: what a receipt names, so that an answer of years ago finds its reader."""

from __future__ import annotations

from typing import Final

from huidu.engine import bucketing
from huidu.wire import compact, snapshot

ENGINE: Final = 1
"""Grows when the same snapshot and the same facts could be answered differently."""

CODE_VERSION: Final = (
    f"engine-{ENGINE}/formula-{bucketing.FORMULA}"
    f"/snapshot-{snapshot.FORMAT}/record-{compact.FORMAT}"
)
