"""Answers again from receipts of checks, and says where a replay is not what was answered."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from huidu.errors import HuiduError
from huidu.wire import receipt as wire
from rollout.models import Receipt
from rollout.services import replay_receipts

SHOWN = 20
REPORT_EVERY = 50_000


class Command(BaseCommand):
    help = "Replay receipts of checks; fails when a replay differs from its receipt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--environment")
        parser.add_argument("--flag")
        parser.add_argument("--since", help="ISO time")
        parser.add_argument("--until", help="ISO time")
        parser.add_argument("--most", type=int, help="only so many, the newest first")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Receipt.objects.order_by("-at", "decision_id")
        for name, column in (("environment", "environment"), ("flag", "flag_key")):
            if options[name]:
                rows = rows.filter(**{column: options[name]})
        for name, column in (("since", "at__gte"), ("until", "at__lt")):
            if options[name]:
                moment = parse_datetime(options[name])
                if moment is None:
                    raise CommandError(f"--{name}: expected an ISO time, got {options[name]!r}")
                rows = rows.filter(**{column: make_aware(moment) if is_naive(moment) else moment})
        if options["most"]:
            rows = rows[: options["most"]]
        read = differing = 0
        for decision, body in rows.values_list("decision_id", "body").iterator(chunk_size=2_000):
            read += 1
            try:
                faults = replay_receipts.differences(wire.decode(bytes(body)))
                told = "; ".join(f"{at}: was {was!r}, is {now!r}" for at, was, now in faults)
            except HuiduError as error:
                told = str(error)
            if told:
                differing += 1
                if differing <= SHOWN:
                    self.stdout.write(f"{decision}  {told}")
            if read % REPORT_EVERY == 0:
                self.stdout.write(f"{read:,} replayed ...")
        self.stdout.write(f"{read:,} receipts replayed, {differing:,} differ")
        if differing:
            raise CommandError(f"{differing:,} of {read:,} receipts differ from their replay")
