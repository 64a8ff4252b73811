"""Profiles and payments: what the platform knows about users, written by callers."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin
from cohorts.models import DailyPayments, PaymentEvent, Profile
from cohorts.regions import name_of

RISK_PERMISSION = "rollout.change_gate"
"""Who writes gates reads the signals behind them; support reads that a risk gate refused."""


@admin.register(Profile)
class ProfileAdmin(ReadOnlyAdmin):
    """One user as the platform knows them. Unknown is shown as unknown."""

    change_form_outer_before_template = "huidu/profile_header.html"
    list_display = (
        "user_id",
        "place",
        "staff",
        "invited",
        "risk_score",
        "yearly_spend_cny",
        "updated_at",
    )
    list_filter = ("staff", "invited", "student", "optout")
    search_fields = ("^user_id",)
    search_help_text = _("Search by the beginning of the user id.")
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": (("user_id", "place"), ("registered_at", "age"), ("staff", "student"))}),
        (
            _("Consent and invitation"),
            {"fields": (("consent", "optout"), ("invited", "holds_fenfu"), "applied_fenfu_at")},
        ),
        (
            _("Assets and spending"),
            {
                "fields": (
                    ("friends", "assets_cny"),
                    ("yearly_spend_cny", "outstanding_balance_cny"),
                )
            },
        ),
        (
            _("Anti-fraud"),
            {
                "fields": (
                    ("risk_score", "risk_scored_on"),
                    ("emulator", "scripted"),
                    "wifi_risk",
                )
            },
        ),
        (_("Custom attributes"), {"fields": ("attributes", "updated_at")}),
    )
    readonly_fields = ("place",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Anti-fraud signals are read by those who write the gates that use them."""
        if request.user.has_perm(RISK_PERMISSION):
            return self.fieldsets
        secret = {"risk_score", "risk_scored_on", "emulator", "scripted", "wifi_risk"}
        return [
            (name, options)
            for name, options in self.fieldsets
            if not secret & {each for line in options["fields"] for each in line}
        ]

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = super().get_list_display(request)
        if request.user.has_perm(RISK_PERMISSION):
            return shown
        return tuple(name for name in shown if name != "risk_score")

    @display(description=_("region"), ordering="region")
    def place(self, row: Profile) -> str:
        if not row.region:
            return gettext("unknown")
        return f"{name_of(row.region, get_language() or 'en')} {row.region}"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {"days": last_days(object_id), **(extra_context or {})}
        return cast(HttpResponse, super().change_view(request, object_id, form_url, context))


def last_days(user_id: str, days: int = 30) -> list[dict[str, Any]]:
    """The user's payments of the last days, oldest first, days without any included."""
    from datetime import timedelta

    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    counts = dict(
        DailyPayments.objects.filter(user_id=user_id, day__gte=first).values_list("day", "count")
    )
    most = max(counts.values(), default=0) or 1
    line = [first + timedelta(days=offset) for offset in range(days)]
    return [
        {"day": day, "count": counts.get(day, 0), "share": 100 * counts.get(day, 0) // most}
        for day in line
    ]


@admin.register(PaymentEvent)
class PaymentEventAdmin(ReadOnlyAdmin):
    """The ledger. Counting is the database's, so every payment can be looked up."""

    list_display = ("event_id", "user_id", "paid_at", "amount_cny")
    search_fields = ("=user_id", "=event_id")
    search_help_text = _("Search by the whole user id or event id.")
    ordering = ("-paid_at",)
    show_full_result_count = False
