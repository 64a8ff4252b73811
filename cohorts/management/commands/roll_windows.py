"""``manage.py roll_windows SOURCE --as-of DAY``: windows of a warehouse's payments."""

from __future__ import annotations

import datetime
import glob
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from cohorts import windows
from cohorts.management import importing
from cohorts.services import engines, reconcile, tile_sources, tile_store, tiles
from huidu.errors import HuiduError, InputError


class Command(BaseCommand):
    help = (
        "Count a warehouse's payments into daily tiles and windows, hold what is live against "
        "them, and bring it in line with --apply. Only files that are new since the last run are "
        "counted; a killed run goes on by being run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "sources",
            nargs="*",
            metavar="SOURCE",
            help="Parquet, CSV or gzipped CSV: files, folders or patterns ('pay/*.csv').",
        )
        parser.add_argument(
            "--as-of", type=importing.day, metavar="DAY", help="The last day; yesterday by default."
        )
        parser.add_argument(
            "--complete-from",
            type=importing.day,
            metavar="DAY",
            help="The first day of which the files hold all payments; remembered. Earlier days "
            "are not compared.",
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            type=importing.mapping,
            metavar="COLUMN=NAME",
            help="The files' COLUMN is our NAME; as often as needed.",
        )
        parser.add_argument(
            "--zone",
            type=importing.zone,
            help="Where moments without an offset belong; a bare day is its noon.",
        )
        parser.add_argument("--tiles", type=Path, help="The folder of tiles; 'tiles' of the home.")
        parser.add_argument("--engine", choices=engines.NAMES, help="HUIDU_WINDOWS_ENGINE else.")
        parser.add_argument("--rebuild", action="store_true", help="Count all files anew.")
        parser.add_argument("--no-compare", action="store_true", help="Only tiles and windows.")
        parser.add_argument("--spend", action="store_true", help="Compare yearly spend as well.")
        parser.add_argument("--report", type=Path, help="Write the differing days to this CSV.")
        parser.add_argument("--apply", action="store_true", help="Bring live counts in line.")
        parser.add_argument(
            "--only-raise", action="store_true", help="With --apply: never lower a count."
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument(
            "--sql", metavar="DIALECT", help="Print the definition in an engine's SQL, and stop."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        day = options["as_of"] or _yesterday()
        try:
            if options["sql"]:
                self._print_sql(options["sql"], day)
            else:
                self._run(day, options)
        except HuiduError as error:
            raise CommandError(str(error)) from error

    def _print_sql(self, dialect: str, day: datetime.date) -> None:
        if dialect not in windows.DIALECTS:
            raise InputError(f"expected one of {', '.join(windows.DIALECTS)}, got {dialect!r}")
        self.stdout.write(f"-- daily tiles\n{windows.tiles_sql(dialect)};\n")
        self.stdout.write(f"-- windows as of {day}\n{windows.sql(dialect, day)};")

    def _run(self, day: datetime.date, options: dict[str, Any]) -> None:
        plan = tile_sources.Plan(
            paths=_files(options["sources"]),
            mapped=dict(options["map"]),
            zone=options["zone"],
            utc_offset=_fixed_offset(settings.HUIDU_DAY_ZONE),
        )
        folder = options["tiles"] or settings.ENV.home / "tiles"
        with (
            tile_store.Store(folder).opened() as store,
            tempfile.TemporaryDirectory(dir=folder) as scratch,
        ):
            engine = engines.engine(
                options["engine"] or settings.HUIDU_WINDOWS_ENGINE,
                memory=settings.HUIDU_WINDOWS_MEMORY,
                scratch=Path(scratch),
                spark_master=settings.HUIDU_SPARK_MASTER,
            )
            try:
                self._count(store, engine, plan, options)
                made = tiles.roll(store, engine, day)
                self._tell_windows(store, engine, made)
            finally:
                engine.close()
            if not options["no_compare"]:
                self._compare(store, day, Path(scratch), options)

    def _count(
        self,
        store: tile_store.Store,
        engine: engines.Engine,
        plan: tile_sources.Plan,
        options: dict[str, Any],
    ) -> None:
        if options["rebuild"]:
            store.reset()
        if options["complete_from"]:
            store.state.complete_from = options["complete_from"]
            store.save()
        with self._bar(tiles.rows_to_count(store, plan) or None, "rows", "counting") as bar:
            found = tiles.update(store, engine, plan, bar.update)
        if found.again:
            self.stdout.write(
                f"{len(found.again):,} files changed, or shared days with one that "
                "did, and were counted again."
            )
        if found.gone:
            self.stdout.write(f"{len(found.gone):,} files are gone; their payments stay counted.")
        if not found.files:
            self.stdout.write("No new files.")
            return
        self.stdout.write(
            f"{found.files:,} new files, {found.rows:,} rows: {found.counted:,} payments, "
            f"{found.duplicates:,} duplicates, {found.refunds:,} refunds, "
            f"{found.unreadable:,} not readable, on {len(found.days):,} days."
        )
        if found.unreadable:
            self.stdout.write(
                "Not readable: an empty or too long id, an amount that is none, or a moment "
                "without its offset (--zone says where such moments belong)."
            )

    def _tell_windows(
        self, store: tile_store.Store, engine: engines.Engine, made: tile_store.Windows
    ) -> None:
        table = engine.parquet([store.path(made.part)])
        (row,) = engine.rows(
            table.aggregate(
                weekly_users=(table.weekly > 0).cast("int64").sum(),
                weekly=table.weekly.sum(),
                monthly_users=(table.monthly > 0).cast("int64").sum(),
                monthly=table.monthly.sum(),
            )
        )
        told = {name: int(value or 0) for name, value in row.items()}
        self.stdout.write(
            f"As of {made.day}: {told['weekly_users']:,} users paid in 7 days "
            f"({told['weekly']:,} payments), {told['monthly_users']:,} in 30 days "
            f"({told['monthly']:,} payments). Windows: {store.path(made.part)}"
        )

    def _compare(
        self, store: tile_store.Store, day: datetime.date, scratch: Path, options: dict[str, Any]
    ) -> None:
        engine = engines.DuckDB(settings.HUIDU_WINDOWS_MEMORY, scratch)
        try:
            comparison = reconcile.Comparison(store, engine, day, scratch)
            drift = comparison.drift(spend=options["spend"])
            self._tell_drift(drift)
            if options["report"]:
                comparison.write_report(options["report"])
                self.stdout.write(f"Differing days: {options['report']}")
            if options["apply"] and (drift.days or drift.spends):
                self._apply(comparison, drift, options)
        finally:
            engine.close()

    def _tell_drift(self, drift: reconcile.Drift) -> None:
        self.stdout.write(
            f"Live counts of {drift.first} to {drift.last}: {drift.users:,} of "
            f"{drift.compared:,} users differ, on {drift.days:,} days of theirs; at most by "
            f"{drift.most:,} payments. {drift.missing:,} payments are not held, "
            f"{drift.surplus:,} are held but not in the files."
        )
        if drift.unfit:
            self.stdout.write(f"{drift.unfit:,} users left out: control characters in their ids.")
        if drift.spends is not None:
            self.stdout.write(f"Yearly spend: {drift.spends:,} users differ.")

    def _apply(
        self, comparison: reconcile.Comparison, drift: reconcile.Drift, options: dict[str, Any]
    ) -> None:
        lowered = 0 if options["only_raise"] else drift.lowered
        if not options["yes"]:
            asked = (
                f"Change the counts of {drift.users:,} users ({lowered:,} of them get fewer "
                "payments than now)? Type yes: "
            )
            if input(asked).strip() != "yes":
                raise CommandError("nothing was changed")
        now = timezone.now()
        with self._bar(drift.days, "days", "applying") as bar:
            applied, left = comparison.apply(
                now, only_raise=options["only_raise"], progress=bar.update
            )
        self.stdout.write(
            f"{applied:,} differing days brought in line"
            + (f"; {left:,} moved meanwhile and are left to the next run." if left else ".")
        )
        if drift.spends:
            with self._bar(drift.spends, "users", "spend") as bar:
                users = comparison.apply_spend(now, bar.update)
            self.stdout.write(f"Yearly spend of {users:,} users brought up to date.")
        self.stdout.write("Packed profiles follow within seconds, as after any payment.")

    def _bar(self, total: int | None, unit: str, what: str) -> Any:
        return tqdm(
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            desc=what,
            disable=None,
            file=self.stderr,
        )


def _files(sources: list[str]) -> list[Path]:
    """The files that patterns, folders and names stand for, in order, each once."""
    found: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            some = [each for each in path.rglob("*") if _is_data(each)]
        elif path.is_file():
            some = [path]
        else:
            some = [Path(each) for each in glob.glob(source, recursive=True)]
            some = [each for each in some if each.is_file()]
        if not some:
            raise InputError(f"expected files of payments, found none at {source}")
        found.update(some)
    return sorted(each.absolute() for each in found)


def _is_data(path: Path) -> bool:
    names = (".parquet", ".csv", ".csv.gz")
    return path.is_file() and path.name.endswith(names) and not path.name.startswith((".", "_"))


def _yesterday() -> datetime.date:
    today = timezone.now().astimezone(ZoneInfo(settings.HUIDU_DAY_ZONE)).date()
    return today - datetime.timedelta(days=1)


def _fixed_offset(name: str) -> datetime.timedelta:
    """The offset of a zone without summer time."""
    year = timezone.now().year
    offsets = {
        datetime.datetime(year, month, 1, tzinfo=ZoneInfo(name)).utcoffset() for month in (1, 7)
    }
    offset = offsets.pop()
    if offsets or offset is None:
        raise InputError(
            f"days of {name} have no fixed offset from UTC; tiles need a zone that has"
        )
    return offset
