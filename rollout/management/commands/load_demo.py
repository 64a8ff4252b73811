"""Loads the sample deployment: two flags, 100,000 made-up users, 28 days of payments."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from rollout.services import demo, demo_users


class Command(BaseCommand):
    help = "Load the sample deployment (idempotent). All figures are made up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=int, default=demo_users.USERS)

    def handle(self, *args: Any, users: int, **options: Any) -> None:
        began = time.perf_counter()
        for line in demo.load(users=users):
            self.stdout.write(f"{time.perf_counter() - began:6.2f} s  {line}")
