"""What belongs to no environment, changed: checked in each one, logged once, published in each."""

from __future__ import annotations

from typing import Any

from rollout.models import Flag
from rollout.services import audit, outbox, publishing
from rollout.services.audit import Actor


def record_and_publish(
    by: Actor,
    action: str,
    target: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    reason: str,
) -> None:
    """Call it inside the transaction of the change.

    Raises:
        RuleError, SnapshotError: the change contradicts what an environment publishes.
    """
    environments = sorted(set(Flag.objects.values_list("environment", flat=True)))
    for environment in environments:
        publishing.check(environment)
    audit.record(
        by,
        action,
        target,
        environment=environments[0] if len(environments) == 1 else "all",
        before=before,
        after=after,
        reason=audit.clean_reason(reason, needed=False),
    )
    for environment in environments:
        outbox.publish_after_commit(environment, cause=f"{action} {target}", by=by)
