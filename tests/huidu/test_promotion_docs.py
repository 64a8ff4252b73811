"""The manual keeps up: its example runs, and every reason to hold is in it."""

from __future__ import annotations

import re
from pathlib import Path

from huidu.promotion import Decision

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_example_of_the_manual_runs():
    example = re.search(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(example.group(1), names)
    assert names["outcome"].decision is Decision.HOLD
    assert names["outcome"].code == "minimum_stay"


def test_every_reason_to_hold_is_in_the_manual():
    texts = (ROOT / "huidu" / "promotion" / "texts.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'code="([a-z_]+)"', texts))
    codes |= set(re.findall(r'\(\s*(?:not )?given\.\w+, "([a-z_]+)"', texts))
    assert len(codes) > 20
    assert not {code for code in codes if f"`{code}`" not in MANUAL}
