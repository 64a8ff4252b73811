"""Guards: what a stage must not harm, by how much at most, and what happens then."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from cohorts.wording import label_of
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.requests import RequestsMixin
from rollout.models import Guard, Stage
from rollout.services import readings, stages
from rollout.services.audit import Actor


def guards_of(stage: Stage, labels: dict[str, str]) -> list[dict[str, Any]]:
    """A stage's guards with what each asks for, in words."""
    return [
        {
            "guard": guard,
            "name": labels.get(guard.metric.key, guard.metric.key),
            "asks": asks(guard),
            "words": [each for each in readings.words(guard) if each],
        }
        for guard in stage.guards.select_related("metric")
    ]


def asks(guard: Guard) -> str:
    """What a guard allows: ``at most 5 % worse than control``."""
    if guard.margin_rel is not None:
        return gettext("at most %(share)s %% worse than the control group") % {
            "share": f"{guard.margin_rel * 100:g}"
        }
    if guard.limit_abs is not None:
        return gettext("at most %(limit)s") % {"limit": f"{guard.limit_abs:g}"}
    bounds = []
    if guard.minimum is not None:
        bounds.append(gettext("at least %(limit)s") % {"limit": f"{guard.minimum:g}"})
    if guard.maximum is not None:
        bounds.append(gettext("at most %(limit)s") % {"limit": f"{guard.maximum:g}"})
    return ", ".join(bounds) or "—"


class GuardForm(ServiceForm):
    margin_rel = forms.FloatField(
        label=_("relative margin"),
        required=False,
        help_text=_("Largest acceptable change for the worse against control; 0.05 is 5 %."),
        widget=UnfoldAdminDecimalFieldWidget,
    )

    class Meta:
        model = Guard
        fields = ("stage", "metric", *sorted(stages.GUARD_EDITABLE))


@admin.register(Guard)
class GuardAdmin(RequestsMixin, ServiceAdmin):
    """What a stage must not harm."""

    form = GuardForm
    change_kind = "guard.save"
    create_by_request = True
    list_display = ("metric_name", "stage_name", "role", "limit")
    list_filter = ("role", "metric")
    list_select_related = ("metric", "stage__rollout__flag")
    search_fields = ("metric__key", "metric__label_zh", "metric__label_en", "stage__key")
    autocomplete_fields = ("stage", "metric")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("stage", "metric"),
                    "role",
                    ("margin_rel", "limit_abs"),
                    ("minimum", "maximum"),
                    "for_looks",
                )
            },
        ),
    )

    @display(description=_("metric"), ordering="metric__key")
    def metric_name(self, row: Guard) -> str:
        return label_of(row.metric)

    @display(description=_("stage"), ordering="stage__order")
    def stage_name(self, row: Guard) -> str:
        return f"{label_of(row.stage.rollout.flag)} · {label_of(row.stage)}"

    @display(description=_("limit"))
    def limit(self, row: Guard) -> str:
        return asks(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("stage", "metric") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        fits = obj is None or obj.stage.status == Stage.Status.PENDING
        return fits and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        fits = obj is None or obj.stage.status == Stage.Status.PENDING
        return fits and bool(super().has_delete_permission(request, obj))

    def erase(self, obj: Any, by: Actor, reason: str) -> None:
        stages.remove_guard(obj, by=by, reason=reason)

    def environment_of(self, form: Any, row: Any) -> str:
        stage = row.stage if row is not None else form.cleaned_data["stage"]
        return str(stage.rollout.flag.environment)

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        values = form.values(stages.GUARD_EDITABLE, changed_only=row is not None)
        if row is None:
            values["stage"] = form.cleaned_data["stage"].pk
            values["metric"] = form.cleaned_data["metric"].key
        return cast(dict[str, Any], values)

    def made(self, form: Any) -> Model:
        return Guard.objects.get(
            stage=form.cleaned_data["stage"], metric=form.cleaned_data["metric"]
        )
