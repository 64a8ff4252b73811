"""A table of users to ask: the newest population file, or one made on the spot of few users.

In a file the table `sample` has the users with the smallest hashes, in their order: everybody, if
they are few enough to be counted while somebody waits. Otherwise `everybody` is there as well.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import msgspec
from django.conf import settings
from django.db import connection
from django.utils import timezone

from cohorts import mappers, selectors
from cohorts.population import columns
from cohorts.population.columns import Kept
from cohorts.population.figures import Scale
from cohorts.population.sql import NotHeld, Terms, Unsayable, Users
from huidu.errors import StateError

logger = logging.getLogger("huidu.cohorts")

VERSION: Final = 2
"""Of the columns; files of another version are made anew."""
FEW: Final = 5_000
"""Up to so many users, previews read the rows as they are now."""
MOST_LIVE: Final = 2_000_000
"""From more users, no table is made on the spot."""
SAMPLE: Final = 2_000_000
"""Users that a preview reads at most."""

_FILE: Final = re.compile(r"people-(\d+)\.duckdb")
_T = TypeVar("_T")


class About(msgspec.Struct, frozen=True):
    """What a population file holds.

    Args:
        as_of: when reading the users began; windows and scores are those of that day.
        users: all users with a profile.
        sampled: how many of them are in the sample.
    """

    as_of: datetime.datetime
    users: int
    sampled: int
    kept: Kept
    version: int = VERSION


class People:
    """Users to count. Threads may ask at the same time."""

    def __init__(self, about: About, database: duckdb.DuckDBPyConnection) -> None:
        self.about = about
        self.table = Users(about.kept)
        self._database = database

    def scale(self, *, everybody: bool = False) -> Scale:
        """What a count of `rows` means for all users."""
        return Scale(self.about.users if everybody else self.about.sampled, self.about.users)

    def rows(self, select: str, terms: Terms, *, everybody: bool = False) -> list[tuple[Any, ...]]:
        """Run a statement over ``{users}``, the sample or everybody."""
        whole = everybody and self.about.sampled < self.about.users
        statement = select.replace("{users}", "everybody" if whole else "sample")
        with self._database.cursor() as cursor:
            return cursor.execute(statement, terms.parameters(statement)).fetchall()

    def arrays(self, select: str, terms: Terms) -> dict[str, Any]:
        """The columns of a statement over the sample, as arrays of numpy."""
        statement = select.replace("{users}", "sample")
        with self._database.cursor() as cursor:
            found: dict[str, Any] = cursor.execute(
                statement, terms.parameters(statement)
            ).fetchnumpy()
        return found


def folder() -> Path:
    """Where population files lie."""
    return Path(settings.HUIDU_POPULATION)


def path_of(number: int) -> Path:
    return folder() / f"people-{number}.duckdb"


def numbers() -> list[int]:
    """The files that are there, newest first."""
    try:
        names = os.listdir(folder())
    except OSError:
        return []
    found = [match for match in map(_FILE.fullmatch, names) if match is not None]
    return sorted((int(match[1]) for match in found), reverse=True)


_open: People | None = None
_open_path: Path | None = None
_opening = threading.Lock()


def newest() -> People | None:
    """The newest population file, kept open; None where there is none that can be read."""
    global _open, _open_path
    for number in numbers():
        path = path_of(number)
        with _opening:
            if path == _open_path and _open is not None:
                return _open
            try:
                _open, _open_path = opened(path), path
            except (duckdb.Error, msgspec.DecodeError, OSError) as error:
                logger.warning("cohorts.population_unreadable file=%s error=%s", path.name, error)
                continue
            return _open
    return None


def opened(path: Path) -> People:
    """A population file.

    Raises:
        duckdb.Error, msgspec.DecodeError, OSError: it is damaged, or of another version.
    """
    database = duckdb.connect(
        str(path),
        read_only=True,
        config={"memory_limit": "1GB", "threads": min(4, os.cpu_count() or 1)},
    )
    told = database.execute("SELECT json FROM about").fetchall()[0][0]
    about = msgspec.json.decode(told, type=About)
    if about.version != VERSION:
        raise msgspec.DecodeError(f"expected version {VERSION}, got {about.version}")
    return People(about, database)


def live(seeds: Sequence[int] = (), slots: Sequence[int] = ()) -> People:
    """Everybody as they are now, in memory: about 25 seconds for a million users.

    Raises:
        StateError: there are too many for that.
    """
    refuse_too_many()
    registry = mappers.registry()
    kept = Kept(list(registry.values()), sorted(seeds), sorted(slots))
    database = duckdb.connect(config={"threads": 2})
    create(database, "sample", kept)
    now, users = timezone.now(), 0
    unfit: set[str] = set()
    some: list[Any] = []
    for user in selectors.every_user(selectors.day_of(now), registry):
        some.append(user)
        if len(some) == selectors.CHUNK:
            add(database, "sample", columns.batch(some, kept, unfit))
            users, some = users + len(some), []
    add(database, "sample", columns.batch(some, kept, unfit))
    users += len(some)
    return People(About(now, users, users, without(kept, unfit)), database)


def without(kept: Kept, unfit: set[str]) -> Kept:
    """What is held, less the attributes that have no exact form."""
    return msgspec.structs.replace(
        kept, attributes=[each for each in kept.attributes if each.name not in unfit]
    )


def create(database: duckdb.DuckDBPyConnection, table: str, kept: Kept) -> None:
    """An empty table of users."""
    told = ", ".join(f'"{name}" {kind}' for name, kind in kept.types().items())
    database.execute(f"CREATE TABLE {table} ({told})")


def add(database: duckdb.DuckDBPyConnection, table: str, batch: Any) -> None:
    """Put a batch of `columns.batch` into a table."""
    database.register("batch", batch)
    database.execute(f"INSERT INTO {table} SELECT * FROM batch")  # noqa: S608
    database.unregister("batch")


def ask(
    question: Callable[[People], _T], *, seeds: Sequence[int] = (), slots: Sequence[int] = ()
) -> _T:
    """Put a question to everybody: to the rows themselves if they are few, else to the file.

    Args:
        seeds, slots: what the question needs besides facts and lists, where a table is made for it.
    Raises:
        NotHeld: no table can answer it exactly.
        StateError: the file cannot answer it, and there are too many users to read the rows.
    """
    if not is_few() and (people := newest()) is not None:
        try:
            return question(people)
        except Unsayable as lack:
            if too_many():
                raise StateError(
                    f"a rule that looks at {lack} is judged user by user, and there are more than "
                    f"{MOST_LIVE:,} users: preview it with plain comparisons"
                ) from lack
            raise
        except (NotHeld, duckdb.Error) as lack:
            logger.info("cohorts.population_lacks what=%s", lack)
            if too_many():
                made = timezone.localtime(people.about.as_of)
                if isinstance(lack, duckdb.Error):
                    raise StateError(
                        "the population file cannot be read: build a new one"
                    ) from lack
                raise StateError(
                    f"the population file of {made:%Y-%m-%d %H:%M} does not hold {lack} as it is "
                    "now: build a new one (manage.py build_population)"
                ) from lack
    return question(live(seeds, slots))


def is_few() -> bool:
    """Whether reading the rows themselves takes no time to speak of."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT FROM cohorts_profile LIMIT %s) AS counted", [FEW + 1]
        )
        return int(cursor.fetchall()[0][0]) <= FEW


def too_many() -> bool:
    """Whether reading the rows themselves would take too long for a page."""
    # The planner's estimate costs nothing; counting a large table first would be half the work.
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'cohorts_profile'::regclass")
        return bool(cursor.fetchall()[0][0] > MOST_LIVE)


def refuse_too_many() -> None:
    """Raises `StateError` where reading everybody would take too long for a page."""
    if too_many():
        raise StateError(
            f"there are more than {MOST_LIVE:,} users, and no population file yet that could "
            "answer: build one (manage.py build_population)"
        )
