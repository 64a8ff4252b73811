"""``manage.py build_population``: reads everybody into the file that previews count."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from cohorts.population import people
from cohorts.services.rebuild import estimated_users
from rollout.services import population


class Command(BaseCommand):
    help = (
        "Read all users into a columnar file, from which previews of rules, gates and stages are "
        "counted. It happens by itself every night; this is for when one does not want to wait. "
        "Goes on where a stopped build was."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--anew", action="store_true", help="Read everybody again.")

    def handle(self, *args: Any, **options: Any) -> None:
        with tqdm(
            total=estimated_users(),
            unit=" users",
            unit_scale=True,
            desc="reading",
            disable=True if options["verbosity"] == 0 else None,
            file=self.stderr,
        ) as bar:
            made = population.build(anew=options["anew"], told=bar.update)
        if made is None:
            raise CommandError("another process is building the population file right now")
        about = made.about
        size = people.path_of(people.numbers()[0]).stat().st_size
        self.stdout.write(
            f"{about.users:,} users, {size / 1e6:,.1f} MB; previews read {about.sampled:,} of them"
            + (", which is everybody." if about.sampled == about.users else ", picked evenly.")
        )
