"""The desk: gives places of funding partners to users whom check servers ask for."""

from __future__ import annotations

import os
import signal
import socket
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from rollout.services.desk import Desk


class Command(BaseCommand):
    help = "Give places of funding partners, until SIGTERM or SIGINT. Several may run."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = False

        def stop(signum: int, frame: FrameType | None) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        Desk(f"{socket.gethostname()}-{os.getpid()}").run(lambda: stopping)
