"""The users every peer is asked about, and the regions the flag is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

USERS = 20_000

REGIONS = ["440300", "310000"]

Check = Callable[[str, dict[str, Any]], bool]


def population() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"openid-{n:08x}", {"region": "440300" if n % 2 else "410100", "weekly_payments": 12})
        for n in range(USERS)
    ]
