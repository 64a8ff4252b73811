"""Every name Huidu uses in Redis, in one place.

All keys start with ``huidu:`` except packed profiles, whose key is short because there are many.
"""

from __future__ import annotations

from typing import Final

PUBLISHED_CHANNEL: Final = "huidu:published"
"""Pub/sub, one JSON object each: ``{"kind": "snapshot"|"access", "environment", "sequence"}``."""

EXPOSURES_STREAM: Final = "huidu:exposures"
"""Stream of exposures taken at the check (`record_on_check`); drained by `rollout.tasks`."""

PLACES_STREAM: Final = "huidu:places"
"""Stream of users who need a place (`huidu.wire.places`); read by the desk that gives them."""

PLACES_GROUP: Final = "desk"
"""Its consumer group: several desks share the work."""

ROOM_CHANNEL: Final = "huidu:room"
"""Pub/sub: which funding partners have no room, from the desk to all check servers."""

ACCESS: Final = "huidu:access"
"""String: JSON `huidu.wire.access.Access`, every live API key by its SHA-256."""

RECEIPTS_STREAM: Final = "huidu:receipts"
"""Stream of batches of `huidu.wire.receipt`, for flags that keep receipts; drained likewise."""

PROFILE_META: Final = "huidu:profiles"
"""Hash: ``buckets`` (number of profile hashes), ``built_at``. Absent: profiles must be rebuilt."""

STREAM_SECRET: Final = "huidu:stream_secret"  # noqa: S105 - the name of a key, not a secret
"""String: random text that signs the event stream's tokens; made once by the first edge process."""


def placed_channel(process: str) -> str:
    """Pub/sub: replies to one check server's requests for places."""
    return f"huidu:placed:{process}"


def snapshot(environment: str) -> str:
    """String: the current snapshot, as `huidu.wire.snapshot.encode` wrote it."""
    return f"huidu:{environment}:snapshot"


def sequence(environment: str) -> str:
    """Integer: the `sequence` of the current snapshot; polled as the safety net of pub/sub."""
    return f"huidu:{environment}:sequence"
