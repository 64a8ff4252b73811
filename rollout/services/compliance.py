"""The checklist: items are written, and signed by a person who answers for them by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from huidu.errors import StateError
from rollout import selectors
from rollout.models import ComplianceItem, Flag
from rollout.services import audit
from rollout.services.audit import Actor
from rollout.services.changing import changing, only

EDITABLE: Final = frozenset({"key", "text_zh", "text_en", "source", "valid_from", "valid_to"})


def save_item(
    flag: Flag,
    values: Mapping[str, Any],
    *,
    by: Actor,
    item: ComplianceItem | None = None,
    reason: str = "",
) -> ComplianceItem:
    """Write an item. Changing a signed one takes the signature away: it was under another text.

    Raises:
        InputError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    key = values.get("key", item.key if item else "")
    with changing(
        item if item is not None else ComplianceItem(flag=flag),
        "compliance.updated" if item is not None else "compliance.created",
        environment=flag.environment,
        target=f"compliance:{flag.key}/{key}",
        by=by,
        reason=reason,
        publishes=False,
    ) as row:
        for name, value in values.items():
            setattr(row, name, value)
        row.signed_by, row.signed_at = "", None
    return row


def sign(item: ComplianceItem, *, by: Actor, reason: str) -> ComplianceItem:
    """Sign an item.

    Raises:
        StateError: signed before.
        InputError: no word on what was checked.
    """
    reason = audit.clean_reason(reason)
    flag = item.flag
    with changing(
        item,
        "compliance.signed",
        environment=flag.environment,
        target=f"compliance:{flag.key}/{item.key}",
        by=by,
        reason=reason,
        publishes=False,
    ) as row:
        if row.signed_by:
            raise StateError(f"compliance item {row} was signed by {row.signed_by} before")
        row.signed_by, row.signed_at = by.person, timezone.now()
    return row


def require_signed(flag: Flag) -> None:
    """Refuse a step forward while items are unsigned or out of date.

    Raises:
        StateError: names them.
    """
    missing = selectors.unsigned_items(flag, timezone.localdate())
    if missing:
        raise StateError(
            f"flag {flag.key}: compliance items {', '.join(missing)} are unsigned or out of date",
            code="compliance.unsigned",
        )
