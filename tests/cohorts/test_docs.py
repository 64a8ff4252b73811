"""Every code that ingest can give is in the manual."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_code_of_a_rejected_item_is_explained():
    manual = (ROOT / "docs" / "reference" / "ingest.md").read_text()
    sources = [
        ROOT / "cohorts" / "services" / name for name in ("items.py", "facts.py", "imports.py")
    ]
    given = {
        code
        for source in sources
        for code in re.findall(
            r'"((?:paid_at|amount_cny|user_id|field|attribute|row)\.[a-z_]+)"', source.read_text()
        )
    }
    assert len(given) > 8
    assert {code for code in given if f"`{code}`" not in manual} == set()
