"""Proposing an outcome that changes something: done at once, or by a second person's approval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from cohorts import mappers
from cohorts.services import facts as reading
from huidu.errors import InputError
from rollout.models import Case, ChangeRequest
from rollout.services import cases, changes
from rollout.services.audit import Actor
from rollout.services.case_outcomes import (
    CORRECT,
    GRANT,
    check_facts,
    correctable,
    refuse_useless_grant,
)


def correct(
    case: Case,
    facts: Mapping[str, Any],
    *,
    by: Actor,
    reason: str,
    reply: str,
    risk: bool = False,
) -> ChangeRequest | None:
    """Correct facts about the user, by attribute name, and decide the case.

    Args:
        risk: whether `by` may write anti-fraud signals.

    Returns:
        The request that a second person must approve; None when it was done.
    Raises:
        InputError: a fact that does not fit its attribute, no reply, or no reason.
        StateError: the case is over, or waits for a second person already.
    """
    check_facts(facts)
    fit = {each.name for each in correctable(risk=risk)} | ({"risk_scored_on"} if risk else set())
    for name in facts:
        if name not in fit:
            raise InputError(
                f"expected one of {', '.join(sorted(fit))}, got {name[:60]!r}", path="facts"
            )
    today = timezone.localdate()
    read = reading.read({"user_id": case.user_id, **facts}, mappers.open_registry(), today)
    if not isinstance(read, reading.Facts):
        raise InputError(read[1], path="facts")
    return _propose(case, CORRECT, by, reason, reply, facts=dict(facts))


def grant(case: Case, *, by: Actor, reason: str, reply: str) -> ChangeRequest | None:
    """Let the user in by an allow list, and decide the case; as `correct`.

    Raises:
        StateError: besides, when a gate refuses those on allow lists too.
    """
    refuse_useless_grant(case)
    return _propose(case, GRANT, by, reason, reply)


def _propose(
    case: Case, kind: str, by: Actor, reason: str, reply: str, **told: Any
) -> ChangeRequest | None:
    reason = cases.clean(reason, "reason", needed=True)
    reply = cases.clean(reply, "reply", needed=True)
    with transaction.atomic():
        row = cases.locked(case, cases.IN_HAND)
        row.proposal = {"reply": reply, "reason": reason, **told}
        row.save()
        filed = changes.do_or_request(
            kind,
            row.pk,
            {},
            environment=row.environment,
            by=by,
            reason=f"review case {row.pk}",
        )
        if filed is not None:
            row.status, row.change = Case.Status.APPROVAL, filed
            row.save()
            cases.write(row, by, "proposed", reason)
    return filed
