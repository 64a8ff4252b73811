"""Review cases: what a customer asked, the answer as it was, and what people decided."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin, badge, folded_json
from cohorts.wording import label_of
from config.templatetags.huidu import span
from huidu.errors import HuiduError
from rollout.admin import case_acts, step_lines
from rollout.admin.acts import ActsMixin
from rollout.admin.base import actor
from rollout.models import Case
from rollout.services import case_outcomes, cases, reading
from rollout.services.answering import words_for
from rollout.services.reading import RISK_PERMISSION

Status = Case.Status
STATUS_KIND = {
    Status.OPEN: "warn",
    Status.IN_REVIEW: "info",
    Status.WAITING: "plain",
    Status.APPROVAL: "warn",
    Status.DECIDED: "good",
    Status.WITHDRAWN: "plain",
}
STEPS: dict[str, Any] = {
    "opened": _("asked for the review"),
    "assigned": _("put it into the hands of"),
    "note": _("wrote"),
    "waiting": _("waits for the customer"),
    "goes_on": _("goes on"),
    "withdrawn": _("closed it: the customer no longer asks"),
    "proposed": _("proposed an outcome to a second person"),
    "not_approved": _("did not approve the proposal"),
    "decided_upheld": _("decided: the answer stands"),
    "decided_corrected": _("decided: data was corrected"),
    "decided_granted": _("decided: granted by the allow list"),
}


class DueFilter(admin.SimpleListFilter):
    """Late ones, and those in one's own hands."""

    title = _("due")
    parameter_name = "due"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("overdue", _("overdue")),
            ("open", _("under way")),
            ("mine", _("in my hands")),
            ("nobody", _("in nobody's hands")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> QuerySet[Case]:
        rows = queryset if self.value() is None else queryset.filter(status__in=Case.UNDER_WAY)
        match self.value():
            case "overdue":
                return rows.filter(due_at__lte=timezone.now())
            case "mine":
                return rows.filter(assignee=request.user.get_username())
            case "nobody":
                return rows.filter(assignee="")
        return rows


@admin.register(Case)
class CaseAdmin(ActsMixin, ReadOnlyAdmin):
    """The page of a case is its header; rows are written by its steps alone."""

    acts = case_acts.ACTS
    change_form_outer_before_template = "huidu/case_header.html"
    list_display = ("number", "about", "user_id", "status_badge", "due", "assignee", "opened_at")
    list_filter = (
        DueFilter,
        "status",
        "outcome",
        "channel",
        ("flag", admin.RelatedFieldListFilter),
    )
    search_fields = ("^user_id", "=id", "^request_id", "claim")
    search_help_text = _("Search by number, user id, request id, or words of the customer.")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Case]:
        return cast("QuerySet[Case]", super().get_queryset(request).select_related("flag"))

    @display(description="#", ordering="id")
    def number(self, row: Case) -> str:
        return f"#{row.pk}"

    @display(description=_("about"))
    def about(self, row: Case) -> str:
        return f"{label_of(row.flag)} · {row.why}"

    @display(description=_("status"), ordering="status")
    def status_badge(self, row: Case) -> SafeString:
        told = row.get_outcome_display() if row.outcome else row.get_status_display()
        return badge(told, STATUS_KIND.get(Status(row.status), ""))

    @display(description=_("due"), ordering="due_at")
    def due(self, row: Case) -> Any:
        return due_badge(row)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """No column as it is: the receipt holds what support may not read."""
        return []

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        language = "zh" if (get_language() or "").startswith("zh") else "en"
        risk = self._reads_risk(request, row)
        told = (row.receipt or {}).get("told", {})
        inside = told.get("risk" if risk else "support", {}).get(language)
        fresh = _answers(row)
        return {
            **super().told(request, row),
            "title": gettext("Review case #%(number)s") % {"number": row.pk},
            "subtitle": f"{label_of(row.flag)} · {row.user_id or '—'}",
            "case": row,
            "flag_name": label_of(row.flag),
            "status_badge": self.status_badge(row),
            "due_badge": due_badge(row),
            "customer": told.get("customer", {}),
            "answer": inside,
            "steps": []
            if inside is None
            else step_lines.lines(inside, row.flag, words_for(row.environment, row.flag.key).gates),
            "story": [
                {"at": each.at, "by": each.by, "did": STEPS.get(each.step, each.step), "row": each}
                for each in row.notes.all()
            ],
            "now": fresh[0],
            "listed": fresh[1],
            "receipt_json": folded_json(
                {name: row.receipt[name] for name in ("facts", "answer", "code", "snapshot")},
                gettext("Facts, answer and versions as they were"),
            )
            if row.receipt and risk
            else "",
            "risk_voice": risk,
            "may_read_risk": request.user.has_perm(RISK_PERMISSION) and not risk,
        }

    def _reads_risk(self, request: HttpRequest, row: Case) -> bool:
        """Whether a risk officer asks for all of it, with a reason that is kept."""
        reason = request.GET.get("reason", "").strip()
        if not reason or row.receipt is None or not request.user.has_perm(RISK_PERMISSION):
            return False
        reading.note(
            actor(request), row.environment, row.flag.key, row.user_id, reason=reason[:2_000]
        )
        return True


def due_badge(row: Case) -> Any:
    """How long there is left, or by how much it is late."""
    if row.status not in Case.UNDER_WAY:
        return timezone.localtime(row.due_at).strftime("%Y-%m-%d")
    left = row.due_at - timezone.now()
    if left.total_seconds() <= 0:
        return badge(gettext("overdue by %(time)s") % {"time": span(-left)}, "bad")
    kind = "warn" if left.days < 3 else "plain"
    return badge(gettext("%(time)s left") % {"time": span(left)}, kind)


def _answers(row: Case) -> tuple[Any, Any]:
    """The answers of now, and on the allow list, while they are of use."""
    if row.status not in cases.IN_HAND or not row.user_id:
        return None, None
    try:
        return case_outcomes.would_be(row)
    except HuiduError:
        return None, None


def overdue(environment: str) -> int:
    """How many cases are late, for the board."""
    return cases.under_way(environment).filter(due_at__lte=timezone.now()).count()
