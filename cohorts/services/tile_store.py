"""The folder where daily tiles and windows are kept; see `cohorts.services.tiles`."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import ibis  # type: ignore[import-untyped]
import msgspec

from cohorts.services.engines import Engine
from huidu.errors import InputError, StateError


class Source(msgspec.Struct):
    """A file of payments as it was when it was counted."""

    size: int
    changed_ns: int
    rows: int
    refunds: int
    unreadable: int
    days: list[datetime.date]


class Batch(msgspec.Struct):
    """Source files that were counted together, and their tiles."""

    part: str
    sources: dict[str, Source]
    counted: int
    days: list[datetime.date]


class Windows(msgspec.Struct):
    """The windows of a day, and the tiles they are made of."""

    part: str
    day: datetime.date
    made_of: list[str]


class State(msgspec.Struct):
    version: int = 1
    offset_minutes: int = 480
    next_part: int = 1
    complete_from: datetime.date | None = None
    batches: list[Batch] = []
    windows: Windows | None = None


class Store:
    """A folder of tiles, for one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "state.json"
        self.state = State()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """Holds the folder.

        Raises:
            StateError: another process holds it.
            InputError: the state is damaged or of a newer version.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateError(f"another process works in {self.folder}") from None
            self._load()
            yield self

    def _load(self) -> None:
        if self._file.exists():
            try:
                self.state = msgspec.json.decode(self._file.read_bytes(), type=State)
            except msgspec.DecodeError as error:
                raise InputError(f"{self._file} is damaged: {error}") from error
            if self.state.version != State().version:
                raise InputError(f"{self._file}: expected version 1, got {self.state.version}")
        named = {batch.part for batch in self.state.batches}
        if self.state.windows:
            named.add(self.state.windows.part)
        for path in self.folder.iterdir():  # what a killed run left
            if path.name.startswith(("tiles-", "windows-")) and path.name not in named:
                remove(path)
        missing = sorted(name for name in named if not (self.folder / name).exists())
        if missing:
            raise InputError(f"{self.folder} lacks {missing[0]}; --rebuild counts all files anew")

    def save(self) -> None:
        """Make the state what it says, whatever happens next."""
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.state), indent=1))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        _sync(self.folder)

    def path(self, part: str) -> Path:
        return self.folder / part

    def write(self, engine: Engine, table: ibis.Table, kind: str) -> str:
        """A new part, safely on disk; its name."""
        name = f"{kind}-{self.state.next_part:06d}.parquet"
        self.state.next_part += 1
        path = self.path(name)
        remove(path)
        engine.write(table, path)
        for file in path.rglob("*") if path.is_dir() else [path]:
            _sync(file)
        return name

    def tiles(self, engine: Engine, parts: Sequence[str]) -> ibis.Table:
        return engine.parquet([self.path(part) for part in parts])

    def reset(self) -> None:
        """Forget all tiles; source files are counted anew."""
        self.state = State(complete_from=self.state.complete_from, next_part=self.state.next_part)
        self.save()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
