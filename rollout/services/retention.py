"""Values at the end of their term: deleted by `cohorts`, told in the audit log."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from cohorts.models import RetentionRun
from cohorts.services import population, retention
from rollout.services import audit
from rollout.services.audit import ENGINE


def carry_on(now: datetime, *, seconds: float) -> int:
    """A piece of tonight's deletion; how many users were judged."""
    return retention.carry_on(now, seconds=seconds, done=_log)


def _log(run: RetentionRun) -> None:
    """A night that deleted something is an entry of the log: what, and how much of it."""
    if run.erased:
        transaction.on_commit(population.want)  # the file that previews count in holds the values
        audit.record(
            ENGINE,
            "retention.applied",
            f"retention:{run.day}",
            environment="all",
            after={"users": run.users, "erased": run.erased},
        )
