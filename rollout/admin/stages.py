"""Stages in percent and days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import badge
from cohorts.admin.fields import (
    DaysField,
    LinesField,
    PercentField,
    PrettyJson,
    WeightsField,
    shown_percent,
)
from cohorts.wording import Vocabulary, label_of
from huidu.model import PPM
from rollout.admin import board, charts, planning
from rollout.admin.acts import ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.guard_offers import ADD_GUARDS
from rollout.admin.guards import guards_of
from rollout.admin.requests import RequestsMixin
from rollout.admin.stage_acts import RAMP, WIDEN
from rollout.models import Rollout, Stage
from rollout.services import stages
from rollout.services.audit import Actor
from rollout.services.wording import ramp_in_words

FULL_WITH_HOLDBACK = 950_000
"""What the form proposes for a full release: 5 % stay as the group to compare with."""

STATUS_KIND = {
    Stage.Status.PENDING: "plain",
    Stage.Status.RUNNING: "good",
    Stage.Status.DONE: "info",
}


class StageForm(ServiceForm):
    share_ppm = PercentField(
        label=_("share"), help_text=_("Of the audience, in percent. 5 is 5 %; 100 is everybody.")
    )
    minimum_stay = DaysField(
        label=_("minimum stay"), help_text=_("No promotion before, whatever the evidence says.")
    )
    maximum_stay = DaysField(
        label=_("maximum stay"),
        help_text=_("Evidence is planned for this time; afterwards the stage holds."),
    )
    weights = WeightsField(
        label=_("weights"),
        required=False,
        help_text=_("The first rule that matches decides how likely a user is drawn; else 1."),
    )
    payload = PrettyJson(label=_("payload"), required=False)
    accepted = LinesField(
        label=_("accepted hold reasons"),
        required=False,
        help_text=_("Codes that a person has looked into, one a line, such as silent_feed."),
    )
    alpha_rollback = PercentField(
        label=_("false rollbacks at most"),
        help_text=_("How often a harmless stage may be rolled back by mistake."),
    )
    alpha_promote = PercentField(
        label=_("false promotions at most"),
        help_text=_("How often a harmful stage may be promoted by mistake."),
    )

    class Meta:
        model = Stage
        fields = (
            "rollout",
            *sorted(stages.EDITABLE - {"ramp"}),
        )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("alpha_rollback", "alpha_promote"):
            if name in self.fields:
                share = getattr(self.instance, name)
                self.initial[name] = round(share * 1_000_000)
        if "weights" in self.fields:
            self.fields["weights"].widget.options |= {
                "preview": True,
                "stage": self.instance.pk or "new",
            }
        if "planned_at" in self.fields:
            self.fields["planned_at"].required = False
        if self.instance.pk and self.instance.status != Stage.Status.PENDING:
            # What its users were drawn by, and the plan of its evidence, are shown but fixed.
            for name in stages.FIXED_ONCE_ENTERED | stages.FIXED_WHILE_EVIDENCE_COUNTS:
                if name in self.fields:
                    self.fields[name].disabled = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name, empty in (("weights", []), ("payload", {})):
            if name in self.fields and cleaned.get(name) is None:
                cleaned[name] = empty
        for name in ("alpha_rollback", "alpha_promote"):
            if isinstance(cleaned.get(name), int):
                cleaned[name] = cleaned[name] / 1_000_000
        return cleaned


@admin.register(Stage)
class StageAdmin(RequestsMixin, ActsMixin, ServiceAdmin):
    """One step of a rollout."""

    form = StageForm
    acts = (ADD_GUARDS, RAMP, WIDEN)
    change_kind = "stage.save"
    create_by_request = True
    change_form_outer_before_template = "huidu/stage_header.html"
    list_display = (
        "named",
        "rollout_name",
        "order",
        "share",
        "audience_name",
        "stay",
        "status_badge",
    )
    list_filter = ("status", "rollout__flag")
    list_select_related = ("rollout__flag", "audience")
    search_fields = ("key", "label_zh", "label_en", "rollout__flag__key")
    linked_by = ("rollout__flag__key", "rollout__flag__key__exact")
    autocomplete_fields = ("rollout", "audience")
    fieldsets = (
        (
            _("Who"),
            {
                "fields": (
                    "rollout",
                    ("order", "key"),
                    ("label_zh", "label_en"),
                    ("audience", "share_ppm"),
                    "holdback",
                    "weights",
                    "audience_why",
                )
            },
        ),
        (
            _("How long"),
            {
                "fields": (
                    ("minimum_stay", "maximum_stay"),
                    ("minimum_users", "needs_approval"),
                    "planned_at",
                )
            },
        ),
        (
            _("Evidence and extras"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("alpha_rollback", "alpha_promote"),
                    ("look_minutes", "promotion_minutes"),
                    "waiver",
                    "dry_run",
                    "accepted",
                    "payload",
                ),
            },
        ),
    )

    @display(description=_("stage"), ordering="order")
    def named(self, row: Stage) -> str:
        return label_of(row)

    @display(description=_("rollout"), ordering="rollout__slot")
    def rollout_name(self, row: Stage) -> str:
        return f"{label_of(row.rollout.flag)} #{row.rollout.slot}"

    @display(description=_("share"), ordering="share_ppm")
    def share(self, row: Stage) -> str:
        return str(shown_percent(row.share_ppm))

    @display(description=_("audience"))
    def audience_name(self, row: Stage) -> str:
        return label_of(row.audience) if row.audience else gettext("everybody eligible")

    @display(description=_("minimum stay"), ordering="minimum_stay")
    def stay(self, row: Stage) -> str:
        from config.templatetags.huidu import span

        return span(row.minimum_stay)

    @display(description=_("status"), ordering="status")
    def status_badge(self, row: Stage) -> SafeString:
        return badge(row.get_status_display(), STATUS_KIND.get(Stage.Status(row.status), ""))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return ("rollout",) if obj.status == Stage.Status.PENDING else ("rollout", "likelier")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """An entered stage tells its weights in words; nobody edits them any more."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or obj.status == Stage.Status.PENDING:
            return fieldsets
        return [
            (
                name,
                {
                    **options,
                    "fields": tuple(
                        "likelier" if each == "weights" else each for each in options["fields"]
                    ),
                },
            )
            for name, options in fieldsets
        ]

    @display(description=_("weights"))
    def likelier(self, row: Stage) -> str:
        told = board.weights_in_words(row.weights, Vocabulary.load())
        return "; ".join(told) or gettext("all alike")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        fits = obj is None or (
            obj.status == Stage.Status.PENDING and obj.rollout.status == Rollout.Status.DRAFT
        )
        return fits and bool(super().has_delete_permission(request, obj))

    def erase(self, obj: Any, by: Actor, reason: str) -> None:
        stages.remove_stage(obj, by=by, reason=reason)

    def environment_of(self, form: Any, row: Any) -> str:
        rollout = row.rollout if row is not None else form.cleaned_data["rollout"]
        return str(rollout.flag.environment)

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        values = form.values(stages.EDITABLE, changed_only=row is not None)
        if "audience" in values:
            values["audience"] = values["audience"].key if values["audience"] else None
        for name in ("minimum_stay", "maximum_stay"):
            if isinstance(values.get(name), timedelta):
                values[name] = values[name].total_seconds()
        if values.get("planned_at"):
            values["planned_at"] = values["planned_at"].isoformat()
        if row is None:
            values["rollout"] = form.cleaned_data["rollout"].pk
        return cast(dict[str, Any], values)

    def made(self, form: Any) -> Model:
        return Stage.objects.get(rollout=form.cleaned_data["rollout"], key=form.cleaned_data["key"])

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial = super().get_changeform_initial_data(request)
        if (rollout := str(initial.get("rollout", ""))).isdigit():
            last = Stage.objects.filter(rollout=int(rollout)).order_by("-order").first()
            initial.setdefault("order", last.order + 1 if last else 1)
            if last is not None and last.audience_id is None and last.full_share_ppm < PPM:
                # After a draw comes the full release, by default with a holdback.
                initial.setdefault("share_ppm", FULL_WITH_HOLDBACK)
                initial.setdefault("holdback", True)
        return cast(dict[str, Any], initial)

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        labels = board.metric_labels()
        latest = board.latest_decisions([row.pk]).get(row.pk)
        scale = board.time_scale_of(row.rollout)
        return {
            **super().told(request, row),
            "subtitle": f"{label_of(row.rollout.flag)} · {label_of(row)}",
            "stage_view": board.stage_view(row, Vocabulary.load(), labels, latest, scale),
            "status_badge": self.status_badge(row),
            "guards": guards_of(row, labels),
            "planning": planning.planning(row, request.GET.dict()),
            "charts": charts.of_stage(row),
            "ramp_waits": ramp_in_words(latest.ramp, labels) if latest else [],
            "may_guard": row.status == Stage.Status.PENDING
            and request.user.has_perm("rollout.add_guard"),
        }
