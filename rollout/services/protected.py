"""Protected values of users: who may read them, and the log of who did and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from django.db import transaction

from cohorts.models import Attribute
from rollout.services import audit, pseudonyms
from rollout.services.audit import Actor
from rollout.services.reading import RISK_PERMISSION

READ_PERMISSION: Final = "cohorts.read_sensitive_profile"
"""The right to read protected values; anti-fraud signals also need `RISK_PERMISSION`."""


def protected() -> dict[str, Attribute]:
    """Attributes whose values are masked, by name: all that are not ordinary."""
    rows = Attribute.objects.exclude(sensitivity=Attribute.Sensitivity.ORDINARY).order_by("id")
    return {row.name: row for row in rows}


def readable(user: Any, attributes: Iterable[Attribute]) -> set[str]:
    """Names of those whose values a member of staff may read, once a reason is given."""
    if not user.has_perm(READ_PERMISSION):
        return set()
    risk = user.has_perm(RISK_PERMISSION)
    return {each.name for each in attributes if risk or each.sensitivity != "risk"}


def note(by: Actor, user_id: str, names: Collection[str], *, environment: str, reason: str) -> None:
    """Keep in the audit log that `by` reads these values of one user, before they are told.

    A program that reads by key may leave the reason empty; people are asked for one.

    Raises:
        InputError: the reason is too long.
    """
    with transaction.atomic():
        audit.record(
            by,
            "profile.read_protected",
            pseudonyms.target(user_id),
            environment=environment,
            after={"attributes": sorted(names)},
            reason=pseudonyms.without(audit.clean_reason(reason, needed=False), user_id),
        )
