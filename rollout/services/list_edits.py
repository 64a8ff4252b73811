"""Changes of long user lists: made, applied, reverted; logged, seen by two where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from cohorts.models import ListVersion, UserList
from cohorts.services import list_versions, member_moves
from huidu.errors import InputError
from rollout.models import Flag
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import needs_second_person, only, require_second_person, save

EDITABLE: Final = frozenset(
    {"key", "kind", "label_zh", "label_en", "description", "invitation_lifetime"}
)
AT_ONCE_SECONDS: Final = 2.0
"""How long a request applies by itself; the tick does the rest."""


def save_list(
    values: Mapping[str, Any], *, by: Actor, row: UserList | None = None, reason: str = ""
) -> UserList:
    """Make a list, or change its names. Key and kind never change: flags refer to them.

    Raises:
        InputError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    for name in ("key", "kind"):
        if row is not None and values.get(name, getattr(row, name)) != getattr(row, name):
            raise InputError(
                f"expected {getattr(row, name)}: flags refer to it, so it never changes", path=name
            )
    with transaction.atomic():
        found = UserList.objects.select_for_update().get(pk=row.pk) if row else UserList()
        before = audit.state_of(found) if row else {}
        for name, value in values.items():
            setattr(found, name, value)
        save(found)
        was, now = audit.difference(before, audit.state_of(found))
        audit.record(
            by,
            "list.updated" if row else "list.created",
            f"list:{found.key}",
            environment="all",
            before=was if row else None,
            after=now,
            reason=reason,
        )
    return found


def flags_using(found: UserList) -> list[Flag]:
    """Flags that show themselves, or hide, by this list."""
    used = Q(allow_lists=found) | Q(block_lists=found)
    return list(Flag.objects.filter(used, archived_at=None).distinct().order_by("key"))


def apply(
    version: ListVersion, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> ListVersion:
    """Make the list what the version says. Small ones are done at once, long ones by the tick.

    Raises:
        ApprovalNeededError: a live flag that asks for two people uses the list.
        StateError: the version does not fit the list any more, or another one is under way.
        InputError: no reason.
    """
    return _begin(version, "applied", by, reason, approved_by)


def revert(
    version: ListVersion, *, by: Actor, reason: str, approved_by: Actor | None = None
) -> ListVersion:
    """Take back the version applied last.

    Raises:
        as `apply`.
    """
    return _begin(version, "reverted", by, reason, approved_by)


def discard(version: ListVersion, *, by: Actor, reason: str) -> None:
    """Drop a comparison that nobody applied.

    Raises:
        StateError: it was applied.
    """
    with transaction.atomic():
        list_versions.discard(version)
        _record(version, "discarded", by, reason)


def move_members(
    found: UserList, members: Sequence[Mapping[str, Any]], *, by: Actor, reason: str
) -> member_moves.Moved:
    """Invite, accept, expire or remove users one by one.

    Accepting an invitation shows nobody anything new, so it waits for nobody.

    Raises:
        InputError: a user or state is wrong, or no reason where users come or go.
        ApprovalNeededError: users would come or go, and a live flag that asks for two people uses
            the list: upload them, so that somebody else sees the difference.
    """
    wanted = member_moves.plan(members)
    crosses = member_moves.crossing(found.pk, wanted)
    if crosses:
        for flag in flags_using(found):
            if needs_second_person(flag):
                require_second_person(flag, by, None, f"moving members of {found.key}")
    with transaction.atomic():
        moved = member_moves.move(found.pk, wanted, by=by.name, now=timezone.now())
        audit.record(
            by,
            "list.members_moved",
            f"list:{found.key}",
            environment="all",
            after=msgspec.structs.asdict(moved),
            reason=audit.clean_reason(reason, needed=bool(crosses)),
        )
    return moved


def cancel(version: ListVersion, *, by: Actor, reason: str) -> ListVersion:
    """Stop a comparison, or turn back a version that is being applied.

    Raises:
        StateError: neither is under way.
    """
    with transaction.atomic():
        found = list_versions.cancel(version)
        _record(found, "cancelled", by, reason)
    return found


def _begin(
    version: ListVersion, step: str, by: Actor, reason: str, approved_by: Actor | None
) -> ListVersion:
    for flag in flags_using(version.list):
        if needs_second_person(flag):
            require_second_person(flag, by, approved_by, f"a new list {version.list.key}")
    begin = list_versions.begin_apply if step == "applied" else list_versions.begin_revert
    with transaction.atomic():
        begun = begin(version)
        _record(begun, step, by, reason)
        # Afterwards, so that a killed process leaves a version that is begun and logged.
        transaction.on_commit(
            lambda: list_versions.carry_on(AT_ONCE_SECONDS, version=begun), robust=True
        )
    begun.refresh_from_db()
    return begun


def _record(version: ListVersion, step: str, by: Actor, reason: str) -> None:
    """Counts and the file's fingerprint, no user: the log is kept when a user is forgotten."""
    names = ("mode", "sha256", "base", "users", "added", "removed", "changed", "invalid")
    audit.record(
        by,
        f"list.version_{step}",
        f"list:{version.list.key}",
        environment="all",
        after={"version": version.pk, **{name: getattr(version, name) for name in names}},
        reason=audit.clean_reason(reason),
    )
