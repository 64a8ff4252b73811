"""Profiles and payments: what the platform knows about users, written by callers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin
from cohorts.columns import COLUMNS, RISK_DAY
from cohorts.models import Attribute, DailyPayments, PaymentEvent, Profile
from cohorts.regions import name_of
from cohorts.wording import Vocabulary, label_of

RISK_PERMISSION = "rollout.change_gate"
"""Who writes gates reads the signals behind them; support reads that a risk gate refused."""

MASK = "••••••"


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
        (_("Custom attributes"), {"fields": ("custom", "updated_at")}),
    )
    readonly_fields = ("place", "custom", "masked")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Protected values stand together, masked; the registry says which they are."""
        secret = protected_names()
        kept = []
        for name, options in self.fieldsets:
            lines = [
                tuple(
                    each
                    for each in ((line,) if isinstance(line, str) else line)
                    if each not in secret
                )
                for line in options["fields"]
            ]
            if lines := [line for line in lines if line]:
                kept.append((name, {**options, "fields": lines}))
        return [*kept, (_("Protected values"), {"fields": ("masked",)})]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Nobody finds a protected value out by asking for users who have it."""
        asked = lookup.partition("__")[0]
        if asked in protected_names() | {"attributes"}:
            return False
        return bool(super().lookup_allowed(lookup, value, request))

    def get_list_display(self, request: HttpRequest) -> Any:
        return _without(super().get_list_display(request))

    def get_list_filter(self, request: HttpRequest) -> Any:
        return _without(super().get_list_filter(request))

    @display(description=_("custom attributes"))
    def custom(self, row: Profile) -> SafeString:
        secret = protected_names()
        labels = Vocabulary.load().attributes
        return facts_list(
            (labels[name].label if name in labels else name, fact)
            for name, fact in sorted(row.attributes.items())
            if name not in secret
        )

    @display(description=_("masked"))
    def masked(self, row: Profile) -> SafeString:
        """What is held and protected, without its values."""
        held = held_facts(row)
        return facts_list(
            (label_of(each, each.name), MASK)
            for each in Attribute.objects.exclude(sensitivity=Attribute.Sensitivity.ORDINARY)
            if each.name in held
        )

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


def protected_names() -> set[str]:
    """Names of the attributes whose values are not shown; the day of a score goes with it."""
    rows = Attribute.objects.exclude(sensitivity=Attribute.Sensitivity.ORDINARY)
    names = set(rows.values_list("name", flat=True))
    if "region" in names:
        names.add("place")
    return names | ({RISK_DAY} if "risk_score" in names else set())


def held_facts(row: Profile) -> dict[str, Any]:
    """What is held about a user, by attribute name."""
    facts = {name: getattr(row, name) for name in COLUMNS} | row.attributes
    return {name: fact for name, fact in facts.items() if fact is not None}


def facts_list(facts: Iterable[tuple[Any, Any]]) -> SafeString:
    """Names and values as a list; a dash for none."""
    lines = [(name, in_words(fact)) for name, fact in facts]
    if not lines:
        return SafeString("—")
    inside = format_html_join("", "<div><dt>{}</dt><dd>{}</dd></div>", lines)
    return format_html('<dl class="hd-facts">{}</dl>', inside)


def in_words(fact: Any) -> str:
    """A value as people read it."""
    if isinstance(fact, bool):
        return gettext("yes") if fact else gettext("no")
    if isinstance(fact, list):
        return ", ".join(str(each) for each in fact)
    return f"{fact:,}" if isinstance(fact, (int, float, Decimal)) else str(fact)


def _without(names: Sequence[Any]) -> tuple[Any, ...]:
    secret = protected_names()
    return tuple(name for name in names if name not in secret)


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
