"""Versions of user lists: applied and reverted in pieces, each resumable.

Applying a million users in one transaction would keep everybody waiting who writes about one of
them. So a version is begun in a short transaction, and carried on in pieces: first the rows of all
users move, block by block, then their profiles are packed. Until then checks go on answering by the
packed profiles of before. A killed process is followed by the next tick, which goes on after the
last block that was committed.
"""

# ruff: noqa: S608 - the statements are put together from constants

from __future__ import annotations

import datetime
import logging
import time
from typing import Final

import redis
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from cohorts.list_blocks import users_of
from cohorts.models import ListBlock, ListPart, ListRejects, ListVersion, UserList
from cohorts.services import packing
from huidu.errors import StateError

logger = logging.getLogger("huidu.cohorts")

PACKED: Final = 1_000
"""Profiles packed at a time, while others who pack wait."""

SAMPLE: Final = 20
UNAPPLIED_DAYS: Final = 14
"""A comparison that nobody applied for so long is discarded: the list has moved on."""

State = ListVersion.State
BUSY: Final = (State.APPLYING, State.REVERTING)
UNDER_WAY: Final = (State.COMPARING, *BUSY)


def sample(version: ListVersion) -> dict[str, list[str]]:
    """The first few users who would come, go, or move to another state."""
    told = {}
    for kind in ListBlock.Kind:
        block = version.blocks.filter(kind=kind).order_by("id").values_list("lines", flat=True)
        told[kind.value] = users_of(block[0])[:SAMPLE] if block else []
    return told


def begin_apply(version: ListVersion) -> ListVersion:
    """Start applying; call it in the transaction of the audit entry, then `carry_on`.

    Raises:
        StateError: not ready, another version is under way, or the list has changed since.
    """
    found = _locked_list(version)
    if found.version != version.base:
        raise StateError(
            f"{found.key} was at version {version.base} when the file was compared and is at "
            f"{found.version} now: upload the file again to see what it would change"
        )
    return _begin(version, found, State.READY, State.APPLYING, applied_at=timezone.now())


def begin_revert(version: ListVersion) -> ListVersion:
    """Start undoing the version applied last; call it as `begin_apply`.

    Users whom somebody moved one by one since then return to what they were before the version.

    Raises:
        StateError: not applied, another version is under way, or applied later.
    """
    found = _locked_list(version)
    if version.state == State.APPLIED and not is_newest(version):
        raise StateError(
            f"{found.key} was changed after this version was applied: revert the newest one first"
        )
    return _begin(version, found, State.APPLIED, State.REVERTING, reverted_at=timezone.now())


def is_newest(version: ListVersion) -> bool:
    """Whether nothing applied later would have to be taken back first."""
    applied = ListVersion.objects.filter(list=version.list_id, state=State.APPLIED)
    newest = applied.order_by("-applied_at", "-pk").values_list("pk", flat=True).first()
    return newest == version.pk


def cancel(version: ListVersion) -> ListVersion:
    """Stop a comparison, or turn an application back; what was done of it is undone by `carry_on`.

    Raises:
        StateError: neither is under way.
    """
    with transaction.atomic():
        rows = ListVersion.objects.filter(pk=version.pk)
        now = timezone.now()
        if rows.filter(state=State.COMPARING).update(state=State.DISCARDED, finished_at=now):
            _drop_content(version)
        elif not rows.filter(state=State.APPLYING).update(
            # Undoing what was never done changes nothing, so all blocks are gone through again.
            state=State.REVERTING, done=0, done_block=0, packed=0, packed_block=0, reverted_at=now
        ):  # fmt: skip
            raise StateError("expected a version that is being compared or applied")
    version.refresh_from_db()
    return version


def discard(version: ListVersion) -> None:
    """Drop what was compared; the list stays as it is.

    Raises:
        StateError: it was applied.
    """
    with transaction.atomic():
        gone = ListVersion.objects.filter(pk=version.pk, state=State.READY)
        if not gone.update(state=State.DISCARDED, finished_at=timezone.now()):
            raise StateError("expected a version that was not applied yet")
        _drop_content(version)


def discard_old(now: datetime.datetime) -> int:
    """Discard comparisons that nobody applied in `UNAPPLIED_DAYS`; how many."""
    before = now - datetime.timedelta(days=UNAPPLIED_DAYS)
    old = ListVersion.objects.filter(state=State.READY, uploaded_at__lt=before)
    for version in old:
        try:
            discard(version)
        except StateError:  # somebody applies it right now
            continue
    return len(old)


def _drop_content(version: ListVersion) -> None:
    for model in (ListBlock, ListPart, ListRejects):
        rows = model._default_manager.filter(version=version)
        rows._raw_delete(rows.db)  # nothing refers to them


def carry_on(seconds: float = 20.0, *, version: ListVersion | None = None) -> int:
    """Apply or revert what was begun, piece by piece; how many users' rows moved.

    Safe with any number of workers: a version that another one works on is left to it. While Redis
    does not answer, rows move and profiles wait.

    Args:
        seconds: start no further piece after so long.
        version: only this one; all that are under way by default.
    """
    end = time.monotonic() + seconds
    busy = ListVersion.objects.filter(state__in=BUSY)
    if version is not None:
        busy = busy.filter(pk=version.pk)
    total = 0
    for pk in list(busy.order_by("pk").values_list("pk", flat=True)):
        try:
            while (done := _piece(pk)) is not None:
                total += done
                if time.monotonic() > end:
                    return total
        except redis.RedisError as error:
            logger.warning("cohorts.list_packing_postponed version=%s error=%s", pk, error)
    return total


def _piece(pk: int) -> int | None:
    """One block in one transaction; None when the version is finished or another worker's."""
    with transaction.atomic():
        row = (
            ListVersion.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(pk=pk, state__in=BUSY)
            .first()
        )
        if row is None:
            return None
        if (block := _next(row, row.done_block)) is not None:
            UserList.objects.select_for_update().get(pk=row.list_id)
            more = _move_rows(row, block)
            UserList.objects.filter(pk=row.list_id).update(size=F("size") + more)
            row.done, row.done_block = row.done + block.users, block.pk
            row.save(update_fields=["done", "done_block"])
            return block.users
        if (block := _next(row, row.packed_block)) is None:
            _finish(row)
            return None
        users = users_of(block.lines)
        for start in range(0, len(users), PACKED):
            packing.pack_profiles(users[start : start + PACKED])
        row.packed, row.packed_block = row.packed + block.users, block.pk
        row.save(update_fields=["packed", "packed_block"])
    return 0


def _next(row: ListVersion, after: int) -> ListBlock | None:
    return row.blocks.filter(pk__gt=after).order_by("pk").first()


# The lines of one block as columns; see `cohorts.list_blocks`.
_LINES: Final = """
WITH line AS (
    SELECT string_to_table(lines, E'\\n') AS line FROM cohorts_listblock WHERE id = %(block)s
), move AS (
    SELECT split_part(line, E'\\t', 1) AS user_id,
           coalesce(nullif(split_part(line, E'\\t', 2), ''), %(state)s) AS state,
           coalesce(nullif(split_part(line, E'\\t', 3), '')::timestamptz, %(at)s) AS at,
           nullif(split_part(line, E'\\t', 4), '') AS was,
           nullif(split_part(line, E'\\t', 5), '')::timestamptz AS was_since
    FROM line
)
"""
_COME: Final = f"""{_LINES}
INSERT INTO cohorts_userlistmember (user_id, list_id, state, since)
SELECT user_id, %(list)s, state, at FROM move ON CONFLICT DO NOTHING
"""
_COME_BACK: Final = f"""{_LINES}
INSERT INTO cohorts_userlistmember (user_id, list_id, state, since)
SELECT user_id, %(list)s, was, was_since FROM move ON CONFLICT DO NOTHING
"""
_GO: Final = f"""{_LINES}
DELETE FROM cohorts_userlistmember AS m USING move
WHERE m.list_id = %(list)s AND m.user_id = move.user_id
"""
_CHANGE: Final = f"""{_LINES}
UPDATE cohorts_userlistmember AS m SET state = move.state, since = move.at FROM move
WHERE m.list_id = %(list)s AND m.user_id = move.user_id
"""
_CHANGE_BACK: Final = f"""{_LINES}
UPDATE cohorts_userlistmember AS m SET state = move.was, since = move.was_since FROM move
WHERE m.list_id = %(list)s AND m.user_id = move.user_id
"""
_STATEMENTS: Final = {
    (ListBlock.Kind.ADDED, State.APPLYING): (_COME, 1),
    (ListBlock.Kind.REMOVED, State.APPLYING): (_GO, -1),
    (ListBlock.Kind.CHANGED, State.APPLYING): (_CHANGE, 0),
    (ListBlock.Kind.ADDED, State.REVERTING): (_GO, -1),
    (ListBlock.Kind.REMOVED, State.REVERTING): (_COME_BACK, 1),
    (ListBlock.Kind.CHANGED, State.REVERTING): (_CHANGE_BACK, 0),
}
"""Statement, and by how much each of its rows makes the list longer."""


def _move_rows(row: ListVersion, block: ListBlock) -> int:
    """Move the users of a block; by how many the list has grown."""
    statement, sign = _STATEMENTS[ListBlock.Kind(block.kind), State(row.state)]
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "block": block.pk,
                "list": row.list_id,
                "state": row.member_state,
                "at": row.applied_at,
            },
        )
        return sign * int(cursor.rowcount)


def _finish(row: ListVersion) -> None:
    UserList.objects.filter(pk=row.list_id).update(
        version=F("version") + 1, updated_at=timezone.now()
    )
    if row.state == State.APPLYING:
        row.state = State.APPLIED
        row.applied_as = UserList.objects.get(pk=row.list_id).version
    else:
        row.state = State.REVERTED
    row.finished_at = timezone.now()
    row.save(update_fields=["state", "applied_as", "finished_at"])


def _begin(
    version: ListVersion, found: UserList, was: State, then: State, **moments: datetime.datetime
) -> ListVersion:
    if ListVersion.objects.filter(list=found, state__in=BUSY).exists():
        raise StateError(f"another version of {found.key} is under way: wait until it is done")
    rows = ListVersion.objects.filter(pk=version.pk, state=was)
    try:
        with transaction.atomic():
            moved = rows.update(
                state=then, done=0, done_block=0, packed=0, packed_block=0, **moments
            )
    except IntegrityError:
        moved = 0
    if not moved:
        raise StateError(f"expected a version that is {was.value}, got another state")
    version.refresh_from_db()
    return version


def _locked_list(version: ListVersion) -> UserList:
    return UserList.objects.select_for_update().get(pk=version.list_id)


def progress(version: ListVersion) -> tuple[int, int]:
    """Steps done and steps in all: bytes read of a comparison; else users moved, then packed."""
    if version.state == State.COMPARING:
        return version.bytes_read, version.size_bytes
    return version.done + version.packed, 2 * differing(version)


def differing(version: ListVersion) -> int:
    """Users whom the version adds, removes or moves to another state."""
    return version.added + version.removed + version.changed
