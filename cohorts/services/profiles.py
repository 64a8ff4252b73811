"""Facts about users in: partial, idempotent, and kept with their time."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.db import connection, transaction

from cohorts.columns import COLUMNS, RISK_DAY
from cohorts.services import facts, packing, registry
from cohorts.services.items import MAX_ITEMS, IngestResult, Rejected
from cohorts.services.outbox import mark_dirty
from huidu.errors import InputError

_NAMES: Final = tuple(COLUMNS)
_COLUMNS: Final = ", ".join(_NAMES)

_MAKE: Final = """
INSERT INTO cohorts_profile (user_id, attributes, updated_at)
SELECT user_id, '{}', %s FROM unnest(%s::text[]) AS t (user_id) ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING RETURNING user_id
"""

_LOCK: Final = f"""
SELECT user_id, updated_at, attributes, {_COLUMNS} FROM cohorts_profile
WHERE user_id = ANY(%s) ORDER BY user_id FOR UPDATE
"""  # noqa: S608 - no input in it

_WRITE: Final = f"""
UPDATE cohorts_profile AS held
SET (updated_at, attributes, {_COLUMNS}) =
    (sent.updated_at, sent.attributes, {", ".join(f"sent.{name}" for name in _NAMES)})
FROM jsonb_populate_recordset(NULL::cohorts_profile, %s::jsonb) AS sent
WHERE held.user_id = sent.user_id
"""  # noqa: S608

_REMEMBER: Final = """
INSERT INTO cohorts_profilehistory (user_id, at, changes)
SELECT user_id, %s, changes
FROM jsonb_to_recordset(%s::jsonb) AS t (user_id text, changes jsonb) ORDER BY user_id
"""

# Which of these values were learned or confirmed after the moment given for their name.
_FRESH: Final = """
SELECT DISTINCT h.user_id, asked.name
FROM unnest(%s::text[], %s::timestamptz[]) AS asked (name, since)
JOIN cohorts_profilehistory AS h
  ON h.user_id = ANY(%s) AND h.at > asked.since AND h.changes ? asked.name
"""

CONFIRMED_EVERY: Final = datetime.timedelta(hours=1)
"""Facts that are sent again unchanged are noted as confirmed at most this often."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def ingest_profiles(
    items: Sequence[Mapping[str, Any]], now: datetime.datetime, *, pack: bool = True
) -> IngestResult:
    """Bring facts about users up to date.

    1. Leave out items with an unknown or unfit attribute, each with a code; nothing of them counts.
    2. Make the rows that are missing, then lock all in the order of user ids.
    3. Write what differs, remember the differences with their time, mark the users for packing.
    4. After the commit, pack the profiles concerned; what fails is packed by the next tick.

    A missing field leaves the stored value, null makes it unknown. Later items of one user win.

    Args:
        items: at most 5,000 mappings with ``user_id`` and facts by attribute name.
        now: the clock, when the platform learned the facts.
        pack: False leaves packing to the tick, for imports.
    Raises:
        InputError: too many items; nothing was written.
    """
    if len(items) > MAX_ITEMS:
        raise InputError(
            f"expected at most {MAX_ITEMS} items, got {len(items)}",
            path="profiles",
            code="input.too_large",
        )
    today = now.astimezone(ZoneInfo(settings.HUIDU_DAY_ZONE)).date()
    rejected: list[Rejected] = []
    sent: dict[str, dict[str, Any]] = {}
    with transaction.atomic():
        # Read in here: who renames or deletes an attribute waits until no reader is under way.
        registered = registry.read()
        for index, item in enumerate(items):
            read = facts.read(item, registered.open, today, registered.retired)
            if isinstance(read, facts.Facts):
                sent.setdefault(read.user_id, {}).update(read.changes)
            else:
                rejected.append(Rejected(index, *read))
        lanes = _write(sent, registered, now) if sent else []
        if pack and lanes:
            packing.pack_after_commit(lanes)
    return IngestResult(len(items) - len(rejected), 0, rejected)


def _write(
    sent: Mapping[str, dict[str, Any]], registered: registry.Registered, now: datetime.datetime
) -> list[int]:
    users = list(sent)
    with connection.cursor() as cursor:
        cursor.execute(_MAKE, [now, users])
        made = {user_id for (user_id,) in cursor.fetchall()}
        cursor.execute(_LOCK, [users])
        locked = cursor.fetchall()
        stale = _stale(sent, registered, now)
        rows: list[dict[str, Any]] = []
        history: list[dict[str, Any]] = []
        for user_id, updated_at, attributes, *columns in locked:
            held = dict(zip(_NAMES, columns, strict=True))
            held_custom = (
                attributes if isinstance(attributes, dict) else msgspec.json.decode(attributes)
            )
            changes = _differences(held, held_custom, sent[user_id])
            changes |= _confirmed(sent[user_id], stale.get(user_id, ()))
            if not changes and user_id not in made and now - updated_at < CONFIRMED_EVERY:
                continue  # said again within the hour: nothing to write
            custom = {**held_custom, **{k: v for k, v in changes.items() if k not in held}}
            custom = {name: value for name, value in custom.items() if value is not None}
            columns_now = {name: changes.get(name, fact) for name, fact in held.items()}
            rows.append(
                {"user_id": user_id, "updated_at": now, "attributes": custom, **columns_now}
            )
            if changes or user_id in made:
                history.append({"user_id": user_id, "changes": changes})
        if not rows:
            return []
        cursor.execute(_WRITE, [_encoder.encode(rows).decode()])
        cursor.execute(_REMEMBER, [now, _encoder.encode(history).decode()])
    registry.note_held({name for row in history for name in row["changes"]}, registered, now)
    return mark_dirty(row["user_id"] for row in rows)


def _stale(
    sent: Mapping[str, dict[str, Any]], registered: registry.Registered, now: datetime.datetime
) -> dict[str, set[str]]:
    """By user, the values sent that have a term and were not confirmed lately, changed or not."""
    every = registered.confirmed_every
    found: dict[str, set[str]] = {}
    for user_id, values in sent.items():
        if names := {name for name in values.keys() & every if values[name] is not None}:
            found[user_id] = names
    if not found:
        return {}
    asked = sorted({name for names in found.values() for name in names})
    with connection.cursor() as cursor:
        cursor.execute(_FRESH, [asked, [now - every[name] for name in asked], list(found)])
        for user_id, name in cursor.fetchall():
            found[user_id].discard(name)
    return found


def _confirmed(sent: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The values to note as still so; a score goes with its day."""
    pair = {"risk_score", RISK_DAY}
    return {name: sent[name] for name in {*names, *(pair if pair & set(names) else ())}}


def _differences(
    held: Mapping[str, Any], custom: Mapping[str, Any], sent: Mapping[str, Any]
) -> dict[str, Any]:
    """What is new in `sent`."""
    changes = {}
    for name, value in sent.items():
        before = held[name] if name in held else custom.get(name)
        # True == 1 in Python, not for us.
        if before != value or type(before) is not type(value):
            changes[name] = value
    return changes
