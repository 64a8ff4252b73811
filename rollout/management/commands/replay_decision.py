"""Decides again from what was recorded, and says where the answers differ."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from huidu import promotion
from huidu.errors import EvidenceError
from rollout.models import Decision
from rollout.services.replay import replay

MOST_TOLD = 10


class Command(BaseCommand):
    help = "Replay decisions from their records: one by its number, a stage's, or all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("id", type=int, nargs="?", help="number of a decision")
        which.add_argument("--stage", type=int, help="all decisions of a stage, by its number")
        which.add_argument("--all", action="store_true", help="all decisions there are")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Decision.objects.select_related("stage__rollout__flag").order_by("pk")
        if options["id"] is not None:
            rows = rows.filter(pk=options["id"])
        elif options["stage"] is not None:
            rows = rows.filter(stage=options["stage"])
        replayed = differing = other_code = 0
        for decision in rows.iterator(chunk_size=200):
            replayed += 1
            other_code += decision.code_version != promotion.CODE_VERSION
            differing += not self._agrees(decision)
        if not replayed and not options["all"]:
            raise CommandError("no such decision")
        if other_code:
            self.stdout.write(f"{other_code:,} were made by another version of the rule")
        if differing:
            raise CommandError(f"{differing:,} of {replayed:,} decisions differ")
        self.stdout.write(f"{replayed:,} decisions replayed, all agree ({promotion.CODE_VERSION})")

    def _agrees(self, decision: Decision) -> bool:
        try:
            differences = replay(decision)
        except EvidenceError as error:
            self.stdout.write(f"{decision}: {error}")
            return False
        for each in differences[:MOST_TOLD]:
            self.stdout.write(
                f"{decision}: {each.path}: recorded {each.recorded!r}, replayed {each.replayed!r}"
            )
        if len(differences) > MOST_TOLD:
            self.stdout.write(f"{decision}: and {len(differences) - MOST_TOLD} more")
        return not differences
