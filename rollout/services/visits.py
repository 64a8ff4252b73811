"""What checks of many users would have taken: for made-up users, whom nobody sends to a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cohorts import selectors as who
from huidu import reasons
from rollout.models import Flag, Rollout
from rollout.selectors_funding import has_capacity_gate
from rollout.services import places
from rollout.services.answering import compiled_snapshot, snapshot_in_force

CHUNK = 5_000


def visit(flag: Flag, user_ids: Sequence[str], *, now: datetime) -> int:
    """Take a place for each of these users who passes all else; how many are new.

    Follow it by packing; the users' profiles are marked.
    """
    rollout = Rollout.objects.filter(flag=flag, status__in=places.GIVING).first()
    if rollout is None or not has_capacity_gate(flag):
        return 0
    compiled, _ = compiled_snapshot(flag.environment, snapshot_in_force(flag.environment))
    new = 0
    for start in range(0, len(user_ids), CHUNK):
        users = who.held_users(user_ids[start : start + CHUNK], now)
        wanted = {
            key: str(user.attributes["region"])
            for key, user in users.items()
            if compiled.check(flag.key, user).why == reasons.FUNDING_NOT_RESERVED
        }
        new += len(places.take(flag.environment, rollout.slot, wanted, now=now).new)
    return new
