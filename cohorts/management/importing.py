"""What `import_payments` and `import_profiles` have in common: options, progress, words."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from cohorts.services import files, imports, packing, store
from huidu.errors import HuiduError


class ImportCommand(BaseCommand):
    """Imports one file; subclasses say of what kind."""

    kind: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="CSV, gzipped CSV or Parquet.")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            type=mapping,
            metavar="COLUMN=NAME",
            help="The file's COLUMN is our NAME; as often as needed.",
        )
        parser.add_argument("--encoding", default="utf-8", help="Of CSV files, such as gb18030.")
        parser.add_argument("--again", action="store_true", help="Read the file from the start.")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        plan = imports.Plan(
            kind=self.kind,
            path=path,
            reports=settings.ENV.home / "imports",
            mapped=dict(options["map"]),
            encoding=options["encoding"],
            zone=options.get("zone"),
            again=options["again"],
        )
        try:
            report = self._import(plan, quiet=options["verbosity"] == 0)
        except HuiduError as error:
            raise CommandError(str(error)) from error
        self._tell(path, report)
        self.tell_more(options)
        self._pack()

    def tell_more(self, options: dict[str, Any]) -> None:
        """What a subclass adds."""

    def _import(self, plan: imports.Plan, *, quiet: bool) -> imports.Report:
        files.columns_of(plan.path, plan.encoding)  # a file that cannot be read is said first
        rows = files.is_parquet(plan.path)
        with tqdm(
            total=files.size_of(plan.path),
            unit="rows" if rows else "B",
            unit_scale=True,
            desc=plan.path.name,
            disable=None if not quiet else True,
            file=self.stderr,
        ) as bar:
            return imports.import_file(plan, timezone.now(), bar.update)

    def _tell(self, path: Path, report: imports.Report) -> None:
        if report.already_done:
            self.stdout.write(f"{path.name} was imported before: nothing changed.")
        elif report.resumed_at:
            self.stdout.write(f"Went on after row {report.resumed_at:,}.")
        self.stdout.write(
            f"{report.rows:,} rows: {report.accepted:,} accepted, "
            f"{report.duplicates:,} duplicates, {report.rejected:,} rejected."
        )
        if report.unused:
            self.stdout.write(
                f"Columns not used: {', '.join(report.unused)} (--map COLUMN=NAME uses one)."
            )
        if report.rejected_file:
            self.stdout.write(f"Rejected rows, with reasons: {report.rejected_file}")

    def _pack(self) -> None:
        """Bring the packed profiles up to date now, if Redis is there; else the ticks will."""
        try:
            if store.read_meta().targets:
                packed = packing.drain_dirty(seconds=600)
                self.stdout.write(f"{packed:,} packed profiles brought up to date.")
        except redis.RedisError:
            self.stdout.write("Redis is not there; profiles are packed once it is.")


def mapping(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.rpartition("=")
    if not (theirs and equals and ours):
        raise ArgumentTypeError(f"expected COLUMN=NAME, got {text!r}")
    return theirs, ours


def zone(text: str) -> str:
    """The name of a time zone that exists."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError):
        raise ArgumentTypeError(f"expected a zone such as Asia/Shanghai, got {text!r}") from None
    return text


def day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a day such as 2026-01-31, got {text!r}") from None
