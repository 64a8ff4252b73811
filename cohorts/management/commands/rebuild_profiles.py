"""``manage.py rebuild_profiles``: packs everybody anew from PostgreSQL."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from cohorts.services import rebuild, store


class Command(BaseCommand):
    help = (
        "Write the packed profiles of all users anew from PostgreSQL, while checks go on reading "
        "the old ones. Goes on where a stopped rebuild was. It happens by itself after Redis lost "
        "its data; this is for when one does not want to wait, or to choose another --buckets."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--buckets",
            type=_power_of_two,
            metavar="N",
            help="How many hashes in Redis, a power of two; chosen from the users by default.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        quiet = options["verbosity"] == 0
        try:
            with tqdm(
                total=rebuild.estimated_users(),
                unit=" users",
                desc="packing",
                disable=True if quiet else None,
                file=self.stderr,
            ) as bar:
                packed = rebuild.rebuild_profiles(
                    timezone.now(), buckets=options["buckets"], progress=bar.update
                )
        except redis.RedisError as error:
            raise CommandError(f"Redis did not answer ({error}); run it again to go on") from error
        if packed is None:
            raise CommandError("another process is rebuilding the profiles right now")
        if store.read_meta().rebuilding:
            raise CommandError("Redis lost its data meanwhile; run it again to begin anew")
        self.stdout.write(f"{packed:,} users packed; checks read the new records.")


def _power_of_two(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if not 1 <= number <= 1 << 40 or number & (number - 1):
        raise ArgumentTypeError(f"expected a power of two such as 65536, got {text!r}")
    return number
