"""The Celery app. Beat only ticks; each tick re-reads the truth from the database."""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("huidu")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def tick(task: str, seconds: float) -> dict[str, object]:
    """A schedule entry: a tick that nobody picked up in time is of no use and expires."""
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds * 2, 10)}}


@app.on_after_finalize.connect
def read_schedules(sender: Celery, **options: Any) -> None:
    """Each app says how often its ticks are due (``SCHEDULE``: task name to seconds)."""
    if not apps.ready:  # beat finalizes the app before Django is set up
        django.setup()
    from cohorts.tasks import SCHEDULE as WHO
    from rollout.tasks import SCHEDULE as WHEN

    sender.conf.beat_schedule = {
        task: tick(task, seconds) for task, seconds in (WHO | WHEN).items()
    }
