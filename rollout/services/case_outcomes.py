"""What a review may change: a fact that was wrong, or an entry on an allow list of the flag.

What is proposed lies in the case and not in the change request, whose text goes into the log: facts
about a person must be erasable, and the log is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.db import transaction
from django.utils import timezone

from cohorts import mappers
from cohorts import selectors as who
from cohorts.models import Attribute, UserList
from cohorts.services import lists, profiles
from cohorts.services.facts import settable
from huidu import model
from huidu.engine import compile_snapshot
from huidu.errors import InputError, StateError
from rollout.models import Case, ChangeRequest
from rollout.services import cases, flags
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from rollout.services.audit import Actor
from rollout.services.changing import needs_second_person, require_second_person

CORRECT: Final = "case.correct"
GRANT: Final = "case.grant"


def correct(case: Case, *, by: Actor, approved_by: Actor | None = None) -> Case:
    """Write the proposed facts and decide the case as corrected.

    Raises:
        ApprovalNeededError: the flag asks for two people.
        InputError: a fact that does not fit its attribute.
    """
    facts = case.proposal.get("facts") or {}
    check_facts(facts)
    if needs_second_person(case.flag):
        require_second_person(case.flag, by, approved_by, "correcting facts for a review")
    with transaction.atomic():
        taken = profiles.ingest_profiles([{"user_id": case.user_id, **facts}], now=timezone.now())
        for fault in taken.rejected:
            raise InputError(fault.detail, path="facts")
        return _decide(case, Case.Outcome.CORRECTED, by, approved_by, attributes=sorted(facts))


def grant(case: Case, *, by: Actor, approved_by: Actor | None = None) -> Case:
    """Put the user on the flag's list of granted users, and decide the case as granted.

    Raises:
        ApprovalNeededError: the flag asks for two people.
        StateError: a gate that the allow list does not pass refuses the user.
    """
    refuse_useless_grant(case)
    flag = case.flag
    if needs_second_person(flag):
        require_second_person(flag, by, approved_by, "granting after a review")
    with transaction.atomic():
        found, _ = UserList.objects.get_or_create(
            key=f"granted-{flag.environment}-{flag.key}"[:63],
            defaults={
                "kind": UserList.Kind.ALLOW,
                "label_zh": f"人工复核开通：{flag.label_zh or flag.key}"[:120],
                "label_en": f"Granted by review: {flag.label_en or flag.key}"[:120],
            },
        )
        attached = list(flag.allow_lists.all())
        if found not in attached:
            flags.update(
                flag,
                {},
                by=by,
                reason="users granted the flag by a review of a person",
                approved_by=approved_by,
                allow_lists=[*attached, found],
            )
        lists.add_members(found.pk, [case.user_id], by=by.name)
        return _decide(case, Case.Outcome.GRANTED, by, approved_by, list=found.key)


def _decide(case: Case, outcome: str, by: Actor, approved_by: Actor | None, **told: Any) -> Case:
    if approved_by is not None:
        told["approved_by"] = approved_by.name
    proposal = case.proposal
    return cases.close(
        case,
        outcome,
        by=by,
        reply=proposal.get("reply", ""),
        text=proposal.get("reason", ""),
        after=told,
        states=Case.UNDER_WAY,
    )


def return_to_review(change: ChangeRequest, *, by: Actor) -> None:
    """A proposal was refused or taken back: the case is in somebody's hands again."""
    for case in Case.objects.filter(change=change, status=Case.Status.APPROVAL):
        case.status = Case.Status.IN_REVIEW
        case.save(update_fields=["status"])
        cases.write(case, by, "not_approved", change.decision_note)


def would_be(case: Case) -> tuple[model.Answer, model.Answer]:
    """The answer the user gets now, and what it would be on the allow list."""
    environment, key = case.environment, case.flag.key
    compiled, _ = compiled_snapshot(environment, snapshot_in_force(environment))
    user = who.held_users([case.user_id]).get(case.user_id) or model.User(case.user_id, {})
    now = compiled.check(key, user)
    flag = compiled.flags.get(key)
    if flag is None:
        return now, now
    listed = msgspec.structs.replace(flag, allow_list=flag.allow_list | {case.user_id})
    all_flags = [listed if each.key == key else each for each in compiled.snapshot.flags]
    changed = compile_snapshot(msgspec.structs.replace(compiled.snapshot, flags=all_flags))
    return now, changed.check(key, user)


def refuse_useless_grant(case: Case) -> None:
    """Raises `StateError` when the allow list would not show the flag: that grants nothing."""
    _, listed = would_be(case)
    if not listed.visible:
        raise StateError(
            f"the allow list would not show {case.flag.key} to this user: {listed.why} refuses "
            "also those on the list",
            code="case.grant_useless",
        )


def correctable(*, risk: bool) -> list[Attribute]:
    """Attributes whose held value a reviewer may correct; risk signals only for risk officers."""
    names = settable(mappers.open_registry())
    rows = Attribute.objects.filter(name__in=names).order_by("id")
    return [each for each in rows if risk or each.sensitivity not in Attribute.NEVER_TOLD]


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raises `InputError` when there is nothing to correct."""
    if not facts or "user_id" in facts:
        raise InputError("expected the attributes to correct, and no user_id", path="facts")
