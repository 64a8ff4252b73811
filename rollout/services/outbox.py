"""What must follow a commit, written in the transaction that commits it.

Right after the commit this process tries at once; what fails then (Redis away, process killed) is
left to the tick `rollout.tasks.drain_outbox`.
"""

from __future__ import annotations

import logging

from django.db import connection, transaction

from rollout.models import Outbox
from rollout.services.audit import Actor

logger = logging.getLogger(__name__)


def publish_after_commit(environment: str, *, cause: str, by: Actor) -> None:
    """The change changes answers: publish a snapshot of `environment` after the commit."""
    _enqueue(Outbox.Kind.SNAPSHOT, environment, cause, by)


def publish_access_after_commit(environment: str, *, cause: str, by: Actor) -> None:
    """The change changes keys: publish the live keys after the commit."""
    _enqueue(Outbox.Kind.ACCESS, environment, cause, by)


def note_snapshot(environment: str, *, cause: str, by: Actor) -> None:
    """As `publish_after_commit`, for a caller that publishes itself right after the commit."""
    _write(Outbox.Kind.SNAPSHOT, environment, cause, by)


def _enqueue(kind: Outbox.Kind, environment: str, cause: str, by: Actor) -> None:
    _write(kind, environment, cause, by)

    def drain() -> None:
        _drain_at_once(environment)

    # A function, not a partial: when it raises, Django names it by `__qualname__` in its log.
    transaction.on_commit(drain, robust=True)


def _write(kind: Outbox.Kind, environment: str, cause: str, by: Actor) -> None:
    if not connection.in_atomic_block:
        raise RuntimeError(f"outbox {kind}: expected to run inside a transaction")
    Outbox.objects.create(kind=kind, environment=environment, cause=cause, by=by.name)


def _drain_at_once(environment: str) -> None:
    from rollout.services import publishing  # publishing reads the rows written here

    publishing.publish_pending(environment)
