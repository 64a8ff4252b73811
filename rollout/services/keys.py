"""API keys: made, shown once, revoked. Only their SHA-256 is kept."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from huidu.errors import InputError, StateError
from huidu.wire.access import KeyKind, digest
from rollout.models import ApiKey
from rollout.services import audit, outbox
from rollout.services.audit import Actor
from rollout.services.changing import save

SECRET_BYTES: Final = 24
SHOWN_CHARACTERS: Final = 6
USE_IS_NOTED_EVERY: Final = timedelta(minutes=5)


def create(
    environment: str, kind: str, name: str, *, by: Actor, token: str | None = None
) -> tuple[ApiKey, str]:
    """Make a key; the second value is its text, which nobody can read again.

    Args:
        token: a text of the caller's own, for keys that are part of a deployment's configuration.
    Raises:
        InputError: the kind or name is wrong, or the name is taken.
    """
    if kind not in {each.value for each in KeyKind}:
        raise InputError(
            f"expected one of {', '.join(each.value for each in KeyKind)}, got {kind[:60]!r}",
            path="kind",
        )
    begin = f"hd_{kind}_"
    token = token or begin + secrets.token_urlsafe(SECRET_BYTES)
    if not token.startswith(begin) or len(token) < len(begin) + SHOWN_CHARACTERS * 3:
        raise InputError(f"expected a token of {begin} and 18 characters or more", path="token")
    row = ApiKey(
        environment=environment,
        kind=kind,
        name=name,
        digest=digest(token),
        prefix=token[: len(begin) + SHOWN_CHARACTERS],
        created_by=by.person,
    )
    with transaction.atomic():
        save(row)
        audit.record(
            by,
            "key.created",
            target_of(row),
            environment=environment,
            after={"kind": kind, "name": name, "prefix": row.prefix},
        )
        outbox.publish_access_after_commit(environment, cause="key.created", by=by)
    return row, token


def revoke(key: ApiKey, *, by: Actor, reason: str) -> ApiKey:
    """End a key at once, on every node; it never comes back.

    Raises:
        StateError: revoked before.
    """
    reason = audit.clean_reason(reason)
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now(), revoked_by=by.person
        )
        if not revoked:
            raise StateError(f"key {key.name} was revoked before")
        audit.record(
            by,
            "key.revoked",
            target_of(key),
            environment=key.environment,
            before={"live": True},
            after={"live": False},
            reason=reason,
        )
        outbox.publish_access_after_commit(key.environment, cause="key.revoked", by=by)
    key.refresh_from_db()
    return key


def note_use(key: ApiKey) -> None:
    """Remember when a key was last used, at most every few minutes; not a change, not logged."""
    now = timezone.now()
    if key.last_used is None or now - key.last_used > USE_IS_NOTED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used=now)
        key.last_used = now


def target_of(key: ApiKey) -> str:
    return f"key:{key.environment}/{key.name}"
