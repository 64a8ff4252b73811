"""What the platform holds about many users at once, as the engine judges them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.utils import timezone

from cohorts import mappers
from cohorts.services import records
from huidu.model import User
from huidu.wire import profile

AT_ONCE = 1_000


def held_users(user_ids: Collection[str], *, now: datetime) -> dict[str, User]:
    """Every asked user; one of whom nothing is held has no attributes, and so passes no gate."""
    registry = mappers.registry()
    slots = {name: each.id for name, each in registry.items()}
    today = timezone.localdate(now)
    wanted = sorted(user_ids)
    found: dict[str, User] = {}
    for start in range(0, len(wanted), AT_ONCE):
        for key, held in records.profiles(wanted[start : start + AT_ONCE], slots):
            found[key] = User(key, {}) if held is None else profile.user(held, key, today, registry)
    return found
