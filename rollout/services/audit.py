"""The audit log: every change as one link of a hash chain.

`record` runs in the transaction of the change it tells about, so there is no change without an
entry and no entry without a change. Users are named by pseudonyms: see `pseudonyms`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.utils import timezone

from huidu.errors import InputError
from rollout.models import ApiKey, AuditEntry
from rollout.services import pseudonyms

_approver: ContextVar[str] = ContextVar("approver", default="")

CHAIN_LOCK: Final = 0x4855_4944_0001
"""Advisory lock that lines up writers: two entries must not follow the same one."""

SECRET_FIELDS: Final = frozenset({"digest", "secret", "blob", "password"})
MAX_REASON: Final = 2_000


@dataclass(frozen=True)
class Actor:
    """Who acts: `name` as the log shows it; `person` is who answers for it, for four eyes.

    An API key acts as itself, but its maker answers for it: nobody approves himself with a key.
    """

    name: str
    person: str

    @classmethod
    def of_user(cls, user: AbstractBaseUser) -> Actor:
        return cls(name=user.get_username(), person=user.get_username())

    @classmethod
    def of_key(cls, key: ApiKey) -> Actor:
        return cls(name=f"{key.created_by} (key {key.name})", person=key.created_by)


ENGINE: Final = Actor(name="engine", person="huidu engine")
"""Who acts where no person does. A user's name holds no space, so none can pass for it."""


@dataclass(frozen=True)
class ChainReport:
    """What `verify_chain` found: `entries` read, and the first place that does not fit, if any."""

    entries: int
    broken_at: int | None = None
    fault: str = ""

    @property
    def whole(self) -> bool:
        return self.broken_at is None


@contextmanager
def approved_by(person: Actor) -> Iterator[None]:
    """Entries written inside say who approved the change, beside who asked for it."""
    token = _approver.set(person.name)
    try:
        yield
    finally:
        _approver.reset(token)


def record(
    actor: Actor,
    action: str,
    target: str,
    *,
    environment: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
) -> AuditEntry:
    """Append one entry. Must run inside the transaction of the change."""
    if not connection.in_atomic_block:
        raise RuntimeError(f"audit of {action} {target}: expected to run inside a transaction")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
    if approver := _approver.get():
        after = {**(after or {}), "approved_by": approver}
    last = AuditEntry.objects.order_by("-sequence").values_list("sequence", "hash").first()
    entry = AuditEntry(
        sequence=last[0] + 1 if last else 1,
        at=timezone.now(),
        actor=actor.name,
        action=action,
        environment=environment,
        target=target,
        before=pseudonyms.hidden(before),
        after=pseudonyms.hidden(after),
        reason=pseudonyms.hidden_reason(clean_reason(reason, needed=False), before, after),
        previous_hash=last[1] if last else "",
    )
    entry.hash = hash_of(entry)
    entry.save(force_insert=True)
    return entry


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 over the entry's fields in one canonical text, `previous_hash` among them."""
    told = [
        entry.sequence,
        entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        entry.actor,
        entry.action,
        entry.environment,
        entry.target,
        _canonical(entry.before),
        _canonical(entry.after),
        entry.reason,
        entry.previous_hash,
    ]
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify_chain() -> ChainReport:
    """Read the whole chain, oldest first, and name the first entry that does not fit.

    A cut-off tail cannot show from inside: compare `entries` with what was last published.
    """
    count, previous = 0, ""
    for entry in AuditEntry.objects.order_by("sequence").iterator(chunk_size=2_000):
        count += 1
        if entry.sequence != count:
            return ChainReport(count, count, f"entry {count} is missing")
        if entry.previous_hash != previous:
            return ChainReport(count, entry.sequence, "does not follow the entry before it")
        if entry.hash != hash_of(entry):
            return ChainReport(count, entry.sequence, "was changed after it was written")
        previous = entry.hash
    return ChainReport(count)


def state_of(row: models.Model) -> dict[str, Any]:
    """A row's columns as plain JSON, secrets left out."""
    values = {
        field.attname: field.value_from_object(row)
        for field in row._meta.concrete_fields
        if field.attname not in SECRET_FIELDS and not getattr(field, "auto_now", False)
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, cls=DjangoJSONEncoder))
    return plain


def difference(
    before: dict[str, Any], after: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only what changed, on both sides."""
    changed = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in changed}, {name: after[name] for name in changed}


def clean_reason(reason: str, *, needed: bool = True) -> str:
    """The reason without blanks at its ends.

    Raises:
        InputError: empty although needed, longer than `MAX_REASON`, or with a NUL.
    """
    reason = reason.strip()
    if needed and not reason:
        raise InputError("expected a sentence that says why, got nothing", path="reason")
    if len(reason) > MAX_REASON or "\0" in reason:
        raise InputError(
            f"expected at most {MAX_REASON:,} characters without NUL, got {len(reason):,}",
            path="reason",
        )
    return reason


def _canonical(value: Any) -> Any:
    """JSON as PostgreSQL gives it back: 1.0 and 1, or 1e22 and its digits, are one number."""
    if isinstance(value, float) and value.is_integer():
        # By its digits: JSON says 1e300, and the power of two next to it is another number.
        return int(Decimal(repr(value)))
    if isinstance(value, dict):
        return {str(name): _canonical(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value
