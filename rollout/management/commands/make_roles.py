"""Makes the starter roles that are missing; `bin/up` runs it, production runs it after migrate."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from rollout.services import roles


class Command(BaseCommand):
    help = "Make the roles auditor, support, operator, risk officer and data engineer if missing."

    def handle(self, *args: Any, **options: Any) -> None:
        made = roles.make_missing()
        self.stdout.write(f"made {', '.join(made)}" if made else "every role is there")
