"""The Celery app. Beat only ticks; each tick re-reads the truth from the database."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("huidu")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def tick(task: str, seconds: float) -> dict[str, object]:
    """A schedule entry: a tick that nobody picked up in time is of no use and expires."""
    return {"task": task, "schedule": seconds, "options": {"expires": max(seconds * 2, 10)}}


app.conf.beat_schedule = {}
