"""Reason texts: what customers hear, what support says and does, written and approved."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from cohorts.admin.base import badge
from rollout import wording
from rollout.admin import board
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.requests import RequestsMixin
from rollout.models import ChangeRequest, ReasonText
from rollout.script import CUSTOMER_PARTS, LANGUAGES, PARTS
from rollout.services import reason_texts

HINTS = {
    "say": _("Left as shipped, it is the customer's text."),
    "support": _("Which step decided; never read out."),
}


class TextForm(ServiceForm):
    code = forms.CharField(label=_("reason code"), max_length=63, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = ReasonText
        fields = ("code", *(f"{part}_{each}" for part in PARTS for each in LANGUAGES))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk is not None:
            return
        code = str(self.data.get("code") or self.initial.get("code") or "")
        self.told = reason_texts.filled(board.environment(), code)
        for part in PARTS:
            for language in LANGUAGES:
                name = f"{part}_{language}"
                if name in self.fields:
                    self.fields[name].widget = UnfoldAdminTextareaWidget(attrs={"rows": 2})
                    self.fields[name].help_text = HINTS.get(part, "")
                    self.initial[name] = getattr(self.told, name)
        if code and reason_texts.must_stay_neutral(board.environment(), code):
            for part in CUSTOMER_PARTS:
                for language in LANGUAGES:
                    del self.fields[f"{part}_{language}"]
            self.fields["code"].help_text = _(
                "Customers must not tell this refusal from others: they hear the text of "
                "product.not_invited, which is changed there for all of them."
            )


@admin.register(ReasonText)
class ReasonTextAdmin(RequestsMixin, ServiceAdmin):
    """Versions that were approved; writing a new one files a change request."""

    form = TextForm
    change_kind = "text.save"
    create_by_request = True
    list_before_template = "huidu/texts.html"
    list_display = ("code", "version", "says", "written_by", "approved_by", "live_from")
    list_filter = ("environment",)
    search_fields = ("code", "customer_zh", "customer_en", "support_zh", "support_en")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description=_("customer hears"))
    def says(self, row: ReasonText) -> str:
        zh = (get_language() or "").startswith("zh")
        return (row.customer_zh if zh else row.customer_en) or gettext("as shipped")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            told = (("code", "version"), ("written_by", "approved_by"), ("live_from", "reason"))
            return [(None, {"fields": (*told, *self._pairs(set(reason_texts.EDITABLE)))})]
        shown = self.get_form(request, None)(initial=self.get_changeform_initial_data(request))
        hints = _("In braces: {product}; for support also {code} and {stage}.")
        return [
            (None, {"fields": ("code",)}),
            (
                _("What people hear"),
                {"fields": self._pairs(set(shown.fields)), "description": hints},
            ),
            (None, {"fields": ("reason",)}),
        ]

    def _pairs(self, names: set[str]) -> tuple[tuple[str, str], ...]:
        order = ("customer", "advice", "say", "support", "next_step")
        pairs = tuple((f"{part}_zh", f"{part}_en") for part in order)
        return tuple(pair for pair in pairs if pair[0] in names)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        options["fields"] = None  # the form says itself which fields a code may have
        return super().get_form(request, obj, change, **options)

    def environment_of(self, form: Any, row: Any) -> str:
        return board.environment()

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        values = {
            name: value
            for name, value in form.values(reason_texts.EDITABLE).items()
            if value != getattr(form.told, name)
        }
        return {
            "environment": board.environment(),
            "code": form.cleaned_data["code"].strip(),
            **_both_languages(values, form.cleaned_data),
        }

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        context = {
            **(extra_context or {}),
            "lines": _lines(),
            "may_write": self.has_add_permission(request),
        }
        return super().changelist_view(request, context)


def _both_languages(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A changed text brings its other language along, which may be the shipped one."""
    parts = {name.rpartition("_")[0] for name in values}
    return {
        f"{part}_{each}": given[f"{part}_{each}"] for part in sorted(parts) for each in LANGUAGES
    }


def _lines() -> list[dict[str, Any]]:
    """Every code with what is told for it now."""
    environment = board.environment()
    language = "zh" if (get_language() or "").startswith("zh") else "en"
    waiting = dict(
        ChangeRequest.objects.filter(
            kind="text.save", environment=environment, status=ChangeRequest.Status.PENDING
        ).values_list("payload__code", "pk")
    )
    told = reason_texts.overview(environment)
    neutral_text = next(row for row, _ in told if row.code == wording.NEUTRAL_WHY)
    lines = []
    for row, neutral in told:
        heard = neutral_text if neutral else row
        lines.append(
            {
                "code": row.code,
                "neutral": neutral,
                "customer": getattr(heard, f"customer_{language}"),
                "say": getattr(heard, f"say_{language}"),
                "next_step": getattr(row, f"next_step_{language}"),
                "state": _state(row.version),
                "waiting": waiting.get(row.code),
            }
        )
    return lines


def _state(version: int) -> SafeString:
    if version:
        return badge(gettext("version %(number)s") % {"number": version}, "good")
    return badge(gettext("as shipped"), "plain")
