"""Who read anti-fraud signals about whom, and why: reading them is an act of its own."""

from __future__ import annotations

from typing import Final

from django.db import transaction

from rollout.services import audit, pseudonyms
from rollout.services.audit import Actor

RISK_PERMISSION: Final = "rollout.change_gate"
"""The right of those who write gates, and so know their limits."""


def note(by: Actor, environment: str, flag_key: str, user_id: str, *, reason: str) -> None:
    """Keep in the audit log that `by` reads the risk voice about one user.

    Raises:
        InputError: there is no reason, or it is too long.
    """
    reason = pseudonyms.without(audit.clean_reason(reason), user_id)
    with transaction.atomic():
        audit.record(
            by,
            "explanation.read_as_risk",
            pseudonyms.target(user_id),
            environment=environment,
            after={"flag": flag_key.replace("\0", "")[:200]},
            reason=reason,
        )
