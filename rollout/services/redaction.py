"""Takes a forgotten person out of what is kept for replay: old snapshots and decided requests.

A snapshot names the few users that flags and cohorts list one by one. In an old one the name is
replaced by a pseudonym; everybody else gets the same answers from it as before, so replay keeps
its promise, and nothing is left to replay about the person. The snapshot keeps the version under
which it answered; `redacted_at` says that its content no longer has that hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from huidu import model
from huidu.wire import snapshot as wire
from rollout.models import ChangeRequest, Snapshot
from rollout.services import pseudonyms
from rollout.services.pseudonyms import pseudonym

AT_ONCE: Final = 20
"""Snapshots read at a time: each may be some megabytes."""


def forgotten(user_id: str) -> str:
    """What stands in the place of the user's id; no id that anybody is checked under."""
    return f"forgotten:{pseudonym(user_id)}"


def snapshots_in_force_naming(user_id: str) -> list[str]:
    """The latest snapshots, as ``environment@sequence``, that still name the user."""
    latest = Snapshot.objects.order_by("environment", "-sequence").distinct("environment")
    return [str(row) for row, _ in _naming(user_id, latest)]


def redact_snapshots(user_id: str) -> list[str]:
    """Replace the user in every snapshot; call it inside the transaction that forgets.

    Returns:
        What was changed, as ``production@12 0123456789abcdef``: the row and its new content.
    """
    told = []
    for row, text in _naming(user_id, Snapshot.objects.order_by("pk")):
        blob = wire.encode(_without(wire.decode_text(text), user_id))
        with connection.cursor() as cursor:
            # A trigger refuses every other change of a snapshot.
            cursor.execute("SELECT set_config('huidu.redacting', 'on', true)")
            cursor.execute(
                "UPDATE rollout_snapshot SET blob = %s, redacted_at = %s WHERE id = %s",
                [blob, timezone.now(), row.pk],
            )
            cursor.execute("SELECT set_config('huidu.redacting', 'off', true)")
        told.append(f"{row} {wire.version_of(blob)}")
    return told


def requests_waiting_that_name(user_id: str) -> list[int]:
    """Numbers of the change requests that would name the user once they are approved."""
    waiting = ChangeRequest.objects.filter(status=ChangeRequest.Status.PENDING)
    return [row.pk for row in _requests(waiting, user_id)]


def redact_requests(user_id: str) -> int:
    """Replace the user in requests that are decided; how many named them."""
    decided = ChangeRequest.objects.exclude(status=ChangeRequest.Status.PENDING)
    count = 0
    for row in _requests(decided, user_id):
        row.payload = pseudonyms.replaced(
            row.payload, lambda each: forgotten(user_id) if each == user_id else each
        )
        row.reason = pseudonyms.without(row.reason, user_id)
        row.decision_note = pseudonyms.without(row.decision_note, user_id)
        row.save(update_fields=["payload", "reason", "decision_note"])
        count += 1
    return count


def _naming(user_id: str, rows: QuerySet[Snapshot]) -> Iterator[tuple[Snapshot, bytes]]:
    """Snapshots that list the user, with their text."""
    needle = msgspec.json.encode(user_id)
    for row in rows.iterator(chunk_size=AT_ONCE):
        text = wire.text_of(bytes(row.blob))
        if needle in text and _names(wire.decode_text(text), user_id):
            yield row, text


def _names(snapshot: model.Snapshot, user_id: str) -> bool:
    listed = [each for flag in snapshot.flags for each in (flag.allow_list, flag.block_list)]
    listed += [each for cohort in snapshot.cohorts for each in (cohort.include, cohort.exclude)]
    return any(user_id in each for each in listed)


def _without(snapshot: model.Snapshot, user_id: str) -> model.Snapshot:
    name = forgotten(user_id)

    def hidden(listed: frozenset[str]) -> frozenset[str]:
        return (listed - {user_id}) | {name} if user_id in listed else listed

    replace = msgspec.structs.replace
    return replace(
        snapshot,
        flags=[
            replace(each, allow_list=hidden(each.allow_list), block_list=hidden(each.block_list))
            for each in snapshot.flags
        ],
        cohorts=[
            replace(each, include=hidden(each.include), exclude=hidden(each.exclude))
            for each in snapshot.cohorts
        ],
    )


def _requests(rows: QuerySet[ChangeRequest], user_id: str) -> Iterator[ChangeRequest]:
    """Requests that list the user, or name the user in a sentence."""
    named = Q(reason__contains=user_id) | Q(decision_note__contains=user_id)
    keys = sorted(pseudonyms.NAMING)
    for row in rows.filter(named | Q(payload__has_any_keys=keys)).order_by("pk"):
        listed = [row.payload[key] for key in keys if isinstance(row.payload.get(key), list)]
        if any(user_id in each for each in [*listed, row.reason, row.decision_note]):
            yield row
