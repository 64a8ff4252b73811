"""Uploads of user lists: received whole, then read and compared before they change anything.

A long file is compared by a worker, with its progress on record. Nothing of it counts before the
last statement; a killed worker is followed by the next tick, which begins anew.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zlib
from typing import IO, Any, Final

from django.db import connection, transaction
from django.utils import timezone

from cohorts import safe_csv
from cohorts.models import MEMBER_STATES, ListPart, ListRejects, ListVersion, UserList
from cohorts.services.list_compare import compare
from cohorts.services.list_files import ENCODINGS, Counts, ListFile
from huidu.errors import InputError, StateError

logger = logging.getLogger("huidu.cohorts")

AT_ONCE_BYTES: Final = 1 << 20
"""A request compares so much by itself; more is left to a worker."""

MOST_BYTES: Final = 1 << 30
MOST_REJECTS: Final = 200_000
"""Invalid lines kept for download; further ones are only counted."""

PART: Final = 1 << 20
COPIED: Final = 4 << 20
"""Bytes sent to the database between two looks at whether somebody cancelled."""

LOCK: Final = 0x4C53
State = ListVersion.State


def submit(
    number: int, file: IO[bytes], size: int, *, file_name: str, by: str, **options: Any
) -> ListVersion:
    """Compare a short file at once, and leave a long one to a worker; see `receive`.

    Args:
        size: bytes of the file as it was sent.
    Raises:
        InputError: as `upload`.
    """
    take = upload if size <= AT_ONCE_BYTES else receive
    return take(number, file, file_name=file_name, by=by, **options)


def upload(number: int, file: IO[bytes], *, file_name: str, by: str, **options: Any) -> ListVersion:
    """Receive a file and compare it before returning; see `receive` for the rest.

    Raises:
        InputError: as `receive`, or the file cannot be read; nothing is kept of it then.
    """
    version = receive(number, file, file_name=file_name, by=by, **options)
    try:
        _read_and_compare(version)
    except InputError:
        _drop_tables(version.pk)
        version.delete()
        raise
    return version


def receive(
    number: int,
    file: IO[bytes],
    *,
    file_name: str,
    by: str,
    mode: str = ListVersion.Mode.REPLACE,
    encoding: str = "utf-8",
    member_state: str = "accepted",
) -> ListVersion:
    """Keep a file to be compared; nobody's membership changes.

    Args:
        encoding: one of `ENCODINGS`.
        member_state: how it stands with users for whom the file has no state: invited or accepted.
    Raises:
        InputError: no such list, an unknown mode, encoding or state, or too many bytes.
    """
    for name, given, known in (
        ("mode", mode, ListVersion.Mode.values),
        ("encoding", encoding, list(ENCODINGS)),
        ("member_state", member_state, [each.value for each in MEMBER_STATES]),
    ):
        if given not in known:
            expected = ", ".join(known)
            raise InputError(f"expected one of {expected}, got {given[:40]!r}", path=name)
    digest, size = hashlib.sha256(), 0
    with transaction.atomic():
        found = UserList.objects.filter(pk=number).first()
        if found is None:
            raise InputError(f"expected the number of a list, got {number}", path="number")
        version = ListVersion.objects.create(
            list=found,
            mode=mode,
            encoding=encoding,
            member_state=member_state,
            state=State.COMPARING,
            file_name=file_name[-255:].replace("\0", ""),
            uploaded_by=by,
            uploaded_at=timezone.now(),
        )
        for seq, piece in enumerate(iter(lambda: file.read(PART), b"")):
            digest.update(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise InputError(
                    f"expected at most {MOST_BYTES:,} bytes: send it as .gz", path="file"
                )
            ListPart.objects.create(version=version, seq=seq, data=zlib.compress(piece, 1))
        version.sha256, version.size_bytes = digest.hexdigest(), size
        version.save(update_fields=["sha256", "size_bytes"])
    return version


def compare_waiting() -> int:
    """Compare what was received; how many files. A file that another worker reads is left to it."""
    done = 0
    waiting = ListVersion.objects.filter(state=State.COMPARING).order_by("pk")
    for version in list(waiting):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK, version.pk])
            if not cursor.fetchall()[0][0]:
                continue
            try:
                done += _compare_one(version)
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, version.pk])
    return done


def _compare_one(version: ListVersion) -> bool:
    version.refresh_from_db()
    if version.state != State.COMPARING:
        return False  # cancelled, or compared while this worker waited
    try:
        _read_and_compare(version)
    except InputError as fault:
        _drop_tables(version.pk)
        _fail(version, str(fault))
    except StateError:
        _drop_tables(version.pk)  # cancelled
    return True


def _read_and_compare(version: ListVersion) -> None:
    """Read the parts into a table of this version's own, then compare it with the list."""
    ListRejects.objects.filter(version=version).delete()
    rejects = _Rejects(version)
    counts = Counts(reject=rejects.add)
    _drop_tables(version.pk)
    file = ListFile(Parts(version), counts, version.encoding)  # type: ignore[arg-type]
    has_states = file.layout.state is not None
    with connection.cursor() as cursor:
        # Unlogged: a crash of the server empties it, and the next tick reads the file again.
        cursor.execute(
            f"CREATE UNLOGGED TABLE cohorts_listing_{version.pk}"
            ' (user_id text COLLATE "C" NOT NULL, state text, at timestamptz)'
        )
        held: list[bytes] = []
        size = 0
        for rows in file.rows():
            held.append(rows)
            size += len(rows)
            if size >= COPIED:
                _copy(cursor, version, held, has_states, counts)
                size = 0
        _copy(cursor, version, held, has_states, counts)
    rejects.flush()
    if not counts.rows:
        raise InputError(
            f"expected at least one user id, got {counts.invalid} invalid and "
            f"{counts.empty} empty lines; to empty a list, upload it as users to remove",
            path="file",
        )
    version.invalid, version.empty, version.faults = counts.invalid, counts.empty, counts.faults
    compare(version, counts.rows, has_states=has_states)
    _drop_tables(version.pk)


def _copy(
    cursor: Any, version: ListVersion, held: list[bytes], has_states: bool, counts: Counts
) -> None:
    """Send what was read to the database, and say how far that is.

    Raises:
        StateError: somebody cancelled.
    """
    columns = "user_id, state, at" if has_states else "user_id"
    if held:
        table = f"cohorts_listing_{version.pk}"
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for rows in held:
                copy.write(rows)
        held.clear()
    still = ListVersion.objects.filter(pk=version.pk, state=State.COMPARING)
    if not still.update(bytes_read=counts.bytes, invalid=counts.invalid, empty=counts.empty):
        raise StateError("the comparison was cancelled")


def _fail(version: ListVersion, problem: str) -> None:
    with transaction.atomic():
        ListVersion.objects.filter(pk=version.pk, state=State.COMPARING).update(
            state=State.FAILED, problem=problem, finished_at=timezone.now()
        )
        ListPart.objects.filter(version=version).delete()
        ListRejects.objects.filter(version=version).delete()


def drop_leftovers() -> int:
    """Drop tables of comparisons that ended without doing so, such as cancelled ones."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT substring(relname FROM '[0-9]+$')::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relname ~ '^cohorts_(listing|listed)_[0-9]+$'"
        )
        found = {number for (number,) in cursor.fetchall()}
        busy = ListVersion.objects.filter(pk__in=found, state=State.COMPARING)
        gone = found - set(busy.values_list("pk", flat=True))
        dropped = 0
        for number in gone:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK, number])
            if cursor.fetchall()[0][0]:  # else its worker has not noticed yet
                try:
                    _drop_tables(number)
                    dropped += 1
                finally:
                    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, number])
    return dropped


def _drop_tables(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS cohorts_listing_{number}, cohorts_listed_{number}")


class _Rejects:
    """Keeps invalid lines some thousand at a time."""

    SIZE = 10_000

    def __init__(self, version: ListVersion) -> None:
        self._version = version
        self._text = io.StringIO()
        self._held = self._kept = 0

    def add(self, line: int, reason: str) -> None:
        if self._kept >= MOST_REJECTS:
            return
        safe_csv.write_rows(self._text, [(line, reason)])
        self._held += 1
        self._kept += 1
        if self._held == self.SIZE:
            self.flush()

    def flush(self) -> None:
        if self._held:
            ListRejects.objects.create(version=self._version, lines=self._text.getvalue())
            self._text.seek(0)
            self._text.truncate()
            self._held = 0


class Parts(io.RawIOBase):
    """The received file, read forwards from its parts; one part is held at a time."""

    def __init__(self, version: ListVersion) -> None:
        self._version = version
        self._rows = version.parts.order_by("seq")
        self._place = self._next = 0
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        told = b""
        while size < 0 or len(told) < size:
            if not self._held:
                row = self._rows.filter(seq=self._next).values_list("data", flat=True).first()
                if row is None:
                    break
                self._held = zlib.decompress(row)
                self._next += 1
            take = len(self._held) if size < 0 else size - len(told)
            told, self._held = told + self._held[:take], self._held[take:]
        self._place += len(told)
        return told

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only back to the beginning")
        self._place = self._next = 0
        self._held = b""
        return 0

    def tell(self) -> int:
        return self._place
