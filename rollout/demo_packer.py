"""A second process that packs the sample users while the first one draws among them.

In a module of its own, free of models: a spawned process imports it before Django is set up.
"""

from __future__ import annotations

import os
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

WAIT_SECONDS = 120.0


def begin() -> tuple[BaseProcess, Event]:
    """Start the process; it gets ready, and packs once the event is set (or its parent is gone)."""
    context = get_context("spawn")
    go = context.Event()
    process = context.Process(target=_pack, args=(go,), daemon=True)
    process.start()
    return process, go


def _pack(go: Event) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.utils import timezone

    from cohorts.services import rebuild

    if go.wait(WAIT_SECONDS):
        rebuild.rebuild_profiles(timezone.now())
