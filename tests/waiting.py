"""Waiting in tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0
"""Seconds a test waits for what must come. They cost nothing where it comes, and a machine that is
busy with other work may need them: no claim about speed."""


def wait_for(claim: Callable[[], Any], *, seconds: float = PATIENCE) -> None:
    """Wait until `claim()` holds."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
