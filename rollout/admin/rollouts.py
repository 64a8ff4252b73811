"""Rollouts and their stages: planned in percent and days, moved by confirmed steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import badge
from cohorts.admin.fields import shown_percent
from cohorts.models import DrawJob
from cohorts.services import draw_jobs, preview
from cohorts.wording import label_of
from huidu.errors import HuiduError, StateError
from rollout.admin import board, faults, flags
from rollout.admin.acts import Act, ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.models import Rollout
from rollout.services import changes, drawn_steps, eligibility, rollouts
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


def _plain(service: Any) -> Any:
    """An act that calls ``service(rollout, by=, reason=)``."""

    def run(row: Rollout, by: Actor, values: dict[str, Any]) -> None:
        service(row, by=by, reason=values["reason"])

    return run


def _promote(row: Rollout, by: Actor, values: dict[str, Any]) -> Any:
    # The stage as it is now: an approval that comes late must not promote another one.
    return changes.do_or_request(
        "rollout.promote",
        row.pk,
        {"stage": row.current_id},
        environment=row.flag.environment,
        by=by,
        reason=values["reason"],
    )


def _resume(row: Rollout, by: Actor, values: dict[str, Any]) -> Any:
    return changes.do_or_request(
        "rollout.resume",
        row.pk,
        {},
        environment=row.flag.environment,
        by=by,
        reason=values["reason"],
    )


def touched_now(row: Rollout) -> str:
    """Who sees it now, for steps that take nothing away."""
    return flags.touched(row.flag)


def touched_by_start(row: Rollout) -> str:
    """Whom the first stage addresses; the draw itself happens at the start."""
    first = row.stages.select_related("audience").order_by("order").first()
    return gettext("Nobody yet.") if first is None else _stage_reach(first)


def touched_by_promotion(row: Rollout) -> str:
    if row.current is None:
        return ""
    following = (
        row.stages.select_related("audience")
        .filter(order__gt=row.current.order)
        .order_by("order")
        .first()
    )
    if following is None:
        return gettext("Nobody more: this is the last stage.")
    return _stage_reach(following)


def _stage_reach(stage: Any) -> str:
    whom = label_of(stage.audience) if stage.audience else gettext("everybody eligible")
    sentence = gettext("%(share)s of “%(whom)s” (stage “%(stage)s”).") % {
        "share": shown_percent(stage.share_ppm),
        "whom": whom,
        "stage": label_of(stage),
    }
    try:
        matched = preview.preview(eligibility.eligible(stage)).matched
    except HuiduError as fault:
        return f"{sentence} {faults.in_words(fault)}"
    sentence += " " + gettext("About %(users)s users, gates included.") % {
        "users": f"{round(matched * stage.share_ppm / 1_000_000):,}"
    }
    return sentence


ACTS = (
    Act(
        name="submit",
        title=_("Submit for approval"),
        icon="send",
        kind="primary",
        does=lambda row: gettext(
            "Asks another person to approve this plan. Its stages do not change while it waits."
        ),
        run=_plain(rollouts.submit),
        fits=lambda row: row.status == Status.DRAFT,
    ),
    Act(
        name="approve",
        title=_("Approve"),
        icon="how_to_reg",
        kind="primary",
        does=lambda row: (
            gettext("Approves the plan that %(person)s submitted. It may then be started.")
            % {"person": row.submitted_by}
        ),
        touched=touched_by_start,
        run=_plain(rollouts.approve),
        fits=lambda row: row.status == Status.AWAITING_APPROVAL and not row.approved_by,
    ),
    Act(
        name="reject",
        title=_("Send back"),
        icon="undo",
        does=lambda row: gettext("Turns it back into a draft, so that its plan can change."),
        run=_plain(rollouts.reject),
        fits=lambda row: row.status == Status.AWAITING_APPROVAL,
    ),
    Act(
        name="start",
        title=_("Start"),
        icon="play_arrow",
        kind="primary",
        does=lambda row: gettext(
            "Enters the first stage: its users are drawn once and for all, and see the product."
        ),
        touched=touched_by_start,
        run=_plain(rollouts.start),
        fits=lambda row: (
            (row.status == Status.AWAITING_APPROVAL and bool(row.approved_by))
            or (not row.flag.four_eyes and row.status == Status.DRAFT)
        ),
    ),
    Act(
        name="cancel_draw",
        title=_("Cancel the draw"),
        icon="cancel",
        does=lambda row: gettext("Stops the draw. The rollout stays in the stage it is in."),
        run=_plain(drawn_steps.cancel),
        fits=lambda row: (
            (job := draw_jobs.active(row.slot)) is not None
            and job.state != DrawJob.State.REMEMBERING
        ),
    ),
    Act(
        name="promote",
        title=_("Promote now"),
        icon="fast_forward",
        kind="warn",
        does=lambda row: gettext(
            "Leaves the stage without waiting for evidence. The platform promotes by itself once "
            "harm is ruled out; promoting by hand is on your record."
        ),
        touched=touched_by_promotion,
        run=_promote,
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="approve-stage",
        title=_("Approve the promotion"),
        icon="verified",
        kind="primary",
        does=lambda row: gettext(
            "Lets the platform promote this stage once its evidence is there, not before."
        ),
        touched=touched_by_promotion,
        run=lambda row, by, values: (
            rollouts.approve_stage(row.current, by=by, reason=values["reason"]) and None
        ),
        fits=lambda row: (
            row.status == Status.RUNNING
            and row.current is not None
            and row.current.needs_approval
            and not row.current.approved_by
        ),
    ),
    Act(
        name="hold",
        title=_("Hold the stage"),
        icon="front_hand",
        does=lambda row: gettext(
            "The stage goes on, but only a person's approval promotes it from now on."
        ),
        touched=lambda row: gettext("Nobody gains or loses anything."),
        run=_plain(rollouts.hold),
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="pause",
        title=_("Pause"),
        icon="pause",
        does=lambda row: gettext(
            "Stops reviews and promotions. Nobody loses what they were shown."
        ),
        touched=touched_now,
        run=_plain(rollouts.pause),
        fits=lambda row: row.status == Status.RUNNING,
    ),
    Act(
        name="resume",
        title=_("Go on"),
        icon="play_arrow",
        kind="primary",
        does=lambda row: gettext("Reviews and promotions go on where they stopped."),
        touched=touched_now,
        run=_resume,
        fits=lambda row: row.status == Status.PAUSED,
    ),
    Act(
        name="rollback",
        title=_("Roll back"),
        icon="history",
        kind="danger",
        does=lambda row: gettext(
            "Takes the product back from everybody this rollout showed it to, at once. Going on "
            "later needs a new rollout."
        ),
        touched=lambda row: flags.loses(row.flag),
        run=_plain(rollouts.rollback),
        fits=lambda row: row.status in Rollout.IN_EFFECT,
    ),
)


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

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if row is not None:
            view = board.rollout_view(row)
            plans = request.user.has_perm("rollout.add_stage") and row.status in (
                Status.DRAFT,
                Status.RUNNING,
                Status.PAUSED,
            )
            context.update(
                {
                    "subtitle": f"{label_of(row.flag)} #{row.slot}",
                    "view": view,
                    "acts": self.fitting(request, row),
                    "may_plan": plans,
                    "status_badge": self.status_badge(row),
                    "drawing": drawing(row),
                    "decisions": row_decisions(row),
                }
            )
        return cast(HttpResponse, super().change_view(request, object_id, form_url, context))


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
