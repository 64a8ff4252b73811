"""Makes population files: everybody read once a day, or when somebody asks for it.

    building.duckdb     what was read so far, with the place reached; a killed build goes on there
    progress.json       the same for people who wait
    people-N.duckdb     a finished file; it appears whole, and then the older ones go
    wanted              asks for a file newer than this

The folder belongs to one host or is shared by all; whoever builds holds its lock.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
from django.conf import settings
from django.utils import timezone

from cohorts import mappers, selectors
from cohorts.models import Draw, DrawJob
from cohorts.population import columns, people
from cohorts.population.columns import Kept
from cohorts.population.people import About, People
from cohorts.services.rebuild import estimated_users
from huidu.model import User

logger = logging.getLogger("huidu.cohorts")

BATCH: Final = 20_000
"""Users read and written down at a time."""
AT_MOST: Final = datetime.timedelta(hours=1)
"""How often a file is made anew because it lacks a line or an attribute."""
GIVEN_UP: Final = datetime.timedelta(hours=20)
"""A build that is older than this begins anew."""


class Progress(msgspec.Struct):
    """How far a build has come. `users` is about how many there are."""

    as_of: datetime.datetime
    users: int
    kept: Kept
    read: int = 0
    after: str = ""
    unfit: list[str] = []
    version: int = 0


def want() -> None:
    """Ask for a new file; the next tick builds it. Nothing happens where none was ever built."""
    wanted = people.folder() / "wanted"
    with contextlib.suppress(FileNotFoundError):
        wanted.touch()
        # A file system's own clock lags some milliseconds: it could tell a moment before a build
        # that did not see this wish yet.
        now = time.time()
        os.utime(wanted, (now, now))


def progress() -> Progress | None:
    """The build that is under way."""
    try:
        return msgspec.json.decode((people.folder() / "progress.json").read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        return None


def is_due(kept: Kept, now: datetime.datetime) -> bool:
    """Whether a new file should be made: none of today, one is wanted, or this one lacks something
    such as a draw.

    Args:
        kept: lines and slots that previews ask for.
    """
    if progress() is not None:
        return True
    if DrawJob.objects.filter(state=DrawJob.State.REMEMBERING).exists():
        return False  # who was drawn is still being written down
    newest = people.newest()
    if newest is None:
        return not people.is_few()
    about = newest.about
    if (
        _wanted_at() > about.as_of.timestamp()
        or Draw.objects.filter(as_of__gt=about.as_of).exists()
    ):
        return True
    if selectors.day_of(about.as_of) < selectors.day_of(now):
        return True
    lacks = not set(kept.seeds) <= set(about.kept.seeds) or kept.attributes != about.kept.attributes
    return lacks and now - about.as_of > AT_MOST


def build(
    seeds: list[int],
    slots: list[int],
    *,
    seconds: float = float("inf"),
    told: Callable[[int], object] | None = None,
    anew: bool = False,
) -> People | None:
    """Read everybody and make a file, or go on where another call was stopped.

    Args:
        seeds, slots: the lines and rollouts that previews ask for.
        seconds: stop after so long; the next call goes on.
        told: given the number of users of each batch.
        anew: begin anew, whatever was read already.
    Returns:
        The new file; None while there is more to read, or another process is at it.
    """
    end = time.monotonic() + seconds
    with _held() as held:
        if not held:
            return None
        database, state = _begun(seeds, slots, anew=anew)
        try:
            if not _read(database, state, end, told):
                return None
            number = _finish(database, state)
        finally:
            database.close()
    _tidy(number)
    logger.info("cohorts.population_built number=%d users=%d", number, state.read)
    return people.newest()


def _read(
    database: duckdb.DuckDBPyConnection,
    state: Progress,
    end: float,
    told: Callable[[int], object] | None,
) -> bool:
    """Read on; False when the time is over first."""
    registry = mappers.registry()
    today = selectors.day_of(state.as_of)
    some: list[User] = []
    for user in selectors.every_user(today, registry, state.after):
        some.append(user)
        if len(some) < BATCH:
            continue
        _add(database, state, some, told)
        some = []
        if time.monotonic() > end:
            return False
    if some:
        _add(database, state, some, told)
    return True


def _add(
    database: duckdb.DuckDBPyConnection,
    state: Progress,
    some: list[User],
    told: Callable[[int], object] | None,
) -> None:
    unfit = set(state.unfit)
    batch = columns.batch(some, state.kept, unfit)
    state.unfit = sorted(unfit)
    state.read += len(some)
    state.after = some[-1].key
    database.begin()
    people.add(database, "everybody", batch)
    database.execute("UPDATE state SET json = ?", [msgspec.json.encode(state).decode()])
    database.commit()
    _tell(state)
    if told is not None:
        told(len(some))


def _begun(
    seeds: list[int], slots: list[int], *, anew: bool
) -> tuple[duckdb.DuckDBPyConnection, Progress]:
    """The build that was under way, or a new one."""
    now = timezone.now()
    if not anew and _building().exists():
        try:
            database = _opened(_building())
            (told,) = database.execute("SELECT json FROM state").fetchall()[0]
            state = msgspec.json.decode(told, type=Progress)
            if now - state.as_of < GIVEN_UP and state.version == people.VERSION:
                return database, state
            database.close()
        except (duckdb.Error, msgspec.DecodeError) as error:
            logger.warning("cohorts.population_begins_anew error=%s", error)
    _remove(_building())
    kept = Kept(list(mappers.registry().values()), sorted(seeds), sorted(slots))
    state = Progress(now, estimated_users(), kept, version=people.VERSION)
    database = _opened(_building())
    people.create(database, "everybody", kept)
    database.execute("CREATE TABLE state (json VARCHAR)")
    database.execute("INSERT INTO state VALUES (?)", [msgspec.json.encode(state).decode()])
    _tell(state)
    return database, state


def _finish(database: duckdb.DuckDBPyConnection, state: Progress) -> int:
    """Write the file readers use; its number."""
    new = people.folder() / "new.duckdb"
    _remove(new)
    database.execute(f"ATTACH '{_quoted(new)}' AS new")
    write(database, "everybody", state)
    database.execute("DETACH new")
    with new.open("rb") as file:
        os.fsync(file.fileno())
    number = max(people.numbers(), default=0) + 1
    new.rename(people.path_of(number))
    return number


def write(database: duckdb.DuckDBPyConnection, table: str, state: Progress) -> About:
    """Fill the attached database ``new`` from a table of everybody."""
    # Hashes are spread evenly, so those below a part of the line are that part of the users.
    share = people.SAMPLE / max(state.read, 1)
    limit = "TRUE" if share >= 1 else f"{columns.ORDER} < {int(share * 2**64)}::UBIGINT"
    database.execute(
        f"CREATE TABLE new.sample AS SELECT * FROM {table} WHERE {limit}"  # noqa: S608
        f" ORDER BY {columns.ORDER}, {columns.USER}"
    )
    if share < 1:
        database.execute(f"CREATE TABLE new.everybody AS SELECT * FROM {table}")  # noqa: S608
    (sampled,) = database.execute("SELECT count(*) FROM new.sample").fetchall()[0]
    kept = people.without(state.kept, set(state.unfit))
    about = About(state.as_of, state.read, sampled, kept)
    database.execute("CREATE TABLE new.about (json VARCHAR)")
    told = msgspec.json.encode(about).decode()
    database.execute("INSERT INTO new.about VALUES (?)", [told])
    database.execute("CHECKPOINT new")
    return about


def _tidy(number: int) -> None:
    """Remove what the new file replaces; who reads it at this moment keeps it open."""
    _remove(_building())
    (people.folder() / "progress.json").unlink(missing_ok=True)
    for older in people.numbers():
        if older < number:
            _remove(people.path_of(older))


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(str(path))
    for name, value in {
        "memory_limit": settings.HUIDU_WINDOWS_MEMORY,
        "temp_directory": str(people.folder() / "scratch"),
        "preserve_insertion_order": "false",
    }.items():
        database.execute(f"SET {name} = '{_quoted(value)}'")
    return database


@contextlib.contextmanager
def _held() -> Iterator[bool]:
    """Whether this process alone builds in the folder."""
    people.folder().mkdir(parents=True, exist_ok=True)
    with (people.folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _building() -> Path:
    return people.folder() / "building.duckdb"


def _tell(state: Progress) -> None:
    file = people.folder() / "progress.json"
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(state))
    new.replace(file)


def _wanted_at() -> float:
    try:
        return (people.folder() / "wanted").stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    for each in (path, path.with_name(f"{path.name}.wal")):
        each.unlink(missing_ok=True)


def _quoted(value: Any) -> str:
    return str(value).replace("'", "''")
