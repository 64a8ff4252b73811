"""Flags: making, changing, killing and bringing them back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from cohorts.models import UserList
from huidu.errors import StateError
from rollout.models import Flag, Rollout, Snapshot
from rollout.services import audit, messages, outbox, publishing
from rollout.services.audit import Actor
from rollout.services.changing import (
    changing,
    grow_version,
    needs_second_person,
    only,
    require_second_person,
    users,
)

EDITABLE: Final = frozenset(
    {
        "label_zh",
        "label_en",
        "description",
        "owner",
        "notify",
        "entry_mode",
        "lender",
        "type",
        "variants",
        "off_variant",
        "off_value",
        "payload",
        "enabled",
        "client_visible",
        "record_on_check",
        "receipts_ppm",
        "four_eyes",
        "allow_users",
        "block_users",
        "prerequisites",
        "exclusion",
        "exclusion_from_ppm",
        "exclusion_to_ppm",
    }
)
HARMLESS: Final = frozenset(
    {"label_zh", "label_en", "description", "owner", "notify", "block_users", "receipts_ppm"}
)
"""Fields one person may change on a live flag: they show the product to nobody new."""


@dataclass(frozen=True)
class Killed:
    """What `kill` did: the published snapshot, and whether it reached the nodes' store.

    When it did not (`reached_nodes` False) the kill stands in the database and is brought as soon
    as the store answers.
    """

    flag: Flag
    snapshot: Snapshot | None
    reached_nodes: bool


def target_of(flag: Flag) -> str:
    return f"flag:{flag.key}"


def create(environment: str, key: str, *, by: Actor, reason: str = "", **values: Any) -> Flag:
    """Make a flag; it shows nothing to anybody until a rollout starts.

    Raises:
        InputError: a field is wrong, or the key is taken.
        SnapshotError: variants or prerequisites contradict each other.
    """
    only(values, EDITABLE)
    for name in ("allow_users", "block_users"):
        users(values.get(name, []), name)
    row = Flag(environment=environment, key=key, **values)
    with changing(
        row,
        "flag.created",
        environment=environment,
        target=target_of(row),
        by=by,
        reason=audit.clean_reason(reason, needed=False),
    ):
        pass
    return row


def update(
    flag: Flag,
    values: Mapping[str, Any],
    *,
    by: Actor,
    reason: str = "",
    approved_by: Actor | None = None,
    allow_lists: Iterable[UserList] | None = None,
    block_lists: Iterable[UserList] | None = None,
) -> Flag:
    """Change a flag's fields (`EDITABLE`) and its user lists.

    Raises:
        ApprovalNeededError: the flag is live and asks for two people (labels and blocks excepted).
        InputError, SnapshotError: as `create`.
    """
    only(values, EDITABLE)
    for name in ("allow_users", "block_users"):
        users(values.get(name, []), name)
    risky = allow_lists is not None or any(
        getattr(flag, name) != value and name not in HARMLESS for name, value in values.items()
    )
    if risky and needs_second_person(flag):
        require_second_person(flag, by, approved_by, "this change")
    with changing(
        flag,
        "flag.updated",
        environment=flag.environment,
        target=target_of(flag),
        by=by,
        reason=audit.clean_reason(reason, needed=False),
        flag=flag,
    ) as row:
        for name, value in values.items():
            setattr(row, name, value)
        if allow_lists is not None:
            row.allow_lists.set(allow_lists)
        if block_lists is not None:
            row.block_lists.set(block_lists)
    row.refresh_from_db()
    return row


def kill(flag: Flag, *, by: Actor, reason: str) -> Killed:
    """Hide the flag from everybody at once, allow lists included.

    1. Written, logged, and left in the outbox, in one transaction of three short statements.
    2. Published by this very call, and so on every node within a second.
    3. If the rows cannot be published for another reason, the last good snapshot is published with
       this flag killed; if the store is away, the tick brings it.

    Killing a killed flag changes nothing and publishes again.

    Raises:
        InputError: no reason was given.
    """
    reason = audit.clean_reason(reason)
    now = timezone.now()
    with transaction.atomic():
        killed = Flag.objects.filter(pk=flag.pk, killed=False).update(
            killed=True, killed_at=now, killed_by=by.name, killed_reason=reason
        )
        if killed:
            grow_version(flag)
            # A rollout that another worker is drawing for right now is not waited for: its step
            # finds the flag killed and is refused.
            moving = Rollout.objects.select_for_update(skip_locked=True).filter(
                flag=flag, status__in=[Rollout.Status.RUNNING, Rollout.Status.PAUSED]
            )
            stopped = Rollout.objects.filter(pk__in=[each.pk for each in moving]).update(
                status=Rollout.Status.KILLED
            )
            audit.record(
                by,
                "flag.killed",
                target_of(flag),
                environment=flag.environment,
                before={"killed": False},
                after={"killed": True, "rollouts_stopped": stopped},
                reason=reason,
            )
            messages.tell_killed(flag, by=by, reason=reason)
        outbox.note_snapshot(flag.environment, cause=f"flag.killed {target_of(flag)}", by=by)
    published = publishing.publish_kill(
        flag.environment, flag.key, cause=f"flag.killed {target_of(flag)}: {reason}", by=by.name
    )
    flag.refresh_from_db()
    return Killed(flag, published.snapshot, published.reached_redis)


def resume(flag: Flag, *, by: Actor, reason: str, approved_by: Actor | None = None) -> Flag:
    """Bring a killed flag back. Its rollout comes back paused: a person starts it again.

    Raises:
        StateError: the flag is not killed.
        ApprovalNeededError: the flag asks for two people.
    """
    reason = audit.clean_reason(reason)
    if flag.four_eyes:
        require_second_person(flag, by, approved_by, "resuming")
    with transaction.atomic():
        resumed = Flag.objects.filter(pk=flag.pk, killed=True).update(
            killed=False, killed_at=None, killed_by="", killed_reason=""
        )
        if not resumed:
            raise StateError(f"flag {flag.key} is not killed, so there is nothing to resume")
        grow_version(flag)
        Rollout.objects.filter(
            flag=flag, status__in=[Rollout.Status.KILLED, Rollout.Status.RUNNING]
        ).update(status=Rollout.Status.PAUSED)
        publishing.check(flag.environment)
        audit.record(
            by,
            "flag.resumed",
            target_of(flag),
            environment=flag.environment,
            before={"killed": True},
            after={"killed": False, "approved_by": approved_by.name if approved_by else ""},
            reason=reason,
        )
        outbox.publish_after_commit(
            flag.environment, cause=f"flag.resumed {target_of(flag)}", by=by
        )
    flag.refresh_from_db()
    return flag


def archive(flag: Flag, *, by: Actor, reason: str) -> Flag:
    """Take a flag out of the snapshot for good; its history stays.

    Raises:
        StateError: a rollout of it is in effect.
    """
    reason = audit.clean_reason(reason)
    if Rollout.objects.filter(flag=flag, status__in=Rollout.IN_EFFECT).exists():
        raise StateError(f"flag {flag.key} has a rollout in effect: roll it back first")
    with changing(
        flag,
        "flag.archived",
        environment=flag.environment,
        target=target_of(flag),
        by=by,
        reason=reason,
    ) as row:
        row.archived_at = timezone.now()
    return row
