"""``manage.py import_payments FILE``: payments from a file, each counted once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from cohorts import selectors
from cohorts.management import importing
from cohorts.services import imports

HEAVY = 20


class Command(importing.ImportCommand):
    help = (
        "Import payments from CSV, gzipped CSV or Parquet. Columns: event_id, user_id, paid_at, "
        "and amount_cny if known. A repeated event_id, in this file or ever, is not counted again; "
        "a killed import goes on where it stopped."
    )
    kind = imports.PAYMENTS

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--zone",
            type=importing.zone,
            help="Where moments without an offset belong; a bare day is its noon. "
            "Without it such rows are rejected.",
        )
        parser.add_argument(
            "--as-of",
            type=importing.day,
            metavar="DAY",
            help="Afterwards, print how many users were active in the 7 and 30 days that end with "
            "DAY, from everything imported so far. It changes nothing.",
        )

    def tell_more(self, options: dict[str, Any]) -> None:
        day = options["as_of"]
        if day is None:
            return
        counts = selectors.counts_on(day).values()
        weekly = [each.weekly for each in counts if each.weekly]
        self.stdout.write(
            f"As of {day}: {len(weekly):,} users paid in 7 days ({sum(weekly):,} payments), "
            f"{len(counts):,} in 30 days ({sum(each.monthly for each in counts):,} payments), "
            f"{sum(each > HEAVY for each in weekly):,} paid more than {HEAVY} times in 7 days."
        )
