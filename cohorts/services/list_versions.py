"""Uploads of user lists: compared before they change anything, applied and reverted in pieces.

Applying a million users in one transaction would keep everybody waiting who writes about one of
them. So a version is begun in a short transaction, and carried on in pieces, each with its own
dirty marks and the place reached; a killed process is followed by the next tick.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from cohorts.models import ListVersion, UserList
from cohorts.services.list_files import Counts, user_ids
from cohorts.services.outbox import MARK
from huidu.errors import InputError, StateError

PIECE: Final = 10_000
"""Users of one transaction while a version is applied."""

COPIED: Final = 20_000
"""Users sent to the database at a time."""

SAMPLE: Final = 20
State = ListVersion.State
BUSY: Final = (State.APPLYING, State.REVERTING)


def upload(
    number: int,
    file: IO[bytes],
    *,
    file_name: str,
    by: str,
    mode: str = ListVersion.Mode.REPLACE,
    encoding: str = "utf-8",
) -> ListVersion:
    """Read a file and compare it with the list; nobody's membership changes yet.

    1. Copy the ids into a table of this transaction alone.
    2. Compare it with the members; keep who would come and who would go.

    Raises:
        InputError: no such list, a file that cannot be read, or one without any user.
    """
    if mode not in ListVersion.Mode.values:
        expected = ", ".join(ListVersion.Mode.values)
        raise InputError(f"expected one of {expected}, got {mode[:40]!r}", path="mode")
    counts = Counts()
    digest = _sha256(file)
    with transaction.atomic(), connection.cursor() as cursor:
        found = UserList.objects.filter(pk=number).first()
        if found is None:
            raise InputError(f"expected the number of a list, got {number}", path="number")
        cursor.execute("CREATE TEMP TABLE listed (user_id text NOT NULL) ON COMMIT DROP")
        _copy(cursor, user_ids(file, counts, encoding))
        if not counts.rows:
            raise InputError(
                f"expected at least one user id, got {counts.invalid} invalid and "
                f"{counts.empty} empty lines; to empty a list, upload it as users to remove",
                path="file",
            )
        # Read again under the lock: what is compared is what `base` names.
        found = UserList.objects.select_for_update().get(pk=number)
        version = ListVersion(
            list=found,
            mode=mode,
            file_name=file_name[-255:].replace("\0", ""),
            sha256=digest,
            uploaded_by=by,
            uploaded_at=timezone.now(),
            base=found.version,
            invalid=counts.invalid,
            empty=counts.empty,
            faults=counts.faults,
            users=0,
            added=0,
            removed=0,
            unchanged=0,
            duplicates=0,
        )
        version.save()
        _compare(cursor, version, counts.rows)
        # Within a caller's longer transaction they would stay in the way of the next upload.
        cursor.execute("DROP TABLE listed, wanted")
    return version


def sample(version: ListVersion) -> dict[str, list[str]]:
    """The first few users who would come and go."""
    told = {}
    for name, added in (("added", True), ("removed", False)):
        rows = version.changes.filter(added=added).order_by("user_id")
        told[name] = list(rows.values_list("user_id", flat=True)[:SAMPLE])
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
    return _begin(version, found, State.READY, State.APPLYING)


def begin_revert(version: ListVersion) -> ListVersion:
    """Start undoing the version applied last; call it as `begin_apply`.

    Raises:
        StateError: not applied, another version is under way, or the list has changed since.
    """
    found = _locked_list(version)
    if found.version != version.applied_as:
        raise StateError(
            f"{found.key} was changed after this version was applied: revert the newest one first"
        )
    return _begin(version, found, State.APPLIED, State.REVERTING)


def discard(version: ListVersion) -> None:
    """Drop what was compared; the list stays as it is.

    Raises:
        StateError: it was applied.
    """
    with transaction.atomic():
        gone = ListVersion.objects.filter(pk=version.pk, state=State.READY)
        if not gone.update(state=State.DISCARDED, finished_at=timezone.now()):
            raise StateError("expected a version that was not applied yet")
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM cohorts_listchange WHERE version_id = %s", [version.pk])


def carry_on(seconds: float = 20.0, *, version: ListVersion | None = None) -> int:
    """Apply or revert what was begun, piece by piece; how many users were done.

    Safe with any number of workers: a version that another one works on is left to it.

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
        while (done := _piece(pk)) is not None:
            total += done
            if time.monotonic() > end:
                return total
    return total


def _piece(pk: int) -> int | None:
    """One piece in one transaction; None when the version is finished or another worker's."""
    with transaction.atomic(), connection.cursor() as cursor:
        row = (
            ListVersion.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(pk=pk, state__in=BUSY)
            .first()
        )
        if row is None:
            return None
        UserList.objects.select_for_update().get(pk=row.list_id)
        cursor.execute(
            "SELECT user_id, added FROM cohorts_listchange WHERE version_id = %s AND user_id > %s"
            " ORDER BY user_id LIMIT %s",
            [pk, row.done_to, PIECE],
        )
        changes = cursor.fetchall()
        if not changes:
            _finish(row)
            return None
        forward = row.state == State.APPLYING
        come = [user_id for user_id, added in changes if added == forward]
        gone = [user_id for user_id, added in changes if added != forward]
        more = _write(cursor, row.list_id, come, gone)
        UserList.objects.filter(pk=row.list_id).update(size=F("size") + more)
        cursor.execute(
            f"WITH source AS (SELECT unnest(%s::text[]) AS user_id),"  # noqa: S608 - no input
            f" marked AS ({MARK.format(source='source')}) SELECT count(*) FROM marked",
            [[user_id for user_id, _ in changes]],
        )
        row.done_to, row.done = changes[-1][0], row.done + len(changes)
        row.save(update_fields=["done_to", "done"])
    return len(changes)


def _write(cursor: Any, number: int, come: list[str], gone: list[str]) -> int:
    """Put in and take out; by how many the list has grown."""
    cursor.execute(
        "INSERT INTO cohorts_userlistmember (user_id, list_id)"
        " SELECT user_id, %s FROM unnest(%s::text[]) AS t (user_id) ON CONFLICT DO NOTHING",
        [number, come],
    )
    more = int(cursor.rowcount)
    cursor.execute(
        "DELETE FROM cohorts_userlistmember WHERE list_id = %s AND user_id = ANY(%s)",
        [number, gone],
    )
    return more - int(cursor.rowcount)


def _finish(row: ListVersion) -> None:
    UserList.objects.filter(pk=row.list_id).update(
        version=F("version") + 1, updated_at=timezone.now()
    )
    if row.state == State.APPLYING:
        row.state = State.APPLIED
        row.applied_as = UserList.objects.get(pk=row.list_id).version
    else:
        # The list is as before: the version applied before this one can be reverted next.
        version = UserList.objects.get(pk=row.list_id).version
        ListVersion.objects.filter(
            list=row.list_id, state=State.APPLIED, applied_as=row.base
        ).update(applied_as=version)
        row.state = State.REVERTED
    row.finished_at = timezone.now()
    row.save(update_fields=["state", "applied_as", "finished_at"])


def _begin(version: ListVersion, found: UserList, was: State, then: State) -> ListVersion:
    if ListVersion.objects.filter(list=found, state__in=BUSY).exists():
        raise StateError(f"another version of {found.key} is under way: wait until it is done")
    rows = ListVersion.objects.filter(pk=version.pk, state=was)
    try:
        with transaction.atomic():
            moved = rows.update(state=then, done=0, done_to="")
    except IntegrityError:
        moved = 0
    if not moved:
        raise StateError(f"expected a version that is {was.value}, got another state")
    version.refresh_from_db()
    return version


def _locked_list(version: ListVersion) -> UserList:
    return UserList.objects.select_for_update().get(pk=version.list_id)


def _copy(cursor: Any, users: Iterator[str]) -> None:
    with cursor.copy("COPY listed (user_id) FROM STDIN") as copy:
        while piece := list(islice(users, COPIED)):
            # Ids hold no control characters, so the backslash alone needs care.
            copy.write("\n".join(piece).replace("\\", "\\\\") + "\n")


def _compare(cursor: Any, version: ListVersion, rows: int) -> None:
    """Keep the differences and count them."""
    cursor.execute("SET LOCAL work_mem = '64MB'")  # enough to sort millions; the rest spills
    cursor.execute("CREATE TEMP TABLE wanted ON COMMIT DROP AS SELECT DISTINCT user_id FROM listed")
    version.users = int(cursor.rowcount)
    cursor.execute("ANALYZE wanted")
    keys = {"version": version.pk, "list": version.list_id}
    held = "(SELECT user_id FROM cohorts_userlistmember WHERE list_id = %(list)s)"
    into = "INSERT INTO cohorts_listchange (version_id, user_id, added)"
    added = removed = 0
    if version.mode != ListVersion.Mode.REMOVE:
        cursor.execute(
            f"{into} SELECT %(version)s, user_id, true FROM wanted"  # noqa: S608 - no input
            f" WHERE NOT EXISTS (SELECT FROM {held} AS m WHERE m.user_id = wanted.user_id)",
            keys,
        )
        added = int(cursor.rowcount)
        version.unchanged = version.users - added
    if version.mode == ListVersion.Mode.REPLACE:
        cursor.execute(
            f"{into} SELECT %(version)s, user_id, false FROM {held} AS m"  # noqa: S608
            " WHERE NOT EXISTS (SELECT FROM wanted WHERE wanted.user_id = m.user_id)",
            keys,
        )
        removed = int(cursor.rowcount)
    if version.mode == ListVersion.Mode.REMOVE:
        cursor.execute(
            f"{into} SELECT %(version)s, user_id, false FROM wanted"  # noqa: S608
            f" JOIN {held} AS m USING (user_id)",
            keys,
        )
        removed = int(cursor.rowcount)
        version.unchanged = version.users - removed
    version.added, version.removed, version.duplicates = added, removed, rows - version.users
    version.save()


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def progress(version: ListVersion) -> tuple[int, int]:
    """Users done and users in all."""
    return version.done, version.added + version.removed
