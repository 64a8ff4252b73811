"""The one shape of every change: lock, check, write, log, and leave an outbox row.

    with changing(flag, "flag.updated", by=actor, reason=reason) as row:
        row.enabled = False

The block runs in a transaction on the locked row. Afterwards the row is validated, written, logged
with what changed, and the whole environment is built as it would be published: a change that
contradicts anything else is refused here, before the commit, with a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from huidu.errors import InputError, StateError
from huidu.model import MAX_ID_CHARACTERS
from rollout.models import Flag, Rollout
from rollout.services import audit, outbox, publishing
from rollout.services.audit import Actor

Row = TypeVar("Row", bound=models.Model)


class ApprovalNeededError(StateError):
    """The step needs a second person; see `rollout.services.changes`."""

    code = "approval.needed"


@contextmanager
def changing(
    row: Row,
    action: str,
    *,
    environment: str,
    target: str,
    by: Actor,
    reason: str = "",
    flag: Flag | None = None,
    publishes: bool = True,
) -> Iterator[Row]:
    """Change one row, new or old; yields it locked and fresh.

    Args:
        flag: the flag the row belongs to; its version grows by one.
        publishes: whether answers may change, so that a snapshot must follow.
    Raises:
        InputError: a field is wrong; `path` names it.
        RuleError, SnapshotError: the change contradicts what else is published.
    """
    with transaction.atomic():
        if row.pk is None or row._state.adding:
            fresh, before = row, {}
        else:
            manager = type(row)._default_manager
            found = manager.select_for_update(of=("self",)).filter(pk=row.pk).first()
            if found is None:
                raise InputError(f"expected an existing {target}, got none", code="not_found")
            fresh, before = found, audit.state_of(found)
        yield fresh
        save(fresh)
        if flag is not None:
            grow_version(flag)
        if publishes:
            publishing.check(environment)
        was, now = audit.difference(before, audit.state_of(fresh))
        audit.record(
            by,
            action,
            target,
            environment=environment,
            before=was if before else None,
            after=now,
            reason=reason,
        )
        if publishes:
            outbox.publish_after_commit(environment, cause=f"{action} {target}", by=by)


def save(row: models.Model) -> None:
    """Validate every field and constraint, then write.

    Raises:
        InputError: `path` names the field.
    """
    try:
        row.full_clean()
    except ValidationError as error:
        raise input_error(error) from error
    row.save()


def input_error(error: ValidationError) -> InputError:
    """Django's complaint as ours: the first fault, with its field as the path."""
    if hasattr(error, "error_dict"):
        field, faults = next(iter(error.message_dict.items()))
        return InputError(faults[0], path="" if field == "__all__" else field)
    return InputError(error.messages[0])


def grow_version(flag: Flag) -> None:
    """Anything about the flag changed, its gates, tiers and stages included."""
    Flag.objects.filter(pk=flag.pk).update(version=F("version") + 1, updated_at=timezone.now())


def remove(
    row: models.Model,
    action: str,
    *,
    environment: str,
    target: str,
    by: Actor,
    reason: str,
    flag: Flag | None = None,
) -> None:
    """Delete one row, logged and validated like any other change.

    Raises:
        StateError: something still uses the row.
        RuleError, SnapshotError: what is left contradicts itself.
    """
    with transaction.atomic():
        before = audit.state_of(row)
        try:
            row.delete()
        except models.ProtectedError as error:
            users = ", ".join(sorted({str(each) for each in error.protected_objects})[:5])
            raise StateError(f"{target} is still used by {users}", code="state.in_use") from error
        if flag is not None:
            grow_version(flag)
        publishing.check(environment)
        audit.record(by, action, target, environment=environment, before=before, reason=reason)
        outbox.publish_after_commit(environment, cause=f"{action} {target}", by=by)


def needs_second_person(flag: Flag) -> bool:
    """Whether changes of who sees the flag need two people now: it asks for them, and is live."""
    live = Rollout.objects.filter(flag=flag, status__in=Rollout.IN_EFFECT)
    return flag.four_eyes and live.exists()


def require_second_person(flag: Flag, by: Actor, approved_by: Actor | None, step: str) -> None:
    """Refuse unless another person approved the step, where the flag asks for it.

    Raises:
        ApprovalNeededError: nobody else approved it yet.
    """
    if approved_by is not None and approved_by.person != by.person:
        return
    raise ApprovalNeededError(
        f"{step} of {flag.key} needs a second person: file a change request and let somebody "
        f"other than {by.person} approve it"
    )


def only(values: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Refuse names that a caller may not set.

    Raises:
        InputError: names the first one, and what would be right.
    """
    for name in values:
        if name not in allowed:
            raise InputError(
                f"expected one of {', '.join(sorted(allowed))}, got {name[:60]!r}", path=name[:60]
            )


def finite(value: Any, path: str) -> float | None:
    """A number as it may be stored; None stays None. NaN passes every comparison of a database.

    Raises:
        InputError: it is no finite number.
    """
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"expected a finite number, got {str(value)[:60]}", path=path)
    return number


def users(value: Any, path: str, *, most: int = 10_000) -> None:
    """Refuse what is not a short list of user ids.

    Raises:
        InputError: names the entry.
    """
    if not isinstance(value, list):
        raise InputError("expected a list of user ids", path=path)
    if len(value) > most:
        raise InputError(
            f"expected at most {most:,} users, got {len(value):,}: use a user list", path=path
        )
    for index, user in enumerate(value):
        if not isinstance(user, str) or "\0" in user or not 0 < len(user) <= MAX_ID_CHARACTERS:
            raise InputError(
                f"expected a user's id of 1 to {MAX_ID_CHARACTERS} characters",
                path=f"{path}[{index}]",
            )
