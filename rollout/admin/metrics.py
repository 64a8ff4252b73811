"""Metrics: what is measured, and by which test it is judged."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from cohorts.admin.base import ReadOnlyAdmin
from cohorts.admin.fields import DaysField
from cohorts.wording import label_of
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.query_try import TriesQueries
from rollout.models import Exposure, Metric, OutcomeEvent
from rollout.services import metrics
from rollout.services.audit import Actor


class MetricForm(ServiceForm):
    lag = DaysField(
        label=_("arrives up to"), required=False, help_text=_("How late an event may come.")
    )
    cap = forms.FloatField(
        label=_("cap"),
        required=False,
        help_text=_("Single users count at most this much; fixed before the stage."),
        widget=UnfoldAdminDecimalFieldWidget,
    )

    class Meta:
        model = Metric
        fields = ("environment", *sorted(metrics.EDITABLE))
        labels = {"source": _("source of the query")}
        help_texts = {
            "query": _(
                "Empty where events tell. An external reading: the URL, expression or SELECT that "
                "answers one number. Other kinds: a SELECT on the warehouse that answers one row "
                "per happening, with user_id, at and value."
            )
        }

    def clean_cap(self) -> float | None:
        cap: float | None = self.cleaned_data["cap"]
        if cap is not None and cap <= 0:
            raise forms.ValidationError(_("The cap must be above 0."))
        return cap


@admin.register(Metric)
class MetricAdmin(TriesQueries, ServiceAdmin):
    """One measured quantity."""

    form = MetricForm
    change_form_outer_before_template = "huidu/metric_header.html"
    list_display = ("named", "key", "kind", "harm", "unit", "guards_now", "environment")
    list_filter = ("environment", "kind", "harm")
    search_fields = ("key", "label_zh", "label_en", "description", "owner")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("environment", "key"),
                    ("label_zh", "label_en"),
                    "description",
                    ("kind", "harm"),
                    ("unit", "owner"),
                )
            },
        ),
        (
            _("How it is measured"),
            {
                "fields": (
                    ("lag", "cap"),
                    "fresh_minutes",
                    "edges",
                    ("baseline_index", "margin_index"),
                    "source",
                    "query",
                    "fault",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(used=Count("guards"))

    @display(description=_("metric"), ordering="key")
    def named(self, row: Metric) -> str:
        return label_of(row)

    @display(description=_("guards"), ordering="used")
    def guards_now(self, row: Any) -> int:
        return int(row.used)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("environment", "key", "fault") if obj else ("fault",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> Any:
        row = options.get("obj")
        context["try_url"] = reverse("admin:rollout_metric_try") + (
            f"?metric={row.pk}" if row is not None else ""
        )
        context["fault"] = row.fault if row is not None else ""
        return super().render_change_form(request, context, *args, **options)

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        environment = obj.environment if obj else form.cleaned_data["environment"]
        return metrics.save_metric(
            environment,
            form.values(metrics.EDITABLE),
            by=by,
            metric=obj,
            reason=form.said_reason,
        )


@admin.register(Exposure)
class ExposureAdmin(ReadOnlyAdmin):
    """Who was shown it, and who is compared with them."""

    list_display = ("user_id", "stage_name", "arm", "stratum", "epoch", "first_at")
    list_filter = ("arm", "stage__rollout__flag")
    list_select_related = ("stage__rollout__flag",)
    search_fields = ("=user_id",)
    search_help_text = _("Search by the whole user id.")

    @display(description=_("stage"))
    def stage_name(self, row: Exposure) -> str:
        return f"{label_of(row.stage.rollout.flag)} · {label_of(row.stage)}"


@admin.register(OutcomeEvent)
class OutcomeEventAdmin(ReadOnlyAdmin):
    """What happened to users, as applications reported it."""

    list_display = ("event_id", "user_id", "metric", "value", "denominator", "at")
    list_filter = ("environment",)
    search_fields = ("=user_id", "=event_id", "=metric")
    search_help_text = _("Search by the whole user id, event id or metric.")
