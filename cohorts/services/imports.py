"""Imports a file: each row once, however often it is begun, killed or repeated."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from django.db import transaction
from django.db.models import F

from cohorts import mappers, safe_csv
from cohorts.models import ImportJob
from cohorts.services import cells, facts, files
from cohorts.services.csv_rows import BROKEN, LINE
from cohorts.services.ingest import ingest_payments, ingest_profiles
from cohorts.services.items import IngestResult
from huidu.errors import InputError, StateError

PAYMENTS: Final = ImportJob.Kind.PAYMENTS.value
PROFILES: Final = ImportJob.Kind.PROFILES.value

MOST_REJECTED: Final = 200_000
"""Rejected rows listed one by one; further ones are only counted."""

MOST_SHOWN: Final = 1_000
"""Characters of a rejected row that are listed."""

_OURS: Final = (BROKEN, LINE)

Progress = Callable[[int], object]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to import and how to read it.

    Args:
        path: CSV, gzipped CSV or Parquet; told by content, not by name.
        mapped: the file's column name: ours, where they cannot be guessed.
        encoding: of CSV files.
        zone: where moments without an offset from UTC belong; None: such rows are rejected.
        reports: the folder for lists of rejected rows.
    """

    kind: str
    path: Path
    reports: Path
    mapped: dict[str, str] = {}
    encoding: str = "utf-8"
    zone: str | None = None
    again: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the file; counts are of all runs together."""

    job: int
    rows: int
    accepted: int
    duplicates: int
    rejected: int
    rejected_file: Path | None
    already_done: bool
    resumed_at: int
    columns: dict[str, str]
    unused: list[str]


def import_file(plan: Plan, now: datetime.datetime, progress: Progress | None = None) -> Report:
    """Import a file, or go on where an import of the same bytes was stopped.

    1. Find the file's job by its SHA-256: done already, begun, or new.
    2. Read 5,000 rows at a time; rows and the new offset are committed in one transaction.
    3. List rejected rows with line and reason in a CSV file.

    Raises:
        InputError: the file cannot be read or lacks a column; what was committed stays.
        StateError: another process imports this file right now.
    """
    found = files.columns_of(plan.path, plan.encoding)
    registry = mappers.open_registry()
    if plan.kind == PAYMENTS:
        columns = cells.columns(
            found, ("event_id", "user_id", "paid_at"), ("amount_cny",), plan.mapped
        )
    else:
        columns = cells.columns(found, ("user_id",), facts.settable(registry), plan.mapped)
    unused = [name for name in found if name not in columns.values()]
    job = _job(plan, columns, now)
    resumed_at = job.offset
    rejected = plan.reports / f"{plan.kind}-{job.sha256[:12]}-rejected.csv"
    if job.state == ImportJob.State.DONE:
        return _report(job, rejected, True, 0, columns, unused)
    _forget_after(rejected, job.offset)
    try:
        for rows in files.batches(plan.path, plan.encoding, job.offset, progress):
            _import_batch(job, plan, rows, columns, rejected, now)
    except InputError as error:
        _finish(job, ImportJob.State.FAILED, now, str(error))
        raise
    _finish(job, ImportJob.State.DONE, now, "")
    return _report(job, rejected, False, resumed_at, columns, unused)


def _job(plan: Plan, columns: dict[str, str], now: datetime.datetime) -> ImportJob:
    job, _ = ImportJob.objects.get_or_create(
        kind=plan.kind,
        sha256=files.sha256_of(plan.path),
        defaults={"file_name": plan.path.name[:255], "columns": columns, "started_at": now},
    )
    if plan.again or (job.state == ImportJob.State.FAILED and job.columns != columns):
        # Read from the start; payments already counted are found to be duplicates.
        job.offset = job.accepted = job.duplicates = job.rejected = 0
        job.columns = columns
        job.state = ImportJob.State.RUNNING
    elif job.state == ImportJob.State.FAILED:
        job.state = ImportJob.State.RUNNING
    elif job.columns != columns:
        raise InputError(
            f"{plan.path.name} was imported with other columns "
            f"({_told(job.columns)}); pass --again to read it from the start"
        )
    job.save()
    return job


def _import_batch(
    job: ImportJob,
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    rejected: Path,
    now: datetime.datetime,
) -> None:
    with transaction.atomic():
        result = _ingest(plan, rows, columns, now)
        _list_rejected(rejected, job, rows, result)
        counts = {
            "accepted": result.accepted,
            "duplicates": result.duplicates,
            "rejected": len(result.rejected),
            "offset": len(rows),
        }
        # The offset that was read from is part of the condition: of two importers one fails here.
        moved = ImportJob.objects.filter(
            pk=job.pk, offset=job.offset, state=ImportJob.State.RUNNING
        ).update(**{name: F(name) + more for name, more in counts.items()})
        if not moved:
            raise StateError(f"{plan.path.name} is being imported by another process")
    for name, more in counts.items():
        setattr(job, name, getattr(job, name) + more)


def _ingest(
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    now: datetime.datetime,
) -> IngestResult:
    named = [{"row": row[BROKEN]} if BROKEN in row else files.renamed(row, columns) for row in rows]
    if plan.kind == PAYMENTS:
        zone = ZoneInfo(plan.zone) if plan.zone else None
        return ingest_payments([cells.payment(row, zone) for row in named], now, pack=False)
    registry = mappers.open_registry()
    return ingest_profiles([cells.profile(row, registry) for row in named], now, pack=False)


def _list_rejected(
    path: Path, job: ImportJob, rows: Sequence[Mapping[str, Any]], result: IngestResult
) -> None:
    """Before the commit: a row listed twice after a kill is dropped, a lost one would be lost."""
    room = MOST_REJECTED - job.rejected
    if not result.rejected or room <= 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        if new:
            safe_csv.write_rows(file, [("row", "line", "code", "reason", "cells")])
        for each in result.rejected[:room]:
            row = rows[each.index]
            number = job.offset + each.index + 1
            detail = str(row[BROKEN]) if BROKEN in row else each.detail
            code = "row.broken" if BROKEN in row else each.code
            shown = "; ".join(f"{name}={cell}" for name, cell in row.items() if name not in _OURS)
            told = (number, row.get(LINE, ""), code, detail, _printable(shown[:MOST_SHOWN]))
            safe_csv.write_rows(file, [told])


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _forget_after(path: Path, offset: int) -> None:
    """Drop lines of rows that will be read again."""
    if not path.exists():
        return
    kept = path.with_suffix(".kept")
    with (
        path.open(newline="", encoding="utf-8") as old,
        kept.open("w", newline="", encoding="utf-8") as new,
    ):
        lines = csv.reader(old)
        safe_csv.write_rows(new, [next(lines, [])])
        safe_csv.write_rows(new, (line for line in lines if int(line[0]) <= offset))
    kept.replace(path)


def _finish(job: ImportJob, state: str, now: datetime.datetime, report: str) -> None:
    job.state = state
    job.report = report
    job.finished_at = now
    job.save(update_fields=["state", "report", "finished_at"])


def _report(
    job: ImportJob,
    rejected: Path,
    done: bool,
    resumed_at: int,
    columns: dict[str, str],
    unused: list[str],
) -> Report:
    return Report(
        job=job.pk,
        rows=job.offset,
        accepted=job.accepted,
        duplicates=job.duplicates,
        rejected=job.rejected,
        rejected_file=rejected if job.rejected else None,
        already_done=done,
        resumed_at=resumed_at,
        columns=columns,
        unused=unused,
    )


def _told(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{theirs}={ours}" for ours, theirs in columns.items())
