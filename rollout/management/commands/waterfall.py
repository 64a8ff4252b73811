"""Says how many users are refused first at each step of a flag's check, and who would gain."""

from __future__ import annotations

import io
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cohorts import safe_csv
from huidu.errors import HuiduError
from rollout.services import waterfall


class Command(BaseCommand):
    help = "Count all known users by the step that refuses them first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("flag")
        parser.add_argument("--environment", default=settings.HUIDU_ENVIRONMENT)
        parser.add_argument("--csv", action="store_true", help="write CSV to the standard output")
        parser.add_argument(
            "--now",
            action="store_true",
            help="judge every user as of this moment instead of reading the population file",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.perf_counter()

        def progress(users: int) -> None:
            self.stderr.write(f"{time.perf_counter() - began:6.2f} s  {users:,} users")

        try:
            found = waterfall.count(
                options["environment"],
                options["flag"],
                now=options["now"],
                everybody=True,
                progress=progress,
            )
        except HuiduError as fault:
            raise CommandError(str(fault)) from fault
        if options["csv"]:
            text = io.StringIO()
            safe_csv.write_rows(text, waterfall.csv_rows(found))
            self.stdout.write(text.getvalue(), ending="")
            return
        at = timezone.localtime(found.as_of)
        self.stdout.write(
            f"{found.users:>10,}  users at {at:%Y-%m-%d %H:%M}, snapshot {found.sequence}"
        )
        left = found.users
        for step in found.steps:
            left -= step.refused
            gained = "" if step.gained is None else f"  relaxed: +{step.gained:,} shown"
            if step.eligible is not None:
                gained += f", +{step.eligible:,} pass every gate"
            self.stdout.write(f"{-step.refused:>10,}  {step.key:<24}{left:>10,} left{gained}")
        self.stdout.write(f"{found.open:>10,}  pass every gate")
        self.stdout.write(f"{found.shown:>10,}  shown")
        for title, groups in (("region", found.regions), ("tier", found.tiers)):
            for key, each in groups.items():
                told = f"{each.shown:>10,} of {each.users:>8,}  {each.part:7.2%}"
                self.stdout.write(f"{told}  {title} {key or '-'}")
