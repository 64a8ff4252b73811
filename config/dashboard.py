"""The board: what is running, how far, whether it is safe, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext

from config.templatetags.huidu import ago
from rollout.admin import board, cases, decisions
from rollout.admin.engine_words import reasons_told
from rollout.models import (
    AuditEntry,
    ChangeRequest,
    Decision,
    Outbox,
    Rollout,
    RollupMark,
    Stage,
)
from rollout.services import publishing, store
from rollout.services.wording import action_in_words

PRODUCTION = "production"
STALE_FEED = timedelta(hours=2)
FREEZE_NOTICE = timedelta(days=7)
WORKER_SILENT = timedelta(minutes=3)


@dataclass(frozen=True)
class Light:
    """One line of the health box."""

    name: str
    told: str
    kind: str
    next_step: str = ""


def _recent_changes() -> list[dict[str, Any]]:
    rows = list(AuditEntry.objects.order_by("-sequence")[:8])
    told = reasons_told(row.reason for row in rows)
    return [
        {
            "entry": row,
            "did": action_in_words(row.action),
            "reason": told.get(row.reason, row.reason),
        }
        for row in rows
    ]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fills the index page. Unfold calls it."""
    environment = board.environment()
    may = request.user.has_perm
    if not may("rollout.view_flag"):
        return context | {"views": [], "may_read": False}
    context.update(
        {
            "title": gettext("Board"),
            "subtitle": None,
            "may_read": True,
            "views": board.flag_views(environment=environment),
            # What a person may not open is not told here either.
            "reads_decisions": may("rollout.view_decision"),
            "decisions": decisions.recent(most=6, stage__rollout__flag__environment=environment)
            if may("rollout.view_decision")
            else [],
            "reads_audit": may("rollout.view_auditentry"),
            "audit": _recent_changes() if may("rollout.view_auditentry") else [],
            "health": health(environment),
            "freezes": freezes(timezone.now()),
            "waiting": ChangeRequest.objects.filter(status=ChangeRequest.Status.PENDING).count()
            if may("rollout.view_changerequest")
            else 0,
            "late_cases": cases.overdue(environment) if may("rollout.view_case") else 0,
            "may_kill": may("rollout.change_flag"),
            "now": timezone.now(),
            "first_steps": first_steps(),
        }
    )
    return context


def freezes(now: datetime) -> list[dict[str, Any]]:
    """Freeze windows that are open, and those that open within a week."""
    return [
        {"name": each[2] if len(each) > 2 else "", "until": each[1], "open": each[0] <= now}
        | {"start": each[0]}
        for each in settings.HUIDU_FREEZE_WINDOWS
        if each[0] - FREEZE_NOTICE <= now < each[1]
    ]


def environment_badge(request: HttpRequest) -> list[str]:
    """Which environment this is, in the header of every page."""
    name = str(settings.HUIDU_ENVIRONMENT)
    if name == PRODUCTION:
        return [gettext("Production"), "danger"]
    return [name, "info"]


def waiting_changes(request: HttpRequest) -> str:
    """How many change requests wait, behind their line of the menu."""
    count = ChangeRequest.objects.filter(status=ChangeRequest.Status.PENDING).count()
    return str(count) if count else ""


def late_cases(request: HttpRequest) -> str:
    """How many review cases are overdue, behind their line of the menu."""
    count = cases.overdue(board.environment())
    return str(count) if count else ""


def health(environment: str) -> list[Light]:
    """Whether what people see here is also what nodes answer."""
    return [_snapshot(environment), _outbox(), _feed(), _reviews()]


def _snapshot(environment: str) -> Light:
    name = gettext("Snapshot")
    last = publishing.last_snapshot(environment)
    if last is None:
        return Light(
            name,
            gettext("nothing published yet"),
            "warn",
            gettext("Change any flag, and the first snapshot follows."),
        )
    told = gettext("number %(n)s, published %(when)s") % {
        "n": last.sequence,
        "when": ago(last.published_at),
    }
    try:
        held, _blob = store.held_snapshot(environment)
    except store.RedisError:
        return Light(
            name,
            told,
            "bad",
            gettext("The message store does not answer. Nodes go on with what they have."),
        )
    if held != last.sequence:
        return Light(
            name,
            told,
            "bad",
            gettext("Nodes hold number %(n)s. The worker brings the new one.") % {"n": held},
        )
    return Light(name, told, "good")


def _outbox() -> Light:
    name = gettext("Publishing")
    # Messages to people wait for their own receivers; they are no part of what nodes answer.
    rows = Outbox.objects.filter(done_at__isnull=True).exclude(kind=Outbox.Kind.WEBHOOK)
    waiting = rows.order_by("id").first()
    if waiting is None:
        return Light(name, gettext("nothing waits"), "good")
    late = timezone.now() - waiting.created_at > timedelta(seconds=30)
    return Light(
        name,
        gettext("waiting since %(when)s") % {"when": ago(waiting.created_at)},
        "bad" if late else "warn",
        waiting.error if late else "",
    )


def _feed() -> Light:
    name = gettext("Outcome data")
    cell = (
        RollupMark.objects.filter(complete_to__isnull=False)
        .order_by("-complete_to")
        .values_list("complete_to", flat=True)
        .first()
    )
    if cell is None:
        return Light(
            name,
            gettext("none yet"),
            "plain",
            gettext("Applications report events; a guard needs them before a stage can go on."),
        )
    stale = timezone.now() - cell > STALE_FEED
    return Light(
        name,
        gettext("complete up to %(when)s") % {"when": ago(cell)},
        "bad" if stale else "good",
        gettext("Nothing is promoted on old data.") if stale else "",
    )


def _reviews() -> Light:
    """The worker shows by its looks: a running stage without one for long says it is gone."""
    name = gettext("Reviews")
    stage = (
        Stage.objects.filter(status=Stage.Status.RUNNING, rollout__status=Rollout.Status.RUNNING)
        .order_by("look_minutes")
        .select_related("rollout")
        .first()
    )
    last = Decision.objects.order_by("-at").values_list("at", flat=True).first()
    if stage is None:
        return Light(name, gettext("no stage is running"), "plain")
    if last is None:
        return Light(
            name,
            gettext("no look yet"),
            "warn",
            gettext("The first one follows within a minute if the worker runs."),
        )
    every = timedelta(minutes=stage.look_minutes) / max(board.time_scale_of(stage.rollout), 1)
    late = timezone.now() - last > every + WORKER_SILENT
    return Light(
        name,
        gettext("last look %(when)s") % {"when": ago(last)},
        "bad" if late else "good",
        gettext("The worker may be down: see “celery” in the logs.") if late else "",
    )


def first_steps() -> list[dict[str, str]]:
    """What somebody does who sees an empty board."""
    return [
        {"told": gettext("Make a flag"), "url": reverse("admin:rollout_flag_add")},
        {"told": gettext("Make a cohort"), "url": reverse("admin:cohorts_cohort_add")},
    ]
