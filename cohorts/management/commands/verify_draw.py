"""manage.py verify_draw ID|--all: says whether receipts of draws agree with what is stored."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cohorts.models import Draw
from cohorts.services import verify


class Command(BaseCommand):
    help = "Checks receipts of draws; the exit code is 1 when one differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("id", type=int, nargs="?", help="number of a draw")
        which.add_argument("--all", action="store_true", help="all draws there are")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Draw.objects.order_by("pk")
        if options["id"] is not None:
            rows = rows.filter(pk=options["id"])
            if not rows:
                raise CommandError("no such draw")
        differing = 0
        for draw in rows:
            found = verify.verify(draw)
            how = "drawn again" if found.repeated else "the facts have changed since, not redrawn"
            word = "agrees" if found.agrees else "differs"
            self.stdout.write(f"draw {draw.pk} {draw}: {word} ({how})")
            for fault in found.faults:
                self.stdout.write(f"  {fault}")
            differing += not found.agrees
        if differing:
            sys.exit(1)
