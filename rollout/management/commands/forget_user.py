"""manage.py forget_user USER --reason SENTENCE: deletes everything about one person."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from huidu.errors import HuiduError
from rollout.services import forget
from rollout.services.audit import Actor


class Command(BaseCommand):
    help = "Deletes everything the platform holds about one person, for good."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="The user's id.")
        parser.add_argument("--reason", required=True, help="Why; kept in the audit log.")
        parser.add_argument("--by", default="operator", help="Who answers for it.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = options["user"]
        for model, count in forget.held(user).items():
            self.stdout.write(f"{model._meta.db_table}: {count:,} rows")
        if not options["yes"] and input("Delete these for good? Type yes: ").strip() != "yes":
            raise CommandError("nothing was deleted")
        by = Actor(name=options["by"], person=options["by"])
        try:
            gone = forget.forget_user(user, by=by, reason=options["reason"])
        except HuiduError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"forgotten: {sum(gone.values()):,} rows")
