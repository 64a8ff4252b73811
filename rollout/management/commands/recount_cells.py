"""Counts cells again from raw events and from the warehouse, and says what differs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils import timezone

from huidu.errors import HuiduError
from rollout.models import Stage
from rollout.services import recount
from rollout.services.audit import Actor

MOST_TOLD = 20


class Command(BaseCommand):
    help = (
        "Count the cells of a stage, or of all entered ones, again and print what differs: "
        "nothing must. With --apply the recount is kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("stage", type=int, nargs="?", help="number of a stage")
        which.add_argument("--all", action="store_true", help="every stage that was entered")
        parser.add_argument("--apply", action="store_true", help="write what was counted again")
        parser.add_argument("--by", default="", help="with --apply: who answers for it")
        parser.add_argument("--reason", default="", help="with --apply: why, for the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["apply"] and not (options["by"].strip() and options["reason"].strip()):
            raise CommandError("--apply needs --by and --reason: both go into the audit log")
        rows = Stage.objects.select_related("rollout__flag").exclude(entered_at=None).order_by("pk")
        if not options["all"]:
            rows = rows.filter(pk=options["stage"])
            if not rows:
                raise CommandError(
                    f"expected the number of an entered stage, got {options['stage']}"
                )
        by = Actor(name=f"{options['by']} (command line)", person=options["by"])
        differing = 0
        for stage in rows:
            try:
                found = recount.recount(
                    stage,
                    now=timezone.now(),
                    apply=options["apply"],
                    by=by,
                    reason=options["reason"],
                )
            except OperationalError as error:
                raise CommandError(f"stage {stage}: {error}; try again") from error
            except HuiduError as error:
                raise CommandError(f"stage {stage}: {error.message}") from error
            self._tell(stage, found)
            differing += bool(found.differences) and not found.applied
        if differing:
            raise CommandError(f"the cells of {differing:,} stages differ from a recount")

    def _tell(self, stage: Stage, found: recount.Recount) -> None:
        for sentence in found.unread:
            self.stdout.write(f"stage {stage}: not counted again: {sentence}")
        for each in found.differences[:MOST_TOLD]:
            self.stdout.write(
                f"stage {stage}: {recount.in_words(each.place)}: kept {_said(each.kept)}, "
                f"recounted {_said(each.recounted)}"
            )
        if len(found.differences) > MOST_TOLD:
            self.stdout.write(f"stage {stage}: and {len(found.differences) - MOST_TOLD:,} more")
        verdict = f"{len(found.differences):,} differ" if found.differences else "none differ"
        kept = "; the recount was written" if found.applied else ""
        self.stdout.write(f"stage {stage} ({stage.pk}): {found.cells:,} cells, {verdict}{kept}")


def _said(cell: tuple[int, list[float]] | None) -> str:
    return "no cell" if cell is None else f"{cell[0]:,} users {cell[1]}"
