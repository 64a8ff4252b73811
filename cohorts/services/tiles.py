"""Keeps daily tiles and windows of a warehouse's payments: what came since costs its own work.

A folder holds Parquet files and `state.json`, which says what they are made of:

    tiles-N     the tiles of one batch of source files, without what earlier batches counted
    windows-N   the windows of one day, rolled on from those of the day before

New source files become new tiles, whatever days their payments belong to; repeats are looked for
in those earlier files that hold payments of the same days. The state is replaced last, by one
rename: a kill leaves what was finished before it, and the next run goes on there.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import ibis  # type: ignore[import-untyped]
import msgspec

from cohorts import windows
from cohorts.services import engines, files
from cohorts.services.engines import Engine
from cohorts.services.tile_sources import Plan, columns_of, look, with_day
from cohorts.services.tile_store import Batch, Source, Store, Windows, remove
from huidu.errors import InputError

BATCH_ROWS: Final = 16_000_000
"""Rows of source files that are counted at once: the work that a kill can lose."""

MARKED_ROWS: Final = 64_000_000
"""Rows of a batch whose repeats are told by sorted marks, 8 bytes each; more go to the engine."""

SAMPLED: Final = 16
"""One user in so many is asked how often people pay on one day."""

ROLL_DAYS: Final = 7
"""Windows of so many days ago are rolled on; older ones are made anew."""

Progress = Callable[[int], object]


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What an update found in the source files that were new to it."""

    files: int
    rows: int
    counted: int
    refunds: int
    unreadable: int
    days: list[datetime.date]
    gone: list[str]
    again: list[str]

    @property
    def duplicates(self) -> int:
        return self.rows - self.counted - self.refunds - self.unreadable


def update(store: Store, engine: Engine, plan: Plan, progress: Progress | None = None) -> Update:
    """Count the source files that are new or were changed.

    1. Take back batches with changed files, and later ones that share days with them.
    2. Look through each new file: rows, refunds, what cannot be read, days.
    3. Batch by batch: leave out what earlier files of the same days hold, make tiles, save.

    A file that is gone stays counted.

    Args:
        progress: told how many more rows were counted.
    Raises:
        InputError: a file cannot be read; batches before it stay counted.
    """
    state = store.state
    minutes = int(plan.utc_offset.total_seconds() // 60)
    if state.batches and state.offset_minutes != minutes:
        raise InputError(
            f"{store.folder} holds days at {state.offset_minutes} minutes from UTC, not {minutes}; "
            "--rebuild counts all files anew"
        )
    state.offset_minutes = minutes
    again = _take_back(store, plan.paths)
    known = {name: held for batch in state.batches for name, held in batch.sources.items()}
    fresh = [path for path in plan.paths if str(path.absolute()) not in known]
    columns = columns_of(engine, fresh, plan.mapped)
    looked = {path: look(engine, path, columns[path], plan) for path in fresh}
    counted = 0
    days: set[datetime.date] = set()
    for batch in _batches(fresh, looked, columns):
        made = _count(store, engine, batch, columns, looked, plan)
        counted += made.counted
        days.update(made.days)
        if progress is not None:
            progress(sum(looked[path].rows for path in batch))
    present = {str(path.absolute()) for path in plan.paths}
    return Update(
        files=len(fresh),
        rows=sum(each.rows for each in looked.values()),
        counted=counted,
        refunds=sum(each.refunds for each in looked.values()),
        unreadable=sum(each.unreadable for each in looked.values()),
        days=sorted(days),
        gone=sorted(set(known) - present),
        again=again,
    )


def rows_to_count(store: Store, plan: Plan) -> int:
    """About how many rows `update` will read: Parquet says so, CSV is told by its bytes."""
    known = {name: held for batch in store.state.batches for name, held in batch.sources.items()}
    fresh = [
        path
        for path in plan.paths
        if (held := known.get(str(path.absolute()))) is None or _changed(path, held)
    ]
    return sum(files.size_of(path) for path in fresh if files.is_parquet(path))


def roll(store: Store, engine: Engine, day: datetime.date) -> Windows:
    """The windows of `day`: rolled on from those held where that is possible, else made anew.

    Raises:
        InputError: there are no payments in the year that ends with `day`.
    """
    state = store.state
    parts = [batch.part for batch in state.batches]
    held = state.windows
    if held is not None and held.day == day and held.made_of == parts:
        return held
    of_year = _with_days(state.batches, day, windows.YEAR_DAYS)
    if not of_year:
        raise InputError(f"no payments in the {windows.YEAR_DAYS} days that end with {day}")
    if (
        held is not None
        and 0 <= (day - held.day).days <= ROLL_DAYS
        and set(held.made_of) <= set(parts)
        and held.made_of
    ):
        new = [part for part in of_year if part not in held.made_of]
        old = _at_edges(state.batches, held, day) or held.made_of[:1]
        table = windows.rolled(
            engine.parquet([store.path(held.part)]),
            store.tiles(engine, old),
            store.tiles(engine, new) if new else None,
            held.day,
            day,
        )
    else:
        table = windows.windows(store.tiles(engine, of_year), day)
    made = Windows(store.write(engine, table, "windows"), day, parts)
    state.windows = made
    store.save()
    if held is not None:
        remove(store.path(held.part))
    return made


def _batches(
    paths: Sequence[Path], looked: Mapping[Path, Source], columns: Mapping[Path, object]
) -> Iterator[list[Path]]:
    """Files that are read together: in order, alike, and not too many rows."""
    batch: list[Path] = []
    rows = 0
    for path in paths:
        alike = not batch or (
            columns[path] == columns[batch[0]]
            and files.is_parquet(path) == files.is_parquet(batch[0])
        )
        if batch and (not alike or rows + looked[path].rows > BATCH_ROWS):
            yield batch
            batch, rows = [], 0
        batch.append(path)
        rows += looked[path].rows
    if batch:
        yield batch


def _count(
    store: Store,
    engine: Engine,
    paths: Sequence[Path],
    columns: Mapping[Path, dict[str, str]],
    looked: Mapping[Path, Source],
    plan: Plan,
) -> Batch:
    events = engines.events(engine, paths, columns[paths[0]], plan.zone)
    days = {day for path in paths for day in looked[path].days}
    marks = None
    if _worth_marks(engine, paths, looked) and not _dense(engine, paths[0], columns, plan):
        marks = engine.repeated(events.select(mark=engine.mark_of(events.event_id)))
    again = None
    for seen, shared in _seen_before(store, engine, days, plan):
        # Only payments of shared days can be repeats, so only they are looked up.
        dated = with_day(engine, events, plan)
        found = windows.repeats(dated.filter(dated.day.isin(sorted(shared))), seen)
        again = found if again is None else ibis.union(again, found)
    if again is not None:
        events = events.anti_join(engine.kept(again), "event_id")
    if marks is None:
        tiles = windows.tiles(events, plan.utc_offset, engine.day_of)
        tiles = tiles.filter(tiles.day.notnull()).order_by("day")
    else:
        tiles = windows.tile_rows(events, marks, engine.mark_of, plan.utc_offset, engine.day_of)
        tiles = tiles.filter(tiles.day.notnull())
    part = store.write(engine, tiles, "tiles")
    written = store.tiles(engine, [part])
    (total,) = engine.rows(written.aggregate(total=written["count"].sum()))
    made = Batch(
        part=part,
        sources={str(path.absolute()): looked[path] for path in paths},
        counted=int(total["total"] or 0),
        days=sorted(days),
    )
    store.state.batches.append(made)
    store.save()
    return made


def _worth_marks(engine: Engine, paths: Sequence[Path], looked: Mapping[Path, Source]) -> bool:
    """Whether a batch may be read twice and its marks be held: Parquet, and not one huge file."""
    rows = sum(looked[path].rows for path in paths)
    return engine.sorts_marks and files.is_parquet(paths[0]) and rows <= MARKED_ROWS


def _dense(
    engine: Engine,
    path: Path,
    columns: Mapping[Path, dict[str, str]],
    plan: Plan,
) -> bool:
    """Whether at most half as many rows are left once payments are summed by user and day.

    Told from one user in `SAMPLED` of the batch's first file: it decides what tiles cost, not
    what they add up to.
    """
    some = engines.events(engine, [path], columns[path], plan.zone)
    some = some.filter(engine.mark_of(some.user_id) % SAMPLED == 0)
    dated = with_day(engine, some, plan)
    per_day = dated.group_by(["user_id", "day"]).aggregate(rows=dated.count())
    (found,) = engine.rows(per_day.aggregate(tiles=per_day.count(), rows=per_day["rows"].sum()))
    return bool(found["tiles"] * 2 <= (found["rows"] or 0))


def _seen_before(
    store: Store, engine: Engine, days: set[datetime.date], plan: Plan
) -> Iterator[tuple[ibis.Table, set[datetime.date]]]:
    """Earlier payments of these days, from files that are still there, by kind of file."""
    kinds: dict[tuple[bool, bool, str], list[Path]] = {}
    columns: dict[tuple[bool, bool, str], dict[str, str]] = {}
    earlier = [
        (Path(name), held)
        for batch in store.state.batches
        for name, held in batch.sources.items()
        if not days.isdisjoint(held.days) and Path(name).exists()
    ]
    shared = days.intersection(day for _, held in earlier for day in held.days)
    for path, held in earlier:
        found = columns_of(engine, [path], plan.mapped)[path]
        whole = shared.issuperset(held.days) and _all_counted(path, held, found)
        kind = (files.is_parquet(path), whole, repr(found))
        kinds.setdefault(kind, []).append(path)
        columns[kind] = found
    for kind, paths in kinds.items():
        events = engines.events(engine, paths, columns[kind], plan.zone)
        if not kind[1]:
            dated = with_day(engine, windows.payments(events), plan)
            events = dated.filter(dated.day.isin(sorted(shared)))
        # Of a file whose every row was a payment of these days, only the ids are read.
        yield events.select("event_id"), shared


def _all_counted(path: Path, held: Source, columns: Mapping[str, str]) -> bool:
    """Whether every row of a file was a payment, as far as it says."""
    if held.refunds or held.unreadable:
        return False
    return not files.is_parquet(path) or bool(files.least_of(path, columns["user_id"]))


def _take_back(store: Store, paths: Sequence[Path]) -> list[str]:
    """Forget batches with files that changed since; the files to be counted again."""
    state = store.state
    dropped: list[Batch] = []
    days: set[datetime.date] = set()
    for batch in state.batches:
        changed = any(
            Path(name).exists() and _changed(Path(name), held)
            for name, held in batch.sources.items()
        )
        # What a later batch left out as repeats may be gone from the changed file.
        if changed or not days.isdisjoint(batch.days):
            dropped.append(batch)
            days.update(batch.days)
    if not dropped:
        return []
    wanted = {str(path.absolute()) for path in paths}
    names = [name for batch in dropped for name in batch.sources]
    for name in names:
        if name not in wanted:
            raise InputError(
                f"a file of payments changed, and {Path(name).name}, which has payments of the "
                "same days, must be counted again but is not among the source files"
            )
    state.batches = [batch for batch in state.batches if batch not in dropped]
    state.windows = None
    store.save()
    for batch in dropped:
        remove(store.path(batch.part))
    return sorted(names)


def _changed(path: Path, held: Source) -> bool:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) != (held.size, held.changed_ns)


def _with_days(batches: Sequence[Batch], day: datetime.date, days: int) -> list[str]:
    first = day - datetime.timedelta(days=days - 1)
    return [batch.part for batch in batches if any(first <= each <= day for each in batch.days)]


def _at_edges(batches: Sequence[Batch], held: Windows, day: datetime.date) -> list[str]:
    """Tiles already in the windows with days that enter or leave one of them."""
    moved = {
        held.day - datetime.timedelta(days=days) + datetime.timedelta(days=step)
        for days in (0, *(days for _, days in windows.WINDOWS.values()))
        for step in range(1, (day - held.day).days + 1)
    }
    return [
        batch.part
        for batch in batches
        if batch.part in held.made_of and not moved.isdisjoint(batch.days)
    ]
