"""Trying a metric's query: ask it once, show the first rows or what is wrong with them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from huidu.errors import HuiduError
from rollout.admin import faults
from rollout.admin.base import actor
from rollout.models import Metric
from rollout.services import metrics


class QueryForm(forms.Form):
    kind = forms.ChoiceField(
        label=_("Kind"), choices=Metric.Kind.choices, widget=UnfoldAdminSelectWidget
    )
    source = forms.ChoiceField(
        label=_("Source"),
        choices=[
            each for each in Metric.Source.choices if each[0] != Metric.Source.URL
        ],  # an address is asked from outside, and says nothing that its owner cannot see
        widget=UnfoldAdminSelectWidget,
    )
    query = forms.CharField(
        label=_("Query"),
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "class": "hd-code", "spellcheck": "no"}),
        help_text=_(
            "Of what happened to users: one row each, with user_id, at and value; for ratios also "
            "denominator. Optional: event_id, loaded_at. Of an external reading: one number."
        ),
    )


class TriesQueries:
    """Adds the page to the admin of metrics."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.try_view)  # type: ignore[attr-defined]
        urls: list[URLPattern] = super().get_urls()  # type: ignore[misc]
        return [path("try/", view, name="rollout_metric_try"), *urls]

    def try_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks for a query, POST tries it; nothing is kept but the entry in the audit log."""
        if not request.user.has_perm("rollout.change_metric"):
            raise PermissionDenied
        pk = request.GET.get("metric", "")
        row = Metric.objects.filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) < 10 else None
        first: dict[str, Any] = {"source": Metric.Source.SQL, "kind": Metric.Kind.BINARY}
        if row is not None:
            first = {"kind": row.kind, "source": row.source, "query": row.query}
        form = QueryForm(request.POST if request.method == "POST" else None, initial=first)
        found = None
        if request.method == "POST" and form.is_valid():
            asked = Metric(key=row.key if row else "", **form.cleaned_data)
            try:
                found = metrics.try_out(
                    row.environment if row else str(settings.HUIDU_ENVIRONMENT),
                    asked,
                    by=actor(request),
                    now=timezone.now(),
                )
            except HuiduError as fault:
                form.add_error(
                    fault.path if fault.path in form.fields else None, faults.in_words(fault)
                )
        return TemplateResponse(
            request,
            "huidu/metric_try.html",
            {
                **self.admin_site.each_context(request),  # type: ignore[attr-defined]
                "title": gettext("Try a query"),
                "form": form,
                "found": found,
                "rows": [list(each.values()) for each in found.rows] if found else [],
                "is_reading": form.is_bound and form.data.get("kind") == Metric.Kind.GAUGE,
                "back": reverse("admin:rollout_metric_change", args=(row.pk,))
                if row
                else reverse("admin:rollout_metric_changelist"),
            },
            headers={"Cache-Control": "no-store"},
        )
