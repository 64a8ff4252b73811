"""Change requests: what one person asks for and another decides."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from cohorts.admin.base import ReadOnlyAdmin, badge
from rollout.admin import targets
from rollout.admin.acts import Act, ActsMixin, ReasonForm
from rollout.models import ChangeRequest
from rollout.services import changes
from rollout.services.wording import kind_in_words

Status = ChangeRequest.Status
STATUS_KIND = {
    Status.PENDING: "warn",
    Status.APPLIED: "good",
    Status.REJECTED: "bad",
    Status.WITHDRAWN: "plain",
}


class NoteForm(ReasonForm):
    """Approving asks for a sentence as well, refusing always does."""

    reason = forms.CharField(
        label=_("Note"),
        max_length=2_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("What you checked. It goes into the audit log under your name."),
        error_messages={"required": _("Say in one sentence why.")},
    )


def _summary(row: ChangeRequest, more: str = "") -> str:
    told = gettext("%(person)s asks to %(what)s: %(target)s.") % {
        "person": row.requested_by,
        "what": kind_in_words(row.kind),
        "target": targets.name_of(row),
    }
    return f"{told} {more}".strip()


ACTS = (
    Act(
        name="approve",
        title=_("Approve and apply"),
        icon="check",
        kind="primary",
        form=NoteForm,
        template="huidu/act_change.html",
        does=lambda row: _summary(row, gettext("Approving applies it at once.")),
        touched=lambda row: targets.touched(row),
        run=lambda row, by, values: changes.approve(row, by=by, note=values["reason"]) and None,
        fits=lambda row: row.status == Status.PENDING,
    ),
    Act(
        name="reject",
        title=_("Refuse"),
        icon="close",
        kind="danger",
        form=NoteForm,
        does=lambda row: _summary(row, gettext("Refusing leaves everything as it is.")),
        run=lambda row, by, values: changes.reject(row, by=by, note=values["reason"]) and None,
        fits=lambda row: row.status == Status.PENDING,
    ),
    Act(
        name="withdraw",
        title=_("Withdraw"),
        icon="undo",
        form=NoteForm,
        does=lambda row: gettext("Takes your own request back."),
        run=lambda row, by, values: changes.withdraw(row, by=by) and None,
        fits=lambda row: row.status == Status.PENDING,
    ),
)


@admin.register(ChangeRequest)
class ChangeRequestAdmin(ActsMixin, ReadOnlyAdmin):
    """Nobody decides their own request."""

    acts = ACTS
    change_form_outer_before_template = "huidu/change_header.html"
    list_display = ("number", "what", "target_name", "status_badge", "requested_by", "requested_at")
    list_filter = ("status", "kind", "environment")
    search_fields = ("target", "requested_by", "decided_by", "reason")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "environment"),
                    ("requested_by", "requested_at"),
                    "reason",
                    ("decided_by", "decided_at"),
                    "decision_note",
                )
            },
        ),
    )
    readonly_fields = ("status_badge",)

    @display(description="#", ordering="id")
    def number(self, row: ChangeRequest) -> int:
        return int(row.pk)

    @display(description=_("asks to"), ordering="kind")
    def what(self, row: ChangeRequest) -> str:
        return kind_in_words(row.kind)

    @display(description=_("target"))
    def target_name(self, row: ChangeRequest) -> str:
        return targets.name_of(row)

    @display(description=_("status"), ordering="status")
    def status_badge(self, row: ChangeRequest) -> SafeString:
        return badge(row.get_status_display(), STATUS_KIND.get(Status(row.status), ""))

    def fitting(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """One's own request can be withdrawn, another's decided."""
        mine = row.requested_by == request.user.get_username()
        wanted = {"withdraw"} if mine else {"approve", "reject"}
        return [each for each in super().fitting(request, row) if each["name"] in wanted]

    def asked_with(self, row: Any) -> dict[str, Any]:
        return {"differences": targets.differences(row)}

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        mine = row.requested_by == request.user.get_username()
        return {
            **super().told(request, row),
            "subtitle": f"#{row.pk}",
            "summary": _summary(row),
            "status_badge": self.status_badge(row),
            "differences": targets.differences(row),
            "applied": row.status == Status.APPLIED,
            "mine": mine and row.status == Status.PENDING,
        }
