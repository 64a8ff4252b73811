"""Rollouts and their stages: planned in percent and days, moved by confirmed steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import badge
from cohorts.admin.fields import shown_percent
from cohorts.models import DrawJob
from cohorts.wording import label_of
from huidu.errors import StateError
from rollout.admin import board, faults
from rollout.admin.acts import ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.engine_words import reasons_told
from rollout.admin.rollout_acts import ACTS
from rollout.models import Rollout
from rollout.services import rollouts
from rollout.services.audit import Actor

Status = Rollout.Status
STATUS_KIND = {
    Status.DRAFT: "plain",
    Status.AWAITING_APPROVAL: "info",
    Status.RUNNING: "good",
    Status.PAUSED: "warn",
    Status.COMPLETED: "good",
    Status.ROLLED_BACK: "bad",
    Status.KILLED: "bad",
}


class RolloutForm(ServiceForm):
    name = forms.CharField(label=_("name"), max_length=120, required=False)

    class Meta:
        model = Rollout
        fields = ("flag", "name", "sticky")


@admin.register(Rollout)
class RolloutAdmin(ActsMixin, ServiceAdmin):
    """A journey: planned once, then moved by steps that the page offers."""

    form = RolloutForm
    acts = ACTS
    change_form_outer_before_template = "huidu/rollout_header.html"
    list_display = ("titled", "flag_name", "status_badge", "stage_now", "started_at", "created_by")
    list_filter = ("status", "flag")
    list_select_related = ("flag", "current")
    search_fields = ("name", "flag__key", "flag__label_zh", "flag__label_en")
    autocomplete_fields = ("flag",)
    fieldsets = ((None, {"fields": ("flag", "name", "sticky")}),)

    @display(description=_("rollout"), ordering="slot")
    def titled(self, row: Rollout) -> str:
        return row.name or f"#{row.slot}"

    @display(description=_("flag"), ordering="flag__key")
    def flag_name(self, row: Rollout) -> str:
        return label_of(row.flag)

    @display(description=_("status"), ordering="status")
    def status_badge(self, row: Rollout) -> SafeString:
        return badge(row.get_status_display(), STATUS_KIND.get(Status(row.status), ""))

    @display(description=_("current stage"))
    def stage_now(self, row: Rollout) -> str:
        if row.current is None:
            return "—"
        return f"{label_of(row.current)} · {shown_percent(row.current.share_ppm)}"

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Its fields never change after it was made; the steps move it, its stages plan it.
        return obj is None and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        data = form.cleaned_data
        return rollouts.create(
            data["flag"], by=by, name=data["name"], sticky=data["sticky"], reason=form.said_reason
        )

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        plans = request.user.has_perm("rollout.add_stage") and row.status in (
            Status.DRAFT,
            Status.RUNNING,
            Status.PAUSED,
        )
        return {
            **super().told(request, row),
            "subtitle": f"{label_of(row.flag)} #{row.slot}",
            "view": board.rollout_view(row),
            "may_plan": plans,
            "status_badge": self.status_badge(row),
            "drawing": drawing(row),
            "ended_reason": reasons_told([row.ended_reason]).get(
                row.ended_reason, row.ended_reason
            ),
            "decisions": row_decisions(row),
        }


TOLD_FOR = timedelta(days=1)
"""So long a draw in vain is told on its rollout's page; the list of draws keeps it."""


def drawing(row: Rollout) -> dict[str, Any] | None:
    """The draw under way or the last one, when that was in vain."""
    job = DrawJob.objects.filter(slot=row.slot).order_by("-pk").first()
    if job is None or job.state in (DrawJob.State.DONE, DrawJob.State.CANCELLED):
        return None
    if job.finished_at is not None and timezone.now() - job.finished_at > TOLD_FOR:
        return None
    stage = row.stages.filter(key=job.stage_key).first()
    written = job.state == DrawJob.State.REMEMBERING
    return {
        "job": job,
        "stage": label_of(stage) if stage else job.stage_key,
        "share": shown_percent(job.share_ppm),
        "failed": faults.in_words(StateError(job.problem)) if job.problem else "",
        "written": written,
        "percent": 100 if written else min(99, 100 * job.judged // max(job.users, 1)),
    }


def row_decisions(row: Rollout) -> list[dict[str, Any]]:
    """The last looks of a rollout, in words."""
    from rollout.admin.decisions import recent

    return recent(stage__rollout=row, most=8)
